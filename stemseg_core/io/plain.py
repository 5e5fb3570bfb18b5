"""Arrays of HDF5 and zarr by their paths, whatever wrote them, with the axes that are known by a convention.

Conventions: HDF5's dimension scales (NSID of sidpy, netCDF), the vectors of EMD, NeXus's ``axes`` of a group, the names
of dimensions in zarr (xarray), the multiscales of OME-Zarr.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from stemseg_core.calibration.axes import Axis, Described, calibrated_axis
from stemseg_core.io.containers import Container, array_at, text_of
from stemseg_core.io.kinds import IMAGES, Layout, layout
from stemseg_core.io.points import axis_of_points
from stemseg_core.io.signals import ImageReadError, Signal, array_signal, describe_signal, unreadable

#: Most arrays of a file that are listed. Twice as many: longer lists.
MOST_LISTED = 200
#: Most points of an axis that are read. Twice as many: more memory, and time, before an image is.
MOST_POINTS = 1_000_000
#: NSID's types of dimensions along which a datum lies, where there are some.
DATUM = (("SPECTRAL",), ("RECIPROCAL",))


def plain_signals(container: Container, file: str, path: str | None = None) -> list[Signal]:
    """Signals of all arrays of a container, or of the one at `path` or those under it, each titled by its path.

    Parameters
    ----------
    container : callable
    file : str
        Its name, for messages.
    path : str, optional

    Raises
    ------
    ImageReadError
        If there is no array at `path`; the message says which there are.
    """
    signals: list[Signal] = []
    with container() as root:
        arrays = arrays_of(root)
        wanted = (path or "").strip("/")
        if wanted:
            under = {name: array for name, array in arrays.items() if f"{name}/".startswith(f"{wanted}/")}
            if not under and wanted in root and len(getattr(root[wanted], "shape", "")):  # by a link
                under = {wanted: root[wanted]}
            if not under:
                raise ImageReadError(f"{file}: expected an array at /{wanted}, there are {listed(arrays)}")
            arrays = under
        scales = {name for name, array in arrays.items() if len(arrays) > 1 and _is_axis(array, name, arrays)}
        for name, array in list(arrays.items())[:MOST_LISTED]:
            if name in scales:
                continue
            try:
                signals.append(_signal(len(signals), name, array, root, container))
            except Exception as error:  # one bad data set does not sink the others
                signals.append(unreadable(len(signals), name, error))
    return signals


def is_nsid(file: Any) -> bool:
    """Whether an open HDF5 file is in the N-dimensional Spectroscopic and Imaging Data format of sidpy."""
    return any("pyNSID_version" in array.attrs for array in arrays_of(file).values())


def arrays_of(root: Any) -> dict[str, Any]:
    """Arrays of a group by their paths, in the order of an HDF5 file, by name in zarr; single values are none."""
    found: dict[str, Any] = {}

    def look(name: str, item: Any) -> None:
        if hasattr(item, "shape") and item.shape:
            found[name.strip("/")] = item

    if hasattr(root, "visititems"):
        root.visititems(look)
    else:  # zarr 3
        for name, item in sorted(root.members(max_depth=None), key=lambda member: str(member[0])):
            look(name, item)
    return found


def listed(arrays: dict[str, Any]) -> str:
    """Arrays in words, the largest first."""
    words = [
        f"/{name} ({' x '.join(map(str, array.shape))} {array.dtype})"
        for name, array in sorted(arrays.items(), key=lambda one: -one[1].size)
    ]
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "") or "none"


def _is_axis(array: Any, name: str, arrays: dict[str, Any]) -> bool:
    """Whether an array only says where the points of another lie."""
    if len(array.shape) != 1:
        return False
    if text_of(array.attrs.get("CLASS")) == "DIMENSION_SCALE":
        return True
    folder, _, last = name.rpartition("/")
    beside = [other for path, other in arrays.items() if path.rpartition("/")[0] == folder and len(other.shape) > 1]
    return any(last in _dimension_names(other) for other in beside)


def _signal(index: int, name: str, array: Any, root: Any, container: Container) -> Signal:
    axes = _axes(array, name, root)
    title = text_of(array.attrs.get("main_data_name")) or name
    opened = array_at(container, name)
    if not any(axis.name or axis.kind != "none" for axis, _ in axes):
        return array_signal(index, title, array.shape, array.dtype, opened)
    described = [axis for axis, _ in axes]
    kind = layout(array.shape, described, _navigation(array))
    turned = kind.image_axes and [described[i].name.lower() for i in kind.image_axes] == ["x", "y"]
    if turned and kind.image_axes:
        kind = Layout(kind.kind, (kind.image_axes[1], kind.image_axes[0]))
    signal = describe_signal(index, title, array.shape, array.dtype, layout=kind, opened=opened, axes=axes)
    if signal.kind in IMAGES and turned:
        signal = replace(signal, notes=(*signal.notes, "stored as (x, y): turned to (y, x)"))
    return signal


def _axes(array: Any, name: str, root: Any) -> list[Described]:
    """Axes of an array by the first convention that it follows; without names and units if by none."""
    with contextlib.suppress(Exception):  # what cannot be read is no calibration
        for convention in (_scales, _vectors, _nexus, _dimensions, _multiscales):
            found = convention(array, name, root)
            if len(found) == len(array.shape):
                return found
    return [(Axis(""), None) for _ in array.shape]


def _scales(array: Any, name: str, root: Any) -> list[Described]:
    """HDF5's dimension scales."""
    dimensions = list(getattr(array, "dims", ()))
    if not any(len(dimension) for dimension in dimensions):
        return []
    return [
        _points(dimension[0], dimension.label) if len(dimension) else (Axis(text_of(dimension.label)), None)
        for dimension in dimensions
    ]


def _vectors(array: Any, name: str, root: Any) -> list[Described]:
    """EMD: vectors called dim1, dim2, ... beside the array, in newer files from dim0."""
    folder = name.rpartition("/")[0]
    group, n = root[folder] if folder else root, len(array.shape)
    first = 0 if "dim0" in group else 1
    names = [f"dim{i}" for i in range(first, first + n)]
    return [_points(group[vector], None) for vector in names] if all(vector in group for vector in names) else []


def _nexus(array: Any, name: str, root: Any) -> list[Described]:
    """NeXus: the group names its signal, and the vectors of its axes."""
    folder, _, last = name.rpartition("/")
    group = root[folder] if folder else root
    if text_of(group.attrs.get("signal")) != last or "axes" not in group.attrs:
        return []
    axes = group.attrs["axes"]
    names = [text_of(axis) for axis in ([axes] if isinstance(axes, str | bytes) else list(axes))]
    return [_points(group[axis], axis) if axis in group else (Axis(axis.strip(".")), None) for axis in names]


def _dimensions(array: Any, name: str, root: Any) -> list[Described]:
    """Xarray in zarr: named dimensions, whose coordinates are arrays of these names beside it."""
    folder = name.rpartition("/")[0]
    group = root[folder] if folder else root
    names = _dimension_names(array)
    return [_points(group[axis], axis) if axis in group else (Axis(axis), None) for axis in names]


def _dimension_names(array: Any) -> list[str]:
    names = array.attrs.get("_ARRAY_DIMENSIONS") or getattr(getattr(array, "metadata", None), "dimension_names", None)
    return [text_of(name) for name in names or ()]


def _multiscales(array: Any, name: str, root: Any) -> list[Described]:
    """OME-Zarr: axes with units, and a scale of each resolution."""
    folder, _, last = name.rpartition("/")
    attributes = dict((root[folder] if folder else root).attrs)
    for image in attributes.get("ome", attributes).get("multiscales", ()):
        for resolution in image["datasets"]:
            if resolution["path"] != last:
                continue
            steps = {step["type"]: step for step in resolution.get("coordinateTransformations", ())}
            scale = steps.get("scale", {}).get("scale", [None] * len(array.shape))
            start = steps.get("translation", {}).get("translation", [None] * len(array.shape))
            return [
                calibrated_axis(axis["name"], size if axis.get("unit") else None, axis.get("unit"), offset)
                for axis, size, offset in zip(image["axes"], scale, start, strict=True)
            ]
    return []


def _points(vector: Any, label: object) -> Described:
    """An axis by an array of its coordinates."""
    name = text_of(vector.attrs.get("name")) or text_of(label) or str(vector.name).rpartition("/")[2]
    if len(vector.shape) != 1 or vector.shape[0] > MOST_POINTS:
        return Axis(name), None
    units = text_of(vector.attrs.get("units")) or text_of(vector.attrs.get("unit"))
    return axis_of_points(name, vector[:], units)


def _navigation(array: Any) -> Sequence[bool] | None:
    """NSID: which axes lead from one datum to the next, by the types of its dimensions; None if they are not there."""
    types = [
        text_of(dimension[0].attrs.get("dimension_type")) if len(dimension) else ""
        for dimension in getattr(array, "dims", ())
    ]
    if not any(types):
        return None
    datum = next((kinds for kinds in DATUM if set(kinds) & set(types)), ("SPATIAL",))
    return [kind not in datum for kind in types]
