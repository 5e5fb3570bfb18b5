"""Races abundances against pysptools, a loop of scipy's nnls, and spams."""

import argparse
from collections.abc import Iterator

import numpy as np
from data import features, job
from harness import Contender, Race, main
from machine import Work, installed
from scipy.optimize import nnls

from stemseg_core import NFINDR, abundances

try:
    import spams
except ImportError:
    spams = None

#: Rows after which a peer is stopped that takes a call for each of them.
LOOP_ROWS = 2000


def by_nnls(X: np.ndarray, E: np.ndarray, constraint: str) -> np.ndarray:
    """The usual loop; the sum is one by a heavy row of ones (Heinz and Chang, 2001)."""
    heavy = 1e3 * np.abs(E).max() * (constraint == "fcls")
    A = np.vstack([E.T, np.full(len(E), heavy)])
    return np.array([one_row(A, np.append(x, heavy)) for x in X])


def one_row(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    try:
        return nnls(A, b)[0]
    except RuntimeError:  # scipy 1.12 gives up on some rows: its error is then NaN in the table
        return np.full(A.shape[1], np.nan)


def by_spams(X: np.ndarray, E: np.ndarray) -> np.ndarray:
    """Decomposition on the simplex by active sets (Chen, Mairal and Harchaoui, 2014)."""
    found = spams.decompSimplex(np.asfortranarray(X.T, float), np.asfortranarray(E.T, float), False, -1)
    return found.toarray().T


def by_pysptools(X: np.ndarray, E: np.ndarray, constraint: str) -> np.ndarray:
    """Its functions as they are; FCLS needs cvxopt, and NNLS minimises the error of the normal equations."""
    import pysptools_shim  # noqa: F401, PLC0415
    from pysptools.abundance_maps import amaps  # noqa: PLC0415

    return getattr(amaps, constraint.upper())(X, E)


def race(X: np.ndarray, E: np.ndarray, constraint: str, space: str) -> Race:
    (n, d), k = X.shape, len(E)
    some = X[:LOOP_ROWS]

    def error(found: np.ndarray) -> str:
        m = min(len(found), len(some))
        return f"{np.linalg.norm(some[:m] - found[:m].astype(float) @ E) / np.linalg.norm(some[:m]):.6f}"

    contenders = [Contender("stemseg-core", lambda: abundances(X, E, constraint=constraint))]
    if constraint == "ucls":
        contenders.append(Contender("NumPy, lstsq", lambda: np.linalg.lstsq(E.T, X.T)[0].T))
    else:
        contenders.append(
            Contender("scipy nnls, one row at a time", lambda: by_nnls(some, E, constraint), len(some) / n)
        )
    if spams is not None and constraint == "fcls":
        contenders.append(Contender("spams, decompSimplex", lambda: by_spams(X, E)))
    if installed("pysptools") and (constraint != "fcls" or installed("cvxopt")):
        rows = X if constraint == "ucls" else some
        name = f"pysptools, {constraint.upper()}"
        contenders.append(Contender(name, lambda: by_pysptools(rows, E, constraint), len(rows) / n))
    return Race(
        f"{constraint}, {k} components, {job(X)}, {space}",
        contenders,
        units=n,
        unit="row",
        work=Work(2.0 * n * d * k, X.nbytes, n * k * X.itemsize),
        quality=error,
        quality_name="relative error",
        notes=[f"Error of the first {len(some)} rows. The roofline is that of the product X E' and of reading X."],
    )


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    X = features(arguments.quick)
    for k in (3, 5, 10):
        E = NFINDR(k, random_state=0).fit(X).components_
        basis, reduced = np.linalg.qr(E.T.astype(float))
        P, R = np.ascontiguousarray(X @ basis.astype(X.dtype)), np.ascontiguousarray(reduced.T.astype(X.dtype))
        for constraint in ("ucls", "nnls", "fcls"):
            yield race(P, R, constraint, "reduced data")
        yield race(X, E, "fcls", "full rows")


if __name__ == "__main__":
    main("abundances", races, peers=("spams-bin", "pysptools", "cvxopt"))
