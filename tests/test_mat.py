"""MATLAB's files (io.mat): arrays as MATLAB shows them, by SciPy and, of version 7.3, by h5py."""

import h5py
import numpy as np
import pytest
import scipy.io

from stemseg_core.io import ImageReadError, read_image, read_signals

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.random((20, 30)).astype(np.float32)
CUBE, STACK = RANDOM.random((8, 9, 50)), RANDOM.random((20, 30, 7))


def write_73(path, **arrays):
    """As MATLAB writes version 7.3: HDF5 with the axes in reversed order, and a block before it."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            item = file.create_dataset(name, data=array.T)
            item.attrs["MATLAB_class"] = np.bytes_({"f4": "single", "u1": "uint8"}.get(array.dtype.str[1:], "double"))
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: today HDF5 schema 1.00 .".ljust(124))
        stream.write(b"\x00\x02IM")


@pytest.fixture(params=["5", "5 compressed", "7.3"])
def write(request, tmp_path):
    path = tmp_path / "a.mat"

    def put(**arrays):
        if request.param == "7.3":
            write_73(path, **arrays)
        else:
            scipy.io.savemat(path, arrays, do_compression="compressed" in request.param)
        return path

    return put


def test_arrays_are_as_matlab_shows_them(write):
    path = write(cube=CUBE, image=IMAGE, stack=STACK)
    name, signals = read_signals(path)
    assert name == "MATLAB"
    assert {s.title: (s.kind, s.shape, s.frame_shape) for s in signals} == {
        "cube": ("cube", (8, 9, 50), (8, 9)),
        "image": ("image", (20, 30), (20, 30)),
        "stack": ("stack", (20, 30, 7), (20, 30)),
    }
    read = read_image(path)
    assert (read.title, read.data.dtype) == ("image", np.float32)
    np.testing.assert_array_equal(read.data, IMAGE)
    index = {s.title: s.index for s in signals}
    for title, array in (("stack", STACK), ("cube", CUBE)):
        read = read_image(path, signal=index[title], frame=3)
        np.testing.assert_array_equal(read.data, array[..., 3])
        assert "along the last axis, as is usual in MATLAB" in read.notes[0]
        with next(s for s in signals if s.title == title).open() as stored:
            np.testing.assert_array_equal(np.asarray(stored), array)
            np.testing.assert_array_equal(stored[2:4, 1], array[2:4, 1])


def test_a_variable_is_taken_by_its_name(write):
    path = write(first=IMAGE, second=IMAGE + 1)
    np.testing.assert_array_equal(read_image(f"{path}::second").data, IMAGE + 1)
    with pytest.raises(ImageReadError, match=r"a\.mat: expected a data set 'third' in it, there are first, second"):
        read_image(f"{path}::third")


def test_arrays_in_structures(tmp_path):
    inner = {"image": IMAGE, "pixelSize": 0.02, "deeper": {"stack": STACK}, "unit": "nm"}
    scipy.io.savemat(tmp_path / "a.mat", {"dm": inner})
    assert [s.title for s in read_signals(tmp_path / "a.mat")[1]] == ["dm/image", "dm/deeper/stack"]
    np.testing.assert_array_equal(read_image(tmp_path / "a.mat").data, IMAGE)
    read = read_image(f"{tmp_path / 'a.mat'}::dm/deeper/stack", frame=2)
    np.testing.assert_array_equal(read.data, STACK[..., 2])


def test_what_is_no_array_is_listed(tmp_path):
    scipy.io.savemat(
        tmp_path / "a.mat",
        {"image": IMAGE, "s": {"a": 1}, "cell": np.array(["a", "bc"], object), "line": np.arange(5.0), "text": "x"},
    )
    signals = read_signals(tmp_path / "a.mat")[1]
    assert [s.kind for s in signals] == ["image", "other", "spectra", "other"]
    assert "a cell of MATLAB" in signals[1].notes[0]
    scipy.io.savemat(tmp_path / "b.mat", {"text": "x"})
    with pytest.raises(ImageReadError, match=r"b\.mat: expected a 2-D image"):
        read_image(tmp_path / "b.mat")


def test_a_header_that_promises_too_much(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "a.mat", {"image": IMAGE})
    monkeypatch.setattr(scipy.io, "whosmat", lambda _: [("image", (10**6, 10**6), "single")])
    with pytest.raises(ImageReadError, match=r"a\.mat: array 'image' promises more data than the file can hold"):
        read_image(tmp_path / "a.mat")
