"""How many components: criteria on k-means clusters of a sample of scores, taken for independent rows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score

from stemseg_core.stages.estimates import Curve
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array

#: Restarts of k-means for each number of clusters. Twice as many: twice the time, and rarely other clusters.
N_INIT = 3
#: Pairs of random halves whose clusters are compared. Twice as many: twice the time, half the variance of the mean.
N_PAIRS = 4
#: Least mean adjusted Rand index at which the clusters of halves count as the same; 1 is the largest there is.
AGREEMENT = 0.9
#: Rows whose silhouettes are taken, at the cost of the distances of all pairs of them. Twice as many: four times the
#: time, half the variance of the mean.
SILHOUETTE_ROWS = 1000
#: Mean silhouette below which there are no clusters (L. Kaufman, P. J. Rousseeuw, Finding Groups in Data, 1990,
#: table 4). Twice as large: only well separated clusters count.
NO_STRUCTURE = 0.25
#: Sets of points without clusters that the gap is measured against. Twice as many: twice the time, half the variance.
N_REFERENCES = 4


def stability(scores: Array, max_clusters: int, seed: int, execution: Execution) -> Curve:
    """Agreement of the clusters from two random halves of the rows, for each number of them; 1 for one cluster."""
    rng = np.random.default_rng(seed)
    halves = [rng.permutation(len(scores)) for _ in range(N_PAIRS)]
    ks = _numbers_of_clusters(scores, max_clusters, len(scores) // 2)
    value = np.ones(len(ks))
    for i, k in enumerate(ks[1:], start=1):
        found = []
        for order in halves:
            half = len(order) // 2
            pair = [_clusters(scores[np.sort(part)], k, seed, execution) for part in (order[:half], order[half:])]
            found.append(adjusted_rand_score(*(kmeans.predict(scores) for kmeans in pair)))
        value[i] = np.mean(found)
    best = int(ks[np.flatnonzero(value >= AGREEMENT)[-1]])
    return Curve(best, ks, value, np.full(len(ks), AGREEMENT))


def silhouette(scores: Array, max_clusters: int, seed: int, execution: Execution) -> Curve:
    """Mean silhouette for each number of clusters; NaN for one."""
    ks = _numbers_of_clusters(scores, max_clusters, len(scores) - 1)
    sample = np.random.default_rng(seed).permutation(len(scores))[:SILHOUETTE_ROWS]
    value = np.full(len(ks), np.nan)
    for i, k in enumerate(ks[1:], start=1):
        labels = _clusters(scores, k, seed, execution).labels_[sample]
        if 1 < len(np.unique(labels)) < len(labels):
            value[i] = silhouette_score(scores[sample], labels)
    known = np.isfinite(value)
    best = int(ks[np.nanargmax(value)]) if known.any() and np.nanmax(value) >= NO_STRUCTURE else 1
    return Curve(best, ks, value, np.full(len(ks), NO_STRUCTURE))


def gap(scores: Array, max_clusters: int, seed: int, execution: Execution) -> Curve:
    """How much smaller log inertia is than that of evenly spread points.

    The curve that it must reach is the gap of one cluster more, less its standard error.
    """
    rng = np.random.default_rng(seed)
    ks = _numbers_of_clusters(scores, max_clusters + 1, len(scores))
    low, high = scores.min(axis=0), scores.max(axis=0)
    if len(ks) == 1:
        return Curve(1, ks, np.zeros(1))
    references = [rng.uniform(low, high, scores.shape).astype(scores.dtype) for _ in range(N_REFERENCES)]
    own = np.log([_inertia(scores, k, seed, execution) for k in ks])
    expected = np.log([[_inertia(points, k, seed, execution) for points in references] for k in ks])
    value = expected.mean(axis=1) - own
    error = expected.std(axis=1) * np.sqrt(1 + 1 / N_REFERENCES)
    enough = value[:-1] >= value[1:] - error[1:]
    best = int(ks[np.argmax(enough)]) if enough.any() else int(ks[:-1][np.argmax(value[:-1])])
    return Curve(best, ks[:-1], value[:-1], value[1:] - error[1:])


def _numbers_of_clusters(scores: Array, max_clusters: int, limit: int) -> NDArray[np.int64]:
    """From 1 to `max_clusters`, `limit` or half the number of different rows, whichever is smallest."""
    different = len(np.unique(scores, axis=0))
    return np.arange(1, max(1, min(max_clusters, limit, different // 2)) + 1)


def _clusters(rows: Array, k: int, seed: int, execution: Execution) -> KMeans:
    kmeans = KMeans(k, n_init=N_INIT, random_state=seed, n_jobs=execution.n_threads)
    return kmeans.fit(np.ascontiguousarray(rows))


def _inertia(rows: Array, k: int, seed: int, execution: Execution) -> float:
    """Inertia of k clusters, never zero: its logarithm is taken."""
    return max(float(_clusters(rows, k, seed, execution).inertia_), float(np.finfo(np.float64).tiny))
