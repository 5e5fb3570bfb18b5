"""MRC: what the header says of bytes, of their order, and of how many there are."""

import struct

import numpy as np
import pytest

from stemseg_core.io import ImageReadError, read_image

BYTES = np.random.default_rng(0).integers(-100, 100, (12, 16)).astype(np.int8)


def mrc(path, data, *, version=20141, stamp=0, flags=0, span=None, order="<", size=0.2):
    """A file with one image, by the specification of MRC2014."""
    ny, nx = data.shape
    modes = {"int8": 0, "uint8": 0, "int16": 1, "float32": 2, "uint16": 6}
    header = bytearray(1024)
    struct.pack_into(order + "10i", header, 0, nx, ny, 1, modes[data.dtype.name], 0, 0, 0, nx, ny, 1)
    struct.pack_into(order + "6f", header, 40, nx * size, ny * size, size, 90, 90, 90)
    struct.pack_into(order + "3i", header, 64, 1, 2, 3)
    low, high = span or (data.min(), data.max())
    struct.pack_into(order + "3f", header, 76, low, high, 0)
    struct.pack_into(order + "i", header, 108, version)
    struct.pack_into(order + "2i", header, 152, stamp, flags)
    header[208:214] = b"MAP \x44\x44" if order == "<" else b"MAP \x11\x11"
    path.write_bytes(bytes(header) + data.astype(data.dtype.newbyteorder(order)).tobytes())
    return path


@pytest.mark.parametrize(
    ("about", "signed"),
    [
        ({}, True),
        ({"version": 0}, True),  # values below 0 need a sign
        ({"version": 0, "span": (0, 255)}, False),
        ({"version": 20141, "span": (0, 255)}, False),  # and those above 127 leave no room for it
        ({"stamp": 1146047817, "flags": 1, "version": 0, "span": (0, 100)}, True),
        ({"stamp": 1146047817, "flags": 0}, False),
    ],
)
def test_bytes_have_a_sign_where_the_header_says_so(tmp_path, about, signed):
    image = read_image(mrc(tmp_path / "a.mrc", BYTES, **about))
    np.testing.assert_array_equal(image.data, BYTES if signed else BYTES.view(np.uint8))
    assert image.pixel_size == pytest.approx((0.02, 0.02))


@pytest.mark.parametrize("suffix", [".mrcs", ".st", ".rec", ".map"])
def test_other_suffixes(tmp_path, suffix):
    image = read_image(mrc(tmp_path / f"a{suffix}", BYTES))
    assert image.format == "MRC"
    np.testing.assert_array_equal(image.data, BYTES)


@pytest.mark.parametrize("length", [500, 1023, 1024, 1200])
def test_a_file_that_was_cut_is_called_that(tmp_path, length):
    path = mrc(tmp_path / "a.mrc", BYTES)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ImageReadError, match=rf"bytes.* the file has {length}$"):
        read_image(path)


def test_large_ends_first_are_refused_rather_than_read_wrong(tmp_path):
    with pytest.raises(ImageReadError, match=r"big-endian; .*mrcfile"):
        read_image(mrc(tmp_path / "a.mrc", BYTES.astype(np.int16), order=">"))
