"""TIFF with a scale, written whole or not at all."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.system.errors import ParameterError
from stemseg_core.system.files import atomic


def write_tiff(
    path: str | os.PathLike[str],
    array: NDArray[Any],
    pixel_size: tuple[float, float] | None = None,
    units: str = "nm",
    *,
    origin: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write an image or a stack as TIFF with a scale that ImageJ reads; atomic.

    Parameters
    ----------
    path : str or path-like
    array : ndarray of shape (y, x) or (k, y, x)
        uint8, uint16 or float32 are kept (ImageJ knows no others); other floats become float32, other whole numbers
        the smaller of uint8 and uint16 that holds them.
    pixel_size : (float, float), optional
        (y, x) in `units`. Default: the unit is a pixel.
    units : str, default="nm"
    origin : (float, float), default=(0.0, 0.0)
        (y, x) of the first pixel's centre, in `units`, so that a coarse map lies over the image it belongs to.

    Raises
    ------
    ParameterError
        If the array is not 2-D or 3-D, or holds whole numbers outside 0..65535.
    """
    import tifffile

    if array.ndim not in (2, 3):
        raise ParameterError(f"`array` must have shape (y, x) or (k, y, x), got {array.shape}", array=array)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        if low < 0 or high > 65535:
            raise ParameterError(f"`array` must hold whole numbers from 0 to 65535, got {low} to {high}", array=array)
        array = array.astype(np.uint8 if high < 256 else np.uint16)
    y, x = (float(size) for size in pixel_size or (1.0, 1.0))
    about = {"axes": "ZYX"[3 - array.ndim :], "unit": units if pixel_size else "pixel"}
    if origin != (0.0, 0.0):
        about |= {"yorigin": f"{-origin[0] / y:g}", "xorigin": f"{-origin[1] / x:g}"}
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    with atomic(path) as temporary:
        tifffile.imwrite(temporary, array, imagej=True, resolution=(1 / x, 1 / y), resolutionunit=1, metadata=about)
