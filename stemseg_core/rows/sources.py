"""Sources of rows: an array, a memory map, an HDF5 data set or a `WindowMatrix`, all read block after block.

The grid of blocks is a function of the source's geometry alone, never of the number of threads, nor of how the rows are
stored. `Execution.run` calls a function on every block and merges what it returns in the order of the blocks: hence the
same bits for any number of threads and for any storage of the same rows.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core.system.types import Array, Index

#: Bytes of a block, which stays in the second-level cache between the steps of a block function. Twice as many: every
#: step of a function waits for memory. It decides the order of sums, and with it the last bits of results.
BLOCK_BYTES = 1 << 20
#: Most rows of a block, however short they are: work enough for one call.
BLOCK_ROWS = 1 << 14
#: Bytes of rows that one sum of products is made of, where that leaves enough groups of blocks for all threads. Sums of
#: products are large: to merge them less often saves time, until their float32 digits run out.
PRODUCT_BYTES = 8 << 20
#: Groups of blocks come in multiples of this number, which 2, 4 and 8 threads share evenly.
MIN_GROUPS = 8
#: Blocks that a sample of a source has at least: rows of one place may be alike.
MIN_BLOCKS = 16


class Rows(ABC):
    """A source of rows.

    Attributes
    ----------
    shape : (n, d)
    dtype : dtype
        float32 or float64: that of the blocks.
    n_blocks : int
    in_memory : bool
        Whether all rows lie in memory.
    quick : bool
        Whether to make a block again is as quick as to read it where it was stored.
    sliceable : bool
        Whether neighbouring blocks can be had as one by a slice, without being put together.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    n_blocks: int
    in_memory: bool = False
    quick: bool = False
    sliceable: bool = False

    @abstractmethod
    def index(self, i: int) -> Index:
        """Which rows block `i` holds: a slice, or an array of row numbers where blocks are tiles of a window grid."""

    @abstractmethod
    def reader(self) -> Callable[[int], Array]:
        """A function that returns block `i`, C-contiguous, and is for one thread: it may keep scratch memory.

        A block that is not writeable is somebody's memory; one that is belongs to the reader until its next call.
        """

    def n_rows(self, i: int) -> int:
        """How many rows block `i` holds."""
        index = self.index(i)
        return index.stop - index.start if isinstance(index, slice) else len(index)

    def span(self, blocks: range) -> Index:
        """Which rows neighbouring blocks hold."""
        return np.concatenate([np.r_[self.index(i)] for i in blocks])

    def span_reader(self) -> Callable[[range], Array]:
        """As `reader`, for neighbouring blocks as one."""
        read = self.reader()

        def read_span(blocks: range) -> Array:
            sizes = [self.n_rows(i) for i in blocks]
            span, start = np.empty((sum(sizes), self.shape[1]), self.dtype), 0
            for i, size in zip(blocks, sizes, strict=True):
                span[start : start + size] = read(i)
                start += size
            return span

        return read_span

    def in_larger_blocks(self, factor: int) -> Rows:
        """The same rows with `factor` blocks taken as one, where that is free; else as they are."""
        return self

    def grouped(self) -> Rows:
        """The rows in blocks of at most about `PRODUCT_BYTES`, in a multiple of `MIN_GROUPS` if there are enough.

        A function of the geometry alone, as the blocks are. Even groups, in a number that threads share evenly, leave
        none of them waiting at the end for a whole one.
        """
        n, d = self.shape
        block_bytes = max(1, n * d * self.dtype.itemsize // self.n_blocks)
        size = min(PRODUCT_BYTES // block_bytes, self.n_blocks // MIN_GROUPS)
        if size < 2:
            return self
        return Groups(self, -(-self.n_blocks // (size * MIN_GROUPS)) * MIN_GROUPS)

    def sample(self, n_rows: int, min_blocks: int | None = None) -> Rows:
        """At least `n_rows` rows in blocks evenly spread over the source; the source itself if it has no more."""
        min_blocks = MIN_BLOCKS if min_blocks is None else min_blocks
        m = max(min_blocks, -(-n_rows * self.n_blocks // self.shape[0]))
        if m >= self.n_blocks:
            return self
        return Sample(self, [(2 * i + 1) * self.n_blocks // (2 * m) for i in range(m)])


def row_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 stays float32, in either byte order; every other type is computed in float64."""
    return np.dtype(np.float32 if np.dtype(dtype).newbyteorder("=") == np.float32 else np.float64)


class ArrayRows(Rows):
    """Rows of an array, a memory map, or an HDF5 or zarr data set of shape (n, d); only the block at hand is copied.

    Parameters
    ----------
    array : array-like of shape (n, d)
        Sliced by rows only. Any real dtype, order and strides.
    """

    sliceable = True

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = row_dtype(array.dtype)
        self.in_memory = isinstance(array, np.ndarray)
        row_bytes = max(1, self.shape[1] * self.dtype.itemsize)
        # A power of two, so that blocks of one array and of twice the rows coincide.
        self.block_rows = min(BLOCK_ROWS, 1 << max(0, (BLOCK_BYTES // row_bytes).bit_length() - 1))
        self.n_blocks = -(-self.shape[0] // self.block_rows)

    def in_larger_blocks(self, factor: int) -> ArrayRows:
        larger = copy.copy(self)
        larger.block_rows = factor * self.block_rows
        larger.n_blocks = -(-self.shape[0] // larger.block_rows)
        return larger

    def index(self, i: int) -> slice:
        return self.span(range(i, i + 1))

    def span(self, blocks: range) -> slice:
        return slice(blocks.start * self.block_rows, min(blocks.stop * self.block_rows, self.shape[0]))

    def take(self, index: slice) -> Array:
        """These rows, C-contiguous; of an array that is so already, a view."""
        return np.ascontiguousarray(self.array[index], dtype=self.dtype)

    def reader(self) -> Callable[[int], Array]:
        return lambda i: self.take(self.index(i))

    def span_reader(self) -> Callable[[range], Array]:
        return lambda blocks: self.take(self.span(blocks))


class MaskedRows(Rows):
    """Some rows of a source, numbered anew.

    Parameters
    ----------
    rows : Rows of shape (n, d)
    kept : ndarray of bool of shape (n,)
        Which rows; at least one.
    """

    def __init__(self, rows: Rows, kept: NDArray[np.bool_]) -> None:
        self.rows, self.kept = rows, kept
        self.shape = (int(kept.sum()), rows.shape[1])
        self.dtype, self.quick = rows.dtype, rows.quick
        self._numbers = np.cumsum(kept) - 1
        self._blocks = [i for i in range(rows.n_blocks) if kept[rows.index(i)].any()]
        self.n_blocks = len(self._blocks)

    def index(self, i: int) -> Index:
        index = self.rows.index(self._blocks[i])
        numbers: NDArray[np.intp] = self._numbers[index][self.kept[index]]
        return numbers

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()

        def read_kept(i: int) -> Array:
            block = self._blocks[i]
            return read(block)[self.kept[self.rows.index(block)]]

        return read_kept


class CachedRows(Rows):
    """The rows of another source, whose first blocks are stored when they are made and read from there afterwards.

    What is stored is decided by the budget and the grid of blocks alone: as many blocks from the first one on as fit.
    Blocks, and with them every result, are the same to the bit however many are stored.

    Parameters
    ----------
    rows : Rows
    budget : float
        Bytes that may be stored. They are asked of the system block by block as these are made.

    Notes
    -----
    Any number of threads may read. A block counts as stored when it is complete: a pass that is stopped leaves the
    blocks it made. The memory is that of this object, and goes with it.
    """

    def __init__(self, rows: Rows, budget: float) -> None:
        self.rows = rows
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks
        ends = np.cumsum([rows.n_rows(i) for i in range(rows.n_blocks)])
        row_bytes = max(1, rows.shape[1] * rows.dtype.itemsize)
        self.n_stored = int(np.searchsorted(ends, max(0.0, budget) // row_bytes, side="right"))
        self._starts = np.concatenate([[0], ends[: self.n_stored]])
        # One piece of memory, which the system provides where it is written to, and takes back at once.
        self._store = np.empty((int(self._starts[-1]), rows.shape[1]), rows.dtype)
        self._made = np.zeros(self.n_stored, bool)

    def in_larger_blocks(self, factor: int) -> Rows:
        rows = self.rows.in_larger_blocks(factor)
        if rows is self.rows:
            return self
        larger = copy.copy(self)  # with what is stored of whole ones in common
        larger.rows, larger.n_blocks = rows, rows.n_blocks
        larger.n_stored = larger.n_blocks if self.n_stored == self.n_blocks else self.n_stored // factor
        firsts = factor * np.arange(larger.n_stored)
        end = min(factor * larger.n_stored, self.n_stored)
        larger._starts = self._starts[np.append(firsts, end)]
        larger._made = np.array([self._made[first : min(first + factor, end)].all() for first in firsts], bool)
        return larger

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()

        def read_or_make(i: int) -> Array:
            if i >= self.n_stored:
                return read(i)
            block: Array = self._store[self._starts[i] : self._starts[i + 1]]
            if not self._made[i]:
                block[:] = read(i)
                self._made[i] = True
            block.flags.writeable = False
            return block

        return read_or_make


class Sample(Rows):
    """Some blocks of a source; `index` still tells the rows of the whole."""

    def __init__(self, rows: Rows, blocks: Sequence[int]) -> None:
        self.rows, self.blocks, self.n_blocks = rows, blocks, len(blocks)
        self.shape = (sum(rows.n_rows(i) for i in blocks), rows.shape[1])
        self.dtype = rows.dtype

    def index(self, i: int) -> Index:
        return self.rows.index(self.blocks[i])

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()
        return lambda i: read(self.blocks[i])


class Numbered(Rows):
    """The rows of a sample, numbered from 0."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks
        self._ends = np.cumsum([rows.n_rows(i) for i in range(rows.n_blocks)])

    def index(self, i: int) -> slice:
        return slice(int(self._ends[i - 1]) if i else 0, int(self._ends[i]))

    def reader(self) -> Callable[[int], Array]:
        return self.rows.reader()


class ClippedRows(Rows):
    """The rows of a source with 0 in the place of what is below."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.quick = rows, rows.quick
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()
        return lambda i: np.maximum(read(i), 0)


class Groups(Rows):
    """Neighbouring blocks of a source as one block, in groups as even as can be."""

    def __init__(self, rows: Rows, n_groups: int) -> None:
        self.rows, self.n_blocks = rows, n_groups
        self.shape, self.dtype = rows.shape, rows.dtype

    def _blocks(self, i: int) -> range:
        return range(i * self.rows.n_blocks // self.n_blocks, (i + 1) * self.rows.n_blocks // self.n_blocks)

    def index(self, i: int) -> Index:
        return self.rows.span(self._blocks(i))

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.span_reader()
        return lambda i: read(self._blocks(i))


def as_rows(X: Any) -> Rows:
    """The row source of `X`: itself if it is one, else an `ArrayRows` over it."""
    return X if isinstance(X, Rows) else ArrayRows(X)


def rows_of_shape(n: int, d: int, dtype: DTypeLike) -> Rows:
    """Rows as those of an array (n, d), which take no memory: for the prediction of what a fit to such would need."""
    return ArrayRows(np.broadcast_to(np.zeros((), dtype), (n, d)))


def cached(rows: Rows, budget: float) -> Rows:
    """`rows` for a fit of several passes: stored as far as `budget` bytes go if they are computed, read or converted.

    Storing a block costs at most as much as making it, and reading it again a fifth (docs/decisions.md): it pays from
    the second or third pass on, never in one. Rows of an array or a memory map are as they are.
    """
    return rows if rows.in_memory or rows.quick or isinstance(rows, CachedRows) else CachedRows(rows, budget)
