"""N-FINDR: which row would enlarge the simplex most."""

from cython cimport floating
from libc.math cimport fabs

include "shapes.pxi"

cdef enum:
    HEIGHT = 64  # rows side by side
    LANES = 8    # independent maxima

#: Columns of scratch.
ROWS = HEIGHT


def extremes_block(
    const floating[:, ::1] Z,       # IN (n, q)
    const double[:, ::1] W,         # IN (q, m)
    double[:, ::1] tile,            # SCRATCH (q, ROWS)
    double[::1] best,               # OUT (m,)
    Py_ssize_t[::1] row,            # OUT (m,)
):
    """For m linear functions of a row z, ``f = z W``: the largest |f| over the rows, and the first row that has it.

    With z = [1, y] and a column of W a row of the inverse of M = [1; vertices], |f| is a barycentric coordinate: the
    factor by which |det M| grows when z replaces that vertex (matrix determinant lemma).

    Cost: 2 n q m flops, in vectors over the rows, and one read of Z for all functions.
    """
    cdef Py_ssize_t n = Z.shape[0], q = Z.shape[1], group, start, i, j, lane, r
    cdef double[HEIGHT] value
    cdef double[LANES] part
    cdef double w, top
    check_2d("W", W.shape, q, W.shape[1])
    check_2d("tile", tile.shape, q, HEIGHT)
    check_1d("best", best.shape, W.shape[1])
    check_1d("row", row.shape, W.shape[1])
    with nogil:
        for j in range(W.shape[1]):
            best[j] = -1
            row[j] = 0
        for group in range((n + HEIGHT - 1) // HEIGHT):
            start = group * HEIGHT
            for r in range(HEIGHT):
                for i in range(q):
                    tile[i, r] = Z[min(start + r, n - 1), i]
            for j in range(W.shape[1]):
                for r in range(HEIGHT):
                    value[r] = 0
                for i in range(q):
                    w = W[i, j]
                    for r in range(HEIGHT):
                        value[r] += w * tile[i, r]
                for lane in range(LANES):
                    part[lane] = 0
                for i in range(HEIGHT // LANES):
                    for lane in range(LANES):
                        w = fabs(value[i * LANES + lane])
                        part[lane] = w if w > part[lane] else part[lane]
                top = part[0]
                for lane in range(1, LANES):
                    top = part[lane] if part[lane] > top else top
                if top > best[j]:
                    best[j] = top
                    r = 0
                    while fabs(value[r]) < top:
                        r += 1
                    row[j] = start + r
