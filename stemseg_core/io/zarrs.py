"""zarr, in a folder or a zip file: HyperSpy's layout, or arrays by their paths."""

from __future__ import annotations

import zipfile
from pathlib import Path

from stemseg_core.io.containers import zarr_container
from stemseg_core.io.hyperspy import hyperspy_signals, is_hyperspy
from stemseg_core.io.plain import plain_signals
from stemseg_core.io.reading import reading
from stemseg_core.io.signals import ImageReadError, Signal

ZARR_SUFFIXES = (".zspy", ".zarr")
#: Files that a folder of zarr has, of version 2 and 3.
MARKS = (".zgroup", ".zarray", ".zmetadata", "zarr.json")


def is_zarr(path: Path) -> bool:
    """Whether a folder or a zip file is one of zarr, by its name or by what it holds."""
    if path.suffix.lower() in ZARR_SUFFIXES or any((path / mark).exists() for mark in MARKS):
        return True
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(mark in archive.namelist() for mark in MARKS)


def zarr_signals(path: Path, inside: str | None = None) -> tuple[str, tuple[Signal, ...]]:
    """Name of the layout and signals of a zarr group or array, or of the one array at `inside` in it."""
    container = zarr_container(path)
    with reading(path, "a file of zarr"):
        with container() as root:
            hyperspy = is_hyperspy(root)
        if hyperspy and inside is None:
            return "ZSPY", tuple(hyperspy_signals(container, path.stem))
        signals = tuple(plain_signals(container, path.name, inside))
        if not signals:
            raise ImageReadError(f"{path.name}: expected arrays in it, there are none")
        return "zarr", signals
