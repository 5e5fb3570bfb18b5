"""USID (pyUSID, pycroscopy): HDF5 in which every data set is a matrix of positions by spectra, whatever its axes were.

Source: Universal Spectroscopy and Imaging Data, https://pycroscopy.github.io/USID/usid_model.html.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Axis, Described
from stemseg_core.io.containers import Container, text_of
from stemseg_core.io.kinds import layout
from stemseg_core.io.points import axis_of_points
from stemseg_core.io.signals import Signal, describe_signal, unreadable

#: Attributes that refer to the numbers and values of the axes behind rows and columns.
ANCILLARY = ("Position_Indices", "Position_Values", "Spectroscopic_Indices", "Spectroscopic_Values")


def usid_paths(file: Any) -> list[str]:
    """Names of the main data sets of an open HDF5 file; empty if it is no USID file."""
    found: list[str] = []

    def look(name: str, item: Any) -> None:
        if hasattr(item, "shape") and all(attribute in item.attrs for attribute in ANCILLARY):
            found.append(name)

    file.visititems(look)
    return found


def usid_signals(container: Container) -> list[Signal]:
    """Signals of a USID file, with the axes that its matrices had."""
    signals: list[Signal] = []
    with container() as file:
        for index, path in enumerate(usid_paths(file)):
            try:
                signals.append(_signal(index, path, file, container))
            except Exception as error:  # one bad data set does not sink the others
                signals.append(unreadable(index, path, error))
    return signals


def _signal(index: int, path: str, file: Any, container: Container) -> Signal:
    data = file[path]
    if data.ndim != 2:
        raise ValueError(f"expected a matrix of positions by spectra, got {data.ndim} axes")
    sides = [
        _side(*(file[data.attrs[f"{side}_{what}"]] for what in ("Indices", "Values")), transposed=side[0] == "S")
        for side in ("Position", "Spectroscopic")
    ]
    (rows, row_axes), (columns, column_axes) = sides
    if (math.prod(rows), math.prod(columns)) != data.shape:
        raise ValueError(f"its axes {(*rows, *columns)} do not make its shape {data.shape}")
    axes = [*row_axes, *column_axes]
    shape = (*rows, *columns)
    navigation = [n > 1 and i < len(rows) and math.prod(columns) > 1 for i, n in enumerate(shape)]
    kind = layout(shape, [axis for axis, _ in axes], navigation)

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        with container() as again:
            yield Folded(again[path], rows, columns)

    title = path if path.rpartition("/")[2] == "Raw_Data" else path.rpartition("/")[2]
    return describe_signal(index, title, shape, data.dtype, layout=kind, opened=opened, axes=axes)


def _side(indices: Any, values: Any, *, transposed: bool) -> tuple[tuple[int, ...], list[Described]]:
    """Shape and axes behind the rows or the columns of a matrix, slow ones first; ValueError if they are no grid."""
    names = [text_of(name) for name in np.atleast_1d(indices.attrs["labels"])]
    units = [text_of(unit) for unit in np.atleast_1d(values.attrs["units"])]
    numbers, points = np.asarray(indices), np.asarray(values)
    if not transposed:
        numbers, points = numbers.T, points.T
    changes = np.count_nonzero(np.diff(numbers.astype(np.int64), axis=1), axis=1)
    order = np.argsort(changes, kind="stable")
    shape = tuple(int(numbers[i].max()) + 1 for i in order)
    if math.prod(shape) != numbers.shape[1] or not np.array_equal(
        np.ravel_multi_index(tuple(numbers[i].astype(np.intp) for i in order), shape), np.arange(numbers.shape[1])
    ):
        raise ValueError(f"its positions ({', '.join(names)}) are no complete grid")
    steps = np.cumprod((1, *shape[:0:-1]))[::-1]  # columns from one point of an axis to the next
    axes = [
        axis_of_points(names[i], points[i][:: int(step)][:n], units[i]) if n > 1 else (Axis(names[i]), None)
        for i, n, step in zip(order, shape, steps, strict=True)
    ]
    return shape, axes


class Folded:
    """A matrix with the axes that its rows and columns stand for; reads what a selection spans.

    Parameters
    ----------
    matrix : array_like of shape (n, p)
    rows, columns : tuple of int
        Sizes of the axes behind them: their products are n and p.
    """

    def __init__(self, matrix: Any, rows: Sequence[int], columns: Sequence[int]) -> None:
        self.matrix, self.rows, self.columns = matrix, tuple(rows), tuple(columns)
        self.shape, self.dtype, self.ndim = (*rows, *columns), matrix.dtype, len(rows) + len(columns)

    def __getitem__(self, selection: Any) -> NDArray[Any]:
        chosen = selection if isinstance(selection, tuple) else (selection,)
        chosen = (*chosen, *[slice(None)] * (self.ndim - len(chosen)))
        n = len(self.rows)
        rows = np.arange(self.matrix.shape[0]).reshape(self.rows)[chosen[:n]]
        columns = np.arange(self.matrix.shape[1]).reshape(self.columns)[chosen[n:]]
        if not rows.size or not columns.size:
            return np.empty((*rows.shape, *columns.shape), self.dtype)
        first, left = int(rows.min()), int(columns.min())
        block = np.asarray(self.matrix[first : int(rows.max()) + 1, left : int(columns.max()) + 1])
        found: NDArray[Any] = block[(rows - first).reshape(-1, 1), (columns - left).reshape(1, -1)]
        return found.reshape((*rows.shape, *columns.shape))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[()], dtype)
