"""Pixels of a cube as rows of features, whatever the order of its axes and its storage; read block by block."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.sources import BLOCK_BYTES, BLOCK_ROWS, Rows, row_dtype
from stemseg_core.system.types import Array

#: Bytes of whole chunks of a compressed store that are kept for the blocks that follow. Twice as many: twice the
#: memory; too few for a row of chunks: each chunk is decompressed once for every line of pixels in it.
SLAB_BYTES = 32 << 20
#: Slabs that are kept, for threads that work at both sides of the border between two.
N_SLABS = 2
#: Whole numbers of this many bytes are exact in float32, and so are sums of up to `EXACT_SUMS` of them.
EXACT_BYTES = 2
EXACT_SUMS = 256


class PixelRows(Rows):
    """The pixels of a cube, in array order, as rows (n, d) of the channels that are used.

    Parameters
    ----------
    array : array-like of any number of axes
        An array, a memory map, or an HDF5, zarr or Dask array: has ``shape``, ``dtype`` and is sliced.
    map_axes, signal_axes : tuple of int
        Which of its axes are those of the map and of the signal, in the order in which they are counted. Others have
        one point.
    bins : tuple of int, optional
        How many neighbours are summed along each axis of `array`; what is left over at the end is left out.
    channels : ndarray of bool of the binned signal's shape, optional
        Which channels are features; at least one. Default: all.

    Notes
    -----
    Whole numbers of 8 and 16 bits are computed in float32, which holds them exactly.
    """

    def __init__(
        self,
        array: Any,
        map_axes: Sequence[int],
        signal_axes: Sequence[int],
        *,
        bins: Sequence[int] | None = None,
        channels: NDArray[np.bool_] | None = None,
    ) -> None:
        self.array = array
        self.map_axes, self.signal_axes = tuple(map_axes), tuple(signal_axes)
        self.bins = tuple(bins) if bins is not None else (1,) * len(array.shape)
        self.map_shape = tuple(int(array.shape[axis]) // self.bins[axis] for axis in self.map_axes)
        self.signal_shape = tuple(int(array.shape[axis]) // self.bins[axis] for axis in self.signal_axes)
        used = np.ones(self.signal_shape, bool) if channels is None else np.asarray(channels, bool)
        #: The smallest box of channels that holds all features: no others are read.
        self._box = box_of(used)
        self._features = None if used[self._box].all() else np.flatnonzero(used[self._box].ravel())
        self.shape = (math.prod(self.map_shape), int(used.sum()))
        self.dtype = _dtype(array.dtype, math.prod(self.bins))
        # Small whole numbers take less time to read and convert than what they become takes to read.
        self.quick = isinstance(array, np.ndarray) and array.dtype.itemsize <= EXACT_BYTES and max(self.bins) == 1
        row_bytes = max(1, self.shape[1] * self.dtype.itemsize)
        self.block_rows = min(BLOCK_ROWS, 1 << max(0, (BLOCK_BYTES // row_bytes).bit_length() - 1))
        self.n_blocks = -(-self.shape[0] // self.block_rows)
        self._slabs = _Slabs(self._read, self._slab_rows())

    @property
    def buffer_bytes(self) -> float:
        """Bytes of the slabs that are kept, with the one that is read."""
        return float((N_SLABS + 1) * self._slabs.n_rows * self.shape[1] * self.dtype.itemsize)

    def index(self, i: int) -> slice:
        return slice(i * self.block_rows, min((i + 1) * self.block_rows, self.shape[0]))

    def reader(self) -> Callable[[int], Array]:
        def read(i: int) -> Array:
            rows = self.index(i)
            return np.ascontiguousarray(self._slabs.rows(rows.start, rows.stop), self.dtype)

        return read

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows from `start` to `stop`, in the array's own type where nothing is summed."""
        pieces = [self._piece(box) for box in boxes(self.map_shape, start, stop)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _piece(self, box: Sequence[slice]) -> NDArray[Any]:
        """Rows of a box of the map."""
        wanted: list[slice] = [slice(None)] * len(self.array.shape)
        for axis, part in zip((*self.map_axes, *self.signal_axes), (*box, *self._box), strict=True):
            wanted[axis] = slice(part.start * self.bins[axis], part.stop * self.bins[axis])
        values = np.asarray(self.array[tuple(wanted)])
        for axis, n in enumerate(self.bins):
            if n > 1:
                shape = values.shape
                split = values.reshape(*shape[:axis], shape[axis] // n, n, *shape[axis + 1 :])
                values = split.sum(axis=axis + 1, dtype=self.dtype)
        n_rows = math.prod(values.shape[axis] for axis in self.map_axes)
        of_one_point = set(range(values.ndim)) - {*self.map_axes, *self.signal_axes}
        rows = values.transpose(*of_one_point, *self.map_axes, *self.signal_axes).reshape(n_rows, -1)
        return rows if self._features is None else rows[:, self._features]

    def _slab_rows(self) -> int:
        """Rows of the slabs that are read at once: whole chunks along the first axis of the map; 0 if that is free."""
        chunks = getattr(self.array, "chunks", None)
        if not chunks or isinstance(self.array, np.ndarray):
            return 0
        first = self.map_axes[0]
        chunk = chunks[first] if np.ndim(chunks[first]) == 0 else max(chunks[first])
        row = math.prod(self.map_shape[1:])
        lines = max(1, int(chunk) // self.bins[first])
        bytes_of_line = row * self.shape[1] * max(self.array.dtype.itemsize, 1)
        return lines * row if lines * bytes_of_line <= SLAB_BYTES else 0


class _Slabs:
    """Runs of rows that are read at once and kept while the blocks in them are taken."""

    def __init__(self, read: Callable[[int, int], NDArray[Any]], n_rows: int) -> None:
        self.read, self.n_rows = read, n_rows
        self.kept: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self.lock = threading.Lock()

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        if not self.n_rows:
            return self.read(start, stop)
        pieces = []
        for slab in range(start // self.n_rows, (stop - 1) // self.n_rows + 1):
            first = slab * self.n_rows
            pieces.append(self._slab(slab)[max(start - first, 0) : stop - first])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _slab(self, slab: int) -> NDArray[Any]:
        with self.lock:  # whoever waits finds it read
            if slab not in self.kept:
                while len(self.kept) >= N_SLABS:
                    self.kept.popitem(last=False)
                self.kept[slab] = self.read(slab * self.n_rows, (slab + 1) * self.n_rows)
            self.kept.move_to_end(slab)
            return self.kept[slab]

    def __getstate__(self) -> dict[str, Any]:
        return {"read": self.read, "n_rows": self.n_rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


def boxes(shape: Sequence[int], start: int, stop: int) -> Iterator[tuple[slice, ...]]:
    """Boxes of an array of that shape that hold its elements from `start` to `stop`, counted in array order."""
    start, stop = min(start, math.prod(shape)), min(stop, math.prod(shape))
    if len(shape) == 1:
        yield (slice(start, stop),)
        return
    inner = math.prod(shape[1:])
    (first, begin), (last, end) = divmod(start, inner), divmod(stop, inner)
    if first == last:
        yield from ((slice(first, first + 1), *box) for box in boxes(shape[1:], begin, end))
        return
    if begin:
        yield from ((slice(first, first + 1), *box) for box in boxes(shape[1:], begin, inner))
        first += 1
    if first < last:
        yield (slice(first, last), *(slice(0, n) for n in shape[1:]))
    if end:
        yield from ((slice(last, last + 1), *box) for box in boxes(shape[1:], 0, end))


def _dtype(dtype: np.dtype[Any], n_summed: int) -> np.dtype[Any]:
    exact = dtype.kind in "biu" and dtype.itemsize <= EXACT_BYTES and n_summed <= EXACT_SUMS
    return np.dtype(np.float32) if exact else row_dtype(dtype)


def box_of(used: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box of an array that holds all that is True; at least one is."""
    places = np.nonzero(used)
    return tuple(slice(int(place.min()), int(place.max()) + 1) for place in places)
