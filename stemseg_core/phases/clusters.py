"""Clusters of windows, and the memberships that follow from where their centres are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.boundaries import phase_sums
from stemseg_core.phases.memberships import posterior
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.stages.lloyd import distance_columns, squared_distances
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid, coarsening

#: Least number of windows that restarts of k-means are run on, where there are many more. Twice as many: restarts take
#: twice as long, and the same one wins.
START_ROWS = 100_000
#: Rows whose memberships are made at once. Twice as many leave the second-level cache.
POSTERIOR_ROWS = 4096


def by_kmeans(rows: Array, grid: Grid, k: int, seed: int, execution: Execution) -> NDArray[np.float32]:
    """Memberships by k-means, whose restarts on dense grids are run on windows of a coarser one.

    Neighbouring windows of a dense grid share most of their pixels: more of them say nothing about which restart is
    the best. From its centres a few passes over all rows lead to where a restart on all of them would have ended.
    """
    kmeans = execution.configure(KMeans(k, random_state=seed))
    coarse = grid.coarsened_rows(rows, _start_rows(k))
    if coarse is not rows:
        kmeans.set_params(init=kmeans.fit(coarse).cluster_centers_)
    del coarse
    kmeans.fit(rows)
    return _around(rows, kmeans.cluster_centers_, kmeans.inertia_ / len(rows), execution)


def kmeans_bytes(n: int, rank: int, k: int, n_threads: int) -> float:
    """Memory of `by_kmeans` beside the rows: those of the restarts, and what these need; memberships."""
    every = coarsening(n, _start_rows(k))
    starts = (4 * rank if every > 1 else 0) + 40 + (20 + 4 * int(np.log(k))) * min(n_threads, 10)
    return max(n / every**2 * starts, 20 * n, n * (4 + 4 * k))


def _start_rows(k: int) -> int:
    """Least number of rows that restarts are run on, where there are many more."""
    return max(START_ROWS, 100 * k)


def of_labels(rows: Array, labels: Array, k: int, execution: Execution) -> NDArray[np.float32]:
    """Memberships under equal round Gaussians about the means of clusters; none of a cluster without rows."""
    execution = execution.called("memberships")
    sums, counts = phase_sums(rows, labels, k, execution)
    filled = np.flatnonzero(counts)
    centers = sums[filled] / counts[filled, np.newaxis]
    number = np.cumsum(counts > 0) - 1
    (squares,) = execution.run(_squares_block, ArrayRows(rows), centers, number, along=(labels,))
    memberships = np.zeros((len(rows), k), np.float32)
    memberships[:, filled] = _around(rows, centers, squares / len(rows), execution)
    return memberships


def _around(rows: Array, centers: Array, variance: float, execution: Execution) -> NDArray[np.float32]:
    """Memberships (n, k) under equal round Gaussians about centres (k, r).

    Their variance is the mean squared distance of a row to its mean. A share of it for each coordinate would call
    every row certain: smoothed scores scatter in few directions, and between clusters most of all.
    """
    memberships = np.empty((len(rows), len(centers)), np.float32)
    columns = distance_columns(centers)
    state = columns, len(centers), variance
    execution.run(_posterior_block, ArrayRows(rows), *state, out=(memberships,), stage="memberships")
    return memberships


def _posterior_block(block: Array, columns: Array, k: int, variance: float) -> tuple[tuple[Array], None]:
    memberships = np.empty((len(block), k), np.float32)
    for start in range(0, len(block), POSTERIOR_ROWS):  # a block of few scores has many rows
        part = block[start : start + POSTERIOR_ROWS]
        memberships[start : start + POSTERIOR_ROWS] = posterior(squared_distances(part, columns, k), variance)
    return (memberships,), None


def _squares_block(block: Array, labels: Array, centers: Array, number: Array) -> tuple[None, tuple[float]]:
    """Sum of the squared distances of rows to their centres, cluster j having the centre ``number[j]``."""
    return None, (float(((block - centers[number[labels]]) ** 2).sum()),)
