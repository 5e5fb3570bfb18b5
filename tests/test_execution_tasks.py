"""Execution: lists of tasks, in order on any number of threads; errors, exits and interruptions."""

import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from stemseg_core import Stopped
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import AHEAD, _controller

N_JOBS = (1, 2, 3, 8)


def blas_threads():
    return [lib["num_threads"] for lib in _controller().info() if lib["user_api"] == "blas"]


@pytest.fixture
def two_blas_threads():
    """BLAS on two threads during the test, whatever the environment says."""
    with _controller().limit(limits=2, user_api="blas"):
        yield [2] * len(blas_threads())


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_map(n_jobs):
    calls = []
    squares = Execution(n_jobs, progress=lambda *call: calls.append(call)).map(
        pow, [(i, 2) for i in range(10)], stage="p"
    )
    assert squares == [i * i for i in range(10)]
    assert calls == [(i, 10, "p") for i in range(1, 11)]
    assert Execution(n_jobs).map(pow, []) == []


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_map_left_early(n_jobs, two_blas_threads):
    stop = threading.Event()
    with pytest.raises(ZeroDivisionError):
        Execution(n_jobs).map(divmod, [(1, 0), (1, 1)], stop=stop)
    assert stop.is_set()
    stop.clear()
    with pytest.raises(Stopped, match="pairs stopped by the progress callback at 1 of 5"):
        Execution(n_jobs, progress=lambda *_: False).map(divmod, [(1, 1)] * 5, stage="pairs", stop=stop)
    assert stop.is_set()
    assert blas_threads() == two_blas_threads


def test_results_wait_for_their_turn():
    """The second thread goes on while the first task takes its time, but not endlessly far."""
    done: list[int] = []
    n_done: list[int] = []

    def task(i):
        if i == 0:
            while len(done) < 2 * AHEAD - 1:
                time.sleep(0.001)
            time.sleep(0.02)
            n_done.append(len(done))
        else:
            done.append(i)
        return i

    assert Execution(2).map(task, [(i,) for i in range(50)]) == list(range(50))
    assert n_done == [2 * AHEAD - 1]


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_the_first_error_in_order_is_raised(n_jobs):
    def task(i):
        if i >= 3:
            time.sleep(0.01 if i == 3 else 0)
            raise KeyError(i)

    for _ in range(5):
        with pytest.raises(KeyError) as caught:
            Execution(n_jobs).map(task, [(i,) for i in range(20)])
        assert caught.value.args == (3,)


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_an_exit_in_a_task_does_not_hang(n_jobs):
    for _ in range(5):
        with pytest.raises(SystemExit):
            Execution(n_jobs).map(sys.exit, [(i,) for i in range(20)])


def test_tasks_may_share_tasks_of_their_own():
    def inner(i):
        return sum(Execution(3).map(pow, [(i, 2)] * 10))

    assert Execution(3).map(inner, [(i,) for i in range(10)]) == [10 * i * i for i in range(10)]


def test_threads_are_kept():
    before = None
    for _ in range(20):
        Execution(3).map(time.sleep, [(0.001,)] * 6)
        names = {t.ident for t in threading.enumerate()}
        assert before in (None, names)
        before = names


def test_tasks_see_one_blas_thread(two_blas_threads):
    for n_jobs in (1, 3):
        assert {max(now) for now in Execution(n_jobs).map(blas_threads, [()] * 20)} == {1}
        assert blas_threads() == two_blas_threads


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("call", ["run", "map"])
def test_keyboard_interrupt(n_jobs, call):
    code = textwrap.dedent(f"""
        import time, sys, threading
        import numpy as np
        from stemseg_core.rows.sources import ArrayRows
        from stemseg_core.system.threads import _controller
        from stemseg_core.system.execution import Execution

        n_slow = [0]

        def slow(block, stop=None):
            n_slow[0] += 1
            if block.size and block.flat[0] == 0:
                print("started", flush=True)
            for _ in range(5):
                if stop is not None and stop.is_set():
                    return None, None
                time.sleep(0.02)
            return None, None

        def threads():
            return [lib["num_threads"] for lib in _controller().info() if lib["user_api"] == "blas"]

        rows = ArrayRows(np.arange(600.0)[:, None])
        rows.block_rows, rows.n_blocks = 1, 600
        stop = threading.Event()
        with _controller().limit(limits=2, user_api="blas"):
            before = threads()
            try:
                if {call == "run"}:
                    Execution({n_jobs}).run(slow, rows)
                else:
                    Execution({n_jobs}).map(slow, [(np.full(1, i), stop) for i in range(600)], stop=stop)
            except KeyboardInterrupt:
                left = n_slow[0]
                time.sleep(0.1)
                print("interrupted", threads() == before, n_slow[0] - left)
    """)
    process = subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "started\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)  # the whole run would take 30 s
    assert output == "interrupted True 0\n"
    assert process.returncode == 0
