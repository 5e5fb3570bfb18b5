"""How work is carried out, whatever the work: on how many threads, in how much memory, and who is told of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from stemseg_core.system import memory
from stemseg_core.system.errors import NonFiniteError, ParameterTypeError
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.merging import MergeTree, add
from stemseg_core.system.threads import Progress, Stopped, effective_n_jobs, in_order
from stemseg_core.system.types import Array, Index, Partial

#: Bytes of the blocks that one task of the thread pool takes. To hand out a task costs about 20 us, and this many bytes
#: take far longer. Twice as much: coarser progress, and threads that wait longer for the last one.
TASK_BYTES = 8 << 20

Estimator = TypeVar("Estimator", bound=Any)
BlockFunction = Callable[..., tuple[Partial | None, Partial | None]]


class Blocks(Protocol):
    """What `Execution.run` needs of a source of rows, see `stemseg_core.rows.sources.Rows`."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def n_blocks(self) -> int: ...
    def index(self, i: int) -> Index: ...
    def reader(self) -> Callable[[int], Array]: ...


@dataclass(frozen=True)
class Execution:
    """Threads, memory and progress: made once, where a user's parameters come in, and handed on as it is.

    Attributes
    ----------
    n_threads : int
        Threads that may work at once, the calling one among them.
    max_memory : float or None
        Bytes; None: a share of what is free when it is asked for.
    progress : callable or None
        ``progress(done, total, stage)``; if it returns False, `Stopped` is raised.
    stage : str
        What the work is called, for `progress`.
    """

    n_threads: int = 1
    max_memory: float | None = None
    progress: Progress | None = None
    stage: str = ""

    @classmethod
    def of(
        cls,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
        stage: str = "",
    ) -> Execution:
        """From the parameters ``n_jobs``, ``max_memory`` and ``progress``, which are checked.

        Raises
        ------
        ParameterError
            If one of them is not as `WindowFFT` describes it.
        """
        if progress is not None and not callable(progress):
            raise ParameterTypeError(
                f"`progress` must be a function of (done, total, stage), got {progress!r}", progress=progress
            )
        limit = None if max_memory is None else memory.memory_limit(max_memory)
        return cls(effective_n_jobs(n_jobs), limit, progress, stage)

    def called(self, stage: str) -> Execution:
        """The same for work of another name."""
        return replace(self, stage=stage)

    def on_one_thread(self) -> Execution:
        """The same on the calling thread alone."""
        return replace(self, n_threads=1)

    def without_progress(self) -> Execution:
        """The same, told to nobody: for a step of work whose progress is counted by the work itself."""
        return replace(self, progress=None)

    def configure(self, estimator: Estimator) -> Estimator:
        """Set ``n_jobs``, ``max_memory`` and ``progress`` of an estimator of ours in place, and return it."""
        estimator.set_params(n_jobs=self.n_threads, max_memory=self.max_memory, progress=self.progress)
        return estimator

    # Work.

    def run(
        self,
        function: BlockFunction,
        rows: Blocks,
        *state: Any,
        along: Sequence[Array] = (),
        out: Sequence[Array] = (),
        merge: Callable[[Partial, Partial], Partial] = add,
        stage: str = "",
    ) -> Any:
        """Call ``function(block, *along_blocks, *state)`` on every block of `rows`, on threads.

        Parameters
        ----------
        function : callable
            Module-level, so that it pickles. Gets a C-contiguous block of rows (read-only: it may be the caller's own
            memory, and is valid during the call only), the same rows of each array in `along`, and `state`. Returns
            ``(per_row, partial)``: a tuple of arrays with one entry a row for `out`, and a tuple to be merged; either
            may be None. Members of `partial` must be fresh and, to be safe to add up, float64 or int64.
        rows : Rows
        *state
            Small things that every call needs.
        along : sequence of arrays of shape (n, ...)
        out : sequence of arrays of shape (n, ...)
            Filled with the members of ``per_row``. May be arrays of `along`: a call only touches its own rows.
        merge : callable
            ``merge(a, b)`` of two partial results, a before b in block order. Default: add member by member.
        stage : str
            What `progress` is told in place of the stage of this object; its unit is a block.

        Returns
        -------
        The merged partial results, None if there were none. They have the same bits for any number of threads.

        Raises
        ------
        Stopped
            If `progress` returns False. Like an exception or Ctrl-C, it takes effect at the next block, after which
            nothing is written any more.
        """
        tree = MergeTree(merge)
        stop = threading.Event()
        thread = threading.local()

        def work(blocks: range) -> list[tuple[int, Partial]]:
            # One reader a thread, not a task: memory given back and asked for again costs page faults, and the flushing
            # of the other threads' address caches.
            if not hasattr(thread, "read"):
                thread.read = rows.reader()
            part = MergeTree(merge)
            for i in blocks:
                if stop.is_set():
                    break
                index = rows.index(i) if along or out else None
                try:
                    per_row, partial = function(thread.read(i), *(array[index] for array in along), *state)
                except NonFiniteError as error:
                    raise error.in_rows(rows.index(i)) from None
                for target, values in zip(out, per_row or (), strict=True):
                    with np.errstate(over="ignore"):  # what overflows is refused where it is used, in words
                        target[index] = values
                if partial is not None:
                    part.push(partial)
            return part.nodes

        done = 0
        tasks = [(blocks,) for blocks in tasks_of(rows, self.n_threads)]
        for (blocks,), nodes in zip(tasks, in_order(work, tasks, self.n_threads, stop), strict=True):
            for level, partial in nodes:
                tree.push(partial, level)
            done += len(blocks)
            self.report(done, rows.n_blocks, stage)
        return tree.total()

    def map(
        self,
        function: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        *,
        stage: str = "",
        stop: threading.Event | None = None,
    ) -> list[Any]:
        """``[function(*task) for task in tasks]`` on threads, for a few large independent pieces such as restarts.

        With a `stage`, `progress` is called after each task. `stop` is set when the call is left, early or not: a
        function that looks at it ends then.
        """
        results: list[Any] = []
        for result in in_order(function, tasks, self.n_threads, stop or threading.Event()):
            results.append(result)
            if stage:
                self.report(len(results), len(tasks), stage)
        return results

    def report(self, done: int, total: int, stage: str = "") -> None:
        """Call ``progress(done, total, stage)``, if there is one; raise `Stopped` if it returns False."""
        stage = stage or self.stage
        if self.progress is not None and self.progress(done, total, stage) is False:
            raise Stopped(f"{stage or 'run'} stopped by the progress callback at {done} of {total}")

    # Memory.

    def require(self, needed: float, purpose: str, cure: str) -> None:
        """Raise MemoryError if `needed` bytes exceed the limit; `purpose` and `cure` go into the message."""
        memory.require_memory(needed, self.max_memory, purpose, cure)

    def spare(self, needed: float) -> float:
        """Bytes that may be spent on saving time, where `needed` bytes must be had in any case."""
        return memory.spare_memory(needed, self.max_memory)


def tasks_of(rows: Blocks, n_threads: int) -> list[range]:
    """Aligned groups of 2**m blocks: few enough to cost nothing to hand out, many enough for progress and balance."""
    n_blocks = rows.n_blocks
    block_bytes = max(1, rows.shape[0] * rows.shape[1] * rows.dtype.itemsize // max(1, n_blocks))
    group = max(1, min(TASK_BYTES // block_bytes, n_blocks // (4 * n_threads)))
    group = 1 << (group.bit_length() - 1)
    return [range(i, min(i + group, n_blocks)) for i in range(0, n_blocks, group)]
