"""MATLAB's .mat files of all versions, of which 7.3 is HDF5: arrays as MATLAB shows them."""

from __future__ import annotations

import contextlib
import functools
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.arrays import LARGEST_COMPRESSION
from stemseg_core.io.containers import hdf5_container, members
from stemseg_core.io.kinds import Layout
from stemseg_core.io.mat5 import Variable, is_version_5, values, variables
from stemseg_core.io.plain import arrays_of
from stemseg_core.io.signals import ImageReadError, Signal, array_signal, describe_signal, unreadable
from stemseg_core.system.memory import require_memory

MAT_SUFFIX = ".mat"
#: Bytes of the largest file whose structures are looked into, for which they are read. Twice as many: describing such
#: a file takes as much longer.
LARGEST_OF_STRUCTURES = 200_000_000
#: Types of version 4 by their number. A fact of the format.
VERSION_4 = ("f8", "f4", "i4", "i2", "u2", "u1")


def mat_signals(path: Path) -> list[Signal]:
    """Signals of a .mat file of version 4 to 7: its arrays, and those in its structures, by their paths."""
    if not is_version_5(path):
        return _version_4(path)
    signals: list[Signal] = []
    for variable in variables(path, LARGEST_OF_STRUCTURES):
        if variable.kind != "numbers":
            signals.append(unreadable(len(signals), variable.path, TypeError(f"a {variable.kind} of MATLAB")))
        elif variable.nbytes > variable.place[1] * (LARGEST_COMPRESSION if variable.compressed else 1):
            raise ImageReadError(f"{path.name}: array {variable.path!r} promises more data than the file can hold")
        elif math.prod(variable.shape) > 1:
            dtype = np.dtype("c16" if variable.complex else variable.dtype)
            opened = functools.partial(_values, path, variable)
            signals.append(_signal(len(signals), variable.path, variable.shape, dtype, opened))
    return signals


@contextlib.contextmanager
def _values(path: Path, variable: Variable) -> Iterator[NDArray[Any]]:
    if variable.compressed or variable.dtype != variable.stored:
        needed = math.prod(variable.shape) * 8 + variable.nbytes
        require_memory(needed, None, f"{path.name}: array {variable.path}", "save it without compression: save -v6")
    yield values(path, variable)


def _version_4(path: Path) -> list[Signal]:
    """Signals of a file of version 4: for each array a header of five numbers, its name and its values."""
    signals: list[Signal] = []
    total, at = path.stat().st_size, 0
    with path.open("rb") as stream:
        while at + 20 <= total:
            stream.seek(at)
            head = stream.read(20)
            order = "<" if 0 <= struct.unpack("<i", head[:4])[0] < 1000 else ">"
            kind, rows, columns, imaginary, length = struct.unpack(f"{order}5i", head)
            thousands, precision, what = kind // 1000, kind // 10 % 10, kind % 10
            if thousands != (order == ">") or precision > 5 or min(rows, columns) < 0 or not 0 < length <= total:
                raise ValueError(f"there is no header of an array at byte {at}")
            dtype = np.dtype(order + VERSION_4[precision])
            name = stream.read(length).rstrip(b"\x00").decode("latin-1")
            start, shape = at + 20 + length, (rows, columns)
            at = start + rows * columns * dtype.itemsize * (2 if imaginary else 1)
            if at > total:
                raise ValueError(f"array {name} is longer than the file")
            if what == 0 and not imaginary and rows * columns > 1:
                opened = functools.partial(_mapped, path, dtype, start, shape)
                signals.append(_signal(len(signals), name, shape, dtype, opened))
    return signals


def _mapped(path: Path, dtype: np.dtype[Any], start: int, shape: tuple[int, int]) -> AbstractContextManager[Any]:
    return contextlib.nullcontext(np.memmap(path, dtype, "r", start, shape, "F"))


def is_mat(file: Any) -> bool:
    """Whether an open HDF5 file is a .mat file of version 7.3."""
    return any("MATLAB_class" in item.attrs for item in members(file))


def mat73_signals(path: Path) -> list[Signal]:
    """Signals of a .mat file of version 7.3, which is HDF5: its arrays have their axes in reversed order there."""
    container = hdf5_container(path)
    signals: list[Signal] = []

    @contextlib.contextmanager
    def opened(name: str) -> Iterator[Any]:
        with container() as file:
            yield Reversed(file[name])

    with container() as file:
        for name, array in arrays_of(file).items():
            if name.startswith("#refs#") or array.dtype.kind not in "biufc" or "MATLAB_empty" in array.attrs:
                continue
            signals.append(_signal(len(signals), name, array.shape[::-1], array.dtype, functools.partial(opened, name)))
    return signals


def _signal(index: int, name: str, shape: Sequence[int], dtype: np.dtype[Any], opened: Any) -> Signal:
    """Signal of an array of MATLAB, where what leads from one image to the next is the last axis."""
    if len(shape) == 3 and shape[2] > 4:
        cube = shape[2] > max(shape[:2])
        signal = describe_signal(
            index, name, shape, dtype, layout=Layout("cube" if cube else "stack", (0, 1)), opened=opened
        )
        what = "spectra run" if cube else "frames are counted"
        return replace(signal, notes=(*signal.notes, f"{what} along the last axis, as is usual in MATLAB"))
    if len(shape) == 2 and min(shape) == 1:  # MATLAB has no arrays of fewer than two axes
        return describe_signal(index, name, shape, dtype, layout=Layout("spectra", None), opened=opened)
    return array_signal(index, name, shape, dtype, opened)


class Reversed:
    """An array with its axes in reversed order; reads what is asked for."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.dtype, self.ndim = array, array.shape[::-1], array.dtype, len(array.shape)

    def __getitem__(self, selection: Any) -> NDArray[Any]:
        chosen = selection if isinstance(selection, tuple) else (selection,)
        chosen = (*chosen, *[slice(None)] * (self.ndim - len(chosen)))
        return np.asarray(self.array[chosen[::-1]]).T

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[()], dtype)
