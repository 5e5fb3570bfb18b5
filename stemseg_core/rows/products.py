"""Sums and products of one block of rows, as block functions need them: checked, and centred where asked for.

Sums over rows or features are in float64, products in the type of the vector that is subtracted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from stemseg_core._kernels import compress as kernels
from stemseg_core.rows.blocks import refuse_non_finite
from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array


class RowSums(NamedTuple):
    """Sums over the m rows of a block, in float64."""

    squares: Array  # (m,): squared norm of each row
    sums: Array  # (d,): sum of each column


class CentredRows(NamedTuple):
    """Rows Y = X - mean of a block, with their sums."""

    rows: Array  # (m, d), in the type of the mean
    squares: Array  # (m,) float64: squared norm of each row of Y
    sums: Array  # (d,) float64: sum of each column of Y


class Projection(NamedTuple):
    """Scores of the rows Y = X - mean of a block, with the sums of Y."""

    scores: Array  # (m, k) float64
    squares: Array  # (m,) float64: squared norm of each row of Y
    sums: Array  # (d,) float64: sum of each column of Y


class ScatterProduct(NamedTuple):
    """Vectors times the scatter matrix Y' Y of the rows Y = X - mean of a block, with the sums of Y."""

    product: Array  # (k, d), in the type of the mean: (Y' Y columns)'
    squares: Array  # (m,) float64: squared norm of each row of Y
    sums: Array  # (d,) float64: sum of each column of Y


def row_sums(block: Array) -> RowSums:
    """Sums of the rows as they are; refuses NaN, infinity."""
    squares, sums = np.empty(len(block)), np.empty(block.shape[1])
    kernels.sum_block(block, squares, sums)
    refuse_non_finite(block, squares)
    return RowSums(squares, sums)


def subtract_mean(block: Array, mean: Array) -> CentredRows:
    """``block - mean`` and its sums; refuses NaN, infinity."""
    block = block.astype(mean.dtype, copy=False)
    Y, squares, sums = np.empty_like(block), np.empty(len(block)), np.empty(block.shape[1])
    kernels.center_block(block, mean, Y, squares, sums)
    refuse_non_finite(block, squares)
    return CentredRows(Y, squares, sums)


def padded_columns(V: Array, dtype: DTypeLike, lanes: int = kernels.LANES) -> Array:
    """Vectors or centres (k, d) as columns, with columns of zeros up to a multiple of the lanes of the kernel."""
    columns = np.zeros((V.shape[1], -(-len(V) // lanes) * lanes), dtype)
    columns[:, : len(V)] = V.T
    return columns


def project(block: Array, mean: Array, columns: Array) -> Projection:
    """``(block - mean) @ columns`` and the sums of what is multiplied, in one read of the block."""
    m, d = block.shape
    squares, sums = np.empty(m), np.empty(d)
    scores = _products(block, mean, columns, squares, sums)
    refuse_non_finite(block, squares)
    return Projection(scores, squares, sums)


def scores_on(block: Array, mean: Array, columns: Array) -> Array:
    """``(block - mean) @ columns`` alone, in float64."""
    scores = _products(block, mean, columns, None, None)
    refuse_non_finite(block, scores)
    return scores


def _products(block: Array, mean: Array, columns: Array, squares: Array | None, sums: Array | None) -> Array:
    padded = np.empty((-(-len(block) // kernels.TILE_ROWS) * kernels.TILE_ROWS, columns.shape[1]))
    kernels.project_block(block.astype(mean.dtype, copy=False), mean, columns, padded, squares, sums)
    return padded[: len(block)]


def scores_block(block: Array, mean: Array, columns: Array, k: int) -> tuple[tuple[Array], None]:
    """A block function: scores on k vectors, given as columns."""
    return (scores_on(block, mean, columns)[:, :k],), None


def all_scores(rows: Rows, mean: Array, V: Array, execution: Execution) -> Array:
    """Scores (n, k) of all rows minus `mean` on the vectors V (k, d); products and scores are in the type of the rows.

    Memory: the scores, and `scores_bytes`.
    """
    scores = np.empty((rows.shape[0], len(V)), rows.dtype)
    columns = padded_columns(V, rows.dtype)
    execution.run(scores_block, rows, mean.astype(rows.dtype), columns, len(V), out=(scores,))
    return scores


def scores_bytes(rows: Rows, k: int, n_threads: int) -> float:
    """Predicted memory of `project` and `scores_on`: scores of a block for each thread, padded and as they are."""
    padded = -(-k // kernels.LANES) * kernels.LANES
    return 8.0 * (padded + k) * rows.shape[0] / rows.n_blocks * min(n_threads, rows.n_blocks)


def scatter_times(block: Array, mean: Array, columns: Array) -> ScatterProduct:
    """``(Y' Y columns)'`` with Y = block - mean, and the sums of Y, in one read of the block; refuses NaN, infinity."""
    block = block.astype(mean.dtype, copy=False)
    (m, d), k = block.shape, columns.shape[1]
    product, squares, sums = np.empty((k, d), mean.dtype), np.empty(m), np.empty(d)
    scratch = np.empty((kernels.ROWS, k)), np.empty((k, kernels.ROWS), mean.dtype)
    kernels.scatter_block(block, mean, columns, *scratch, product, squares, sums)
    refuse_non_finite(block, squares)
    return ScatterProduct(product, squares, sums)
