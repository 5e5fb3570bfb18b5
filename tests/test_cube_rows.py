"""Pixels of cubes as rows: `stemseg_core.rows.pixels`."""

import pickle

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemseg_core.rows import pixels
from stemseg_core.rows.blocks import stored
from stemseg_core.rows.pixels import PixelRows, boxes
from stemseg_core.system.execution import Execution

shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@given(shape=shapes, data=st.data())
def test_boxes_hold_the_elements_in_order(shape, data):
    array = np.arange(np.prod(shape)).reshape(shape)
    start = data.draw(st.integers(0, array.size))
    stop = data.draw(st.integers(start, array.size))
    found = [array[box].ravel() for box in boxes(shape, start, stop)]
    assert np.array_equal(np.concatenate([*found, []]), np.arange(start, stop))


@given(data=st.data())
def test_any_axes_bins_and_channels(data):
    """Against transposing, cutting, summing and reshaping the whole array."""
    n = data.draw(st.integers(2, 4))
    array = np.random.default_rng(0).integers(0, 50, data.draw(st.tuples(*[st.integers(2, 7)] * n))).astype(np.uint16)
    axes = data.draw(st.permutations(range(n)))
    n_signal = data.draw(st.integers(1, min(2, n - 1)))
    map_axes, signal_axes = axes[:-n_signal], axes[-n_signal:]
    bins = data.draw(st.tuples(*(st.integers(1, size) for size in array.shape)))
    expected = array.astype(float)
    for axis, b in enumerate(bins):
        cut = expected.shape[axis] // b * b
        expected = np.add.reduceat(expected.take(range(cut), axis), range(0, cut, b), axis=axis)
    expected = expected.transpose(axes)
    signal = expected.shape[-n_signal:]
    used = np.random.default_rng(data.draw(st.integers(0, 9))).random(signal) < 0.6
    used.flat[0] = True
    rows = PixelRows(array, map_axes, signal_axes, bins=bins, channels=used)
    found = stored(rows, Execution())
    assert np.array_equal(found, expected.reshape(-1, np.prod(signal))[:, used.ravel()])


@pytest.mark.parametrize(("dtype", "expected"), [("u1", "f4"), (">i2", "f4"), ("u4", "f8"), ("f4", "f4"), ("f8", "f8")])
def test_types(dtype, expected):
    assert PixelRows(np.ones((3, 4, 5), dtype), (0, 1), (2,)).dtype == expected


def test_sums_that_float32_does_not_hold():
    assert PixelRows(np.ones((40, 40, 5), "u2"), (0, 1), (2,), bins=(40, 40, 1)).dtype == np.float64


def few_blocks(monkeypatch):
    monkeypatch.setattr(pixels, "BLOCK_BYTES", 512)


@pytest.mark.parametrize("chunks", [(1, 3, 5), (4, 9, 8), (2, 2, 8), None])
@pytest.mark.parametrize("n_threads", [1, 2])
def test_stores_are_read_as_arrays_are(tmp_path, monkeypatch, chunks, n_threads):
    few_blocks(monkeypatch)
    array = np.random.default_rng(0).integers(0, 9, (11, 9, 8)).astype(np.uint16)
    expected = stored(PixelRows(array, (0, 1), (2,)), Execution())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        rows = PixelRows(file.create_dataset("d", data=array, chunks=chunks), (0, 1), (2,))
        assert rows.n_blocks > 4
        assert np.array_equal(stored(rows, Execution(n_threads=n_threads)), expected)


def test_chunks_are_read_once(monkeypatch):
    few_blocks(monkeypatch)

    class Store:
        shape, dtype, chunks = (12, 9, 8), np.dtype("u2"), (4, 9, 8)
        array = np.arange(12 * 9 * 8, dtype="u2").reshape(shape)
        taken = []  # noqa: RUF012

        def __getitem__(self, index):
            self.taken.append((index[0].start, index[0].stop))
            return self.array[index]

    rows = PixelRows(Store(), (0, 1), (2,))
    assert np.array_equal(stored(rows, Execution()), Store.array.reshape(108, 8))
    assert Store.taken == [(0, 4), (4, 8), (8, 12)]


def test_only_the_channels_of_the_box_are_read():
    taken = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            taken.append(index)
            return super().__getitem__(index)

    used = np.zeros(30, bool)
    used[[7, 12]] = True
    array = np.arange(2 * 3 * 30.0).reshape(2, 3, 30)
    found = stored(PixelRows(array.view(Watched), (0, 1), (2,), channels=used), Execution())
    assert np.array_equal(found, array.reshape(6, 30)[:, used])
    assert all(index[2] == slice(7, 13) for index in taken)
    assert taken


def test_pickles():
    array = np.arange(24.0).reshape(2, 3, 4)
    rows = pickle.loads(pickle.dumps(PixelRows(array, (0, 1), (2,))))
    assert np.array_equal(stored(rows, Execution()), array.reshape(6, 4))
