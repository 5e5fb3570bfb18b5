"""Files (io, with readers and signals): images of every kind are read, and what is none refused; writing is atomic."""

import hashlib
import importlib
import io
import logging
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rsciio.hspy
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from stemseg_core.io import ImageReadError, read_image, read_signals, write_tiff
from stemseg_core.io.signals import nanometres
from stemseg_core.system.files import atomic

DATA = Path(os.environ.get("STEMSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 200, (24, 32)).astype(np.uint16)


# --- NumPy files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i2", ">u2", "u4", "i8", "f2", "f4", ">f8", "?"])
def test_npy_keeps_its_type(tmp_path, image, dtype):
    np.save(tmp_path / "a.npy", np.asfortranarray(image.astype(dtype)))
    read = read_image(tmp_path / "a.npy")
    assert read.data.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(read.data, image.astype(dtype))
    assert (read.pixel_size, read.signal, read.frame, read.format, read.notes) == (None, 0, 0, "NumPy", ())


def test_the_image_outlives_its_file(tmp_path, image):
    np.save(tmp_path / "a.npy", image)
    read = read_image(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.zeros_like(image))
    np.testing.assert_array_equal(read.data, image)
    assert read.data.flags.writeable


def test_npz_takes_the_largest_image(tmp_path, image):
    np.savez_compressed(
        tmp_path / "a.npz", line=np.ones(5000), small=image[:8], large=image, cube=np.ones((2, 3, 4, 5))
    )
    read = read_image(tmp_path / "a.npz")
    assert (read.signal, read.title) == (2, "large")
    assert [s.kind for s in read.signals] == ["other", "image", "image", "other"]
    assert read_image(tmp_path / "a.npz", signal=1).data.shape == (8, 32)
    with pytest.raises(ImageReadError, match=r"a\.npz: expected signal 0 to be a 2-D image.*0: 5000 float64"):
        read_image(tmp_path / "a.npz", signal=0)


def test_an_image_is_preferred_to_a_stack_of_its_size(tmp_path, image):
    np.savez(tmp_path / "a.npz", stack=np.stack([image, image]), image=image)
    assert read_image(tmp_path / "a.npz").title == "image"


def test_frames_of_a_stack(tmp_path, image):
    stack = np.stack([image, image + 3, image + 9])
    np.save(tmp_path / "a.npy", stack)
    first = read_image(tmp_path / "a.npy")
    np.testing.assert_array_equal(first.data, image)
    assert "frame 0 of 3 frames" in first.notes[0]
    np.testing.assert_array_equal(read_image(tmp_path / "a.npy", frame=2).data, stack[2])
    mean = read_image(tmp_path / "a.npy", frame="mean")
    np.testing.assert_allclose(mean.data, stack.mean(axis=0))
    assert mean.frame == "mean"
    for frame in (3, -1, 1.5, "sum"):
        with pytest.raises(ImageReadError, match=r"a\.npy: frame must be 'mean' or a whole number from 0 to 2"):
            read_image(tmp_path / "a.npy", frame=frame)


def test_npy_header_that_promises_too_much(tmp_path, image):
    np.save(tmp_path / "a.npy", image)
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(content.replace(b"(24, 32)", b"(2400000, 320000)", 1)[: len(content)])
    with pytest.raises(ImageReadError, match=r"a\.npy"):
        read_image(tmp_path / "a.npy")


def test_npz_header_that_promises_too_much(tmp_path):
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("bomb.npy", member.getvalue())
    with pytest.raises(ImageReadError, match="'bomb' promises more data than the file holds"):
        read_signals(tmp_path / "a.npz")


# --- pictures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [("L", np.uint8), ("I;16", np.uint16), ("1", bool), ("P", np.uint8), ("RGB", np.uint8), ("LA", np.uint8)],
)
def test_grey_pictures_keep_their_values(tmp_path, image, mode, dtype):
    values = image if mode == "I;16" else (image.astype(np.uint8) > 99 if mode == "1" else image.astype(np.uint8))
    picture = Picture.fromarray(values) if mode in ("I;16", "1") else Picture.fromarray(values).convert(mode)
    picture.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read.data, values)
    assert read.data.dtype == dtype
    assert len(read.notes) == (mode in ("P", "RGB", "LA"))


def test_colours_become_grey_and_are_mentioned(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (16, 20, 4), dtype=np.uint8)
    for name in ("a.png", "a.tif", "a.npy"):
        if name.endswith("npy"):
            np.save(tmp_path / name, colours)
        else:
            Picture.fromarray(colours).save(tmp_path / name)
        read = read_image(tmp_path / name)
        np.testing.assert_allclose(read.data, colours[..., :3] @ [0.299, 0.587, 0.114], atol=1e-3)
        assert read.data.dtype == np.float32
        assert read.notes == ("colours converted to grey (ITU-R BT.601 luminance)",)


def test_animated_gif_is_a_stack(tmp_path):
    frames = [Picture.fromarray(np.full((16, 16), v, np.uint8)) for v in (10, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif", frame=1).data.max() == 200


# --- TIFF ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(0.02, 0.02), (0.0297, 0.0151), (12.5, 300.0)])
def test_written_tiff_reads_back_with_its_scale(tmp_path, image, size):
    write_tiff(tmp_path / "a.tif", image, size)
    read = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.data, image)
    assert read.data.dtype == np.uint16
    np.testing.assert_allclose(read.pixel_size, size, rtol=1e-6)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_imagej
        assert tiff.imagej_metadata["unit"] == "nm"


@pytest.mark.parametrize(
    ("dtype", "high", "written"),
    [("i4", 9, "u1"), ("i8", 300, "u2"), ("?", 1, "u1"), ("f8", 1, "f4"), (">u2", 9, "u2"), ("f4", 1, "f4")],
)
def test_tiff_types_are_those_of_imagej(tmp_path, dtype, high, written):
    array = np.zeros((5, 6), dtype)
    array[2, 3] = high
    write_tiff(tmp_path / "a.tif", array)
    read = tifffile.imread(tmp_path / "a.tif")
    assert read.dtype == np.dtype(written)
    np.testing.assert_array_equal(read, array)


def test_tiff_stack_with_scale_and_origin(tmp_path):
    stack = np.random.default_rng(0).random((3, 7, 9)).astype(np.float32)
    stack[0, 0, 0] = np.nan
    write_tiff(tmp_path / "a.tif", stack, (0.32, 0.32), "nm", origin=(0.63, 0.63))
    read = read_image(tmp_path / "a.tif", frame=2)
    np.testing.assert_array_equal(read.data, stack[2])
    np.testing.assert_allclose(read.pixel_size, (0.32, 0.32), rtol=1e-6)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        about = tiff.imagej_metadata
        np.testing.assert_array_equal(tiff.asarray(), stack)
    # ImageJ: coordinate = (pixel - origin) * scale, so that pixel 0 lies at 0.63 nm
    np.testing.assert_allclose([-about["xorigin"] * 0.32, -about["yorigin"] * 0.32], 0.63, rtol=1e-4)


def test_uncalibrated_tiff_stays_so(tmp_path, image):
    write_tiff(tmp_path / "a.tif", image)
    assert read_image(tmp_path / "a.tif").pixel_size is None


@pytest.mark.parametrize(
    ("array", "match"), [(np.zeros(4), "shape"), (np.array([[-1]]), "-1 to 0"), (np.array([[70000]]), "70000")]
)
def test_write_tiff_refuses(tmp_path, array, match):
    with pytest.raises(ValueError, match=match):
        write_tiff(tmp_path / "a.tif", array)
    assert not list(tmp_path.iterdir())


def test_resolution_tags_of_a_specimen_and_of_paper(tmp_path, image):
    tifffile.imwrite(tmp_path / "a.tif", image, resolution=(5e8, 4e8), resolutionunit="CENTIMETER")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").pixel_size, (0.025, 0.02), rtol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", image, resolution=(300, 300), resolutionunit="INCH")
    assert read_image(tmp_path / "b.tif").pixel_size is None


@pytest.mark.parametrize(
    "options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"bigtiff": True}]
)
def test_tiff_variants(tmp_path, image, options):
    stack = np.stack([image, image + 1]).reshape(2, 1, 24, 32)
    for name, dtype in (("u", np.uint16), ("f", np.float32), ("i", np.int32)):
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, stack.astype(dtype), photometric="minisblack", **options)
        read = read_image(path, frame=1)
        np.testing.assert_array_equal(read.data, image + 1)
        assert read.data.dtype.newbyteorder("=") == dtype


def test_tiff_with_images_of_several_sizes(tmp_path, image):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(image[:8, :8], photometric="minisblack")
        writer.write(image, photometric="minisblack")
    read = read_image(tmp_path / "a.tif")
    assert (read.signal, len(read.signals)) == (1, 2)
    np.testing.assert_array_equal(read.data, image)


def test_planar_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (3, 16, 20), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(
        read_image(tmp_path / "a.tif").data, np.tensordot([0.299, 0.587, 0.114], colours, 1), atol=1e-3
    )


# --- microscope formats --------------------------------------------------------------------------------------------


def hyperspy_file(path, data, axes):
    """Write a file as HyperSpy does; axes are (name, scale, units, navigate)."""
    described = [
        {"_type": "UniformDataAxis", "name": n, "scale": s, "offset": 0.0, "size": z, "units": u, "navigate": nav}
        for (n, s, u, nav), z in zip(axes, data.shape, strict=True)
    ]
    signal = {"data": data, "axes": described, "metadata": {"General": {"title": "made here"}, "Signal": {}}}
    signal |= {"original_metadata": {}, "attributes": {"_lazy": False, "ragged": False}, "learning_results": {}}
    signal |= {"models": {}, "tmp_parameters": {}, "package_info": {"name": "x", "version": "0"}}
    rsciio.hspy.file_writer(str(path), signal)


@pytest.mark.parametrize(
    ("unit", "nm"), [("nm", 1), ("pm", 1e-3), ("Å", 0.1), ("A", 0.1), ("um", 1e3), ("µm", 1e3), ("μm", 1e3), ("m", 1e9)]
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
    with pytest.raises(ImageReadError, match=r"spectra\.hspy: expected a 2-D image.*4 x 6 x 5"):
        read_image(tmp_path / "spectra.hspy")
    hyperspy_file(tmp_path / "map.hspy", cube[0], [(*nm[0], True), (*nm[1], True)])
    np.testing.assert_array_equal(read_image(tmp_path / "map.hspy").data, cube[0])


def test_zspy_folder(tmp_path, image):
    pytest.importorskip("zarr")
    file_writer = importlib.import_module("rsciio.zspy").file_writer
    axis = {"_type": "UniformDataAxis", "scale": 0.02, "offset": 0.0, "units": "nm", "navigate": False}
    axes = [axis | {"name": n, "size": z} for n, z in zip("yx", image.shape, strict=True)]
    signal = {
        "data": image,
        "axes": axes,
        "metadata": {"General": {"title": ""}, "Signal": {}},
        "original_metadata": {},
    }
    signal |= {"attributes": {"_lazy": False, "ragged": False}, "learning_results": {}, "models": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file_writer(str(tmp_path / "a.zspy"), signal | {"tmp_parameters": {}, "package_info": {"name": "x"}})
    read = read_image(tmp_path / "a.zspy")
    np.testing.assert_array_equal(read.data, image)
    assert read.pixel_size == (0.02, 0.02)


needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the folder of real microscope files is not here")
#: What each real file holds: image shape, pixel size in nm, number of frames; None where there is no image.
FILES = {
    "16_STOimage_1.ser": ((1024, 1024), 0.0100127, 1),
    "16_STOimage.emi": ((1024, 1024), 0.0100127, 1),
    "16x16_12bit_packed_8bit.bcf": ((16, 16), 966.4976, 1),
    "DM.tif": ((68, 68), 168.6747, 1),
    "Single_1_Frame_CounterDepth_12_Rows_256.mib": ((256, 256), None, 1),
    "berkeley_example_image.emd": ((3, 3), None, 1),
    "dm4_stack.dm4": ((65, 64), (3.0, 0.002), 66),
    "dmTest_float32_nonSquare_diffPixelSize.dm3": ((64, 128), (0.2, 1.0), 1),
    "example2_v3.1.hspy": ((16, 16), None, 1),
    "fei_velox_tem_stack.emd": ((3, 3), 0.008172883, 2),
    "imageJ.tif": ((68, 68), 168.6747, 1),
    "imageJ_stack.tif": ((68, 68), 168.6747, 2),
    "signal1d_10x10-ZipStore.zspy": None,
    "temp.mrc": ((128, 128), 0.2, 3),
    "test2.blo": None,
    "test_STEM_image.dm3": ((68, 68), 0.248538, 1),
    "test_stackbuilder_imagestack.dm3": ((2, 16), 59.9829, 3),
}


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_real_files(name, capfd):
    path = DATA / "formats" / name
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    if FILES[name] is None:
        assert read_signals(path)[1][0].n_frames == 0
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


def test_nanometres():
    assert nanometres(2, "Å") == pytest.approx(0.2)
    assert nanometres(-2, "nm") == 2  # some files count an axis backwards
    for size, unit in ((0, "nm"), (np.nan, "nm"), (np.inf, "nm"), (1, ""), (1, None), (1, "px"), (1, "1/nm")):
        assert nanometres(size, unit) is None


# --- writing -------------------------------------------------------------------------------------------------------


def test_atomic_leaves_the_old_file_if_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half_written():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_written()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
