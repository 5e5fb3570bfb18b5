"""EMD of the National Center for Electron Microscopy: HDF5 groups of one array and a vector for each of its axes.

An image is shown as ncempy and the array itself have it, rows down: the last two axes are (y, x), unless the axes are
called otherwise, or the file is of HyperSpy or RosettaSciIO, which write their arrays transposed.

Source: https://emdatasets.com/format, versions 0.2 to 0.6; ncempy's ``emd.fileEMD``.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemseg_core.calibration.axes import Axis, Described
from stemseg_core.io.containers import Container, hdf5_container, text_of
from stemseg_core.io.kinds import IMAGES, Layout, layout
from stemseg_core.io.points import axis_of_points
from stemseg_core.io.signals import Signal, describe_signal, unreadable

#: Names of the array of a group, by ncempy, Prismatic and Direct Electron; others count where none of these is there.
ARRAYS = ("data", "datacube", "realslice", "diffractionslice", "counted_datacube")
#: Names of groups that say nothing.
UNNAMED = ("", "data", "__unnamed__")


def is_ncem(file: Any) -> bool:
    """Whether an open HDF5 file holds data sets as EMD has them."""
    return bool(_groups(file))


def ncem_signals(path: Path) -> list[Signal]:
    """Signals of an EMD file; groups of one name and running numbers are one stack."""
    container, signals = hdf5_container(path), list[Signal]()
    with container() as file:
        series: dict[tuple[str, Any], list[str]] = {}
        for name in _groups(file):
            array = _array(file[name])
            numbered = re.fullmatch(r"(.*?)_?\d{4}", name)
            key = (numbered[1], (array.shape, array.dtype)) if numbered else (name, None)
            series.setdefault(key, []).append(array.name)
        for (name, _), arrays in series.items():
            try:
                last = name.rpartition("/")[2].removesuffix("_depth")
                title = path.stem if last in UNNAMED else last
                signals.append(_signal(len(signals), title, container, file, sorted(arrays)))
            except Exception as error:  # one bad data set does not sink the others
                signals.append(unreadable(len(signals), name, error))
    return signals


def _groups(file: Any) -> list[str]:
    """Names of the groups that hold an array, in the order of the file."""
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if hasattr(item, "keys") and item.attrs.get("emd_group_type") in (1, "1", b"1") and _array(item) is not None:
            found.append(name)

    file.visititems(look)
    return found


def _array(group: Any) -> Any:
    """The array of a group that is no vector of an axis; None if there is none."""
    arrays = {name: item for name, item in group.items() if hasattr(item, "shape") and not re.match(r"dim\d+$", name)}
    named = [arrays[name] for name in ARRAYS if name in arrays]
    return next(iter(named or [array for array in arrays.values() if array.ndim > 0]), None)


def _signal(index: int, title: str, container: Container, file: Any, paths: Sequence[str]) -> Signal:
    array = file[paths[0]]
    vectors = [_vector(array.parent, i) for i in range(array.ndim)]
    axes = [_axis(vector) for vector in vectors]
    shape = tuple(array.shape)
    kind = _layout(shape, [axis for axis, _ in axes], file, vectors)
    if len(paths) > 1:  # one array after the other
        shape, axes = (len(paths), *shape), [(Axis("number"), None), *axes]
        image = kind.image_axes and (kind.image_axes[0] + 1, kind.image_axes[1] + 1)
        kind = Layout("stack" if kind.kind == "image" else kind.kind, image)
    opened = functools.partial(_opened, container, paths)
    signal = describe_signal(index, title, shape, array.dtype, layout=kind, opened=opened, axes=axes)
    if kind.image_axes and kind.image_axes[0] > kind.image_axes[1] and signal.kind in IMAGES:
        signal = replace(signal, notes=(*signal.notes, "stored as (x, y): turned to (y, x)"))
    return signal


def _layout(shape: tuple[int, ...], axes: list[Axis], file: Any, vectors: list[Any]) -> Layout:
    found = layout(shape, axes)
    if found.image_axes is None:
        return found
    names = [axes[i].name.lower() for i in found.image_axes]
    if names == ["x", "y"]:
        return Layout(found.kind, found.image_axes[::-1])
    if names == ["y", "x"] or not _transposed(shape, file, vectors):
        return found
    last = len(shape) - 1
    kind, image = layout(shape[::-1], axes[::-1])
    return Layout(kind, image and (last - image[0], last - image[1]))


def _transposed(shape: tuple[int, ...], file: Any, vectors: list[Any]) -> bool:
    """Whether RosettaSciIO or HyperSpy wrote the file: versions as text, and no more than two points on an axis."""
    short = all(vector is not None and vector.shape == (2,) for vector in vectors)
    return short and max(shape) > 2 and isinstance(file.attrs.get("version_major"), str | bytes)


def _vector(group: Any, i: int) -> Any:
    """The vector of axis `i`: they are counted from 1, in newer files from 0."""
    return group.get(f"dim{i}" if "dim0" in group else f"dim{i + 1}")


def _axis(vector: Any) -> Described:
    if vector is None:
        return Axis(""), None
    return axis_of_points(text_of(vector.attrs.get("name")), vector, text_of(vector.attrs.get("units")))


@contextlib.contextmanager
def _opened(container: Container, paths: Sequence[str]) -> Iterator[Any]:
    with container() as file:
        yield file[paths[0]] if len(paths) == 1 else _Series([file[path] for path in paths])


class _Series:
    """Arrays of one shape as one, along a first axis."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = arrays
        self.shape, self.dtype = (len(arrays), *arrays[0].shape), arrays[0].dtype

    def __getitem__(self, selection: Any) -> Any:
        first, *rest = selection if isinstance(selection, tuple) else (selection,)
        if isinstance(first, slice):
            return np.stack([array[tuple(rest)] for array in self.arrays[first]])
        return self.arrays[first][tuple(rest)]
