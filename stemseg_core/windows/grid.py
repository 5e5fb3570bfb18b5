"""Values on the grid of windows: maps, smoothing and noise of rows, and the labels of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from stemseg_core.rows.transitional import map_tasks, tell
from stemseg_core.system.threads import Progress
from stemseg_core.windows.windows import WindowMatrix

Array = NDArray[Any]

#: Directions whose noise is below this share of the largest are not amplified further by whitening.
NOISE_FLOOR = 1e-6
#: Columns of rows that are smoothed at once, as planes beside the rows, and places of a plane that are at once.
SMOOTHED_COLUMNS, SMOOTHED_PLACES = 4, 64
#: Rows of a grid or an image that are worked on at once, and of a grid whose neighbours are compared at once.
GRID_ROWS, PAIR_ROWS = 64, 8
#: Rows that are whitened at once.
BLOCK_ROWS = 8192


class Grid:
    """The grid of windows of one image: rows of arrays to maps and back.

    Parameters
    ----------
    included : ndarray of bool of shape (ny, nx)
        Which windows are rows, in grid order.
    window, step : (int, int)
        In pixels, (y, x).
    """

    def __init__(self, included: NDArray[np.bool_], window: tuple[int, int], step: tuple[int, int]) -> None:
        self.included, self.window, self.step = included, window, step

        self.full = bool(included.all())
        self._rows_above = np.concatenate([[0], np.cumsum(included.sum(axis=1))])

    @classmethod
    def of(cls, matrix: WindowMatrix) -> Self:
        """The grid that the windows of one image lie on."""
        return cls(matrix.included, matrix.window, matrix.step)

    def to_map(self, rows: NDArray[Any], fill: Any = np.nan) -> NDArray[Any]:
        """Rows (n, ..) as a map (ny, nx, ..), `fill` where a window is excluded; a view if there are none."""
        if self.full:
            return rows.reshape(*self.included.shape, *rows.shape[1:])
        full = np.full((*self.included.shape, *rows.shape[1:]), fill, rows.dtype)
        full[self.included] = rows
        return full

    def to_planes(self, rows: Array, fill: float = np.nan) -> Array:
        """Rows (n, c) as planes (c, ny, nx), `fill` where a window is excluded; made in strips of the grid."""
        planes = np.empty((rows.shape[1], *self.included.shape), rows.dtype)
        for strip in _strips(len(self.included)):
            self._fill(planes, rows, strip, fill)
        return planes

    def rows_of(self, strip: slice) -> slice:
        """Numbers of the rows that the included windows of some rows of the grid are."""
        return slice(self._rows_above[strip.start], self._rows_above[strip.stop])

    def _fill(self, planes: Array, rows: Array, strip: slice, fill: float) -> None:
        """Put what `rows` (n, c) say of a strip of the grid into `planes` (c, ny, nx)."""
        block, target = rows[self.rows_of(strip)], planes[:, strip]
        if self.full:
            target[:] = block.T.reshape(target.shape)
        else:
            target[:] = fill
            target[:, self.included[strip]] = block.T

    def _take(self, planes: Array, rows: Array, strip: slice) -> None:
        """The reverse of `_fill`."""
        block, source = rows[self.rows_of(strip)], planes[:, strip]
        block[:] = (source.reshape(len(source), -1) if self.full else source[:, self.included[strip]]).T

    def smooth(
        self, rows: Array, sigma: float, *, n_jobs: int | None = None, progress: Progress | None = None
    ) -> Array:
        """Gaussian mean over neighbouring windows of each column, in place; excluded windows do not count.

        Parameters
        ----------
        rows : ndarray of shape (n, c)
            Replaced by the means, and returned.
        sigma : float
            In pixels.
        n_jobs, progress
            See `stemseg_core.rows.transitional.run`; the unit of progress is some columns.

        Notes
        -----
        A mean along an axis is a product with a banded matrix, which BLAS does in dense pieces 10 times faster than
        a convolution runs. Memory: `SMOOTHED_COLUMNS` planes of the grid, a strip of them for each thread.
        """
        spread = [sigma / s for s in self.step]
        if not max(spread):
            return rows
        along = [_gaussian_pieces(n, s, rows.dtype) for n, s in zip(self.included.shape, spread, strict=True)]
        strips = _strips(len(self.included))
        weight = None
        if not self.full:
            weight = self.included[np.newaxis].astype(rows.dtype)
            _smooth_planes(weight, along, n_jobs)
            weight[0][~self.included] = 1
        n_columns = rows.shape[1]
        for start in range(0, n_columns, SMOOTHED_COLUMNS):
            part = rows[:, start : start + SMOOTHED_COLUMNS]
            planes = np.empty((part.shape[1], *self.included.shape), rows.dtype)
            map_tasks(self._fill, [(planes, part, strip, 0.0) for strip in strips], n_jobs)
            _smooth_planes(planes, along, n_jobs)
            if weight is not None:
                planes /= weight
            map_tasks(self._take, [(planes, part, strip) for strip in strips], n_jobs)
            done = min(n_columns, start + SMOOTHED_COLUMNS)
            tell(progress, done, n_columns, "smooth")
        return rows

    def thinned(self, rows: Array, n_rows: int) -> Array:
        """About `n_rows` of the rows (n, c), of windows in every m-th row and column of the grid; all if m is 1."""
        every = thinning(len(rows), n_rows)
        if every == 1:
            return rows
        chosen = [
            rows[self._rows_above[y] + np.flatnonzero(np.flatnonzero(self.included[y]) % every == every // 2)]
            for y in range(every // 2, len(self.included), every)
        ]
        return np.concatenate(chosen)

    def thin(self, n_rows: int) -> Grid:
        """The grid of the windows that `thinned` takes."""
        every = thinning(int(self._rows_above[-1]), n_rows)
        included = self.included[every // 2 :: every, every // 2 :: every]
        return Grid(included, self.window, (every * self.step[0], every * self.step[1]))

    def noise_covariance(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Covariance (r, r) of the noise of rows (n, r): half that of the differences between neighbouring windows."""
        covariance, count = np.zeros((rows.shape[1], rows.shape[1])), 0
        for own_strip in _strips(len(self.included), PAIR_ROWS):
            # One more row of the grid: a pair belongs to the strip of its upper window.
            strip = slice(own_strip.start, min(own_strip.stop + 1, len(self.included)))
            included = self.included[strip]
            block = np.zeros((*included.shape, rows.shape[1]), rows.dtype)
            block[included] = rows[self.rows_of(strip)]
            own = own_strip.stop - own_strip.start
            for ahead, behind in (
                (np.s_[1:], np.s_[:-1]),
                (np.s_[:own, 1:], np.s_[:own, :-1]),
            ):
                both = included[ahead] & included[behind]
                difference = (block[ahead] - block[behind])[both].astype(np.float64)
                covariance += difference.T @ difference
                count += len(difference)
        return covariance / (2 * max(count, 1))

    def centers(self) -> NDArray[np.float64]:
        """Centres of all windows in pixel coordinates, (ny * nx, 2), y before x, in grid order."""
        y, x = (
            np.arange(n) * s + (w - 1) / 2 for n, w, s in zip(self.included.shape, self.window, self.step, strict=True)
        )
        centers = np.empty((*self.included.shape, 2))
        centers[..., 0], centers[..., 1] = y[:, np.newaxis], x
        return centers.reshape(-1, 2)

    def at_centers(self, pixels: Array) -> Array:
        """Values of an image (y, x) in the pixels at, or before, the centres of all windows, (ny, nx)."""
        y, x = (
            np.arange(n) * s + (w - 1) // 2 for n, w, s in zip(self.included.shape, self.window, self.step, strict=True)
        )
        values: Array = pixels[np.ix_(y, x)]
        return values

    def label_image(
        self, memberships: NDArray[Any], shape: tuple[int, int], *, n_jobs: int | None = None
    ) -> NDArray[np.int32]:
        """Phase of each pixel (y, x) from memberships (n, k): interpolated, then the largest; -1 where there are none.

        Interpolation is linear between the centres of included windows and constant outside the outermost ones. What
        is then left of the pixels that an included window covers takes the phase of the nearest pixel that has one.
        """
        along_y, along_x = (
            _interpolation(n, w, s, size)
            for n, w, s, size in zip(self.included.shape, self.window, self.step, shape, strict=True)
        )
        labels = np.full(shape, -1, np.int32)
        tasks = [(memberships, labels[strip], [a[strip] for a in along_y], along_x) for strip in _strips(shape[0])]
        map_tasks(self._label_strip, tasks, n_jobs)
        if not self.full:
            left = (labels < 0) & self._covered(shape)
            nearest = distance_transform_edt(labels < 0, return_distances=False, return_indices=True)
            labels[left] = labels[tuple(nearest[:, left])]
        return labels

    def _label_strip(
        self, memberships: Array, labels: Array, along_y: Sequence[Array], along_x: Sequence[Array]
    ) -> None:
        """Labels of some rows of the image, at `along_y` of the grid."""
        top, bottom, weight = along_y
        strip = slice(int(top.min()), int(bottom.max()) + 1)
        height = strip.stop - strip.start
        rows = memberships[self.rows_of(strip)]
        best = np.zeros(labels.shape, np.float32)
        plane = np.zeros((height, self.included.shape[1]), np.float32)
        for phase in range(memberships.shape[1]):
            plane[self.included[strip]] = rows[:, phase]
            value = between(plane, 0, top - strip.start, bottom - strip.start, weight[:, np.newaxis])
            value = between(value, 1, *along_x)
            better = value > best
            np.copyto(labels, phase, where=better)
            np.copyto(best, value, where=better)

    def _covered(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels (y, x) that an included window covers."""
        steps = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
        corners = [slice(0, (n - 1) * s + 1, s) for n, s in zip(self.included.shape, self.step, strict=True)]
        for y, x, sign in ((0, 0, 1), (self.window[0], 0, -1), (0, self.window[1], -1), (*self.window, 1)):
            steps[y:, x:][corners[0], corners[1]] += sign * self.included.astype(np.int32)
        steps.cumsum(axis=0, out=steps).cumsum(axis=1, out=steps)
        return steps[:-1, :-1] > 0


def thinning(n: int, n_rows: int) -> int:
    """Every which row and column of a grid with n windows leaves about `n_rows` of them, or somewhat more."""
    return max(1, int(np.sqrt(n / n_rows)))


def _strips(n: int, size: int = GRID_ROWS) -> list[slice]:
    """Places 0 to n - 1 along the first axis in strips of `size`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _gaussian_pieces(n: int, sigma: float, dtype: Any) -> list[tuple[slice, slice, Array]]:
    """Gaussian mean along an axis of n places: ``out[:, to] = in[:, of] @ weights`` for each (to, of, weights).

    The kernel is that of `scipy.ndimage.gaussian_filter1d` with ``mode="nearest"``: four sigma to either side, the
    outermost places standing for what is beyond them; no wider than the axis makes a difference.
    """
    radius = min(int(4 * sigma + 0.5), 1000 + 4 * n)
    ways = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (ways / sigma) ** 2) if radius else np.ones(1)
    kernel /= kernel.sum()
    pieces = []
    for start in range(0, n, SMOOTHED_PLACES):
        to = slice(start, min(start + SMOOTHED_PLACES, n))
        of = slice(max(0, to.start - radius), min(n, to.stop + radius))
        weights = np.zeros((of.stop - of.start, to.stop - to.start))
        for column, place in enumerate(range(to.start, to.stop)):
            np.add.at(weights[:, column], np.clip(place + ways, 0, n - 1) - of.start, kernel)
        pieces.append((to, of, weights.astype(dtype)))
    return pieces


def _smooth_planes(planes: Array, along: Sequence[list[tuple[slice, slice, Array]]], n_jobs: int | None) -> None:
    """Gaussian mean of planes (c, ny, nx) along both axes, in place."""
    _, ny, nx = planes.shape
    map_tasks(_smooth_along_x, [(planes[:, strip], along[1]) for strip in _strips(ny)], n_jobs)
    map_tasks(_smooth_along_y, [(planes[:, :, strip], along[0]) for strip in _strips(nx)], n_jobs)


def _smooth_along_x(block: Array, pieces: list[tuple[slice, slice, Array]]) -> None:
    for plane in block:
        before = plane.copy()
        for to, of, weights in pieces:
            np.matmul(before[:, of], weights, out=plane[:, to])


def _smooth_along_y(block: Array, pieces: list[tuple[slice, slice, Array]]) -> None:
    for plane in block:
        before = plane.copy()
        for to, of, weights in pieces:
            np.matmul(weights.T, before[of], out=plane[to])


def _interpolation(n: int, window: int, step: int, size: int) -> tuple[Array, Array, Array]:
    """For each of `size` pixels the window centres before and after it, of n, and the weight of the latter."""
    return neighbours((np.arange(size) - (window - 1) / 2) / step, n)


def neighbours(position: Array, n: int) -> tuple[Array, Array, Array]:
    """The places before and after positions on an axis of n, and the weight of the latter; the ends beyond them."""
    position = np.clip(position, 0, n - 1)
    before = np.minimum(position.astype(np.intp), max(n - 2, 0))
    return before, np.minimum(before + 1, n - 1), (position - before).astype(np.float32)


def between(values: Array, axis: int, before: Array, after: Array, weight: Array) -> Array:
    """Values along an axis, interpolated between places `before` and `after`."""
    result: Array = values.take(before, axis) * (1 - weight) + values.take(after, axis) * weight
    return result


def whiten_noise(rows: NDArray[Any], noise: NDArray[np.float64]) -> NDArray[Any]:
    """Rows (n, r) in coordinates in which noise of the given covariance is 1 in every direction; in place."""
    variance, directions = scipy.linalg.eigh(noise)
    if variance[-1] <= 0:
        return rows
    factor = (directions / np.sqrt(np.maximum(variance, NOISE_FLOOR * variance[-1]))).astype(rows.dtype)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        block[:] = block @ factor
    return rows
