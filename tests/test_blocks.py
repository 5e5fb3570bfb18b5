"""Rows in blocks: the grid, the ordered merge, threads, interruptions, BLAS limits, every kind of array as source."""

import pickle
import sys
import time

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemseg_core import Stopped
from stemseg_core.rows import blocks as blocks_module
from stemseg_core.rows.blocks import refuse_non_finite
from stemseg_core.rows.sources import ArrayRows, as_rows, row_dtype
from stemseg_core.rows.transitional import refuse_too_small, run
from stemseg_core.system.errors import NonFiniteError
from stemseg_core.system.merging import MergeTree, add

N_JOBS = (1, 2, 3, 8)


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


@pytest.fixture
def data():
    return np.random.default_rng(0).standard_normal((203, 5)).astype(np.float32)


# The grid.


@given(n=st.integers(0, 2000), d=st.integers(0, 3000), dtype=st.sampled_from(["f4", "f8", ">f4", "u2"]))
@settings(deadline=None)
def test_blocks_cover_the_rows_once_in_order(n, d, dtype):
    rows = ArrayRows(np.broadcast_to(np.zeros((), dtype), (n, d)))
    covered = [i for block in range(rows.n_blocks) for i in range(n)[rows.index(block)]]
    assert covered == list(range(n))
    assert rows.block_rows & (rows.block_rows - 1) == 0
    assert rows.block_rows == 1 or rows.block_rows * d * rows.dtype.itemsize <= blocks_module.BLOCK_BYTES


def test_grid_depends_on_geometry_alone(tmp_path):
    X = np.zeros((5000, 300), np.float32)
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        chunked = file.create_dataset("x", data=X, chunks=(77, 300))
        sources = [X, np.asfortranarray(X), X.astype(">f4"), np.load(tmp_path / "x.npy", mmap_mode="r"), chunked]
        grids = {tuple(str(rows.index(i)) for i in range(rows.n_blocks)) for rows in map(as_rows, sources)}
    assert len(grids) == 1
    twice, once = ArrayRows(np.zeros((10000, 300), np.float32)), ArrayRows(X)
    assert [twice.index(i) for i in range(once.n_blocks - 1)] == [once.index(i) for i in range(once.n_blocks - 1)]


def test_tasks_are_aligned_groups(data):
    for n_jobs in N_JOBS:
        for block_rows in (1, 2, 7):
            rows = SmallBlocks(data, block_rows)
            tasks = blocks_module._tasks(rows, n_jobs)
            size = len(tasks[0])
            assert size & (size - 1) == 0
            assert [i for task in tasks for i in task] == list(range(rows.n_blocks))
            assert all(task.start % size == 0 for task in tasks)


# The merge.


def record(a, b):
    return ((a, b),)


@given(n=st.integers(0, 200), level=st.integers(0, 6))
def test_tree_has_the_same_shape_for_any_aligned_grouping(n, level):
    def tree_of(leaves):
        tree = MergeTree(record)
        for leaf in leaves:
            tree.push((leaf,))
        return tree

    whole = MergeTree(record)
    for start in range(0, n, 2**level):
        for at, partial in tree_of(range(start, min(start + 2**level, n))).nodes:
            whole.push(partial, at)
    assert whole.total() == tree_of(range(n)).total()


@given(n=st.integers(1, 5000))
@settings(max_examples=30)
def test_tree_holds_few_partials_and_keeps_the_order(n):
    tree = MergeTree(lambda a, b: (a[0] + b[0],))
    alive = 0
    for leaf in range(n):
        tree.push(((leaf,),))
        alive = max(alive, len(tree.nodes))
    assert alive <= n.bit_length()
    assert tree.total() == (tuple(range(n)),)


def test_empty_tree():
    assert MergeTree(add).total() is None


def test_add():
    a, b = (np.ones(2), 3), (np.full(2, 5.0), 4)
    total = add(a, b)
    assert total[0] is a[0]
    assert total[0].tolist() == [6, 6]
    assert total[1] == 7
    with pytest.raises(ValueError, match="zip"):
        add((1,), (1, 2))


# run().


@pytest.mark.parametrize("source", [SmallBlocks, ShuffledBlocks])
@pytest.mark.parametrize("n", [1, 2, 31, 64, 203])
def test_same_bits_for_any_number_of_threads(data, source, n):
    factor = np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32)
    results = []
    for n_jobs in N_JOBS:
        out = np.full((n, 3), np.nan, np.float32), np.full(n, np.nan, np.float32)
        (gram,) = run(products_block, source(data[:n]), factor, out=out, n_jobs=n_jobs)
        results.append((gram.tobytes(), out[0].tobytes(), out[1].tobytes()))
        np.testing.assert_allclose(gram, data[:n].T.astype(float) @ data[:n], rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(out[0], data[:n] @ factor, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(out[1], data[:n].sum(axis=1), rtol=1e-4, atol=1e-5)
    assert len(set(results)) == 1


def test_merge_sees_blocks_in_order_at_any_number_of_threads(data):
    rows = SmallBlocks(np.arange(101.0)[:, None])
    trees = [run(first_of_block, rows, merge=record, n_jobs=n_jobs) for n_jobs in N_JOBS]
    assert all(tree == trees[0] for tree in trees)


def first_of_block(block):
    time.sleep(0.0005 * (block[0, 0] % 3))
    return None, (block[0, 0],)


@pytest.mark.parametrize("n_jobs", N_JOBS)
@pytest.mark.parametrize("source", [SmallBlocks, ShuffledBlocks])
def test_along_and_out_in_place(data, source, n_jobs):
    values = np.arange(203.0)
    run(add_one_block, source(data), along=(values,), out=(values,), n_jobs=n_jobs)
    np.testing.assert_array_equal(values, np.arange(203.0) + 1)


def test_no_rows_no_result():
    assert run(sums_block, ArrayRows(np.empty((0, 3)))) is None


def test_out_must_match_what_comes(data):
    with pytest.raises(ValueError, match="zip"):
        run(products_block, ArrayRows(data), np.ones((5, 1), np.float32), out=(np.empty((203, 1)),))


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
        run(failing_block, source, 801, n_jobs=n_jobs)
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
        run(products_block, rows, np.ones((5, 1), np.float32), out=(np.empty((203, 1)), np.empty(203)), n_jobs=n_jobs)
    assert (caught.value.row, caught.value.feature) in ((57, 3), (150, 0))
    first = min(np.flatnonzero([np.isin(np.arange(203)[rows.index(i)], [57, 150]).any() for i in range(rows.n_blocks)]))
    assert caught.value.row in np.arange(203)[rows.index(first)]
    assert f"row {caught.value.row}, feature {caught.value.feature}" in str(caught.value)


def test_refuse_non_finite():
    block = np.ones((4, 3))
    refuse_non_finite(block, block.sum(axis=1))
    huge = np.full((2, 3), 3e38, np.float32)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="too large for float32"):
        refuse_non_finite(huge, (huge * huge).sum(axis=1))
    block[1, 2], block[3, 0], block[3, 1] = np.nan, np.inf, np.inf
    with pytest.raises(NonFiniteError, match=r"row 1, feature 2 \(1 NaN and 2 infinity"):
        refuse_non_finite(block, block.sum(axis=1))


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
        run(block, SmallBlocks(np.arange(4000.0)[:, None]), n_jobs=n_jobs, progress=progress, stage="count")
    n_seen = len(seen)
    assert calls[-1][0] >= 100
    assert n_seen < 1000
    time.sleep(0.02)
    assert len(seen) == n_seen


@pytest.mark.parametrize("n_jobs", N_JOBS)
def test_progress_counts_every_block_once(data, n_jobs):
    calls = []
    run(sums_block, SmallBlocks(data, 1), n_jobs=n_jobs, progress=lambda *call: calls.append(call), stage="sums")
    done = [call[0] for call in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (203, 203, "sums")
    assert len(calls) >= 4
    assert {call[1:] for call in calls} == {(203, "sums")}


def test_progress_may_return_anything_but_false(data):
    for value in (None, 0, True, ""):
        run(sums_block, SmallBlocks(data), progress=lambda *_, value=value: value)


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


# Sources.


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("f4", "f4"), (">f4", "f4"), ("f8", "f8"), (">f8", "f8"), ("f2", "f8"), ("u1", "f8"), (">i4", "f8"), ("?", "f8")],
)
def test_row_dtype(dtype, expected):
    assert row_dtype(dtype) == np.dtype(expected)
    assert row_dtype(dtype).isnative


def readonly(X):
    X = X.copy()
    X.setflags(write=False)
    return X


def strided(X):
    return np.repeat(np.repeat(X, 2, axis=1), 2, axis=0)[::2, ::2]


def backwards(X):
    return X[::-1, ::-1].copy()[::-1, ::-1]


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", ">f8", "u1", "i2", ">u2", "i8", "?", "f2"])
@pytest.mark.parametrize(
    "layout",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        readonly,
        strided,
        backwards,
    ],
    ids=["C", "F", "read-only", "strided", "backwards"],
)
def test_array_rows_of_any_layout(dtype, layout):
    values = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 100, (100, 7)).astype(dtype)
    X = layout(values)
    rows = SmallBlocks(X, 16)
    read = rows.reader()
    blocks = [read(i) for i in range(rows.n_blocks)]
    for block in blocks:
        assert block.flags.c_contiguous
        assert block.dtype == row_dtype(dtype)
    np.testing.assert_array_equal(np.concatenate(blocks), values)


def test_array_rows_from_disk(tmp_path):
    X = np.random.default_rng(0).integers(0, 1000, (100, 7))
    for dtype in ("f4", ">f8", "u2"):
        values = X.astype(dtype)
        np.save(tmp_path / "x.npy", values)
        with h5py.File(tmp_path / "x.h5", "w") as file:
            chunked = file.create_dataset("x", data=values, chunks=(13, 3), compression="gzip")
            for source in (np.load(tmp_path / "x.npy", mmap_mode="r"), chunked):
                rows = SmallBlocks(source, 16)
                read = rows.reader()
                blocks = np.concatenate([read(i) for i in range(rows.n_blocks)])
                assert blocks.dtype == row_dtype(dtype)
                np.testing.assert_array_equal(blocks, values)


def test_native_rows_are_not_copied():
    X = np.ones((10, 3), np.float32)
    assert np.shares_memory(ArrayRows(X).reader()(0), X)


def test_array_rows_without_features():
    rows = ArrayRows(np.empty((10, 0)))
    assert rows.n_blocks == 1
    assert rows.reader()(0).shape == (10, 0)


def test_as_rows_leaves_a_source_alone(data):
    rows = SmallBlocks(data)
    assert as_rows(rows) is rows
    assert as_rows(data).array is data


@pytest.mark.parametrize(("dtype", "small"), [(np.float32, 1e-20), (np.float64, 1e-160)])
def test_refuse_too_small(dtype, small):
    X = np.random.default_rng(0).random((300, 20)).astype(dtype)
    for rows, shift in ((X, None), (X * 0, None), (X * 0 + X[0], X[0]), (X[0] * 0 + X * dtype(1e-10), None)):
        Y = rows if shift is None else rows - shift
        refuse_too_small(ArrayRows(rows), float((Y * Y).sum()), shift, n_jobs=1)
    for scale, offset in ((small, 0), (small, small)):
        rows = X * dtype(scale) + dtype(offset)
        with pytest.raises(ValueError, match=f"values too small for {X.dtype}: their squares vanish; scale X up"):
            refuse_too_small(ArrayRows(rows), float((rows * rows).sum()))
