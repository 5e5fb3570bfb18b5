"""Races the SVD of window features against the solvers of scikit-learn."""

import argparse
from collections.abc import Iterator

import numpy as np
from data import features, job
from harness import Contender, Race, main
from machine import Work
from sklearn.decomposition import PCA

from stemseg_core import SVD

RANK = 10


def race(X: np.ndarray, solvers: tuple[str, ...]) -> Race:
    n, d = X.shape
    energy = np.var(X, axis=0, dtype=float).sum() * n

    def fit(estimator: SVD | PCA) -> SVD | PCA:
        estimator.fit_transform(X)
        return estimator

    def left_out(fitted: SVD | PCA) -> str:
        return f"{1 - np.square(fitted.singular_values_, dtype=float).sum() / energy:.6%}"

    gram = 2.0 * n * d * min(n, d) / 2  # a Gram matrix is symmetric
    return Race(
        f"SVD, centred, rank {RANK}, fit and scores of {job(X)}",
        [
            Contender("stemseg-core", lambda: fit(SVD(RANK))),
            *(
                Contender(f"scikit-learn, {solver}", lambda s=solver: fit(PCA(RANK, svd_solver=s, random_state=0)))
                for solver in solvers
            ),
        ],
        work=Work(min(gram, 8.0 * n * d * RANK) + 2 * n * d * RANK, X.nbytes, n * RANK * X.itemsize),
        quality=left_out,
        quality_name="energy left out",
        notes=["The operations are those of a Gram matrix, or of two passes of a block of twice the rank, if fewer."],
    )


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    yield race(features(arguments.quick), ("covariance_eigh", "randomized"))
    yield race(features(arguments.quick, 256, 16, 1024), ("randomized",))


if __name__ == "__main__":
    main("svd", races)
