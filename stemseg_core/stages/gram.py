"""Gram matrices of rows that come in blocks, and the mean of the rows, from one pass.

Products of float32 rows are formed in float32 over a bounded number of rows and summed in float64. A vector near the
mean is subtracted before the products and the rest of the mean afterwards, in float64, so that a large offset costs no
digits.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from stemseg_core._kernels import gram as kernels
from stemseg_core.rows.blocks import refuse_non_finite
from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Partial

#: Rows of a Gram matrix that are mirrored at a time, to stay in the cache. Twice as many: the same result, no faster.
MIRRORED_ROWS = 64


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


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the n rows y = x - shift, in float64.

    Attributes
    ----------
    n : int
    shift : ndarray of shape (d,)
    sums : ndarray of shape (d,)
        Sum of the rows y.
    sum_squares : float
        Sum of the squares of all values of y.
    gram : ndarray of shape (d, d)
        Sum of the products y' y.
    """

    n: int
    shift: Array
    sums: Array
    sum_squares: float
    gram: Array

    @property
    def offset(self) -> Array:
        """Mean of the rows y, (d,)."""
        offset: Array = self.sums / self.n
        return offset

    @property
    def mean(self) -> Array:
        """Mean of the rows x, (d,)."""
        return self.shift + self.offset

    def scatter_matrix(self, *, center: bool) -> Array:
        """Gram matrix (d, d) of the rows x minus their mean, or of the rows x as they are."""
        G: Array = np.outer(-self.n * self.offset, self.offset)
        G += self.gram
        if not center:
            G += np.outer(self.n * self.mean, self.mean)
        return G

    @property
    def centred_sum_squares(self) -> float:
        """Sum of the squares of the rows minus their mean."""
        return max(0.0, self.sum_squares - self.n * float(self.offset @ self.offset))


def moments(rows: Rows, shift: Array, execution: Execution) -> Moments:
    """Moments of the rows minus `shift`, whose type is that of the products.

    Cost: n d^2 operations. Memory: for each thread a Gram matrix, another that waits to be merged, and scratch for 256
    rows.
    """
    G, sums, squares = execution.run(_moments_block, rows.grouped(), shift, Scratch())
    if not np.isfinite(G).all():
        raise ValueError(f"Input X has values too large for {shift.dtype}: sums of products overflow; scale X down")
    return Moments(n=rows.shape[0], shift=shift.astype(np.float64), sums=sums, sum_squares=squares, gram=_mirrored(G))


def _moments_block(block: Array, shift: Array, scratch: Scratch) -> tuple[None, Partial]:
    """``Y' Y`` in the upper triangle, column sums and the sum of squares of Y = block - shift."""
    block = block.astype(shift.dtype, copy=False)
    d = block.shape[1]
    G, sums = np.empty((d, d)), np.empty(d)
    panels = scratch.array((kernels.ROWS, d + kernels.PADDING), shift.dtype)
    squares = kernels.gram_block(block, shift, panels, G, sums)
    refuse_non_finite(block, G.diagonal())
    return None, (G, sums, squares)


def _mirrored(G: Array) -> Array:
    """A matrix whose upper triangle is known, made symmetric in place, in pieces that stay in the cache."""
    for start in range(0, len(G), MIRRORED_ROWS):
        stop = start + MIRRORED_ROWS
        upper = np.triu(G[start:stop, start:stop])
        G[start:stop, start:stop] = upper + np.triu(upper, 1).T
        G[stop:, start:stop] = G[start:stop, stop:].T
    return G
