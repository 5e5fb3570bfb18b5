"""Races the SVD of window features against the solvers of scikit-learn, torch and HyperSpy."""

import argparse
from collections.abc import Iterable, Iterator

import numpy as np
from data import features, job
from harness import Contender, Race, main
from hyperspy_signal import signal
from machine import Work, installed
from sklearn.decomposition import PCA

from stemseg_core import SVD

RANK = 10


def hand_written(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What one writes in a notebook: the Gram matrix in the type of X, its eigenvectors, the scores."""
    mean = X.mean(axis=0)
    values, V = np.linalg.eigh(X.T @ X - len(X) * np.outer(mean, mean))
    V = V[:, : -RANK - 1 : -1]
    return np.sqrt(values[: -RANK - 1 : -1]), (X - mean) @ V


def exact_values(X: np.ndarray) -> np.ndarray:
    Y = X - X.mean(axis=0, dtype=float)
    return np.sqrt(np.linalg.eigvalsh(Y.T @ Y if len(X) > X.shape[1] else Y @ Y.T)[: -RANK - 1 : -1])


def race(X: np.ndarray, solvers: tuple[str, ...], others: Iterable[Contender] = ()) -> Race:
    n, d = X.shape
    exact = exact_values(X)

    def fit(estimator: SVD | PCA) -> np.ndarray:
        estimator.fit_transform(X)
        return estimator.singular_values_

    def error(values: np.ndarray) -> str:
        return f"{np.abs(values / exact - 1).max():.1e}"

    gram = 2.0 * n * d * min(n, d) / 2  # a Gram matrix is symmetric
    contenders = [
        Contender("stemseg-core", lambda: fit(SVD(RANK))),
        *(
            Contender(f"scikit-learn, {solver}", lambda s=solver: fit(PCA(RANK, svd_solver=s, random_state=0)))
            for solver in solvers
        ),
    ]
    if n > d:
        contenders.append(Contender("Gram matrix by hand", lambda: hand_written(X)[0]))
    if installed("torch"):
        contenders.append(Contender("torch, pca_lowrank", lambda: torch_values(X)))
    contenders.extend(others)
    return Race(
        f"SVD, centred, rank {RANK}, fit and scores of {job(X)}",
        contenders,
        work=Work(min(gram, 8.0 * n * d * RANK) + 2 * n * d * RANK, X.nbytes, n * RANK * X.itemsize),
        quality=error,
        quality_name="error of singular values",
        notes=[
            "The operations are those of a Gram matrix, or of two passes of a block of twice the rank, if fewer.",
            "A contender that leaves the threads of its BLAS waiting slows the next one down for some 100 ms: "
            "OpenBLAS lets them spin that long (`OPENBLAS_THREAD_TIMEOUT`).",
        ],
    )


def torch_values(X: np.ndarray) -> np.ndarray:
    import torch  # noqa: PLC0415 (only where it is installed)

    torch.manual_seed(0)
    rows = torch.from_numpy(X)
    _, values, V = torch.pca_lowrank(rows, RANK)
    (rows - rows.mean(0)) @ V
    return values.numpy()


def hyperspy_values(X: np.ndarray) -> np.ndarray:
    s = signal(X)
    s.decomposition(algorithm="SVD", output_dimension=RANK, centre="navigation", print_info=False)
    return np.sqrt(s.learning_results.explained_variance[:RANK] * len(X))


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = features(arguments.quick)
    hyperspy = [Contender("HyperSpy, decomposition", lambda: hyperspy_values(X), once=True)]
    yield race(X, ("covariance_eigh", "arpack", "randomized"), hyperspy if installed("hyperspy") else ())
    yield race(features(arguments.quick, 96, 8, 2080), ("covariance_eigh", "arpack"))
    yield race(features(arguments.quick, 256, 16, 1024), ("randomized",))


if __name__ == "__main__":
    main("svd", races, peers=("scikit-learn", "torch", "hyperspy"))
