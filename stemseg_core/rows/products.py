"""Sums and products of one block of rows, as block functions need them: checked, and centred where asked for."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core._kernels import compress as kernels
from stemseg_core._kernels import gram as gram_kernels
from stemseg_core.rows.blocks import refuse_non_finite
from stemseg_core.rows.sources import Rows
from stemseg_core.system.threads import effective_n_jobs

Array = NDArray[Any]


class Scratch(threading.local):
    """Memory that a block function uses again in its next call on the same thread: new pages take time to be made."""

    memory: Array = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        size = shape[0] * shape[1] * dtype.itemsize
        if self.memory.nbytes < size:
            self.memory = np.empty(size, np.uint8)
        return self.memory[:size].view(dtype).reshape(shape)

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()


def subtract_mean(block: Array, mean: Array) -> tuple[Array, Array, Array]:
    """``block - mean``, the squared norm of each of its rows and its column sums, in float64; refuses NaN, infinity."""
    block = block.astype(mean.dtype, copy=False)
    Y, squares, sums = np.empty_like(block), np.empty(len(block)), np.empty(block.shape[1])
    kernels.center_block(block, mean, Y, squares, sums)
    refuse_non_finite(block, squares)
    return Y, squares, sums


def gram(block: Array, mean: Array, scratch: Scratch) -> tuple[Array, Array, float]:
    """``Y' Y`` with Y = block - mean, in the upper triangle; column sums and the sum of squares of Y; in float64.

    Products are formed in the type of the mean; refuses NaN, infinity.
    """
    block = block.astype(mean.dtype, copy=False)
    d = block.shape[1]
    G, sums = np.empty((d, d)), np.empty(d)
    panels = scratch.array((gram_kernels.ROWS, d + gram_kernels.PADDING), mean.dtype)
    squares = gram_kernels.gram_block(block, mean, panels, G, sums)
    refuse_non_finite(block, G.diagonal())
    return G, sums, squares


def as_columns(V: Array, dtype: DTypeLike, lanes: int = kernels.LANES) -> Array:
    """Rows (r, d), directions or centres, as columns, and zeros up to a multiple of the lanes of the kernel."""
    columns = np.zeros((V.shape[1], -(-len(V) // lanes) * lanes), dtype)
    columns[:, : len(V)] = V.T
    return columns


def project(block: Array, mean: Array, columns: Array) -> tuple[Array, Array, Array]:
    """``(block - mean) @ columns`` in float64, and the sums of `subtract_mean`, in one read of the block."""
    block = block.astype(mean.dtype, copy=False)
    m, d = block.shape
    A, squares, sums = np.empty((-(-m // kernels.ROWS) * kernels.ROWS, columns.shape[1])), np.empty(m), np.empty(d)
    kernels.project_block(block, mean, columns, A, squares, sums)
    refuse_non_finite(block, squares)
    return A[:m], squares, sums


def scores_on(block: Array, mean: Array, columns: Array) -> Array:
    """`project` without the sums."""
    block = block.astype(mean.dtype, copy=False)
    A, none = np.empty((-(-len(block) // kernels.ROWS) * kernels.ROWS, columns.shape[1])), np.empty(0)
    kernels.project_block(block, mean, columns, A, none, none)
    A = A[: len(block)]
    refuse_non_finite(block, A)
    return A


def scores_block(block: Array, mean: Array, columns: Array, k: int) -> tuple[tuple[Array], None]:
    """A block function: scores of the rows of a block on k directions, given as columns."""
    return (scores_on(block, mean, columns)[:, :k],), None


def scores_bytes(rows: Rows, k: int, n_jobs: int | None = None) -> float:
    """Predicted memory of scores on k directions, of a block for each thread: padded, and once more as they are."""
    n_threads = min(effective_n_jobs(n_jobs), rows.n_blocks)
    return 8.0 * (-(-k // kernels.LANES) * kernels.LANES + k) * rows.shape[0] / rows.n_blocks * n_threads


def row_sums(block: Array) -> tuple[Array, Array]:
    """Squared norm of each row and the column sums, in float64; refuses NaN, infinity."""
    squares, sums = np.empty(len(block)), np.empty(block.shape[1])
    kernels.sum_block(block, squares, sums)
    refuse_non_finite(block, squares)
    return squares, sums


def scatter(block: Array, mean: Array, columns: Array) -> tuple[Array, Array, Array]:
    """``(Y' Y columns)'`` with Y = block - mean, in the type of the mean, and the sums of `subtract_mean`."""
    block = block.astype(mean.dtype, copy=False)
    (m, d), k = block.shape, columns.shape[1]
    Z, squares, sums = np.empty((k, d), mean.dtype), np.empty(m), np.empty(d)
    kernels.scatter_block(
        block, mean, columns, np.empty((kernels.ROWS, k)), np.empty((k, kernels.ROWS), mean.dtype), Z, squares, sums
    )
    refuse_non_finite(block, squares)
    return Z, squares, sums
