"""The search of N-FINDR: rows that span the largest simplex."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.stages.projections import Extremes, random_projections

Array = NDArray[Any]

#: A vertex is replaced only if the volume grows by more than this factor, so that rounding cannot go in circles.
GROWTH = 1 + 1e-10
#: From the largest simplex found: tries a start in one round, and vertices that each one moves.
SHAKES, SHAKEN = 20, (3, 4)
#: Log volume below the largest one at which a simplex is too flat to start from.
FLAT = 20.0


class Search:
    """Simplices of several starts, improved together from a pool of rows that were extreme in some direction.

    Parameters
    ----------
    Z : ndarray of shape (n, k)
        ``[1, scores]`` of all rows.
    extremes : callable
        The pass over them, see `Extremes`.
    """

    def __init__(self, Z: Array, extremes: Extremes) -> None:
        self.Z, self.extremes = Z, extremes
        self.pool: NDArray[np.intp] = np.empty(0, np.intp)
        self.simplices: list[NDArray[np.intp]] = []

    def start(self, first: NDArray[np.intp], n_init: int, random_state: np.random.RandomState) -> None:
        """From a first simplex; then, in the pool of rows extreme along random directions, random projections."""
        k = len(first)
        self.simplices = [first]
        self.pool = np.unique(first)
        if n_init == 1:
            return
        self._add_to_pool(self.extremes(random_state.standard_normal((k, (n_init - 1) * k)))[1])
        points = self.Z[self.pool]
        directions = random_state.standard_normal((n_init - 1, k, k))
        self.simplices += list(self.pool[random_projections(points, directions, lambda W: _extremes_of(points, W))])

    def improve(self, max_iter: int, n_shakes: int, random_state: np.random.RandomState) -> tuple[int, bool]:
        """Ascend; then shake the largest simplex and ascend again, while that finds a larger one."""
        n_iter, converged = self._ascend(max_iter)
        while converged and n_shakes and n_iter < max_iter:
            largest = self.best()
            shaken = self._shaken(largest, n_shakes, random_state)
            if np.array_equal(shaken, largest):
                break
            self.simplices = [shaken]
            more, converged = self._ascend(max_iter - n_iter)
            n_iter += more
        return n_iter, converged

    def _shaken(self, simplex: NDArray[np.intp], n_shakes: int, random_state: np.random.RandomState) -> Array:
        """The largest simplex found in a larger pool by moving a few vertices to random places and enlarging it."""
        k = len(simplex)
        self._add_to_pool(self.extremes(random_state.standard_normal((k, n_shakes // SHAKES * k)))[1])
        points = self.Z[self.pool]
        largest = np.searchsorted(self.pool, simplex)
        volume = log_volume(points[largest])
        for i in range(n_shakes):
            m = SHAKEN[i % len(SHAKEN)]
            moved = largest.copy()
            moved[random_state.choice(len(moved), m, replace=False)] = random_state.choice(len(points), m)
            if log_volume(points[moved]) < volume - FLAT:
                continue
            moved = _enlarge(points, moved)
            found = log_volume(points[moved])
            if found > volume + np.log(GROWTH):
                largest, volume = moved, found
        return np.sort(self.pool[largest])

    def _ascend(self, max_iter: int) -> tuple[int, bool]:
        """Enlarge the simplices until no row does; passes over all rows, and whether that was reached."""
        for n_iter in range(1, max_iter + 1):
            points = self.Z[self.pool]
            enlarged = [self.pool[_enlarge(points, np.searchsorted(self.pool, s))] for s in self.simplices]
            self.simplices = list({tuple(np.sort(s)): np.sort(s) for s in enlarged}.values())
            growth, rows = self.extremes(np.hstack([inverse(self.Z[s]) for s in self.simplices]))
            # A row of the pool that seems to enlarge a simplex does so by rounding only.
            if not self._add_to_pool(rows[growth > GROWTH]):
                return n_iter, True
        return max_iter, False

    def best(self) -> NDArray[np.intp]:
        """Rows of the largest simplex, the first of equals."""
        return largest_of(self.Z, self.simplices)

    def _add_to_pool(self, rows: NDArray[np.intp]) -> bool:
        """Whether any of the rows is new."""
        before = len(self.pool)
        self.pool = np.union1d(self.pool, rows)
        return len(self.pool) > before


def log_volume(vertices: Array) -> float:
    """Logarithm of (k - 1)! times the volume of vertices (k, k), ``[1, scores]``."""
    return float(np.linalg.slogdet(vertices)[1])


def inverse(vertices: Array) -> Array:
    """W such that ``z W`` are the barycentric coordinates of z = [1, y]."""
    return np.linalg.inv(vertices)


def largest_of(Z: Array, simplices: Any) -> NDArray[np.intp]:
    """Of simplices, rows of Z each, the largest; the first of equals."""
    largest: NDArray[np.intp] = simplices[int(np.argmax([log_volume(Z[s]) for s in simplices]))]
    return largest


def _enlarge(points: Array, vertices: NDArray[np.intp]) -> NDArray[np.intp]:
    """Replace the vertex by the point that together enlarge the simplex most, while any does."""
    vertices = vertices.copy()
    while True:
        growth = np.abs(points @ inverse(points[vertices]))
        p, j = np.unravel_index(growth.argmax(), growth.shape)
        if growth[p, j] <= GROWTH:
            return vertices
        vertices[j] = p


def _extremes_of(points: Array, W: Array) -> tuple[Array, Array]:
    """`Extremes` of a few points."""
    sizes = np.abs(points @ W)
    return sizes.max(axis=0), sizes.argmax(axis=0)
