"""Images of every kind are read (io): NumPy files (arrays), pictures, TIFF (tiff); and TIFF is written (write)."""

import io
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from stemseg_core.io import ImageReadError, open_cube, read_image, read_signals, write_tiff


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
    assert [s.kind for s in read.signals] == ["spectra", "image", "image", "scan"]
    assert read_image(tmp_path / "a.npz", signal=1).data.shape == (8, 32)
    with pytest.raises(ImageReadError, match=r"a\.npz: expected signal=0 to be an image.*0: 5000 float64"):
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


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"ome": True}, {"metadata": {"axes": "TZYX"}}, {"photometric": "rgb"}], ids=str
)
def test_frames_along_two_axes(tmp_path, options):
    stack = np.random.default_rng(0).integers(0, 99, (2, 3, 24, 32)).astype(np.uint16)
    colours = options.get("photometric") == "rgb"
    stored = np.stack([stack] * 3, axis=-1) if colours else stack
    metadata = options.get("metadata") or {"axes": "TZYXS" if colours else "TZYX"}
    tifffile.imwrite(tmp_path / "a.tif", stored, **{"photometric": "minisblack"} | options | {"metadata": metadata})
    for i, j in ((0, 0), (1, 2), (0, 2)):
        read = read_image(tmp_path / "a.tif", frame=(i, j))
        np.testing.assert_array_equal(read.data, stack[i, j])
        assert any(f"frame {i},{j} of 6 frames" in note for note in read.notes)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif", frame="mean").data, stack.mean(axis=(0, 1)))
    with pytest.raises(ImageReadError, match="or 2 numbers below 2 and 3"):
        read_image(tmp_path / "a.tif", frame=(2, 0))


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


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_lose_half_of_them_with_a_note(tmp_path, kind, channels):
    values = np.random.default_rng(0).integers(0, 65536, (16, 20, channels)).astype(">u2")

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 20, 16, 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    (tmp_path / "a.ppm").write_bytes(b"P6\n20 16\n65535\n" + np.repeat(values[..., :1], 3, -1).tobytes())
    for name in ("a.png", "a.ppm"):
        assert "16 bits a colour, of which 8 are read" in read_image(tmp_path / name).notes[0]


def test_values_that_pillow_stretches_are_noted(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 1000\n" + struct.pack(">2H", 0, 1000))
    read = read_image(tmp_path / "a.pgm")
    assert read.data.tolist() == [[0, 65535]]
    assert read.notes == ("its values, 0 to 1000, are stretched to the whole range",)


def test_a_picture_that_promises_too_much(tmp_path, image):
    Picture.fromarray(image).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = struct.pack(">II", 40_000, 30_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageReadError, match=r"a\.png: 30000 x 40000 pixels are more than the file can hold"):
        read_image(tmp_path / "a.png")


def test_a_picture_may_be_large(tmp_path, image, monkeypatch):
    Picture.fromarray(image).save(tmp_path / "a.png")
    monkeypatch.setattr(Picture, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").data, image)
    assert Picture.MAX_IMAGE_PIXELS == 100


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
    ("array", "match"),
    [
        (np.zeros(4), "shape"),
        (np.zeros((0, 4)), "shape .* of pixels"),
        (np.array([[-1]]), "-1 to 0"),
        (np.array([[70000]]), "70000"),
        (np.array([[1e300]]), "below 3.4e38"),
        (np.array([[1j]]), "real numbers, got complex128"),
        (np.array([[None]]), "real numbers, got object"),
        (np.ma.array([[1, 2]], mask=[[0, 1]]), "without masked values"),
    ],
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


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux lists what is mapped")
def test_npy_is_closed_after_reading(tmp_path, image):
    np.save(tmp_path / "a.npy", image)
    found = read_image(tmp_path / "a.npy")
    with open("/proc/self/maps", encoding="utf-8") as maps:
        assert str(tmp_path / "a.npy") not in maps.read()
    np.testing.assert_array_equal(found.signals[0].frame(0), image)


def test_frames_in_colour(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", frames)
    found = read_image(tmp_path / "a.npy", frame=3)
    np.testing.assert_allclose(found.data, frames[3] @ np.array([0.299, 0.587, 0.114]), rtol=1e-5)
    assert found.frame == 3
    mean = read_image(tmp_path / "a.npy", frame="mean")
    np.testing.assert_allclose(mean.data, frames.mean(0) @ np.array([0.299, 0.587, 0.114]), rtol=1e-5)


def test_complex_images_are_refused_with_the_cure(tmp_path, image):
    np.save(tmp_path / "a.npy", image * 1j)
    with pytest.raises(ImageReadError, match="complex128, no image: segment its modulus"):
        read_image(tmp_path / "a.npy")


def test_a_cube_without_axes_is_a_guess_that_is_said(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((30, 20, 25)))
    with open_cube(tmp_path / "a.npy") as file:
        assert any("the last is taken" in note for note in file.notes)
