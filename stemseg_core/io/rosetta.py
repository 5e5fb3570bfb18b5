"""Formats of microscopes, read by RosettaSciIO: lazily where that works, else as a whole within the memory."""

from __future__ import annotations

import contextlib
import functools
import importlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stemseg_core.io.arrays import NUMPY_SUFFIXES
from stemseg_core.io.axes import Described, calibrated_axis
from stemseg_core.io.kinds import Layout, layout
from stemseg_core.io.pictures import PICTURE_SUFFIXES
from stemseg_core.io.posed import posed
from stemseg_core.io.reading import missing_package, reading
from stemseg_core.io.signals import ImageReadError, Signal, describe_signal, unreadable
from stemseg_core.io.tiff import TIFF_SUFFIXES
from stemseg_core.system.memory import require_memory

#: A specification of RosettaSciIO: name, suffixes, module.
Specification = dict[str, Any]


def _check_blockfile(path: Path) -> None:
    """Refuse a header that promises more patterns than the file holds: laying them out would never end."""
    with path.open("rb") as stream:
        identity, start, side, nx, ny = struct.unpack("<6s6xI4xH2xHH", stream.read(28))
    if identity != b"IMGBLO" or start + nx * ny * side**2 > path.stat().st_size:
        raise ImageReadError(f"{path.name}: expected a Blockfile, but its header does not fit the file")


def _is_stored(path: Path) -> bool:
    """Whether the array of a PantaRhei file lies in it uncompressed."""
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo("data.npy").compress_type == zipfile.ZIP_STORED


@dataclass(frozen=True)
class Plugin:
    """What a reader of RosettaSciIO can do, and how it is asked.

    Attributes
    ----------
    lazy : bool or callable
        Whether it has a lazy mode that gives the values of the file; a function of the path where files differ.
    options : dict
        Keywords of its `file_reader`.
    check : callable or None
        Refuses files that it would not survive.
    growth : float
        Memory that reading as a whole takes, in sizes of the file. Twice as much: larger files are refused.
    """

    lazy: bool | Callable[[Path], bool] = True
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Path], None] | None = None
    growth: float = 8.0


#: By RosettaSciIO's name. What is not here is read lazily, and as a whole if that fails.
PLUGINS = {
    **dict.fromkeys(("DENS", "Impulse", "MSA", "Protochips"), Plugin(lazy=False)),  # logs and single spectra
    **dict.fromkeys(("JobinYvon", "Quadstar", "Renishaw", "TriVista", "Hamamatsu"), Plugin(lazy=False)),
    **dict.fromkeys(("Arina", "Delmic", "DigitalSurf", "Phenom", "netCDF"), Plugin(lazy=False)),
    "Blockfile": Plugin(check=_check_blockfile),
    "PantaRhei": Plugin(lazy=_is_stored),  # the bytes of a compressed array come as its values
    "Topspin": Plugin(lazy=False, options={"show_progressbar": False}),
    "Tofwerk": Plugin(options={"show_progressbar": False}),
}


def specifications() -> list[Specification]:
    """Those of all readers of RosettaSciIO."""
    import rsciio  # sets the level of its logger, and so must come before all are silenced
    from rsciio import IO_PLUGINS

    assert rsciio
    return list(IO_PLUGINS)


def microscope_signals(path: Path) -> tuple[str, tuple[Signal, ...]]:
    """Signals of a file that RosettaSciIO reads; where several of its readers claim the suffix, the first that can."""
    with reading(path, "a file of a microscope format"):
        known = specifications()
    suffix = path.suffix.lower().removeprefix(".")
    readers = [s for s in known if suffix in map(str.lower, s["file_extensions"])]
    if not readers:
        own = ", ".join((*NUMPY_SUFFIXES, *PICTURE_SUFFIXES, *TIFF_SUFFIXES))
        raise ImageReadError(
            f"{path.name}: expected {own} or a microscope format (.dm3, .dm4, .emd, .ser, .hspy, .mrc, ...), "
            f"got {path.suffix or 'a name without a suffix'!r}"
        )
    readers.sort(key=lambda s: s["file_extensions"][s["default_extension"]].lower() != suffix)
    refusals: list[ImageReadError] = []
    expected = f"a {' or '.join(s['name'] for s in readers)} file"
    for specification in readers:
        try:
            with reading(path, expected):
                return specification["name"], tuple(plugin_signals(specification, path))
        except ImageReadError as refusal:
            refusals.append(refusal)
    # A reader that is not installed matters only if none of those that are could say what is wrong.
    raise next((r for r in refusals if not missing_package(r.__cause__)), refusals[0])


def plugin_signals(specification: Specification, path: Path, **options: Any) -> list[Signal]:
    """Signals that one reader of RosettaSciIO finds; `options` are for it."""
    plugin = PLUGINS.get(specification["name"], Plugin())
    read = functools.partial(_read, specification["api"], path, **plugin.options, **options)
    if plugin.check is not None:
        plugin.check(path)
    lazy = plugin.lazy(path) if callable(plugin.lazy) else plugin.lazy
    found: list[dict[str, Any]] = []
    if lazy:
        try:
            found = read(lazy=True)
        except ImportError:
            raise
        except Exception:  # no lazy mode, or none for what is in this file
            lazy = False
    if not lazy:
        size = path.stat().st_size
        require_memory(size * plugin.growth, None, f"{path.name}: reading all of it", "use a smaller file")
        found = read(lazy=False)
    if not found:
        raise ImageReadError(f"{path.name}: expected a {specification['name']} file with images, found none in it")
    try:
        return [_described(path, i, one, lambda: read(lazy=True)) for i, one in enumerate(found)]
    finally:
        _close(found)


def _read(module: str, path: Path, lazy: bool, **options: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = importlib.import_module(module).file_reader(str(path), lazy=lazy, **options)
    return [one for one in found if "data" in one]


def _described(path: Path, index: int, found: dict[str, Any], again: Callable[[], list[dict[str, Any]]]) -> Signal:
    """Signal of a dictionary of RosettaSciIO; one that cannot be described is listed as such."""
    about = found.get("metadata") or {}
    title = str((about.get("General") or {}).get("title") or path.stem)
    try:
        signal = posed(found)
        describe = functools.partial(describe_signal, index, title, signal.data.shape, signal.data.dtype)
        if signal.ragged or signal.data.ndim != len(signal.axes):
            return describe(layout=Layout("other", None), opened=no_array)
        axes = [_axis(axis) for axis in signal.axes]
        navigation = [bool(axis.get("navigate")) for axis in signal.axes]
        signal_type = str((about.get("Signal") or {}).get("signal_type") or "")
        kind = layout(signal.data.shape, [axis for axis, _ in axes], navigation, signal_type)
        opened = functools.partial(_opened, again, index) if _handles(signal.data) else _kept(signal.data)
        return describe(layout=kind, opened=opened, axes=axes)
    except Exception as error:  # one bad data set does not sink the others
        return unreadable(index, title, error)


def _axis(axis: Mapping[str, Any]) -> Described:
    name = axis.get("name")
    name = name if isinstance(name, str) and name != "<undefined>" else ""
    return calibrated_axis(name, axis.get("scale"), axis.get("units"), axis.get("offset"))


def no_array() -> contextlib.AbstractContextManager[Any]:
    """`Signal.open` of what is no array."""
    raise ImageReadError("this data set is no array")


def _kept(data: Any) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """Opens an array that needs no open file: in memory, or a lazy one that opens its file for each piece."""
    return functools.partial(contextlib.nullcontext, data)


@contextlib.contextmanager
def _opened(again: Callable[[], list[dict[str, Any]]], index: int) -> Iterator[Any]:
    """A lazy array of which the file was closed: read anew."""
    found = again()
    try:
        yield posed(found[index]).data
    finally:
        _close(found)


def _close(found: list[dict[str, Any]]) -> None:
    """Close the files that lazy arrays hold open."""
    for one in found:
        for handle in _handles(one["data"]):
            with contextlib.suppress(Exception):  # it was closed with another of its file
                handle.file.close()


def _handles(data: Any) -> list[Any]:
    """Data sets of open HDF5 files in the graph of a Dask array."""
    graph = data.__dask_graph__() if hasattr(data, "__dask_graph__") else {}
    values = [getattr(task, "value", task) for task in dict(graph).values()]
    return [value for value in values if hasattr(value, "file") and hasattr(value, "chunks")]
