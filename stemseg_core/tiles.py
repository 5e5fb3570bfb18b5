"""Window features, tile by tile: shared row transforms, pruned DFT, fused modulus and scale.

A tile is a rectangle of the window grid that fits the cache. All windows of a column strip share the transforms of
their image rows, so a reader that goes down a strip makes every row transform once; it makes them in pieces of
`PIECE` image rows at absolute positions, so that a window has the same bits whichever tile was read before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core._kernels import windows as kernels

if TYPE_CHECKING:
    from stemseg_core.windows import WindowMatrix

#: Image rows that are transformed at once.
PIECE = 64
#: Pieces of image rows that are multiplied at once: enough to use a factor often while it is in the first-level cache.
BATCH = 32
#: Columns along y that are folded and multiplied at once, in the first-level cache.
CHUNK = 64
#: Numbers by which rows of a right factor are padded: no vector is longer than 64 bytes.
VECTOR_LANES = 16
#: Columns of the products along y: real and imaginary parts of all kx of the windows of a strip.
STRIP_COLUMNS = 512


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


class PrunedDFT:
    """The frequencies 0..h of the DFT of tapered pieces of length w, by folding and two real matrix products.

    Parameters
    ----------
    taper : ndarray of shape (w,), float64
    h : int
        Highest frequency that is kept.
    dtype : dtype
        Of the products.

    Attributes
    ----------
    cos : ndarray of shape (h + 1, w // 2 + 1)
    sin : ndarray of shape (h + 1, (w - 1) // 2)
    uniform : ndarray of shape (2 h + 1,), complex
        DFT of the taper itself at the frequencies -h..h.
    """

    def __init__(self, taper: NDArray[np.float64], h: int, dtype: DTypeLike) -> None:
        w = len(taper)
        # The product u j is reduced modulo w in whole numbers: the angle is as exact for high u j as for low.
        angle = 2 * np.pi / w * (np.outer(np.arange(h + 1), np.arange(w // 2 + 1)) % w)
        self.taper = taper.astype(dtype)
        self.cos = np.cos(angle).astype(dtype)
        self.sin = np.ascontiguousarray(np.sin(angle)[:, 1 : (w - 1) // 2 + 1]).astype(dtype)
        turns = np.outer(np.arange(-h, h + 1), np.arange(w)) % w / w
        self.uniform = np.exp(-2j * np.pi * turns) @ taper


class TileReader:
    """Reads the tiles of a `WindowMatrix`; one a thread: it keeps scratch memory and the row transforms of a strip."""

    def __init__(self, matrix: WindowMatrix, out: NDArray[Any] | None = None) -> None:
        """`out`, of shape (frames, ny, nx, d): where the tiles of a whole matrix are to be written."""
        self.matrix = matrix
        self.along_y, self.along_x = matrix.along_y, matrix.along_x
        uniform = np.outer(self.along_y.uniform, self.along_x.uniform[matrix.hx :])
        self.uniform = np.stack([uniform.real, uniform.imag]).astype(matrix.dtype)
        padding = ((0, 0), (0, -(matrix.hx + 1) % VECTOR_LANES))
        self.cos_x = np.ascontiguousarray(np.pad(self.along_x.cos.T, padding))
        self.minus_sin_x = np.ascontiguousarray(np.pad(-self.along_x.sin.T, padding))
        down, across = matrix.tile_shape
        self.out = out
        self.memory = np.empty(0 if out is not None else down * across * matrix.shape[1], matrix.dtype)
        self.even = np.empty((self.along_y.cos.shape[1], CHUNK), matrix.dtype)
        self.odd = np.empty((self.along_y.sin.shape[1], CHUNK), matrix.dtype)
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
        matrix, dft = self.matrix, self.along_y
        self._transform_rows(tile)
        shape = (tile.y1 - tile.y0, tile.x1 - tile.x0, matrix.shape[1])
        if self.out is None:
            out = self.memory[: math.prod(shape)].reshape(shape)
        else:
            out = self.out[tile.frame, tile.y0 : tile.y1, tile.x0 : tile.x1]
        kernels.transform_windows_block(
            self.rows,
            tile.y0 * matrix.step[0] - self.first,
            matrix.step[0],
            dft.taper,
            dft.cos,
            dft.sin,
            self._shift(tile),
            self.uniform,
            self.even,
            self.odd,
            self.products,
            out,
        )
        kernels.scale_block(out, matrix.scale, matrix.gain, np.sqrt(2), matrix.hy * matrix.hx)
        return out

    def _transform_rows(self, tile: Tile) -> None:
        """Make sure that `rows` holds the transforms of all image rows of the tile: (row, window, 2, kx)."""
        matrix = self.matrix
        n = tile.x1 - tile.x0
        begin = tile.y0 * matrix.step[0] // PIECE * PIECE
        end = (tile.y1 - 1) * matrix.step[0] + matrix.window[0]
        if self.strip != (tile.frame, tile.x0) or not self.first <= begin <= self.last:
            self.strip = (tile.frame, tile.x0)
            self.first = self.last = begin
            capacity = 2 * PIECE + (matrix.tile_shape[0] - 1) * matrix.step[0] + matrix.window[0]
            self.rows = np.empty((capacity, n, 2, matrix.hx + 1), matrix.dtype)
            self.sums = np.empty((capacity, n))
            self.products = np.empty((2, matrix.hy + 1, self.rows[0].size), matrix.dtype)
        if begin > self.first:
            moved = slice(begin - self.first, self.last - self.first)
            keep = self.last - begin
            self.rows[:keep] = self.rows[moved].copy()
            self.sums[:keep] = self.sums[moved].copy()
            self.first = begin
        while self.last < end:
            stop = min(self.last + PIECE, matrix.image.shape[1])
            self._transform_piece(tile, slice(self.last, stop))
            self.last = stop

    def _transform_piece(self, tile: Tile, image_rows: slice) -> None:
        """Transforms and plain sums, over the window's width, of some image rows at every window of the strip."""
        matrix, dft = self.matrix, self.along_x
        wx, sx, n = matrix.window[1], matrix.step[1], tile.x1 - tile.x0
        left = tile.x0 * sx
        pixels = matrix.pixels(tile.frame, image_rows, slice(left, left + (n - 1) * sx + wx))
        batch = -(-BATCH // n)
        place = slice(image_rows.start - self.first, image_rows.stop - self.first)
        kernels.transform_rows_block(
            pixels,
            dft.taper,
            sx,
            self.cos_x,
            self.minus_sin_x,
            np.empty(pixels.shape[1] + 1 + wx, matrix.dtype),
            np.empty((batch * n, dft.cos.shape[1]), matrix.dtype),
            np.empty((batch * n, dft.sin.shape[1]), matrix.dtype),
            self.rows[place],
            self.sums[place],
        )

    def _shift(self, tile: Tile) -> NDArray[Any]:
        """What to subtract from every pixel of each window, (y1 - y0, x1 - x0): its mean, or the offset put back."""
        matrix = self.matrix
        (wy, wx), sy = matrix.window, matrix.step[0]
        m, n = tile.y1 - tile.y0, tile.x1 - tile.x0
        if matrix.detrend is None:
            return np.full((m, n), -matrix.offset[tile.frame] / matrix.gain, matrix.dtype)
        begin = tile.y0 * sy - self.first
        total = np.zeros(((m - 1) * sy + wy + 1, n))
        np.cumsum(self.sums[begin : begin + len(total) - 1], axis=0, out=total[1:])
        mean = (total[wy::sy] - total[:-wy:sy]) / (wy * wx)
        return mean.astype(matrix.dtype)
