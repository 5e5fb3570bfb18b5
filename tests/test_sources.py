"""Sources of rows: the grid of blocks, arrays of any kind, rows that are cached, groups and samples of blocks."""

import gc
import threading
import weakref

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemseg_core import NFINDR, NMF, WindowFFT, segment
from stemseg_core.rows import sources
from stemseg_core.rows.sources import ArrayRows, CachedRows, MaskedRows, Rows, as_rows, cached, row_dtype
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import Stopped

IMAGE = np.random.default_rng(0).random((150, 170)).astype(np.float32)
MASK = np.zeros(IMAGE.shape, bool)
MASK[70:80, 90:95] = True


class Counting(Rows):
    """A source that counts how often each block is made, and fails at one block if told to."""

    def __init__(self, rows, fails_at=None):
        self.rows, self.fails_at = rows, fails_at
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks
        self.counts = np.zeros(rows.n_blocks, int)
        self.lock = threading.Lock()

    def index(self, i):
        return self.rows.index(i)

    def reader(self):
        read = self.rows.reader()

        def counting(i):
            if i == self.fails_at:
                raise OSError("the disk is gone")
            with self.lock:
                self.counts[i] += 1
            return read(i)

        return counting


@pytest.fixture(params=[None, MASK], ids=["full", "masked"])
def source(request):
    matrix = WindowFFT(32, 1).matrix(IMAGE, request.param)
    assert matrix.n_blocks > 4
    return Counting(matrix)


def _sums(block):
    return (block[:, :3].copy(),), (block.sum(axis=0, dtype=np.float64),)


def passes(rows, n=2, n_threads=2, progress=None):
    """Results of n passes as bytes."""
    execution = Execution(n_threads, progress=progress)
    out = np.empty((rows.shape[0], 3), rows.dtype)
    return [execution.run(_sums, rows, out=(out,))[0].tobytes() + out.tobytes() for _ in range(n)]


@pytest.mark.parametrize("share", [0, 0.5, 1])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_same_bits_and_each_kept_block_is_made_once(source, share, n_jobs):
    size = source.shape[0] * source.shape[1] * source.dtype.itemsize
    expected = passes(source.rows, 1)[0]
    kept = CachedRows(source, share * size)
    assert passes(kept, 3, n_jobs) == [expected] * 3
    assert source.counts.tolist() == [1] * kept.n_stored + [3] * (source.n_blocks - kept.n_stored)
    row_bytes = source.shape[1] * source.dtype.itemsize
    ends = np.cumsum([source.n_rows(i) for i in range(source.n_blocks)]) * row_bytes
    assert kept.n_stored == np.count_nonzero(ends <= share * size)
    assert (kept.n_stored == source.n_blocks) == (share == 1)
    assert kept._store.nbytes <= share * size
    assert (kept.shape, kept.dtype, kept.n_blocks) == (source.shape, source.dtype, source.n_blocks)


def test_kept_blocks_are_read_only(source):
    read = CachedRows(source, 1e9).reader()
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            read(1)[0, 0] = 1


def test_an_interrupted_pass_leaves_whole_blocks(source):
    expected = passes(source.rows, 1)
    kept = CachedRows(source, 1e9)
    source.fails_at = 3
    with pytest.raises(OSError, match="the disk is gone"):
        passes(kept)
    assert not kept._made[3]
    source.fails_at = None
    with pytest.raises(Stopped):
        passes(kept, progress=lambda *_: False)
    assert passes(kept) == expected * 2
    assert source.counts.max() == 1


def test_a_block_that_breaks_off_is_made_again(source):
    class Breaking(Counting):
        def reader(self):
            read = super().reader()
            return lambda i: read(i)[:-1] if self.counts[i] == 0 else read(i)

    breaking = Breaking(source.rows)
    kept = CachedRows(breaking, 1e9)
    with pytest.raises(ValueError, match="broadcast"):
        kept.reader()(0)
    np.testing.assert_array_equal(kept.reader()(0), source.rows.reader()(0))


def test_only_what_is_made_anew_is_kept(source):
    array = ArrayRows(np.ones((9, 2)))
    assert cached(array, 1e9) is array
    kept = cached(source, 1e9)
    assert isinstance(kept, CachedRows)
    assert cached(kept, 1e9) is kept


def test_memory_is_released_with_the_rows(source):
    kept = CachedRows(source, 1e9)
    passes(kept)
    store = weakref.ref(kept._store)
    del kept
    gc.collect()
    assert store() is None


def test_results_do_not_depend_on_what_is_kept(monkeypatch):
    matrix = WindowFFT(32, 4).matrix(IMAGE)

    def results():
        found = segment(IMAGE, 2, window=32, step=4)
        fits = [estimator.fit(matrix).components_ for estimator in (NMF(2), NFINDR(3), NFINDR(3, n_neighbors=5))]
        return [array.tobytes() for array in (*fits, found.components, found.residual)]

    expected = results()
    for budget in (0, 6e5):
        monkeypatch.setattr("stemseg_core.system.memory.DEFAULT_CACHE", budget)
        assert results() == expected


@pytest.mark.parametrize("n_made", [0, 5, 13])
@pytest.mark.parametrize("n_kept", [0, 1, 6, 8, 13])
def test_larger_blocks_share_what_is_kept(n_kept, n_made, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 8 * 7 * 8)
    array = ArrayRows(np.random.default_rng(0).random((100, 7)))
    kept = CachedRows(array, min(100, 8 * n_kept) * 7 * 8)
    assert (kept.n_blocks, kept.n_stored) == (13, n_kept)
    read = kept.reader()
    for i in range(n_made):
        read(i)
    larger = kept.in_larger_blocks(4)
    ends = [4, 8, 12, 13]
    assert larger._made.tolist() == [end <= n_made for end in ends if end <= n_kept]
    assert passes(larger, 3) == passes(array.in_larger_blocks(4), 1) * 3
    assert larger._made.all()
    assert np.shares_memory(larger._store, kept._store) or not n_kept


# The grid.


@given(n=st.integers(0, 2000), d=st.integers(0, 3000), dtype=st.sampled_from(["f4", "f8", ">f4", "u2"]))
@settings(deadline=None)
def test_blocks_cover_the_rows_once_in_order(n, d, dtype):
    rows = ArrayRows(np.broadcast_to(np.zeros((), dtype), (n, d)))
    covered = [i for block in range(rows.n_blocks) for i in range(n)[rows.index(block)]]
    assert covered == list(range(n))
    assert rows.block_rows & (rows.block_rows - 1) == 0
    assert rows.block_rows == 1 or rows.block_rows * d * rows.dtype.itemsize <= sources.BLOCK_BYTES


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


# Groups and samples.


@pytest.mark.parametrize("masked", [False, True])
def test_groups_hold_all_rows_in_order(source, masked, monkeypatch):
    """Of an array by slices, of other sources put together: the same rows."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(sources, "MIN_GROUPS", 3)
    array = ArrayRows(np.asarray(source.rows))
    rows = MaskedRows(array, np.arange(array.shape[0]) % 5 > 0) if masked else array
    grouped = rows.grouped()
    assert grouped.n_blocks % 3 == 0
    assert 3 <= grouped.n_blocks < rows.n_blocks
    read = grouped.reader()
    found = np.concatenate([read(i) for i in range(grouped.n_blocks)])
    numbers = np.concatenate([np.r_[grouped.index(i)] for i in range(grouped.n_blocks)])
    assert sum(grouped.n_rows(i) for i in range(grouped.n_blocks)) == rows.shape[0]
    np.testing.assert_array_equal(numbers, np.arange(rows.shape[0]))
    np.testing.assert_array_equal(found, array.array[np.arange(array.shape[0]) % 5 > 0] if masked else array.array)


def test_few_blocks_are_not_grouped():
    rows = ArrayRows(np.ones((100, 3)))
    assert rows.grouped() is rows


def test_a_sample_is_spread_evenly(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 8 * 3 * 8)
    rows = ArrayRows(np.arange(3000.0).reshape(1000, 3))
    sample = rows.sample(100, 4)
    assert sample.shape == (104, 3)
    starts = np.array([sample.index(i).start for i in range(sample.n_blocks)])
    assert np.ptp(np.diff(starts)) <= 8
    read = sample.reader()
    for i in range(sample.n_blocks):
        np.testing.assert_array_equal(read(i), rows.array[sample.index(i)])
    assert rows.sample(1000) is rows


# Arrays.


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
def test_array_rows_of_any_layout(dtype, layout, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 16)
    values = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 100, (100, 7)).astype(dtype)
    X = layout(values)
    rows = ArrayRows(X)
    read = rows.reader()
    blocks = [read(i) for i in range(rows.n_blocks)]
    for block in blocks:
        assert block.flags.c_contiguous
        assert block.dtype == row_dtype(dtype)
    np.testing.assert_array_equal(np.concatenate(blocks), values)


def test_array_rows_from_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 16)
    X = np.random.default_rng(0).integers(0, 1000, (100, 7))
    for dtype in ("f4", ">f8", "u2"):
        values = X.astype(dtype)
        np.save(tmp_path / "x.npy", values)
        with h5py.File(tmp_path / "x.h5", "w") as file:
            chunked = file.create_dataset("x", data=values, chunks=(13, 3), compression="gzip")
            for source in (np.load(tmp_path / "x.npy", mmap_mode="r"), chunked):
                rows = ArrayRows(source)
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


def test_as_rows_leaves_a_source_alone():
    data = np.ones((9, 2))
    rows = ArrayRows(data)
    assert as_rows(rows) is rows
    assert as_rows(data).array is data
