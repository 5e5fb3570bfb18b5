"""Kernels of NMF: coordinate descent for non-negative least squares, and the residual of X - W H."""

from cython cimport floating
from libc.string cimport memcpy

cdef extern from *:
    """
    #define TEMPLATE "compress.h"
    #include "float_and_double.h"
    #define TEMPLATE "nmf.h"
    #include "float_and_double.h"
    """
    void project_tile_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, double*, const char*, Py_ssize_t,
        Py_ssize_t
    ) nogil
    void scatter_tile_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, double*, Py_ssize_t
    ) nogil
    void sweep_columns_float(
        Py_ssize_t, const float*, const float*, Py_ssize_t, float*, Py_ssize_t
    ) nogil
    void sweep_columns_double(
        Py_ssize_t, const double*, const double*, Py_ssize_t, double*, Py_ssize_t
    ) nogil
    void add_squares_float(
        const float*, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, const double*, Py_ssize_t, double*
    ) nogil
    void add_squares_double(
        const double*, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, const double*, Py_ssize_t, double*
    ) nogil

include "shapes.pxi"

cdef enum:
    HEIGHT = 64          # rows that are swept side by side: they stay in the first-level cache for all sweeps
    N_ROWS = 8           # rows of a tile of products: each has an accumulator
    TILE_FEATURES = 256  # features of a tile of products: it stays in the first-level cache
    WIDTH = 64           # features of a tile for the products with W'
    MULTIPLE = 8         # whole vectors at every SIMD level, and groups of four rows of W'

#: Components are padded with zeros to a multiple of this.
LANES = MULTIPLE
#: Rows that are taken at a time, and so the length of scratch.
ROWS = HEIGHT


cdef inline void sweep(
    Py_ssize_t k, const floating* B, const floating* G, Py_ssize_t n_sweeps, floating* Z, Py_ssize_t stride,
) noexcept nogil:
    """Sweeps of `hals_block` over HEIGHT columns of B and Z, whose rows lie `stride` apart."""
    if floating is float:
        sweep_columns_float(k, B, G, n_sweeps, Z, stride)
    else:
        sweep_columns_double(k, B, G, n_sweeps, Z, stride)


cdef inline void sweep_rest(
    Py_ssize_t k, Py_ssize_t width, const floating* B, const floating* G, Py_ssize_t n_sweeps, floating* Z,
    Py_ssize_t stride,
) noexcept nogil:
    """`sweep` over `width` < HEIGHT columns."""
    cdef Py_ssize_t _sweep, p, m, i
    cdef floating[HEIGHT] step
    cdef floating g, inverse, value
    for _sweep in range(n_sweeps):
        for p in range(k):
            if G[p * k + p] <= 0:
                for i in range(width):
                    Z[p * stride + i] = 0
                continue
            for i in range(width):
                step[i] = B[p * stride + i]
            for m in range(k):
                g = G[p * k + m]
                for i in range(width):
                    step[i] -= g * Z[m * stride + i]
            inverse = 1 / G[p * k + p]
            for i in range(width):
                value = Z[p * stride + i] + step[i] * inverse
                Z[p * stride + i] = value if value > 0 else 0


def hals_block(
    const floating[:, ::1] B,       # IN (k, n), C' Y; for the rows of W: H X'
    const floating[:, ::1] G,       # IN (k, k), C' C; for the rows of W: H H'
    Py_ssize_t n_sweeps,
    floating[:, ::1] Z,             # IN and OUT (k, n), non-negative
):
    """Lower sum_i |C z_i - y_i|^2 over Z >= 0 by sweeps of coordinate descent, given the products of C and y.

    Hierarchical alternating least squares: in turn for each component p, over all columns i at once,

        Z[p, i] = max(0, Z[p, i] + (B[p, i] - sum_m G[p, m] Z[m, i]) / G[p, p])

    The columns are independent, so they are the lanes. Components with ``G[p, p] = 0`` do not matter to the objective
    and are set to zero.

    Cost: n_sweeps n k (k + 2) multiply-adds.
    Source: A. Cichocki, A.-H. Phan, IEICE Trans. Fundam. E92-A, 708 (2009), doi:10.1587/transfun.E92.A.708;
    repeated sweeps: N. Gillis, F. Glineur, Neural Comput. 24, 1085 (2012), doi:10.1162/NECO_a_00256.
    """
    cdef Py_ssize_t k = B.shape[0], n = B.shape[1], group, start
    check_2d("G", G.shape, k, k)
    check_2d("Z", Z.shape, k, n)
    with nogil:
        for group in range(n // HEIGHT):
            start = group * HEIGHT
            sweep(k, &B[0, start], &G[0, 0], n_sweeps, &Z[0, start], n)
        if n % HEIGHT:
            start = n - n % HEIGHT
            sweep_rest(k, n % HEIGHT, &B[0, start], &G[0, 0], n_sweeps, &Z[0, start], n)


cdef inline void to_double(const floating* x, Py_ssize_t n, double* out) noexcept nogil:
    """Copy n numbers as float64."""
    cdef Py_ssize_t j
    if floating is double:
        memcpy(out, x, n * sizeof(double))  # the compiler makes a `rep movs` of a loop, which takes long to begin
    else:
        for j in range(n):
            out[j] = x[j]


cdef inline void project(
    const floating* X, Py_ssize_t rows, Py_ssize_t d, const double* V, Py_ssize_t k, double* tile, double* A
) noexcept nogil:
    """A (HEIGHT, k) = X V for the first `rows`, through tiles of float64."""
    cdef Py_ssize_t group, piece, i, r, start, width
    cdef Py_ssize_t bytes = d * <Py_ssize_t> sizeof(floating), line = 64 // <Py_ssize_t> sizeof(floating)
    cdef const char* ahead
    for i in range(HEIGHT * k):
        A[i] = 0
    for group in range((rows + N_ROWS - 1) // N_ROWS):
        i = group * N_ROWS
        for piece in range((d + TILE_FEATURES - 1) // TILE_FEATURES):
            start = piece * TILE_FEATURES
            width = min(d - start, <Py_ssize_t> TILE_FEATURES)
            for r in range(N_ROWS):
                to_double(X + min(i + r, rows - 1) * d + start, width, tile + r * TILE_FEATURES)
            ahead = <const char*> (X + (i + N_ROWS) * d + start) if i + 2 * N_ROWS <= rows else NULL
            project_tile_double(tile, TILE_FEATURES, width, k, V + start * k, A + i * k, ahead, bytes, line)


cdef inline void add_scatter(
    const floating* X, Py_ssize_t rows, Py_ssize_t d, const double* Wt, Py_ssize_t k, double* tile, double* WtX
) noexcept nogil:
    """WtX (k, d) += Wt (k, rows) X (rows, d), k a multiple of 4, through tiles of float64."""
    cdef Py_ssize_t piece, r, start, width
    for piece in range((d + WIDTH - 1) // WIDTH):
        start = piece * WIDTH
        width = min(d - start, <Py_ssize_t> WIDTH)
        for r in range(rows):
            to_double(X + r * d + start, width, tile + r * WIDTH)
        scatter_tile_double(Wt, HEIGHT, k, rows, tile, width, WtX + start, d)


cdef inline void add_gram(const double* Wt, Py_ssize_t k, double* WtW, Py_ssize_t ldw) noexcept nogil:
    """WtW (k, k) += Wt Wt' of HEIGHT columns."""
    cdef Py_ssize_t p, q, i, lane
    cdef double[MULTIPLE] part
    for p in range(k):
        for q in range(p + 1):
            for lane in range(MULTIPLE):
                part[lane] = 0
            for i in range(HEIGHT // MULTIPLE):
                for lane in range(MULTIPLE):
                    part[lane] += Wt[p * HEIGHT + i * MULTIPLE + lane] * Wt[q * HEIGHT + i * MULTIPLE + lane]
            WtW[p * ldw + q] += ((part[0] + part[4]) + (part[2] + part[6])) + (
                (part[1] + part[5]) + (part[3] + part[7])
            )
            WtW[q * ldw + p] = WtW[p * ldw + q]


def sweep_block(
    const floating[:, ::1] X,       # IN (m, d)
    const double[:, ::1] V,         # IN (d, K): H', and zeros up to a multiple of LANES columns
    const double[:, ::1] G,         # IN (k, k): H H'
    Py_ssize_t n_sweeps,
    const double[:, ::1] W,         # IN (m, k)
    double[:, ::1] A,               # SCRATCH (ROWS, K)
    double[:, ::1] B,               # SCRATCH (K, ROWS)
    double[:, ::1] Wt,              # SCRATCH (K, ROWS)
    double[:, ::1] out,             # OUT (m, k): W after the sweeps
    double[:, ::1] WtX,             # OUT (K, d): out' X
    double[:, ::1] WtW,             # OUT (k, k): out' out
):
    """A pass of NMF over the rows of a block: their products with H, sweeps of W, and the products for the next H.

    ROWS rows are taken at a time: they are read from memory once, and all their products stay in the second-level
    cache. Everything is float64: float32 would blur the squared error, a small difference of large sums.

    Cost: 4 m d K + n_sweeps m k (k + 2) multiply-adds. Source: as of `hals_block`.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], k = G.shape[0], wide = V.shape[1]
    cdef Py_ssize_t group, start, rows, r, p
    cdef double tile[HEIGHT * WIDTH]  # at least N_ROWS * TILE_FEATURES
    check_2d("V", V.shape, d, wide)
    check_multiple("columns of V", wide, MULTIPLE)
    check_least("columns of V", wide, k)
    check_2d("G", G.shape, k, k)
    check_2d("W", W.shape, m, k)
    check_2d("A", A.shape, HEIGHT, wide)
    check_2d("B", B.shape, wide, HEIGHT)
    check_2d("Wt", Wt.shape, wide, HEIGHT)
    check_2d("out", out.shape, m, k)
    check_2d("WtX", WtX.shape, wide, d)
    check_2d("WtW", WtW.shape, k, k)
    with nogil:
        for r in range(HEIGHT * WIDTH):
            tile[r] = 0
        WtX[:] = 0
        WtW[:] = 0
        Wt[:] = 0
        for group in range((m + HEIGHT - 1) // HEIGHT):
            start = group * HEIGHT
            rows = min(m - start, <Py_ssize_t> HEIGHT)
            project(&X[start, 0], rows, d, &V[0, 0], wide, tile, &A[0, 0])
            for p in range(k):
                for r in range(HEIGHT):
                    B[p, r] = A[r, p] if r < rows else 0
                    Wt[p, r] = W[start + r, p] if r < rows else 0
            sweep(k, &B[0, 0], &G[0, 0], n_sweeps, &Wt[0, 0], HEIGHT)
            for r in range(rows):
                for p in range(k):
                    out[start + r, p] = Wt[p, r]
            add_scatter(&X[start, 0], rows, d, &Wt[0, 0], (k + 3) // 4 * 4, tile, &WtX[0, 0])
            add_gram(&Wt[0, 0], k, &WtW[0, 0], k)


cdef inline void add_squares(
    const floating* x, Py_ssize_t d, Py_ssize_t n, Py_ssize_t width, const floating* W, Py_ssize_t k, const double* h,
    double* sums,
) noexcept nogil:
    """sums[j] += (x[i, j] - sum_p W[i, p] h[p, j])^2 over n rows, for `width` < WIDTH features."""
    cdef Py_ssize_t i, j, p
    cdef double[WIDTH] rest
    cdef double w
    for i in range(n):
        for j in range(width):
            rest[j] = x[i * d + j]
        for p in range(k):
            w = W[i * k + p]
            for j in range(width):
                rest[j] -= w * h[p * d + j]
        for j in range(width):
            sums[j] += rest[j] * rest[j]


def residual_block(
    const floating[:, ::1] X,       # IN (n, d)
    const floating[:, ::1] W,       # IN (n, k)
    const double[:, ::1] H,         # IN (k, d)
    double[::1] out,                # OUT (d,)
):
    """Squared residual of each feature in float64, by subtraction: no digits cancel in a near-exact factorisation.

        out[j] = sum_i (X[i, j] - sum_p W[i, p] H[p, j])^2

    Cost: n d (k + 1) multiply-adds; X is read once. Features are the lanes, so that no sum has to be split.
    """
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], k = H.shape[0]
    cdef Py_ssize_t group, piece, i, start, rows
    check_2d("W", W.shape, n, k)
    check_2d("H", H.shape, k, d)
    check_1d("out", out.shape, d)
    with nogil:
        out[:] = 0
        for group in range((n + HEIGHT - 1) // HEIGHT):
            i = group * HEIGHT
            rows = min(n - i, <Py_ssize_t> HEIGHT)
            for piece in range(d // WIDTH):
                start = piece * WIDTH
                if floating is float:
                    add_squares_float(&X[i, start], d, rows, &W[i, 0], k, &H[0, start], d, &out[start])
                else:
                    add_squares_double(&X[i, start], d, rows, &W[i, 0], k, &H[0, start], d, &out[start])
            if d % WIDTH:
                start = d - d % WIDTH
                add_squares(&X[i, start], d, rows, d % WIDTH, &W[i, 0], k, &H[0, start], &out[start])
