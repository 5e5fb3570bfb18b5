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
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import repeat
from typing import Any, Protocol

import joblib
import numpy as np
import scipy.linalg  # noqa: F401 (loads its BLAS, which `_controller` must find)
from joblib.parallel import get_active_backend
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import ThreadpoolController

Index = slice | NDArray[np.intp]
Partial = tuple[Any, ...]
Progress = Callable[[int, int, str], bool | None]

#: A block of this size stays in the second-level cache between the steps of a block function.
BLOCK_BYTES = 1 << 20
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


class Stopped(RuntimeError):  # noqa: N818 (no error: it was asked for, as with StopIteration)
    """The progress callback returned False."""


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
        self.block_rows = 1 << max(0, (BLOCK_BYTES // row_bytes).bit_length() - 1)
        self.n_blocks = -(-self.shape[0] // self.block_rows)

    def in_larger_blocks(self, factor: int) -> ArrayRows:
        """The same rows, so many blocks taken as one."""
        larger = copy.copy(self)
        larger.block_rows = factor * self.block_rows
        larger.n_blocks = -(-self.shape[0] // larger.block_rows)
        return larger

    def index(self, i: int) -> slice:
        return slice(i * self.block_rows, min((i + 1) * self.block_rows, self.shape[0]))

    def reader(self) -> Callable[[int], NDArray[Any]]:
        def read(i: int) -> NDArray[Any]:
            return np.ascontiguousarray(self.array[self.index(i)], dtype=self.dtype)

        return read


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
    """Raise ValueError if `block` has NaN or infinity, judged by `products`: one or more sums over the features a row.

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
    for blocks, nodes in _ordered(work, _tasks(rows, n_jobs), n_jobs, stop):
        for level, partial in nodes:
            tree.push(partial, level)
        done += len(blocks)
        if progress is not None and progress(done, n_blocks, stage) is False:
            stop.set()
            raise Stopped(f"{stage or 'run'} stopped by the progress callback at block {done} of {n_blocks}")
    return tree.total()


def _tasks(rows: Rows, n_jobs: int) -> list[range]:
    """Aligned groups of 2**m blocks: few enough to cost nothing to hand out, many enough for progress and balance."""
    n_blocks = rows.n_blocks
    block_bytes = max(1, rows.shape[0] * rows.shape[1] * rows.dtype.itemsize // max(1, n_blocks))
    group = max(1, min(TASK_BYTES // block_bytes, n_blocks // (4 * n_jobs)))
    group = 1 << (group.bit_length() - 1)
    return [range(i, min(i + group, n_blocks)) for i in range(0, n_blocks, group)]


def _ordered(
    work: Callable[[range], Any], tasks: list[range], n_jobs: int, stop: threading.Event
) -> Iterator[tuple[range, Any]]:
    """Results of the tasks in order. When the consumer leaves early, running tasks end at their next block."""
    with one_blas_thread():
        if n_jobs == 1 or len(tasks) <= 1:
            for task in tasks:
                yield task, work(task)
            return
        # Not joblib.Parallel: it polls every 10 ms, measured 11.6 ms a pass against 0.2 ms here (docs/decisions.md).
        with ThreadPoolExecutor(min(n_jobs, len(tasks))) as pool:
            pending: deque[tuple[range, Future[Any]]] = deque()
            try:
                for task in tasks:
                    pending.append((task, pool.submit(work, task)))
                    if len(pending) > 2 * n_jobs:
                        first, future = pending.popleft()
                        yield first, future.result()
                while pending:
                    first, future = pending.popleft()
                    yield first, future.result()
            finally:
                stop.set()
                for _, future in pending:
                    future.cancel()


def map_tasks(
    function: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    n_jobs: int | None = None,
    *,
    progress: Progress | None = None,
    stage: str = "",
    stop: threading.Event | None = None,
) -> list[Any]:
    """``[function(*task) for task in tasks]`` on threads, for a few large independent pieces such as restarts.

    `progress` is called with tasks as the unit. `stop` is set when the call is left early, by an exception, Ctrl-C or
    `progress`; tasks that look at it end then, others run to their end first.
    """
    n_jobs = min(effective_n_jobs(n_jobs), max(1, len(tasks)))
    results: list[Any] = []
    with one_blas_thread(), ThreadPoolExecutor(n_jobs) as pool:
        futures = [pool.submit(function, *task) for task in tasks] if n_jobs > 1 else []
        try:
            for i, task in enumerate(tasks):
                results.append(futures[i].result() if futures else function(*task))
                if progress is not None and progress(i + 1, len(tasks), stage) is False:
                    raise Stopped(f"{stage or 'tasks'} stopped by the progress callback at {i + 1} of {len(tasks)}")
        finally:
            if stop is not None:
                stop.set()
            for future in futures:
                future.cancel()
    return results


def effective_n_jobs(n_jobs: int | None) -> int:
    """Threads to use, as in joblib: -1 means all CPUs, -2 all but one.

    None means what an enclosing ``joblib.parallel_config(n_jobs=...)`` says, else all CPUs that this process may use
    (affinity and cgroup respected), at most ``OMP_NUM_THREADS``.
    """
    if n_jobs is None:
        n_jobs = get_active_backend()[1]
    if n_jobs is None:
        limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "4,2" has one number a level of nesting
        n_jobs = min(joblib.cpu_count(), int(limit) if limit.isdigit() and int(limit) > 0 else joblib.cpu_count())
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer):
        raise TypeError(f"n_jobs must be a whole number or None, got {n_jobs!r}")
    if n_jobs == 0:
        raise ValueError("n_jobs must be a positive number of threads, or negative as in joblib (-1: all CPUs); got 0")
    return int(n_jobs) if n_jobs > 0 else max(1, joblib.cpu_count() + 1 + int(n_jobs))


@cache
def _controller() -> ThreadpoolController:
    """The BLAS libraries of numpy and scipy, found once: that takes 2 ms, limiting them 20 us."""
    return ThreadpoolController()


def blas_libraries() -> list[str]:
    """The BLAS libraries in this process, such as ``'openblas 0.3.31 SkylakeX'``."""
    blas = (lib for lib in _controller().info() if lib["user_api"] == "blas")
    return sorted({f"{lib['internal_api']} {lib['version']} {lib.get('architecture', '')}".strip() for lib in blas})


_limit_lock = threading.Lock()
_limit_depth = 0
_blas_threads: list[int] = []


def _set_blas_threads(numbers: Iterable[int]) -> list[int]:
    """Set the threads of each BLAS library; returns what they were.

    threadpoolctl (seen in 3.8) obeys the first thread that ever set a limit of OpenBLAS and silently ignores
    all others, unless control is given up. We may be called from any thread, and count our users ourselves.
    """
    before = []
    libraries = (lib for lib in _controller().lib_controllers if lib.user_api == "blas")
    for library, number in zip(libraries, numbers, strict=False):
        give_up_control = getattr(library, "clear_controlling_thread", lambda **_: None)
        before.append(library.num_threads)
        give_up_control(force=True)
        library.set_num_threads(number)
        give_up_control(force=True)
    return before


def _after_fork() -> None:
    """A thread that held the lock does not exist in a forked child; its limit stays there, which is safe."""
    global _limit_lock
    _limit_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold every BLAS to one thread: ours are the parallelism, and a sum split over BLAS threads changes its bits.

    The limit is process-wide, so nested and concurrent users are counted and the last one out restores it.
    """
    global _limit_depth, _blas_threads
    with _limit_lock:
        if _limit_depth == 0:
            _blas_threads = _set_blas_threads(repeat(1))
        _limit_depth += 1
    try:
        yield
    finally:
        with _limit_lock:
            _limit_depth -= 1
            if _limit_depth == 0:
                _set_blas_threads(_blas_threads)
