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
from stemseg_core.cubes.objects import described
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
        As it is stored; axes that are in none of the next two have one point.
    map_axes, signal_axes : tuple of int
        Which of its axes are those of the map, and of the signal.
    axes : tuple of Axis
        Of the map, then of the signal, of the binned cube.
    bins : tuple of int
        Neighbours that are summed along each of `axes`.
    channels : ndarray of bool of the signal's shape
        Which are used.
    notes : tuple of str
        What of the axes was not understood.
    """

    array: Any
    map_axes: tuple[int, ...]
    signal_axes: tuple[int, ...]
    axes: tuple[Axis, ...]
    bins: tuple[int, ...]
    channels: NDArray[np.bool_]
    notes: tuple[str, ...] = ()

    @classmethod
    def stored(cls, array: Any, map_axes: Sequence[int], signal_axes: Sequence[int], axes: Sequence[Axis]) -> Cube:
        """An array whose axes are in any order, with one `Axis` for each of the map's and of the signal's."""
        channels = np.ones([int(array.shape[axis]) for axis in signal_axes], bool)
        bins = (1,) * (len(map_axes) + len(signal_axes))
        return cls(array, tuple(map_axes), tuple(signal_axes), tuple(axes), bins, channels)

    @classmethod
    def of(cls, cube: Any, signal_axes: int | None = None, axes: Any = None, bins: Any = None) -> Cube:
        """From the parameters of `unmix`, which are checked.

        Raises
        ------
        ParameterError
        """
        given = cube if isinstance(cube, Cube) else cls._of_object(cube, signal_axes)
        if given is not None:
            if signal_axes not in (None, given.n_signal_axes):
                raise ParameterError(
                    f"`signal_axes=` contradicts the cube, whose signal has {given.n_signal_axes}",
                    signal_axes=signal_axes,
                )
        else:
            if np.ma.is_masked(cube):  # arrays lose their mask wherever they are converted
                raise ParameterError(
                    "`cube` must be without masked values; give cube.data, and as mask the pixels to leave out, as "
                    "cube.mask.any(axis=-1)",
                    cube=cube,
                )
            given = _of_array(cube, 1 if signal_axes is None else signal_axes)
        if axes is not None:
            given = replace(given, axes=_axes(axes, len(given.axes)))
        return given if bins is None else given.binned(bins)

    @classmethod
    def _of_object(cls, cube: Any, signal_axes: int | None) -> Cube | None:
        """Of an object that knows its axes; None for an array."""
        known = described(cube, signal_axes)
        if known is None:
            return None
        _check_array(cube, known.array, len(known.signal_axes))
        return replace(cls.stored(known.array, known.map_axes, known.signal_axes, known.axes), notes=known.notes)

    @property
    def n_signal_axes(self) -> int:
        """1 for spectra, 2 for patterns."""
        return len(self.signal_axes)

    @property
    def has_origin(self) -> bool:
        """Whether 0 lies within all axes of the signal, and not at an end of them, as where nobody has set it."""
        for axis, n in zip(self.axes[-self.n_signal_axes :], self.signal_shape, strict=True):
            first, last = axis.offset, axis.offset + axis.scale * (n - 1)
            if not min(first, last) < 0 < max(first, last):
                return False
        return True

    @property
    def map_shape(self) -> tuple[int, ...]:
        """Pixels along each axis of the map."""
        return tuple(int(self.array.shape[axis]) // n for axis, n in zip(self.map_axes, self.bins, strict=False))

    @property
    def signal_shape(self) -> tuple[int, ...]:
        """Channels along each axis of the signal."""
        return self.channels.shape

    def rows(self) -> PixelRows:
        """Pixels by used channels."""
        factors = dict(zip((*self.map_axes, *self.signal_axes), self.bins, strict=True))
        bins = [factors.get(axis, 1) for axis in range(len(self.array.shape))]
        return PixelRows(self.array, self.map_axes, self.signal_axes, bins=bins, channels=self.channels)

    def binned(self, bins: Any) -> Cube:
        """With so many neighbours summed along each axis."""
        shape = [int(self.array.shape[axis]) for axis in (*self.map_axes, *self.signal_axes)]
        factors = _bins(bins, shape)
        axes = tuple(_binned(axis, n) for axis, n in zip(self.axes, factors, strict=True))
        m = self.n_signal_axes
        signal = [size // n for size, n in zip(shape[-m:], factors[-m:], strict=True)]
        return replace(self, axes=axes, bins=factors, channels=np.ones(signal, bool))

    def without(self, channels: NDArray[np.bool_]) -> Cube:
        """Without these channels."""
        return replace(self, channels=self.channels & ~channels)

    def within(self, signal_range: Any) -> Cube:
        """The part of the signal between two values of its axis; of two axes, at such distances from the origin, or
        from the middle where they have none.
        """
        low, high = _range(signal_range)
        places = [
            axis.offset + axis.scale * np.arange(size)
            for axis, size in zip(self.axes[-self.n_signal_axes :], self.signal_shape, strict=True)
        ]
        if self.n_signal_axes == 2:
            y, x = places if self.has_origin else (along - along.mean() for along in places)
            radius = np.hypot(y[:, np.newaxis], x)
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


def _of_array(cube: Any, signal_axes: int) -> Cube:
    """An array whose last axes are those of the signal."""
    array = cube if hasattr(cube, "shape") and hasattr(cube, "dtype") else np.asarray(cube)
    _check_array(cube, array, signal_axes)
    n = len(array.shape)
    n_map = n - signal_axes
    names = [*(f"axis {i}" for i in range(n_map - 3)), *MAP_NAMES[max(0, 3 - n_map) :], *SIGNAL_NAMES[signal_axes - 1]]
    return Cube.stored(array, range(n_map), range(n_map, n), [Axis(name) for name in names])


def _check_array(cube: Any, array: Any, signal_axes: int) -> None:
    n = len(array.shape)
    if isinstance(signal_axes, bool) or signal_axes not in (1, 2):
        raise ParameterError(
            f"`signal_axes` must be 1 (spectra) or 2 (patterns), got {signal_axes!r}", signal_axes=signal_axes
        )
    if n <= signal_axes or 0 in array.shape:
        raise ParameterError(
            f"`cube` must have one map axis or more and then {signal_axes} of the signal (`signal_axes`), all of some "
            f"length; got shape {tuple(array.shape)}",
            cube=cube,
            signal_axes=signal_axes,
        )
    if array.dtype.kind not in "biuf":
        raise ParameterTypeError(f"`cube` must hold real numbers, got dtype {array.dtype}", cube=cube)


def _axes(axes: Any, n: int) -> tuple[Axis, ...]:
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
