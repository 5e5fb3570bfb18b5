"""Projections that find rows far apart: the rows of pure endmembers, where each occurs pure somewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.system.threads import one_blas_thread

Array = NDArray[Any]

#: For columns of W (q, m): the largest ``|Z W|`` of each over all rows of Z (n, q), and the row number.
Extremes = Callable[[Array], tuple[Array, Array]]

#: Rows that are squared at a time.
SQUARED_ROWS = 4096


class RankError(ValueError):
    """Rows that do not have as many directions as are asked for."""


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
        left, ones = np.empty(n), np.ones(r)
        for start in range(0, n, SQUARED_ROWS):  # a third of the time of einsum
            part = slice(start, start + SQUARED_ROWS)
            left[part] = np.square(Y[part], dtype=np.float64) @ ones
        least = 1e-14 * left.max()
        for j in range(k):
            p = int(left.argmax())
            u = Y[p].astype(np.float64)
            for _ in range(2):  # once more for what rounding left
                u -= basis[:j].T @ (basis[:j] @ u)
            square = float(u @ u)
            if square <= least:
                raise RankError(
                    f"k = {k} rows cannot be chosen: the rank of Y, of shape {(n, r)}, is {j}; ask for fewer"
                )
            basis[j] = u / np.sqrt(square)
            chosen[j] = p
            left -= (Y @ basis[j].astype(Y.dtype, copy=False)).astype(np.float64) ** 2
            left[p] = -1.0
    return chosen


def random_projections(Z: Array, directions: Array, extremes: Extremes) -> NDArray[np.intp]:
    """Row numbers of k rows a start, each extreme along a random direction orthogonal to those before.

    The loop of vertex component analysis. All starts take their steps together, a pass over the rows for each step.

    Parameters
    ----------
    Z : ndarray of shape (n, q)
        Rows, such as ``[1, scores]``.
    directions : ndarray of shape (m, k, q)
        Random directions of m starts: one a step.
    extremes : callable
        See `Extremes`.

    Returns
    -------
    ndarray of shape (m, k), int

    References
    ----------
    .. [1] J. M. P. Nascimento, J. M. Bioucas-Dias, IEEE Trans. Geosci. Remote Sens. 43 (2005) 898-910.
       https://doi.org/10.1109/TGRS.2005.844293
    """
    m, k, q = directions.shape
    chosen = np.empty((m, k), np.intp)
    left = np.tile(np.eye(q), (m, 1, 1))  # projections onto what is orthogonal to the rows of each start
    for j in range(k):
        chosen[:, j] = extremes(np.stack([P @ w for P, w in zip(left, directions[:, j], strict=True)], axis=1))[1]
        for i, p in enumerate(chosen[:, j]):
            u = left[i] @ Z[p]
            left[i] -= np.outer(u, u) / (u @ u)
    return chosen
