"""Window features, tile by tile: shared row transforms, transforms of windows, modulus and scale.

A tile is a rectangle of the window grid that fits the cache. All windows of a column strip share the transforms of
their image rows, so a reader that goes down a strip makes every row transform once; it makes them in pieces of
`PIECE` image rows at absolute positions, so that a window has the same bits whichever tile was read before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core._kernels import windows as kernels
from stemseg_core.transforms import VECTOR_LANES, Source, aligned

if TYPE_CHECKING:
    from stemseg_core.windows import WindowMatrix

#: Image rows that are transformed at once.
PIECE = 64
#: Columns along y, kx = 0..hx of the windows of a strip: few, so that its transformed image rows stay in cache.
STRIP_COLUMNS = 256


@dataclass(frozen=True)
class Tile:
    """Windows ``[y0, y1) x [x0, x1)`` of the grid of one frame."""

    frame: int
    y0: int
    y1: int
    x0: int
    x1: int


@dataclass(frozen=True)
class TileGrid:
    """How the windows of a stack are cut into tiles: strip after strip, each from top to bottom."""

    frames: int
    windows: tuple[int, int]
    tile: tuple[int, int]

    @property
    def counts(self) -> tuple[int, int, int]:
        """Frames, strips, tiles in a strip."""
        (ny, nx), (by, bx) = self.windows, self.tile
        return self.frames, -(-nx // bx), -(-ny // by)

    def __len__(self) -> int:
        return int(np.prod(self.counts))

    def __getitem__(self, i: int) -> Tile:
        (ny, nx), (by, bx) = self.windows, self.tile
        frame, strip, row = (int(k) for k in np.unravel_index(i, self.counts))
        return Tile(frame, row * by, min((row + 1) * by, ny), strip * bx, min((strip + 1) * bx, nx))


class TileReader:
    """Reads the tiles of a `WindowMatrix`; one a thread: it keeps scratch memory and the row transforms of a strip."""

    def __init__(self, matrix: WindowMatrix, out: NDArray[Any] | None = None) -> None:
        """`out`, of shape (frames, ny, nx, d): where the tiles of a whole matrix are to be written."""
        self.matrix = matrix
        uniform = np.outer(matrix.axis_y.uniform, matrix.axis_x.uniform[matrix.hx :])
        padded = (matrix.hx // VECTOR_LANES + 2) * VECTOR_LANES  # any kx starts a whole vector
        self.uniform = aligned((2, len(uniform), padded), matrix.dtype)
        self.uniform[:, :, : matrix.hx + 1] = uniform.real, uniform.imag
        down, across = matrix.tile_shape
        self.out = out
        self.memory = np.empty(0 if out is not None else down * across * matrix.shape[1], matrix.dtype)
        self.rows: NDArray[Any] = np.empty((2, 0, 0), matrix.dtype)
        self.strip: tuple[int, int] | None = None
        self.first = self.last = 0  # image rows whose transforms are in `rows`

    def __call__(self, i: int) -> NDArray[Any]:
        """Features of the included windows of tile `i`, in grid order; valid until the next call."""
        matrix = self.matrix
        tile = matrix.tile(i)
        features = self.features(tile)
        if self.out is not None:
            return features
        features = features.reshape(-1, matrix.shape[1])
        if matrix.row_number is None:
            return features
        included = matrix.row_number[tile.frame, tile.y0 : tile.y1, tile.x0 : tile.x1] >= 0
        return features if included.all() else features[included.ravel()]

    def features(self, tile: Tile) -> NDArray[Any]:
        """Features of all windows of a tile, (y1 - y0, x1 - x0, d)."""
        matrix = self.matrix
        self._transform_rows(tile)
        shape = (tile.y1 - tile.y0, tile.x1 - tile.x0, matrix.shape[1])
        if self.out is None:
            out = self.memory[: math.prod(shape)].reshape(shape)
        else:
            out = self.out[tile.frame, tile.y0 : tile.y1, tile.x0 : tile.x1]
        weight = math.sqrt(2)
        # Roots of moduli and powers come from the kernel, the other scales from its powers.
        roots, finished = matrix.scale == "sqrt", matrix.scale in ("sqrt", "power")
        exponent = {"sqrt": 0.5, "power": 2.0}
        factor = weight * matrix.gain ** exponent[matrix.scale] if finished else 1.0
        first = tile.y0 * matrix.step[0] - self.first
        shift, reach = self._shift(tile, first), matrix.axis_y.reach
        source = Source(self.rows, first, matrix.step[0], shift, self.uniform, reach, matrix.hx, roots, factor)
        matrix.along_y(source, out, self.y_scratch)
        if not finished:
            kernels.finish_block(out, matrix.scale, matrix.gain, weight)
        out[..., matrix.hy * matrix.hx] /= weight
        return out

    def _start_strip(self, tile: Tile, begin: int) -> None:
        """Memory for a strip, and no row of it yet."""
        matrix = self.matrix
        n = tile.x1 - tile.x0
        self.strip = (tile.frame, tile.x0)
        self.first = self.last = begin
        capacity = 2 * PIECE + (matrix.tile_shape[0] - 1) * matrix.step[0] + matrix.window[0]
        # Room for a vector more at the end of each row; an odd number of vectors, so that neighbours in a column do
        # not fall into the same few sets of the cache.
        vectors = -(-n * (matrix.hx + 1) // VECTOR_LANES) + 1 | 1
        shape = (2, capacity, vectors * VECTOR_LANES)
        if self.rows.shape != shape:
            self.rows = aligned(shape, matrix.dtype)
        self.sums = np.empty((capacity, n))
        self.x_scratch = matrix.along_x.scratch((n - 1) * matrix.step[1] + matrix.window[1], n)
        self.y_scratch = matrix.along_y.scratch(shape[2], matrix.tile_shape[0])

    def _transform_rows(self, tile: Tile) -> None:
        """Make sure that `rows` holds the transforms of all image rows of the tile, (2, row, kx of each window)."""
        matrix = self.matrix
        begin = tile.y0 * matrix.step[0] // PIECE * PIECE
        end = (tile.y1 - 1) * matrix.step[0] + matrix.window[0]
        if self.strip != (tile.frame, tile.x0) or not self.first <= begin <= self.last:
            self._start_strip(tile, begin)
        if begin > self.first:
            # Piece by piece, as source and target would overlap, of which NumPy would make a copy.
            for array in (*self.rows, self.sums):
                for row in range(begin, self.last, PIECE):
                    array[row - begin : row - begin + PIECE] = array[row - self.first : row - self.first + PIECE]
            self.first = begin
        while self.last < end:
            stop = min(self.last + PIECE, matrix.image.shape[1])
            left = tile.x0 * matrix.step[1]
            right = (tile.x1 - 1) * matrix.step[1] + matrix.window[1]
            pixels = matrix.pixels(tile.frame, slice(self.last, stop), slice(left, right))
            matrix.along_x(pixels, self.last - self.first, self.rows, self.sums, self.x_scratch)
            self.last = stop

    def _shift(self, tile: Tile, first: int) -> NDArray[Any]:
        """What to subtract from every pixel of each window, (y1 - y0, x1 - x0): its mean, or the offset put back."""
        matrix = self.matrix
        (wy, wx), sy = matrix.window, matrix.step[0]
        m, n = tile.y1 - tile.y0, tile.x1 - tile.x0
        if matrix.detrend is None:
            return np.full((m, n), -matrix.offset[tile.frame] / matrix.gain, matrix.dtype)
        total = np.zeros(((m - 1) * sy + wy + 1, n))
        np.cumsum(self.sums[first : first + len(total) - 1], axis=0, out=total[1:])
        mean = (total[wy::sy] - total[:-wy:sy]) / (wy * wx)
        return mean.astype(matrix.dtype)
