"""Threads: how many, a list of tasks that several of them share, and BLAS held to one thread meanwhile.

The calling thread takes tasks like the others, which are kept between calls: handing out a pass over the rows costs
some microseconds, not the start of threads. Results come in the order of the tasks.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import repeat
from typing import Any

import joblib
import numpy as np
import scipy.linalg  # noqa: F401 (loads its BLAS, which `_controller` must find)
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController

from stemseg_core.system.errors import ParameterError, ParameterTypeError

Progress = Callable[[int, int, str], bool | None]

#: Results that may wait for their turn, for each thread. Twice as many: more memory for results that nobody has fetched
#: yet, and threads that wait less for a slow first task.
AHEAD = 2


class Stopped(RuntimeError):  # noqa: N818 (no error: it was asked for, as with StopIteration)
    """The progress callback returned False."""


class _Shared:
    """Tasks that several threads take one after another, and the results that wait to be fetched in order."""

    def __init__(self, function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_threads: int) -> None:
        self.function = function
        self.tasks = tasks
        self.ahead = AHEAD * n_threads
        self.changed = threading.Condition()
        self.n_taken = self.n_fetched = 0
        self.results: dict[int, tuple[Any, BaseException | None]] = {}

    def help(self) -> None:
        """Do tasks until all are taken."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._has_room() or self.n_taken == len(self.tasks))
                i = self._take()
            if i is None:
                return
            self._do(i)

    def fetch(self, n: int) -> Any:
        """Result n; until it is there, the calling thread does tasks."""
        while True:
            with self.changed:
                i = None if n in self.results else self._take()
                if i is None:
                    self.changed.wait_for(lambda: n in self.results)
                    self.n_fetched += 1
                    self.changed.notify_all()
                    result, error = self.results.pop(n)
                    break
            self._do(i)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        """Let no task begin any more."""
        with self.changed:
            self.n_taken = len(self.tasks)
            self.changed.notify_all()

    def _has_room(self) -> bool:
        return self.n_taken - self.n_fetched < self.ahead

    def _take(self) -> int | None:
        if self.n_taken == len(self.tasks) or not self._has_room():
            return None
        self.n_taken += 1
        return self.n_taken - 1

    def _do(self, i: int) -> None:
        result, error = None, None
        try:
            result = self.function(*self.tasks[i])
        except BaseException as raised:
            error = raised
            if not isinstance(raised, Exception):  # Ctrl-C does not wait for its turn
                raise
        finally:
            with self.changed:
                self.results[i] = result, error
                self.changed.notify_all()


@cache
def _helpers(n: int) -> ThreadPoolExecutor:
    """A pool of n threads, which start when they are first needed and stay."""
    return ThreadPoolExecutor(n, thread_name_prefix="stemseg")


def in_order(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int, stop: threading.Event
) -> Iterator[Any]:
    """``function(*task) for task in tasks`` on `n_jobs` threads, of which the calling one is the first.

    `stop` is set when the consumer leaves early, by an exception or Ctrl-C: tasks that look at it end then, others run
    to their end first.
    """
    with one_blas_thread():
        if n_jobs == 1 or len(tasks) <= 1:
            try:
                yield from (function(*task) for task in tasks)
            finally:
                stop.set()
            return
        # Not joblib.Parallel: it polls every 10 ms, measured 11.6 ms a pass against 0.2 ms here (docs/decisions.md).
        shared = _Shared(function, tasks, n_jobs)
        futures = [_helpers(n_jobs - 1).submit(shared.help) for _ in range(min(n_jobs, len(tasks)) - 1)]
        try:
            for n in range(len(tasks)):
                yield shared.fetch(n)
        finally:
            stop.set()
            shared.close()
            wait([future for future in futures if not future.cancel()])


def effective_n_jobs(n_jobs: int | None) -> int:
    """Threads to use, as in joblib: -1 means all CPUs, -2 all but one.

    None means what an enclosing ``joblib.parallel_config(n_jobs=...)`` says, else all CPUs that this process may use
    (affinity and cgroup respected), at most ``OMP_NUM_THREADS``.
    """
    if n_jobs is None:
        n_jobs = get_active_backend()[1]
    if n_jobs is None:
        limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()  # "4,2" has one number a level of nesting
        n_jobs = usable_cpus()
        n_jobs = min(n_jobs, int(limit)) if limit.isdigit() and int(limit) > 0 else n_jobs
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int | np.integer):
        raise ParameterTypeError(f"`n_jobs` must be a whole number or None, got {n_jobs!r}", n_jobs=n_jobs)
    if n_jobs == 0:
        raise ParameterError(
            "`n_jobs` must be a positive number of threads, or negative as in joblib (-1: all CPUs); got 0", n_jobs=0
        )
    return int(n_jobs) if n_jobs > 0 else max(1, usable_cpus() + 1 + int(n_jobs))


def usable_cpus() -> int:
    """CPUs that this process may use, as joblib counts them; asked again when the affinity has changed."""
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    return _cpu_count(frozenset(affinity), os.environ.get("LOKY_MAX_CPU_COUNT"))


@cache
def _cpu_count(affinity: frozenset[int], most: str | None) -> int:
    """`joblib.cpu_count`, which reads the quota of the control group from files: 50 us, a tenth of a short pass."""
    return int(joblib.cpu_count())


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
    """A forked child has one thread: none that could give the lock back (its limit stays, which is safe), or help."""
    global _limit_lock
    _limit_lock = threading.Lock()
    _helpers.cache_clear()


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
