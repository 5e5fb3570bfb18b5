"""TIFF (io.tiff, io.tiff_axes, io.write): calibration in the tags of every writer, pixels as they are meant."""

import importlib
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from stemseg_core.io import ImageReadError, read_image, read_signals, write_tiff

IMAGE = np.random.default_rng(0).integers(0, 200, (24, 32)).astype(np.uint16)


def rosetta_axes(path):
    (found, *_) = importlib.import_module("rsciio.tiff").file_reader(str(path))
    return [(axis["scale"], axis["offset"], axis["units"]) for axis in found["axes"][-2:]]


def rosetta_write(path, y, x):
    """Write as HyperSpy does; axes are (scale, unit, offset)."""
    axes = [
        {"name": n, "size": size, "scale": axis[0], "units": axis[1], "offset": axis[2], "navigate": False}
        for n, size, axis in zip("yx", IMAGE.shape, (y, x), strict=True)
    ]
    importlib.import_module("rsciio.tiff").file_writer(str(path), {"data": IMAGE, "axes": axes, "metadata": {}})


# --- what is read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "nm"), [("nm", 0.02), ("µm", 20.0), ("Å", 0.002), (None, 20.0), ("mm", 2e4), ("pm", 2e-5), ("cm", 2e5)]
)
def test_ome(tmp_path, unit, nm):
    about = {"axes": "YX", "PhysicalSizeX": 0.02, "PhysicalSizeY": 0.04}
    about |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit} if unit else {}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, ome=True, metadata=about)
    np.testing.assert_allclose(read_image(tmp_path / "a.ome.tif").pixel_size, (2 * nm, nm))


def test_ome_with_a_unit_for_each_axis_and_each_image(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for i in (1, 2):
            about = {"axes": "YX", "PhysicalSizeX": 0.02 * i, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 30.0}
            writer.write(IMAGE, metadata=about | {"PhysicalSizeYUnit": "pm"})
    for i in (1, 2):
        np.testing.assert_allclose(read_image(tmp_path / "a.ome.tif", signal=i - 1).pixel_size, (0.03, 0.02 * i))


def test_ome_in_several_files(tmp_path):
    data = "".join(
        f'<TiffData FirstZ="{i}" IFD="0" PlaneCount="1"><UUID FileName="{i}.ome.tif">urn:uuid:{i}</UUID></TiffData>'
        for i in (0, 1)
    )
    for i in (0, 1):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{i}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="32" SizeY="24" SizeZ="2" SizeC="1" '
            f'SizeT="1" PhysicalSizeX="20" PhysicalSizeXUnit="pm" PhysicalSizeY="20" PhysicalSizeYUnit="pm">{data}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(tmp_path / f"{i}.ome.tif", IMAGE + i, description=xml, metadata=None)
    read = read_image(tmp_path / "0.ome.tif", frame=1)
    np.testing.assert_array_equal(read.data, IMAGE + 1)
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.02))


def test_ome_in_a_unit_that_is_no_length(tmp_path):
    about = {"axes": "YX", "PhysicalSizeX": 1, "PhysicalSizeY": 1, "PhysicalSizeXUnit": "reference frame"}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, ome=True, metadata=about | {"PhysicalSizeYUnit": "pixel"})
    read = read_image(tmp_path / "a.ome.tif")
    assert read.pixel_size is None
    assert read.notes == ("x: the unit 'reference frame' is not understood; not used",)


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nanometers", 0.02),
        ("micrometers", 20.0),
        ("\\u00B5m", 20.0),
        ("micron", 20.0),
        ("picometers", 2e-5),
        ("angstrom", 0.002),
        ("\\u00C5", 0.002),
        ("NM", 0.02),
    ],
)
def test_imagej(tmp_path, unit, nm):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(50, 25), metadata={"unit": unit})
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").pixel_size, (2 * nm, nm))


def test_imagej_with_another_unit_on_y_and_an_origin(tmp_path):
    about = {"unit": "nm", "yunit": "um", "xorigin": 10, "yorigin": -2}
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(50, 50), metadata=about)
    y, x = read_signals(tmp_path / "a.tif")[1][0].axes
    np.testing.assert_allclose((y.scale, y.offset, x.scale, x.offset), (20, 40, 0.02, -0.2))


@pytest.mark.parametrize(
    ("unit", "resolution", "note"),
    [
        ("furlong", (50, 50), "y and x: the unit 'furlong' is not understood; not used"),
        ("nm", ((1, 10**9), (1, 10**9)), "y and x: 1e+09 nm is no size of a pixel; not used"),
        ("mrad", (50, 50), "axes in mrad: a diffraction pattern or a transform, no image of a specimen"),
        ("", (50, 50), "y and x: a scale of 0.02 has no unit; not used"),
        ("nm", ((0, 1), (0, 1)), "y and x: a scale of inf nm is no calibration; not used"),
    ],
)
def test_what_is_no_calibration_is_noted(tmp_path, unit, resolution, note):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=resolution, metadata={"unit": unit})
    read = read_image(tmp_path / "a.tif")
    assert (read.pixel_size, read.notes) == (None, (note,))


def test_a_scan_of_paper_is_not_calibrated_by_imagej_either(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, imagej=True, resolution=(300, 300), metadata={"unit": "inch"})
    read = read_image(tmp_path / "a.tif")
    assert (read.pixel_size, read.notes) == (None, ("y and x: a scale of 0.00333 inch is that of paper; not used",))


@pytest.mark.parametrize(
    ("y", "x", "nm"),
    [
        ((0.02, "nm", 1.0), (0.05, "nm", 2.0), (0.02, 0.05)),
        ((0.02, "nm", 0.0), (0.05, "µm", 0.0), (0.02, 50.0)),  # the reader of HyperSpy makes 20 nm of the 0.02 nm
        ((0.2, "Å", 0.0), (0.2, "Å", 0.0), (0.02, 0.02)),
        ((2.5e-8, "m", 0.0), (2.5e-8, "m", 0.0), (25.0, 25.0)),  # and 20 nm of these 25 nm
    ],
)
def test_each_axis_of_hyperspy_has_its_own_unit(tmp_path, y, x, nm):
    rosetta_write(tmp_path / "a.tif", y, x)
    read = read_image(tmp_path / "a.tif")
    np.testing.assert_allclose(read.pixel_size, nm)
    factors = [size / axis[0] for size, axis in zip(nm, (y, x), strict=True)]
    offsets = [axis.offset for axis in read.signals[0].axes]
    np.testing.assert_allclose(offsets, [y[2] * factors[0], x[2] * factors[1]])


def test_patterns_of_hyperspy(tmp_path):
    rosetta_write(tmp_path / "a.tif", (0.02, "1/nm", 0.0), (0.02, "1/nm", 0.0))
    read = read_image(tmp_path / "a.tif")
    assert read.pixel_size is None
    assert "diffraction pattern" in read.notes[0]


# --- what is written -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("units", "imagej", "tag"),
    [
        ("nm", "nm", "nm"),
        ("um", "micron", "µm"),
        ("µm", "micron", "µm"),
        ("Å", "angstrom", "Å"),
        ("A", "angstrom", "Å"),
        ("pm", "pm", "pm"),
    ],
)
@pytest.mark.parametrize("shape", [(24, 32), (3, 24, 32)])
def test_written_scale_unit_and_origin_in_imagej_and_hyperspy(tmp_path, units, imagej, tag, shape):
    write_tiff(tmp_path / "a.tif", np.zeros(shape, np.uint8), (0.0297, 0.0512), units, origin=(0.3, -1.7))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        about, page = tiff.imagej_metadata, tiff.pages[0]
        scales = [page.tags[name].value[1] / page.tags[name].value[0] for name in ("YResolution", "XResolution")]
    assert about["unit"] == imagej
    np.testing.assert_allclose(scales, (0.0297, 0.0512), rtol=1e-6)
    np.testing.assert_allclose((-about["yorigin"] * 0.0297, -about["xorigin"] * 0.0512), (0.3, -1.7), rtol=1e-6)
    np.testing.assert_allclose([axis[:2] for axis in rosetta_axes(tmp_path / "a.tif")], [(0.0297, 0.3), (0.0512, -1.7)])
    assert [axis[2] for axis in rosetta_axes(tmp_path / "a.tif")] == [tag, tag]
    y, x = read_signals(tmp_path / "a.tif")[1][0].axes[-2:]
    factor = {"nm": 1, "pm": 1e-3, "µm": 1e3, "Å": 0.1}[tag]
    found = np.array([y.scale, y.offset, x.scale, x.offset]) / factor
    np.testing.assert_allclose(found, [0.0297, 0.3, 0.0512, -1.7])


def test_other_lengths_are_written_in_nm(tmp_path):
    write_tiff(tmp_path / "a.tif", IMAGE, (2e-11, 3e-11), "m", origin=(1e-9, 0))
    y, x = rosetta_axes(tmp_path / "a.tif")
    np.testing.assert_allclose([y[:2], x[:2]], [(0.02, 1.0), (0.03, 0.0)], rtol=1e-6)
    assert (y[2], x[2]) == ("nm", "nm")


def test_a_grid_in_pixels_is_written_as_such(tmp_path):
    write_tiff(tmp_path / "a.tif", IMAGE, (16, 16), "pixel", origin=(31.5, 31.5))
    read = read_image(tmp_path / "a.tif")
    assert (read.pixel_size, read.notes) == (None, ())
    assert rosetta_axes(tmp_path / "a.tif")[0][:2] == (16, 31.5)


@pytest.mark.parametrize(
    ("size", "units", "match"),
    [
        ((1, 1), "furlong", "units must be a length such as 'nm'.*'furlong'"),
        ((1, 1), "1/nm", "units must be a length"),
        ((0, 1), "nm", "pixel_size must be two positive numbers"),
        ((np.nan, 1), "nm", "pixel_size must be two positive numbers"),
        (0.2, "nm", "pixel_size must be two positive numbers"),
        ((1e-12, 1), "nm", "such that TIFF can hold it"),
    ],
)
def test_scales_that_are_refused(tmp_path, size, units, match):
    with pytest.raises(ValueError, match=match):
        write_tiff(tmp_path / "a.tif", IMAGE, size, units)
    assert not list(tmp_path.iterdir())


# --- pixels --------------------------------------------------------------------------------------------------------


def test_signed_bytes_stay_signed(tmp_path):
    signed = (IMAGE.astype(np.int16) - 100).astype(np.int8)
    tifffile.imwrite(tmp_path / "a.tif", signed, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, signed)


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes_are_looked_up(tmp_path, bits):
    table = np.random.default_rng(1).integers(0, 2**bits, (3, 256)).astype(np.uint16)
    values = IMAGE.astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=table * (257 if bits == 8 else 1))
    expected = np.tensordot([0.299, 0.587, 0.114], table[:, values], 1)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").data, expected, rtol=1e-6)


def test_a_grey_palette_gives_its_greys(tmp_path):
    table = np.repeat(np.arange(255, -1, -1, dtype=np.uint16)[None] * 257, 3, axis=0)
    tifffile.imwrite(tmp_path / "a.tif", IMAGE.astype(np.uint8), photometric="palette", colormap=table)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, 255 - IMAGE)


def test_colours_of_16_bits_keep_them(tmp_path):
    colours = np.random.default_rng(0).integers(0, 65536, (16, 20, 3), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").data, colours @ [0.299, 0.587, 0.114], rtol=1e-6)


def test_bits_are_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE > 99)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, IMAGE > 99)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "packbits", "zstd", "lzma"])
def test_blank_images_are_no_empty_promises(tmp_path, compression):
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3000, 3000), np.uint8), compression=compression, rowsperstrip=3000)
    assert read_image(tmp_path / "a.tif").data.shape == (3000, 3000)


def test_inks_are_colours(tmp_path):
    inks = np.random.default_rng(0).integers(0, 256, (16, 20, 4), dtype=np.uint8)
    picture = Picture.fromarray(inks, "CMYK")
    picture.save(tmp_path / "a.tif")
    expected = np.asarray(picture.convert("RGB")) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").data, expected, atol=2)


def test_a_palette_with_transparency(tmp_path):
    Picture.fromarray(IMAGE.astype(np.uint8)).convert("PA").save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").data, IMAGE)


def test_channels_that_are_no_colours_are_frames(tmp_path):
    channels = np.random.default_rng(0).integers(0, 255, (16, 20, 5), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", channels, photometric="minisblack", planarconfig="contig")
    for i in range(5):
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif", frame=i).data, channels[..., i])


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_header_that_promises_too_much(tmp_path, compression):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, compression=compression)
    content = bytearray(path.read_bytes())
    for side in IMAGE.shape:  # the tags of height and width, long or short
        for kind, layout in ((4, "<HHIHH"), (3, "<HHIHH")):
            for tag in (256, 257):
                old = struct.pack(layout, tag, kind, 1, side, 0)
                content = content.replace(old, struct.pack("<HHII", tag, 4, 1, 200_000))
    path.write_bytes(content)
    with pytest.raises(ImageReadError, match=r"a\.tif: 200000 x 200000 uint16 is more data than the file can hold"):
        read_image(path)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_pages_in_a_circle(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([IMAGE] * 3), photometric="minisblack", metadata=None, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        first, *_, last = (page.offset for page in tiff.pages)
        entries, order = len(tiff.pages[-1].tags), tiff.byteorder
    content = bytearray((tmp_path / "a.tif").read_bytes())
    place, layout = (last + 8 + 20 * entries, "Q") if "bigtiff" in options else (last + 2 + 12 * entries, "I")
    assert struct.unpack_from(order + layout, content, place) == (0,)
    struct.pack_into(order + layout, content, place, first)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ImageReadError, match=r"a\.tif: expected a TIFF, but page 3 is followed by an earlier one"):
        read_image(tmp_path / "a.tif")


# --- vendors -------------------------------------------------------------------------------------------------------


def test_instruments_that_rosettasciio_knows(tmp_path):
    """Zeiss's tag 34118 begins with the size of a pixel of an image of 1024 pixels, in metres."""
    about = "\r\n".join(["0", "0", "0", "2.3e-09", *["0"] * 30, ""])
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, extratags=[(34118, "s", 0, about, True)])
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").pixel_size, (2.3 * 1024 / 32,) * 2)


def test_a_scale_of_one_axis_alone_is_noted(tmp_path):
    about = {"axes": "YX", "PhysicalSizeX": 0.02, "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(tmp_path / "a.ome.tif", IMAGE, ome=True, metadata=about)
    image = read_image(tmp_path / "a.ome.tif")
    assert image.pixel_size is None
    assert any("only one axis" in note for note in image.notes)


def test_frames_that_tifffile_took_for_colours_are_noted(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 20, 30), np.uint16), photometric="rgb", planarconfig="separate")
    assert any("minisblack" in note for note in read_image(tmp_path / "a.tif").notes)
