"""Kernels of `compress`: rows minus a vector, their sums, and their products with few directions, in one read of them.

What is subtracted is near the mean, so that a large common offset costs no digits.
"""

from cython cimport floating

cdef extern from *:
    """
    #define REAL float
    #define TYPED(name) name##_float
    #include "compress.h"
    #undef REAL
    #undef TYPED
    #define REAL double
    #define TYPED(name) name##_double
    #include "compress.h"
    #define stemseg_prefetch(x) __builtin_prefetch(x)
    """
    void multiply_tile_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, double*, const char*, Py_ssize_t,
        Py_ssize_t
    ) nogil
    void multiply_tile_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, double*, const char*, Py_ssize_t,
        Py_ssize_t
    ) nogil
    void add_products_float(
        const float*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, float*, Py_ssize_t
    ) nogil
    void add_products_double(
        const double*, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, double*, Py_ssize_t
    ) nogil
    void sums_of_float(const float*, Py_ssize_t, Py_ssize_t, double*, double*) nogil
    void sums_of_double(const double*, Py_ssize_t, Py_ssize_t, double*, double*) nogil
    void stemseg_prefetch(const void*) nogil

cdef enum:
    N_ROWS = 8  # rows of a tile: as many registers of sums are in flight, enough to hide the latency of a multiply-add
    FEATURES = 256  # features of a tile: it stays in the first-level cache, at a stride known to the compiler
    PARTS = 16  # independent float64 accumulators of one sum
    AHEAD = 8  # rows that are asked for beforehand: a piece of a row is too short for the processor to foresee the next

cdef enum:
    HEIGHT = 64  # rows, and
    WIDTH = 64  # features of the tile of `scatter_block`

ROWS, LANES = HEIGHT, PARTS  # what rows of A and columns of V are padded to a multiple of


cdef inline double sum_piece(const floating* x, Py_ssize_t d, double* sums) noexcept nogil:
    """sums += x for d <= FEATURES; returns |x|^2, whose order of additions no vector width changes."""
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
    """y = x - mean, and `sum_piece` of it."""
    cdef Py_ssize_t j
    for j in range(d):
        y[j] = x[j] - mean[j]
    return sum_piece(<const floating*> y, d, sums)


cdef inline void prefetch(const floating* x, Py_ssize_t d) noexcept nogil:
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
    """Subtract a vector from each row; row and column sums of the result, while it is in the first-level cache.

    Y = X - mean;  squares[i] = sum_j Y[i, j]^2;  sums[j] = sum_i Y[i, j], both in float64.

    Cost: 4 m d operations, one read of X, one write of Y.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1]
    cdef Py_ssize_t i, j, piece, start, width
    cdef double part[FEATURES]

    with nogil:
        for i in range(m):
            squares[i] = 0
        for piece in range((d + FEATURES - 1) // FEATURES):
            start = piece * FEATURES
            width = d - start if d - start < FEATURES else FEATURES
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
    """`project_block` on m rows; A (m rounded up to N_ROWS, k), `squares` and `sums`, if not NULL, are added to."""
    cdef Py_ssize_t i, j, piece, r, start, tile_i, width
    cdef double part[FEATURES]
    cdef floating tile[N_ROWS * FEATURES]
    cdef const char* ahead
    cdef Py_ssize_t bytes = d * <Py_ssize_t> sizeof(floating), line = 64 // <Py_ssize_t> sizeof(floating)
    for j in range(N_ROWS * FEATURES):
        tile[j] = 0
    for piece in range((d + FEATURES - 1) // FEATURES):
        start = piece * FEATURES
        width = d - start if d - start < FEATURES else FEATURES
        for j in range(width):
            part[j] = 0
        for tile_i in range((m + N_ROWS - 1) // N_ROWS):
            i = tile_i * N_ROWS
            ahead = <const char*> (x + (i + N_ROWS) * d + start) if i + 2 * N_ROWS <= m else NULL
            for r in range(m - i if m - i < N_ROWS else N_ROWS):
                if sums == NULL:
                    for j in range(width):
                        tile[r * FEATURES + j] = x[(i + r) * d + start + j] - mean[start + j]
                else:
                    squares[i + r] += center_piece(
                        x + (i + r) * d + start, mean + start, width, &tile[r * FEATURES], part
                    )
            if floating is float:
                multiply_tile_float(tile, FEATURES, width, k, V + start * k, A + i * k, ahead, bytes, line)
            else:
                multiply_tile_double(tile, FEATURES, width, k, V + start * k, A + i * k, ahead, bytes, line)
        if sums != NULL:
            for j in range(width):
                sums[start + j] += part[j]


def project_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    const floating[:, ::1] V,       # IN (d, k), k a multiple of LANES
    double[:, ::1] A,               # OUT (m rounded up to a multiple of ROWS, k)
    double[::1] squares,            # OUT (m,), or empty if the sums are not wanted
    double[::1] sums,               # OUT (d,), or empty
):
    """Scores of rows minus a vector on k directions, ``A = (X - mean) V``, and the sums of `center_block`.

    Products are formed in the type of X over FEATURES features, which are summed in float64. Rows of A beyond m are
    scratch.

    Cost: 2 m d (k + 2) operations, one read of X.
    """
    with nogil:
        A[:] = 0
        squares[:] = 0
        sums[:] = 0
        if X.shape[0] and sums.shape[0]:
            project_rows(
                &X[0, 0], X.shape[0], X.shape[1], &mean[0], &V[0, 0], V.shape[1], &A[0, 0], &squares[0], &sums[0]
            )
        elif X.shape[0]:
            project_rows(&X[0, 0], X.shape[0], X.shape[1], &mean[0], &V[0, 0], V.shape[1], &A[0, 0], NULL, NULL)


def scatter_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    const floating[:, ::1] V,       # IN (d, k), k a multiple of LANES
    double[:, ::1] A,               # SCRATCH (ROWS, k)
    floating[:, ::1] At,            # SCRATCH (k, ROWS)
    floating[:, ::1] Z,             # OUT (k, d)
    double[::1] squares,            # OUT (m,)
    double[::1] sums,               # OUT (d,)
):
    """The scatter matrix of rows minus a vector times k directions, ``Z' = Y' (Y V)`` with Y = X - mean.

    HEIGHT rows are projected as by `project_block`, and multiplied by their scores while they are in the second-level
    cache. Products are in the type of X, over HEIGHT rows at a time.

    Cost: 4 m d (k + 1) operations, one read of X from memory.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], k = V.shape[1]
    cdef Py_ssize_t c, i, j, part, piece, r, rows, start, width
    cdef floating tile[HEIGHT * WIDTH]

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
                    add_products_float(&At[0, 0], HEIGHT, k, rows, tile, width, &Z[0, start], d)
                else:
                    add_products_double(&At[0, 0], HEIGHT, k, rows, tile, width, &Z[0, start], d)
