"""Kernels of k-means: assign rows to the nearest centre, add up what moved, exact distances.

Rows and centres are taken relative to an origin amid the data, so that a large common offset costs no digits. Products
are made in the type of the rows, eight rows by sixteen centres at a time in registers; everything that decides or is
returned (ties, sums, distances) is float64.
"""

from cython cimport floating
from libc.float cimport DBL_EPSILON, DBL_MIN, FLT_EPSILON, FLT_MIN
from libc.math cimport INFINITY, sqrt

cdef extern from *:
    """
    #define TEMPLATE "kmeans.h"
    #include "float_and_double.h"
    """
    enum:
        LANES_FLOAT "lanes_float"
        N_ROWS "KMEANS_ROWS"  # rows of a tile: as many registers of sums hide the latency of a multiply-add
    void subtract_origin_float(
        const float **, const float *, Py_ssize_t, float *, Py_ssize_t, float *
    ) noexcept nogil
    void two_smallest_float(
        const float *, Py_ssize_t, const double *, Py_ssize_t, double *, double *, double *
    ) noexcept nogil
    void distances_float(
        const float **, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double **
    ) noexcept nogil
    void multiply_centers_float(
        const float *, Py_ssize_t, Py_ssize_t, const float *, Py_ssize_t, float *, const float **
    ) noexcept nogil
    void subtract_origin_double(
        const double **, const double *, Py_ssize_t, double *, Py_ssize_t, double *
    ) noexcept nogil
    void two_smallest_double(
        const double *, Py_ssize_t, const double *, Py_ssize_t, double *, double *, double *
    ) noexcept nogil
    void distances_double(
        const double **, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double **
    ) noexcept nogil
    void multiply_centers_double(
        const double *, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, double *, const double **
    ) noexcept nogil

include "shapes.pxi"

cdef enum:
    TILE_FEATURES = 128  # features of a tile: it stays in the first-level cache
    AHEAD = 16           # rows from the one at hand to the prefetched one
    PARTS = 32           # independent float64 accumulators of one sum
    EIGHT = 8            # centres side by side in `distances_block`

#: Columns of centres for `assign_block` are padded with zeros to a multiple of this.
LANES = LANES_FLOAT
#: Rows of products, the scratch of `assign_block`.
TILE_ROWS = N_ROWS
#: Columns of centres for `distances_block` are padded with zeros to a multiple of this.
DISTANCE_LANES = EIGHT


cdef inline double squared_distance(const floating* x, const double* c, Py_ssize_t d) noexcept nogil:
    """sum_f (x_f - c_f)^2 in float64, without cancellation."""
    cdef double acc[PARTS]
    cdef double t, total = 0
    cdef Py_ssize_t b, f, lane
    for lane in range(PARTS):
        acc[lane] = 0
    for b in range(d // PARTS):
        for lane in range(PARTS):
            f = b * PARTS + lane
            t = x[f] - c[f]
            acc[lane] += t * t
    for f in range(d - d % PARTS, d):
        t = x[f] - c[f]
        total += t * t
    for lane in range(PARTS // 2):
        acc[lane] += acc[PARTS // 2 + lane]
    for lane in range(PARTS // 4):
        acc[lane] += acc[PARTS // 4 + lane]
    for lane in range(PARTS // 4):
        total += acc[lane]
    return total


cdef inline int nearest_within(
    const floating* x, const double[:, ::1] centers, const floating* products, const double* half_norms, double limit
) noexcept nogil:
    """Of the centres with half_norms[j] - products[j] <= limit the nearest, by float64 differences."""
    cdef Py_ssize_t j
    cdef int label = 0
    cdef double distance, smallest = INFINITY
    for j in range(centers.shape[0]):
        if half_norms[j] - products[j] <= limit:
            distance = squared_distance(x, &centers[j, 0], centers.shape[1])
            if distance < smallest:
                smallest = distance
                label = <int> j
    return label


cdef inline Py_ssize_t shrink_gaps(
    const double[::1] moves, const int[::1] labels, floating[::1] gaps, double shrink, Py_ssize_t[::1] touched
) noexcept nogil:
    """Subtract the moves of the centres from the gaps. Rows without a gap go to `touched`; returns their number."""
    cdef Py_ssize_t i, m = 0
    for i in range(labels.shape[0]):
        gaps[i] = <floating> ((gaps[i] - moves[max(labels[i], 0)]) * shrink)
        touched[m] = i
        m += not gaps[i] > 0
    return m


cdef inline void multiply_rows(
    const floating[:, ::1] X, const floating[::1] origin, const floating[:, ::1] columns, const Py_ssize_t* row,
    Py_ssize_t left, floating[:, ::1] products, double* norm,
) noexcept nogil:
    """Squared norms (N_ROWS,) and products (N_ROWS, p) of rows of X, relative to the origin, with the centres.

    The rows are row[0], row[1], ..., of which `left` are there: the last one fills up the tile.
    """
    cdef Py_ssize_t d = X.shape[1], stride = columns.shape[1], piece, r, f, i, width
    cdef floating tile[N_ROWS][TILE_FEATURES]
    cdef const floating* rows[N_ROWS]
    cdef const floating* following[N_ROWS]
    cdef floating norms[N_ROWS * LANES_FLOAT]
    cdef Py_ssize_t lanes = LANES_FLOAT if floating is float else LANES_FLOAT // 2
    products[:, :] = 0
    for r in range(N_ROWS):
        norm[r] = 0
        for i in range(LANES_FLOAT):
            norms[r * LANES_FLOAT + i] = 0
    for piece in range((d + TILE_FEATURES - 1) // TILE_FEATURES):
        f = piece * TILE_FEATURES
        width = min(<Py_ssize_t> TILE_FEATURES, d - f)
        for r in range(N_ROWS):
            rows[r] = &X[row[min(r, left - 1)], f]
            following[r] = &X[row[min(r + AHEAD, left - 1)], f]
        if floating is float:
            subtract_origin_float(rows, &origin[f], width, tile[0], TILE_FEATURES, norms)
            multiply_centers_float(
                tile[0], TILE_FEATURES, width, &columns[f, 0], stride, &products[0, 0], following
            )
        else:
            subtract_origin_double(rows, &origin[f], width, tile[0], TILE_FEATURES, norms)
            multiply_centers_double(
                tile[0], TILE_FEATURES, width, &columns[f, 0], stride, &products[0, 0], following
            )
    for r in range(N_ROWS):
        for i in range(lanes):
            norm[r] += norms[r * lanes + i]


def assign_block(
    const floating[:, ::1] X,           # IN (n, d)
    const floating[::1] origin,         # IN (d,)
    const double[:, ::1] centers,       # IN (k, d)
    const floating[:, ::1] columns,     # IN (d, p): (centers - origin)', zeros after column k; p a multiple of LANES
    const double[::1] half_norms,       # IN (k,): squared norms of centers - origin, halved
    const double[::1] moves,            # IN (k,): the way of centre j since the last call plus the longest of another
    floating[:, ::1] products,          # SCRATCH (TILE_ROWS, p)
    Py_ssize_t[::1] touched,            # SCRATCH (n,)
    int[::1] labels,                    # IN and OUT (n,): -1 for rows that have no label yet
    floating[::1] gaps,                 # IN and OUT (n,): 0 for rows that have no label yet
):
    """Label every row with the nearest centre by float64 distances, ties to the smallest index.

    With x and c relative to `origin`, |x - c|^2 / 2 = |x|^2 / 2 + v, v = |c|^2 / 2 - x.c. Products are summed over
    T = TILE_FEATURES features at a time and these sums added up, so the computed v is right to
    E = (T + d / T + 16) eps |x| max|c|: twice the bound on a dot product (Higham, 10.1137/1.9780898718027, section
    3.1), plus what may underflow: d times the smallest normal number for products, |x| and max|c| each. If the two
    smallest v are 2 E apart, the label is proved; else the centres within 2 E are compared by explicit float64
    differences.

    gaps[i] is a lower bound on how much farther the second nearest centre is (a distance, not squared). While the
    centres have moved less than that in all, the label cannot change (Hamerly, 10.1137/1.9781611972801.12, with one
    bound a row), and the row is not touched.

    Returns the sum of the squared norms of the rows that were touched, and their number.
    Cost: 2 d p flops for each of them.
    """
    cdef Py_ssize_t d = X.shape[1], k = half_norms.shape[0], stride = columns.shape[1]
    cdef Py_ssize_t m, tile_number, t, r, i
    cdef double best[N_ROWS]
    cdef double second[N_ROWS]
    cdef double label[N_ROWS]
    cdef double norm[N_ROWS]
    cdef double error[N_ROWS]
    cdef double gap[N_ROWS]
    cdef double eps = FLT_EPSILON if floating is float else DBL_EPSILON
    cdef double tiny = FLT_MIN if floating is float else DBL_MIN
    cdef double slack = (min(d, <Py_ssize_t> TILE_FEATURES) + d // TILE_FEATURES + 16) * eps
    cdef double squares = 0, longest = 0, shrink = 1 - 4 * eps
    check_1d("origin", origin.shape, d)
    check_least("rows of centers", k, 1)
    check_2d("centers", centers.shape, k, d)
    check_2d("columns", columns.shape, d, stride)
    check_multiple("columns of columns", stride, LANES_FLOAT)
    check_least("columns of columns", stride, k)
    check_1d("moves", moves.shape, k)
    check_2d("products", products.shape, N_ROWS, stride)
    check_1d("touched", touched.shape, X.shape[0])
    check_1d("labels", labels.shape, X.shape[0])
    check_1d("gaps", gaps.shape, X.shape[0])
    with nogil:
        for i in range(k):
            longest = max(longest, sqrt(2 * half_norms[i]))
        m = shrink_gaps(moves, labels, gaps, shrink, touched)
        for tile_number in range((m + N_ROWS - 1) // N_ROWS):
            t = tile_number * N_ROWS
            multiply_rows(X, origin, columns, &touched[t], m - t, products, norm)
            if floating is float:
                two_smallest_float(&products[0, 0], stride, &half_norms[0], k, best, second, label)
            else:
                two_smallest_double(&products[0, 0], stride, &half_norms[0], k, best, second, label)
            for r in range(min(<Py_ssize_t> N_ROWS, m - t)):
                squares += norm[r]
            for r in range(N_ROWS):
                norm[r] = norm[r] * (1 + slack) + d * tiny
                error[r] = slack * sqrt(norm[r]) * longest + d * tiny * (1 + sqrt(norm[r]) + longest)
                gap[r] = 2 * (second[r] - best[r] - 2 * error[r]) / (
                    sqrt(max(0.0, norm[r] + 2 * (best[r] + error[r])))
                    + sqrt(max(0.0, norm[r] + 2 * (second[r] + error[r])))
                ) * shrink
            for r in range(min(<Py_ssize_t> N_ROWS, m - t)):
                i = touched[t + r]
                labels[i] = <int> label[r]
                gaps[i] = <floating> gap[r]
                if not gaps[i] > 0:
                    gaps[i] = 0
                    labels[i] = nearest_within(
                        &X[i, 0], centers, &products[r, 0], &half_norms[0], best[r] + 2 * error[r]
                    )
    return squares, m


def accumulate_block(
    const floating[:, ::1] X,           # IN (n, d)
    const floating[::1] origin,         # IN (d,)
    const int[::1] old,                 # IN (n,): labels below k, negative for none
    const int[::1] new,                 # IN (n,): labels from 0 to k - 1
    double[:, ::1] sums,                # IN and OUT (k, d)
    long long[::1] counts,              # IN and OUT (k,)
):
    """Move the rows whose label changed from the sums and counts of the old label to those of the new one.

    sums[c] = sum of X[i] - origin over the rows i of label c; the differences are exact. Cost: 2 d adds a changed row.
    """
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], i, f
    cdef double* target
    check_1d("origin", origin.shape, d)
    check_1d("old", old.shape, n)
    check_1d("new", new.shape, n)
    check_2d("sums", sums.shape, counts.shape[0], d)
    with nogil:
        for i in range(n):
            if old[i] == new[i]:
                continue
            counts[new[i]] += 1
            target = &sums[new[i], 0]
            for f in range(d):
                target[f] += <double> X[i, f] - <double> origin[f]
            if old[i] >= 0:
                counts[old[i]] -= 1
                target = &sums[old[i], 0]
                for f in range(d):
                    target[f] -= <double> X[i, f] - <double> origin[f]


def distances_block(
    const floating[:, ::1] X,           # IN (n, d)
    const double[:, ::1] columns,       # IN (d, p): centres as columns, p a multiple of DISTANCE_LANES and at least k
    double[:, ::1] out,                 # OUT (n, k)
):
    """Squared distances of rows to k centres, out[i, j] = |x_i - c_j|^2, by explicit differences in float64.

    Cost: 3 n d p flops.
    """
    cdef Py_ssize_t n = X.shape[0], i, j, r
    cdef const floating* rows[4]
    cdef double* targets[4]
    check_2d("columns", columns.shape, X.shape[1], columns.shape[1])
    check_multiple("columns of columns", columns.shape[1], EIGHT)
    check_least("columns of columns", columns.shape[1], out.shape[1])
    check_2d("out", out.shape, n, out.shape[1])
    with nogil:
        for j in range((n + 3) // 4):
            for r in range(4):
                i = min(4 * j + r, n - 1)
                rows[r] = &X[i, 0]
                targets[r] = &out[i, 0]
            if floating is float:
                distances_float(rows, &columns[0, 0], X.shape[1], columns.shape[1], out.shape[1], targets)
            else:
                distances_double(rows, &columns[0, 0], X.shape[1], columns.shape[1], out.shape[1], targets)


def own_distances_block(
    const floating[:, ::1] X,           # IN (n, d)
    const double[:, ::1] centers,       # IN (k, d)
    const int[::1] labels,              # IN (n,), from 0 to k - 1
    double[::1] out,                    # OUT (n,)
):
    """Squared distance of each row to the centre of its label, by explicit differences in float64.

    Cost: 3 n d flops.
    """
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], i
    check_2d("centers", centers.shape, centers.shape[0], d)
    check_1d("labels", labels.shape, n)
    check_1d("out", out.shape, n)
    with nogil:
        for i in range(n):
            out[i] = squared_distance(&X[i, 0], &centers[labels[i], 0], d)
