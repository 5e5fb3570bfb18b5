"""Files in and out: one calibrated image or cube of any file, TIFF with a scale, writing that is never half done."""

from stemseg_core.io.cubes import CubeFile, open_cube
from stemseg_core.io.images import Image, read_image
from stemseg_core.io.readers import read_signals
from stemseg_core.io.signals import ImageReadError, Signal
from stemseg_core.io.write import write_tiff

__all__ = [
    "CubeFile",
    "Image",
    "ImageReadError",
    "Signal",
    "open_cube",
    "read_image",
    "read_signals",
    "write_tiff",
]
