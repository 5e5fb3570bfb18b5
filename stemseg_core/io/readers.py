"""What a file holds: every format's data sets described alike, their images read on demand.

NumPy files are read by NumPy, pictures by Pillow, TIFF by tifffile, containers (HDF5, zarr) by what they hold, and all
other formats by RosettaSciIO; these packages come with ``pip install "stemseg-core[cli]"`` and are imported when a file
asks for them.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from stemseg_core.io.arrays import NUMPY_SUFFIXES, numpy_signals
from stemseg_core.io.hdf5 import HDF5_SUFFIXES, hdf5_signals, is_hdf5
from stemseg_core.io.mat import MAT_SUFFIX, mat_signals
from stemseg_core.io.nion import NION_SUFFIXES, ndata_signals
from stemseg_core.io.pictures import PICTURE_SUFFIXES, picture_signals
from stemseg_core.io.reading import reading
from stemseg_core.io.rosetta import microscope_signals
from stemseg_core.io.signals import ImageReadError, Signal, named
from stemseg_core.io.tiff import TIFF_SUFFIXES, tiff_signals
from stemseg_core.io.zarrs import is_zarr, zarr_signals
from stemseg_core.system.files import readable


def read_signals(path: str | os.PathLike[str]) -> tuple[str, tuple[Signal, ...]]:
    """Name of the format and description of every data set in a file; reads headers, not images.

    Raises
    ------
    ImageReadError
        As `read_image`.
    """
    path, inside = located(path)
    name, signals = _signals(path, inside)
    return name, tuple(replace(signal, title=readable(signal.title)) for signal in signals)


def _signals(path: Path, inside: str | None) -> tuple[str, tuple[Signal, ...]]:
    """Those of a file, or the one at `inside`."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise ImageReadError(f"{path.name}: expected a file, there is none at {path}")
    if path.is_dir() and not is_zarr(path):
        raise ImageReadError(f"{path.name}: expected an image file, got a folder")
    if path.is_file() and path.stat().st_size == 0:
        raise ImageReadError(f"{path.name}: expected an image, got an empty file of 0 bytes")
    if is_zarr(path):
        return zarr_signals(path, inside)
    if is_hdf5(path):
        return hdf5_signals(path, inside)
    if suffix in HDF5_SUFFIXES:
        raise ImageReadError(f"{path.name}: expected an HDF5 file, but it does not begin like one")
    name, signals = _file_signals(path, suffix)
    if inside is None:
        return name, signals
    return name, (named(path, signals, inside),)


def located(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """A file, and the path of a data set in it if one is given, as in ``file.h5::/group/data``."""
    text = os.fspath(path)
    file, mark, inside = text.partition("::")
    return (Path(file), inside.strip("/")) if mark and not Path(text).exists() else (Path(text), None)


def name_of(path: str | os.PathLike[str]) -> str:
    """The name of a file, and of the data set in it that was asked for, as text."""
    file, inside = located(path)
    return readable(file.name) + (f"::/{inside}" if inside else "")


def _file_signals(path: Path, suffix: str) -> tuple[str, tuple[Signal, ...]]:
    """Those of a file that is no container of others' formats."""
    if suffix in NUMPY_SUFFIXES:
        name, reader = "NumPy", numpy_signals
    elif suffix in PICTURE_SUFFIXES:
        name, reader = "picture", picture_signals
    elif suffix in TIFF_SUFFIXES:
        name, reader = "TIFF", tiff_signals
    elif suffix in NION_SUFFIXES:
        name, reader = "Nion Swift", ndata_signals
    elif suffix == MAT_SUFFIX:
        name, reader = "MATLAB", mat_signals
    else:
        return microscope_signals(path)
    with reading(path, f"a {name} file"):
        return name, tuple(reader(path))
