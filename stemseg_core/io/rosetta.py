"""Formats of microscopes, read by RosettaSciIO."""

from __future__ import annotations

import importlib
import struct
from pathlib import Path
from typing import Any

from stemseg_core.io.arrays import NUMPY_SUFFIXES
from stemseg_core.io.axes import Described, calibrated_axis
from stemseg_core.io.pictures import PICTURE_SUFFIXES
from stemseg_core.io.signals import (
    ImageReadError,
    Signal,
    describe_signal,
    reading,
)
from stemseg_core.io.tiff import TIFF_SUFFIXES


def microscope_signals(path: Path) -> tuple[str, tuple[Signal, ...]]:
    """Signals of a file that RosettaSciIO reads; where several of its readers claim the suffix, the first that can."""
    with reading(path, "a file of a microscope format"):
        from rsciio import IO_PLUGINS
    suffix = path.suffix.lower().removeprefix(".")
    readers = [p for p in IO_PLUGINS if suffix in map(str.lower, p["file_extensions"])]
    if not readers:
        own = ", ".join((*NUMPY_SUFFIXES, *PICTURE_SUFFIXES, *TIFF_SUFFIXES))
        raise ImageReadError(
            f"{path.name}: expected {own} or a microscope format (.dm3, .dm4, .emd, .ser, .hspy, .mrc, ...), "
            f"got {path.suffix or 'a name without a suffix'!r}"
        )
    readers.sort(key=lambda p: p["file_extensions"][p["default_extension"]].lower() != suffix)
    refusals: list[ImageReadError] = []
    expected = f"a {' or '.join(plugin['name'] for plugin in readers)} file"
    for plugin in readers:
        try:
            with reading(path, expected):
                return plugin["name"], tuple(_described(path, i, s) for i, s in enumerate(_rosetta(plugin, path)))
        except ImageReadError as refusal:
            refusals.append(refusal)
    # A reader that is not installed matters only if none of those that are could say what is wrong.
    raise next((r for r in refusals if not isinstance(r.__cause__, ModuleNotFoundError)), refusals[0])


def _rosetta(plugin: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """What a RosettaSciIO reader finds, as lazy arrays, never opening the file for writing."""
    read = importlib.import_module(plugin["api"]).file_reader
    options: dict[str, Any] = {"lazy": True}
    if plugin["name"] in ("HSPY", "ZSPY"):
        options["mode"] = "r"  # their lazy default is "r+"
    elif plugin["name"] == "EMD":
        options["select_type"] = "images"  # the spectra beside them in a Velox file may be gigabytes
    elif plugin["name"] == "Blockfile":
        _check_blockfile(path)
    found: list[dict[str, Any]] = read(str(path), **options)
    if not found:
        raise ImageReadError(f"{path.name}: expected a {plugin['name']} file with images, found none in it")
    return found


def _check_blockfile(path: Path) -> None:
    """Refuse a header that promises more patterns than the file holds: laying them out would never end."""
    with path.open("rb") as stream:
        identity, start, side, nx, ny = struct.unpack("<6s6xI4xH2xHH", stream.read(28))
    if identity != b"IMGBLO" or start + nx * ny * side**2 > path.stat().st_size:
        raise ImageReadError(f"{path.name}: expected a Blockfile, but its header does not fit the file")


def _described(path: Path, index: int, found: dict[str, Any]) -> Signal:
    """Signal of a RosettaSciIO dictionary: its non-navigation axes say where the images lie."""
    data, axes = found["data"], found["axes"]
    if all(axis.get("index_in_array") is not None for axis in axes):
        axes = sorted(axes, key=lambda axis: int(axis["index_in_array"]))
    title = str((found.get("metadata") or {}).get("General", {}).get("title") or path.stem)
    signal_axes = [i for i, axis in enumerate(axes) if not axis.get("navigate")]
    if not signal_axes and len(axes) == 2:  # a map that was stored with its axes turned to navigation
        signal_axes = [0, 1]
    colour = bool(data.dtype.names) and set(data.dtype.names) <= set("RGBA")
    known = (data.dtype.kind in "biuf" or colour) and 0 not in data.shape and len(axes) == data.ndim
    image_axes = (signal_axes[0], signal_axes[1]) if known and len(signal_axes) == 2 else None
    described = [_described_axis(axis) for axis in axes]
    return describe_signal(index, data.shape, data.dtype, image_axes, title=title, load=lambda: data, axes=described)


def _described_axis(axis: dict[str, Any]) -> Described:
    name = axis.get("name")
    name = name if isinstance(name, str) and name not in ("", "<undefined>") else "axis"
    return calibrated_axis(name, axis.get("scale"), axis.get("units"), axis.get("offset"))
