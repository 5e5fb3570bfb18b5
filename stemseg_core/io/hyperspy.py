"""HyperSpy's own formats, .hspy (HDF5) and .zspy (zarr): one layout in two containers.

Read here rather than by RosettaSciIO: nothing but the arrays and their axes is needed, so that metadata which cannot be
read does not matter, no file stays open, and any version of zarr will do.
"""

from __future__ import annotations

from typing import Any

from stemseg_core.calibration.axes import Described, calibrated_axis
from stemseg_core.io.containers import Container, array_at, text_of
from stemseg_core.io.kinds import layout
from stemseg_core.io.points import axis_of_points
from stemseg_core.io.signals import Signal, describe_signal, unreadable

#: Names of data sets without one.
UNNAMED = ("", "__unnamed__")


def is_hyperspy(container: Any) -> bool:
    """Whether a group of HDF5 or zarr is laid out as HyperSpy does."""
    return "Experiments" in container


def hyperspy_signals(container: Container, stem: str) -> list[Signal]:
    """Signals of HyperSpy's layout; one that cannot be described is listed as such.

    Parameters
    ----------
    container : callable
        Opens a group of h5py or zarr.
    stem : str
        Title of what has none.
    """
    signals: list[Signal] = []
    with container() as opened:
        experiments = opened["Experiments"]
        for name in sorted(experiments):
            try:
                if "data" not in experiments[name]:
                    continue
                signals.append(_signal(len(signals), container, f"Experiments/{name}", experiments[name], stem))
            except Exception as error:  # one bad data set does not sink the others
                signals.append(unreadable(len(signals), name, error))
    return signals


def _signal(index: int, container: Container, path: str, group: Any, stem: str) -> Signal:
    data = group["data"]
    attributes = [_axis_attributes(group, i, data.ndim) for i in range(data.ndim)]
    axes = [_axis(group, i, about) for i, about in enumerate(attributes)]
    flags = [about.get("navigate") for about in attributes]
    navigation = None if None in flags else [bool(flag) for flag in flags]
    general, signal_type = _metadata(group, "General", "title"), _metadata(group, "Signal", "signal_type")
    title = next(t for t in (general, path.rpartition("/")[2], stem, "data") if t not in UNNAMED)
    kind = layout(data.shape, [axis for axis, _ in axes], navigation, signal_type)
    opened = array_at(container, f"{path}/data")
    return describe_signal(index, title, data.shape, data.dtype, layout=kind, opened=opened, axes=axes)


def _axis_attributes(group: Any, i: int, ndim: int) -> dict[str, Any]:
    for name in (f"axis-{i}", f"_list_{ndim}_axes/{i}"):  # the latter: version 1.0
        if name in group:
            return dict(group[name].attrs)
    return {}


def _axis(group: Any, i: int, attributes: dict[str, Any]) -> Described:
    """An axis; of one whose points are listed, and may be uneven, the mean distance."""
    name, units = text_of(attributes.get("name")), text_of(attributes.get("units"))
    if attributes.get("scale") is None and f"axis-{i}/axis" in group:
        return axis_of_points(name, group[f"axis-{i}/axis"], units)
    return calibrated_axis(name, attributes.get("scale"), units, attributes.get("offset"))


def _metadata(group: Any, part: str, key: str) -> str:
    try:
        return text_of(group[f"metadata/{part}"].attrs.get(key))
    except Exception:  # what cannot be read is not there
        return ""
