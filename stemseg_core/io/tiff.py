"""TIFF, read by tifffile, with the calibration that microscopes put into its tags."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Described, image_calibration, is_pattern
from stemseg_core.io.arrays import LARGEST_COMPRESSION
from stemseg_core.io.signals import ImageReadError, Signal, no_image
from stemseg_core.io.tiff_axes import tiff_axes
from stemseg_core.system.memory import require_memory

TIFF_SUFFIXES = (".tif", ".tiff")

#: Most bytes of pixels that a byte of a file can stand for, by the number of its compression: none, and deflate.
RATIOS = {1: 1, 8: LARGEST_COMPRESSION, 32946: LARGEST_COMPRESSION}
#: The same of others, of which zstd reaches 32,768. Twice as much: files that promise more than they can hold are
#: believed up to that.
LARGEST_RATIO = 40_000
#: What to do about a compressed stack that is too large.
COMPRESSED = "save it without compression, or its frames one by one"
#: Values of the tag PhotometricInterpretation: colours of samples, and of a table.
RGB, PALETTE, CMYK, YCBCR = 2, 3, 5, 6
#: Value of the tag PlanarConfiguration where each sample of the pixels has a plane of its own.
SEPARATE = 2


def tiff_signals(path: Path) -> list[Signal]:
    """Signals of a TIFF, one for each of its series."""
    import tifffile

    # The stream is ours: tifffile leaves a file it cannot read open.
    with path.open("rb") as stream:
        _check_pages(stream, path.name)
        stream.seek(0)
        with tifffile.TiffFile(stream) as tiff:
            axes, imagej = tiff_axes(path, tiff), bool(tiff.is_imagej)
            return [_tiff_signal(path, index, series, axes[index], imagej) for index, series in enumerate(tiff.series)]


def _check_pages(stream: BinaryIO, name: str) -> None:
    """Refuse a TIFF whose last page says that an earlier one follows: tifffile would read it without end."""
    head = stream.read(16)
    order, big = {b"II": "<", b"MM": ">"}.get(head[:2], ""), b"\x2b" in head[2:4]
    # offsets and numbers of entries, and bytes of an entry, as BigTIFF and as TIFF have them
    offset_format, count_format, entry, place = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    offset_size, count_size = struct.calcsize(offset_format), struct.calcsize(count_format)
    following, seen = head[place : place + offset_size], set[int]()
    while order and len(following) == offset_size:
        (offset,) = struct.unpack(order + offset_format, following)
        if offset in seen:
            raise ImageReadError(f"{name}: expected a TIFF, but page {len(seen)} is followed by an earlier one")
        if not offset:
            return
        seen.add(offset)
        stream.seek(offset)
        count = stream.read(count_size)
        if len(count) < count_size:
            return
        stream.seek(offset + count_size + entry * struct.unpack(order + count_format, count)[0])
        following = stream.read(offset_size)


def _tiff_signal(path: Path, index: int, series: Any, axes: Sequence[Described], imagej: bool) -> Signal:
    sizes = list(zip(series.axes, map(int, series.shape), strict=True))
    page, dtype, title = series.keyframe, np.dtype(series.dtype), series.name or path.stem
    palette = page.photometric == PALETTE and page.colormap is not None
    colour = page.photometric in (RGB, CMYK, YCBCR) or _has_alpha(page)
    shape = tuple(n for axis, n in sizes if axis != "S" or not colour)
    plane = tuple(n for axis, n in sizes if axis in "YX")
    if len(plane) != 2 or 0 in shape or dtype.kind not in "biuf":
        return Signal(index, title, shape, str(dtype), "other", 0, (), no_image, tuple(axis for axis, _ in axes))
    # of many pages one, as others may lie in other files
    values = page.size if len(series.pages) > 1 else series.size
    promised = values * page.bitspersample / 8 / RATIOS.get(page.compression, LARGEST_RATIO)
    if promised > path.stat().st_size:
        raise ImageReadError(f"{path.name}: {' x '.join(map(str, shape))} {dtype} is more data than the file can hold")
    n_frames = math.prod(shape) // math.prod(plane)
    image = [axes[series.axes.replace("S", "").index(axis)] for axis in "YX"]
    size, notes = image_calibration(image)
    if palette and imagej:
        notes = (*notes, "ImageJ's colours are for display: the values behind them are taken")
    if colour and page.planarconfig == SEPARATE and series.kind == "shaped":
        notes = (*notes, "its planes are marked as colours, as tifffile marks 3 or 4 frames unless told 'minisblack'")
    looked_up = palette and not imagej
    kind = "stack" if n_frames > 1 else "colour" if colour or looked_up else "image"
    kind = "pattern" if is_pattern([axis for axis, _ in image]) else kind
    letters = [axis for axis, _ in sizes if axis != "S" or not colour]
    return Signal(
        index,
        title,
        shape,
        str(dtype),
        kind,
        n_frames,
        plane,
        _tiff_frame(path, index, n_frames, colour=colour, looked_up=looked_up),
        tuple(axis for axis, _ in axes),
        size,
        notes=notes,
        image_axes=(letters.index("Y"), letters.index("X")),
    )


def _has_alpha(page: Any) -> bool:
    """Whether the samples of a pixel are a grey value and how opaque it is."""
    return page.samplesperpixel == 2 and any(sample in (1, 2) for sample in page.extrasamples)


def _tiff_frame(
    path: Path, series_index: int, n_frames: int, *, colour: bool, looked_up: bool
) -> Callable[[int], NDArray[Any]]:
    def read(i: int) -> NDArray[Any]:
        import tifffile

        with path.open("rb") as stream, tifffile.TiffFile(stream) as tiff:
            series: Any = tiff.series[series_index]
            one_page = len(series.pages) == n_frames and series.pages[i] is not None
            axes = series.keyframe.axes if one_page else series.axes
            if one_page:
                data = series.pages[i].asarray()
            else:
                try:
                    data = tifffile.memmap(path, series=series_index, mode="r")
                except ValueError:  # compressed
                    require_memory(
                        series.size * series.dtype.itemsize, None, f"{path.name}: all of its frames", COMPRESSED
                    )
                    data = series.asarray()
            table, inks = series.keyframe.colormap, series.keyframe.photometric == CMYK
        wanted = "YXS" if colour and "S" in axes else "YX"
        order = [n for n, axis in enumerate(axes) if axis not in wanted] + [axes.index(axis) for axis in wanted]
        frames = np.transpose(data, order).reshape(-1, *(data.shape[n] for n in order[-len(wanted) :]))
        frame: NDArray[Any] = frames[0 if one_page else i]
        if looked_up:
            return _looked_up(frame if frame.ndim == 2 else frame[..., 0], table)
        return _printed(frame) if inks and colour else frame

    return read


def _looked_up(frame: NDArray[Any], table: NDArray[np.uint16]) -> NDArray[Any]:
    """Colours (y, x, 3) of the numbers in `frame` by a table of 16-bit red, green and blue; 8-bit where that is all."""
    colours = np.moveaxis(table[:, frame], 0, -1)
    eight = np.array_equal(table >> 8, table & 255) or not (table & 255).any()
    return (colours >> 8).astype(np.uint8) if eight else colours


def _printed(inks: NDArray[Any]) -> NDArray[Any]:
    """Colours (y, x, 3) that four inks (y, x, 4), cyan, magenta, yellow and black, make on white paper."""
    full = np.iinfo(inks.dtype).max if inks.dtype.kind in "iu" else 1
    left = full - inks.astype(np.float64)
    return (left[..., :3] * left[..., 3:4] / full).astype(inks.dtype)
