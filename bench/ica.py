"""Races ICA against scikit-learn's FastICA, with its ways to whiten, and HyperSpy: mixed sources, and windows."""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from data import features, job
from harness import Contender, Race, main
from hyperspy_signal import signal
from machine import Work, installed
from sklearn.decomposition import PCA, FastICA

from stemseg_core import ICA

#: The same for all: FastICA, parallel.
SETTINGS = {"fun": "logcosh", "tol": 1e-4, "max_iter": 200, "random_state": 0}


def mixed(n: int, d: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sources, Laplacian, uniform and exponential in turn, and their mixture with some noise, float32."""
    rng = np.random.default_rng(0)
    kinds = (rng.laplace, rng.uniform, rng.exponential)
    S = np.column_stack([kinds[i % 3](size=n) for i in range(k)]).astype(np.float32)
    S = (S - S.mean(axis=0)) / S.std(axis=0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    X *= 0.1
    X += S @ rng.standard_normal((k, d), dtype=np.float32)
    return S, X


def amari(S: np.ndarray) -> Callable[[np.ndarray], str]:
    """Distance of what was found from S in another order and scale (Amari, Cichocki and Yang, 1996), from 0 to 1."""

    def distance(found: np.ndarray) -> str:
        P = np.abs(np.linalg.lstsq(S.astype(float), found.astype(float))[0])
        k = len(P)
        rows, columns = P / P.max(axis=1, keepdims=True), P / P.max(axis=0)
        return f"{(rows.sum() + columns.sum() - 2 * k) / (2 * k * (k - 1)):.2e}"

    return distance


def negentropy(found: np.ndarray) -> str:
    """What is maximised: the squared distance of E log cosh from that of a normal variable, summed over sources."""
    normal = 0.374567207491438
    S = (found - found.mean(axis=0, dtype=float)) / found.std(axis=0, dtype=float)
    return f"{((np.log(np.cosh(S)).mean(axis=0) - normal) ** 2).sum():.6g}"


def by_scikit_learn(X: np.ndarray, k: int, whiten_solver: str) -> np.ndarray:
    return FastICA(k, whiten="unit-variance", whiten_solver=whiten_solver, **SETTINGS).fit_transform(X)


def by_hand(X: np.ndarray, k: int) -> np.ndarray:
    """The fast way with scikit-learn: principal components from the covariance first."""
    white = PCA(k, svd_solver="covariance_eigh", whiten=True).fit_transform(X)
    return FastICA(whiten=False, **SETTINGS).fit_transform(white)


def by_hyperspy(X: np.ndarray, k: int) -> np.ndarray:
    s = signal(X)
    s.decomposition(algorithm="SVD", output_dimension=k, centre="navigation", print_info=False)
    how = {"algorithm": "sklearn_fastica", "on_loadings": True, "diff_order": 0, "print_info": False}
    s.blind_source_separation(k, **how, **SETTINGS)
    return s.learning_results.bss_loadings


def race(X: np.ndarray, k: int, what: str, quality: Callable[[np.ndarray], str], name: str, slow: bool) -> Race:
    """`slow`: with those who take an SVD of all of X."""
    n, d = X.shape
    contenders = [
        Contender("stemseg-core", lambda: ICA(k, **SETTINGS).fit_transform(X)),
        Contender("scikit-learn, PCA, then FastICA", lambda: by_hand(X, k)),
        Contender("scikit-learn, FastICA, eigh", lambda: by_scikit_learn(X, k, "eigh")),
    ]
    if slow:
        contenders.append(Contender("scikit-learn, FastICA, svd", lambda: by_scikit_learn(X, k, "svd"), once=True))
        if installed("hyperspy"):
            contenders.append(Contender("HyperSpy, SVD, then FastICA", lambda: by_hyperspy(X, k), once=True))
    return Race(
        f"ICA, {k} components, {what}, {job(X)}",
        contenders,
        work=Work(min(1.0 * n * d * d, 8.0 * n * d * k) + 2.0 * n * d * k, X.nbytes, n * k * X.itemsize),
        quality=quality,
        quality_name=name,
        notes=["The work is that of the reduction to k scores; iterations on these come on top, the same for all."],
    )


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    for n, d, k in ((2000, 60, 5), (4000, 16, 8)) if arguments.quick else ((62_001, 1089, 5), (1_000_000, 64, 8)):
        S, X = mixed(n, d, k)
        yield race(X, k, "mixed sources", amari(S), "Amari distance", slow=d > 2 * k)
    yield race(features(arguments.quick), 4, "windows", negentropy, "negentropy", slow=False)


if __name__ == "__main__":
    main("ica", races, peers=("scikit-learn", "hyperspy"))
