"""Races k-means against scikit-learn, scikit-learn-intelex, faiss and HyperSpy: from one start, and ten restarts.

Features of windows, 481 and 1,089 of them, and a million short rows without and with clusters.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from data import features, job, wide_features
from harness import Contender, Race, main
from hyperspy_signal import signal
from machine import Work, installed
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


def short_rows(quick: bool, spread: float) -> np.ndarray:
    """Normal numbers, about 16 centres that are `spread` standard deviations from the mean in each feature."""
    rng = np.random.default_rng(0)
    n, d = (2000 if quick else 1_000_000), 64
    X = rng.standard_normal((n, d), dtype=np.float32)
    X += spread * rng.standard_normal((16, d), dtype=np.float32)[rng.integers(0, 16, n)]
    return X


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


def same_start(X: np.ndarray, iterations: int, what: str, k: int = 16) -> Race:
    start = X[np.random.default_rng(0).choice(len(X), k, replace=False)]
    parameters = {"init": start, "n_init": 1, "max_iter": iterations, "tol": 0}
    estimators = {
        "stemseg-core": KMeans,
        "scikit-learn, Lloyd": Lloyd,
        "scikit-learn, Elkan": partial(Lloyd, algorithm="elkan"),
        "scikit-learn-intelex": Intel,
    }
    contenders = [
        Contender(name, lambda make=make: make(k, **parameters).fit(X).cluster_centers_)
        for name, make in estimators.items()
        if make is not None
    ]
    if faiss is not None:
        contenders.append(Contender("faiss", lambda: by_faiss(X, start, iterations)))
    n, d = X.shape
    return Race(
        f"k-means, {k} centres, at most {iterations} iterations from one start, {what}, {job(X)}",
        contenders,
        work=Work(2.0 * n * d * k * iterations, X.nbytes * iterations, 0),
        quality=inertia(X),
        quality_name="sum of squares",
        notes=["The work is that of full iterations; bounds may skip rows."],
    )


def by_faiss(X: np.ndarray, start: np.ndarray, iterations: int) -> np.ndarray:
    kmeans = faiss.Kmeans(X.shape[1], len(start), niter=iterations, max_points_per_centroid=len(X))
    kmeans.train(X, init_centroids=start)
    return kmeans.centroids


def restarts(X: np.ndarray, k: int = 8) -> Race:
    contenders = [
        Contender(name, lambda make=make: make(k, n_init=10, random_state=0).fit(X).cluster_centers_)
        for name, make in (("stemseg-core", KMeans), ("scikit-learn, Lloyd", Lloyd), ("scikit-learn-intelex", Intel))
        if make is not None
    ]
    if installed("hyperspy"):
        contenders.append(Contender("HyperSpy, cluster_analysis", lambda: by_hyperspy(X, k), once=True))
    return Race(
        f"k-means, {k} centres, best of ten starts, {job(X)}",
        contenders,
        quality=inertia(X),
        quality_name="sum of squares",
    )


def by_hyperspy(X: np.ndarray, k: int) -> np.ndarray:
    found = signal(X).cluster_analysis(
        "signal", n_clusters=k, algorithm="kmeans", n_init=10, random_state=0, return_info=True
    )
    return found.cluster_centers_


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = features(arguments.quick)
    yield restarts(X)
    yield same_start(X, 30, "windows")
    del X
    yield same_start(wide_features(arguments.quick), 50, "windows")
    yield same_start(short_rows(arguments.quick, 0), 50, "noise")
    yield same_start(short_rows(arguments.quick, 1), 50, "clusters")


if __name__ == "__main__":
    main("kmeans", races, peers=("scikit-learn", "scikit-learn-intelex", "faiss-cpu", "hyperspy"))
