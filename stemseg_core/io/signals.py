"""What a file holds, in one form for every format: data sets with axes in nm, whose images are read on demand."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.axes import Axis, Described, image_calibration
from stemseg_core.system.errors import Message
from stemseg_core.system.extras import INSTALL

Shape: TypeAlias = Sequence[int]


class ImageReadError(Message, ValueError):
    """A file that cannot be read as an image; the message has its name, what was expected and what came."""


@dataclass(frozen=True, eq=False)
class Signal:
    """One data set of a file: described from its header, its values read on demand.

    Attributes
    ----------
    index : int
        Its number in the file, from 0.
    title : str
    shape : tuple of int
        Of the array as stored, without colour channels.
    dtype : str
    kind : {"image", "stack", "colour", "other"}
        What `read_image` can make of it: "stack" has frames, "other" holds no image.
    n_frames : int
        Images in it; 0 for "other".
    frame_shape : tuple of int
        (y, x) of one image; () for "other".
    axes : tuple of Axis
        Of the array as stored, without colour channels; () if the file says nothing of them.
    pixel_size : tuple of float or None
        (y, x), in `units`.
    units : str
        "nm", whatever length the file uses.
    notes : tuple of str
        What a user should know about how it is read.
    frame : callable
        ``frame(i)`` reads image i as an array of shape (y, x) or, for "colour", (y, x, channels).
    """

    index: int
    title: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    n_frames: int
    frame_shape: tuple[int, ...]
    frame: Callable[[int], NDArray[Any]] = field(repr=False)
    axes: tuple[Axis, ...] = ()
    pixel_size: tuple[float, float] | None = None
    units: str = "nm"
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Readers raise anything and print anything: what they raise becomes ImageReadError, the noise is dropped."""
    noisy = [logging.getLogger(name) for name in ("rsciio", "tifffile", "PIL")]
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            try:
                yield
            except ImageReadError:
                raise
            except Exception as error:
                traceback.clear_frames(error.__traceback__)  # a reader that fails may leave its file open there
                raise _in_words(error, path, expected) from error
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)


def _in_words(error: Exception, path: Path, expected: str) -> ImageReadError:
    if isinstance(error, ModuleNotFoundError):
        return ImageReadError(f"{path.name}: reading it needs the package {error.name!r}; {INSTALL}")
    reason = " ".join(str(error).split())[:200]
    came = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return ImageReadError(f"{path.name}: expected {expected}, but it cannot be read as such ({came})")


def array_signal(index: int, title: str, shape: Shape, dtype: np.dtype[Any], load: Callable[[], Any]) -> Signal:
    """Describe an array without axes: 2-D is an image, 3-D a stack, 3 or 4 channels of whole numbers a colour image."""
    known = dtype.kind in "biuf" and 0 not in shape
    if known and len(shape) == 3 and shape[2] in (3, 4) and dtype.kind == "u":
        plane = tuple(shape[:2])
        return Signal(index, title, plane, str(dtype), "colour", 1, plane, lambda _: np.asarray(load()))
    image_axes = (len(shape) - 2, len(shape) - 1) if known and len(shape) in (2, 3) else None
    return describe_signal(index, shape, dtype, image_axes, title=title, load=load)


def describe_signal(
    index: int,
    shape: Shape,
    dtype: np.dtype[Any],
    image_axes: tuple[int, int] | None,
    *,
    title: str,
    load: Callable[[], Any],
    axes: Sequence[Described] = (),
) -> Signal:
    """Signal whose images lie along `image_axes` (y, x) of the array that `load()` gives; None if it holds none.

    `axes` are those of the array, each with what is to be noted on it, as `calibrated_axis` gives them.
    """
    shape = tuple(int(n) for n in shape)
    others = [n for i, n in enumerate(shape) if i not in (image_axes or ())]
    described = tuple(axis for axis, _ in axes)
    if image_axes is None or sum(n > 1 for n in others) > 1:
        return Signal(index, title, shape, str(dtype), "other", 0, (), no_image, described)
    y, x = image_axes

    def frame(i: int) -> NDArray[Any]:
        place = iter(np.unravel_index(i, others) if others else ())
        selection = tuple(slice(None) if axis in (y, x) else int(next(place)) for axis in range(len(shape)))
        plane = np.asarray(load()[selection])
        return plane if y < x else plane.T

    n_frames = math.prod(others)
    kind = "stack" if n_frames > 1 else "image"
    plane = (shape[y], shape[x])
    size, notes = image_calibration([axes[y], axes[x]] if axes else ())
    return Signal(
        index, title, shape, str(dtype), kind, n_frames, plane, frame, described, pixel_size=size, notes=notes
    )


def no_image(_: int) -> NDArray[Any]:
    """``Signal.frame`` of a data set without images."""
    raise ImageReadError("this data set holds no image")
