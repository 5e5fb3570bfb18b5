"""Axes of cubes as pictures show them: in units that people say, with sizes of maps and patterns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Axis
from stemseg_core.calibration.units import parse_unit

#: For axes of a kind that reach that far, in the unit that this package works in: the unit that is shown, and how many
#: of it are one. X-rays are in keV and energy losses in eV; wavenumbers are in cm^-1. Limits twice as large: more
#: zeros in the numbers at an axis.
SHOWN = {
    "energy": ((5e3, "keV", 1e-3), (0, "eV", 1.0)),
    "length": ((5e6, "mm", 1e-6), (5e3, "\u00b5m", 1e-3), (0, "nm", 1.0)),
    "reciprocal length": ((1e-2, "nm\u207b\u00b9", 1.0), (0, "cm\u207b\u00b9", 1e7)),
    "angle": ((0, "mrad", 1.0),),
}


def shown_axis(axis: Axis, size: int) -> Axis:
    """The axis of so many points in the unit that is shown."""
    unit = parse_unit(axis.units)
    if unit.kind not in SHOWN:
        return replace(axis, units="" if unit.kind == "pixel" else axis.units)
    start, step = axis.offset * unit.factor, axis.scale * unit.factor
    reach = max(abs(start), abs(start + step * (size - 1)), abs(step * size))
    _, name, factor = next(row for row in SHOWN[unit.kind] if reach >= row[0])
    return Axis(axis.name, start * factor, step * factor, name)


def label_of(axis: Axis, unnamed: str) -> str:
    """What is written at an axis: ``Energy loss (eV)``."""
    return f"{axis.name or unnamed}{f' ({axis.units})' if axis.units else ''}"


def places_of(axis: Axis, size: int) -> NDArray[np.float64]:
    """Where the points of an axis lie."""
    return axis.offset + axis.scale * np.arange(size, dtype=np.float64)


class Frame(NamedTuple):
    """Sides of a map or a pattern.

    Attributes
    ----------
    height, width : float
        In `units`.
    units : str
        As a scale bar says it.
    """

    height: float
    width: float
    units: str

    @property
    def aspect(self) -> float:
        """Width over height."""
        return self.width / self.height

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom, top."""
        return 0.0, self.width, self.height, 0.0


def frame_of(axes: Sequence[Axis], shape: Sequence[int]) -> Frame:
    """The frame of a plane by its two axes; in pixels where they are of different kinds or have no unit."""
    size = max(shape)
    y, x = (shown_axis(replace(axis, offset=0.0), size) for axis in axes)
    if y.units != x.units and y.kind == x.kind:  # one of them is long: the unit of the longer one
        longer = max(axes, key=lambda axis: abs(axis.scale) * parse_unit(axis.units).factor)
        unit = shown_axis(replace(longer, offset=0.0), size)
        y, x = (replace(a, scale=a.scale * _factor(a, unit), units=unit.units) for a in (y, x))
    if y.units != x.units or not y.units:
        return Frame(float(shape[0]), float(shape[1]), "px")
    return Frame(abs(y.scale) * shape[0], abs(x.scale) * shape[1], y.units)


def _factor(axis: Axis, unit: Axis) -> float:
    return parse_unit(axis.units).factor / parse_unit(unit.units).factor
