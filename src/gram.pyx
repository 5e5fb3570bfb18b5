"""The Gram matrix of rows minus a vector, in one read of the rows.

BLAS would need a copy of the rows for the differences, another read for their sums, and float32 products of some rows
at a time to lose no digits. On processors that it does not know it runs at half its speed (docs/decisions.md).
"""

from cython cimport floating

cdef extern from *:
    """
    #define TEMPLATE "gram.h"
    #include "float_and_double.h"
    """
    double add_gram_float(
        const float*, Py_ssize_t, Py_ssize_t, const float*, float*, Py_ssize_t, double*, double*
    ) nogil
    double add_gram_double(
        const double*, Py_ssize_t, Py_ssize_t, const double*, double*, Py_ssize_t, double*, double*
    ) nogil
    Py_ssize_t panel_width_float, panel_width_double

include "shapes.pxi"

cdef enum:
    HEIGHT = 256  # rows of a panel: fewer would add to G more often, more would not stay in the second-level cache

#: Rows of scratch: products are summed in the type of X over this number of rows.
ROWS = HEIGHT
#: Columns of scratch beyond the features of X: the last panel is a whole one.
PADDING = max(panel_width_float, panel_width_double)


def gram_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    floating[:, ::1] panels,        # SCRATCH (ROWS, d + PADDING)
    double[:, ::1] G,               # OUT (d, d): the upper triangle, anything below it
    double[::1] sums,               # OUT (d,)
):
    """``G = Y' Y`` and the column sums of Y = X - mean. Returns the sum of squares of Y, in float64.

    ROWS rows at a time are copied into panels that are as wide as a tile of sums in registers. Products are summed in
    the type of X over these rows, and these sums in float64.

    Cost: m d (d + 5) operations, one read of X.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1]
    cdef double squares = 0
    check_1d("mean", mean.shape, d)
    check_2d("panels", panels.shape, HEIGHT, d + PADDING)
    check_2d("G", G.shape, d, d)
    check_1d("sums", sums.shape, d)
    with nogil:
        G[:] = 0
        sums[:] = 0
        if m and d:
            if floating is float:
                squares = add_gram_float(&X[0, 0], m, d, &mean[0], &panels[0, 0], HEIGHT, &G[0, 0], &sums[0])
            else:
                squares = add_gram_double(&X[0, 0], m, d, &mean[0], &panels[0, 0], HEIGHT, &G[0, 0], &sums[0])
    return squares
