"""Rows in blocks: one decomposition for cache, threads, disk and cluster.

A *row source* is anything with rows that can be made block after block: an array, a memory map, an HDF5 data set, a
`WindowMatrix`. It has ``shape``, ``dtype``, ``n_blocks``, ``index(i)`` (which rows block i holds: a slice, or an array
of row numbers where blocks are tiles of a window grid) and ``reader()`` (makes a function that returns block i as a
C-contiguous array; one reader a thread, so that it may keep scratch memory).

The grid of blocks is a function of the source's geometry alone, never of the number of threads. `run` calls a block
function on every block and merges the partial results in float64, in block order, in a tree of fixed shape. Hence the
same bits for any number of threads and for any storage of the same rows.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core.system.threads import Progress, effective_n_jobs, in_order, tell

Index = slice | NDArray[np.intp]
Partial = tuple[Any, ...]

#: A block of this size stays in the second-level cache between the steps of a block function; so many rows are work
#: enough, however short they are.
BLOCK_BYTES, BLOCK_ROWS = 1 << 20, 1 << 14
#: A task of the thread pool (a group of blocks) costs about 20 us to hand out: this many bytes take far longer.
TASK_BYTES = 8 << 20


class Rows(Protocol):
    """A source of rows; see the head of this module."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def n_blocks(self) -> int: ...
    def index(self, i: int) -> Index: ...
    def reader(self) -> Callable[[int], NDArray[Any]]: ...


def row_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """float32 stays float32, in either byte order; every other type is computed in float64."""
    return np.dtype(np.float32 if np.dtype(dtype).newbyteorder("=") == np.float32 else np.float64)


class ArrayRows:
    """Rows of an array, a memory map, or an HDF5 or zarr data set of shape (n, d); only the block at hand is copied.

    Parameters
    ----------
    array : array-like of shape (n, d)
        Sliced by rows only. Any real dtype, order and strides.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape: tuple[int, int] = (int(array.shape[0]), int(array.shape[1]))
        self.dtype = row_dtype(array.dtype)
        row_bytes = max(1, self.shape[1] * self.dtype.itemsize)
        # A power of two, so that blocks of one array and of twice the rows coincide.
        self.block_rows = min(BLOCK_ROWS, 1 << max(0, (BLOCK_BYTES // row_bytes).bit_length() - 1))
        self.n_blocks = -(-self.shape[0] // self.block_rows)

    def in_larger_blocks(self, factor: int) -> ArrayRows:
        """The same rows, so many blocks taken as one."""
        larger = copy.copy(self)
        larger.block_rows = factor * self.block_rows
        larger.n_blocks = -(-self.shape[0] // larger.block_rows)
        return larger

    def index(self, i: int) -> slice:
        return self.span(range(i, i + 1))

    def span(self, blocks: range) -> slice:
        """The rows of neighbouring blocks."""
        return slice(blocks.start * self.block_rows, min(blocks.stop * self.block_rows, self.shape[0]))

    def take(self, index: slice) -> NDArray[Any]:
        """These rows, C-contiguous; of an array that is so already, a view."""
        return np.ascontiguousarray(self.array[index], dtype=self.dtype)

    def reader(self) -> Callable[[int], NDArray[Any]]:
        return lambda i: self.take(self.index(i))


class KeptRows:
    """Some rows of a source, numbered anew; a row source.

    Parameters
    ----------
    rows : Rows of shape (n, d)
    kept : ndarray of bool of shape (n,)
        At least one.
    """

    def __init__(self, rows: Rows, kept: NDArray[np.bool_]) -> None:
        self.rows, self.kept = rows, kept
        self.shape: tuple[int, int] = (int(kept.sum()), rows.shape[1])
        self.dtype = rows.dtype
        self._numbers = np.cumsum(kept) - 1
        self._blocks = [i for i in range(rows.n_blocks) if kept[rows.index(i)].any()]
        self.n_blocks = len(self._blocks)

    def index(self, i: int) -> Index:
        index = self.rows.index(self._blocks[i])
        numbers: NDArray[np.intp] = self._numbers[index][self.kept[index]]
        return numbers

    def reader(self) -> Callable[[int], NDArray[Any]]:
        read = self.rows.reader()

        def read_kept(i: int) -> NDArray[Any]:
            block = self._blocks[i]
            return read(block)[self.kept[self.rows.index(block)]]

        return read_kept


def as_rows(X: Any) -> Rows:
    """The row source of `X`: itself if it is one, else an `ArrayRows` over it."""
    return X if hasattr(X, "reader") else ArrayRows(X)


def add(a: Partial, b: Partial) -> Partial:
    """Add two partial results member by member, arrays in place in the first."""
    return tuple(np.add(x, y, out=x) if isinstance(x, np.ndarray) else x + y for x, y in zip(a, b, strict=True))


class MergeTree:
    """Merge partial results in a tree of fixed shape that streams: only log2(n) of them are alive.

    Leaves come in order. Two neighbours of one level are merged as soon as both are there, as a binary counter carries.
    A worker may merge an aligned group of 2**m leaves by itself and push the result at level m: the shape is the same.
    """

    def __init__(self, merge: Callable[[Partial, Partial], Partial]) -> None:
        self.merge = merge
        self.nodes: list[tuple[int, Partial]] = []

    def push(self, partial: Partial, level: int = 0) -> None:
        while self.nodes and self.nodes[-1][0] == level:
            partial = self.merge(self.nodes.pop()[1], partial)
            level += 1
        self.nodes.append((level, partial))

    def total(self) -> Partial | None:
        """The merge of everything, or None if nothing came."""
        if not self.nodes:
            return None
        nodes = [partial for _, partial in self.nodes]
        total = nodes.pop()
        while nodes:
            total = self.merge(nodes.pop(), total)
        return total


class NonFiniteError(ValueError):
    """A block of rows holds NaN or infinity. Raised with a row number within the block; `run` makes it the row of X."""

    def __init__(self, row: int, feature: int, n_nan: int, n_infinite: int) -> None:
        self.row, self.feature, self.n_nan, self.n_infinite = row, feature, n_nan, n_infinite
        super().__init__(
            f"Input X contains NaN or infinity, first in row {row}, feature {feature} "
            f"({n_nan} NaN and {n_infinite} infinity in that block of rows); remove or fill these rows before the fit"
        )

    def in_rows(self, index: Index) -> NonFiniteError:
        row = index.start + self.row if isinstance(index, slice) else int(index[self.row])
        return NonFiniteError(row, self.feature, self.n_nan, self.n_infinite)


def take_rows(rows: Rows, wanted: NDArray[np.intp]) -> NDArray[Any]:
    """Rows `wanted` (m,) of a source, in that order; only the blocks that hold them are read."""
    out = np.empty((len(wanted), rows.shape[1]), rows.dtype)
    read = rows.reader()
    for i in range(rows.n_blocks):
        positions, targets = _positions(rows.index(i), wanted)
        if len(targets):
            out[targets] = read(i)[positions]
    return out


def _positions(index: Index, wanted: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where in a block that holds the rows `index` the wanted ones are, and which of the wanted they are."""
    if isinstance(index, slice):
        targets = np.flatnonzero((wanted >= index.start) & (wanted < index.stop))
        return wanted[targets] - index.start, targets
    positions, targets = np.nonzero(np.asarray(index)[:, None] == wanted)
    return positions, targets


def refuse_non_finite(block: NDArray[Any], products: NDArray[Any]) -> None:
    """Raise ValueError if `block` has NaN or infinity, judged by `products`: sums that every value of it went into.

    NaN and infinity survive every sum of products, so a look at a small result that is needed anyway replaces a pass
    over the block; only when that is not finite the block itself is searched.
    """
    if np.isfinite(products).all():
        return
    bad = ~np.isfinite(block)
    if not bad.any():
        raise ValueError(
            f"Input X has values too large for {block.dtype}: sums of products overflow to infinity; scale X down"
        )
    row, feature = np.argwhere(bad)[0]
    n_nan = int(np.isnan(block).sum())
    raise NonFiniteError(int(row), int(feature), n_nan, int(bad.sum()) - n_nan)


def refuse_too_small(rows: Rows, squares: float, shift: NDArray[Any] | None = None, **options: Any) -> None:
    """Raise ValueError if the squares of `rows` minus `shift` (d,) vanish, judged by the sum of them.

    Values below the root of the smallest number of their type (1e-19 in float32, 1e-154 in float64) have squares of
    zero, and what is made of these is nonsense without NaN or infinity to tell of it. The sum is needed anyway; only
    where it is so small that a good part of it may be missing, the rows are searched for a value that differs from
    `shift`. `options` are those of `run`.
    """
    n, d = rows.shape
    if squares >= 1e6 * n * d * float(np.finfo(rows.dtype).tiny):
        return
    shift = np.zeros(d, rows.dtype) if shift is None else shift
    (n_different,) = run(_count_different, rows, shift, **options)
    if n_different:
        raise ValueError(f"Input X has values too small for {rows.dtype}: their squares vanish; scale X up")


def _count_different(block: NDArray[Any], shift: NDArray[Any]) -> tuple[None, Partial]:
    return None, (np.count_nonzero(block != shift),)


def run(
    function: Callable[..., tuple[Partial | None, Partial | None]],
    rows: Rows,
    *state: Any,
    along: Sequence[NDArray[Any]] = (),
    out: Sequence[NDArray[Any]] = (),
    merge: Callable[[Partial, Partial], Partial] = add,
    n_jobs: int | None = None,
    progress: Progress | None = None,
    stage: str = "",
) -> Any:
    """Call ``function(block, *along_blocks, *state)`` on every block of `rows`, on threads.

    Parameters
    ----------
    function : callable
        Module-level, so that it pickles. Gets a C-contiguous block of rows (read-only: it may be the caller's own
        memory, and is valid during the call only), the same rows of each array in `along`, and `state`. Returns
        ``(per_row, partial)``: a tuple of arrays with one entry a row for `out`, and a tuple to be merged; either may
        be None. Members of `partial` must be fresh and, to be safe to add up, float64 or int64.
    rows : Rows
    *state
        Small things that every call needs.
    along : sequence of arrays of shape (n, ...)
    out : sequence of arrays of shape (n, ...)
        Filled with the members of ``per_row``. May be arrays of `along`: a call only touches its own rows.
    merge : callable
        ``merge(a, b)`` of two partial results, a before b in block order. Default: add member by member.
    n_jobs, progress
        As for every estimator: `effective_n_jobs`, ``progress(done, total, stage)`` with blocks as the unit.

    Returns
    -------
    The merged partial results, None if there were none.

    Raises
    ------
    Stopped
        If `progress` returns False. Like an exception or Ctrl-C, it takes effect at the next block, after which
        nothing is written any more.
    """
    n_blocks = rows.n_blocks
    n_jobs = effective_n_jobs(n_jobs)
    tree = MergeTree(merge)
    stop = threading.Event()
    thread = threading.local()

    def work(blocks: range) -> list[tuple[int, Partial]]:
        # One reader a thread, not a task: memory given back and asked for again costs page faults, and the flushing
        # of the other threads' address caches.
        if not hasattr(thread, "read"):
            thread.read = rows.reader()
        read = thread.read
        part = MergeTree(merge)
        for i in blocks:
            if stop.is_set():
                break
            index = rows.index(i) if along or out else None
            try:
                per_row, partial = function(read(i), *(array[index] for array in along), *state)
            except NonFiniteError as error:
                raise error.in_rows(rows.index(i)) from None
            for target, values in zip(out, per_row or (), strict=True):
                target[index] = values
            if partial is not None:
                part.push(partial)
        return part.nodes

    done = 0
    tasks = [(blocks,) for blocks in _tasks(rows, n_jobs)]
    for (blocks,), nodes in zip(tasks, in_order(work, tasks, n_jobs, stop), strict=True):
        for level, partial in nodes:
            tree.push(partial, level)
        done += len(blocks)
        tell(progress, done, n_blocks, stage)
    return tree.total()


def _tasks(rows: Rows, n_jobs: int) -> list[range]:
    """Aligned groups of 2**m blocks: few enough to cost nothing to hand out, many enough for progress and balance."""
    n_blocks = rows.n_blocks
    block_bytes = max(1, rows.shape[0] * rows.shape[1] * rows.dtype.itemsize // max(1, n_blocks))
    group = max(1, min(TASK_BYTES // block_bytes, n_blocks // (4 * n_jobs)))
    group = 1 << (group.bit_length() - 1)
    return [range(i, min(i + group, n_blocks)) for i in range(0, n_blocks, group)]
