"""TIFF, read by tifffile, with the calibration that microscopes put into its tags."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.signals import Signal, axes_pixel_size, no_image

TIFF_SUFFIXES = (".tif", ".tiff")

#: Size of a pixel in nm from which on a plain resolution tag describes a sheet of paper (25 400 dots per inch), and is
#: not used. Twice as much: some scans of paper would be taken for calibrated images.
LARGEST_SCANNED_PIXEL_NM = 1000.0


def tiff_signals(path: Path) -> list[Signal]:
    """Signals of a TIFF, one for each of its series."""
    import tifffile

    # The stream is ours: tifffile leaves a file it cannot read open.
    with path.open("rb") as stream, tifffile.TiffFile(stream) as tiff:
        scales = [_imagej_scale(tiff)] * len(tiff.series) if tiff.is_imagej else _vendor_scales(path)
        signals = [_tiff_signal(path, index, series) for index, series in enumerate(tiff.series)]
        for index, series in enumerate(tiff.series):
            size = scales[index] if index < len(scales) else None
            signals[index] = replace(signals[index], pixel_size=size or _resolution(series.pages[0]))
    return signals


def _tiff_signal(path: Path, index: int, series: Any) -> Signal:
    sizes = list(zip(series.axes, map(int, series.shape), strict=True))
    shape = tuple(n for axis, n in sizes if axis != "S")
    plane = tuple(n for axis, n in sizes if axis in "YX")
    dtype = np.dtype(series.dtype)
    title, axes = series.name or path.stem, (f"axes {series.axes}",)
    if len(plane) != 2 or 0 in shape or dtype.kind not in "biuf":
        return Signal(index, title, shape, str(dtype), "other", 0, (), no_image, axes)
    n_frames = math.prod(shape) // math.prod(plane)
    kind = "stack" if n_frames > 1 else "colour" if "S" in series.axes else "image"
    return Signal(index, title, shape, str(dtype), kind, n_frames, plane, _tiff_frame(path, index, n_frames), axes)


def _tiff_frame(path: Path, series_index: int, n_frames: int) -> Callable[[int], NDArray[Any]]:
    def read(i: int) -> NDArray[Any]:
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            series: Any = tiff.series[series_index]
            one_page = len(series.pages) == n_frames
            axes = series.pages[0].axes if one_page else series.axes
            if one_page:
                data = series.pages[i].asarray()
            else:
                try:
                    data = tifffile.memmap(path, series=series_index, mode="r")
                except ValueError:  # compressed
                    data = series.asarray()
        wanted = "YXS" if "S" in axes else "YX"
        order = [n for n, axis in enumerate(axes) if axis not in wanted] + [axes.index(axis) for axis in wanted]
        frames = np.transpose(data, order).reshape(-1, *(data.shape[n] for n in order[-len(wanted) :]))
        frame: NDArray[Any] = frames[0 if one_page else i]
        return frame

    return read


def _imagej_scale(tiff: Any) -> tuple[float, float] | None:
    """(y, x) in nm: ImageJ's resolution tags are pixels per unit, and the unit is in its description."""
    unit = str((tiff.imagej_metadata or {}).get("unit", "")).replace("\\u00B5", "\u00b5")
    return axes_pixel_size([{"scale": size, "units": unit} for size in _tag_scales(tiff.pages[0])])


def _vendor_scales(path: Path) -> list[tuple[float, float] | None]:
    """(y, x) in nm of every series, from the tags of DigitalMicrograph, FEI, Zeiss, JEOL, ... where there are some."""
    try:
        from rsciio.tiff import file_reader

        described = file_reader(str(path), lazy=True)
        scales = [axes_pixel_size([a for a in s["axes"] if not a.get("navigate")][-2:]) for s in described]
        del described
    except Exception:  # a calibration that cannot be read is a calibration that is not there
        scales = []
    gc.collect()  # the lazy reader leaves the file open, in a reference cycle
    return scales


def _tag_scales(page: Any) -> list[float]:
    """Unit per pixel, (y, x), of the resolution tags; empty if they are missing or 0."""
    try:
        return [page.tags[name].value[1] / page.tags[name].value[0] for name in ("YResolution", "XResolution")]
    except (AttributeError, KeyError, TypeError, IndexError, ZeroDivisionError):
        return []


def _resolution(page: Any) -> tuple[float, float] | None:
    """(y, x) in nm from plain resolution tags, where they describe a specimen rather than a sheet of paper."""
    tag = page.tags.get("ResolutionUnit") if page is not None else None
    nm = {2: 2.54e7, 3: 1e7}.get(int(tag.value)) if tag is not None else None
    sizes = [nm * scale for scale in _tag_scales(page)] if nm else []
    return (sizes[0], sizes[1]) if sizes and all(0 < size < LARGEST_SCANNED_PIXEL_NM for size in sizes) else None
