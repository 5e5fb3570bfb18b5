"""Races NMF against scikit-learn's coordinate descent: until it stops, and until it is as good as ours."""

import argparse
from collections.abc import Iterator

import numpy as np
import sklearn.decomposition
from data import features, job
from harness import Contender, Race, main

from stemseg_core import NMF

#: Iterations that a peer is given to become as good.
LIMIT = 3200
#: Relative difference of two errors that counts as none.
EQUAL = 1e-5


def scikit_learn(X: np.ndarray, k: int, iterations: int, tol: float) -> float:
    fitted = sklearn.decomposition.NMF(k, init="nndsvda", max_iter=iterations, tol=tol).fit(X)
    return fitted.reconstruction_err_


def iterations_to_reach(X: np.ndarray, k: int, error: float) -> int:
    """Iterations, doubled until they suffice, after which the peer's error is `error` or less."""
    iterations = 25
    while iterations < LIMIT and scikit_learn(X, k, iterations, 0) > error * (1 + EQUAL):
        iterations *= 2
    return iterations


def race(X: np.ndarray, k: int) -> Race:
    ours = NMF(k, random_state=0).fit(X).reconstruction_err_
    iterations = iterations_to_reach(X, k, ours)
    return Race(
        f"NMF, {k} components, {job(X)}",
        [
            Contender("stemseg-core", lambda: NMF(k, random_state=0).fit(X).reconstruction_err_),
            Contender("scikit-learn, cd, as it stops", lambda: scikit_learn(X, k, 200, 1e-4)),
            Contender(f"scikit-learn, cd, {iterations} iterations", lambda: scikit_learn(X, k, iterations, 0)),
        ],
        quality=lambda error: f"{error:.7g}",
        quality_name="error",
        notes=[f"The last one has the fewest of 25, 50, 100, ... {LIMIT} iterations that reach our error, if any do."],
    )


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = features(arguments.quick)
    X = X if arguments.quick else np.ascontiguousarray(X[::4])
    for k in (3, 6):
        yield race(X, k)


if __name__ == "__main__":
    main("nmf", races, peers=("scikit-learn",))
