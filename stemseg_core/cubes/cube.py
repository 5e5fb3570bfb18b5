"""A cube as it is given: an array of any storage, which of its axes are the map's and which the signal's, and what they
measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Axis
from stemseg_core.rows.pixels import PixelRows
from stemseg_core.system.errors import ParameterError, ParameterTypeError

#: Names of the axes of arrays that come without.
MAP_NAMES = ("z", "y", "x")
SIGNAL_NAMES = (("channel",), ("ky", "kx"))


@dataclass(frozen=True, eq=False)
class Cube:
    """A cube and how it is read.

    Attributes
    ----------
    array : array-like
        As it was given.
    axes : tuple of Axis
        Of the map, then of the signal, of the binned cube.
    n_signal_axes : int
    bins : tuple of int
        Neighbours that are summed along each axis.
    channels : ndarray of bool of the signal's shape
        Which are used.
    """

    array: Any
    axes: tuple[Axis, ...]
    n_signal_axes: int
    bins: tuple[int, ...]
    channels: NDArray[np.bool_]

    @classmethod
    def of(cls, cube: Any, signal_axes: int, axes: Any = None, bins: Any = None) -> Cube:
        """From the parameters of `unmix`, which are checked.

        Raises
        ------
        ParameterError
        """
        array = cube if hasattr(cube, "shape") and hasattr(cube, "dtype") else np.asarray(cube)
        n = len(array.shape)
        if isinstance(signal_axes, bool) or signal_axes not in (1, 2):
            raise ParameterError(
                f"`signal_axes` must be 1 (spectra) or 2 (patterns), got {signal_axes!r}", signal_axes=signal_axes
            )
        if n <= signal_axes or 0 in array.shape:
            raise ParameterError(
                f"`cube` must have one map axis or more and then {signal_axes} of the signal (`signal_axes`), all of "
                f"some length; got shape {tuple(array.shape)}",
                cube=cube,
                signal_axes=signal_axes,
            )
        if array.dtype.kind not in "biuf":
            raise ParameterTypeError(f"`cube` must hold real numbers, got dtype {array.dtype}", cube=cube)
        factors = _bins(bins, array.shape)
        named = _axes(axes, n, signal_axes)
        binned = tuple(_binned(axis, factor) for axis, factor in zip(named, factors, strict=True))
        shape = tuple(
            size // factor for size, factor in zip(array.shape[-signal_axes:], factors[-signal_axes:], strict=True)
        )
        return cls(array, binned, signal_axes, factors, np.ones(shape, bool))

    @property
    def map_shape(self) -> tuple[int, ...]:
        """Pixels along each axis of the map."""
        n = len(self.bins) - self.n_signal_axes
        return tuple(int(size) // factor for size, factor in zip(self.array.shape[:n], self.bins[:n], strict=True))

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Channels along each axis of the signal."""
        return self.channels.shape

    def rows(self) -> PixelRows:
        """Pixels by used channels."""
        n, m = len(self.bins), self.n_signal_axes
        return PixelRows(self.array, range(n - m), range(n - m, n), bins=self.bins, channels=self.channels)

    def without(self, channels: NDArray[np.bool_]) -> Cube:
        """Without these channels."""
        return replace(self, channels=self.channels & ~channels)

    def within(self, signal_range: Any) -> Cube:
        """The part of the signal between two values of its axis; of two axes, within that distance of the origin."""
        low, high = _range(signal_range)
        places = [
            axis.offset + axis.scale * np.arange(size)
            for axis, size in zip(self.axes[-self.n_signal_axes :], self.signal_shape, strict=True)
        ]
        if self.n_signal_axes == 2:
            radius = np.hypot(places[0][:, np.newaxis], places[1])
            inside = (radius >= low) & (radius <= high)
        else:
            slack = 1e-9 * abs(self.axes[-1].scale)
            inside = (places[0] >= low - slack) & (places[0] <= high + slack)
        if not inside.any():
            axis, (first, last) = self.axes[-1], (places[-1].min(), places[-1].max())
            goes = f"{first:g} to {last:g} {axis.units}".rstrip()
            raise ParameterError(
                f"`signal_range=` holds no channel: the axis {axis.name!r} goes from {goes}", signal_range=signal_range
            )
        return replace(self, channels=self.channels & inside)


def checked_mask(mask: Any, name: str, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """`mask` of that shape, True where left out; all False for None."""
    if mask is None:
        return np.zeros(shape, bool)
    array = np.asarray(mask)
    if array.shape != shape or array.dtype != bool:
        raise ParameterError(
            f"`{name}` must be an array of bool of shape {shape}, True where left out; got {array.dtype} of shape "
            f"{array.shape}",
            **{name: mask},
        )
    return array


def moved(axis: Axis, start: int) -> Axis:
    """The axis of the part of an array that begins at `start`."""
    return replace(axis, offset=axis.offset + start * axis.scale)


def _binned(axis: Axis, factor: int) -> Axis:
    """The axis of an array of which so many neighbours were summed: places are those of their middles."""
    return replace(axis, offset=axis.offset + (factor - 1) / 2 * axis.scale, scale=axis.scale * factor)


def _bins(bins: Any, shape: Sequence[int]) -> tuple[int, ...]:
    given = np.atleast_1d([1] if bins is None else bins).tolist()
    whole = all(isinstance(n, int) and not isinstance(n, bool) and n >= 1 for n in given)
    factors = tuple(given * len(shape)) if len(given) == 1 else tuple(given)
    if not whole or len(factors) != len(shape) or any(n > size for n, size in zip(factors, shape, strict=True)):
        raise ParameterError(
            f"`bin` must be a whole number from 1 on, or one for each axis of {tuple(shape)}, no larger than that; "
            f"got {bins!r}",
            bin=bins,
        )
    return factors


def _axes(axes: Any, n: int, signal_axes: int) -> tuple[Axis, ...]:
    if axes is None:
        n_map = n - signal_axes
        names = [
            *(f"axis {i}" for i in range(n_map - 3)),
            *MAP_NAMES[max(0, 3 - n_map) :],
            *SIGNAL_NAMES[signal_axes - 1],
        ]
        return tuple(Axis(name) for name in names)
    if isinstance(axes, Mapping) or not isinstance(axes, Iterable) or len(axes := list(axes)) != n:
        raise ParameterError(
            f"`axes` must be one dict (name, offset, scale, units) or Axis for each of the {n} axes of `cube`, in its "
            f"order; got {axes!r}",
            axes=axes,
        )
    return tuple(map(_axis, axes))


def _axis(axis: Any) -> Axis:
    if isinstance(axis, Axis):
        return axis
    known = {"name", "offset", "scale", "units"}
    if not isinstance(axis, Mapping) or not set(axis) <= known | {
        "size",
        "navigate",
        "index_in_array",
        "_type",
        "kind",
    }:
        raise ParameterError(
            f"`axes` must be dicts of name, offset, scale and units, or Axis; one is {axis!r}", axes=axis
        )
    offset, scale = axis.get("offset", 0.0), axis.get("scale", 1.0)
    for name, value in (("offset", offset), ("scale", scale)):
        if (
            isinstance(value, bool)
            or not isinstance(value, Real)
            or not math.isfinite(value)
            or (name == "scale" and not value)
        ):
            raise ParameterError(
                f"`axes`: the {name} of an axis must be a finite number{', not 0' * (name == 'scale')}; got {value!r}",
                axes=axis,
            )
    units = str(axis.get("units") or "")
    return Axis(str(axis.get("name") or ""), float(offset), float(scale), units)


def _range(signal_range: Any) -> tuple[float, float]:
    values = list(signal_range) if isinstance(signal_range, Iterable) and not isinstance(signal_range, str) else []
    if (
        len(values) != 2
        or not all(isinstance(v, Real) and not isinstance(v, bool) for v in values)
        or not values[0] < values[1]
    ):
        raise ParameterError(
            "`signal_range` must be two numbers (low, high) in the unit of the signal's axis, low below high; got "
            f"{signal_range!r}",
            signal_range=signal_range,
        )
    return float(values[0]), float(values[1])
