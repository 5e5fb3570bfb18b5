"""Rows that are alone: outliers, which span large simplices and mean nothing."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from stemseg_core.rows.sources import ArrayRows, MaskedRows, Rows
from stemseg_core.stages.leading import above_rounding, fill_scores, principal_axes
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Partial

#: Principal components beyond those of the endmembers: outliers have components of their own. Twice as many: outliers
#: in more directions are seen at once, and noise counts for more in distances.
SPARE_COMPONENTS = 4
#: Rows that tell how far the m-th neighbour of a row usually is. Twice as many: a round takes nearly twice as long, and
#: the limit of distance is better known.
SAMPLE_ROWS = 128
#: Quantile of those distances that counts as usual. Nearer to 1: fewer rows are outliers.
USUAL_QUANTILE = 0.95
#: Distance of the m-th neighbour of an outlier, in usual distances. Twice as many: fewer rows are outliers.
OUTLIER_FACTOR = 4.0
#: Rows that are looked at together, the farthest from the mean first; the search ends where none of them is an outlier.
#: Twice as many: it ends later.
BATCH_ROWS = 32
#: Most rounds of principal components and search. Outliers that hide others need more of them.
MAX_ROUNDS = 10


def inliers(rows: Rows, n_components: int, n_neighbors: int, execution: Execution) -> NDArray[np.bool_]:
    """Which rows are no outliers.

    Distances are those of scores of unit variance on the leading principal components, four more than the endmembers
    need. The m-th neighbour of an outlier is more than four times as far as those of 95 % of the rows; rows that occur
    more than m times, whose m-th neighbour is at distance zero, do not count there. Outliers hide others, since they
    take principal components for themselves: the rest of the rows is looked at again until no outlier is found.

    Parameters
    ----------
    rows : Rows of shape (n, d)
    n_components : int
        Number of endmembers.
    n_neighbors : int
        m, below n.
    execution : Execution

    Returns
    -------
    ndarray of bool of shape (n,)

    Notes
    -----
    Only rows far from the mean can become endmembers, so these are looked at, the farthest first, until none of 32 is
    an outlier. Each round costs a reduction to principal components and `SAMPLE_ROWS` n distances.

    References
    ----------
    .. [1] S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers from large data sets", Proc. ACM
       SIGMOD (2000) 427-438. https://doi.org/10.1145/342009.335437
    """
    n, d = rows.shape
    kept, limit = np.ones(n, bool), np.inf
    rank = min(n_components - 1 + SPARE_COMPONENTS, d, n)
    for _ in range(MAX_ROUNDS):
        Y = _scores(rows, kept, rank, execution)
        sample = np.flatnonzero(kept)
        sample = sample[np.linspace(0, len(sample) - 1, min(SAMPLE_ROWS, len(sample))).astype(np.intp)]
        distances = _neighbor_distances(Y, kept, sample, n_neighbors, execution)
        if not distances.any():
            break  # every row of the sample occurs more than m times: there is no usual distance
        limit = OUTLIER_FACTOR * float(np.quantile(distances[distances > 0], USUAL_QUANTILE))
        found = _farthest_outliers(Y, kept, n_neighbors, limit, execution)
        if not len(found):
            break
        kept[found] = False
    # A row that seemed an outlier while others set the scale of the scores may be none.
    left_out = np.flatnonzero(~kept)
    if len(left_out):
        kept[left_out] = _neighbor_distances(Y, kept, left_out, n_neighbors, execution) <= limit
    return kept


def inliers_bytes(n: int, n_components: int) -> float:
    """Predicted memory of `inliers`, beside that of the principal components."""
    return 8.0 * n * (n_components + SPARE_COMPONENTS + 3)


def _scores(rows: Rows, kept: NDArray[np.bool_], rank: int, execution: Execution) -> Array:
    """Scores (n, r) of all rows, of unit variance over those that are kept."""
    first = principal_axes(MaskedRows(rows, kept), rank, execution)
    seen = above_rounding(first)
    V = first.V[seen] / np.sqrt(first.values[seen] / kept.sum())[:, np.newaxis]
    Y = np.zeros((len(kept), max(1, len(V))))  # equal rows have no scores
    if len(V):
        fill_scores(rows, first, V, first.mean, execution, out=Y)
    return Y


def _farthest_outliers(
    Y: Array, kept: NDArray[np.bool_], n_neighbors: int, limit: float, execution: Execution
) -> NDArray[np.intp]:
    """The kept rows whose m-th neighbour is farther than `limit`, among those farthest from the mean."""
    squares = np.where(kept, np.einsum("ij,ij->i", Y, Y), -1.0)
    order = np.argsort(-squares, kind="stable")[: kept.sum()]
    kept, found = kept.copy(), []
    for start in range(0, len(order), BATCH_ROWS):
        batch = order[start : start + BATCH_ROWS]
        outliers = batch[_neighbor_distances(Y, kept, batch, n_neighbors, execution) > limit]
        if not len(outliers):
            break
        found.append(outliers)
        kept[outliers] = False
    return np.concatenate(found) if found else np.empty(0, np.intp)


def _neighbor_distances(
    Y: Array, kept: NDArray[np.bool_], chosen: NDArray[np.intp], n_neighbors: int, execution: Execution
) -> Array:
    """Distance of each chosen row to its m-th neighbour among the kept rows."""
    m = n_neighbors + 1
    merge = partial(_nearer, m)
    (squares,) = execution.run(_nearest_block, ArrayRows(Y), Y[chosen], m, along=(kept,), merge=merge)
    number = np.minimum(n_neighbors - 1 + kept[chosen], squares.shape[1] - 1)  # a kept row is its own nearest
    distances: Array = np.sqrt(np.sort(squares, axis=1)[np.arange(len(chosen)), number])
    return distances


def _nearest_block(block: Array, kept: NDArray[np.bool_], points: Array, m: int) -> tuple[None, Partial]:
    return None, (_smallest(cdist(points, block[kept], "sqeuclidean"), m),)


def _nearer(m: int, a: Partial, b: Partial) -> Partial:
    return (_smallest(np.hstack([a[0], b[0]]), m),)


def _smallest(squares: Array, m: int) -> Array:
    """The m smallest of each row; a copy, so that the others are not kept."""
    return np.partition(squares, m - 1, axis=1)[:, :m].copy() if squares.shape[1] > m else squares
