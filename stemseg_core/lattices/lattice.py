"""What is known of a lattice, with its uncertainties, and how it is said in a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import floor, isnan, log10, nan
from typing import Any, Self


@dataclass(frozen=True)
class Spacing:
    """Lattice planes that show.

    Attributes
    ----------
    d : float
        Distance of the planes, in `Lattice.units`.
    d_uncertainty : float
        Standard uncertainty.
    ky, kx : float
        Their reflection: frequency along y and x in cycles per unit; it and its negative are one.
    indices : (int, int)
        (h, k) of the vectors a and b: the reflection is h a* + k b*.
    order : int
        Largest common divisor of h and k: 2 for the second order of planes.
    power : float
        Mean power relative to that of the strongest.

    Examples
    --------
    >>> from stemseg_core import datasets, segment
    >>> image, truth = datasets.single_phase((256, 256), drift=0)
    >>> (lattice,) = segment(image, 1, pixel_size=datasets.PIXEL_SIZE).lattices
    >>> strongest = lattice.spacings[0]
    >>> f"{strongest.d:.2f} nm", strongest.order
    ('0.28 nm', 1)
    """

    d: float
    d_uncertainty: float
    ky: float
    kx: float
    indices: tuple[int, int]
    order: int
    power: float


@dataclass(frozen=True)
class Lattice:
    """The lattice of a region: its reduced primitive cell, orientation, and the reflections that show.

    The cell is that of what shows. Columns of atoms that look alike are alike: the cell of a centred lattice is the
    primitive one, and a superlattice counts if its reflections do.

    Attributes
    ----------
    a, b : float
        Lengths of the two shortest vectors of the lattice, a <= b, in `units`.
    gamma : float
        Angle between them in degrees, from 90 to 120: a reduced cell has no other.
    angle : float
        Direction of a, in degrees from x towards y: clockwise on the screen, as y points down. Above -90, up to 90. Of
        vectors that are as short as a within the uncertainties, that nearest to the x axis counts: it is from -45 to 45
        for a square lattice, from -30 to 30 for a hexagonal one.
    a_uncertainty, b_uncertainty, gamma_uncertainty, angle_uncertainty : float
        Standard uncertainties, of the scatter between parts of the region: noise, strain, and a scan that is uneven;
        NaN where the region has no two parts.
        What distorts the whole image alike is not in them: calibration, and a constant drift.
    units : str
        Of a and b; "px" if the image is not calibrated.
    spacings : tuple of Spacing
        Reflections of the lattice, the strongest first, each measured by itself.

    Examples
    --------
    >>> from stemseg_core import datasets, segment
    >>> image, truth = datasets.two_phase((320, 480), angle=20, drift=0)
    >>> result = segment(image, 2, pixel_size=datasets.PIXEL_SIZE)
    >>> sorted(round(lattice.angle) for lattice in result.lattices)
    [0, 20]
    >>> [round(lattice.a, 2) for lattice in result.lattices]
    [0.39, 0.39]
    """

    a: float
    b: float
    gamma: float
    angle: float
    a_uncertainty: float
    b_uncertainty: float
    gamma_uncertainty: float
    angle_uncertainty: float
    units: str
    spacings: tuple[Spacing, ...] = field(repr=False)

    @property
    def words(self) -> str:
        """In a line, uncertainties in brackets: ``a = 0.3905(3), b = 0.391(2) nm, gamma 90.0(1)°, turned 12.3(1)°``."""
        a, b = uncertain(self.a, self.a_uncertainty), uncertain(self.b, self.b_uncertainty)
        gamma = uncertain(self.gamma, self.gamma_uncertainty)
        angle = uncertain(self.angle, self.angle_uncertainty)
        return f"a = {a}, b = {b} {self.units}, gamma {gamma}°, turned {angle}°"

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, text, lists and dicts that JSON knows."""
        values = _finite(asdict(self))
        values["spacings"] = [_finite(s) | {"indices": list(s["indices"])} for s in values["spacings"]]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        spacings = tuple(Spacing(**{**_known(s), "indices": tuple(s["indices"])}) for s in values["spacings"])
        return cls(**{**_known(values), "spacings": spacings})


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as None, which JSON knows."""
    return {name: None if isinstance(value, float) and isnan(value) else value for name, value in values.items()}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `_finite`."""
    return {name: nan if value is None else value for name, value in values.items()}


def uncertain(value: float, uncertainty: float) -> str:
    """A number with its uncertainty in its last digit, or the last two if the first of these is a 1: ``0.3905(3)``.

    Where it is not known, NaN, three digits: ``0.391(?)``.
    """
    if isnan(uncertainty):
        return f"{value:z.3g}(?)"
    if not uncertainty > 0:
        return f"{value:z.6g}"
    digits = 1 - floor(log10(uncertainty)) if f"{uncertainty:e}"[0] == "1" else -floor(log10(uncertainty))
    if digits <= 0:
        return f"{value:z.0f}({uncertainty:.0f})"
    return f"{value:z.{digits}f}({round(uncertainty * 10**digits)})"
