"""The Gram matrix of rows minus a vector, in one read of them.

BLAS would need the differences as a copy of the rows, their sums as another read, and float32 products of some rows at
a time that lose no digits; where it does not know the processor, it runs at half its speed (docs/decisions.md).
"""

from cython cimport floating

cdef extern from *:
    """
    #define REAL float
    #define TYPED(name) name##_float
    #include "gram.h"
    #undef REAL
    #undef TYPED
    #define REAL double
    #define TYPED(name) name##_double
    #include "gram.h"
    """
    double add_gram_float(
        const float*, Py_ssize_t, Py_ssize_t, const float*, float*, Py_ssize_t, double*, double*
    ) nogil
    double add_gram_double(
        const double*, Py_ssize_t, Py_ssize_t, const double*, double*, Py_ssize_t, double*, double*
    ) nogil
    Py_ssize_t panel_width_float, panel_width_double

cdef enum:
    HEIGHT = 256  # rows of a panel: few enough to stay in the second-level cache, many for each sum that is added to G

ROWS = HEIGHT  # products are summed in the type of X over so many rows, and
PADDING = max(panel_width_float, panel_width_double)  # features of scratch beyond those of X


def gram_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    floating[:, ::1] panels,        # SCRATCH (ROWS, d + PADDING)
    double[:, ::1] G,               # OUT (d, d), the upper triangle
    double[::1] sums,               # OUT (d,)
):
    """``G = Y' Y`` and the column sums of Y = X - mean; returns the sum of squares of Y, in float64.

    ROWS rows at a time are copied into panels, as wide as a tile of sums in registers is. Products are summed in the
    type of X over these rows, and these sums in float64. What G holds below the diagonal means nothing.

    Cost: m d (d + 5) operations, one read of X.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1]
    cdef double squares = 0
    with nogil:
        G[:] = 0
        sums[:] = 0
        if m and d:
            if floating is float:
                squares = add_gram_float(&X[0, 0], m, d, &mean[0], &panels[0, 0], HEIGHT, &G[0, 0], &sums[0])
            else:
                squares = add_gram_double(&X[0, 0], m, d, &mean[0], &panels[0, 0], HEIGHT, &G[0, 0], &sums[0])
    return squares
