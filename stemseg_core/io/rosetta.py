"""Formats of microscopes, read by RosettaSciIO: lazily where that works, else as a whole within the memory."""

from __future__ import annotations

import contextlib
import functools
import glob
import importlib
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from stemseg_core.calibration.axes import Described, calibrated_axis
from stemseg_core.io.arrays import NUMPY_SUFFIXES
from stemseg_core.io.kinds import Layout, layout
from stemseg_core.io.mrc import MRC_SUFFIXES, check_mrc, is_mrc, mrc_bytes
from stemseg_core.io.pictures import PICTURE_SUFFIXES
from stemseg_core.io.posed import posed
from stemseg_core.io.reading import missing_package, reading
from stemseg_core.io.signals import ImageReadError, Signal, describe_signal, unreadable
from stemseg_core.io.tiff import TIFF_SUFFIXES
from stemseg_core.system.memory import require_memory

#: In nm.
METRE = 1e9
#: A specification of RosettaSciIO: name, suffixes, module.
Specification = dict[str, Any]
#: A data set: "data", "axes", "metadata", ...
Dictionary = dict[str, Any]
#: A file, and keywords for its reader.
Piece = tuple[Path, dict[str, Any]]


def _check_blockfile(path: Path) -> None:
    """Refuse a header that promises more patterns than the file holds: laying them out would never end."""
    with path.open("rb") as stream:
        identity, start, side, nx, ny = struct.unpack("<6s6xI4xH2xHH", stream.read(28))
    if identity != b"IMGBLO" or start + nx * ny * side**2 > path.stat().st_size:
        raise ImageReadError(f"{path.name}: expected a Blockfile, but its header does not fit the file")


def _is_stored(path: Path) -> bool:
    """Whether the array of a PantaRhei file lies in it as it is in memory: not compressed, and in C order."""
    with zipfile.ZipFile(path) as archive, archive.open("data.npy") as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        _, in_fortran_order, _ = header(stream)
        return archive.getinfo("data.npy").compress_type == zipfile.ZIP_STORED and not in_fortran_order


def _forwards(_: Path, found: list[Dictionary]) -> None:
    """Axes whose coordinates run against the rows: pixels are as large as on others."""
    for axis in (axis for one in found for axis in one["axes"]):
        axis["scale"] = abs(axis["scale"]) if isinstance(axis.get("scale"), int | float) else axis.get("scale")


def _bruker_axes(_: Path, found: list[Dictionary]) -> None:
    """A cube has the height of its pixels for their width; an image of its size has both."""
    images = {one["data"].shape: one["axes"] for one in reversed(found) if one["data"].ndim == 2}
    for cube in (one for one in found if one["data"].ndim == 3):
        for axis, side in zip(cube["axes"], images.get(cube["data"].shape[:2], ()), strict=False):
            axis |= {"scale": side["scale"], "units": side["units"]}


def _tia_axes(path: Path, found: list[Dictionary]) -> None:
    """A pattern in a .ser without its .emi: 1/m are taken for m, which pixels of kilometres tell."""
    _forwards(path, found)
    for axis in (axis for one in found for axis in one["axes"]):
        if axis.get("units") == "nm" and axis["scale"] > METRE:
            axis["units"], axis["scale"] = "1/nm", axis["scale"] / METRE**2
            axis["offset"] = (axis.get("offset") or 0) / METRE**2


def _series(path: Path) -> list[Piece]:
    """Files of the series that an .emi tells of."""
    found = sorted(path.parent.glob(f"{glob.escape(path.stem)}_[0-9]*.ser")) if path.suffix.lower() == ".emi" else []
    return [(file, {}) for file in found]


def _selections(keyword: str, *values: str) -> Callable[[Path], list[Piece]]:
    """What a keyword of a reader selects, one after the other."""
    return lambda path: [(path, {keyword: value}) for value in values]


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
    amend : callable or None
        Corrects axes and values of what was found in a file, in place; called with the path and the dictionaries.
    pieces : callable or None
        What can be read apart where the reader fails as a whole, since one bad data set sinks the others.
    growth : float
        Memory that reading as a whole takes, in sizes of the file. Twice as much: larger files are refused.
    """

    lazy: bool | Callable[[Path], bool] = True
    options: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[Path], None] | None = None
    amend: Callable[[Path, list[Dictionary]], None] | None = None
    pieces: Callable[[Path], list[Piece]] | None = None
    growth: float = 4.0


#: By RosettaSciIO's name. What is not here is read lazily, and as a whole if that fails. Growths were measured on its
#: test files, and are higher where files are compressed.
PLUGINS = {
    **dict.fromkeys(("DENS", "Impulse", "MSA", "Protochips"), Plugin(lazy=False, growth=40)),  # texts
    **dict.fromkeys(("JobinYvon", "Quadstar", "Renishaw", "TriVista", "Hamamatsu"), Plugin(lazy=False, growth=12)),
    "Arina": Plugin(lazy=False, growth=20),
    "Blockfile": Plugin(check=_check_blockfile),
    "Bruker": Plugin(amend=_bruker_axes, pieces=_selections("select_type", "image", "spectrum_image"), growth=200),
    "Delmic": Plugin(
        lazy=False,
        options={"signal": "all"},
        amend=_forwards,
        pieces=_selections("signal", "se", "survey", "cl", "anchor"),
        growth=20,
    ),
    "DigitalSurf": Plugin(lazy=False, growth=30),
    "JEOL": Plugin(growth=400),
    "MRC": Plugin(check=check_mrc, amend=mrc_bytes),
    "PantaRhei": Plugin(lazy=_is_stored, growth=20),  # lazily the bytes of a compressed array come as its values
    "Phenom": Plugin(lazy=False, growth=70),
    "TIA": Plugin(amend=_tia_axes, pieces=_series),
    "Tofwerk": Plugin(options={"show_progressbar": False}),
    "Topspin": Plugin(lazy=False, options={"show_progressbar": False}),
    "netCDF": Plugin(lazy=False),
}


def specifications() -> list[Specification]:
    """Those of all readers of RosettaSciIO."""
    import rsciio  # sets the level of its logger, and so must come before all are silenced
    from rsciio import IO_PLUGINS

    assert rsciio
    return list(IO_PLUGINS)


def specification(name: str) -> Specification:
    """That of one reader."""
    return next(s for s in specifications() if s["name"] == name)


def microscope_signals(path: Path) -> tuple[str, tuple[Signal, ...]]:
    """Signals of a file that RosettaSciIO reads; where several of its readers claim the suffix, the first that can."""
    with reading(path, "a file of a microscope format"):
        known = specifications()
    suffix = path.suffix.lower().removeprefix(".")
    readers = [s for s in known if suffix in map(str.lower, s["file_extensions"])]
    if suffix in MRC_SUFFIXES and is_mrc(path):
        readers = [s for s in known if s["name"] == "MRC"]
    if not readers:
        own = ", ".join((*NUMPY_SUFFIXES, *PICTURE_SUFFIXES, *TIFF_SUFFIXES))
        raise ImageReadError(
            f"{path.name}: expected {own} or a microscope format (.dm3, .dm4, .emd, .ser, .hspy, .mrc, ...), "
            f"got {path.suffix or 'a name without a suffix'!r}"
        )
    readers.sort(key=lambda s: s["file_extensions"][s["default_extension"]].lower() != suffix)
    refusals: list[ImageReadError] = []
    expected = f"a {' or '.join(s['name'] for s in readers)} file"
    for reader in readers:
        try:
            with reading(path, expected):
                return reader["name"], tuple(plugin_signals(reader, path))
        except ImageReadError as refusal:
            refusals.append(refusal)
    # A reader that is not installed matters only if none of those that are could say what is wrong.
    raise next((r for r in refusals if not missing_package(r.__cause__)), refusals[0])


def plugin_signals(reader: Specification, path: Path, **options: Any) -> list[Signal]:
    """Signals that one reader of RosettaSciIO finds; `options` are for it."""
    plugin = PLUGINS.get(reader["name"], Plugin())
    try:
        return _signals(reader, plugin, path, options)
    except (ImportError, MemoryError):
        raise
    except Exception:
        pieces = plugin.pieces(path) if plugin.pieces is not None and not options else []
        signals: list[Signal] = []
        for piece, selected in pieces:
            try:
                signals += _signals(reader, plugin, piece, selected)
            except Exception as error:  # one bad data set does not sink the others
                signals.append(unreadable(0, " ".join((piece.name, *selected.values())), error))
        if not any(signal.kind != "other" for signal in signals):
            raise
        return [replace(signal, index=i) for i, signal in enumerate(signals)]


def _signals(reader: Specification, plugin: Plugin, path: Path, options: Mapping[str, Any]) -> list[Signal]:
    read = functools.partial(_read, reader["api"], plugin, path, **{**plugin.options, **options})
    if plugin.check is not None:
        plugin.check(path)
    lazy = plugin.lazy(path) if callable(plugin.lazy) else plugin.lazy
    found: list[Dictionary] = []
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
        raise ImageReadError(f"{path.name}: expected a {reader['name']} file with data, found none in it")
    try:
        return [_described(path, i, one, lambda: read(lazy=lazy)) for i, one in enumerate(found)]
    finally:
        _close(found)


def _read(module: str, plugin: Plugin, path: Path, lazy: bool, **options: Any) -> list[Dictionary]:
    found: list[Dictionary] = importlib.import_module(module).file_reader(str(path), lazy=lazy, **options)
    found = [one for one in found if "data" in one]
    if plugin.amend is not None:
        plugin.amend(path, found)
    return found


def _described(path: Path, index: int, found: Dictionary, again: Callable[[], list[Dictionary]]) -> Signal:
    """Signal of a dictionary of RosettaSciIO; one that cannot be described is listed as such."""
    about = found.get("metadata") or {}
    title = str((about.get("General") or {}).get("title") or path.stem)
    try:
        signal = posed(found)
        describe = functools.partial(describe_signal, index, title, signal.data.shape, signal.data.dtype)
        if signal.ragged:
            return describe(layout=Layout("other", None), opened=no_array)
        known = signal.data.ndim == len(signal.axes)
        axes = [_axis(axis) for axis in signal.axes] if known else []
        navigation = [bool(axis.get("navigate")) for axis in signal.axes] if known else None
        signal_type = str((about.get("Signal") or {}).get("signal_type") or "")
        kind = layout(signal.data.shape, [axis for axis, _ in axes], navigation, signal_type)
        lazy = hasattr(signal.data, "__dask_graph__")
        opened = functools.partial(_opened, again, index) if lazy else _kept(signal.data)
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
    """Opens an array that was read as a whole."""
    return functools.partial(contextlib.nullcontext, data)


@contextlib.contextmanager
def _opened(again: Callable[[], list[Dictionary]], index: int) -> Iterator[Any]:
    """A lazy array, read anew: none is kept, since they hold their files open."""
    found = again()
    try:
        yield posed(found[index]).data
    finally:
        _close(found)


def _close(found: list[Dictionary]) -> None:
    """Close the files that lazy arrays hold open."""
    for one in found:
        graph = one["data"].__dask_graph__() if hasattr(one["data"], "__dask_graph__") else {}
        for task in dict(graph).values():
            array = getattr(task, "value", task)
            if type(array).__module__.startswith("h5py") and array:  # false once its file is closed
                array.file.close()
