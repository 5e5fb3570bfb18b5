"""Threads: a list of tasks that several share, how many there are, interruptions, BLAS limits, forked children."""

import multiprocessing
import os
import threading
import time

import joblib
import numpy as np
import pytest

from stemseg_core import SVD
from stemseg_core.system import threads
from stemseg_core.system.threads import (
    _controller,
    blas_libraries,
    effective_n_jobs,
    one_blas_thread,
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
