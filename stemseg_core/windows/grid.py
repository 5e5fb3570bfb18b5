"""Values on the grid of windows: maps, smoothing and noise of rows, and the labels of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray
from scipy.ndimage import distance_transform_edt

from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.matrix import WindowMatrix

#: Share of the largest noise variance below which a direction is not amplified further by whitening. Twice as much:
#: faint directions come out weaker, and rounding in them too.
NOISE_FLOOR = 1e-6
#: Columns of rows that are smoothed at once, as planes beside the rows. Twice as many: twice the memory, no more speed.
SMOOTHED_COLUMNS = 4
#: Grid points along an axis whose means are one matrix product. Twice as many: more zeros are multiplied.
SMOOTHED_POINTS = 64
#: Rows of a grid, or of an image, that one task works on. Twice as many: fewer tasks to share among threads.
STRIP_ROWS = 64
#: Rows of a grid whose neighbours are subtracted at once. Twice as many: twice the memory, and other last bits of sums.
PAIR_ROWS = 8
#: Rows that are whitened at once. Twice as many: twice the memory of the product.
BLOCK_ROWS = 8192


class Interpolation(NamedTuple):
    """Points along an axis, each between two grid points: linear interpolation takes both with weights of sum 1."""

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    #: Of the grid point after; float32.
    weight: Array

    def part(self, points: slice) -> Interpolation:
        """Some of the points."""
        return Interpolation(*(array[points] for array in self))

    def __call__(self, values: Array, axis: int) -> Array:
        """Values at the points, from those on the grid along `axis`."""
        weight = self.weight.reshape(-1, *(1,) * (values.ndim - axis - 1))
        result: Array = values.take(self.before, axis) * (1 - weight) + values.take(self.after, axis) * weight
        return result


class _Piece(NamedTuple):
    """A part of a Gaussian mean along an axis: ``out[to] = weights.T @ values[of]``."""

    to: slice
    of: slice
    weights: Array


class Grid:
    """The grid of windows of one image: rows of arrays to maps and back.

    Parameters
    ----------
    included : ndarray of bool of shape (ny, nx)
        Which windows are rows, in grid order.
    window, step : (int, int)
        In pixels, (y, x).
    first : (int, int), default=(0, 0)
        First pixel (y, x) of the first window.
    """

    def __init__(
        self,
        included: NDArray[np.bool_],
        window: tuple[int, int],
        step: tuple[int, int],
        first: tuple[int, int] = (0, 0),
    ) -> None:
        self.included, self.window, self.step, self.first = included, window, step, first

        self.full = bool(included.all())
        self._rows_above = np.concatenate([[0], np.cumsum(included.sum(axis=1))])

    @classmethod
    def of(cls, matrix: WindowMatrix) -> Self:
        """The grid that the windows of one image lie on."""
        return cls(matrix.included, matrix.window, matrix.step)

    def to_map(self, rows: Array, fill: Any = np.nan) -> Array:
        """Rows (n, ..) as a map (ny, nx, ..), `fill` where a window is excluded; a view if there are none."""
        if self.full:
            return rows.reshape(*self.included.shape, *rows.shape[1:])
        full = np.full((*self.included.shape, *rows.shape[1:]), fill, rows.dtype)
        full[self.included] = rows
        return full

    def to_planes(self, rows: Array, fill: float = np.nan) -> Array:
        """Rows (n, c) as planes (c, ny, nx), `fill` where a window is excluded; made strip by strip."""
        planes = np.empty((rows.shape[1], *self.included.shape), rows.dtype)
        for strip in _strips(len(self.included)):
            self._fill(planes, rows, strip, fill)
        return planes

    def rows_of(self, strip: slice) -> slice:
        """Which rows are the included windows of a strip of the grid."""
        return slice(self._rows_above[strip.start], self._rows_above[strip.stop])

    def _fill(self, planes: Array, rows: Array, strip: slice, fill: float) -> None:
        """Copy a strip of the grid from `rows` (n, c) to `planes` (c, ny, nx)."""
        block, target = rows[self.rows_of(strip)], planes[:, strip]
        if self.full:
            target[:] = block.T.reshape(target.shape)
        else:
            target[:] = fill
            target[:, self.included[strip]] = block.T

    def _take(self, planes: Array, rows: Array, strip: slice) -> None:
        """Copy a strip of the grid from `planes` (c, ny, nx) to `rows` (n, c)."""
        block, source = rows[self.rows_of(strip)], planes[:, strip]
        block[:] = (source.reshape(len(source), -1) if self.full else source[:, self.included[strip]]).T

    def smooth(self, rows: Array, sigma: float, execution: Execution) -> Array:
        """Gaussian mean over neighbouring windows of each column, in place; excluded windows do not count.

        Parameters
        ----------
        rows : ndarray of shape (n, c)
            Replaced by the means, and returned.
        sigma : float
            Standard deviation in pixels.
        execution : Execution
            Progress is reported after every `SMOOTHED_COLUMNS` columns.

        Notes
        -----
        A mean along an axis is a product with a banded matrix. BLAS does it in dense pieces, 10 times as fast as a
        convolution.
        """
        sigmas = [sigma / s for s in self.step]
        if not max(sigmas):
            return rows
        along = [_gaussian_pieces(n, s, rows.dtype) for n, s in zip(self.included.shape, sigmas, strict=True)]
        strips = _strips(len(self.included))
        weight = None
        if not self.full:
            weight = self.included[np.newaxis].astype(rows.dtype)
            _smooth_planes(weight, along, execution)
            weight[0][~self.included] = 1
        n_columns = rows.shape[1]
        for start in range(0, n_columns, SMOOTHED_COLUMNS):
            part = rows[:, start : start + SMOOTHED_COLUMNS]
            planes = np.empty((part.shape[1], *self.included.shape), rows.dtype)
            execution.map(self._fill, [(planes, part, strip, 0.0) for strip in strips])
            _smooth_planes(planes, along, execution)
            if weight is not None:
                planes /= weight
            execution.map(self._take, [(planes, part, strip) for strip in strips])
            execution.report(min(n_columns, start + SMOOTHED_COLUMNS), n_columns, "smooth")
        return rows

    def smooth_bytes(self, n_columns: int, dtype: DTypeLike) -> int:
        """Memory of `smooth`: planes of some columns, and of the weights if windows are excluded."""
        planes = min(n_columns, SMOOTHED_COLUMNS) + (not self.full)
        return planes * self.included.size * np.dtype(dtype).itemsize

    def coarsened(self, n_rows: int) -> Grid:
        """The grid of every m-th window along both axes, so that about `n_rows` are included; see `coarsening`."""
        m = coarsening(int(self._rows_above[-1]), n_rows)
        y, x = first_of_coarsened(self.included, m)
        first = self.first[0] + y * self.step[0], self.first[1] + x * self.step[1]
        return Grid(self.included[y::m, x::m], self.window, (m * self.step[0], m * self.step[1]), first)

    def coarsened_rows(self, rows: Array, n_rows: int) -> Array:
        """The rows (n, c) of the windows of `coarsened`; the same object if these are all."""
        m = coarsening(len(rows), n_rows)
        if m == 1:
            return rows
        first_y, first_x = first_of_coarsened(self.included, m)
        chosen = [
            rows[self._rows_above[y] + np.flatnonzero(np.flatnonzero(self.included[y]) % m == first_x)]
            for y in range(first_y, len(self.included), m)
        ]
        return np.concatenate(chosen)

    def noise_covariance(self, rows: Array) -> NDArray[np.float64]:
        """Covariance (r, r) of the noise of rows (n, r): half that of the differences between neighbouring windows.

        Neighbours have nearly the same signal, and independent noise as far as they do not overlap.
        """
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

    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres of the windows in pixel coordinates, along y and along x."""
        y, x = (
            np.arange(n) * s + (w - 1) / 2 + f
            for n, w, s, f in zip(self.included.shape, self.window, self.step, self.first, strict=True)
        )
        return y, x

    def centers(self) -> NDArray[np.float64]:
        """Centres of all windows in pixel coordinates, (ny * nx, 2), y before x, in grid order."""
        y, x = self.axes()
        centers = np.empty((*self.included.shape, 2))
        centers[..., 0], centers[..., 1] = y[:, np.newaxis], x
        return centers.reshape(-1, 2)

    def at_centers(self, pixels: Array) -> Array:
        """Values of an image (y, x) in the pixels at, or before, the centres of all windows, (ny, nx)."""
        values: Array = pixels[np.ix_(*(centers.astype(np.intp) for centers in self.axes()))]
        return values

    def interpolations(self, y: Array, x: Array) -> tuple[Interpolation, Interpolation]:
        """Linear interpolation between the centres of windows at pixel coordinates, those along y and those along x."""
        along_y, along_x = (
            interpolation((at - centers[0]) / s, len(centers))
            for at, centers, s in zip((y, x), self.axes(), self.step, strict=True)
        )
        return along_y, along_x

    def resampled(self, planes: Array, at: Grid) -> Array:
        """Planes (c, ny, nx) of this grid at the centres of the included windows of another, as rows (n, c)."""
        along_y, along_x = self.interpolations(*at.axes())
        return np.stack([along_x(along_y(plane, 0), 1)[at.included] for plane in planes], axis=1)

    def label_image(self, memberships: Array, shape: tuple[int, int], execution: Execution) -> NDArray[np.int32]:
        """Phase of each pixel (y, x): the one of the largest membership, of memberships (n, k) interpolated there.

        Interpolation is linear between the centres of included windows and constant outside the outermost ones. A pixel
        without memberships takes the phase of the nearest pixel that has one if an included window covers it; else its
        label is -1.
        """
        along_y, along_x = self.interpolations(*map(np.arange, shape))
        labels = np.full(shape, -1, np.int32)
        tasks = [(memberships, labels[strip], along_y.part(strip), along_x) for strip in _strips(shape[0])]
        execution.map(self._label_strip, tasks)
        if not self.full:
            unlabelled = (labels < 0) & self._covered(shape)
            labels[unlabelled] = nearest_values(labels, labels >= 0, unlabelled)
        return labels

    def _label_strip(self, memberships: Array, labels: Array, along_y: Interpolation, along_x: Interpolation) -> None:
        """Write the labels of some rows of the image, which lie at the points `along_y` of the grid."""
        before, after, weight = along_y
        strip = slice(int(before.min()), int(after.max()) + 1)
        along_y = Interpolation(before - strip.start, after - strip.start, weight)
        rows = memberships[self.rows_of(strip)]
        best = np.zeros(labels.shape, np.float32)
        plane = np.zeros((strip.stop - strip.start, self.included.shape[1]), np.float32)
        for phase in range(memberships.shape[1]):
            plane[self.included[strip]] = rows[:, phase]
            value = along_x(along_y(plane, 0), 1)
            better = value > best
            np.copyto(labels, phase, where=better)
            np.copyto(best, value, where=better)

    def _covered(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels (y, x) that an included window covers."""
        steps = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
        corners = [slice(0, (n - 1) * s + 1, s) for n, s in zip(self.included.shape, self.step, strict=True)]
        first = steps[self.first[0] :, self.first[1] :]
        for y, x, sign in ((0, 0, 1), (self.window[0], 0, -1), (0, self.window[1], -1), (*self.window, 1)):
            first[y:, x:][corners[0], corners[1]] += sign * self.included.astype(np.int32)
        steps.cumsum(axis=0, out=steps).cumsum(axis=1, out=steps)
        return steps[:-1, :-1] > 0


def nearest_values(values: Array, known: NDArray[np.bool_], at: NDArray[np.bool_]) -> Array:
    """For each pixel that `at` marks, in array order, the value of the nearest pixel that `known` marks."""
    found: Array = values[tuple(_nearest(known)[:, at])]
    return found


def filled(planes: Array, known: NDArray[np.bool_]) -> Array:
    """Planes (c, y, x) with the values of the nearest place that `known` (y, x) marks in place of all others."""
    if known.all():
        return planes
    y, x = _nearest(known)
    result: Array = planes[:, y, x]
    return result


def _nearest(known: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices (2, y, x) of the nearest place that is known, of each place."""
    nearest: NDArray[np.intp] = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return nearest


def coarsening(n: int, n_rows: int) -> int:
    """M >= 1 such that every m-th row and column of a grid of n windows holds `n_rows` windows or a few more."""
    return max(1, int(np.sqrt(n / n_rows)))


def first_of_coarsened(included: NDArray[np.bool_], m: int) -> tuple[int, int]:
    """Which of the first m x m places of a grid is the first of every m-th along both axes.

    The one in the middle, unless few of its places are included, as in a grid of few rows; then the one with most.
    """
    n, middle = np.count_nonzero(included), m // 2
    if 2 * m**2 * np.count_nonzero(included[middle::m, middle::m]) >= n:
        return middle, middle
    counts = [[np.count_nonzero(included[y::m, x::m]) for x in range(m)] for y in range(m)]
    y, x = np.unravel_index(int(np.argmax(counts)), (m, m))
    return int(y), int(x)


def interpolation(position: Array, n: int) -> Interpolation:
    """Linear interpolation at positions along an axis of n grid points, in units of these; constant beyond the ends."""
    position = np.clip(position, 0, n - 1)
    before = np.minimum(position.astype(np.intp), max(n - 2, 0))
    return Interpolation(before, np.minimum(before + 1, n - 1), (position - before).astype(np.float32))


def _strips(n: int, size: int = STRIP_ROWS) -> list[slice]:
    """Positions 0 to n - 1 along an axis in strips of `size`."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _gaussian_pieces(n: int, sigma: float, dtype: DTypeLike) -> list[_Piece]:
    """Gaussian mean along an axis of n grid points.

    The kernel is that of `scipy.ndimage.gaussian_filter1d` with ``mode="nearest"``: it reaches four sigma to either
    side, and beyond the ends of the axis the outermost points are repeated. Its radius is limited, since a kernel much
    wider than the axis gives the same mean.
    """
    radius = min(int(4 * sigma + 0.5), 1000 + 4 * n)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2) if radius else np.ones(1)
    kernel /= kernel.sum()
    pieces = []
    for to in _strips(n, SMOOTHED_POINTS):
        of = slice(max(0, to.start - radius), min(n, to.stop + radius))
        weights = np.zeros((of.stop - of.start, to.stop - to.start))
        for column, point in enumerate(range(to.start, to.stop)):
            np.add.at(weights[:, column], np.clip(point + offsets, 0, n - 1) - of.start, kernel)
        pieces.append(_Piece(to, of, weights.astype(dtype)))
    return pieces


def _smooth_planes(planes: Array, along: Sequence[list[_Piece]], execution: Execution) -> None:
    """Gaussian mean of planes (c, ny, nx) along both axes, in place."""
    _, ny, nx = planes.shape
    execution.map(_smooth_along_x, [(planes[:, strip], along[1]) for strip in _strips(ny)])
    execution.map(_smooth_along_y, [(planes[:, :, strip], along[0]) for strip in _strips(nx)])


def _smooth_along_x(block: Array, pieces: list[_Piece]) -> None:
    for plane in block:
        before = plane.copy()
        for to, of, weights in pieces:
            np.matmul(before[:, of], weights, out=plane[:, to])


def _smooth_along_y(block: Array, pieces: list[_Piece]) -> None:
    for plane in block:
        before = plane.copy()
        for to, of, weights in pieces:
            np.matmul(weights.T, before[of], out=plane[to])


def whiten_noise(rows: Array, noise: NDArray[np.float64]) -> Array:
    """Rows (n, r) in coordinates in which noise of covariance `noise` (r, r) has variance 1 everywhere; in place."""
    variance, axes = scipy.linalg.eigh(noise)
    if variance[-1] <= 0:
        return rows
    factor = (axes / np.sqrt(np.maximum(variance, NOISE_FLOOR * variance[-1]))).astype(rows.dtype)
    for start in range(0, len(rows), BLOCK_ROWS):
        block = rows[start : start + BLOCK_ROWS]
        block[:] = block @ factor
    return rows
