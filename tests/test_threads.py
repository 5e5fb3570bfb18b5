"""Threads: a list of tasks that several share, how many there are, interruptions, BLAS limits, forked children."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import joblib
import numpy as np
import pytest

from stemseg_core import SVD, Stopped
from stemseg_core._kernels.cpu import current_cpu
from stemseg_core.rows.transitional import map_tasks
from stemseg_core.system import threads
from stemseg_core.system.threads import (
    AHEAD,
    _controller,
    blas_libraries,
    effective_n_jobs,
    one_blas_thread,
    usable_cpus,
)

N_JOBS = (1, 2, 3, 8)


def blas_threads():
    return [lib["num_threads"] for lib in _controller().info() if lib["user_api"] == "blas"]


@pytest.fixture
def two_blas_threads():
    """BLAS on two threads during the test, whatever the environment says."""
    with _controller().limit(limits=2, user_api="blas"):
        yield [2] * len(blas_threads())


@pytest.fixture
def data():
    return np.random.default_rng(0).standard_normal((203, 5)).astype(np.float32)


# A list of tasks.


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_map_tasks(n_jobs):
    calls = []
    squares = map_tasks(pow, [(i, 2) for i in range(10)], n_jobs, progress=lambda *call: calls.append(call), stage="p")
    assert squares == [i * i for i in range(10)]
    assert calls == [(i, 10, "p") for i in range(1, 11)]
    assert map_tasks(pow, [], n_jobs) == []


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_map_tasks_left_early(n_jobs, two_blas_threads):
    stop = threading.Event()
    with pytest.raises(ZeroDivisionError):
        map_tasks(divmod, [(1, 0), (1, 1)], n_jobs, stop=stop)
    assert stop.is_set()
    stop.clear()
    with pytest.raises(Stopped, match="pairs stopped by the progress callback at 1 of 5"):
        map_tasks(divmod, [(1, 1)] * 5, n_jobs, progress=lambda *_: False, stage="pairs", stop=stop)
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

    assert map_tasks(task, [(i,) for i in range(50)], 2) == list(range(50))
    assert n_done == [2 * AHEAD - 1]


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_the_first_error_in_order_is_raised(n_jobs):
    def task(i):
        if i >= 3:
            time.sleep(0.01 if i == 3 else 0)
            raise KeyError(i)

    for _ in range(5):
        with pytest.raises(KeyError) as caught:
            map_tasks(task, [(i,) for i in range(20)], n_jobs)
        assert caught.value.args == (3,)


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_an_exit_in_a_task_does_not_hang(n_jobs):
    for _ in range(5):
        with pytest.raises(SystemExit):
            map_tasks(sys.exit, [(i,) for i in range(20)], n_jobs)


def test_tasks_may_share_tasks_of_their_own():
    def inner(i):
        return sum(map_tasks(pow, [(i, 2)] * 10, 3))

    assert map_tasks(inner, [(i,) for i in range(10)], 3) == [10 * i * i for i in range(10)]


def test_threads_are_kept():
    before = None
    for _ in range(20):
        map_tasks(time.sleep, [(0.001,)] * 6, 3)
        names = {t.ident for t in threading.enumerate()}
        assert before in (None, names)
        before = names


# How many threads, and BLAS.


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system does not bind threads")
@pytest.mark.skipif(usable_cpus() < 2, reason="one CPU")
def test_a_helper_leaves_the_cpu_of_its_caller(monkeypatch):
    usable, asked = os.sched_getaffinity(0), []
    set_affinity = os.sched_setaffinity

    def spy(thread, cpus):
        asked.append(cpus)
        set_affinity(thread, cpus)
        if cpus != usable:
            assert current_cpu() in cpus

    monkeypatch.setattr(os, "sched_setaffinity", spy)
    cpu = current_cpu()
    monkeypatch.setattr(threads, "current_cpu", lambda: cpu)
    threads._leave(cpu)
    assert asked == [usable - {cpu}, usable]
    assert os.sched_getaffinity(0) == usable
    threads._leave(cpu + 1)
    set_affinity(0, {cpu})
    try:
        threads._leave(cpu)  # nowhere to go
        assert os.sched_getaffinity(0) == {cpu}
    finally:
        set_affinity(0, usable)
    assert len(asked) == 2


def test_helpers_that_may_not_move_help(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse, raising=False)
    monkeypatch.setattr(threads, "current_cpu", lambda: 0)
    together = threading.Barrier(2, timeout=20)
    assert len(map_tasks(together.wait, [()] * 2, 2)) == 2


def test_effective_n_jobs(monkeypatch):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [effective_n_jobs(n) for n in (None, 1, 4, np.int64(3), 64, -1, -2, -6, -7, -100)] == [
        6,
        1,
        4,
        3,
        64,
        6,
        5,
        1,
        1,
        1,
    ]
    with pytest.raises(ValueError, match=r"n_jobs must be a positive number of threads.*got 0"):
        effective_n_jobs(0)


@pytest.mark.parametrize(
    ("value", "expected"), [("2", 2), ("64", 6), ("2,1", 2), ("", 6), ("0", 6), ("-1", 6), ("all", 6), (" 3 ", 3)]
)
def test_omp_num_threads_is_a_limit_of_the_default(monkeypatch, value, expected):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert effective_n_jobs(None) == expected
    assert effective_n_jobs(5) == 5


@pytest.mark.parametrize("value", [1.5, "2", [1], True])
def test_n_jobs_of_the_wrong_kind(value):
    with pytest.raises(TypeError, match="n_jobs must be a whole number or None, got"):
        effective_n_jobs(value)


def test_usable_cpus(monkeypatch):
    assert threads.usable_cpus() == joblib.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert threads.usable_cpus() == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that binds processes to CPUs")
def test_usable_cpus_follow_the_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert threads.usable_cpus() == joblib.cpu_count()


def test_joblib_parallel_config_reaches_us():
    for n_jobs in (1, 3):
        with joblib.parallel_config(n_jobs=n_jobs):
            assert effective_n_jobs(None) == n_jobs
            assert effective_n_jobs(2) == 2
    with joblib.parallel_config(n_jobs=-1):
        assert effective_n_jobs(None) == joblib.cpu_count()
    assert effective_n_jobs(None) >= 1


def test_one_blas_thread_nested(two_blas_threads):
    one = [1] * len(two_blas_threads)
    with one_blas_thread():
        assert blas_threads() == one
        with one_blas_thread():
            assert blas_threads() == one
        assert blas_threads() == one
    assert blas_threads() == two_blas_threads
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert blas_threads() == two_blas_threads


def test_one_blas_thread_concurrent(two_blas_threads):
    wrong = []

    def work(seed):  # each thread may be the first in and the last out
        for pause in np.random.default_rng(seed).random(20) / 2000:
            with one_blas_thread():
                time.sleep(pause)
                if max(blas_threads()) != 1:
                    wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert blas_threads() == two_blas_threads


def test_one_blas_thread_after_another_thread_set_a_limit(two_blas_threads):
    inside, done = threading.Event(), threading.Event()
    seen = []

    def other():
        with one_blas_thread():
            inside.set()
            done.wait()

    def late():
        with one_blas_thread():
            seen.append(max(blas_threads()))

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with one_blas_thread():  # first in there, last out here
        done.set()
        thread.join()
        assert max(blas_threads()) == 1
    assert blas_threads() == two_blas_threads
    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    assert seen == [1]
    assert blas_threads() == two_blas_threads


def test_tasks_see_one_blas_thread(two_blas_threads):
    for n_jobs in (1, 3):
        assert {max(now) for now in map_tasks(blas_threads, [()] * 20, n_jobs)} == {1}
        assert blas_threads() == two_blas_threads


def test_blas_libraries():
    assert blas_libraries()
    assert all(len(name.split()) >= 2 for name in blas_libraries())


def fit_in_child(X, queue):
    queue.put(SVD(2, n_jobs=2).fit(X).singular_values_)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_works(data):
    expected = SVD(2, n_jobs=2).fit(data).singular_values_
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with one_blas_thread():  # as if another thread were at work
        child = context.Process(target=fit_in_child, args=(data, queue))
        child.start()
    child.join(timeout=20)
    assert child.exitcode == 0
    np.testing.assert_array_equal(queue.get(), expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("call", ["run", "map_tasks"])
def test_keyboard_interrupt(n_jobs, call):
    code = textwrap.dedent(f"""
        import time, sys, threading
        import numpy as np
        from stemseg_core.rows.sources import ArrayRows
        from stemseg_core.rows.transitional import run
        from stemseg_core.system.threads import _controller
        from stemseg_core.rows.transitional import map_tasks

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
                    run(slow, rows, n_jobs={n_jobs})
                else:
                    map_tasks(slow, [(np.full(1, i), stop) for i in range(600)], {n_jobs}, stop=stop)
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
