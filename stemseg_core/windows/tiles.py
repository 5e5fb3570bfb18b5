"""Window features, tile by tile: shared row transforms, transforms of windows, modulus and scale.

A tile is a rectangle of the window grid that fits the cache. All windows of a column strip share the transforms of
their image rows, so a reader that goes down a strip makes every row transform once. The transform of a row has the same
bits whichever others are made with it, and so has a window whichever tile was read before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core._kernels import windows as kernels
from stemseg_core.windows.transforms import VECTOR_LANES, Source, aligned

if TYPE_CHECKING:
    from stemseg_core.windows.windows import WindowMatrix

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
        return math.prod(self.counts)

    def __getitem__(self, i: int) -> Tile:
        (ny, nx), (by, bx) = self.windows, self.tile
        _, strips, rows = self.counts
        strip, row = divmod(i, rows)
        frame, strip = divmod(strip, strips)
        return Tile(frame, row * by, min((row + 1) * by, ny), strip * bx, min((strip + 1) * bx, nx))


class TileReader:
    """Reads the tiles of a `WindowMatrix`; one a thread: it keeps scratch memory and the row transforms of a strip."""

    def __init__(self, matrix: WindowMatrix, out: NDArray[Any] | None = None) -> None:
        """`out`, of shape (frames, ny, nx, d): where the tiles of a whole matrix are to be written."""
        self.matrix = matrix
        taper_spectrum = np.outer(matrix.axis_y.taper_spectrum, matrix.axis_x.taper_spectrum[matrix.hx :])
        padded = (matrix.hx // VECTOR_LANES + 2) * VECTOR_LANES  # any kx starts a whole vector
        self.taper_spectrum = aligned((2, len(taper_spectrum), padded), matrix.dtype)
        self.taper_spectrum[:, :, : matrix.hx + 1] = taper_spectrum.real, taper_spectrum.imag
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
        first = self._transform_rows(tile)
        m, n = tile.y1 - tile.y0, tile.x1 - tile.x0
        if self.out is None:
            out = self.memory[: m * n * matrix.shape[1]].reshape(m, n, -1)
        else:
            out = self.out[tile.frame, tile.y0 : tile.y1, tile.x0 : tile.x1]
        (wy, wx), step = matrix.window, matrix.step[0]
        shift = self.shift[:m]
        if matrix.detrend is not None:
            kernels.window_means_block(self.sums, first, step, wy, wx, self.totals, shift)
        weight = math.sqrt(2)
        # Roots of moduli and powers come from the kernel, the other scales from its powers.
        exponent = {"sqrt": 0.5, "power": 2.0}.get(matrix.scale)
        factor, zero = (1.0, 1.0) if exponent is None else (weight * matrix.gain**exponent, 1 / weight)
        source = Source(
            rows=self.rows,
            first=first,
            step=step,
            shift=shift,
            taper_spectrum=self.taper_spectrum,
            reach=matrix.axis_y.reach,
            hx=matrix.hx,
            roots=matrix.scale == "sqrt",
            factor=factor,
            zero=zero,
        )
        matrix.along_y(source, out, self.y_scratch)
        if exponent is None:
            kernels.finish_block(out, matrix.scale, matrix.gain, weight, matrix.hy * matrix.hx)
        return out

    def _start_strip(self, tile: Tile) -> None:
        """Memory for a strip, and no row of it yet."""
        matrix = self.matrix
        n, down = tile.x1 - tile.x0, matrix.tile_shape[0]
        self.strip = (tile.frame, tile.x0)
        self.first = self.last = tile.y0 * matrix.step[0]
        height = (down - 1) * matrix.step[0] + matrix.window[0]
        # Room for a vector more at the end of each row; an odd number of vectors, so that neighbours in a column do
        # not fall into the same few sets of the cache.
        vectors = -(-n * (matrix.hx + 1) // VECTOR_LANES) + 1 | 1
        shape = (2, height + VECTOR_LANES, vectors * VECTOR_LANES)
        if self.rows.shape != shape:
            self.rows = aligned(shape, matrix.dtype)
        self.sums, self.totals = np.empty((shape[1], n)), np.empty((height + 1, n))
        # What to subtract from every pixel of a window: its mean, or the offset that is to be put back.
        self.shift = np.full((down, n), -matrix.offset[tile.frame] / matrix.gain, matrix.dtype)
        self.x_scratch = matrix.along_x.scratch((n - 1) * matrix.step[1] + matrix.window[1], n)
        self.y_scratch = matrix.along_y.scratch(shape[2], down)

    def _transform_rows(self, tile: Tile) -> int:
        """Where in `rows`, (2, row, kx of each window), the transforms of the image rows of a tile begin.

        In few calls: whenever one lets go of the interpreter, another thread may take it, and it takes some 20 us to
        get it back.
        """
        matrix = self.matrix
        begin = tile.y0 * matrix.step[0]
        end = (tile.y1 - 1) * matrix.step[0] + matrix.window[0]
        if self.strip != (tile.frame, tile.x0) or not self.first <= begin <= self.last:
            self._start_strip(tile)
        if end > self.last:
            if begin > self.first:
                kernels.move_rows_block(self.rows, self.sums, begin - self.first, self.last - begin)
                self.first = begin
            # Image rows are transformed a vector of them at a time.
            stop = min(self.last + -(-(end - self.last) // VECTOR_LANES) * VECTOR_LANES, matrix.image.shape[1])
            left = tile.x0 * matrix.step[1]
            right = (tile.x1 - 1) * matrix.step[1] + matrix.window[1]
            pixels = matrix.pixels(tile.frame, slice(self.last, stop), slice(left, right))
            matrix.along_x(pixels, self.last - self.first, self.rows, self.sums, self.x_scratch)
            self.last = stop
        return begin - self.first
