"""Races k-means against scikit-learn, scikit-learn-intelex and faiss: iterations from one start, and ten restarts."""

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from data import features, job
from harness import Contender, Race, main
from machine import Work
from sklearn.cluster import KMeans as Lloyd

from stemseg_core import KMeans

try:
    from sklearnex.cluster import KMeans as Intel
except ImportError:
    Intel = None
try:
    import faiss
except ImportError:
    faiss = None

ITERATIONS = 30


def inertia(X: np.ndarray) -> Callable[[Any], str]:
    """Sum of squared distances to the nearest centre, in float64, of whoever found the centres."""

    def quality(centers: np.ndarray) -> str:
        C, total = np.asarray(centers, dtype=float), 0.0
        for part in np.array_split(X, max(1, len(X) // 8192)):
            block = part.astype(float)
            distances = (block**2).sum(1)[:, None] - 2 * block @ C.T + (C**2).sum(1)
            total += distances.min(axis=1).sum()
        return f"{total:.7g}"

    return quality


def same_start(X: np.ndarray, k: int = 16) -> Race:
    start = X[np.random.default_rng(0).choice(len(X), k, replace=False)]
    parameters = {"init": start, "n_init": 1, "max_iter": ITERATIONS, "tol": 0}
    estimators = {"stemseg-core": KMeans, "scikit-learn, Lloyd": Lloyd, "scikit-learn-intelex": Intel}
    contenders = [
        Contender(name, lambda make=make: make(k, **parameters).fit(X).cluster_centers_)
        for name, make in estimators.items()
        if make is not None
    ]
    if faiss is not None:
        contenders.append(Contender("faiss", lambda: by_faiss(X, start)))
    n, d = X.shape
    return Race(
        f"k-means, {k} centres, at most {ITERATIONS} iterations from one start, {job(X)}",
        contenders,
        work=Work(2.0 * n * d * k * ITERATIONS, X.nbytes * ITERATIONS, 0),
        quality=inertia(X),
        quality_name="sum of squares",
        notes=["The work is that of full iterations; bounds may skip rows."],
    )


def by_faiss(X: np.ndarray, start: np.ndarray) -> np.ndarray:
    kmeans = faiss.Kmeans(X.shape[1], len(start), niter=ITERATIONS, max_points_per_centroid=len(X))
    kmeans.train(X, init_centroids=start)
    return kmeans.centroids


def restarts(X: np.ndarray, k: int = 8) -> Race:
    return Race(
        f"k-means, {k} centres, best of ten starts, {job(X)}",
        [
            Contender(name, lambda make=make: make(k, n_init=10, random_state=0).fit(X).cluster_centers_)
            for name, make in (("stemseg-core", KMeans), ("scikit-learn, Lloyd", Lloyd))
        ],
        quality=inertia(X),
        quality_name="sum of squares",
    )


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = features(arguments.quick)
    yield same_start(X)
    yield restarts(X)


if __name__ == "__main__":
    main("kmeans", races, peers=("scikit-learn", "scikit-learn-intelex", "faiss-cpu"))
