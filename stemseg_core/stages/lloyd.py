"""Lloyd's iteration over a row source: assignments that are proved, sums that only follow what changed.

`stemseg_core.stages.kmeans` is the estimator; this is what it, and the segmentation of scores, run on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemseg_core._kernels.kmeans import (
    PANEL_LANES,
    TILE_ROWS,
    accumulate_block,
    assign_block,
    distances_block,
    own_distances_block,
)
from stemseg_core.rows.blocks import refuse_non_finite, take_rows
from stemseg_core.rows.products import as_columns
from stemseg_core.rows.sources import Rows
from stemseg_core.rows.transitional import refuse_too_small, run
from stemseg_core.system.merging import add
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Partial

Array = NDArray[Any]

#: Centres that `distances_block` takes at a time.
DISTANCE_LANES = 8
#: Blocks of an array that an assignment takes as one.
BLOCKS = 8
#: Changed rows, for each cluster, that sums over all clusters are made for.
WAITING_ROWS = 4


@dataclass(frozen=True, eq=False)
class Clustering:
    """Centres and the partition by them.

    Attributes
    ----------
    centers : ndarray of shape (k, d)
        In the type of the rows.
    labels : ndarray of shape (n,), int32
        Nearest centre of each row as float64 distances have it, ties to the smallest index.
    inertia : float
        Sum of the squared distances of the rows to their centres, in float64.
    n_iter : int
        Iterations run.
    converged : bool
        Whether no label changed, or the centres moved less than `tol` allows, before `max_iter` ended it.
    """

    centers: Array
    labels: NDArray[np.int32]
    inertia: float
    n_iter: int
    converged: bool


class Assignment:
    """The labels of rows as the centres move, and the sums and counts of the clusters.

    Each row keeps a lower bound on how much farther its second nearest centre is. Until the centres have moved that
    far its label cannot change, and the row is not looked at; sums follow the rows whose label changed.
    Memory: 8 (float32) or 12 bytes a row.

    Parameters
    ----------
    rows : Rows
    k : int
    **options
        ``n_jobs``, ``progress`` and ``stage`` of `run`.
    """

    def __init__(self, rows: Rows, k: int, **options: Any) -> None:
        n, d = rows.shape
        # In blocks of some megabytes, so that threads meet at the interpreter less often: `assign_block` takes each row
        # once, and keeps what it uses again in the cache by itself.
        self.rows = rows.in_larger_blocks(BLOCKS)
        self.options = options
        # Any point amid the data will do: it takes away a common offset, in which float32 products would drown.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = rows.reader()(0).mean(axis=0, dtype=np.float64)
        # Where it is not finite, neither are the rows, which the first pass finds.
        self.origin = np.nan_to_num(mean, nan=0.0, posinf=0.0, neginf=0.0).astype(rows.dtype)
        self.labels = np.full(n, -1, np.int32)
        self.gaps = np.zeros(n, rows.dtype)
        self.sums = np.zeros((k, d))
        self.counts = np.zeros(k, np.int64)
        self.centers: Array | None = None
        self.variance = 0.0
        self.busy = True

    def assign(self, centers: Array) -> int:
        """Label the rows with the nearest of `centers` (k, d); returns how many labels changed."""
        first = self.centers is None
        targets = _targets(centers, self.origin)
        moves = np.zeros(len(centers)) if self.centers is None else _moves(self.centers, centers)
        along = self.labels, self.gaps
        merge = partial(_merge, k=len(centers), origin=self.origin)
        options = self.options if self.busy else self.options | {"n_jobs": 1}
        changes = run(_assign, self.rows, targets, moves, along=along, out=along, merge=merge, **options)
        n_touched, n_changed, energy, waiting, sums, counts = changes
        if sums is not None:
            self.sums += sums
            self.counts += counts
        _move(waiting, self.origin, self.sums, self.counts)
        # Threads would mostly wait for the interpreter where the kernel has little to do: rows touched fall slowly.
        self.busy = n_touched > self.rows.shape[0] // 8
        self.sums[self.counts == 0] = 0.0  # without the rounding of rows that came and went
        self.centers = centers
        if first:
            n, d = self.rows.shape
            refuse_too_small(self.rows, energy, self.origin, **self.options)
            mean = self.sums.sum(axis=0) / n
            self.variance = max(0.0, float(energy / n - mean @ mean)) / d
        return int(n_changed)

    def means(self) -> Array:
        """Centres of the clusters, in the type of the rows.

        Empty clusters are put on the rows farthest from their centres, ties by row number, as far as any are apart.
        """
        assert self.centers is not None
        sums, counts = self.sums.copy(), self.counts.copy()
        means = self.centers.astype(np.float64) - self.origin
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            distances = own_distances(self.rows, self.centers, self.labels, **self.options)
            farthest = np.argsort(-distances, kind="stable")[: len(empty)]
            farthest = farthest[distances[farthest] > 0]
            taken = take_rows(self.rows, farthest).astype(np.float64) - self.origin
            for row, x, cluster in zip(farthest, taken, empty, strict=False):
                sums[self.labels[row]] -= x
                counts[self.labels[row]] -= 1
                sums[cluster], counts[cluster] = x, 1
        filled = counts > 0
        means[filled] = sums[filled] / counts[filled, None]
        centers: Array = (means + self.origin).astype(self.rows.dtype)
        return centers


def lloyd(rows: Rows, centers: Array, *, max_iter: int = 300, tol: float = 1e-4, **options: Any) -> Clustering:
    """Lloyd's iteration from `centers` (k, d) until no label changes, as scikit-learn does it.

    Parameters
    ----------
    rows : Rows
    centers : ndarray of shape (k, d)
    max_iter : int
    tol : float
        Stop also when the squared moves of the centres sum to no more than this times the mean variance of a feature.
    **options
        ``n_jobs``, ``progress`` and ``stage`` of `run`.

    Returns
    -------
    Clustering
        Labels and inertia are always those of the centres returned, however it ended.

    References
    ----------
    S. P. Lloyd, Least squares quantization in PCM, IEEE Trans. Inf. Theory 28 (1982) 129, 10.1109/TIT.1982.1056489.
    """
    centers = np.ascontiguousarray(centers, rows.dtype)
    with one_blas_thread():  # once, not in every pass
        assignment = Assignment(rows, len(centers), **options)
        converged = False
        n_iter = 0
        while n_iter < max_iter:
            n_iter += 1
            if not assignment.assign(centers):
                converged = True
                break
            old, centers = centers, assignment.means()
            if ((centers.astype(np.float64) - old) ** 2).sum() <= tol * assignment.variance:
                converged = True
                assignment.assign(centers)
                break
        else:
            assignment.assign(centers)
        inertia = float(
            run(_inertia, assignment.rows, centers.astype(np.float64), along=(assignment.labels,), **options)[0]
        )
    return Clustering(centers, assignment.labels, inertia, n_iter, converged)


def nearest(rows: Rows, centers: Array, **options: Any) -> tuple[NDArray[np.int32], float]:
    """Index of the nearest of `centers` (k, d) for each row, ties to the smallest, and the sum of squared distances.

    The labels are those of float64 distances, whatever the types of rows and centres.
    """
    dtype = np.result_type(rows.dtype, centers.dtype)
    labels = np.empty(rows.shape[0], np.int32)
    origin = centers.mean(axis=0, dtype=np.float64).astype(dtype)
    total = run(
        _nearest, rows.in_larger_blocks(BLOCKS), _targets(centers.astype(dtype), origin), out=(labels,), **options
    )
    return labels, float(total[0])


def distances_to(rows: Rows, centers: Array, **options: Any) -> Array:
    """Distances (n, k) of the rows to `centers` (k, d): computed in float64, in the type of the rows."""
    out = np.empty((rows.shape[0], len(centers)), rows.dtype)
    run(_distances, rows, distance_columns(centers), len(centers), out=(out,), **options)
    return out


def own_distances(rows: Rows, centers: Array, labels: Array, **options: Any) -> NDArray[np.float64]:
    """Squared distance (n,) of each row to the centre of its label."""
    out = np.empty(rows.shape[0])
    run(_own_distances, rows, centers.astype(np.float64), along=(labels,), out=(out,), **options)
    return out


def _moves(old: Array, new: Array) -> NDArray[np.float64]:
    """For each centre its own way plus the longest way of another: what a gap shrinks by at most."""
    way = np.sqrt(((new.astype(np.float64) - old) ** 2).sum(axis=1)) * (1 + 1e-9)
    longest = np.full(len(way), way.max())
    first = way.argmax()
    longest[first] = np.delete(way, first).max(initial=0.0)
    return np.asarray(way + longest)


class _Targets(NamedTuple):
    """Centres (k, d) as `assign_block` takes them: relative to the origin as columns, and in float64."""

    origin: Array
    exact: NDArray[np.float64]
    columns: Array
    half_norms: NDArray[np.float64]


def _targets(centers: Array, origin: Array) -> _Targets:
    exact = centers.astype(np.float64)
    relative = exact - origin
    columns = as_columns(relative, centers.dtype, PANEL_LANES)
    return _Targets(origin, exact, columns, (relative**2).sum(axis=1) / 2)


def distance_columns(centers: Array) -> Array:
    """Centres (k, d) as `squared_distances` takes them."""
    return as_columns(centers, np.float64, DISTANCE_LANES)


def squared_distances(block: Array, columns: Array, k: int) -> NDArray[np.float64]:
    """Squares (m, k) of the distances of the rows of a block to k centres, by explicit differences."""
    squares = np.empty((len(block), k))
    distances_block(block, columns, squares)
    refuse_non_finite(block, squares)
    return squares


def _update(block: Array, targets: _Targets, moves: Array, labels: Array, gaps: Array) -> tuple[float, int]:
    """`assign_block`; returns the sum of the squared norms of the rows that were looked at, and their number."""
    origin, exact, columns, half_norms = targets
    products = np.empty((TILE_ROWS, columns.shape[1]), block.dtype)
    touched = np.empty(len(block), np.intp)
    energy, n_touched = assign_block(block, origin, exact, columns, half_norms, moves, products, touched, labels, gaps)
    if not isfinite(energy):
        refuse_non_finite(block, np.asarray(energy))
    return energy, n_touched


class _Changes(NamedTuple):
    """What an assignment did to some blocks. Rows that change their label wait until they are worth sums of all k."""

    touched: int
    changed: int
    energy: float
    waiting: list[tuple[Array, Array, Array]]  # rows (m, d), their old and new labels (m,)
    sums: NDArray[np.float64] | None
    counts: NDArray[np.int64] | None


def _assign(block: Array, labels: Array, gaps: Array, targets: _Targets, moves: Array) -> tuple[Partial, _Changes]:
    new, gaps = labels.copy(), gaps.copy()
    energy, n_touched = _update(block, targets, moves, new, gaps)
    changed = np.flatnonzero(new != labels)
    waiting = []
    if len(changed) >= WAITING_ROWS * len(moves):  # summed at once, without copying them
        waiting = [(block, labels, new)]
    elif len(changed):
        waiting = [(block[changed], labels[changed], new[changed])]
    changes = _Changes(n_touched, len(changed), energy, waiting, None, None)
    return (new, gaps), _sum_when_due(changes, len(moves), targets.origin)


def _merge(a: Partial, b: Partial, k: int, origin: Array) -> _Changes:
    sums = [(x, y) for x, y in (a[-2:], b[-2:]) if x is not None]
    total = add(*sums) if len(sums) == 2 else (sums or [(None, None)])[0]
    return _sum_when_due(_Changes(a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], *total), k, origin)


def _sum_when_due(changes: _Changes, k: int, origin: Array) -> _Changes:
    if sum(len(rows) for rows, *_ in changes.waiting) < WAITING_ROWS * k:
        return changes
    sums, counts = changes.sums, changes.counts
    if sums is None or counts is None:
        sums, counts = np.zeros((k, len(origin))), np.zeros(k, np.int64)
    _move(changes.waiting, origin, sums, counts)
    return changes._replace(waiting=[], sums=sums, counts=counts)


def _move(waiting: list[tuple[Array, Array, Array]], origin: Array, sums: Array, counts: Array) -> None:
    for rows, old, new in waiting:
        accumulate_block(rows, origin, old, new, sums, counts)


def _nearest(block: Array, targets: _Targets) -> tuple[Partial, Partial]:
    block = block.astype(targets.origin.dtype, copy=False)
    labels, gaps = np.full(len(block), -1, np.int32), np.zeros(len(block), block.dtype)
    _update(block, targets, np.zeros(len(targets.exact)), labels, gaps)
    return (labels,), _inertia(block, labels, targets.exact)[1]


def _own_distances(block: Array, labels: Array, centers: Array) -> tuple[Partial, None]:
    distances = np.empty(len(block))
    own_distances_block(block, centers, labels, distances)
    return (distances,), None


def _inertia(block: Array, labels: Array, centers: Array) -> tuple[None, Partial]:
    distances = np.empty(len(block))
    own_distances_block(block, centers, labels, distances)
    return None, (distances.sum(),)


def _distances(block: Array, columns: Array, k: int) -> tuple[Partial, None]:
    return (np.sqrt(squared_distances(block, columns, k)),), None
