"""Values on the grid of windows: smoothing and whitening of scores, memberships, and labels of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

#: Directions whose noise is below this share of the largest are not amplified further by whitening.
NOISE_FLOOR = 1e-6


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

    def to_map(self, rows: NDArray[Any], fill: Any = np.nan) -> NDArray[Any]:
        """Rows (n, ..) as a map (ny, nx, ..), `fill` where a window is excluded."""
        full = np.full((*self.included.shape, *rows.shape[1:]), fill, rows.dtype)
        full[self.included] = rows
        return full

    def smooth(self, rows: NDArray[Any], sigma: float) -> NDArray[Any]:
        """Gaussian mean of each column over neighbouring windows, `sigma` in pixels; excluded windows do not count."""
        spread = [sigma / s for s in self.step]
        if not max(spread):
            return rows
        # As scipy's default, but no wider than the map makes a difference.
        radius = [min(int(4 * s + 0.5), 1000 + 4 * n) for s, n in zip(spread, self.included.shape, strict=True)]
        total: NDArray[Any] = self.to_map(rows, 0)
        for axis in (0, 1):
            total = gaussian_filter1d(total, spread[axis], axis, mode="nearest", radius=radius[axis])
        if self.included.all():
            return total[self.included]
        weight = self.included.astype(rows.dtype)
        for axis in (0, 1):
            weight = gaussian_filter1d(weight, spread[axis], axis, mode="nearest", radius=radius[axis])
        total /= np.where(self.included, weight, 1)[..., *[None] * (rows.ndim - 1)]
        return total[self.included]

    def noise_covariance(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Covariance (r, r) of the noise of rows (n, r): half that of the differences between neighbouring windows."""
        full = self.to_map(rows, 0)
        covariance, count = np.zeros((rows.shape[1], rows.shape[1])), 0
        for axis in (0, 1):
            ahead, behind = (np.arange(a, full.shape[axis] - b) for a, b in ((1, 0), (0, 1)))
            both = self.included.take(ahead, axis) & self.included.take(behind, axis)
            difference = (full.take(ahead, axis) - full.take(behind, axis))[both].astype(np.float64)
            covariance += difference.T @ difference
            count += len(difference)
        return covariance / (2 * max(count, 1))

    def centers(self) -> NDArray[np.float64]:
        """Centres of all windows in pixel coordinates, (ny, nx, 2), y before x."""
        axes = [
            np.arange(n) * s + (w - 1) / 2 for n, w, s in zip(self.included.shape, self.window, self.step, strict=True)
        ]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)

    def label_image(self, memberships: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.int32]:
        """Phase of each pixel (y, x) from memberships (n, k): interpolated, then the largest; -1 where there are none.

        Interpolation is linear between the centres of included windows and constant outside the outermost ones. What
        is then left of the pixels that an included window covers takes the phase of the nearest pixel that has one.
        """
        along_y, along_x = (
            _interpolation(n, w, s, size)
            for n, w, s, size in zip(self.included.shape, self.window, self.step, shape, strict=True)
        )
        labels = np.full(shape, -1, np.int32)
        best = np.zeros(shape, np.float32)
        for phase in range(memberships.shape[1]):
            value = along_y @ (along_x @ self.to_map(memberships[:, phase].astype(np.float32), 0).T).T
            better = value > best
            labels[better] = phase
            best[better] = value[better]
        if not self.included.all():
            left = (labels < 0) & self._covered(shape)
            nearest = distance_transform_edt(labels < 0, return_distances=False, return_indices=True)
            labels[left] = labels[tuple(nearest[:, left])]
        return labels

    def _covered(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Pixels (y, x) that an included window covers."""
        steps = np.zeros((shape[0] + 1, shape[1] + 1), np.int64)
        top, left = np.nonzero(self.included) * np.array(self.step)[:, None]
        for y, x, sign in ((0, 0, 1), (self.window[0], 0, -1), (0, self.window[1], -1), (*self.window, 1)):
            np.add.at(steps, (top + y, left + x), sign)
        return steps.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0


def _interpolation(n: int, window: int, step: int, size: int) -> scipy.sparse.csr_array:
    """Matrix (size, n) that interpolates linearly from window centres to pixels, constant outside."""
    position = np.clip((np.arange(size) - (window - 1) / 2) / step, 0, n - 1)
    left = np.minimum(position.astype(np.intp), max(n - 2, 0))
    right = np.minimum(left + 1, n - 1)
    weight = (position - left).astype(np.float32)
    pixel = np.arange(size)
    entries = np.concatenate([1 - weight, weight]), (np.tile(pixel, 2), np.concatenate([left, right]))
    return scipy.sparse.csr_array(entries, shape=(size, n))


def whiten_noise(rows: NDArray[Any], noise: NDArray[np.float64]) -> NDArray[Any]:
    """Rows (n, r) in coordinates in which noise of the given covariance is the same, 1, in every direction."""
    variance, directions = scipy.linalg.eigh(noise)
    if variance[-1] <= 0:
        return rows
    factor = directions / np.sqrt(np.maximum(variance, NOISE_FLOOR * variance[-1]))
    return rows @ factor.astype(rows.dtype)


def posterior(squared_distances: NDArray[Any], variance: float) -> NDArray[np.float32]:
    """Memberships (n, k), rows sum to 1, under equal round Gaussians of the given variance about k centres."""
    excess = squared_distances - squared_distances.min(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # of no variance: the nearest centre takes all
        weight = np.exp(-excess / (2 * max(variance, np.finfo(np.float64).tiny)))
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def shares(weights: NDArray[Any]) -> NDArray[np.float32]:
    """Non-negative rows (n, k) divided by their sums; equal shares where a row is zero."""
    weights = np.maximum(weights, 0)
    total = weights.sum(axis=1, keepdims=True)
    return np.where(total > 0, weights / np.where(total > 0, total, 1), 1 / weights.shape[1]).astype(np.float32)


def order_by_size(label_image: NDArray[np.int32], k: int) -> Sequence[int]:
    """Phases by falling number of pixels, ties by the first pixel; phases without a pixel come last."""
    flat = label_image.ravel()
    counts = np.bincount(flat[flat >= 0], minlength=k)
    found, first = np.unique(flat, return_index=True)
    first_pixel = dict(zip(found.tolist(), first.tolist(), strict=True))
    return sorted(range(k), key=lambda phase: (-counts[phase], first_pixel.get(phase, flat.size), phase))
