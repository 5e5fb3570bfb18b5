"""Projections that find rows far apart: the rows of pure endmembers, where each occurs pure somewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core._kernels import nfindr as kernels
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.merging import larger
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Rows that are squared at a time: their squares stay in the cache. Twice as many: slower; the result is the same.
SQUARED_ROWS = 4096
#: A row counts as in the span of others where this share of the largest squared norm, or less, is left of its own.
#: Twice as large: rows nearly in the span of others are refused earlier.
RANK_SHARE = 1e-14


class RankError(ParameterError):
    """Rows that do not have as many directions as are asked for."""


class Extremes(NamedTuple):
    """For each of m columns of W (q, m), the row of Z (n, q) with the largest ``|Z W|``."""

    sizes: NDArray[np.float64]  # (m,): that largest modulus
    rows: NDArray[np.intp]  # (m,): number of the row, the first of equals


#: From columns W to `Extremes`: a pass over all rows, or a look at a few.
FindExtremes = Callable[[Array], Extremes]


def find_extremes(Z: Array, W: Array, execution: Execution) -> Extremes:
    """`Extremes` of all rows of Z (n, q) along the columns of W (q, m), by a pass over blocks of them."""
    found = execution.run(_extremes_block, ArrayRows(Z), W, along=(np.arange(len(Z)),), merge=larger)
    return Extremes(*found)


def _extremes_block(block: Array, numbers: Array, W: Array) -> tuple[None, Partial]:
    sizes, rows = np.empty(W.shape[1]), np.empty(W.shape[1], np.intp)
    kernels.extremes_block(block, W, np.empty((len(W), kernels.ROWS)), sizes, rows)
    return None, (sizes, numbers[rows])


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
        least = RANK_SHARE * left.max()
        for j in range(k):
            p = int(left.argmax())
            u = Y[p].astype(np.float64)
            for _ in range(2):  # the second time for what rounding left
                u -= basis[:j].T @ (basis[:j] @ u)
            square = float(u @ u)
            if square <= least:
                raise RankError(
                    f"`k` = {k} rows cannot be chosen: the rank of Y, of shape {(n, r)}, is {j}; ask for fewer", k=k
                )
            basis[j] = u / np.sqrt(square)
            chosen[j] = p
            left -= (Y @ basis[j].astype(Y.dtype, copy=False)).astype(np.float64) ** 2
            left[p] = -1.0
    return chosen


def random_projections(Z: Array, directions: Array, find: FindExtremes) -> NDArray[np.intp]:
    """Row numbers of k rows a start, each extreme along a random direction orthogonal to those before.

    The loop of vertex component analysis. All starts take their steps together, a pass over the rows for each step.

    Parameters
    ----------
    Z : ndarray of shape (n, q)
        Rows, such as ``[1, scores]``.
    directions : ndarray of shape (m, k, q)
        Random directions of m starts: one a step.
    find : callable
        From columns W (q, m) to `Extremes` of Z.

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
    left = np.tile(np.eye(q), (m, 1, 1))  # for each start, the projection onto what is orthogonal to its rows
    for j in range(k):
        chosen[:, j] = find(np.stack([P @ w for P, w in zip(left, directions[:, j], strict=True)], axis=1)).rows
        for i, p in enumerate(chosen[:, j]):
            u = left[i] @ Z[p]
            left[i] -= np.outer(u, u) / (u @ u)
    return chosen
