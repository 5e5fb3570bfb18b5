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
    #define REAL float
    #define TYPED(name) name##_float
    #include "kmeans.h"
    #undef REAL
    #undef TYPED
    #define REAL double
    #define TYPED(name) name##_double
    #include "kmeans.h"
    #undef REAL
    #undef TYPED
    """
    enum:
        LANES "lanes_float"
        ROWS "TILE_ROWS"  # as many registers of sums are in flight, enough to hide the latency of a multiply-add
    void subtract_origin_float(
        const float **, const float *, Py_ssize_t, float *, Py_ssize_t, float *
    ) noexcept nogil
    void two_smallest_float(
        const float *, Py_ssize_t, const double *, Py_ssize_t, double *, double *, double *
    ) noexcept nogil
    void distances_float(
        const float **, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double **
    ) noexcept nogil
    void multiply_tile_float(
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
    void multiply_tile_double(
        const double *, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, double *, const double **
    ) noexcept nogil

cdef enum:
    FEATURES = 128  # features of a tile: it stays in the first-level cache
    AHEAD = 16  # rows from the one at hand to the one that is fetched from memory
    PARTS = 32  # independent float64 accumulators of one sum

#: Centres are padded to a multiple of this with zeros.
PANEL_LANES = LANES
#: Rows of a tile, which is as many rows of products.
TILE_ROWS = ROWS


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
    """The nearest by float64 differences of the centres with half_norms[j] - products[j] <= limit."""
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


cdef inline Py_ssize_t use_up(
    const double[::1] moves, const int[::1] labels, floating[::1] gaps, double shrink, Py_ssize_t[::1] touched
) noexcept nogil:
    """Take the moves of the centres from the gaps; write the rows that have none left to `touched`, return how many."""
    cdef Py_ssize_t i, m = 0
    for i in range(labels.shape[0]):
        gaps[i] = <floating> ((gaps[i] - moves[max(labels[i], 0)]) * shrink)
        touched[m] = i
        m += not gaps[i] > 0
    return m


def assign_block(
    const floating[:, ::1] X,
    const floating[::1] origin,
    const double[:, ::1] centers,
    const floating[:, ::1] columns,
    const double[::1] half_norms,
    const double[::1] moves,
    floating[:, ::1] products,
    Py_ssize_t[::1] touched,
    int[::1] labels,
    floating[::1] gaps,
):
    """Label every row with the nearest centre, as float64 distances have it, ties to the smallest index.

    With x and c relative to `origin`, |x - c|^2 / 2 = |x|^2 / 2 + v, v = |c|^2 / 2 - x.c. Products are summed over
    FEATURES at a time and these sums added up, so the computed v is right to E = (FEATURES + d / FEATURES + 16) eps |x|
    max|c|: twice the bound on a dot product (Higham, 10.1137/1.9780898718027, section 3.1), plus what may underflow:
    d times the smallest normal number for products, |x| and max|c| each. If the two smallest are 2 E apart, the label
    is proved; else the centres within 2 E are compared by explicit float64 differences.

    gaps[i] is a lower bound on how much farther the second nearest centre is (a distance, not squared). No label
    can change while the centres have moved less than that in all (Hamerly, 10.1137/1.9781611972801.12, with one bound a
    row): such rows are not touched.

    Parameters: X (n, d); origin (d,); centers (k, d); columns (d, p), the centres minus origin, transposed, zeros
    after the k-th, p a multiple of PANEL_LANES; half_norms (k,) their squared norms halved; moves (k,): the way of
    centre j since the last call plus the longest way of another; products (ROWS, p) and touched (n,) scratch; labels
    (n,), -1: none yet, and gaps (n,), then 0, both changed. Returns the sum of the squared norms of the rows that were
    touched, and their number. Cost: 2 d p flops for each of them.
    """
    cdef Py_ssize_t d = X.shape[1], k = half_norms.shape[0], stride = products.shape[1]
    cdef Py_ssize_t m, tile_number, piece, t, r, f, i, width
    cdef floating tile[ROWS][FEATURES]
    cdef const floating* rows[ROWS]
    cdef const floating* following[ROWS]
    cdef floating norms[ROWS * LANES]
    cdef double best[ROWS]
    cdef double second[ROWS]
    cdef double label[ROWS]
    cdef double norm[ROWS]
    cdef double error[ROWS]
    cdef double gap[ROWS]
    cdef double eps = FLT_EPSILON if floating is float else DBL_EPSILON
    cdef double tiny = FLT_MIN if floating is float else DBL_MIN
    cdef double slack = (min(d, <Py_ssize_t> FEATURES) + d // FEATURES + 16) * eps
    cdef Py_ssize_t lanes = LANES if floating is float else LANES // 2
    cdef double energy = 0, longest = 0, shrink = 1 - 4 * eps
    with nogil:
        for i in range(k):
            longest = max(longest, sqrt(2 * half_norms[i]))
        m = use_up(moves, labels, gaps, shrink, touched)
        for tile_number in range((m + ROWS - 1) // ROWS):  # the last tile is filled up with its last row
            t = tile_number * ROWS
            products[:, :] = 0
            for r in range(ROWS):
                norm[r] = 0
                for i in range(LANES):
                    norms[r * LANES + i] = 0
            for piece in range((d + FEATURES - 1) // FEATURES):
                f = piece * FEATURES
                width = min(<Py_ssize_t> FEATURES, d - f)
                for r in range(ROWS):
                    rows[r] = &X[touched[min(t + r, m - 1)], f]
                    following[r] = &X[touched[min(t + r + AHEAD, m - 1)], f]
                if floating is float:
                    subtract_origin_float(rows, &origin[f], width, tile[0], FEATURES, norms)
                    multiply_tile_float(
                        tile[0], FEATURES, width, &columns[f, 0], stride, &products[0, 0], following
                    )
                else:
                    subtract_origin_double(rows, &origin[f], width, tile[0], FEATURES, norms)
                    multiply_tile_double(
                        tile[0], FEATURES, width, &columns[f, 0], stride, &products[0, 0], following
                    )
            for r in range(ROWS):
                for i in range(lanes):
                    norm[r] += norms[r * lanes + i]
            if floating is float:
                two_smallest_float(&products[0, 0], stride, &half_norms[0], k, best, second, label)
            else:
                two_smallest_double(&products[0, 0], stride, &half_norms[0], k, best, second, label)
            for r in range(min(<Py_ssize_t> ROWS, m - t)):
                energy += norm[r]
            for r in range(ROWS):
                norm[r] = norm[r] * (1 + slack) + d * tiny
                error[r] = slack * sqrt(norm[r]) * longest + d * tiny * (1 + sqrt(norm[r]) + longest)
                gap[r] = 2 * (second[r] - best[r] - 2 * error[r]) / (
                    sqrt(max(0.0, norm[r] + 2 * (best[r] + error[r])))
                    + sqrt(max(0.0, norm[r] + 2 * (second[r] + error[r])))
                ) * shrink
            for r in range(min(<Py_ssize_t> ROWS, m - t)):
                i = touched[t + r]
                labels[i] = <int> label[r]
                gaps[i] = <floating> gap[r]
                if not gaps[i] > 0:
                    gaps[i] = 0
                    labels[i] = nearest_within(
                        &X[i, 0], centers, &products[r, 0], &half_norms[0], best[r] + 2 * error[r]
                    )
    return energy, m


def accumulate_block(
    const floating[:, ::1] X,
    const floating[::1] origin,
    const int[::1] old,
    const int[::1] new,
    double[:, ::1] sums,
    long long[::1] counts,
):
    """Add the rows whose label changed to sums[new] (k, d) and counts[new] (k,), and take them from those of `old`.

    Rows are taken relative to `origin` (d,), exactly. A negative old label means none. Cost: 2 d adds a changed row.
    """
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], i, f
    cdef double* target
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


def distances_block(const floating[:, ::1] X, const double[:, ::1] columns, double[:, ::1] out):
    """out[i, j] = |x_i - c_j|^2 by explicit differences in float64.

    X (n, d); columns (d, p), the centres transposed, p a multiple of 8 and at least k; out (n, k). Cost: 3 n d p flops.
    """
    cdef Py_ssize_t n = X.shape[0], i, j, r
    cdef const floating* rows[4]
    cdef double* targets[4]
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
    const floating[:, ::1] X, const double[:, ::1] centers, const int[::1] labels, double[::1] out
):
    """out[i] = |x_i - c_labels[i]|^2 by explicit differences: X (n, d), centers (k, d), out (n,). Cost: 3 n d flops."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], i
    with nogil:
        for i in range(n):
            out[i] = squared_distance(&X[i, 0], &centers[labels[i], 0], d)
