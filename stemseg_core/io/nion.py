"""Nion Swift: .ndata and .ndata1 (zip of an array and JSON), .h5 of its libraries and .nhdf (HDF5 with JSON).

All have the same description: a calibration for each axis, whose offset is in its unit, and how many axes lead from one
datum, an image or a spectrum, to the next.

Source: nionswift, ``nion.swift.model``: NDataHandler, HDF5Handler, ImportExportManager, Migration.
"""

from __future__ import annotations

import contextlib
import functools
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemseg_core.calibration.axes import RECIPROCAL, Axis, Described, calibrated_axis
from stemseg_core.io.arrays import zipped_array
from stemseg_core.io.containers import Container, array_at, text_of
from stemseg_core.io.kinds import layout
from stemseg_core.io.signals import ImageReadError, Open, Signal, describe_signal, unreadable

NION_SUFFIXES = (".ndata", ".ndata1")
#: Names of the list of calibrations, the newest first.
CALIBRATIONS = ("dimensional_calibrations", "spatial_calibrations", "intrinsic_spatial_calibrations")
#: Bytes of JSON that are read. Twice as much: larger descriptions are; an ordinary one has a few kB.
MOST_JSON = 100_000_000


def ndata_signals(path: Path) -> list[Signal]:
    """The signal of a .ndata or .ndata1 file."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "data.npy" not in names:
            raise ImageReadError(f"{path.name}: expected data.npy in it, found {', '.join(names[:5]) or 'nothing'}")
        about: dict[str, Any] = {}
        if "metadata.json" in names and archive.getinfo("metadata.json").file_size < MOST_JSON:
            about = _properties(archive.read("metadata.json"))
        shape, dtype, opened = zipped_array(path, archive, archive.getinfo("data.npy"))
    return [_signal(0, path.stem, about, shape, dtype, opened=opened)]


def is_nion(file: Any) -> bool:
    """Whether an open HDF5 file is one of Nion Swift."""
    data = file.get("data")
    if data is None:
        return False
    return "properties" in data.attrs or (
        hasattr(data, "keys") and any("properties" in data[name].attrs for name in list(data)[:1])
    )


def nion_signals(container: Container, stem: str) -> list[Signal]:
    """Signals of an HDF5 file of Nion Swift: one data set, or several in a group."""
    signals: list[Signal] = []
    with container() as file:
        data = file["data"]
        paths = [f"data/{name}" for name in sorted(data, key=_number)] if hasattr(data, "keys") else ["data"]
        for index, path in enumerate(paths):
            try:
                array, about = file[path], _properties(file[path].attrs.get("properties", "{}"))
                signals.append(_signal(index, stem, about, array.shape, array.dtype, opened=array_at(container, path)))
            except Exception as error:  # one bad data set does not sink the others
                signals.append(unreadable(index, path, error))
    return signals


def _number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdecimal() else 0, name)


def _properties(text: Any) -> dict[str, Any]:
    """The description of a data item; empty if it cannot be read."""
    try:
        found = json.loads(text if isinstance(text, bytes) else text_of(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _signal(
    index: int, stem: str, about: Mapping[str, Any], shape: Sequence[int], dtype: Any, *, opened: Open
) -> Signal:
    data = _data_source(about)
    colour = dtype == "uint8" and len(shape) > 2 and shape[-1] in (3, 4) and _n_axes(data) in (None, len(shape) - 1)
    title = str(about.get("title") or data.get("title") or stem)
    if colour:
        shape = shape[:-1]
    navigation = _navigation(data, len(shape))
    axes = _axes(data, shape, navigation)
    kind = layout(shape, [axis for axis, _ in axes], navigation)
    if colour:
        signal = describe_signal(
            index, title, shape, dtype, layout=kind, opened=functools.partial(_red_first, opened), axes=axes
        )
        return replace(signal, kind="colour") if signal.kind == "image" else signal
    return describe_signal(index, title, shape, dtype, layout=kind, opened=opened, axes=axes)


@contextlib.contextmanager
def _red_first(opened: Open) -> Iterator[Any]:
    """Colours as red, green, blue: Nion Swift has blue first."""
    with opened() as array:
        yield np.asarray(array)[..., 2::-1]


def _data_source(about: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a description that is about the array: older libraries have it in a list of sources."""
    sources = about.get("data_sources")
    nested = [about.get("data_source"), *(sources if isinstance(sources, list) else ())]
    candidates = [about, *(source for source in nested if isinstance(source, dict))]
    return next((one for one in candidates if any(name in one for name in CALIBRATIONS)), about)


def _n_axes(data: Mapping[str, Any]) -> int | None:
    """How many axes have a calibration; None if that is not said."""
    found = next((data[name] for name in CALIBRATIONS if isinstance(data.get(name), list)), None)
    return None if found is None else len(found)


def _navigation(data: Mapping[str, Any], ndim: int) -> list[bool]:
    """Of each axis, whether it leads from one datum to the next: a sequence, then a collection, then the datum."""
    sequence = bool(data.get("is_sequence"))
    collection, datum = data.get("collection_dimension_count"), data.get("datum_dimension_count")
    if not isinstance(collection, int):
        collection = 2 if ndim - sequence in (3, 4) else 0
    if not isinstance(datum, int):
        datum = ndim - sequence - collection
    if sequence + collection + datum != ndim or min(collection, datum) < 0:
        return [i < ndim - 2 for i in range(ndim)]
    return [i < ndim - datum for i in range(ndim)]


def _axes(data: Mapping[str, Any], shape: Sequence[int], navigation: Sequence[bool]) -> list[Described]:
    calibrations: list[Any] = next((data[name] for name in CALIBRATIONS if isinstance(data.get(name), list)), [])
    if len(calibrations) != len(shape):
        return [(Axis(""), None) for _ in shape]
    found = []
    for calibration in calibrations:
        about = calibration if isinstance(calibration, dict) else {}
        offset = about.get("offset", about.get("origin"))
        found.append(calibrated_axis("", about.get("scale"), about.get("units"), offset))
    return [(_named(i, axis, navigation), note) for i, (axis, note) in enumerate(found)]


def _named(i: int, axis: Axis, navigation: Sequence[bool]) -> Axis:
    """An axis with a name, which the files do not have: y and x, ky and kx, energy, time, by place and unit."""
    if axis.kind in ("energy", "time"):
        name = axis.kind
    else:
        alike = [j for j, other in enumerate(navigation) if other == navigation[i]]
        name = "yx"[alike[-2:].index(i)] if len(alike) > 1 and i in alike[-2:] else ""
        name = f"k{name}" if name and axis.kind in RECIPROCAL else name
    return Axis(name, axis.offset, axis.scale, axis.units)
