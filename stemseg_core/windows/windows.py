"""Sliding-window Fourier features of an image, as a virtual matrix: one row a window, one column a frequency."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.signal import get_window
from sklearn.base import BaseEstimator

from stemseg_core.rows.base import check_whole
from stemseg_core.rows.sources import BLOCK_BYTES, Rows
from stemseg_core.rows.transitional import run
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.memory import require_memory
from stemseg_core.system.threads import Progress
from stemseg_core.windows import transforms
from stemseg_core.windows.axes import Axis
from stemseg_core.windows.images import check_image, first_bad_pixels, pair
from stemseg_core.windows.tiles import STRIP_COLUMNS, Tile, TileGrid, TileReader

SCALES = ("abs", "sqrt", "log1p", "power")


class NoWindowError(ValueError):
    """Every window touches an excluded pixel."""


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
    n_jobs : int, optional
        Threads, as in joblib; None: all CPUs that this process may use.
    max_memory : int or str, optional
        Limit for `transform`, in bytes or as "4 GB"; default: a share of what is free.
    progress : callable, optional
        ``progress(done, total, stage)``; returning False stops.

    Notes
    -----
    Cost: windows of one column strip share the transforms of their image rows, and only the kept frequencies are
    made: by Fourier transforms of many columns at once, by sums that neighbouring windows share (small steps), or by
    matrix products (small windows, lengths with prime factors above 5), whichever a model of their costs finds
    fastest (`stemseg_core.windows.transforms`). With float32 and AVX-512 one core takes about 0.4 us a window of 64
    px at step 1, 0.7 at step 8; windows of 256 px at step 64 take 28. The ways agree to rounding, that of a float32
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
        max_memory: int | str | None = None,
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
        window, step = self._check_parameters()
        image, mask = check_image(image, mask)
        if any(w > n for w, n in zip(window, image.shape[-2:], strict=True)):
            raise ParameterError(
                f"window {window[0]} x {window[1]} px is larger than the image, "
                f"{image.shape[-2]} x {image.shape[-1]} px; choose a smaller window",
                window=window,
            )
        return WindowMatrix(self, window, step, image, mask)

    def transform(self, image: ArrayLike, mask: ArrayLike | None = None) -> NDArray[Any]:
        """The features of `image` as an array of shape (n, d); parameters and errors as for `matrix`.

        Raises
        ------
        MemoryError
            The array would need more than `max_memory`. `matrix` makes rows on demand instead.
        """
        matrix = self.matrix(image, mask)
        n, d = matrix.shape
        require_memory(
            n * d * matrix.dtype.itemsize,
            self.max_memory,
            f"the array of {n} windows x {d} features",
            "pass WindowFFT(...).matrix(image) to the next stage, or take a larger step or zoom",
        )
        return matrix.to_array(n_jobs=self.n_jobs, progress=self.progress)

    def _check_parameters(self) -> tuple[tuple[int, int], tuple[int, int]]:
        window = pair("window", self.window)
        step = tuple(max(1, w // 4) for w in window) if self.step is None else pair("step", self.step)
        check_whole(zoom=self.zoom)
        for name, choices in (("scale", SCALES), ("detrend", ("constant", None)), ("invalid", ("raise", "exclude"))):
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise ParameterError(f"`{name}` must be one of {choices}, got {value!r}", **{name: value})
        if np.dtype(self.dtype) not in (np.float32, np.float64):
            raise ParameterError(f"`dtype` must be float32 or float64, got {self.dtype!r}", dtype=self.dtype)
        return window, (step[0], step[1])

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
    ky, kx : ndarray of shape (2 hy + 1,), (2 hx + 1,)
        Frequencies of the full plane, cycles per pixel.
    """

    def __init__(
        self,
        settings: WindowFFT,
        window: tuple[int, int],
        step: tuple[int, int],
        image: NDArray[Any],
        mask: NDArray[np.bool_] | None,
    ) -> None:
        self.window, self.step = window, step
        self.scale, self.detrend = settings.scale, settings.detrend
        self.dtype: np.dtype[Any] = np.dtype(settings.dtype)
        self.hy, self.hx = ((w - 1) // (2 * settings.zoom) for w in window)
        self.axis_y, self.axis_x = (
            Axis(settings._taper(w), h, s, self.dtype) for w, h, s in zip(window, (self.hy, self.hx), step, strict=True)
        )
        self.along_y = transforms.fastest(transforms.WINDOW_TRANSFORMS, self.axis_y, self.hx + 1)
        self.along_x = transforms.fastest(transforms.ROW_TRANSFORMS, self.axis_x)

        ny, nx = ((n - w) // s + 1 for n, w, s in zip(image.shape[-2:], window, step, strict=True))
        self.grid_shape: tuple[int, ...] = (*image.shape[:-2], ny, nx)
        self.image = image.reshape(-1, *image.shape[-2:])
        self.mask = None if mask is None else np.broadcast_to(mask, image.shape).reshape(self.image.shape)
        self._survey_pixels(settings.invalid)
        self.included = self._included().reshape(self.grid_shape)
        number = np.cumsum(self.included.ravel()).reshape(len(self.image), ny, nx) - 1
        self.row_number = None if self.included.all() else np.where(self.included.reshape(number.shape), number, -1)

        self.shape = (int(self.included.sum()), ((2 * self.hy + 1) * (2 * self.hx + 1) + 1) // 2)
        if not self.shape[0]:
            raise NoWindowError(
                "no window is left: every window touches an excluded pixel; use a smaller window or a smaller mask"
            )
        self.tiles = TileGrid(len(self.image), (ny, nx), self._tile(ny, nx))
        self._blocks = self._tiles_with_rows()

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        (n, d), grid = self.shape, " x ".join(map(str, self.grid_shape))
        (wy, wx), (sy, sx) = self.window, self.step
        return f"WindowMatrix({n} x {d} {self.dtype}: {grid} windows of {wy} x {wx} px, step {sy} x {sx} px)"

    def _survey_pixels(self, invalid: str) -> None:
        """One look at every pixel: refuse or exclude what is not finite, and find offset and gain of each frame.

        Features are computed from (pixel - offset) / gain. The offset keeps float32 exact on images with a high
        background; the gain, a power of two, keeps squares in range for pixels of any unit.
        """
        self.offset = np.zeros(len(self.image))
        spread = 0.0
        for f, frame in enumerate(self.image):
            low, high = frame.min(), frame.max()
            if frame.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
                self._exclude_bad_pixels(f, invalid)
            if self.mask is not None and self.mask[f].any():
                valid = frame[~self.mask[f]]
                low, high = (valid.min(), valid.max()) if valid.size else (0, 0)
            self.offset[f] = self._typical_pixel(f)
            spread = max(spread, float(high) - self.offset[f], self.offset[f] - float(low))
        self.gain = float(2.0 ** np.ceil(np.log2(spread))) if 0 < spread < np.inf else 1.0
        with np.errstate(over="ignore"):
            largest = np.float64(self.gain) * np.abs(self.axis_y.taper).sum() * np.abs(self.axis_x.taper).sum()
            largest = {"abs": largest, "power": largest**2}.get(self.scale, 0.0)
        if not largest < np.finfo(self.dtype).max:
            raise ParameterError(
                f"`image` has values up to {spread:.1e} from its mean, with which features of `scale=` may "
                f"overflow {self.dtype}; divide the image, or use `scale='sqrt'` or a larger dtype",
                image=spread,
                scale=self.scale,
            )

    def _typical_pixel(self, f: int) -> float:
        """Mean of some 256 x 256 evenly spread pixels, as float32 so that it is exact in either dtype.

        Copied to one layout and type first: the order of a sum, and with it the bits of every feature, must not depend
        on how the image is stored.
        """
        every = tuple(slice(None, None, -(-n // 256)) for n in self.image.shape[1:])
        sample = np.array(self.image[f][every], dtype=np.float64, order="C")
        if self.mask is not None:
            sample = sample[~self.mask[f][every]]
        mean = float(sample.mean()) if sample.size else 0.0
        return float(np.float32(mean)) if abs(mean) < np.finfo(np.float32).max else mean

    def _exclude_bad_pixels(self, f: int, invalid: str) -> None:
        """Refuse frame `f`, or mask the pixels that are not finite; those already masked do not count."""
        frame = self.image[f]
        bad = ~np.isfinite(frame)
        if self.mask is not None:
            bad &= ~self.mask[f]
        if not bad.any():
            return
        if invalid == "raise":
            where = "" if len(self.image) == 1 else f" of frame {f}"
            raise ParameterError(
                f"`image` has {first_bad_pixels(frame, bad)}{where}; mend them, mask them, or pass `invalid=`",
                image=int(bad.sum()),
                invalid="exclude",
            )
        self.mask = np.zeros(self.image.shape, bool) if self.mask is None else self.mask.copy()
        self.mask[f] |= bad

    def _included(self) -> NDArray[np.bool_]:
        """Windows that touch no excluded pixel, (frames, ny, nx)."""
        ny, nx = self.grid_shape[-2:]
        if self.mask is None:
            return np.ones((len(self.image), ny, nx), bool)
        included = np.empty((len(self.image), ny, nx), bool)
        (wy, wx), (sy, sx) = self.window, self.step
        for mask, result in zip(self.mask, included, strict=True):
            total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
            mask.cumsum(axis=0, dtype=np.int64, out=total[1:, 1:]).cumsum(axis=1, out=total[1:, 1:])
            top, bottom = total[:-wy:sy], total[wy::sy]
            result[:] = (bottom[:, wx::sx] - bottom[:, :-wx:sx] - top[:, wx::sx] + top[:, :-wx:sx]) == 0
        return included

    def _tiles_with_rows(self) -> NDArray[np.intp]:
        """Numbers of the tiles that have an included window."""
        if self.row_number is None:
            return np.arange(len(self.tiles))
        keep = (
            self.row_number[t.frame, t.y0 : t.y1, t.x0 : t.x1].max() >= 0
            for t in map(self.tiles.__getitem__, range(len(self.tiles)))
        )
        return np.flatnonzero(np.fromiter(keep, bool, len(self.tiles)))

    def _tile(self, ny: int, nx: int) -> tuple[int, int]:
        """Windows of a tile, (down, across): about `BLOCK_BYTES`, as many down as the transform wants or a multiple."""
        most, down = max(1, BLOCK_BYTES // (self.shape[1] * self.dtype.itemsize)), self.along_y.down
        across = min(nx, max(1, min(STRIP_COLUMNS // (self.hx + 1), most // min(ny, down))))
        return min(ny, max(1, most // across // down) * down), across

    # The row source (see blocks.py).

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Windows (down, across) in a whole tile."""
        return self.tiles.tile

    @property
    def n_blocks(self) -> int:
        return len(self._blocks)

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

    def reader(self) -> TileReader:
        return TileReader(self)

    def pixels(self, frame: int, rows: slice, columns: slice) -> NDArray[Any]:
        """A piece of a frame as (pixel - offset) / gain in the dtype of the features, excluded pixels as 0."""
        piece = self.image[frame, rows, columns]
        work = np.result_type(piece.dtype, self.dtype if self.gain < 2.0**126 else np.float64)
        scaled = np.subtract(piece, self.offset[frame], dtype=work)
        scaled /= work.type(self.gain)
        if self.mask is not None:
            scaled[self.mask[frame, rows, columns]] = 0
        return np.ascontiguousarray(scaled, dtype=self.dtype)

    # What users ask for.

    def to_array(self, *, n_jobs: int | None = None, progress: Progress | None = None) -> NDArray[Any]:
        """All rows, shape (n, d); memory n d items."""
        out = np.empty(self.shape, self.dtype)
        options: dict[str, Any] = {"n_jobs": n_jobs, "progress": progress, "stage": "WindowFFT"}
        if self.row_number is None:
            run(_nothing, _InPlace(self, out), **options)
        else:
            run(_rows_as_they_are, self, out=(out,), **options)
        return out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a WindowMatrix has no array to share: its rows are computed; use copy=None or True")
        return self.to_array().astype(dtype or self.dtype, copy=False)

    def rows(self, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
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
    def ky(self) -> NDArray[np.float64]:
        return np.arange(-self.hy, self.hy + 1) / self.window[0]

    @property
    def kx(self) -> NDArray[np.float64]:
        return np.arange(-self.hx, self.hx + 1) / self.window[1]

    def to_image(self, v: ArrayLike) -> NDArray[Any]:
        """Feature vectors (.., d) as centred full planes (.., 2 hy + 1, 2 hx + 1), without the weights."""
        v = np.asarray(v)
        if v.shape[-1:] != (self.shape[1],):
            raise ValueError(f"v must have {self.shape[1]} features on its last axis, got shape {v.shape}")
        plane = np.empty((2 * self.hy + 1, 2 * self.hx + 1), np.intp)
        plane[self._half_plane] = np.arange(self.shape[1])
        # The other half by F(-k) = conj F(k); at kx = 0 it is the column itself, turned over.
        plane[: self.hy, self.hx] = plane[: self.hy : -1, self.hx]
        plane[:, : self.hx] = plane[::-1, : self.hx : -1]
        weight = np.full(self.shape[1], np.sqrt(2))
        weight[self.hy * self.hx] = 1
        return (v / weight.astype(v.dtype if v.dtype.kind == "f" else float))[..., plane]

    def from_image(self, planes: NDArray[Any]) -> NDArray[Any]:
        """The half of centred full planes (.., 2 hy + 1, 2 hx + 1) that features stand for, (.., d), no weights."""
        return planes[..., self._half_plane]

    @cached_property
    def _half_plane(self) -> NDArray[np.bool_]:
        """Places of the features in the full plane, in their order."""
        ky, kx = np.mgrid[-self.hy : self.hy + 1, -self.hx : self.hx + 1]
        return (kx > 0) | ((kx == 0) & (ky >= 0))


class _InPlace(Rows):
    """The tiles of a matrix without exclusions, written where they belong in an array as they are read."""

    def __init__(self, matrix: WindowMatrix, out: NDArray[Any]) -> None:
        self.matrix = matrix
        self.out = out.reshape(matrix.tiles.frames, *matrix.tiles.windows, matrix.shape[1])
        self.shape, self.dtype, self.n_blocks = matrix.shape, matrix.dtype, matrix.n_blocks

    def index(self, i: int) -> NDArray[np.intp]:
        return self.matrix.index(i)

    def reader(self) -> TileReader:
        return TileReader(self.matrix, self.out)


def _nothing(block: NDArray[Any]) -> tuple[None, None]:
    return None, None


def _rows_as_they_are(block: NDArray[Any]) -> tuple[tuple[NDArray[Any]], None]:
    return (block,), None
