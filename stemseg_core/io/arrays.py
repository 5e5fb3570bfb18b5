"""Arrays in NumPy's own files, .npy and .npz, and in other zip files."""

from __future__ import annotations

import contextlib
import functools
import math
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.signals import ImageReadError, Open, Signal, array_signal

NUMPY_SUFFIXES = (".npy", ".npz")

#: Most bytes that a byte of a deflated array can stand for; deflate itself reaches 1032. Twice as much: files that
#: promise more than they can hold are believed up to that.
LARGEST_COMPRESSION = 1100
#: Length of the header of a member of a zip file, before its name. A fact of the format.
LOCAL_HEADER = 30


def numpy_signals(path: Path) -> list[Signal]:
    """Signals of a .npy or .npz file."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise ImageReadError(f"{path.name}: expected a NumPy file, but it does not begin like one")
        # A memory map: only what is used is read, and a header that promises more than the file holds is refused.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return [array_signal(0, path.stem, array.shape, array.dtype, functools.partial(_mapped, path))]
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        return [_npz_signal(path, index, archive, member) for index, member in enumerate(members)]


def _mapped(path: Path) -> contextlib.AbstractContextManager[NDArray[Any]]:
    """A .npy file as a memory map, made anew: none is kept, since it holds the file."""
    return contextlib.nullcontext(np.load(path, mmap_mode="r", allow_pickle=False))


def _npz_signal(path: Path, index: int, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Signal:
    shape, dtype, opened = zipped_array(path, archive, member)
    return array_signal(index, member.filename.removesuffix(".npy"), shape, dtype, opened)


def zipped_array(
    path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any], Open]:
    """Shape and type of a .npy file in a zip file, and what opens it: as a memory map where it is not compressed.

    Raises
    ------
    ImageReadError
        If it promises more data than there is.
    """
    with archive.open(member) as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = header(stream)
        start = stream.tell()
    name, stored = member.filename.removesuffix(".npy"), member.compress_type == zipfile.ZIP_STORED
    size, held = math.prod(shape) * dtype.itemsize, member.file_size - start
    ratio = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: LARGEST_COMPRESSION}.get(member.compress_type, math.inf)
    if not dtype.hasobject and (size > held or size > member.compress_size * ratio):
        raise ImageReadError(f"{path.name}: array {name!r} promises more data than the file holds")
    if stored and not dtype.hasobject and size:
        place = _first_byte(path, member) + start
        if place + size > path.stat().st_size:
            raise ImageReadError(f"{path.name}: array {name!r} promises more data than the file holds")
        map_array = functools.partial(
            np.memmap, path, dtype, "r", offset=place, shape=shape, order="F" if fortran else "C"
        )
        return shape, dtype, lambda: contextlib.nullcontext(map_array())
    return shape, dtype, functools.partial(_unzipped, path, member.filename)


@contextlib.contextmanager
def _unzipped(path: Path, name: str) -> Iterator[NDArray[Any]]:
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        yield np.lib.format.read_array(stream, allow_pickle=False)


def _first_byte(path: Path, member: zipfile.ZipInfo) -> int:
    """Where a member of a zip file that is not compressed begins in it."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset)
        header = stream.read(LOCAL_HEADER)
    if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise ImageReadError(f"{path.name}: expected an array {member.filename!r}, its place in the file is wrong")
    name, extra = struct.unpack("<HH", header[26:])
    return member.header_offset + LOCAL_HEADER + int(name) + int(extra)
