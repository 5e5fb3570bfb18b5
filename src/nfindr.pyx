"""N-FINDR: which row would enlarge the simplex most."""

from cython cimport floating
from libc.math cimport fabs


def extremes_block(
    const floating[:, ::1] Z,
    const double[:, ::1] W,
    double[::1] value,
    double[::1] best,
    Py_ssize_t[::1] row,
):
    """For m linear functions of a row z, ``f = z W``: the largest |f| over the rows, and where it is.

    With z = [1, y] and a column of W a row of the inverse of M = [1; vertices], |f| is a barycentric coordinate: the
    factor by which |det M| grows when z replaces that vertex (matrix determinant lemma).

    Shapes: Z (n, q); W (q, m); value (m,) scratch; best and row (m,) are written, ties to the smallest row.
    Cost: 2 n q m flops, in vectors over the functions, and one read of Z for all of them.
    """
    cdef Py_ssize_t p, i, j, m = W.shape[1]
    cdef double z
    with nogil:
        for j in range(m):
            best[j] = -1
            row[j] = 0
        for p in range(Z.shape[0]):
            for j in range(m):
                value[j] = 0
            for i in range(Z.shape[1]):
                z = Z[p, i]
                for j in range(m):
                    value[j] += z * W[i, j]
            for j in range(m):
                z = fabs(value[j])
                row[j] = p if z > best[j] else row[j]
                best[j] = z if z > best[j] else best[j]
