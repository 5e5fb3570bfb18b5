"""What a file holds: every format's data sets described alike, their images read on demand.

NumPy files are read by NumPy, pictures by Pillow, TIFF by tifffile, and every microscope format by RosettaSciIO; these
packages come with ``pip install "stemseg-core[cli]"`` and are imported when a file asks for them.
"""

from __future__ import annotations

import os
from pathlib import Path

from stemseg_core.io.arrays import NUMPY_SUFFIXES, numpy_signals
from stemseg_core.io.containers import zarr_container
from stemseg_core.io.hdf5 import hdf5_signals, is_hdf5
from stemseg_core.io.hyperspy import hyperspy_signals
from stemseg_core.io.pictures import PICTURE_SUFFIXES, picture_signals
from stemseg_core.io.reading import reading
from stemseg_core.io.rosetta import microscope_signals
from stemseg_core.io.signals import ImageReadError, Signal
from stemseg_core.io.tiff import TIFF_SUFFIXES, tiff_signals


def read_signals(path: str | os.PathLike[str]) -> tuple[str, tuple[Signal, ...]]:
    """Name of the format and description of every data set in a file; reads headers, not images.

    Raises
    ------
    ImageReadError
        As `read_image`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise ImageReadError(f"{path.name}: expected a file, there is none at {path}")
    if path.is_dir() and suffix != ".zspy":
        raise ImageReadError(f"{path.name}: expected an image file, got a folder")
    if path.is_file() and path.stat().st_size == 0:
        raise ImageReadError(f"{path.name}: expected an image, got an empty file of 0 bytes")
    if path.is_dir() or suffix == ".zspy":
        with reading(path, "a file of HyperSpy"):
            return "ZSPY", tuple(hyperspy_signals(zarr_container(path), path.stem))
    if is_hdf5(path):
        return hdf5_signals(path)
    if suffix in NUMPY_SUFFIXES:
        name, reader = "NumPy", numpy_signals
    elif suffix in PICTURE_SUFFIXES:
        name, reader = "picture", picture_signals
    elif suffix in TIFF_SUFFIXES:
        name, reader = "TIFF", tiff_signals
    else:
        return microscope_signals(path)
    with reading(path, f"a {name} file"):
        return name, tuple(reader(path))
