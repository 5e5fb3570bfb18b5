"""How many components: criteria on k-means clusters of a sample of scores, taken for independent rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, silhouette_score

from stemseg_core.stages.estimates import Curve
from stemseg_core.stages.kmeans import KMeans

Array = NDArray[Any]

#: Restarts of k-means for each number of clusters.
STARTS = 3
#: Pairs of halves that must agree, and their mean adjusted Rand index.
N_PAIRS, AGREEMENT = 4, 0.9
#: Rows whose silhouettes are taken (distances of all pairs), and the mean below which there are no clusters
#: (L. Kaufman, P. J. Rousseeuw, Finding Groups in Data, 1990, table 4).
SILHOUETTE_ROWS, NO_STRUCTURE = 1000, 0.25
#: Sets of points without clusters.
N_REFERENCES = 4


def stability(scores: Array, most: int, seed: int, n_jobs: int | None) -> Curve:
    """Agreement of the clusters from two random halves of the rows, for each number of them; 1 for one cluster."""
    rng = np.random.default_rng(seed)
    halves = [rng.permutation(len(scores)) for _ in range(N_PAIRS)]
    ks = _numbers(scores, most, len(scores) // 2)
    value = np.ones(len(ks))
    for i, k in enumerate(ks[1:], start=1):
        found = []
        for order in halves:
            half = len(order) // 2
            pair = [_clusters(scores[np.sort(part)], k, seed, n_jobs) for part in (order[:half], order[half:])]
            found.append(adjusted_rand_score(*(kmeans.predict(scores) for kmeans in pair)))
        value[i] = np.mean(found)
    best = int(ks[np.flatnonzero(value >= AGREEMENT)[-1]])
    return Curve(best, ks, value, np.full(len(ks), AGREEMENT))


def silhouette(scores: Array, most: int, seed: int, n_jobs: int | None) -> Curve:
    """Mean silhouette for each number of clusters; NaN for one."""
    ks = _numbers(scores, most, len(scores) - 1)
    sample = np.random.default_rng(seed).permutation(len(scores))[:SILHOUETTE_ROWS]
    value = np.full(len(ks), np.nan)
    for i, k in enumerate(ks[1:], start=1):
        labels = _clusters(scores, k, seed, n_jobs).labels_[sample]
        if 1 < len(np.unique(labels)) < len(labels):
            value[i] = silhouette_score(scores[sample], labels)
    known = np.isfinite(value)
    best = int(ks[np.nanargmax(value)]) if known.any() and np.nanmax(value) >= NO_STRUCTURE else 1
    return Curve(best, ks, value, np.full(len(ks), NO_STRUCTURE))


def gap(scores: Array, most: int, seed: int, n_jobs: int | None) -> Curve:
    """How much smaller log inertia is than that of points spread evenly; null: the gap of k + 1 less its error."""
    rng = np.random.default_rng(seed)
    ks = _numbers(scores, most + 1, len(scores))
    low, high = scores.min(axis=0), scores.max(axis=0)
    if len(ks) == 1:
        return Curve(1, ks, np.zeros(1))
    references = [rng.uniform(low, high, scores.shape).astype(scores.dtype) for _ in range(N_REFERENCES)]
    own = np.log([_inertia(scores, k, seed, n_jobs) for k in ks])
    expected = np.log([[_inertia(points, k, seed, n_jobs) for points in references] for k in ks])
    value = expected.mean(axis=1) - own
    error = expected.std(axis=1) * np.sqrt(1 + 1 / N_REFERENCES)
    enough = value[:-1] >= value[1:] - error[1:]
    best = int(ks[np.argmax(enough)]) if enough.any() else int(ks[:-1][np.argmax(value[:-1])])
    return Curve(best, ks[:-1], value[:-1], value[1:] - error[1:])


def _numbers(scores: Array, most: int, limit: int) -> NDArray[np.int64]:
    """Numbers of clusters from 1 that the rows allow: `most`, `limit`, and half of the different rows at the most."""
    different = len(np.unique(scores, axis=0))
    return np.arange(1, max(1, min(most, limit, different // 2)) + 1)


def _clusters(rows: Array, k: int, seed: int, n_jobs: int | None) -> KMeans:
    return KMeans(k, n_init=STARTS, random_state=seed, n_jobs=n_jobs).fit(np.ascontiguousarray(rows))


def _inertia(rows: Array, k: int, seed: int, n_jobs: int | None) -> float:
    """Never zero."""
    return max(float(_clusters(rows, k, seed, n_jobs).inertia_), float(np.finfo(np.float64).tiny))
