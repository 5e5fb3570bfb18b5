"""Successive projections: rows that are far apart, as a start for endmembers and parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.threads import one_blas_thread


def successive_projections(Y: ArrayLike, k: int) -> NDArray[np.intp]:
    """Row numbers of k rows, each the farthest from the span of those before; ties to the smallest.

    Parameters
    ----------
    Y : array-like of shape (n, r)
        Rows that are mixtures of a few of them (for shares with sum 1 and any origin, with a column of ones).
    k : int
        At most the rank of Y.

    Returns
    -------
    ndarray of shape (k,), int

    Raises
    ------
    ValueError
        If the rank of Y is less than k.

    Notes
    -----
    The pivoting of a QR factorisation of Y'; k products of Y with a vector.

    References
    ----------
    .. [1] N. Gillis, S. A. Vavasis, IEEE Trans. Pattern Anal. Mach. Intell. 36 (2014) 698-714.
       https://doi.org/10.1109/TPAMI.2013.226
    """
    Y = np.asarray(Y)
    n, r = Y.shape
    chosen = np.empty(k, np.intp)
    basis = np.zeros((k, r))
    with one_blas_thread():
        left = np.einsum("ij,ij->i", Y, Y, dtype=np.float64)
        least = 1e-14 * left.max()
        for j in range(k):
            p = int(left.argmax())
            u = Y[p].astype(np.float64)
            for _ in range(2):  # once more for what rounding left
                u -= basis[:j].T @ (basis[:j] @ u)
            square = float(u @ u)
            if square <= least:
                raise ValueError(
                    f"k = {k} rows cannot be chosen: the rank of Y, of shape {(n, r)}, is {j}; ask for fewer"
                )
            basis[j] = u / np.sqrt(square)
            chosen[j] = p
            left -= (Y @ basis[j].astype(Y.dtype, copy=False)).astype(np.float64) ** 2
            left[p] = -1.0
    return chosen
