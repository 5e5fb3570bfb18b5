"""The virtual matrix of window features: one row a window, one column a frequency."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from stemseg_core.rows.blocks import stored
from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution, tasks_of
from stemseg_core.system.threads import Progress
from stemseg_core.system.types import Array
from stemseg_core.windows.images import Frames
from stemseg_core.windows.plan import HalfPlane, WindowPlan
from stemseg_core.windows.tiles import Tile, TileGrid, TileReader


class NoWindowError(ValueError):
    """Every window touches an excluded pixel."""


class WindowMatrix(Rows):
    """The matrix of window features, virtual: rows are computed when asked for and never stored.

    Made by `WindowFFT.matrix`. Every stage takes it in place of an array; ``np.asarray(matrix)`` computes all of it.

    Attributes
    ----------
    shape : (n, d)
        Included windows, features.
    dtype : dtype
    grid_shape : (ny, nx) or (t, ny, nx)
        The grid of all windows.
    included : ndarray of bool of shape grid_shape
        Which windows are rows.
    window, step : (int, int)
        In pixels, (y, x).
    ky, kx : ndarray of shape (2 hy + 1,), (2 hx + 1,)
        Frequencies of the full plane, cycles per pixel.
    plan : WindowPlan
    frames : Frames
    """

    def __init__(self, plan: WindowPlan, frames: Frames) -> None:
        plan.check(frames)
        included = frames.included(plan.window, plan.step)
        n_frames, ny, nx = included.shape
        self.plan, self.frames = plan, frames
        self.window, self.step, self.dtype = plan.window, plan.step, plan.dtype
        self.grid_shape: tuple[int, ...] = (*frames.stack, ny, nx)
        self.included = included.reshape(self.grid_shape)
        self.shape = (int(included.sum()), plan.half_plane.n_features)
        if not self.shape[0]:
            raise NoWindowError(
                "no window is left: every window touches an excluded pixel; use a smaller window or a smaller mask"
            )
        #: Row of each window, -1 of those that are excluded; None if none is.
        self.row_number: NDArray[np.intp] | None = None
        if not included.all():
            self.row_number = np.where(included, np.cumsum(included).reshape(included.shape) - 1, -1)
        self.tiles = TileGrid(n_frames, (ny, nx), plan.tile((ny, nx)))
        self._blocks = _tiles_with_rows(self.tiles, included)
        self.n_blocks = len(self._blocks)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        (n, d), grid = self.shape, " x ".join(map(str, self.grid_shape))
        (wy, wx), (sy, sx) = self.window, self.step
        return f"WindowMatrix({n} x {d} {self.dtype}: {grid} windows of {wy} x {wx} px, step {sy} x {sx} px)"

    @property
    def image(self) -> Array:
        """The pixels of all frames, (t, y, x)."""
        return self.frames.image

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """The excluded pixels of all frames, (t, y, x)."""
        return self.frames.mask

    # The row source.

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Windows (down, across) in a whole tile."""
        return self.tiles.tile

    def tile(self, i: int) -> Tile:
        """The tile of block `i`."""
        return self.tiles[int(self._blocks[i])]

    def index(self, i: int) -> NDArray[np.intp]:
        """Row numbers of block `i`."""
        t = self.tile(i)
        ny, nx = self.grid_shape[-2:]
        if self.row_number is None:
            first = (t.frame * ny + np.arange(t.y0, t.y1)) * nx
            return (first[:, None] + np.arange(t.x0, t.x1)).ravel()
        rows = self.row_number[t.frame, t.y0 : t.y1, t.x0 : t.x1].ravel()
        return rows[rows >= 0]

    def reader(self) -> Callable[[int], Array]:
        read = TileReader(self.plan, self.frames, self.tile_shape)

        def read_rows(i: int) -> Array:
            tile = self.tile(i)
            features = read(tile).reshape(-1, self.shape[1])
            if self.row_number is None:
                return features
            included = self.row_number[tile.frame, tile.y0 : tile.y1, tile.x0 : tile.x1] >= 0
            return features if included.all() else features[included.ravel()]

        return read_rows

    # What users ask for.

    def to_array(self, *, n_jobs: int | None = None, progress: Progress | None = None) -> Array:
        """All rows, shape (n, d); memory n d items."""
        return self.stored(Execution.of(n_jobs, None, progress, stage="WindowFFT"))

    def stored(self, execution: Execution) -> Array:
        """As `to_array`, for callers that have an `Execution`."""
        if self.row_number is not None:
            return stored(self, execution)
        out = np.empty(self.shape, self.dtype)
        self._write_tiles(out.reshape(*self.tiles.shape, self.shape[1]), execution)
        return out

    def _write_tiles(self, out: Array, execution: Execution) -> None:
        """Compute all tiles where they belong in `out` (t, ny, nx, d), without a copy.

        Each thread has one reader, and a task is a run of tiles: neighbours in a strip share transforms of image rows.
        """
        stop = threading.Event()
        thread = threading.local()

        def write(blocks: range) -> None:
            if not hasattr(thread, "read"):
                thread.read = TileReader(self.plan, self.frames, self.tile_shape, out)
            for i in blocks:
                if stop.is_set():
                    return
                thread.read(self.tile(i))

        tasks = [(blocks,) for blocks in tasks_of(self, execution.n_threads)]
        execution.map(write, tasks, stage=execution.stage, stop=stop)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a WindowMatrix has no array to share: its rows are computed; use copy=None or True")
        return self.to_array().astype(dtype or self.dtype, copy=False)

    def rows(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Rows ``start:stop``, with the same bits in whatever pieces they are asked for.

        The tiles that hold these rows are computed whole: ask for many rows at a time, or use the matrix as it is as
        input of a stage.
        """
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        shape = (max(0, stop - start), self.shape[1])
        if out is None:
            out = np.empty(shape, self.dtype)
        elif out.shape != shape or out.dtype != self.dtype:
            raise ValueError(
                f"out must have shape {shape} and dtype {self.dtype} for rows {start}:{stop}, "
                f"got {out.shape} and {out.dtype}"
            )
        if start < stop:
            read = self.reader()
            for i in self._blocks_of_rows(start, stop):
                index = self.index(i)
                wanted = (start <= index) & (index < stop)
                if wanted.any():
                    out[index[wanted] - start] = read(i)[wanted]
        return out

    def _blocks_of_rows(self, start: int, stop: int) -> NDArray[np.intp]:
        """Numbers of the blocks whose tiles can hold rows ``start:stop``."""
        ny, nx = self.grid_shape[-2:]
        ends = (
            [start, stop - 1]
            if self.row_number is None
            else np.searchsorted(np.cumsum(self.included.ravel()), [start + 1, stop])
        )
        (first_frame, first_y), (last_frame, last_y) = ((p // (ny * nx), p // nx % ny) for p in ends)
        down = self.tile_shape[0]
        frame, _, row = np.unravel_index(self._blocks, self.tiles.counts)
        position = frame * self.tiles.counts[2] + row
        first = first_frame * self.tiles.counts[2] + first_y // down
        last = last_frame * self.tiles.counts[2] + last_y // down
        return np.flatnonzero((first <= position) & (position <= last))

    @cached_property
    def centers(self) -> NDArray[np.float64]:
        """Window centres of the rows in pixel coordinates (y, x), shape (n, 2), grid order."""
        axes = [
            np.arange(n) * s + (w - 1) / 2 for n, s, w in zip(self.grid_shape[-2:], self.step, self.window, strict=True)
        ]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        return np.broadcast_to(grid, (*self.grid_shape, 2))[self.included]

    @property
    def half_plane(self) -> HalfPlane:
        """Which frequencies the features are of."""
        return self.plan.half_plane

    @property
    def hy(self) -> int:
        """Highest frequency along y, cycles a window."""
        return self.half_plane.hy

    @property
    def hx(self) -> int:
        """Highest frequency along x, cycles a window."""
        return self.half_plane.hx

    @property
    def ky(self) -> NDArray[np.float64]:
        return self.half_plane.ky

    @property
    def kx(self) -> NDArray[np.float64]:
        return self.half_plane.kx

    def to_image(self, v: ArrayLike) -> Array:
        """Feature vectors (.., d) as centred full planes (.., 2 hy + 1, 2 hx + 1), without the weights."""
        return self.half_plane.to_image(v)

    def from_image(self, planes: Array) -> Array:
        """What full planes (.., 2 hy + 1, 2 hx + 1) hold at the features, (.., d), without weights."""
        return self.half_plane.from_image(planes)


def _tiles_with_rows(tiles: TileGrid, included: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Numbers of the tiles that have an included window."""
    if included.all():
        return np.arange(len(tiles))
    kept = (included[t.frame, t.y0 : t.y1, t.x0 : t.x1].any() for t in map(tiles.__getitem__, range(len(tiles))))
    return np.flatnonzero(np.fromiter(kept, bool, len(tiles)))
