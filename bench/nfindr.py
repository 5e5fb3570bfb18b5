"""Races N-FINDR against pysptools, a loop over determinants, and the reduction that all of them begin with."""

import argparse
import random
from collections.abc import Callable, Iterator

import numpy as np
from data import job, wide_features
from harness import Contender, Race, main
from machine import Work, installed
from sklearn.decomposition import PCA

from stemseg_core import NFINDR
from stemseg_core.stages.projections import find_extremes, successive_projections
from stemseg_core.stages.simplex import Search
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import one_blas_thread

#: Rows after which the loop is stopped that takes a determinant for each row and component.
LOOP_ROWS = 2000


def prepared(P: np.ndarray) -> np.ndarray:
    return np.hstack([np.ones((len(P), 1)), P / P.std(axis=0)])


def loop(Z: np.ndarray, k: int) -> np.ndarray:
    """Our search alone, from one start, as pysptools has it: no principal components, no restarts."""
    search = Search(Z, lambda W: find_extremes(Z, W, Execution.of()))
    with one_blas_thread():
        search.start(successive_projections(Z, k), 1, np.random.RandomState(0))
        search.improve(100, 0, np.random.RandomState(0))
    return search.best()


def by_pysptools(X: np.ndarray, k: int) -> np.ndarray:
    """Sweeps of determinants from a random start, until the volume stays; X is reduced to k - 1 components first."""
    import pysptools_shim  # noqa: F401, PLC0415
    from pysptools.eea.nfindr import NFINDR as Sweeps  # noqa: N811, PLC0415

    random.seed(0)
    return Sweeps(X, k)[2]


def sweep(P: np.ndarray, k: int) -> np.ndarray:
    """One sweep as it is usually written: every row tried in every place."""
    chosen = np.arange(k)
    E = np.vstack([np.ones(k), P[:k].T])
    volume = abs(np.linalg.det(E))
    for i, j in np.ndindex(len(P), k):
        trial = E.copy()
        trial[1:, j] = P[i]
        larger = abs(np.linalg.det(trial))
        if larger > volume:
            E, volume, chosen[j] = trial, larger, i
    return chosen


def scores(X: np.ndarray, k: int) -> np.ndarray:
    return PCA(k - 1, svd_solver="covariance_eigh").fit_transform(X).astype(float)


def volume(P: np.ndarray) -> Callable[[np.ndarray], str]:
    """``|det [1; P]|`` of the rows found, the same measure for all."""
    return lambda rows: f"{abs(np.linalg.det(np.vstack([np.ones(len(rows)), P[rows].T]))):.5g}"


def search(P: np.ndarray, k: int) -> Race:
    """The loop: the rows are scores already."""
    Z, part = prepared(P), P[: max(k + 1, LOOP_ROWS)]
    contenders = [
        Contender("stemseg-core, loop alone, one start", lambda: loop(Z, k)),
        Contender("stemseg-core, whole fit, ten starts", lambda: NFINDR(k, random_state=0).fit(P).indices_),
        Contender("determinants, one sweep, one start", lambda: sweep(part, k), min(1.0, len(part) / len(P))),
    ]
    if installed("pysptools"):
        contenders.append(Contender("pysptools, one start", lambda: by_pysptools(P, k), once=True))
    return Race(
        f"N-FINDR, {k} components, reduced scores of {job(P)}",
        contenders,
        work=Work(2.0 * P.size * k, P.nbytes),
        quality=volume(P),
        quality_name="volume",
        notes=["The work is that of one pass, which scores every row for every vertex; a search needs some."],
    )


def whole(X: np.ndarray, P: np.ndarray, k: int) -> Race:
    """The whole job: reduction and search."""
    contenders = [
        Contender("stemseg-core, ten starts", lambda: NFINDR(k, n_init=10, random_state=0).fit(X).indices_),
        Contender("scikit-learn, PCA alone", lambda: scores(X, k)),
    ]
    if installed("pysptools"):
        contenders.append(Contender("pysptools, one start", lambda: by_pysptools(X, k), once=True))
    return Race(
        f"N-FINDR, {k} components, {job(X)}",
        contenders,
        quality=lambda found: volume(P)(found) if found.ndim == 1 else "",
        quality_name="volume",
        notes=["PCA makes the scores that the usual implementations begin with, and nothing more."],
    )


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = wide_features(arguments.quick)
    for k in (3, 5, 10):
        P = scores(X, k)
        yield search(P, k)
        yield whole(X, P, k)


if __name__ == "__main__":
    main("nfindr", races, peers=("scikit-learn", "pysptools"))
