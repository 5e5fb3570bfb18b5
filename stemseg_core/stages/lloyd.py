"""Lloyd's iteration over a row source: assignments that are proved, sums that only follow what changed.

`stemseg_core.stages.kmeans` is the estimator; this is what it, and the segmentation of scores, run on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemseg_core._kernels import kmeans as kernels
from stemseg_core.rows.blocks import refuse_non_finite, refuse_too_small, take_rows
from stemseg_core.rows.products import padded_columns
from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.merging import add
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Blocks of an array that an assignment takes as one. Twice as many: threads wait less often for the interpreter, but
#: longer for the last of them. The order of sums changes, and with it the last bits of results.
BLOCKS = 8
#: Rows of a new label, for each cluster, from which on they are added to sums of all clusters. Fewer rows wait as
#: copies. Twice as many: more memory for copies, fewer sums (k, d) to merge; the last bits of results change.
WAITING_ROWS = 4
#: Share of the rows that an assignment must look at for the next one to run on threads. Twice as much: passes become
#: serial earlier.
BUSY_SHARE = 1 / 8


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
    execution : Execution
    """

    def __init__(self, rows: Rows, k: int, execution: Execution) -> None:
        n, d = rows.shape
        # Blocks of some megabytes let threads wait less often for the interpreter. `assign_block` takes each row once,
        # and keeps in the cache what it uses again.
        self.rows = rows.in_larger_blocks(BLOCKS)
        self.execution = execution
        # Any point amid the data will do. It takes away a common offset, in which float32 products would drown.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = rows.reader()(0).mean(axis=0, dtype=np.float64)
        # If the mean is not finite, neither are the rows: the first pass finds which.
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
        # Where the kernel has little to do, threads would mostly wait for the interpreter.
        execution = self.execution if self.busy else self.execution.on_one_thread()
        changes: _Changes = execution.run(_assign_block, self.rows, targets, moves, along=along, out=along, merge=merge)
        if changes.sums is not None and changes.counts is not None:
            self.sums += changes.sums
            self.counts += changes.counts
        _add_waiting(changes.waiting, self.origin, self.sums, self.counts)
        # The next pass touches about as many rows as this one: their number falls slowly.
        self.busy = changes.n_touched > int(BUSY_SHARE * self.rows.shape[0])
        self.sums[self.counts == 0] = 0.0  # rows that came and went leave rounding
        self.centers = centers
        if first:
            n, d = self.rows.shape
            refuse_too_small(self.rows, changes.sum_squares, self.execution, self.origin)
            mean = self.sums.sum(axis=0) / n
            self.variance = max(0.0, float(changes.sum_squares / n - mean @ mean)) / d
        return changes.n_changed

    def means(self) -> Array:
        """Centres of the clusters, in the type of the rows.

        Empty clusters are put on the rows farthest from their centres, ties by row number, as far as any are apart.
        """
        assert self.centers is not None
        sums, counts = self.sums.copy(), self.counts.copy()
        means = self.centers.astype(np.float64) - self.origin
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            distances = own_distances(self.rows, self.centers, self.labels, self.execution)
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


def lloyd(rows: Rows, centers: Array, execution: Execution, *, max_iter: int, tol: float) -> Clustering:
    """Lloyd's iteration from `centers` (k, d) until no label changes, as scikit-learn does it.

    Parameters
    ----------
    rows : Rows
    centers : ndarray of shape (k, d)
    execution : Execution
    max_iter : int
    tol : float
        Stop also when the squared moves of the centres sum to no more than this times the mean variance of a feature.

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
        assignment = Assignment(rows, len(centers), execution)
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
        exact, along = centers.astype(np.float64), (assignment.labels,)
        (inertia,) = execution.run(_inertia_block, assignment.rows, exact, along=along)
    return Clustering(centers, assignment.labels, float(inertia), n_iter, converged)


class Nearest(NamedTuple):
    """The nearest of given centres for each row, and the sum of the squared distances to them."""

    labels: NDArray[np.int32]
    inertia: float


def nearest(rows: Rows, centers: Array, execution: Execution) -> Nearest:
    """The nearest of `centers` (k, d) for each row, ties to the smallest index.

    The labels are those of float64 distances, whatever the types of rows and centres.
    """
    dtype = np.result_type(rows.dtype, centers.dtype)
    labels = np.empty(rows.shape[0], np.int32)
    origin = centers.mean(axis=0, dtype=np.float64).astype(dtype)
    targets = _targets(centers.astype(dtype), origin)
    (inertia,) = execution.run(_nearest_block, rows.in_larger_blocks(BLOCKS), targets, out=(labels,))
    return Nearest(labels, float(inertia))


def distances_to(rows: Rows, centers: Array, execution: Execution) -> Array:
    """Distances (n, k) of the rows to `centers` (k, d): computed in float64, in the type of the rows."""
    out = np.empty((rows.shape[0], len(centers)), rows.dtype)
    execution.run(_distances_block, rows, distance_columns(centers), len(centers), out=(out,))
    return out


def own_distances(rows: Rows, centers: Array, labels: Array, execution: Execution) -> NDArray[np.float64]:
    """Squared distance (n,) of each row to the centre of its label."""
    out = np.empty(rows.shape[0])
    execution.run(_own_distances_block, rows, centers.astype(np.float64), along=(labels,), out=(out,))
    return out


def _moves(old: Array, new: Array) -> NDArray[np.float64]:
    """For each centre its own way plus the longest way of another: the gaps of its rows shrink by at most this."""
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
    columns = padded_columns(relative, centers.dtype, kernels.LANES)
    return _Targets(origin, exact, columns, (relative**2).sum(axis=1) / 2)


def distance_columns(centers: Array) -> Array:
    """Centres (k, d) as `squared_distances` takes them."""
    return padded_columns(centers, np.float64, kernels.DISTANCE_LANES)


def squared_distances(block: Array, columns: Array, k: int) -> NDArray[np.float64]:
    """Squares (m, k) of the distances of the rows of a block to k centres, by explicit differences."""
    squares = np.empty((len(block), k))
    kernels.distances_block(block, columns, squares)
    refuse_non_finite(block, squares)
    return squares


def _update_labels(block: Array, targets: _Targets, moves: Array, labels: Array, gaps: Array) -> tuple[float, int]:
    """Change labels and gaps in place; returns the sum of the squared norms of the rows looked at, and their number."""
    origin, exact, columns, half_norms = targets
    products = np.empty((kernels.TILE_ROWS, columns.shape[1]), block.dtype)
    touched = np.empty(len(block), np.intp)
    sum_squares, n_touched = kernels.assign_block(
        block, origin, exact, columns, half_norms, moves, products, touched, labels, gaps
    )
    if not isfinite(sum_squares):
        refuse_non_finite(block, np.asarray(sum_squares))
    return sum_squares, n_touched


class _Changes(NamedTuple):
    """What an assignment did to some blocks.

    Rows of a new label wait until there are `WAITING_ROWS` for each cluster: fewer do not pay for sums of all clusters.
    """

    n_touched: int  # rows that were looked at
    n_changed: int  # rows of a new label
    sum_squares: float  # of the rows that were looked at, minus the origin
    waiting: list[tuple[Array, Array, Array]]  # rows (m, d), their old and new labels (m,)
    sums: NDArray[np.float64] | None = None  # (k, d), what the sums of the clusters change by
    counts: NDArray[np.int64] | None = None  # (k,)


def _assign_block(
    block: Array, labels: Array, gaps: Array, targets: _Targets, moves: Array
) -> tuple[Partial, _Changes]:
    """Labels and gaps of the rows for moved centres, and what changed."""
    new, gaps = labels.copy(), gaps.copy()
    sum_squares, n_touched = _update_labels(block, targets, moves, new, gaps)
    changed = np.flatnonzero(new != labels)
    waiting = []
    if len(changed) >= WAITING_ROWS * len(moves):  # summed at once, without copying them
        waiting = [(block, labels, new)]
    elif len(changed):
        waiting = [(block[changed], labels[changed], new[changed])]
    changes = _Changes(n_touched, len(changed), sum_squares, waiting)
    return (new, gaps), _sum_when_due(changes, len(moves), targets.origin)


def _merge(a: _Changes, b: _Changes, k: int, origin: Array) -> _Changes:
    sums, counts = (b.sums, b.counts) if a.sums is None else (a.sums, a.counts)
    if a.sums is not None and b.sums is not None:
        sums, counts = add((a.sums, a.counts), (b.sums, b.counts))
    changes = _Changes(
        n_touched=a.n_touched + b.n_touched,
        n_changed=a.n_changed + b.n_changed,
        sum_squares=a.sum_squares + b.sum_squares,
        waiting=a.waiting + b.waiting,
        sums=sums,
        counts=counts,
    )
    return _sum_when_due(changes, k, origin)


def _sum_when_due(changes: _Changes, k: int, origin: Array) -> _Changes:
    """The same, with the waiting rows added to the sums if there are enough of them."""
    if sum(len(rows) for rows, *_ in changes.waiting) < WAITING_ROWS * k:
        return changes
    sums, counts = changes.sums, changes.counts
    if sums is None or counts is None:
        sums, counts = np.zeros((k, len(origin))), np.zeros(k, np.int64)
    _add_waiting(changes.waiting, origin, sums, counts)
    return changes._replace(waiting=[], sums=sums, counts=counts)


def _add_waiting(waiting: list[tuple[Array, Array, Array]], origin: Array, sums: Array, counts: Array) -> None:
    """Take the rows out of the sums of their old clusters, and add them to those of the new ones."""
    for rows, old, new in waiting:
        kernels.accumulate_block(rows, origin, old, new, sums, counts)


def _nearest_block(block: Array, targets: _Targets) -> tuple[Partial, Partial]:
    block = block.astype(targets.origin.dtype, copy=False)
    labels, gaps = np.full(len(block), -1, np.int32), np.zeros(len(block), block.dtype)
    _update_labels(block, targets, np.zeros(len(targets.exact)), labels, gaps)
    return (labels,), _inertia_block(block, labels, targets.exact)[1]


def _own_distances_block(block: Array, labels: Array, centers: Array) -> tuple[Partial, None]:
    distances = np.empty(len(block))
    kernels.own_distances_block(block, centers, labels, distances)
    return (distances,), None


def _inertia_block(block: Array, labels: Array, centers: Array) -> tuple[None, Partial]:
    (distances,), _ = _own_distances_block(block, labels, centers)
    return None, (distances.sum(),)


def _distances_block(block: Array, columns: Array, k: int) -> tuple[Partial, None]:
    return (np.sqrt(squared_distances(block, columns, k)),), None
