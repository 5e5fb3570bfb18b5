"""The search of N-FINDR: rows that span the largest simplex."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemseg_core.stages.projections import Extremes, FindExtremes, random_projections
from stemseg_core.system.types import Array

#: A vertex is replaced only if the volume grows by more than this factor. Rounding is less, and cannot make the search
#: go in circles. Ten times the difference from 1: simplices that could still grow by that little are taken as largest.
GROWTH = 1 + 1e-10
#: Perturbations of the largest simplex in a round, for each start. Twice as many: rounds take twice as long, and find
#: the largest simplex more often where components are many.
PERTURBATIONS = 20
#: Vertices that a perturbation moves, in turns. More of them: a simplex farther from the one it came from.
MOVED_VERTICES = (3, 4)
#: A perturbed simplex is not tried if its log volume is smaller than the largest one by more than this: it is too flat
#: for rounding. Twice as much: more tries, of the worst.
FLAT = 20.0


class Ascent(NamedTuple):
    """How a search ended."""

    n_iter: int  # passes over all rows
    converged: bool  # whether no single replacement enlarges any simplex


class Search:
    """Simplices of several starts, improved together from a pool of rows that were extreme in some direction.

    Parameters
    ----------
    Z : ndarray of shape (n, k)
        ``[1, scores]`` of all rows.
    find : callable
        From columns W (k, m) to `Extremes` of all rows: a pass over them.
    """

    def __init__(self, Z: Array, find: FindExtremes) -> None:
        self.Z, self.find = Z, find
        self.pool: NDArray[np.intp] = np.empty(0, np.intp)
        self.simplices: list[NDArray[np.intp]] = []

    def start(self, first: NDArray[np.intp], n_init: int, random_state: np.random.RandomState) -> None:
        """From a first simplex; then, in the pool of rows extreme along random directions, random projections."""
        k = len(first)
        self.simplices = [first]
        self.pool = np.unique(first)
        if n_init == 1:
            return
        self._add_to_pool(self.find(random_state.standard_normal((k, (n_init - 1) * k))).rows)
        points = self.Z[self.pool]
        directions = random_state.standard_normal((n_init - 1, k, k))
        self.simplices += list(self.pool[random_projections(points, directions, lambda W: _extremes_of(points, W))])

    def improve(self, max_iter: int, n_perturbations: int, random_state: np.random.RandomState) -> Ascent:
        """Ascend; then perturb the largest simplex and ascend again, while that finds a larger one."""
        n_iter, converged = self._ascend(max_iter)
        while converged and n_perturbations and n_iter < max_iter:
            largest = self.best()
            perturbed = self._perturbed(largest, n_perturbations, random_state)
            if np.array_equal(perturbed, largest):
                break
            self.simplices = [perturbed]
            more, converged = self._ascend(max_iter - n_iter)
            n_iter += more
        return Ascent(n_iter, converged)

    def _perturbed(
        self, simplex: NDArray[np.intp], n_perturbations: int, random_state: np.random.RandomState
    ) -> NDArray[np.intp]:
        """The largest simplex found by moving a few vertices to random rows of a larger pool, and ascending in it."""
        k = len(simplex)
        self._add_to_pool(self.find(random_state.standard_normal((k, n_perturbations // PERTURBATIONS * k))).rows)
        points = self.Z[self.pool]
        largest = np.searchsorted(self.pool, simplex)
        volume = log_volume(points[largest])
        for i in range(n_perturbations):
            m = MOVED_VERTICES[i % len(MOVED_VERTICES)]
            moved = largest.copy()
            moved[random_state.choice(len(moved), m, replace=False)] = random_state.choice(len(points), m)
            if log_volume(points[moved]) < volume - FLAT:
                continue
            moved = _enlarge(points, moved)
            found = log_volume(points[moved])
            if found > volume + np.log(GROWTH):
                largest, volume = moved, found
        return np.sort(self.pool[largest])

    def _ascend(self, max_iter: int) -> Ascent:
        """Enlarge the simplices until no single row enlarges any of them."""
        for n_iter in range(1, max_iter + 1):
            points = self.Z[self.pool]
            enlarged = [self.pool[_enlarge(points, np.searchsorted(self.pool, s))] for s in self.simplices]
            self.simplices = list({tuple(np.sort(s)): np.sort(s) for s in enlarged}.values())
            growth, rows = self.find(np.hstack([inverse(self.Z[s]) for s in self.simplices]))
            # A row of the pool that seems to enlarge a simplex does so by rounding only.
            if not self._add_to_pool(rows[growth > GROWTH]):
                return Ascent(n_iter, True)
        return Ascent(max_iter, False)

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


def largest_of(Z: Array, simplices: Iterable[NDArray[np.intp]]) -> NDArray[np.intp]:
    """Of simplices, rows of Z each, the largest; the first of equals."""
    simplices = list(simplices)
    return simplices[int(np.argmax([log_volume(Z[s]) for s in simplices]))]


def _enlarge(points: Array, vertices: NDArray[np.intp]) -> NDArray[np.intp]:
    """Replace a vertex by a point, the pair that enlarges the simplex most, until no pair enlarges it."""
    vertices = vertices.copy()
    while True:
        growth = np.abs(points @ inverse(points[vertices]))
        p, j = np.unravel_index(growth.argmax(), growth.shape)
        if growth[p, j] <= GROWTH:
            return vertices
        vertices[j] = p


def _extremes_of(points: Array, W: Array) -> Extremes:
    """`Extremes` of a few points."""
    sizes = np.abs(points @ W)
    return Extremes(sizes.max(axis=0), sizes.argmax(axis=0))
