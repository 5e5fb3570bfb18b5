"""Races NMF against scikit-learn, SPAMS and HyperSpy: as they stop, and until they are as good as ours."""

import argparse
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from data import job, wide_features
from harness import Contender, Race, Timed, main
from hyperspy_signal import signal
from machine import Work, installed
from sklearn.decomposition import non_negative_factorization

from stemseg_core import NMF, abundances

#: Relative difference of two errors that counts as none.
EQUAL = 1e-5
#: Seconds after which a peer is stopped that is not as good yet.
LIMIT = 45
#: Iterations of scikit-learn from one look at the error to the next, and of SPAMS before the first.
LAP = 25


def until(laps: Iterator[Any], reached: Callable[[Any], float], target: float, limit: float) -> Timed:
    """The time of laps until the error is `target`, or until they have taken `limit` seconds: looking is not timed."""
    seconds, found = 0.0, np.inf  # the best so far: minibatches may also go up
    while found > target * (1 + EQUAL) and seconds < limit:
        start = time.perf_counter()
        state = next(laps)
        seconds += time.perf_counter() - start
        found = min(found, reached(state))
    return Timed(found, seconds)


def scikit_learn(X: np.ndarray, k: int, iterations: int, tol: float, **start: Any) -> tuple[np.ndarray, np.ndarray]:
    start = start or {"init": "nndsvda"}
    W, H, _ = non_negative_factorization(X, n_components=k, max_iter=iterations, tol=tol, random_state=0, **start)
    return W, H


def scikit_learn_laps(X: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Coordinate descent has no state but W and H, so that it can be interrupted."""
    W, H = scikit_learn(X, k, LAP, 0)
    while True:
        yield W, H
        W, H = scikit_learn(X, k, LAP, 0, init="custom", W=W, H=H)


def by_spams(X: np.ndarray, k: int, iterations: int) -> np.ndarray:
    """The dictionary alone, by online learning (Mairal et al., 2010) with default minibatches.

    On one thread: on two it took three to forty times as long, with one of them idle.
    """
    import spams  # noqa: PLC0415 (only where it is installed)

    return np.ascontiguousarray(spams.nmf(X.T, K=k, iter=iterations, numThreads=1).T)


def spams_laps(X: np.ndarray, k: int, batchsize: int) -> Iterator[np.ndarray]:
    """What `spams.nmf` does, interrupted whenever half as many minibatches as before were added."""
    import spams  # noqa: PLC0415

    settings = {"mode": spams.spams_wrap.PENALTY, "lambda1": 0.0, "posAlpha": True, "posD": True, "whiten": False}
    settings |= {"K": k, "batchsize": batchsize, "numThreads": 1, "return_model": True, "verbose": False}
    state = {"D": None, "model": None}
    seen = 0
    while True:
        more = max(LAP, seen // 2)
        D, model = spams.trainDL(X.T, iter=more, **settings, **state)
        state = {"D": D, "model": model}
        seen += more
        yield np.ascontiguousarray(D.T)


def by_hyperspy(X: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn with its default settings."""
    s = signal(X)
    s.decomposition(algorithm="NMF", output_dimension=k, print_info=False)
    return s.learning_results.loadings, s.learning_results.factors.T


def race(X: np.ndarray, k: int, limit: float, hyperspy: bool) -> Race:
    n, d = X.shape
    model = NMF(k, random_state=0).fit(X)
    target = relative_error(X, model.components_)

    def reach(laps: Callable[[], Iterator[Any]]) -> Callable[[], Timed]:
        return lambda: until(laps(), lambda found: relative_error(X, found), target, limit)

    as_good = f"until as good as ours, {limit:g} s at most"
    contenders = [
        Contender("stemseg-core", lambda: NMF(k, random_state=0).fit(X).components_),
        Contender("scikit-learn, cd, as it stops", lambda: scikit_learn(X, k, 200, 1e-4), once=True),
        Contender(f"scikit-learn, cd, {as_good}", reach(lambda: scikit_learn_laps(X, k)), once=True),
    ]
    if installed("spams-bin"):
        contenders += [
            Contender("spams, 20 default minibatches", lambda: by_spams(X, k, 20)),
            Contender("spams, 400 default minibatches", lambda: by_spams(X, k, 400)),
            # Of minibatches of 16 to 4096 rows, these came nearest in the same time.
            Contender(f"spams, minibatches of 16, {as_good}", reach(lambda: spams_laps(X, k, 16)), once=True),
            Contender(f"spams, minibatches of 64, {as_good}", reach(lambda: spams_laps(X, k, 64)), once=True),
        ]
    if hyperspy and installed("hyperspy"):
        contenders.append(Contender("HyperSpy, decomposition", lambda: by_hyperspy(X, k), once=True))
    passes = 4 + model.n_iter_
    return Race(
        f"NMF, {k} components, {job(X)}",
        contenders,
        work=Work(4.0 * n * d * k * passes, X.nbytes * passes),
        quality=lambda found: f"{relative_error(X, found):.7f}",
        quality_name="relative error",
        notes=[
            f"The work is that of our {passes} passes over X. stemseg-core and spams are asked for components only "
            "and rated with the best amounts for them.",
        ],
    )


def relative_error(X: np.ndarray, found: Any) -> float:
    """Of the error itself, of components, or of amounts and components."""
    if isinstance(found, float):
        return found
    W, H = found if isinstance(found, tuple) else (None, found)
    W = abundances(X, H, constraint="nnls") if W is None else W
    squares = energy = 0.0
    for start in range(0, len(X), 4096):
        part = X[start : start + 4096].astype(float)
        energy += np.vdot(part, part)
        part -= W[start : start + 4096].astype(float) @ H
        squares += np.vdot(part, part)
    return float(np.sqrt(squares / energy))


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = wide_features(arguments.quick)
    for k in (3, 5, 10):
        yield race(X, k, 0.1 if arguments.quick else LIMIT, hyperspy=k == 3)


if __name__ == "__main__":
    main("nmf", races, peers=("scikit-learn", "spams-bin", "hyperspy"))
