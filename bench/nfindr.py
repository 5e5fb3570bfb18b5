"""Races N-FINDR against the determinant loop of the usual implementations, and against the reduction it begins with."""

import argparse
from collections.abc import Iterator

import numpy as np
from data import features, job
from harness import Contender, Race, main
from sklearn.decomposition import PCA

from stemseg_core import NFINDR

#: Rows after which a peer is stopped that takes a determinant for each row and component.
LOOP_ROWS = 2000


def determinant_loop(P: np.ndarray, k: int) -> np.ndarray:
    """Winter's algorithm as it is usually written: every row tried in every place, until a sweep changes nothing."""
    chosen = np.random.default_rng(0).choice(len(P), k, replace=False)
    E = np.vstack([np.ones(k), P[chosen].T])
    volume = abs(np.linalg.det(E))
    changed = True
    while changed:
        changed = False
        for i, j in np.ndindex(len(P), k):
            trial = E.copy()
            trial[1:, j] = P[i]
            larger = abs(np.linalg.det(trial))
            if larger > volume:
                E, volume, changed, chosen[j] = trial, larger, True, i
    return chosen


def races_of(X: np.ndarray, k: int) -> Iterator[Race]:
    P = PCA(k - 1, svd_solver="covariance_eigh").fit_transform(X).astype(float)
    yield against_loop(P[:: max(1, len(P) // LOOP_ROWS)], k)
    yield Race(
        f"N-FINDR, {k} components, {job(X)}",
        [
            Contender("stemseg-core, ten starts", lambda: NFINDR(k, n_init=10, random_state=0).fit(X).indices_),
            Contender("scikit-learn, PCA alone", lambda: PCA(k - 1, svd_solver="covariance_eigh").fit_transform(X)),
        ],
        notes=["The second makes the scores that the usual implementations begin with, and nothing more."],
    )


def against_loop(P: np.ndarray, k: int) -> Race:
    def volume(indices: np.ndarray) -> str:
        return f"{abs(np.linalg.det(np.vstack([np.ones(k), P[indices].T]))):.5g}"

    return Race(
        f"N-FINDR, {k} components, scores of {job(P)}",
        [
            Contender("stemseg-core, ten starts", lambda: NFINDR(k, n_init=10, random_state=0).fit(P).indices_),
            Contender("determinant loop, one start", lambda: determinant_loop(P, k)),
        ],
        quality=volume,
        quality_name="volume",
    )


def search(X: np.ndarray, k: int) -> Race:
    """The loop alone: the rows are scores already."""
    P = PCA(k - 1, svd_solver="covariance_eigh").fit_transform(X).astype(float)
    contenders = [Contender("stemseg-core, ten starts", lambda: NFINDR(k, random_state=0).fit(P).indices_)]
    share = min(1.0, LOOP_ROWS / len(P))
    part = P[: max(k + 1, int(share * len(P)))]
    contenders.append(Contender("determinants, one sweep, one start", lambda: sweep(part, k), share))
    return Race(
        f"N-FINDR, {k} components, search alone, scores of {job(P)}",
        contenders,
        notes=["One sweep tries every row in every place once, as pysptools does; it needs several to end."],
    )


def sweep(P: np.ndarray, k: int) -> float:
    """One sweep of the determinant loop."""
    E = np.vstack([np.ones(k), P[:k].T])
    volume = abs(np.linalg.det(E))
    for i, j in np.ndindex(len(P), k):
        trial = E.copy()
        trial[1:, j] = P[i]
        larger = abs(np.linalg.det(trial))
        if larger > volume:
            E, volume = trial, larger
    return float(volume)


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = features(arguments.quick)
    for k in (3, 5, 10):
        yield search(X, k)
        yield from races_of(X, k)


if __name__ == "__main__":
    main("nfindr", races, peers=("scikit-learn",))
