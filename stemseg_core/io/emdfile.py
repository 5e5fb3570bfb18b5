"""EMD 1.0 of emdfile, in which py4DSTEM saves: a tree of groups, one for each array, with a vector for each axis.

Other nodes of the tree (lists of points, metadata) are listed by what they are.

Source: emdfile, ``emdfile.classes.array``.
"""

from __future__ import annotations

from typing import Any

from stemseg_core.calibration.axes import Axis, Described
from stemseg_core.io.containers import Container, array_at, text_of
from stemseg_core.io.kinds import Layout, layout
from stemseg_core.io.points import axis_of_points
from stemseg_core.io.signals import Signal, describe_signal, unreadable

#: Name of the vector that holds the names of the arrays of a stack.
LABELS = "_labels_"


def is_emdfile(file: Any) -> bool:
    """Whether an open HDF5 file is an EMD 1.0."""
    return text_of(file.attrs.get("emd_group_type")) == "file"


def emdfile_signals(container: Container) -> list[Signal]:
    """Signals of an EMD 1.0, one for each of its arrays."""
    signals: list[Signal] = []
    with container() as file:
        paths: list[str] = []

        def look(name: str, item: Any) -> None:
            if "emd_group_type" in item.attrs and "data" in item and hasattr(item["data"], "shape"):
                paths.append(name)

        file.visititems(look)
        for index, path in enumerate(paths):
            try:
                signals.append(_signal(index, path, file[path], container))
            except Exception as error:  # one bad data set does not sink the others
                signals.append(unreadable(index, path, error))
    return signals


def _signal(index: int, path: str, group: Any, container: Container) -> Signal:
    data = group["data"]
    axes = [_axis(group.get(f"dim{i}")) for i in range(data.ndim)]
    if axes and axes[-1][0].name == LABELS:  # a stack: the vectors begin with that of its second axis
        axes = [(Axis("number"), None), *axes[:-1]]
    described = [axis for axis, _ in axes]
    kind = Layout("stack", (1, 2)) if described and described[0].name == "number" else layout(data.shape, described)
    opened = array_at(container, f"{path}/data")
    return describe_signal(
        index, path.rsplit("/", maxsplit=1)[-1], data.shape, data.dtype, layout=kind, opened=opened, axes=axes
    )


def _axis(vector: Any) -> Described:
    if vector is None:
        return Axis(""), None
    return axis_of_points(text_of(vector.attrs.get("name")), vector[:], text_of(vector.attrs.get("units")))
