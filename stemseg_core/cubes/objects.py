"""Cubes in objects of other packages, which know their axes: HyperSpy signals, sidpy.Dataset and xarray.DataArray.

They are told by what they have, so that none of these packages is imported. Values stay where they are: what is lazy is
read block by block. Tests: tests/test_objects.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from stemseg_core.calibration.axes import Axis

#: Steps of an axis may differ by this share of their mean; else it has no scale.
EVEN = 1e-3
#: Kinds of dimensions of sidpy that are the signal's.
SIDPY_SIGNAL = ("SPECTRAL", "RECIPROCAL")


#: An axis, and what was not understood of it.
Noted: TypeAlias = tuple[Axis, str | None]


@dataclass(frozen=True, eq=False)
class Described:
    """An array whose axes are known.

    Attributes
    ----------
    array : array-like
    map_axes, signal_axes : tuple of int
    axes : tuple of Axis
        Of the map, then of the signal.
    notes : tuple of str
        What of the axes was not understood.
    """

    array: Any
    map_axes: tuple[int, ...]
    signal_axes: tuple[int, ...]
    axes: tuple[Axis, ...]
    notes: tuple[str, ...]


def described(cube: Any, n_signal_axes: int | None) -> Described | None:
    """What an object says of itself; None for one that is an array and no more."""
    if hasattr(cube, "axes_manager") and hasattr(cube, "data"):
        return _of_hyperspy(cube)
    if hasattr(cube, "get_axes_by_type") or (hasattr(cube, "_axes") and hasattr(cube, "quantity")):
        return _of_sidpy(cube, n_signal_axes)
    if hasattr(cube, "dims") and hasattr(cube, "coords") and hasattr(cube, "variable"):
        return _of_xarray(cube, n_signal_axes)
    return None


def _of_hyperspy(signal: Any) -> Described:
    manager = signal.axes_manager
    in_order = [tuple(axes)[::-1] for axes in (manager.navigation_axes, manager.signal_axes)]  # x before y there
    numbers = [tuple(int(axis.index_in_array) for axis in axes) for axes in in_order]
    made = [
        _even(str(axis.name), axis.axis, _text(axis.units))
        if not getattr(axis, "is_uniform", True)
        else _scaled(_text(axis.name), axis.offset, axis.scale, _text(axis.units))
        for axes in in_order
        for axis in axes
    ]
    return _described(signal.data, numbers[0], numbers[1], made)


def _of_sidpy(dataset: Any, n_signal_axes: int | None) -> Described:
    dimensions = [dataset._axes[i] for i in range(len(dataset.shape))]
    kinds = [getattr(d.dimension_type, "name", str(d.dimension_type)).upper() for d in dimensions]
    signal = [i for i, kind in enumerate(kinds) if kind in SIDPY_SIGNAL]
    if not signal or len(signal) == len(kinds) or n_signal_axes not in (None, len(signal)):
        signal = _last(len(kinds), n_signal_axes)
    made = [_even(str(d.name), np.asarray(d), _text(d.units)) for d in dimensions]
    map_axes = tuple(i for i in range(len(kinds)) if i not in signal)
    return _described(_plain(dataset), map_axes, tuple(signal), [made[i] for i in (*map_axes, *signal)])


def _of_xarray(array: Any, n_signal_axes: int | None) -> Described:
    made = [
        _even(str(name), np.asarray(array.coords[name]), _text(array.coords[name].attrs.get("units")))
        if name in array.coords
        else (Axis(str(name)), None)
        for name in array.dims
    ]
    signal = _last(array.ndim, n_signal_axes)
    # The variable reads what is sliced of it; the data of the array would be read as a whole.
    return _described(array.variable, tuple(range(signal[0])), tuple(signal), made)


def _described(array: Any, map_axes: tuple[int, ...], signal_axes: tuple[int, ...], made: Sequence[Noted]) -> Described:
    notes = tuple(f"{axis.name}: {note}" for axis, note in made if note)
    return Described(array, map_axes, signal_axes, tuple(axis for axis, _ in made), notes)


def _last(n: int, n_signal_axes: int | None) -> list[int]:
    return list(range(n - (n_signal_axes or 1), n))


def _plain(dataset: Any) -> Any:
    """The Dask array that a sidpy.Dataset is, without what it does at every slice."""
    base = next((kind for kind in type(dataset).__mro__ if kind.__module__.startswith("dask.")), None)
    return dataset if base is None else base(dataset.dask, dataset.name, dataset.chunks, dtype=dataset.dtype)


def _text(units: Any) -> str:
    """Units or a name as text; "" for what stands for none."""
    text = "" if units is None else str(units)
    return "" if text.startswith("<") or text == "generic" else text


def _even(name: str, points: Any, units: str) -> Noted:
    """The axis of these points, if they are evenly spaced, and a note if they are not."""
    values = np.asarray(points)
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        return Axis(name), "its points are no numbers; not used"
    if len(values) < 2:
        return Axis(name, float(values[0]) if len(values) else 0.0, units=units), None
    steps = np.diff(values.astype(np.float64))
    step = float(steps.mean())
    if not np.all(np.abs(steps - step) <= EVEN * abs(step)):
        return Axis(name), "its points are not evenly spaced; channels are numbered"
    return _scaled(name, float(values[0]), step, units)


def _scaled(name: str, offset: float, scale: float, units: str) -> Noted:
    """The axis as it is given: the same numbers come back."""
    if not (math.isfinite(offset) and math.isfinite(scale) and scale):
        return Axis(name), f"a scale of {scale:g} is no calibration; not used"
    return Axis(name, float(offset), float(scale), units), None
