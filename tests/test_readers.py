"""Readers of files: which reads what, real files of all formats, and what cannot be read."""

import hashlib
import logging
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from microscope_files import write
from PIL import Image as Picture

from stemseg_core.io import ImageReadError, read_image, read_signals, write_tiff

DATA = Path(os.environ.get("STEMSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 200, (24, 32)).astype(np.uint16)


def hyperspy_file(path, data, axes):
    """Write a file as HyperSpy does; axes are (name, scale, units, navigate)."""
    write(path, "hspy", data, axes)


# --- microscope formats --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "nm"), [("nm", 1), ("pm", 1e-3), ("Å", 0.1), ("A", 0.1), ("um", 1e3), ("µm", 1e3), ("μm", 1e3)]
)
def test_lengths_become_nanometres(tmp_path, image, unit, nm):
    hyperspy_file(tmp_path / "a.hspy", image, [("y", 2.0, unit, False), ("x", 3.0, unit, False)])
    read = read_image(tmp_path / "a.hspy")
    np.testing.assert_allclose(read.pixel_size, (2 * nm, 3 * nm))
    assert (read.units, read.title, read.format) == ("nm", "made here", "HSPY")
    np.testing.assert_array_equal(read.data, image)


@pytest.mark.parametrize("unit", ["1/nm", "mrad", "s"])
def test_a_scale_that_is_no_length_is_mentioned(tmp_path, image, unit):
    hyperspy_file(tmp_path / "a.hspy", image, [("y", 2.0, unit, False), ("x", 2.0, unit, False)])
    read = read_image(tmp_path / "a.hspy")
    assert read.pixel_size is None
    assert unit in read.notes[0]


def test_navigation_axes_decide_what_an_image_is(tmp_path):
    cube = np.random.default_rng(0).random((4, 6, 5))
    nm = ("y", 1.0, "nm"), ("x", 1.0, "nm")
    hyperspy_file(tmp_path / "stack.hspy", cube, [("t", 1.0, "s", True), (*nm[0], False), (*nm[1], False)])
    np.testing.assert_array_equal(read_image(tmp_path / "stack.hspy", frame=3).data, cube[3])
    hyperspy_file(tmp_path / "spectra.hspy", cube, [(*nm[0], True), (*nm[1], True), ("E", 1.0, "eV", False)])
    with pytest.raises(ImageReadError, match=r"spectra\.hspy: expected an image.*4 x 6 x 5.*stemseg unmix"):
        read_image(tmp_path / "spectra.hspy")
    hyperspy_file(tmp_path / "map.hspy", cube[0], [(*nm[0], True), (*nm[1], True)])
    np.testing.assert_array_equal(read_image(tmp_path / "map.hspy").data, cube[0])


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real microscope files is not here")
#: What each real file holds: image shape, pixel size in nm, number of frames; None where there is no image.
FILES = {
    "16_STOimage_1.ser": ((1024, 1024), 0.0100127, 1),
    "16_STOimage.emi": ((1024, 1024), 0.0100127, 1),
    "16x16_12bit_packed_8bit.bcf": ((16, 16), 966.4976, 1),
    "DM.tif": ((68, 68), 168.6747, 1),
    "64x64_TEM_images_acquire.emi": ((64, 64), 6.281834, 1),
    "64x64_TEM_images_acquire_1.ser": ((64, 64), 6.281834, 1),
    "EELS_SI.dm4": None,
    "Single_1_Frame_CounterDepth_12_Rows_256.mib": ((256, 256), None, 1),
    "berkeley_example_image.emd": ((3, 3), None, 1),
    "dm4_stack.dm4": ((65, 64), (3.0, 0.002), 66),
    "dmTest_float32_nonSquare_diffPixelSize.dm3": ((64, 128), (0.2, 1.0), 1),
    "example2_v3.1.hspy": ((16, 16), None, 1),
    "eds_sto.emd": None,
    "fei_velox_tem_stack.emd": ((3, 3), 0.008172883, 2),
    "imageJ.tif": ((68, 68), 168.6747, 1),
    "imageJ_stack.tif": ((68, 68), 168.6747, 2),
    "py4DSTEM_size2x3x4x5.h5": None,
    "signal1d_10x10-ZipStore.zspy": None,
    "test-2_2D.dm4": ((2, 2), None, 1),
    "temp.mrc": ((128, 128), 0.2, 3),
    "test2.blo": None,
    "test_STEM_image.dm3": ((68, 68), 0.248538, 1),
    "test_stackbuilder_imagestack.dm3": ((2, 16), 59.9829, 3),
    "velox_si_16x16.emd": ((16, 16), 3.59925, 2),
}


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_real_files(name, capfd):
    path = DATA / "formats" / name
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    if name.startswith("velox"):
        pytest.importorskip("sparse")
    if FILES[name] is None:
        assert read_signals(path)[1][0].kind in ("spectra", "cube", "scan")
        with pytest.raises(ImageReadError, match=name):
            read_image(path)
    else:
        shape, size, frames = FILES[name]
        read = read_image(path)
        assert read.data.shape == shape
        assert read.signals[read.signal].n_frames == frames
        if size is None:
            assert read.pixel_size is None
        else:
            np.testing.assert_allclose(read.pixel_size, np.broadcast_to(size, 2), rtol=1e-5)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert capfd.readouterr() == ("", "")


@needs_data
def test_real_file_that_its_reader_refuses():
    name = "Single_1_Frame_CounterDepth_1_Rows_256RAW.mib"
    with pytest.raises(ImageReadError, match=rf"{name}: expected a QuantumDetector file.*RAW MIB"):
        read_signals(DATA / "formats" / name)


@needs_data
@pytest.mark.parametrize("name", sorted(FILES))
def test_truncated_real_files(tmp_path, name):
    content = (DATA / "formats" / name).read_bytes()
    for share in (0.05, 0.5, 0.9):
        path = tmp_path / name
        path.write_bytes(content[: int(share * len(content))])
        try:
            assert read_image(path).data.ndim == 2
        except ImageReadError as error:
            assert name in str(error)  # noqa: PT017


# --- refusals ------------------------------------------------------------------------------------------------------


SUFFIXES = [".npy", ".npz", ".png", ".jpg", ".tif", ".dm3", ".dm4", ".emd", ".hspy", ".zspy", ".ser", ".emi"]
SUFFIXES += [".bcf", ".blo", ".mrc", ".mib", ".h5", ".hdf5", ".nxs", ".tvips", ".prz"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_empty_and_garbage_files_of_any_format(tmp_path, suffix):
    for content in (b"", b"hello", bytes(range(256)) * 40, b"\x00" * 5000, b"PK\x03\x04" + b"\xff" * 500):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(content)
        with pytest.raises(ImageReadError, match=rf"broken\{suffix}: expected"):
            read_image(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 2000),
    place=st.integers(0, 400),
    value=st.integers(0, 255),
    suffix=st.sampled_from([".npy", ".npz", ".tif", ".png"]),
)
def test_damaged_files_are_read_or_refused(tmp_path, cut, place, value, suffix):
    path = tmp_path / f"damaged{suffix}"
    image = np.arange(600, dtype=np.uint16).reshape(20, 30)
    if suffix == ".npy":
        np.save(path, image)
    elif suffix == ".npz":
        np.savez(path, image=image)
    elif suffix == ".tif":
        write_tiff(path, image, (0.1, 0.1))
    else:
        Picture.fromarray(image).save(path)
    content = bytearray(path.read_bytes())
    content[min(place, len(content) - 1)] = value
    path.write_bytes(content[: len(content) - cut] if cut % 2 else content)
    try:
        assert read_image(path).data.ndim == 2
    except (ImageReadError, MemoryError) as error:
        assert "damaged" in str(error)  # noqa: PT017


def test_missing_folder_and_unknown_suffix(tmp_path):
    with pytest.raises(ImageReadError, match=r"gone\.tif: expected a file, there is none"):
        read_image(tmp_path / "gone.tif")
    with pytest.raises(ImageReadError, match="expected an image file, got a folder"):
        read_image(tmp_path)
    for name in ("a.xyz", "a"):
        (tmp_path / name).write_text("x")
        with pytest.raises(ImageReadError, match=r"expected \.npy.*or a microscope format"):
            read_image(tmp_path / name)


@pytest.mark.parametrize(
    "array",
    [np.ones(5), np.ones((2, 3, 4, 5)), np.ones((3, 3), complex), np.ones((0, 4)), np.array(1.0), np.array([["a"]])],
)
def test_arrays_that_hold_no_image(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ImageReadError, match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_python_objects_are_never_unpickled(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(ImageReadError, match=rf"a\{suffix}"):
        read_image(path)


def test_a_missing_package_is_named_with_its_cure(tmp_path, image, monkeypatch):
    write_tiff(tmp_path / "a.tif", image)
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(
        ImageReadError, match=r'a\.tif: reading it needs the package \'tifffile\'; pip install "stemseg'
    ):
        read_image(tmp_path / "a.tif")


def test_an_image_larger_than_the_memory_is_refused_unread(tmp_path, image, monkeypatch):
    np.save(tmp_path / "a.npy", image)
    monkeypatch.setattr("stemseg_core.system.memory.available_memory", lambda: 1000.0)
    with pytest.raises(MemoryError, match=r"a\.npy: the image needs 6\.14 kB"):
        read_image(tmp_path / "a.npy")


def test_readers_leave_logging_and_warnings_alone(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\x00garbage")
    level, filters = logging.getLogger("tifffile").level, list(warnings.filters)
    with pytest.raises(ImageReadError):
        read_image(tmp_path / "a.tif")
    assert logging.getLogger("tifffile").level == level
    assert warnings.filters == filters
