"""What a file holds: every format's data sets described alike, their images read on demand.

NumPy files are read here, pictures by Pillow, TIFF by tifffile, and every microscope format by RosettaSciIO; these
packages come with ``pip install "stemseg-core[cli]"`` and are imported when a file asks for them.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.signals import (
    ImageReadError,
    Signal,
    array_signal,
    axes_pixel_size,
    axis_unit,
    describe_signal,
    no_image,
    reading,
)

NUMPY_SUFFIXES = (".npy", ".npz")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm")
TIFF_SUFFIXES = (".tif", ".tiff")

#: Size of a pixel in nm from which on a plain resolution tag describes a sheet of paper (25 400 dots per inch), and is
#: not used. Twice as much: some scans of paper would be taken for calibrated images.
LARGEST_SCANNED_PIXEL_NM = 1000.0


def read_signals(path: str | os.PathLike[str]) -> tuple[str, tuple[Signal, ...]]:
    """Name of the format and description of every data set in a file; reads headers, not images.

    Raises
    ------
    ImageReadError
        As `read_image`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.exists():
        raise ImageReadError(f"{path.name}: expected a file, there is none at {path}")
    if path.is_dir() and suffix != ".zspy":
        raise ImageReadError(f"{path.name}: expected an image file, got a folder")
    if path.is_file() and path.stat().st_size == 0:
        raise ImageReadError(f"{path.name}: expected an image, got an empty file of 0 bytes")
    if suffix in NUMPY_SUFFIXES:
        name, reader = "NumPy", _numpy_signals
    elif suffix in PICTURE_SUFFIXES:
        name, reader = "picture", _picture_signals
    elif suffix in TIFF_SUFFIXES:
        name, reader = "TIFF", _tiff_signals
    else:
        return _microscope_signals(path)
    with reading(path, f"a {name} file"):
        return name, tuple(reader(path))


def _numpy_signals(path: Path) -> list[Signal]:
    if path.suffix.lower() == ".npy":
        with path.open("rb") as stream:
            if stream.read(6) != b"\x93NUMPY":
                raise ImageReadError(f"{path.name}: expected a NumPy file, but it does not begin like one")
        # A memory map: only what is used is read, and a header that promises more than the file holds is refused.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return [array_signal(0, path.stem, array.shape, array.dtype, lambda: array)]
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        return [_npz_signal(path, index, archive, member) for index, member in enumerate(members)]


def _npz_signal(path: Path, index: int, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Signal:
    name = member.filename.removesuffix(".npy")
    with archive.open(member) as stream:
        first = np.lib.format.read_magic(stream) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > member.file_size:
        raise ImageReadError(f"{path.name}: array {name!r} promises more data than the file holds")

    def load() -> NDArray[Any]:
        with np.load(path, allow_pickle=False) as arrays:
            array: NDArray[Any] = arrays[name]
            return array

    return array_signal(index, name, shape, dtype, load)


def _picture_signals(path: Path) -> list[Signal]:
    from PIL import Image as Picture

    def frame(i: int) -> NDArray[Any]:
        with Picture.open(path) as picture:
            picture.seek(i)
            grey = picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;")
            return np.array(picture if grey else picture.convert("RGB"))

    with Picture.open(path) as picture:
        width, height = picture.size
        frames = getattr(picture, "n_frames", 1)
        dtype = {"1": "bool", "I": "int32", "F": "float32"}.get(
            picture.mode, "uint16" if "16" in picture.mode else "uint8"
        )
        colour = picture.mode not in ("1", "L", "I", "F") and not picture.mode.startswith("I;")
    kind = "stack" if frames > 1 else "colour" if colour else "image"
    shape = (frames, height, width) if frames > 1 else (height, width)
    return [Signal(0, path.stem, shape, dtype, kind, frames, (height, width), frame)]


def _tiff_signals(path: Path) -> list[Signal]:
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


def _microscope_signals(path: Path) -> tuple[str, tuple[Signal, ...]]:
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
    words = tuple(_axis_in_words(axis) for axis in axes)
    signal = replace(
        describe_signal(index, data.shape, data.dtype, image_axes, title=title, load=lambda: data), axes=words
    )
    if not signal.n_frames or image_axes is None:
        return signal
    size = axes_pixel_size([axes[i] for i in image_axes])
    notes: tuple[str, ...] = ()
    if size is None and any(axis_unit(axes[i]) for i in image_axes):
        notes = (f"its scale ({', '.join(words[i] for i in image_axes)}) is not a length: not used",)
    return replace(signal, pixel_size=size, notes=notes)


def _axis_in_words(axis: dict[str, Any]) -> str:
    name = axis.get("name")
    name = name if isinstance(name, str) and name else "axis"
    return f"{name}: {float(axis.get('scale') or 1):.6g} {axis_unit(axis)}".rstrip() if axis_unit(axis) else name
