"""One image of a file, with its calibration."""

from __future__ import annotations

import math
import operator
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.choice import choose_signal, others
from stemseg_core.io.readers import located, read_signals
from stemseg_core.io.reading import reading
from stemseg_core.io.signals import ImageReadError, Signal
from stemseg_core.system.memory import require_memory

#: What frames belong to, for notes.
FRAMES = {"cube": "a spectral cube", "scan": "a 4D scan", "pattern": "diffraction patterns"}


@dataclass(frozen=True, eq=False)
class Image:
    """One image of a file, ready for `stemseg_core.segment`.

    Attributes
    ----------
    data : ndarray of shape (y, x)
        In the file's own data type; float32 where colours were averaged, float64 where frames were.
    pixel_size : tuple of float or None
        (y, x) size of a pixel in `units`; None if the file does not tell.
    units : str
    title : str
    signal, frame : int; int, tuple of int, or "mean"
        What was taken, as in `read_image`.
    signals : tuple of Signal
        Everything the file holds.
    format : str
    notes : tuple of str
        What was done on the way: which frame, colours to grey, a scale that could not be used.
    """

    data: NDArray[Any]
    pixel_size: tuple[float, float] | None
    units: str
    title: str
    signal: int
    frame: int | tuple[int, ...] | str
    signals: tuple[Signal, ...] = field(repr=False)
    format: str
    notes: tuple[str, ...] = ()


def read_image(
    path: str | os.PathLike[str], signal: int | None = None, frame: int | tuple[int, ...] | str | None = None
) -> Image:
    """Read one image of a file, with its calibration.

    Parameters
    ----------
    path : str or path-like
        .npy, .npz, .tif, a picture, HDF5, zarr, .mat, .ndata, or any format RosettaSciIO reads (.dm3, .dm4, .ser, .mrc,
        ...). Of a container, one array is named by its path, as in ``file.h5::/group/data``.
    signal : int, optional
        Which data set of the file, as `read_signals` numbers them. Default: the largest image; among those of one size
        the image of a detector, the data as measured, and the calibrated one come first.
    frame : int, tuple of int, or "mean", optional
        Which image of a stack, from 0, or one number for each axis of a stack of several; or the mean of all (drift is
        not corrected). Default: the first. With it, a channel of a spectral cube or a pattern of a 4D scan is read,
        too; without, these are refused.

    Returns
    -------
    Image

    Raises
    ------
    ImageReadError
        If the file is missing, broken, of an unknown format, or holds no such image; the message names the file.
    MemoryError
        If the image alone needs more than is free; nothing was read then.

    Notes
    -----
    Only the frame asked for is read, as far as the format allows (some formats are read whole).

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from stemseg_core.io import read_image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "image.npy"
    ...     np.save(path, np.zeros((32, 48), np.uint16))
    ...     image = read_image(path)
    >>> image.data.shape, image.data.dtype, image.pixel_size
    ((32, 48), dtype('uint16'), None)
    """
    path, given = located(path)[0], path
    format_name, signals = read_signals(given)
    chosen = choose_signal(path, signals, signal, frame)
    notes = list(chosen.notes)
    taken = others(chosen, signals) if signal is None else None
    notes += [taken] if taken else []
    number = _frame_number(path, chosen, frame)
    require_memory(math.prod(chosen.frame_shape) * 8, None, f"{path.name}: the image", "use a smaller image")
    place = _place(number, chosen)
    if chosen.n_frames > 1:
        words = ",".join(map(str, place)) if isinstance(place, tuple) else place
        what = "the mean of all" if number == "mean" else f"frame {words} of"
        notes.append(f"{FRAMES.get(chosen.kind, 'a stack')}: {what} {chosen.n_frames} frames taken (counted from 0)")
    with reading(path, f"{format_name} data"):
        if number == "mean" and chosen.n_frames > 1:
            total = np.zeros(chosen.frame_shape)
            for image in chosen.frames():
                total += _to_grey(image, [])
            data = total / chosen.n_frames
        else:
            # a copy: the file may be closed, or replaced by the results
            data = np.array(_to_grey(chosen.frame(0 if number == "mean" else number), notes))
    return Image(
        data, chosen.pixel_size, chosen.units, chosen.title, chosen.index, place, signals, format_name, tuple(notes)
    )


def _frame_number(path: Path, chosen: Signal, frame: object) -> int | Literal["mean"]:
    """`frame` as a number in the order of the array; refused if there is none."""
    sizes, n = chosen.stack_shape, chosen.n_frames
    if frame is None or frame == "mean":
        return 0 if frame is None else "mean"
    place = _whole_numbers(frame)
    if len(place) == 1 and 0 <= place[0] < n:
        return place[0]
    if len(place) == len(sizes) and all(0 <= i < size for i, size in zip(place, sizes, strict=True)):
        return int(np.ravel_multi_index(place, sizes))
    along = f", or {len(sizes)} numbers below {' and '.join(map(str, sizes))}" if len(sizes) > 1 else ""
    raise ImageReadError(
        f"{path.name}: `frame` must be 'mean' or a whole number from 0 to {n - 1}{along} "
        f"(signal {chosen.index} has {n} frames), got {frame!r}",
        frame=frame,
    )


def _whole_numbers(frame: object) -> tuple[int, ...]:
    """`frame` as whole numbers; none if it is none."""
    try:
        return tuple(map(operator.index, frame if isinstance(frame, tuple | list) else (frame,)))
    except TypeError:
        return ()


def _place(number: int | Literal["mean"], chosen: Signal) -> int | tuple[int, ...] | Literal["mean"]:
    """A frame as it is asked for: one number for each axis of a stack of several."""
    if number == "mean" or len(chosen.stack_shape) < 2:
        return number
    return tuple(map(int, np.unravel_index(number, chosen.stack_shape)))


def _to_grey(data: NDArray[Any], notes: list[str]) -> NDArray[Any]:
    """(y, x) of what a reader gave: colours, as a last axis or as named fields, become grey; other types are kept."""
    if data.dtype.names:
        data = np.stack([data[name] for name in data.dtype.names[:3]], axis=-1)
    if data.ndim == 2:
        return data
    red, green, blue = (data[..., i if data.shape[2] > 2 else 0] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        notes.append("a grey image stored as colour: one channel taken")
        return np.ascontiguousarray(red)
    notes.append("colours converted to grey (ITU-R BT.601 luminance)")
    return (0.299 * red + 0.587 * green + 0.114 * blue).astype(np.float32)
