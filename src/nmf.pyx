"""Kernels of NMF: coordinate descent for non-negative least squares, and the residual of X - W H."""

from cython cimport floating

cdef enum:
    LANES = 64


def hals_block(
    const floating[:, ::1] B,
    const floating[:, ::1] G,
    Py_ssize_t n_sweeps,
    floating[:, ::1] Z,
):
    """Lower sum_i |C z_i - y_i|^2 over Z >= 0 by sweeps of coordinate descent, given the products of C and y.

    Hierarchical alternating least squares: in turn for each component l, over all columns i at once,

        Z[p, i] = max(0, Z[p, i] + (B[p, i] - sum_m G[p, m] Z[m, i]) / G[p, p])

    The columns are independent, so they are the lanes; 64 of them stay in the first-level cache for all sweeps.
    Components with ``G[p, p] = 0`` do not matter to the objective and are set to zero.

    Parameters
    ----------
    B : (k, n) C^T Y, for the rows of W: H X^T
    G : (k, k) C^T C, for the rows of W: H H^T
    n_sweeps : sweeps over the components
    Z : (k, n) changed in place, non-negative

    Notes
    -----
    Cost: n_sweeps n k (k + 2) multiply-adds.
    Source: A. Cichocki, A.-H. Phan, IEICE Trans. Fundam. E92-A, 708 (2009), doi:10.1587/transfun.E92.A.708;
    repeated sweeps: N. Gillis, F. Glineur, Neural Comput. 24, 1085 (2012), doi:10.1162/NECO_a_00256.
    """
    cdef Py_ssize_t k = B.shape[0]
    cdef Py_ssize_t n = B.shape[1]
    cdef Py_ssize_t group, start, width, _sweep, p, m, i
    cdef floating[LANES] step
    cdef const floating* b
    cdef const floating* other
    cdef floating* z
    cdef floating g, inverse, value

    with nogil:
        for group in range((n + LANES - 1) // LANES):
            start = group * LANES
            width = n - start if n - start < LANES else LANES
            for _sweep in range(n_sweeps):
                for p in range(k):
                    z = &Z[p, start]
                    if G[p, p] <= 0:
                        for i in range(width):
                            z[i] = 0
                        continue
                    b = &B[p, start]
                    for i in range(width):
                        step[i] = b[i]
                    for m in range(k):
                        g = G[p, m]
                        other = &Z[m, start]
                        for i in range(width):
                            step[i] -= g * other[i]
                    inverse = 1 / G[p, p]
                    for i in range(width):
                        value = z[i] + step[i] * inverse
                        z[i] = value if value > 0 else 0


def residual_block(
    const floating[:, ::1] X,
    const floating[:, ::1] W,
    const double[:, ::1] H,
    double[::1] scratch,
    double[::1] out,
):
    """Squared residual of each feature in float64, by subtraction: no digits cancel in a near-exact factorisation.

        out[j] = sum_i (X[i, j] - sum_p W[i, p] H[p, j])^2

    Parameters
    ----------
    X : (n, d)
    W : (n, k)
    H : (k, d)
    scratch : (d,)
    out : (d,) written

    Notes
    -----
    Cost: n d (k + 1) multiply-adds; X is read once. Features are the lanes, so that no sum has to be split.
    """
    cdef Py_ssize_t n = X.shape[0]
    cdef Py_ssize_t d = X.shape[1]
    cdef Py_ssize_t k = H.shape[0]
    cdef Py_ssize_t i, j, p
    cdef double w

    with nogil:
        for j in range(d):
            out[j] = 0
        for i in range(n):
            for j in range(d):
                scratch[j] = X[i, j]
            for p in range(k):
                w = W[i, p]
                for j in range(d):
                    scratch[j] -= w * H[p, j]
            for j in range(d):
                out[j] += scratch[j] * scratch[j]
