"""TIFF with a scale, written whole or not at all."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.units import parse_unit
from stemseg_core.io.tiff_axes import DIGITAL_MICROGRAPH
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.files import atomic

#: Largest number in the fractions of TIFF's resolution tags. A fact of the format.
LARGEST_RESOLUTION = 2**32 - 1
#: Units as ImageJ and RosettaSciIO both know them, in ASCII, by the spelling in the tags of DigitalMicrograph.
IMAGEJ_UNITS = {"\u00b5m": "micron", "\u00c5": "angstrom"}


def write_tiff(
    path: str | os.PathLike[str],
    array: NDArray[Any],
    pixel_size: tuple[float, float] | None = None,
    units: str = "nm",
    *,
    origin: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write an image or a stack as TIFF whose scale and origin ImageJ, HyperSpy and DigitalMicrograph read; atomic.

    Parameters
    ----------
    path : str or path-like
    array : ndarray of shape (y, x) or (k, y, x)
        uint8, uint16 or float32 are kept (ImageJ knows no others); other floats become float32, other whole numbers
        the smaller of uint8 and uint16 that holds them.
    pixel_size : (float, float), optional
        (y, x) in `units`. Default: the unit is a pixel.
    units : str, default="nm"
        A length in any spelling, or "pixel". nm, um, pm and Angstrom are kept, other lengths are written in nm.
    origin : (float, float), default=(0.0, 0.0)
        (y, x) of the first pixel's centre, in `units`, so that a coarse map lies over the image it belongs to.

    Raises
    ------
    ParameterError
        If the array is not 2-D or 3-D, holds masked values, no real numbers, whole ones outside 0..65535 or others that
        float32 cannot hold; if `pixel_size` is not two positive numbers, or `units` no length.
    """
    import tifffile

    array = _imagej_array(array)
    about = {"axes": "ZYX"[3 - array.ndim :], "unit": "pixel"}
    (y, x), unit, (y0, x0) = (1.0, 1.0), "", origin
    if pixel_size is not None:
        (y, x), (y0, x0), unit = _in_tiff_units(pixel_size, origin, units)
        about["unit"] = IMAGEJ_UNITS.get(unit, unit)
    if (y0, x0) != (0.0, 0.0):
        about |= {"yorigin": f"{-y0 / y:.12g}", "xorigin": f"{-x0 / x:.12g}"}
    options: dict[str, Any] = {"imagej": True, "resolution": (1 / x, 1 / y), "resolutionunit": 1, "metadata": about}
    if unit:
        options["extratags"] = [
            tag
            for axis, size, start in (("X", x, x0), ("Y", y, y0))
            for tag in zip(
                DIGITAL_MICROGRAPH[axis],
                "sdd",
                (0, 1, 1),
                (unit.encode("latin-1"), start, size),
                (False,) * 3,
                strict=True,
            )
        ]
    with atomic(path) as temporary:
        tifffile.imwrite(temporary, array, **options)


def _imagej_array(array: NDArray[Any]) -> NDArray[Any]:
    """The array in a data type of ImageJ and in native byte order."""
    if np.ma.is_masked(array):
        raise ParameterError("`array` must be without masked values; fill them: array.filled(0)", array=array)
    array = np.asarray(array)
    if array.ndim not in (2, 3) or not array.size:
        raise ParameterError(f"`array` must have shape (y, x) or (k, y, x) of pixels, got {array.shape}", array=array)
    if array.dtype.kind not in "biuf":
        raise ParameterError(f"`array` must hold real numbers, got {array.dtype}", array=array)
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            written = array.astype(np.float32, copy=False)
        if np.isinf(written).sum() > np.isinf(array).sum():
            raise ParameterError("`array` must hold numbers below 3.4e38, the largest that TIFF has here", array=array)
        return written
    if array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        low, high = int(array.min(initial=0)), int(array.max(initial=0))
        if low < 0 or high > 65535:
            raise ParameterError(f"`array` must hold whole numbers from 0 to 65535, got {low} to {high}", array=array)
        return array.astype(np.uint8 if high < 256 else np.uint16)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _in_tiff_units(
    pixel_size: tuple[float, float], origin: tuple[float, float], units: str
) -> tuple[tuple[float, float], tuple[float, float], str]:
    """Pixel size and origin (y, x) and their unit as written: nm, um, pm or Angstrom where it is that, else nm."""
    parsed = parse_unit(units)
    if parsed.kind not in ("length", "pixel"):
        raise ParameterError(
            f"`units` must be a length such as 'nm', 'um' or 'A', or 'pixel'; got {units!r}", units=units
        )
    if np.shape(pixel_size) != (2,) or not all(0 < size < math.inf for size in pixel_size):
        raise ParameterError(f"`pixel_size` must be two positive numbers, got {pixel_size!r}", pixel_size=pixel_size)
    factors = {1.0: "nm", 1e3: "\u00b5m", 1e-3: "pm", 0.1: "\u00c5"}
    unit = next((name for factor, name in factors.items() if math.isclose(factor, parsed.factor)), "nm")
    unit = "pixel" if parsed.kind == "pixel" else unit
    factor = parsed.factor if unit == "nm" else 1.0
    y, x = (float(size) * factor for size in pixel_size)
    if not all(1e3 / LARGEST_RESOLUTION < size < LARGEST_RESOLUTION / 1e3 for size in (y, x)):
        raise ParameterError(
            f"`pixel_size` in {unit} must be such that TIFF can hold it, from 1e-6 to 1e6, got {pixel_size!r} {units}",
            pixel_size=pixel_size,
        )
    return (y, x), (origin[0] * factor, origin[1] * factor), unit
