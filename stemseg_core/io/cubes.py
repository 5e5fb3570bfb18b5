"""One spectral cube or 4D scan of a file, with its axes, to be read piece by piece."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from stemseg_core.calibration.axes import Axis
from stemseg_core.cubes.cube import Cube
from stemseg_core.io.choice import in_words, others
from stemseg_core.io.kinds import is_spectral
from stemseg_core.io.readers import located, read_signals
from stemseg_core.io.signals import UNNAMED_CUBE, UNNAMED_SCAN, ImageReadError, Signal

#: Kinds of data sets that are taken where none is asked for, the first before the others.
CUBES = ("cube", "scan", "spectra", "pattern")


@dataclass(frozen=True, eq=False)
class CubeFile:
    """A cube of a file, while the file is open.

    Attributes
    ----------
    cube : Cube
        For `stemseg_core.unmix`.
    title, format : str
    signal : int
        Number of the data set.
    signals : tuple of Signal
        Everything the file holds.
    notes : tuple of str
        Which data set was taken, and what was not understood.
    """

    cube: Cube
    title: str
    format: str
    signal: int
    signals: tuple[Signal, ...] = field(repr=False)
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def open_cube(path: str | os.PathLike[str], signal: int | None = None) -> Iterator[CubeFile]:
    """Open a spectral cube or a 4D scan, whose values are read when they are needed.

    Parameters
    ----------
    path : str or path-like
        As in `read_image`.
    signal : int, optional
        Which data set of the file. Default: the largest cube or scan. An array without axes has the signal last: (y, x,
        channels), or (y, x, ky, kx).

    Yields
    ------
    CubeFile

    Raises
    ------
    ImageReadError
        If the file cannot be read, or holds no cube; the message says what it holds.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> from stemseg_core import unmix
    >>> from stemseg_core.io import open_cube
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "cube.npy"
    ...     np.save(path, np.random.default_rng(0).poisson(5.0, (8, 9, 40)))
    ...     with open_cube(path) as file:
    ...         result = unmix(file.cube, 2)
    >>> result.abundances.shape
    (2, 8, 9)
    """
    path, given = located(path)[0], path
    format_name, signals = read_signals(given)
    chosen = _chosen(path, signals, signal)
    map_axes, signal_axes = _sides(chosen)
    axes = chosen.axes or _unnamed(len(map_axes), len(signal_axes))
    if chosen.axes:
        axes = tuple(chosen.axes[i] for i in (*map_axes, *signal_axes))
    taken = others(chosen, [s for s in signals if s.kind in CUBES]) if signal is None else None
    guess = None if chosen.axes else UNNAMED_CUBE if len(signal_axes) == 1 else UNNAMED_SCAN
    notes = tuple(dict.fromkeys(note for note in (*chosen.notes, guess, taken) if note))
    assert chosen.open is not None
    with chosen.open() as array:
        cube = Cube.stored(array, map_axes, signal_axes, axes)
        yield CubeFile(cube, chosen.title, format_name, chosen.index, signals, notes)


def is_cube(signal: Signal) -> bool:
    """Whether a data set has a map and, at each of its places, a spectrum or a pattern."""
    return signal.open is not None and bool(_sides(signal)[0])


def sizes_of(signal: Signal) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Pixels of the map and channels of the signal of a data set, along each axis; ((), ()) if it has not both."""
    of_map, of_signal = (tuple(signal.shape[axis] for axis in side) for side in _sides(signal))
    return of_map, of_signal


def _chosen(path: Path, signals: Sequence[Signal], index: int | None) -> Signal:
    if index is None:
        found = [s for s in signals if s.kind in CUBES and is_cube(s)]
        found = found or [s for s in signals if is_cube(s)]
    else:
        found = [s for s in signals if s.index == index and is_cube(s)]
    if not found:
        which = "a cube or a scan" if index is None else "`signal=` to be a cube or a scan"
        raise ImageReadError(f"{path.name}: expected {which}, it holds {in_words(signals)}", signal=index)
    return max(found, key=lambda s: (-CUBES.index(s.kind) if s.kind in CUBES else -9, math.prod(s.shape), -s.index))


def _sides(signal: Signal) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which axes of a data set are those of the map and of the signal; ((), ()) if it has not both."""
    long = [i for i, n in enumerate(signal.shape) if n > 1]
    frame = signal.image_axes or ()
    rest = [i for i in long if i not in frame]
    if signal.kind in ("scan", "pattern"):
        of_map, of_signal = rest, list(frame)
    elif signal.kind == "cube" or (signal.kind == "spectra" and signal.axes):
        spectral = [i for i in long if is_spectral(signal.axes[i])] if signal.axes else []
        of_signal = [i for i in spectral if i not in frame][-1:] or rest[-1:]
        of_map = [i for i in rest if i not in of_signal] + list(frame)
    elif signal.kind in ("stack", "spectra") and not signal.axes and len(long) > 1:
        of_map, of_signal = long[:-1], long[-1:]
    else:
        of_map, of_signal = [], []
    return (tuple(of_map), tuple(of_signal)) if of_map and of_signal else ((), ())


def _unnamed(n_map: int, n_signal: int) -> tuple[Axis, ...]:
    """Axes of an array that comes without."""
    names = [f"axis {i}" for i in range(n_map - 3)] + ["z", "y", "x"][max(0, 3 - n_map) :]
    return tuple(map(Axis, (*names, *(("channel",) if n_signal == 1 else ("ky", "kx")))))
