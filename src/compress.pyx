"""Kernels of `compress`: rows minus a vector, their sums, and their products with some directions, in one read of X.

The vector is near the mean of the rows, so that a large common offset costs no digits.
"""

from cython cimport floating

cdef extern from *:
    """
    #define TEMPLATE "compress.h"
    #include "float_and_double.h"
    #define stemseg_prefetch(x) __builtin_prefetch(x)
    """
    void project_tile_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, double*, const char*, Py_ssize_t,
        Py_ssize_t
    ) nogil
    void project_tile_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, double*, const char*, Py_ssize_t,
        Py_ssize_t
    ) nogil
    void scatter_tile_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, float*, Py_ssize_t
    ) nogil
    void scatter_tile_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, double*, Py_ssize_t
    ) nogil
    void sums_of_float(const float*, Py_ssize_t, Py_ssize_t, double*, double*) nogil
    void sums_of_double(const double*, Py_ssize_t, Py_ssize_t, double*, double*) nogil
    void stemseg_prefetch(const void*) nogil

include "shapes.pxi"

cdef enum:
    N_ROWS = 8           # rows of a tile: each has a register of sums, enough to hide the latency of a multiply-add
    TILE_FEATURES = 256  # features of a tile: it stays in the first-level cache, at a stride known to the compiler
    PARTS = 16           # independent float64 accumulators of one sum
    AHEAD = 8            # rows from the one at hand to the prefetched one: pieces of rows are too short to be foreseen
    HEIGHT = 64          # rows of a tile of `scatter_block`
    WIDTH = 64           # features of a tile of `scatter_block`

#: Columns of V are padded with zeros to a multiple of this.
LANES = PARTS
#: Rows of the scores of `project_block` are padded to a multiple of this.
TILE_ROWS = N_ROWS
#: Rows of the scratch of `scatter_block`.
ROWS = HEIGHT


cdef inline double sum_piece(const floating* x, Py_ssize_t d, double* sums) noexcept nogil:
    """sums += x for d <= TILE_FEATURES; returns |x|^2. The order of additions is the same at every vector width.

    `sum_rows` in compress.h does the same in another order, for rows that are not centred: the last digits differ.
    """
    cdef double acc[PARTS]
    cdef double t, total = 0
    cdef Py_ssize_t b, j, part
    for part in range(PARTS):
        acc[part] = 0
    for b in range(d // PARTS):
        for part in range(PARTS):
            t = x[b * PARTS + part]
            sums[b * PARTS + part] += t
            acc[part] += t * t
    for j in range(d - d % PARTS, d):
        t = x[j]
        sums[j] += t
        total += t * t
    for part in range(PARTS // 2):
        acc[part] += acc[PARTS // 2 + part]
    for part in range(PARTS // 4):
        acc[part] += acc[PARTS // 4 + part]
    return total + ((acc[0] + acc[2]) + (acc[1] + acc[3]))


cdef inline double center_piece(
    const floating* x, const floating* mean, Py_ssize_t d, floating* y, double* sums
) noexcept nogil:
    """y = x - mean; returns `sum_piece` of y."""
    cdef Py_ssize_t j
    for j in range(d):
        y[j] = x[j] - mean[j]
    return sum_piece(<const floating*> y, d, sums)


cdef inline void prefetch(const floating* x, Py_ssize_t d) noexcept nogil:
    """Ask for d numbers, by cache lines of 64 bytes."""
    cdef Py_ssize_t j
    for j in range((d * <Py_ssize_t> sizeof(floating) + 63) // 64):
        stemseg_prefetch(<const char*> x + 64 * j)


def sum_block(
    const floating[:, ::1] X,       # IN (m, d)
    double[::1] squares,            # OUT (m,)
    double[::1] sums,               # OUT (d,)
):
    """Row sums of squares and column sums in float64: squares[i] = sum_j X[i, j]^2, sums[j] = sum_i X[i, j].

    Cost: 3 m d operations, one read of X.
    """
    check_1d("squares", squares.shape, X.shape[0])
    check_1d("sums", sums.shape, X.shape[1])
    with nogil:
        squares[:] = 0
        sums[:] = 0
        if X.shape[0] and X.shape[1]:
            if floating is float:
                sums_of_float(&X[0, 0], X.shape[0], X.shape[1], &squares[0], &sums[0])
            else:
                sums_of_double(&X[0, 0], X.shape[0], X.shape[1], &squares[0], &sums[0])


def center_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    floating[:, ::1] Y,             # OUT (m, d)
    double[::1] squares,            # OUT (m,)
    double[::1] sums,               # OUT (d,)
):
    """Rows minus a vector, Y = X - mean, and the row and column sums of Y while it is in the first-level cache.

    squares[i] = sum_j Y[i, j]^2 and sums[j] = sum_i Y[i, j], both in float64.

    Cost: 4 m d operations, one read of X, one write of Y.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1]
    cdef Py_ssize_t i, j, piece, start, width
    cdef double part[TILE_FEATURES]
    check_1d("mean", mean.shape, d)
    check_2d("Y", Y.shape, m, d)
    check_1d("squares", squares.shape, m)
    check_1d("sums", sums.shape, d)
    with nogil:
        for i in range(m):
            squares[i] = 0
        for piece in range((d + TILE_FEATURES - 1) // TILE_FEATURES):
            start = piece * TILE_FEATURES
            width = d - start if d - start < TILE_FEATURES else TILE_FEATURES
            for j in range(width):
                part[j] = 0
            for i in range(m):
                if i + AHEAD < m:
                    prefetch(&X[i + AHEAD, start], width)
                squares[i] += center_piece(&X[i, start], &mean[start], width, &Y[i, start], part)
            for j in range(width):
                sums[start + j] = part[j]


cdef inline void project_rows(
    const floating* x, Py_ssize_t m, Py_ssize_t d, const floating* mean, const floating* V, Py_ssize_t k,
    double* A, double* squares, double* sums
) noexcept nogil:
    """`project_block` on m rows. It adds to A (m rounded up to N_ROWS, k), and to `squares` and `sums` unless NULL."""
    cdef Py_ssize_t i, j, piece, r, start, tile_i, width
    cdef double part[TILE_FEATURES]
    cdef floating tile[N_ROWS * TILE_FEATURES]
    cdef const char* ahead
    cdef Py_ssize_t bytes = d * <Py_ssize_t> sizeof(floating), line = 64 // <Py_ssize_t> sizeof(floating)
    for j in range(N_ROWS * TILE_FEATURES):
        tile[j] = 0
    for piece in range((d + TILE_FEATURES - 1) // TILE_FEATURES):
        start = piece * TILE_FEATURES
        width = d - start if d - start < TILE_FEATURES else TILE_FEATURES
        for j in range(width):
            part[j] = 0
        for tile_i in range((m + N_ROWS - 1) // N_ROWS):
            i = tile_i * N_ROWS
            ahead = <const char*> (x + (i + N_ROWS) * d + start) if i + 2 * N_ROWS <= m else NULL
            for r in range(m - i if m - i < N_ROWS else N_ROWS):
                if sums == NULL:
                    for j in range(width):
                        tile[r * TILE_FEATURES + j] = x[(i + r) * d + start + j] - mean[start + j]
                else:
                    squares[i + r] += center_piece(
                        x + (i + r) * d + start, mean + start, width, &tile[r * TILE_FEATURES], part
                    )
            if floating is float:
                project_tile_float(tile, TILE_FEATURES, width, k, V + start * k, A + i * k, ahead, bytes, line)
            else:
                project_tile_double(tile, TILE_FEATURES, width, k, V + start * k, A + i * k, ahead, bytes, line)
        if sums != NULL:
            for j in range(width):
                sums[start + j] += part[j]


def project_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    const floating[:, ::1] V,       # IN (d, k), k a multiple of LANES
    double[:, ::1] A,               # OUT (m rounded up to a multiple of TILE_ROWS, k): rows beyond m are scratch
    double[::1] squares,            # OUT (m,), None if the sums are not wanted
    double[::1] sums,               # OUT (d,), None if the sums are not wanted
):
    """Scores of rows minus a vector on k directions, ``A = (X - mean) V``, and the sums of `center_block`.

    Products are summed in the type of X over TILE_FEATURES features, and these sums in float64.

    Cost: 2 m d (k + 2) operations, one read of X.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], k = V.shape[1]
    cdef bint summed = sums is not None
    check_1d("mean", mean.shape, d)
    check_2d("V", V.shape, d, k)
    check_multiple("columns of V", k, PARTS)
    check_2d("A", A.shape, (m + N_ROWS - 1) // N_ROWS * N_ROWS, k)
    if summed:
        check_1d("squares", squares.shape, m)
        check_1d("sums", sums.shape, d)
    with nogil:
        A[:] = 0
        if summed:
            squares[:] = 0
            sums[:] = 0
        if m and d and k:
            project_rows(
                &X[0, 0], m, d, &mean[0], &V[0, 0], k, &A[0, 0],
                &squares[0] if summed else NULL, &sums[0] if summed else NULL,
            )


def scatter_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    const floating[:, ::1] V,       # IN (d, k), k a multiple of LANES
    double[:, ::1] A,               # SCRATCH (ROWS, k): scores
    floating[:, ::1] At,            # SCRATCH (k, ROWS): their transpose
    floating[:, ::1] Z,             # OUT (k, d)
    double[::1] squares,            # OUT (m,)
    double[::1] sums,               # OUT (d,)
):
    """The scatter matrix of rows minus a vector times k directions, ``Z' = Y' (Y V)`` with Y = X - mean.

    ROWS rows at a time are projected as by `project_block`, and multiplied by their scores while they are in the
    second-level cache. Products are summed in the type of X.

    Cost: 4 m d (k + 1) operations, one read of X from memory.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], k = V.shape[1]
    cdef Py_ssize_t c, i, j, part, piece, r, rows, start, width
    cdef floating tile[HEIGHT * WIDTH]
    check_1d("mean", mean.shape, d)
    check_2d("V", V.shape, d, k)
    check_multiple("columns of V", k, PARTS)
    check_2d("A", A.shape, HEIGHT, k)
    check_2d("At", At.shape, k, HEIGHT)
    check_2d("Z", Z.shape, k, d)
    check_1d("squares", squares.shape, m)
    check_1d("sums", sums.shape, d)
    with nogil:
        Z[:] = 0
        squares[:] = 0
        sums[:] = 0
        for j in range(HEIGHT * WIDTH):
            tile[j] = 0
        for part in range((m + HEIGHT - 1) // HEIGHT):
            i = part * HEIGHT
            rows = m - i if m - i < HEIGHT else HEIGHT
            A[:] = 0
            project_rows(&X[i, 0], rows, d, &mean[0], &V[0, 0], k, &A[0, 0], &squares[i], &sums[0])
            for r in range(rows):
                for c in range(k):
                    At[c, r] = <floating> A[r, c]
            for piece in range((d + WIDTH - 1) // WIDTH):
                start = piece * WIDTH
                width = d - start if d - start < WIDTH else WIDTH
                for r in range(rows):
                    for j in range(width):
                        tile[r * WIDTH + j] = X[i + r, start + j] - mean[start + j]
                if floating is float:
                    scatter_tile_float(&At[0, 0], HEIGHT, k, rows, tile, width, &Z[0, start], d)
                else:
                    scatter_tile_double(&At[0, 0], HEIGHT, k, rows, tile, width, &Z[0, start], d)
