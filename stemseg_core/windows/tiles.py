"""Window features, tile by tile: shared row transforms, transforms of windows, modulus and scale.

A tile is a rectangle of the window grid that fits the cache. All windows of a column strip share the transforms of
their image rows, so a reader that goes down a strip makes every row transform once. The transform of a row has the same
bits whichever others are made with it, and so has a window whichever tile was read before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from stemseg_core._kernels import strips as strip_kernels
from stemseg_core._kernels import windows as window_kernels
from stemseg_core.system.types import Array
from stemseg_core.windows.images import Frames
from stemseg_core.windows.plan import WindowPlan
from stemseg_core.windows.transforms import Source, aligned


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

    n_frames: int
    windows: tuple[int, int]
    tile: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Frames, and windows of the grid down and across."""
        return self.n_frames, *self.windows

    @property
    def counts(self) -> tuple[int, int, int]:
        """Frames, strips, tiles in a strip."""
        (ny, nx), (by, bx) = self.windows, self.tile
        return self.n_frames, -(-nx // bx), -(-ny // by)

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, i: int) -> Tile:
        (ny, nx), (by, bx) = self.windows, self.tile
        _, strips, rows = self.counts
        strip, row = divmod(i, rows)
        frame, strip = divmod(strip, strips)
        return Tile(frame, row * by, min((row + 1) * by, ny), strip * bx, min((strip + 1) * bx, nx))


@dataclass
class _Strip:
    """Memory for the tiles of a column strip of a frame, and the transforms of the image rows at hand.

    Attributes
    ----------
    frame, x0 : int
        Which strip.
    rows : ndarray of shape (2, r, ld)
        Real and imaginary parts of the transforms of image rows, kx = 0..hx of each window.
    sums : ndarray of shape (r, n)
        Sums of the pixels of each window in each image row.
    totals : ndarray
        Scratch of the sums of windows.
    shift : ndarray of shape (down, n)
        What to subtract from every pixel of a window: its mean, or the offset that is to be put back.
    x_scratch, y_scratch
        Of the transforms along x and y.
    first, last : int
        Image rows ``[first, last)`` whose transforms are in `rows`, from its start on.
    """

    frame: int
    x0: int
    rows: Array
    sums: Array
    totals: Array
    shift: Array
    x_scratch: tuple[Array, ...]
    y_scratch: tuple[Array, ...]
    first: int
    last: int


class TileReader:
    """Computes the features of tiles; one a thread: it keeps scratch memory and the row transforms of a strip.

    Parameters
    ----------
    plan : WindowPlan
    frames : Frames
    tile_shape : (int, int)
        Windows of a whole tile, (down, across).
    out : ndarray of shape (t, ny, nx, d), optional
        Where the features of the whole grid are to be written. Default: memory of one tile.
    """

    def __init__(self, plan: WindowPlan, frames: Frames, tile_shape: tuple[int, int], out: Array | None = None) -> None:
        self.plan, self.frames, self.tile_shape, self.out = plan, frames, tile_shape, out
        hx, lanes = plan.half_plane.hx, window_kernels.WIDEST_LANES
        spectrum = np.outer(plan.axis_y.taper_spectrum, plan.axis_x.taper_spectrum[hx:])
        padded = (hx // lanes + 2) * lanes  # any kx starts a whole vector
        self.taper_spectrum = aligned((2, len(spectrum), padded), plan.dtype)
        self.taper_spectrum[:, :, : hx + 1] = spectrum.real, spectrum.imag
        n_windows = math.prod(tile_shape) if out is None else 0
        self.memory = np.empty(n_windows * plan.half_plane.n_features, plan.dtype)
        self.strip: _Strip | None = None

    def __call__(self, tile: Tile) -> Array:
        """Features of all windows of a tile, (y1 - y0, x1 - x0, d); without `out` valid until the next call."""
        plan, gain = self.plan, self.frames.gain
        strip = self._transform_rows(tile)
        first = tile.y0 * plan.step[0] - strip.first
        m, n = tile.y1 - tile.y0, tile.x1 - tile.x0
        if self.out is None:
            out = self.memory[: m * n * plan.half_plane.n_features].reshape(m, n, -1)
        else:
            out = self.out[tile.frame, tile.y0 : tile.y1, tile.x0 : tile.x1]
        shift = strip.shift[:m]
        if plan.detrend is not None:
            strip_kernels.window_means_block(strip.sums, first, plan.step[0], *plan.window, strip.totals, shift)
        weight = math.sqrt(2)
        # Roots of moduli and powers come from the kernel, the other scales from its powers.
        exponent = {"sqrt": 0.5, "power": 2.0}.get(plan.scale)
        factor, zero = (1.0, 1.0) if exponent is None else (weight * gain**exponent, 1 / weight)
        source = Source(
            rows=strip.rows,
            first=first,
            step=plan.step[0],
            shift=shift,
            taper_spectrum=self.taper_spectrum,
            reach=plan.axis_y.reach,
            hx=plan.half_plane.hx,
            roots=plan.scale == "sqrt",
            factor=factor,
            zero=zero,
        )
        plan.along_y(source, out, strip.y_scratch)
        if exponent is None:
            window_kernels.finish_block(out, plan.scale, gain, weight, plan.half_plane.zero)
        return out

    def _start_strip(self, tile: Tile) -> _Strip:
        """Memory for a strip, and no image row of it yet."""
        plan, frames = self.plan, self.frames
        n, down = tile.x1 - tile.x0, self.tile_shape[0]
        height = (down - 1) * plan.step[0] + plan.window[0]
        # Room for a vector more at the end of each row; an odd number of vectors, so that neighbours in a column do
        # not fall into the same few sets of the cache.
        lanes = window_kernels.WIDEST_LANES
        vectors = -(-n * (plan.half_plane.hx + 1) // lanes) + 1 | 1
        shape = (2, height + lanes, vectors * lanes)
        reusable = None if self.strip is None or self.strip.rows.shape != shape else self.strip.rows
        begin = tile.y0 * plan.step[0]
        return _Strip(
            frame=tile.frame,
            x0=tile.x0,
            rows=aligned(shape, plan.dtype) if reusable is None else reusable,
            sums=np.empty((shape[1], n)),
            totals=np.empty((height + 1, n)),
            shift=np.full((down, n), -frames.offset[tile.frame] / frames.gain, plan.dtype),
            x_scratch=plan.along_x.scratch((n - 1) * plan.step[1] + plan.window[1], n),
            y_scratch=plan.along_y.scratch(shape[2], down),
            first=begin,
            last=begin,
        )

    def _transform_rows(self, tile: Tile) -> _Strip:
        """The strip of a tile with the transforms of all image rows of the tile.

        In few calls: whenever one lets go of the interpreter, another thread may take it, and it takes some 20 us to
        get it back.
        """
        plan, strip = self.plan, self.strip
        begin = tile.y0 * plan.step[0]
        end = (tile.y1 - 1) * plan.step[0] + plan.window[0]
        if strip is None or (strip.frame, strip.x0) != (tile.frame, tile.x0) or not strip.first <= begin <= strip.last:
            strip = self.strip = self._start_strip(tile)
        if end > strip.last:
            if begin > strip.first:
                strip_kernels.move_rows_block(strip.rows, strip.sums, begin - strip.first, strip.last - begin)
                strip.first = begin
            # Image rows are transformed a vector of them at a time.
            n_vectors = -(-(end - strip.last) // window_kernels.WIDEST_LANES)
            stop = min(strip.last + n_vectors * window_kernels.WIDEST_LANES, self.frames.image.shape[1])
            columns = slice(tile.x0 * plan.step[1], (tile.x1 - 1) * plan.step[1] + plan.window[1])
            pixels = self.frames.pixels(tile.frame, slice(strip.last, stop), columns, plan.dtype)
            plan.along_x(pixels, strip.last - strip.first, strip.rows, strip.sums, strip.x_scratch)
            strip.last = stop
        return strip
