"""Axes of data sets: name, offset, scale and unit, in the units this package works in; absurd sizes are no calibration.

Tests: tests/test_units.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stemseg_core.io.units import parse_unit

#: Size of a pixel in nm, a femtometre, below which it is no calibration but a mistake. Twice as much: nothing changes
#: for images of microscopes, whose pixels are a picometre or more.
SMALLEST_PIXEL_NM = 1e-6
#: Size of a pixel in nm, a centimetre, above which it is none either: "1 m" is what an axis has whose scale was never
#: set. Twice as much: nothing changes for images of microscopes.
LARGEST_PIXEL_NM = 1e7
#: Kinds of axes that diffraction patterns have.
RECIPROCAL = ("reciprocal length", "angle")


@dataclass(frozen=True)
class Axis:
    """One axis of an array: pixel i lies at ``offset + i * scale``.

    Attributes
    ----------
    name : str
    offset, scale : float
        In `units`.
    units : str
        nm, 1/nm, mrad, eV, s or px, whatever the file uses; the file's own text if it is not understood; "" if it has
        none.
    kind : str
        What is measured, as in `Unit`: "length", "reciprocal length", "angle", "energy", "time", "pixel", "none" or
        "unknown".
    """

    name: str
    offset: float = 0.0
    scale: float = 1.0
    units: str = ""
    kind: str = "none"

    def __str__(self) -> str:
        named = self.name or "axis"
        return named if self.kind in ("none", "pixel") else f"{named}: {self.scale:.6g} {self.units}"


def calibrated_axis(
    name: str, scale: object = None, units: object = None, offset: object = None
) -> tuple[Axis, str | None]:
    """An axis as a file describes it, in the units of this package, and what a user should know about it.

    Parameters
    ----------
    name : str
    scale, offset : number or None
        In `units`; None if the file has none.
    units : str, bytes or None

    Returns
    -------
    axis : Axis
        Without unit and of scale 1 where what the file says is no calibration.
    note : str or None
        Why it is none, where the file says something.
    """
    unit, size, start = parse_unit(units), _number(scale), _number(offset)
    start = start if start is not None and math.isfinite(start) else 0.0
    given = f"{size:g} {unit.text}".strip() if size is not None else unit.text
    if unit.kind in ("none", "pixel"):
        said = unit.kind == "none" and size not in (None, 0.0, 1.0)
        note = f"axis {name}: a scale of {given} has no unit; not used" if said else None
        return Axis(name, units=unit.symbol, kind=unit.kind), note
    if unit.kind == "unknown":
        usable = size is not None and math.isfinite(size) and size != 0
        axis = Axis(name, start, size, unit.text, "unknown") if usable and size is not None else Axis(name)
        return axis, f"axis {name}: the unit {unit.text!r} is not understood; not used"
    if size is None:
        return Axis(name), f"axis {name}: the unit is {unit.text}, a scale is missing; not used"
    if not math.isfinite(size) or size == 0:
        return Axis(name), f"axis {name}: a scale of {given} is none; not used"
    size, start = size * unit.factor, start * unit.factor
    if unit.kind == "length" and not SMALLEST_PIXEL_NM <= size <= LARGEST_PIXEL_NM:
        return Axis(name), f"axis {name}: {given} is no size of a pixel; not used"
    return Axis(name, start, size, unit.symbol, unit.kind), None


def pixel_size(axes: Sequence[Axis]) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Size (y, x) of a pixel in nm by the axes (y, x) of an image, None unless both are lengths, and notes on that."""
    y, x = axes
    if y.kind == x.kind == "length":
        return (y.scale, x.scale), ()
    if is_pattern(axes):
        return None, (f"axes in {y.units} and {x.units}: a diffraction pattern or a transform, no image of a specimen",)
    if "length" in (y.kind, x.kind):
        return None, (f"only one axis of the image is a length ({y}, {x}); not used",)
    odd = [axis for axis in axes if axis.kind not in ("none", "pixel", "unknown")]
    return None, (f"its scale ({', '.join(map(str, odd))}) is not a length; not used",) if odd else ()


def is_pattern(axes: Sequence[Axis]) -> bool:
    """Whether both axes of an image are reciprocal lengths or angles, as those of diffraction patterns."""
    return len(axes) == 2 and all(axis.kind in RECIPROCAL for axis in axes)


def _number(value: object) -> float | None:
    """`value` as a float; None if it is none."""
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
