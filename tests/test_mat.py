"""MATLAB's files (io.mat, io.mat5): arrays as MATLAB shows them, of every version."""

import struct
import zlib

import h5py
import numpy as np
import pytest
import scipy.io

from stemseg_core.io import ImageReadError, read_image, read_signals
from stemseg_core.io.mat5 import values, variables

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


TYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "?", "c16"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_as_scipy_reads_it(tmp_path, dtype, compressed):
    arrays = {
        "wide": (IMAGE * 9).astype(dtype),
        "small": np.ones((1, 2), dtype),
        "s": {"deep": (STACK * 9).astype(dtype)},
    }
    if dtype == "c16":
        arrays["wide"] = arrays["wide"] + 1j
    scipy.io.savemat(tmp_path / "a.mat", arrays, do_compression=compressed)
    expected = scipy.io.loadmat(tmp_path / "a.mat")
    found = {variable.path: values(tmp_path / "a.mat", variable) for variable in variables(tmp_path / "a.mat", 10**6)}
    assert sorted(found) == ["s/deep", "small", "wide"]
    for path, array in found.items():
        wanted = expected["s"]["deep"].item() if path == "s/deep" else expected[path]
        np.testing.assert_array_equal(array, wanted)
        assert array.dtype.newbyteorder("=") == dtype


def test_a_double_that_is_stored_as_bytes_is_a_double(tmp_path):
    """MATLAB stores whole numbers in few bytes, whatever their class."""
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    scipy.io.savemat(tmp_path / "a.mat", {"a": array})
    content = (tmp_path / "a.mat").read_bytes()
    flags = struct.pack("<4I", 6, 8, 9, 0)  # class uint8
    assert content.count(flags) == 1
    (tmp_path / "a.mat").write_bytes(content.replace(flags, struct.pack("<4I", 6, 8, 6, 0)))
    (variable,) = variables(tmp_path / "a.mat", 10**6)
    found = values(tmp_path / "a.mat", variable)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, array)


def test_big_endian_files(tmp_path):
    def element(kind, content):
        return struct.pack(">II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    inner = element(6, struct.pack(">II", 7, 0)) + element(5, struct.pack(">ii", *IMAGE.shape)) + element(1, b"image")
    inner += element(7, IMAGE.astype(">f4").tobytes(order="F"))
    (tmp_path / "a.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + element(14, inner))
    np.testing.assert_array_equal(read_image(tmp_path / "a.mat").data, IMAGE)


def test_version_4(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"text": "abc", "image": IMAGE, "bytes": IMAGE > 0.5}, format="4")
    read = read_image(tmp_path / "a.mat")
    np.testing.assert_array_equal(read.data, IMAGE)
    assert [s.title for s in read.signals] == ["image", "bytes"]
    content = (tmp_path / "a.mat").read_bytes()
    for odd in (content[:-30], b"\xff" * 40, content.replace(struct.pack("<2i", 20, 30), struct.pack("<2i", -20, 30))):
        (tmp_path / "a.mat").write_bytes(odd)
        with pytest.raises(ImageReadError, match=r"a\.mat: expected a MATLAB file"):
            read_image(tmp_path / "a.mat")


def test_one_damaged_array_does_not_sink_the_others(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"first": IMAGE + 1, "second": IMAGE})
    content = (tmp_path / "a.mat").read_bytes()
    tag = struct.pack("<II", 7, IMAGE.nbytes)  # of the values: single, so many bytes
    (tmp_path / "a.mat").write_bytes(content.replace(tag, struct.pack("<II", 99, IMAGE.nbytes), 1))
    read = read_image(tmp_path / "a.mat")
    np.testing.assert_array_equal(read.data, IMAGE)
    assert "damaged array (first promises other" in read.signals[0].notes[0]


@pytest.mark.parametrize("compressed", [False, True])
def test_a_header_that_promises_too_much(tmp_path, compressed):
    scipy.io.savemat(tmp_path / "a.mat", {"image": IMAGE})
    content = (tmp_path / "a.mat").read_bytes()
    content = content.replace(struct.pack("<ii", 20, 30), struct.pack("<ii", 20_000, 30_000))
    content = content.replace(struct.pack("<II", 7, IMAGE.nbytes), struct.pack("<II", 7, 20_000 * 30_000 * 4))
    if compressed:
        packed = zlib.compress(content[128:132] + struct.pack("<I", 20_000 * 30_000 * 4 + 56) + content[136:])
        content = content[:128] + struct.pack("<II", 15, len(packed)) + packed
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ImageReadError, match=r"a\.mat: (array 'image'|expected a 2-D image)") as refused:
        read_image(tmp_path / "a.mat")
    assert ("promises more data" in str(refused.value)) is compressed
