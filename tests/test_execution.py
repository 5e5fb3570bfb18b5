"""Execution: passes over blocks, in order on any number of threads; how it is made."""

import pickle
import sys
import time

import numpy as np
import pytest

from stemseg_core import KMeans, Stopped
from stemseg_core.rows.blocks import refuse_non_finite
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.system import execution as module
from stemseg_core.system.errors import NonFiniteError, ParameterError
from stemseg_core.system.execution import Execution

N_JOBS = (1, 2, 3, 8)


@pytest.fixture
def data():
    return np.random.default_rng(0).standard_normal((203, 5)).astype(np.float32)


class SmallBlocks(ArrayRows):
    """Rows of an array in blocks of a few rows, so that small data make many blocks."""

    def __init__(self, array, block_rows=4):
        super().__init__(array)
        self.block_rows = block_rows
        self.n_blocks = -(-self.shape[0] // block_rows)


class ShuffledBlocks(SmallBlocks):
    """Blocks that hold scattered rows, as the tiles of a window grid do."""

    def __init__(self, array, block_rows=4):
        super().__init__(array, block_rows)
        self.order = np.random.default_rng(0).permutation(self.shape[0])

    def index(self, i):
        return self.order[super().index(i)]


def sums_block(block):
    return None, (block.sum(axis=0, dtype=np.float64), len(block))


def products_block(block, factor):
    refuse_non_finite(block, block @ factor)
    return (block @ factor, block.sum(axis=1)), (block.T.astype(np.float64) @ block,)


def add_one_block(block, along):
    return (along + 1,), None


def failing_block(block, bad):
    if (block[:, 0] == bad).any():
        raise KeyError(f"row {bad}")
    time.sleep(0.001)
    return None, None


def test_tasks_are_aligned_groups(data):
    for n_jobs in N_JOBS:
        for block_rows in (1, 2, 7):
            rows = SmallBlocks(data, block_rows)
            tasks = module.tasks_of(rows, n_jobs)
            size = len(tasks[0])
            assert size & (size - 1) == 0
            assert [i for task in tasks for i in task] == list(range(rows.n_blocks))
            assert all(task.start % size == 0 for task in tasks)


def record(a, b):
    return ((a, b),)


# Passes over blocks.


@pytest.mark.parametrize("source", [SmallBlocks, ShuffledBlocks])
@pytest.mark.parametrize("n", [1, 2, 31, 64, 203])
def test_same_bits_for_any_number_of_threads(data, source, n):
    factor = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    results = []
    for n_jobs in N_JOBS:
        out = np.full((n, 3), np.nan, np.float32), np.full(n, np.nan, np.float32)
        (gram,) = Execution(n_jobs).run(products_block, source(data[:n]), factor, out=out)
        results.append((gram.tobytes(), out[0].tobytes(), out[1].tobytes()))
        np.testing.assert_allclose(gram, data[:n].T.astype(float) @ data[:n], rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(out[0], data[:n] @ factor, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out[1], data[:n].sum(axis=1), rtol=1e-4, atol=1e-5)
    assert len(set(results)) == 1


def test_merge_sees_blocks_in_order_at_any_number_of_threads(data):
    rows = SmallBlocks(np.arange(101.0)[:, None])
    trees = [Execution(n_jobs).run(first_of_block, rows, merge=record) for n_jobs in N_JOBS]
    assert all(tree == trees[0] for tree in trees)


def first_of_block(block):
    time.sleep(0.0005 * (block[0, 0] % 3))
    return None, (block[0, 0],)


@pytest.mark.parametrize("n_jobs", N_JOBS)
@pytest.mark.parametrize("source", [SmallBlocks, ShuffledBlocks])
def test_along_and_out_in_place(data, source, n_jobs):
    values = np.arange(203.0)
    Execution(n_jobs).run(add_one_block, source(data), along=(values,), out=(values,))
    np.testing.assert_array_equal(values, np.arange(203.0) + 1)


def test_no_rows_no_result():
    assert Execution(2).run(sums_block, ArrayRows(np.empty((0, 3)))) is None


def test_out_must_match_what_comes(data):
    with pytest.raises(ValueError, match="zip"):
        Execution(2).run(products_block, ArrayRows(data), np.ones((5, 1), np.float32), out=(np.empty((203, 1)),))


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_an_exception_ends_the_run(n_jobs):
    X = np.arange(4000.0)[:, None]
    started = []
    source = SmallBlocks(X)
    reader = source.reader()

    def read(i):
        started.append(i)
        return reader(i)

    source.reader = lambda: read
    with pytest.raises(KeyError, match="row 801"):
        Execution(n_jobs).run(failing_block, source, 801)
    n_started = len(started)
    assert n_started < 1000
    time.sleep(0.05)
    assert len(started) == n_started


@pytest.mark.parametrize("source", [SmallBlocks, ShuffledBlocks])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_non_finite_is_named_by_its_row(data, source, n_jobs):
    data[[57, 150], [3, 0]] = np.nan, np.inf
    rows = source(data)
    with pytest.raises(NonFiniteError) as caught:
        Execution(n_jobs).run(
            products_block, rows, np.ones((5, 1), np.float32), out=(np.empty((203, 1)), np.empty(203))
        )
    assert (caught.value.row, caught.value.feature) in ((57, 3), (150, 0))
    first = min(np.flatnonzero([np.isin(np.arange(203)[rows.index(i)], [57, 150]).any() for i in range(rows.n_blocks)]))
    assert caught.value.row in np.arange(203)[rows.index(first)]
    assert f"row {caught.value.row}, feature {caught.value.feature}" in str(caught.value)


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_stopped_by_progress(n_jobs):
    calls, seen = [], []

    def progress(done, total, stage):
        calls.append((done, total, stage))
        return done < 100

    def block(rows):
        seen.append(rows[0, 0])
        time.sleep(0.0005)
        return None, None

    with pytest.raises(Stopped, match="count stopped by the progress callback at"):
        Execution.of(n_jobs, None, progress, "count").run(block, SmallBlocks(np.arange(4000.0)[:, None]))
    n_seen = len(seen)
    assert calls[-1][0] >= 100
    assert n_seen < 1000
    time.sleep(0.02)
    assert len(seen) == n_seen


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_progress_counts_every_block_once(data, n_jobs):
    calls = []
    Execution.of(n_jobs, None, lambda *call: calls.append(call), "sums").run(sums_block, SmallBlocks(data, 1))
    done = [call[0] for call in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (203, 203, "sums")
    assert len(calls) >= 4
    assert {call[1:] for call in calls} == {(203, "sums")}


def test_progress_may_return_anything_but_false(data):
    for value in (None, 0, True, ""):
        Execution.of(progress=lambda *_, value=value: value).run(sums_block, SmallBlocks(data))


def test_block_functions_of_the_package_pickle():
    modules = [m for name, m in sys.modules.items() if name.startswith("stemseg_core.") and "_kernels" not in name]
    found = [
        value
        for module in modules
        for name, value in vars(module).items()
        if name.endswith("_block") and callable(value)
    ]
    assert len(found) > 5
    for function in found:
        assert pickle.loads(pickle.dumps(function)) is function


# What it is made of.


def test_of_checks_each_parameter():
    for name, value, kind in (("n_jobs", 0, ValueError), ("n_jobs", "2", TypeError), ("max_memory", "4 XB", ValueError),
                              ("max_memory", [4], TypeError), ("progress", 3, TypeError)):  # fmt: skip
        with pytest.raises(kind, match=f"^{name} must be ") as caught:
            Execution.of(**{name: value})
        assert isinstance(caught.value, ParameterError)
        assert (caught.value.name, caught.value.value) == (name, value)


def test_of_resolves_what_users_say():
    assert Execution.of(3, "2 GB", print, "fit") == Execution(3, 2e9, print, "fit")
    assert Execution.of(max_memory=None).max_memory is None


def test_it_is_handed_on_as_it_is():
    execution = Execution(3, 1e9, print, "fit")
    with pytest.raises(AttributeError):
        execution.n_threads = 2
    assert execution.called("scores") == Execution(3, 1e9, print, "scores")
    assert execution.without_progress() == Execution(3, 1e9, None, "fit")
    assert execution.on_one_thread() == Execution(1, 1e9, print, "fit")
    model = KMeans(2)
    assert execution.configure(model) is model
    assert (model.n_jobs, model.max_memory, model.progress) == (3, 1e9, print)


def test_memory_is_required_and_spared():
    with pytest.raises(MemoryError, match=r"^the table needs 2 GB but max_memory is 1 GB; cut it$"):
        Execution(1, 1e9).require(2e9, "the table", "cut it")
    Execution(1, 1e9).require(1e9, "the table", "cut it")
    assert Execution(1, 1e9).spare(2e9) == 0
    assert 0 < Execution(1, 1e15).spare(1e9) <= 1e15 - 1e9


def test_a_list_without_a_stage_is_not_told_of():
    Execution(2, progress=lambda *_: False).map(pow, [(2, 3)])
