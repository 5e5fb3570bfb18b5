"""Arrays in NumPy's own files, .npy and .npz."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.signals import ImageReadError, Signal, array_signal

NUMPY_SUFFIXES = (".npy", ".npz")


def numpy_signals(path: Path) -> list[Signal]:
    """Signals of a .npy or .npz file."""
    if path.suffix.lower() == ".npy":
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise ImageReadError(f"{path.name}: expected a NumPy file, but it does not begin like one")
        # A memory map: only what is used is read, and a header that promises more than the file holds is refused.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return [array_signal(0, path.stem, array.shape, array.dtype, lambda: array)]
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        return [_npz_signal(path, index, archive, member) for index, member in enumerate(members)]


def _npz_signal(path: Path, index: int, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Signal:
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > member.file_size:
        raise ImageReadError(f"{path.name}: array {name!r} promises more data than the file holds")

    def load() -> NDArray[Any]:
        with np.load(path, allow_pickle=False) as arrays:
            array: NDArray[Any] = arrays[name]
            return array

    return array_signal(index, name, shape, dtype, load)
