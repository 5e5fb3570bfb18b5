"""N-FINDR: which row would enlarge the simplex most."""

from cython cimport floating
from libc.math cimport fabs


def extremes_block(
    const floating[:, ::1] Y,
    const double[::1] w_0,
    const double[:, ::1] W,
    double[::1] value,
    double[::1] best,
    Py_ssize_t[::1] row,
):
    """For m affine functions of a row y, ``f = w_0 + y W``: the largest |f| over the rows, and where.

    With w_0 and W a row of the inverse of M = [1; vertices], |f| is a barycentric coordinate: the factor by which
    |det M| grows when the row replaces that vertex (matrix determinant lemma).

    Shapes: Y (n, r); w_0 (m,), W (r, m); value (m,) scratch; best (m,) and row (m,) are written, ties to the smallest row.
    Cost: 2 n m r flops, in vectors over the functions, and one read of Y for all of them.
    """
    cdef Py_ssize_t n = Y.shape[0], r = Y.shape[1], m = W.shape[1], p, i, j
    cdef double y
    with nogil:
        for j in range(m):
            best[j] = -1
            row[j] = 0
        for p in range(n):
            for j in range(m):
                value[j] = w_0[j]
            for i in range(r):
                y = Y[p, i]
                for j in range(m):
                    value[j] += y * W[i, j]
            for j in range(m):
                value[j] = fabs(value[j])
                row[j] = p if value[j] > best[j] else row[j]
                best[j] = value[j] if value[j] > best[j] else best[j]
