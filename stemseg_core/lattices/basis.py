"""The lattice that explains a set of reflections, and its reduced cell."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray

#: Farthest, in bins of a window, that a reflection lies from its point of the lattice. Twice as much: a superlattice
#: passes for distortion; half: distortion for a superlattice.
TOLERANCE = 0.35
#: Strongest reflections whose sums and differences may be basis vectors. Twice as many: four times the pairs.
GENERATORS = 8
#: Shortest vector of a reciprocal lattice, in bins: cells that a window holds once and a half. Twice as much: large
#: cells are not found; half: stray reflections make larger ones.
SHORTEST = 1.5
#: What a reflection that is not explained costs, relative to what one that is explained saves. Twice as much: where two
#: lattices lie over each other neither is found; half: one stray reflection makes another lattice.
UNEXPLAINED = 0.5
#: Steps of reduction; a basis of two short vectors takes a few.
MOST_STEPS = 64

Vectors = NDArray[np.float64]


def reduced(basis: Vectors) -> Vectors:
    """The reduced basis (2, 2), rows, of the same lattice: the two shortest vectors, the angle between 90 and 120.

    Lagrange's and Gauss's algorithm. The first is the shorter one.
    """
    a, b = basis
    for _ in range(MOST_STEPS):
        if a @ a > b @ b:
            a, b = b, a
        times = np.round((a @ b) / (a @ a))
        if times == 0:
            break
        b = b - times * a
    return np.array([a, -b if a @ b > 0 else b])


def lattice_of(
    points: Vectors, power: NDArray[np.float64]
) -> tuple[Vectors, NDArray[np.intp], NDArray[np.bool_]] | None:
    """The lattice that explains points (q, 2) of that power (q,), the strongest first.

    Returns
    -------
    basis : ndarray of shape (2, 2)
        Rows: reduced basis vectors.
    indices : ndarray of shape (q, 2), int
        Of the points.
    explained : ndarray of shape (q,), bool
        Points within `TOLERANCE` of that point of the lattice. None in place of all three if no two directions are
        explained.

    Notes
    -----
    A point that is explained saves saying where in the cell of area A it lies: log(A / (pi r^2)) for a tolerance r. The
    lattice that saves most is taken, so that a finer one must explain more points than it would by chance. Points
    count by the fourth root of their power: a faint superlattice counts, and what is fainter by far does not outweigh a
    strong reflection. Candidates are all pairs of points, and of sums and differences of the first ones.
    """
    first = points[:GENERATORS]
    both = [first[i] + sign * first[j] for i in range(len(first)) for j in range(i) for sign in (1, -1)]
    vectors = np.array([*points, *both]).reshape(-1, 2)
    vectors = vectors[np.hypot(*vectors.T) >= SHORTEST]
    weights = power**0.25
    best, most = None, 0.0
    for i, a in enumerate(vectors):
        others = vectors[:i]
        areas = np.abs(a[0] * others[:, 1] - a[1] * others[:, 0])
        large = areas > SHORTEST**2
        if not large.any():
            continue
        bases = np.stack([np.broadcast_to(a, others[large].shape), others[large]], axis=1)
        explained = _explained(points, bases)[1]
        saved = (explained @ weights - UNEXPLAINED * ~explained @ weights) * np.log(areas[large] / (pi * TOLERANCE**2))
        for candidate in np.argsort(-saved, kind="stable"):
            if saved[candidate] <= most * (1 + 1e-9):  # of lattices that are the same but for noise, the first
                break
            if np.hypot(*reduced(bases[candidate])[0]) >= SHORTEST:
                best, most = bases[candidate], saved[candidate]
                break
    if best is None:
        return None
    for _ in range(3):
        indices, explained = _explained(points, best)
        if np.linalg.matrix_rank(indices[explained]) < 2:
            return None
        best = reduced(np.linalg.lstsq(indices[explained].astype(float), points[explained], rcond=None)[0])
    indices, explained = _explained(points, best)
    return best, indices, explained


def _explained(points: Vectors, basis: Vectors) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Indices of the nearest points of a lattice, and which are near enough."""
    indices = np.round(points @ np.linalg.inv(basis))
    near: NDArray[np.bool_] = np.linalg.norm(points - indices @ basis, axis=-1) <= TOLERANCE
    return indices.astype(np.intp), near & indices.any(axis=-1)
