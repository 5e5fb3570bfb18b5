"""Kernels of `compress`: what one block of rows needs before its products are formed."""

from cython cimport floating


def center_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[::1] mean,       # IN (d,)
    floating[:, ::1] Y,             # OUT (m, d)
    double[::1] squares,            # OUT (m,)
    double[::1] sums,               # OUT (d,)
):
    """Subtract a vector from each row; row and column sums of the result, while it is in the first-level cache.

    Y = X - mean;  squares[i] = sum_j Y[i, j]^2;  sums[j] = sum_i Y[i, j], both in float64.

    A row of squares is summed in eight lanes, so that the order of the additions does not depend on the vector width.
    Cost: 4 m d operations, one read of X, one write of Y.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], d8 = d - d % 8
    cdef Py_ssize_t i, j, lane
    cdef double value
    cdef double[8] acc

    with nogil:
        for j in range(d):
            sums[j] = 0.0
        for i in range(m):
            for j in range(d):
                Y[i, j] = X[i, j] - mean[j]
            for j in range(d):
                sums[j] += Y[i, j]
            for lane in range(8):
                acc[lane] = 0.0
            for j in range(0, d8, 8):
                for lane in range(8):
                    value = Y[i, j + lane]
                    acc[lane] += value * value
            for j in range(d8, d):
                value = Y[i, j]
                acc[j - d8] += value * value
            squares[i] = ((acc[0] + acc[4]) + (acc[1] + acc[5])) + ((acc[2] + acc[6]) + (acc[3] + acc[7]))
