"""What a file holds, in one form for every format: data sets with calibrated axes, whose values are read on demand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Axis, Described, image_calibration, is_pattern
from stemseg_core.io.kinds import Layout
from stemseg_core.system.errors import Message

#: Most bytes that are read at once of many frames. Twice as much: chunks that hold many frames are read less often.
BLOCK_BYTES = 64e6
#: How much longer than the last axis of an array the two others are, if it is one of spectra and not of frames. Twice
#: as much: narrow stacks of strips remain stacks, and so do maps of more channels.
CHANNELS = 8
#: Notes on arrays without axes, whose last ones are taken for those of the signal.
UNNAMED_CUBE = "its axes are not named: the last is taken for that of spectra"
UNNAMED_SCAN = "its axes are not named: the last two are taken for those of patterns"
Shape: TypeAlias = Sequence[int]
#: Opens an array, lazily; closes its file at the end.
Open: TypeAlias = Callable[[], AbstractContextManager[Any]]


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
    kind : str
        What it is: "image", "colour", "stack" of images, "pattern", "cube", "scan", "spectra" or "other"; all but the
        second as in `Layout`.
    n_frames : int
        Frames (y, x) in it: images of a stack, channels of a cube, patterns of a scan; 0 if it has none.
    frame_shape : tuple of int
        (y, x) of one frame; () without.
    frame : callable
        ``frame(i)`` reads frame i, counted in the order of the array, as an array of shape (y, x) or, for "colour",
        (y, x, channels).
    axes : tuple of Axis
        Of the array as stored, without colour channels; () if the file says nothing of them.
    pixel_size : tuple of float or None
        (y, x) of an image, in `units`.
    units : str
        "nm", whatever length the file uses.
    notes : tuple of str
        What a user should know about how it is read.
    image_axes : tuple of int or None
        Which axes of the array are (y, x) of a frame.
    open : callable or None
        Opens the array as stored, to be indexed piece by piece; a context manager, which closes the file. None where
        only frames can be read.
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
    image_axes: tuple[int, int] | None = None
    open: Open | None = field(default=None, repr=False)

    @property
    def stack_shape(self) -> tuple[int, ...]:
        """Sizes of the axes along which its frames are counted."""
        if self.image_axes is None:
            return (self.n_frames,)
        return tuple(n for i, n in enumerate(self.shape) if i not in self.image_axes and n > 1)

    def frames(self) -> Iterator[NDArray[Any]]:
        """All frames, one after another, from a file that is opened once and read in blocks along the first axis."""
        others = [i for i in range(len(self.shape)) if i not in (self.image_axes or ()) and self.shape[i] > 1]
        if self.open is None or self.image_axes is None or not others:
            yield from map(self.frame, range(self.n_frames))
            return
        first, n = others[0], self.shape[others[0]]
        with self.open() as array:
            step = max(1, int(BLOCK_BYTES * n / (math.prod(self.shape) * array.dtype.itemsize)))
            for start in range(0, n, step):
                part = tuple(slice(start, start + step) if i == first else slice(None) for i in range(len(self.shape)))
                block = _dense(array[part])
                shape = block.shape[: len(self.shape)]
                for i in range(self.n_frames * shape[first] // n):
                    yield plane_of(block, shape, self.image_axes, i)


def array_signal(index: int, title: str, shape: Shape, dtype: np.dtype[Any], opened: Open) -> Signal:
    """Describe an array without axes.

    2-D is an image, 3-D a stack, more a scan of patterns; axes of one point do not count. Up to four numbers along the
    last of three or four axes are not the side of an image but its channels: colours, if there are three or four of
    unsigned whole numbers, else frames. A last axis that is much shorter than the others, and the third beside two that
    are alike, is one of spectra.
    """
    sides = [i for i, n in enumerate(shape) if n > 1]
    sides = sides if len(sides) > 1 else list(range(len(shape)))[-2:]
    *_, a, b, c = (0, 0, 0, *(shape[i] for i in sides))
    kind = ("other", "spectra", "image", "stack", "scan")[min(len(sides), 4)]
    channels = len(sides) in (3, 4) and c <= 4 < min(a, b)
    kind = "stack" if channels else kind
    if channels and shape[-1] > 2 and dtype.kind == "u":
        layout = Layout("stack", (sides[-3], sides[-2]))
        colours = describe_signal(index, title, shape[:-1], dtype, layout=layout, opened=opened)
        return replace(colours, kind="colour" if colours.n_frames == 1 else "stack", open=None)
    cube = kind == "stack" and not channels and (a == b != c or CHANNELS * c <= min(a, b)) and min(a, b) > 4
    image_axes = (sides[-3], sides[-2]) if channels or cube else (sides[-2], sides[-1]) if len(shape) > 1 else None
    layout = Layout("cube" if cube else kind, image_axes)
    signal = describe_signal(index, title, shape, dtype, layout=layout, opened=opened)
    guess = (UNNAMED_CUBE,) if cube else ()
    return replace(signal, notes=(*signal.notes, *guess))


def describe_signal(
    index: int,
    title: str,
    shape: Shape,
    dtype: np.dtype[Any],
    *,
    layout: Layout,
    opened: Open,
    axes: Sequence[Described] = (),
) -> Signal:
    """Signal of an array.

    Parameters
    ----------
    index, title, shape, dtype, layout
    opened : callable
        As `Signal.open`; the array that it gives may have a last axis, or named fields, of colours, which `shape` does
        not have.
    axes : sequence of (Axis, note)
        One for each of `shape`, as `calibrated_axis` gives them; or none.
    """
    shape = tuple(int(n) for n in shape)
    described = tuple(axis for axis, _ in axes)
    colour = dtype.names is not None and set(dtype.names) <= set("RGBA")
    kind, image_axes = layout
    if (dtype.kind not in "biufc" and not colour) or 0 in shape:
        return Signal(index, title, shape, str(dtype), "other", 0, (), no_image, described)
    if image_axes is None or dtype.kind == "c":  # the arguments of complex numbers are no images
        return Signal(index, title, shape, str(dtype), kind, 0, (), no_image, described, open=opened)
    y, x = image_axes

    def frame(i: int) -> NDArray[Any]:
        with opened() as array:
            # a copy: the file is closed then
            return np.array(plane_of(array, shape, (y, x), i))

    n_frames = math.prod(n for i, n in enumerate(shape) if i not in image_axes)
    kind = "stack" if kind == "image" and n_frames > 1 else "image" if kind == "stack" and n_frames == 1 else kind
    kind = "colour" if colour and kind == "image" else kind
    size, notes = image_calibration([axes[y], axes[x]] if axes else ())
    if kind == "scan" and axes and is_pattern([described[y], described[x]]):
        notes = notes[:-1]  # that its frames are patterns is what a scan is
    size = None if kind in ("pattern", "scan") else size
    return Signal(
        index, title, shape, str(dtype), kind, n_frames, (shape[y], shape[x]), frame, described,
        size, "nm", notes, image_axes, opened,
    )  # fmt: skip


def plane_of(array: Any, shape: Shape, image_axes: tuple[int, int], i: int) -> NDArray[Any]:
    """Frame `i` of an array, (y, x), or (y, x, channels) of an array that has an axis more than `shape`."""
    y, x = image_axes
    others = [n for axis, n in enumerate(shape) if axis not in image_axes]
    place = iter(np.unravel_index(i, others) if others else ())
    selection = tuple(slice(None) if axis in image_axes else int(next(place)) for axis in range(len(shape)))
    plane = _dense(array[selection])
    return plane if y < x else np.swapaxes(plane, 0, 1)


def _dense(values: Any) -> NDArray[Any]:
    """Values of a piece of any array: lazy ones are computed, sparse ones filled up with zeros."""
    values = values.compute() if hasattr(values, "compute") else values
    return np.asarray(values.todense() if hasattr(values, "todense") else values)


def unreadable(index: int, title: str, error: Exception) -> Signal:
    """A data set that cannot be described: listed, with the reason, beside those that can."""
    reason = " ".join(str(error).split())[:200]
    note = f"cannot be read ({type(error).__name__}: {reason})"
    return Signal(index, title, (), "unknown", "other", 0, (), no_image, notes=(note,))


def named(path: Path, signals: Sequence[Signal], title: str) -> Signal:
    """The signal of that title; ImageReadError with the titles that there are if there is none."""
    found = next((s for s in signals if s.title == title), None)
    if found is None:
        there = ", ".join(s.title for s in signals[:10])
        raise ImageReadError(f"{path.name}: expected a data set {title!r} in it, there are {there or 'none'}")
    return found


def no_image(_: int) -> NDArray[Any]:
    """``Signal.frame`` of a data set without images."""
    raise ImageReadError("this data set holds no image")
