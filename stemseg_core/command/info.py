"""What a file holds, and whether a lattice seems to be resolved in its image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stemseg_core.io import ImageReadError, Signal, read_image, read_signals
from stemseg_core.io.choice import choose_signal
from stemseg_core.io.cubes import is_cube, sizes_of
from stemseg_core.io.kinds import IMAGES
from stemseg_core.io.readers import located, name_of
from stemseg_core.system.execution import Execution
from stemseg_core.windows.periods import periods_of, pixels_along, smaller_than_a_cell, suited_window

#: Size of a pixel in nm above which no lattice of a crystal is resolved. Twice as much: images of large pixels are
#: searched for a lattice in vain.
LARGEST_LATTICE_PIXEL_NM = 0.15

#: What is said of an image in which a window would be smaller than a cell.
FEW_CELLS = "the image holds few cells: the window is smaller than one, and cells may come out as phases"


def describe(path: Path) -> dict[str, Any]:
    """What a file holds, for `stemseg info`: JSON-able; one frame of each image is read."""
    format_name, signals = read_signals(path)
    file, _ = located(path)
    taken = _taken(file, signals)
    described = []
    for s in signals:
        about: dict[str, Any] = {
            "index": s.index,
            "title": s.title,
            "shape": list(s.shape),
            "dtype": s.dtype,
            "kind": s.kind,
            "frames": s.n_frames,
            "axes": [str(axis) for axis in s.axes],
            "pixel_size": None if s.pixel_size is None else list(s.pixel_size),
            "units": s.units,
            "taken": s.index == taken,
            "unmixed": _unmixed(s),
            "range": None,
            "not_finite": 0,
            "window": None,
            "period": None,
            "strongest": None,
            "notes": list(s.notes),
        }
        if s.kind in (*IMAGES, "pattern"):
            about |= _pixels(path, s, taken=s.index == taken)
        described.append(about)
    return {"file": name_of(path), "format": format_name, "signals": described}


def _taken(path: Path, signals: Sequence[Signal]) -> int | None:
    """Number of the signal that `stemseg segment` takes; None if there is none."""
    try:
        return choose_signal(path, signals, None).index
    except ImageReadError:
        return None


def _unmixed(signal: Signal) -> dict[str, Any] | None:
    """Sizes of map and signal of a data set that `stemseg unmix` takes."""
    if not is_cube(signal):
        return None
    return dict(zip(("map", "signal"), map(list, sizes_of(signal)), strict=True))


def _pixels(path: Path, signal: Signal, taken: bool) -> dict[str, Any]:
    """What a look at the pixels tells; of the image that would be taken, also the window that suits it."""
    try:
        image = read_image(path, signal.index)
    except ImageReadError as error:
        if taken:
            raise
        return {"notes": [str(error)]}
    finite = image.data[np.isfinite(image.data)]
    found: dict[str, Any] = {
        "range": [float(finite.min()), float(finite.max())] if finite.size else None,
        "not_finite": int(image.data.size - finite.size),
        "notes": list(image.notes),
    }
    if taken:
        periods = periods_of(image.data, pixel_size=image.pixel_size, execution=Execution.of())
        period = None if periods is None else periods.period
        window = suited_window(period, image.data.shape, image.pixel_size)
        if periods is not None:
            for name, length in periods._asdict().items():
                found[name] = _lengths(pixels_along(length, image.pixel_size), image.pixel_size)
            if smaller_than_a_cell(window, periods.period, image.pixel_size):
                found["notes"].append(FEW_CELLS)
        if all(side <= n for side, n in zip(window, image.data.shape, strict=True)):
            found["window"] = _lengths(window, image.pixel_size)
        doubt = no_lattice(period, image.pixel_size)
        found["notes"] += [doubt] if doubt else []
    return found


def _lengths(pixels: tuple[float, float], pixel_size: tuple[float, float] | None) -> dict[str, Any]:
    return {"px": list(pixels), "nm": in_nm(pixels, pixel_size)}


def in_nm(pixels: tuple[float, float], pixel_size: tuple[float, float] | None) -> list[float] | None:
    """Lengths along y and x in nm; None without a calibration."""
    return None if pixel_size is None else [n * size for n, size in zip(pixels, pixel_size, strict=True)]


def too_coarse(pixel_size: tuple[float, float] | None) -> str | None:
    """Why an image of such pixels cannot show a lattice; None if it may."""
    if pixel_size is None or max(pixel_size) <= LARGEST_LATTICE_PIXEL_NM:
        return None
    return f"pixels of {max(pixel_size):.3g} nm are too large to show a lattice"


def no_lattice(period: float | None, pixel_size: tuple[float, float] | None) -> str | None:
    """Why no lattice seems to be resolved in an image of that strongest period; None if one does."""
    doubt = None if period is not None else "no period stands out: is a lattice resolved in this image?"
    return too_coarse(pixel_size) or doubt
