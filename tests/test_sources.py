"""Kept rows: the same blocks whatever is kept, each asked for once, within the budget, whole after an interruption."""

import gc
import threading
import weakref

import numpy as np
import pytest

from stemseg_core import NMF, WindowFFT, segment
from stemseg_core.rows import blocks
from stemseg_core.rows.sources import ArrayRows, CachedRows, cached
from stemseg_core.rows.transitional import run
from stemseg_core.system.threads import Stopped

IMAGE = np.random.default_rng(0).random((150, 170)).astype(np.float32)
MASK = np.zeros(IMAGE.shape, bool)
MASK[70:80, 90:95] = True


class Counting:
    """A source that counts how often each block is made, and fails at one block if told to."""

    def __init__(self, rows, fails_at=None):
        self.rows, self.fails_at = rows, fails_at
        self.shape, self.dtype, self.n_blocks, self.index = rows.shape, rows.dtype, rows.n_blocks, rows.index
        self.counts = np.zeros(rows.n_blocks, int)
        self.lock = threading.Lock()

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


def passes(rows, n=2, **options):
    """Results of n passes as bytes."""
    out = np.empty((rows.shape[0], 3), rows.dtype)
    return [run(_sums, rows, out=(out,), **options)[0].tobytes() + out.tobytes() for _ in range(n)]


@pytest.mark.parametrize("share", [0, 0.5, 1])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_same_bits_and_each_kept_block_is_made_once(source, share, n_jobs):
    size = source.shape[0] * source.shape[1] * source.dtype.itemsize
    expected = passes(source.rows, 1)[0]
    kept = CachedRows(source, share * size)
    assert passes(kept, 3, n_jobs=n_jobs) == [expected] * 3
    assert source.counts.tolist() == [1] * kept.n_stored + [3] * (source.n_blocks - kept.n_stored)
    assert kept.n_stored == {0: 0, 1: source.n_blocks}.get(share, kept.n_stored)
    assert share in (0, 1) or 0 < kept.n_stored < source.n_blocks
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
        return [NMF(2).fit(matrix).components_.tobytes(), found.components.tobytes(), found.residual.tobytes()]

    expected = results()
    for budget in (0, 6e5):
        monkeypatch.setattr("stemseg_core.system.memory.DEFAULT_KEPT", budget)
        assert results() == expected


@pytest.mark.parametrize("n_made", [0, 5, 13])
@pytest.mark.parametrize("n_kept", [0, 1, 6, 8, 13])
def test_larger_blocks_share_what_is_kept(n_kept, n_made, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 8 * 7 * 8)
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
