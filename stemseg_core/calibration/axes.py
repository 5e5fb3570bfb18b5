"""Axes of data sets: name, offset, scale and unit, in the units this package works in; absurd sizes are no calibration.

Tests: tests/test_units.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stemseg_core.calibration.units import parse_unit

#: Size of a pixel in nm, a femtometre, below which it is no calibration but a mistake. Twice as much: nothing changes
#: for images of microscopes, whose pixels are a picometre or more.
SMALLEST_PIXEL_NM = 1e-6
#: Size of a pixel in nm, a centimetre, above which it is none either: "1 m" is what an axis has whose scale was never
#: set. Twice as much: nothing changes for images of microscopes.
LARGEST_PIXEL_NM = 1e7
#: An axis, and what a user should know about it.
Described: TypeAlias = "tuple[Axis, str | None]"
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

    Examples
    --------
    >>> from stemseg_core import Axis
    >>> energy = Axis("Energy", offset=0.1, scale=0.02, units="keV")
    >>> energy.kind, str(energy)
    ('energy', 'Energy: 0.02 keV')
    """

    name: str
    offset: float = 0.0
    scale: float = 1.0
    units: str = ""

    @property
    def kind(self) -> str:
        """What is measured, as in `Unit`.

        One of "length", "reciprocal length", "angle", "energy", "time", "pixel", "none" and "unknown".
        """
        return parse_unit(self.units).kind

    def __str__(self) -> str:
        named = self.name or "axis"
        return named if self.kind in ("none", "pixel") else f"{named}: {self.scale:.6g} {self.units}"


def calibrated_axis(name: str, scale: object = None, units: object = None, offset: object = None) -> Described:
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
        Why it is none, where the file says something, without the name of the axis.
    """
    unit, size, start = parse_unit(units), _number(scale), _number(offset)
    start = start if start is not None and math.isfinite(start) else 0.0
    given = f"{size:g} {unit.text}".strip() if size is not None else unit.text
    if unit.kind in ("none", "pixel"):
        said = unit.kind == "none" and size not in (None, 0.0, 1.0)
        note = f"a scale of {size:g} has no unit; not used" if said else None
        return Axis(name, units=unit.symbol), note
    if unit.kind == "unknown":
        usable = size is not None and math.isfinite(size) and size != 0
        axis = Axis(name, start, size, unit.text) if usable and size is not None else Axis(name)
        return axis, f"the unit {unit.text!r} is not understood; not used"
    if size is None:
        return Axis(name), f"a unit, {unit.text}, but no scale; not used"
    if not math.isfinite(size) or size == 0:
        return Axis(name), f"a scale of {given} is no calibration; not used"
    size, start = size * unit.factor, start * unit.factor
    if unit.kind == "length" and not SMALLEST_PIXEL_NM <= size <= LARGEST_PIXEL_NM:
        return Axis(name), f"{given} is no size of a pixel; not used"
    return Axis(name, start, size, unit.symbol), None


def image_calibration(axes: Sequence[Described]) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """Size (y, x) of a pixel in nm by the axes (y, x) of an image, and what a user should know about it.

    The size is None unless both axes are lengths. No axes at all are no calibration.
    """
    named: dict[str, list[str]] = {}
    for side, (axis, note) in zip("yx", axes, strict=False):
        if note:
            named.setdefault(note, []).append(axis.name or side)
    notes = tuple(f"{' and '.join(names)}: {note}" for note, names in named.items())
    if len(axes) != 2:
        return None, notes
    y, x = (axis for axis, _ in axes)
    if y.kind == x.kind == "length":
        return (y.scale, x.scale), notes
    if is_pattern((y, x)):
        units = y.units if y.units == x.units else f"{y.units} and {x.units}"
        return None, (*notes, f"axes in {units}: a diffraction pattern or a transform, no image of a specimen")
    odd = [axis for axis in (y, x) if axis.kind not in ("none", "pixel", "unknown", "length")]
    if odd:
        return None, (*notes, f"the scale of its axes ({', '.join(map(str, odd))}) is not a length; not used")
    if "length" in (y.kind, x.kind) and not notes:
        return None, (f"only one axis of the image is a length ({y}, {x}); not used",)
    return None, notes


def is_pattern(axes: Sequence[Axis]) -> bool:
    """Whether both axes of an image are reciprocal lengths or angles, as those of diffraction patterns."""
    return len(axes) == 2 and all(axis.kind in RECIPROCAL for axis in axes)


def _number(value: object) -> float | None:
    """`value` as a float; None if it is none."""
    try:
        return None if value is None else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
