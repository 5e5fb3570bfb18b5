"""Kernels of k-means: assign rows to the nearest centre, add up what moved, exact distances.

Rows and centres are taken relative to an origin amid the data, so that a large common offset costs no digits. Products
are made in the type of the rows, eight rows by sixteen centres at a time in registers; everything that decides or is
returned (ties, sums, distances) is float64.
"""

cimport cython
from cython cimport floating
from libc.float cimport DBL_EPSILON, FLT_EPSILON
from libc.math cimport INFINITY, sqrt

cdef extern from *:
    """
    #ifdef __AVX512F__
    #define STEMSEG_LANES 16
    #else
    #define STEMSEG_LANES 8
    #endif
    """
    enum:
        LANES "STEMSEG_LANES"  # centres of a panel: one register of float32

cdef enum:
    ROWS = 8  # rows of a tile: as many registers of sums are in flight, enough to hide the latency of a multiply-add
    FEATURES = 128  # features of a tile: it stays in the first-level cache, at a stride known to the compiler
    PARTS = 32  # independent float64 accumulators of one sum

PANEL_LANES = LANES


cdef inline void multiply_tile(
    const floating* tile, const floating* panel, Py_ssize_t d, Py_ssize_t stride, floating* out
) noexcept nogil:
    """out[r, l] += sum_f tile[r, f] panel[f, l]: tile (ROWS, FEATURES), of which d; panel (d, LANES); out (ROWS, stride)."""
    cdef floating acc[ROWS][LANES]
    cdef floating c
    cdef Py_ssize_t f, l, r
    for r in range(ROWS):
        for l in range(LANES):
            acc[r][l] = 0
    for f in range(d):
        for l in range(LANES):
            c = panel[f * LANES + l]
            acc[0][l] += tile[f] * c
            acc[1][l] += tile[FEATURES + f] * c
            acc[2][l] += tile[2 * FEATURES + f] * c
            acc[3][l] += tile[3 * FEATURES + f] * c
            acc[4][l] += tile[4 * FEATURES + f] * c
            acc[5][l] += tile[5 * FEATURES + f] * c
            acc[6][l] += tile[6 * FEATURES + f] * c
            acc[7][l] += tile[7 * FEATURES + f] * c
    for r in range(ROWS):
        for l in range(LANES):
            out[r * stride + l] += acc[r][l]


cdef inline double subtract_origin(
    const floating* x, const floating* origin, Py_ssize_t d, floating* out
) noexcept nogil:
    """out = x - origin; returns its squared norm, to (d + 16) eps."""
    cdef floating acc[LANES]
    cdef floating t
    cdef double total = 0
    cdef Py_ssize_t b, f, l
    for l in range(LANES):
        acc[l] = 0
    for b in range(d // LANES):
        for l in range(LANES):
            f = b * LANES + l
            t = x[f] - origin[f]
            out[f] = t
            acc[l] += t * t
    for f in range(d - d % LANES, d):
        t = x[f] - origin[f]
        out[f] = t
        total += t * t
    for l in range(LANES):
        total += acc[l]
    return total


cdef inline void two_smallest(
    const floating* products, const double* half_norms, Py_ssize_t k, Py_ssize_t stride,
    double* best, double* second, int* label
) noexcept nogil:
    """For each row r of a tile the two smallest of half_norms[j] - products[r, j], and the index of the smallest."""
    cdef double v, b
    cdef Py_ssize_t j, r
    for r in range(ROWS):
        best[r] = second[r] = INFINITY
        label[r] = 0
    for j in range(k):
        for r in range(ROWS):
            v = half_norms[j] - products[r * stride + j]
            b = best[r]
            label[r] = <int> j if v < b else label[r]
            second[r] = min(second[r], max(v, b))
            best[r] = min(v, b)


cdef inline double squared_distance(const floating* x, const double* c, Py_ssize_t d) noexcept nogil:
    """sum_f (x_f - c_f)^2 in float64, without cancellation."""
    cdef double acc[PARTS]
    cdef double t, total = 0
    cdef Py_ssize_t b, f, l
    for l in range(PARTS):
        acc[l] = 0
    for b in range(d // PARTS):
        for l in range(PARTS):
            f = b * PARTS + l
            t = x[f] - c[f]
            acc[l] += t * t
    for f in range(d - d % PARTS, d):
        t = x[f] - c[f]
        total += t * t
    for l in range(PARTS):
        total += acc[l]
    return total


cdef inline double gap_bound(double best, double second, double norm, double error) noexcept nogil:
    """Lower bound on |x - c_second| - |x - c_best| from values right to `error`; 0 where their order is not proved."""
    if second - best <= 2 * error:
        return 0
    return 2 * (second - best - 2 * error) / (sqrt(norm + 2 * (best + error)) + sqrt(norm + 2 * (second + error)))


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


def assign_block(
    const floating[:, ::1] X,
    const floating[::1] origin,
    const double[:, ::1] centers,
    const floating[:, :, ::1] panels,
    const double[::1] half_norms,
    const double[::1] moves,
    floating[:, ::1] products,
    int[::1] labels,
    floating[::1] gaps,
):
    """Label every row with the nearest centre, as float64 distances have it, ties to the smallest index.

    With x and c relative to `origin`, |x - c|^2 / 2 = |x|^2 / 2 + v, v = |c|^2 / 2 - x.c. The computed v is right to
    E = (d + 16) eps |x| max|c| (twice Higham's bound on a dot product, section 3.1). If the two smallest are 2 E apart, the label is
    proved; else the centres within 2 E are compared by explicit float64 differences.

    gaps[i] is a lower bound on how much farther the second nearest centre is (a distance, not squared). No label
    can change while the centres have moved less than that in all (Hamerly, 10.1137/1.9781611972801.12, with one bound a
    row): such rows are not touched.

    Parameters: X (n, d); origin (d,); centers (k, d); panels (p, d, LANES), the centres minus origin, transposed, zeros
    after the k-th; half_norms (k,) their squared norms halved; moves (k,): the way of centre j since the last call plus
    the longest way of another; rows (ROWS, d) and products (ROWS, p LANES) scratch; labels (n,), -1: none yet, and
    gaps (n,), both changed. Returns the sum of the squared norms of the rows that were touched. Cost: 2 d p LANES flops
    for each of them.
    """
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], k = half_norms.shape[0], stride = products.shape[1]
    cdef Py_ssize_t i = 0, j, m, r, f, width
    cdef Py_ssize_t index[ROWS]
    cdef floating tile[ROWS][FEATURES]
    cdef double best[ROWS]
    cdef double second[ROWS]
    cdef int label[ROWS]
    cdef double eps = FLT_EPSILON if floating is float else DBL_EPSILON
    cdef double norm[ROWS]
    cdef double energy = 0, error, longest = 0, shrink = 1 - 4 * eps
    with nogil:
        for j in range(k):
            longest = max(longest, sqrt(2 * half_norms[j]))
        while i < n:
            m = 0
            while i < n and m < ROWS:
                if labels[i] >= 0:
                    gaps[i] = <floating> ((gaps[i] - moves[labels[i]]) * shrink)
                if labels[i] < 0 or not gaps[i] > 0:
                    index[m] = i
                    norm[m] = 0
                    m += 1
                i += 1
            if m == 0:
                break
            products[:, :] = 0
            for f in range((d + FEATURES - 1) // FEATURES):
                width = min(<Py_ssize_t> FEATURES, d - f * FEATURES)
                for r in range(m):
                    norm[r] += subtract_origin(&X[index[r], f * FEATURES], &origin[f * FEATURES], width, tile[r])
                for j in range(panels.shape[0]):
                    multiply_tile(tile[0], &panels[j, f * FEATURES, 0], width, stride, &products[0, j * LANES])
            two_smallest(&products[0, 0], &half_norms[0], k, stride, best, second, label)
            for r in range(m):
                energy += norm[r]
                norm[r] *= 1 + (d + 16) * eps
                error = (d + 16) * eps * sqrt(norm[r]) * longest
                gaps[index[r]] = <floating> (gap_bound(best[r], second[r], norm[r], error) * shrink)
                if not gaps[index[r]] > 0:
                    label[r] = nearest_within(
                        &X[index[r], 0], centers, &products[r, 0], &half_norms[0], best[r] + 2 * error
                    )
                labels[index[r]] = label[r]
    return energy


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


def distances_block(const floating[:, ::1] X, const double[:, ::1] centers, double[:, ::1] out):
    """out[i, j] = |x_i - c_j|^2 by explicit differences: X (n, d), centers (k, d), out (n, k). Cost: 3 n k d flops."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], k = centers.shape[0], i, j
    with nogil:
        for i in range(n):
            for j in range(k):
                out[i, j] = squared_distance(&X[i, 0], &centers[j, 0], d)


def own_distances_block(
    const floating[:, ::1] X, const double[:, ::1] centers, const int[::1] labels, double[::1] out
):
    """out[i] = |x_i - c_labels[i]|^2 by explicit differences: X (n, d), centers (k, d), out (n,). Cost: 3 n d flops."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], i
    with nogil:
        for i in range(n):
            out[i] = squared_distance(&X[i, 0], &centers[labels[i], 0], d)
