"""Rows that are alone: outliers, which span large simplices and mean nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from stemseg_core.rows.sources import ArrayRows, MaskedRows, Rows
from stemseg_core.rows.transitional import run
from stemseg_core.stages.principal import above_rounding, fill_scores, principal_axes
from stemseg_core.system.types import Partial

Array = NDArray[Any]

#: Directions that are looked at beyond those of the endmembers: outliers make directions of their own.
SPARE = 4
#: Rows that tell how far the m-th neighbour of a row usually is, the quantile of them that counts, and how many times
#: as far that of an outlier is.
SAMPLE, LEVEL, FENCE = 128, 0.95, 4.0
#: Rows, the farthest from the mean first, that are looked at together, and most rounds.
BATCH, ROUNDS = 32, 10


def without_outliers(rows: Rows, n_components: int, n_neighbors: int, **options: Any) -> NDArray[np.bool_]:
    """Which rows have company; the others are outliers.

    Distances are those of scores of unit variance on the leading principal components, four more than the endmembers
    need. An outlier is a row whose m-th neighbour is more than four times as far as those of 95 % of the rows that are
    not m times the same. Outliers
    hide others, since they take the components: the rows that are left are looked at again until none is found.

    Parameters
    ----------
    rows : Rows of shape (n, d)
    n_components : int
        Number of endmembers.
    n_neighbors : int
        m, below n.
    **options
        ``n_jobs``, ``progress`` and ``stage`` of `run`.

    Returns
    -------
    ndarray of bool of shape (n,)

    Notes
    -----
    Only rows far from the mean can become endmembers, so these are looked at, the farthest first, until none of 32 is
    an outlier. Each round costs a reduction to principal components and `SAMPLE` n distances.

    References
    ----------
    .. [1] S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers from large data sets", Proc. ACM
       SIGMOD (2000) 427-438. https://doi.org/10.1145/342009.335437
    """
    n, d = rows.shape
    kept, fence = np.ones(n, bool), np.inf
    rank = min(n_components - 1 + SPARE, d, n)
    for _ in range(ROUNDS):
        Y = _scores(rows, kept, rank, options)
        sample = np.flatnonzero(kept)
        sample = sample[np.linspace(0, len(sample) - 1, min(SAMPLE, len(sample))).astype(np.intp)]
        distances = _to_neighbor(Y, kept, sample, n_neighbors, options)
        if not distances.any():
            break  # the rows are so many times the same that nothing tells which are far
        fence = FENCE * float(np.quantile(distances[distances > 0], LEVEL))
        alone = _alone(Y, kept, n_neighbors, fence, options)
        if not len(alone):
            break
        kept[alone] = False
    # What seemed alone while outliers set the scale of the scores may not be.
    left = np.flatnonzero(~kept)
    if len(left):
        kept[left] = _to_neighbor(Y, kept, left, n_neighbors, options) <= fence
    return kept


def outlier_bytes(n: int, n_components: int) -> float:
    """Memory of `without_outliers` beside that of the principal components."""
    return 8.0 * n * (n_components + SPARE + 3)


def _scores(rows: Rows, kept: NDArray[np.bool_], rank: int, options: dict[str, Any]) -> Array:
    """Scores (n, r) of all rows, of unit variance over those that are kept."""
    first = principal_axes(MaskedRows(rows, kept), rank, **options)
    seen = above_rounding(first)
    V = first.V[seen] / np.sqrt(first.values[seen] / kept.sum())[:, np.newaxis]
    Y = np.zeros((len(kept), max(1, len(V))))  # equal rows have no scores
    if len(V):
        fill_scores(rows, first, V, first.mean, Y, **options)
    return Y


def _alone(
    Y: Array, kept: NDArray[np.bool_], n_neighbors: int, fence: float, options: dict[str, Any]
) -> NDArray[np.intp]:
    """The kept rows that are alone, as far as they are among those farthest from the mean."""
    squares = np.where(kept, np.einsum("ij,ij->i", Y, Y), -1.0)
    order = np.argsort(-squares, kind="stable")[: kept.sum()]
    kept, found = kept.copy(), []
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        alone = batch[_to_neighbor(Y, kept, batch, n_neighbors, options) > fence]
        if not len(alone):
            break
        found.append(alone)
        kept[alone] = False
    return np.concatenate(found) if found else np.empty(0, np.intp)


def _to_neighbor(
    Y: Array, kept: NDArray[np.bool_], chosen: NDArray[np.intp], n_neighbors: int, options: dict[str, Any]
) -> Array:
    """Distance of each chosen row to its m-th neighbour among the kept rows."""
    m = n_neighbors + 1
    (least,) = run(_nearest_block, ArrayRows(Y), Y[chosen], m, along=(kept,), merge=partial(_nearer, m), **options)
    place = np.minimum(n_neighbors - 1 + kept[chosen], least.shape[1] - 1)  # a kept row is its own nearest
    distances: Array = np.sqrt(np.sort(least, axis=1)[np.arange(len(chosen)), place])
    return distances


def _nearest_block(block: Array, kept: NDArray[np.bool_], points: Array, m: int) -> tuple[None, Partial]:
    return None, (_smallest(cdist(points, block[kept], "sqeuclidean"), m),)


def _nearer(m: int, a: Partial, b: Partial) -> Partial:
    return (_smallest(np.hstack([a[0], b[0]]), m),)


def _smallest(squares: Array, m: int) -> Array:
    """The m smallest of each row."""
    return np.partition(squares, m - 1, axis=1)[:, :m] if squares.shape[1] > m else squares
