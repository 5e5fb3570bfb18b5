"""Rows that are computed, kept for the next pass as far as memory goes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.blocks import ArrayRows, Index, Rows


class KeptRows:
    """The rows of another source, each of whose first blocks is stored when it is made and read from there afterwards.

    What is kept is decided by the budget and the grid of blocks alone: as many blocks from the first one on as fit.
    Blocks, and with them every result, are the same to the bit however many are kept.

    Parameters
    ----------
    rows : Rows
    budget : float
        Bytes that may be kept. They are asked of the system block by block as these are made.

    Notes
    -----
    Any number of threads may read. A block counts as kept when it is complete: a pass that is stopped leaves the
    blocks it made. The memory is that of this object, and goes with it.
    """

    def __init__(self, rows: Rows, budget: float) -> None:
        self.rows = rows
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks
        ends = np.cumsum([_length(rows.index(i)) for i in range(rows.n_blocks)])
        row_bytes = max(1, rows.shape[1] * rows.dtype.itemsize)
        self.n_kept = int(np.searchsorted(ends, max(0.0, budget) // row_bytes, side="right"))
        self._starts = np.concatenate([[0], ends[: self.n_kept]])
        # One piece of memory, which the system provides where it is written to, and takes back at once.
        self._store = np.empty((int(self._starts[-1]), rows.shape[1]), rows.dtype)
        self._made = np.zeros(self.n_kept, bool)

    def in_larger_blocks(self, factor: int) -> KeptRows:
        """The same rows of an array, so many blocks taken as one, with what is kept of whole ones in common."""
        assert isinstance(self.rows, ArrayRows)
        larger = copy.copy(self)
        larger.rows = self.rows.in_larger_blocks(factor)
        larger.n_blocks = larger.rows.n_blocks
        larger.n_kept = larger.n_blocks if self.n_kept == self.n_blocks else self.n_kept // factor
        firsts = factor * np.arange(larger.n_kept)
        end = min(factor * larger.n_kept, self.n_kept)
        larger._starts = self._starts[np.append(firsts, end)]
        larger._made = np.array([self._made[first : min(first + factor, end)].all() for first in firsts], bool)
        return larger

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], NDArray[Any]]:
        read = self.rows.reader()

        def kept(i: int) -> NDArray[Any]:
            if i >= self.n_kept:
                return read(i)
            block: NDArray[Any] = self._store[self._starts[i] : self._starts[i + 1]]
            if not self._made[i]:
                block[:] = read(i)
                self._made[i] = True
            block.flags.writeable = False
            return block

        return kept


def keep(rows: Rows, budget: float) -> Rows:
    """`rows` for a fit of several passes: kept as far as `budget` bytes go if they are computed, read or converted.

    Keeping a block costs at most as much as making it, and reading it again a fifth (docs/decisions.md): it pays from
    the second or third pass on, never in one. Rows of an array or a memory map are as they are.
    """
    stored = isinstance(rows, ArrayRows) and isinstance(rows.array, np.ndarray)
    return rows if stored or isinstance(rows, KeptRows) else KeptRows(rows, budget)


def _length(index: Index) -> int:
    return index.stop - index.start if isinstance(index, slice) else len(index)
