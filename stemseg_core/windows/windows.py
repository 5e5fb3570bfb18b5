"""Sliding-window Fourier features of an image, as a virtual matrix: one row a window, one column a frequency."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.signal import get_window
from sklearn.base import BaseEstimator

from stemseg_core.rows.base import check_whole
from stemseg_core.rows.sources import Rows
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution, tasks_of
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress
from stemseg_core.system.types import Array
from stemseg_core.windows.images import INVALID, Frames, pair
from stemseg_core.windows.plan import HalfPlane, WindowPlan
from stemseg_core.windows.tiles import Tile, TileGrid, TileReader

SCALES = ("abs", "sqrt", "log1p", "power")


class NoWindowError(ValueError):
    """Every window touches an excluded pixel."""


@shared_docs
class WindowFFT(BaseEstimator):
    """Modulus of the local Fourier transform: a window slides over an image, is tapered and transformed.

    Of each window: subtract its mean (`detrend`), multiply by the taper, DFT, modulus, scale, weight. The central
    1/zoom of the frequencies is kept, -h..h with h = (window - 1) // (2 zoom) on each axis; of these the half plane
    ky = -hy..hy, kx = 0..hx without ky < 0 at kx = 0, since ``|F|`` is even. Every feature is multiplied by sqrt(2),
    kx = ky = 0 by 1, so that norms, dot products, SVD and k-means are exactly those of the full plane.

    Parameters
    ----------
    window : int or (int, int), default=64
        Size in pixels, (y, x). Several lattice periods should fit.
    step : int or (int, int), optional
        Distance between neighbouring windows in pixels, (y, x). Default: a quarter of the window.
    taper : str, tuple, float or None, default="hann"
        Any window of `scipy.signal.get_window`, in its periodic form, along both axes; None: no taper.
    detrend : {"constant", None}, default="constant"
        "constant" subtracts each window's mean first.
    zoom : int, default=2
        Keep the central 1/zoom of the frequencies.
    scale : {"sqrt", "abs", "log1p", "power"}, default="sqrt"
        Feature from the modulus: its square root, itself, log(1 + .), its square.
    invalid : {"raise", "exclude"}, default="raise"
        What to do with NaN and infinity: refuse the image, or leave out the windows that they touch.
    dtype : {"float32", "float64"}, default="float32"
        Of the computation and the features.
    {execution}

    Notes
    -----
    Cost: windows of one column strip share the transforms of their image rows, and only the kept frequencies are
    made: by Fourier transforms of many columns at once, by sums that neighbouring windows share (small steps), or by
    matrix products (small windows, lengths with prime factors above 5), whichever a model of their costs finds
    fastest (`stemseg_core.windows.transforms`). With float32 and AVX-512 one core takes about 0.4 us a window of 64
    px at step 1, 0.7 at step 8; windows of 256 px at step 64 take 28. The results agree to the rounding of a float32
    FFT. Window and step may be anything; windows start at 0, step, 2 step, ... while they fit.

    The idea of unmixing sliding Fourier windows is that of Vasudevan et al., Appl. Phys. Lett. 106, 091601 (2015),
    https://doi.org/10.1063/1.4914016.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import WindowFFT
    >>> y, x = np.mgrid[:128, :160]
    >>> matrix = WindowFFT(window=32, step=8).matrix(np.cos(0.8 * x) + np.cos(0.7 * y))
    >>> matrix
    WindowMatrix(221 x 113 float32: 13 x 17 windows of 32 x 32 px, step 8 x 8 px)
    >>> np.asarray(matrix).shape
    (221, 113)
    """

    def __init__(
        self,
        window: int | Sequence[int] = 64,
        step: int | Sequence[int] | None = None,
        *,
        taper: str | tuple[Any, ...] | float | None = "hann",
        detrend: str | None = "constant",
        zoom: int = 2,
        scale: str = "sqrt",
        invalid: str = "raise",
        dtype: DTypeLike = "float32",
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.window = window
        self.step = step
        self.taper = taper
        self.detrend = detrend
        self.zoom = zoom
        self.scale = scale
        self.invalid = invalid
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    def matrix(self, image: ArrayLike, mask: ArrayLike | None = None) -> WindowMatrix:
        """The features of `image` as a virtual matrix: nothing is computed but a check of the pixels.

        Parameters
        ----------
        image : array-like of shape (y, x) or (t, y, x)
            Any real dtype and strides; a memory map is read piece by piece. Kept by reference, never changed.
        mask : array-like of bool of shape (y, x) or (t, y, x), optional
            True: excluded. Windows that touch an excluded pixel are not rows of the matrix. A `numpy.ma` image brings
            its own mask.

        Raises
        ------
        TypeError
            The image is complex or not numeric.
        ValueError
            A parameter or the shape is wrong, or pixels are NaN or infinite (with `invalid="raise"`).
        """
        plan = self._plan()
        return WindowMatrix(plan, Frames.survey(image, mask, self.invalid))

    def matrix_of(self, frames: Frames) -> WindowMatrix:
        """As `matrix`, of an image whose pixels have been looked at: for windows of several sizes over one image."""
        return WindowMatrix(self._plan(), frames)

    def transform(self, image: ArrayLike, mask: ArrayLike | None = None) -> Array:
        """The features of `image` as an array of shape (n, d); parameters and errors as for `matrix`.

        Raises
        ------
        MemoryError
            The array would need more than `max_memory`. `matrix` makes rows on demand instead.
        """
        matrix = self.matrix(image, mask)
        n, d = matrix.shape
        execution = self._execution
        execution.require(
            n * d * matrix.dtype.itemsize,
            f"the array of {n} windows x {d} features",
            "pass WindowFFT(...).matrix(image) to the next stage, or take a larger step or zoom",
        )
        return matrix.stored(execution)

    @property
    def _execution(self) -> Execution:
        return Execution.of(self.n_jobs, self.max_memory, self.progress, stage="WindowFFT")

    def _plan(self) -> WindowPlan:
        """What the parameters say, once they are checked."""
        window = pair("window", self.window)
        step = pair("step", self.step) if self.step is not None else (max(1, window[0] // 4), max(1, window[1] // 4))
        check_whole(zoom=self.zoom)
        for name, choices in (("scale", SCALES), ("detrend", ("constant", None)), ("invalid", INVALID)):
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise ParameterError(f"`{name}` must be one of {choices}, got {value!r}", **{name: value})
        dtype: np.dtype[Any] = np.dtype(self.dtype)
        if dtype not in (np.float32, np.float64):
            raise ParameterError(f"`dtype` must be float32 or float64, got {self.dtype!r}", dtype=self.dtype)
        return WindowPlan.of(
            HalfPlane(window, self.zoom),
            step,
            (self._taper(window[0]), self._taper(window[1])),
            scale=self.scale,
            detrend=self.detrend,
            dtype=dtype,
        )

    def _taper(self, size: int) -> NDArray[np.float64]:
        if self.taper is None:
            return np.ones(size)
        try:
            taper = np.asarray(get_window(self.taper, size), dtype=np.float64)
        except (ValueError, TypeError, IndexError) as error:
            raise ParameterError(
                f"`taper` must be a window of scipy.signal.get_window or None, got {self.taper!r}: {error}",
                taper=self.taper,
            ) from None
        if not (np.isfinite(taper).all() and taper.any()):
            raise ParameterError(
                f"`taper` must be finite and not all zero, got {self.taper!r}, which for {size} px is not",
                taper=self.taper,
            )
        return taper


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
        number = np.cumsum(included).reshape(included.shape) - 1
        #: Row of each window, -1 of those that are excluded; None if none is.
        self.row_number = None if included.all() else np.where(included, number, -1)
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
        """As `to_array`."""
        out = np.empty(self.shape, self.dtype)
        if self.row_number is None:
            self._write_tiles(out.reshape(*self.tiles.shape, self.shape[1]), execution)
        else:
            execution.run(_rows_as_they_are, self, out=(out,))
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


def _rows_as_they_are(block: Array) -> tuple[tuple[Array], None]:
    return (block,), None
