"""Windows within a region, in pairs a lag apart, from one to the other of which a wave turns by frequency times lag.

The step of the phase angle from one window to the next tells a frequency far more finely than the bins of a transform
do, needs no phase angle to be the same across the whole region, and is random where nothing is periodic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.signal import get_window

from stemseg_core.system.types import Array
from stemseg_core.windows.grid import first_of_coarsened

#: Windows start this share of their side apart. Twice as much: a quarter as many fit into small regions.
PITCH = 1 / 4
#: Steps from one window of a pair to the other. Twice as many: pairs fit into larger regions only, and phase steps
#: beyond half a turn are mistaken; half: tapered windows of a pair have much in common, and noise looks periodic.
LAG = 3
#: Share of a window's taper that must lie within the region. Twice as much cannot be; half: windows on boundaries are
#: used, which see mostly something else.
LEAST_WEIGHT = 0.6
#: Pixels that the windows of all cells have together, at most; of more cells, every second, third, ... along both axes
#: is looked at. Twice as many: twice the time, uncertainties smaller by the root of 2.
MOST_PIXELS = 4e6
#: Cells whose windows are transformed at once. Twice as many: twice the memory, no more speed.
CHUNK = 16
#: Bytes a pixel of the rectangle around a region while pairs are laid into it, and of what is held of it then: pixels,
#: weights, the region and the map that it is of. They predict memory only.
LAID_BYTES = 50
HELD_BYTES = 16


@dataclass(frozen=True, eq=False)
class Pairs:
    """Cells of three windows: one, its mate a lag below, and its mate a lag to the right.

    Attributes
    ----------
    pixels : ndarray of shape (y, x), float32
        Of the smallest rectangle around the region, of zero mean and of standard deviation 1 within it.
    weights : ndarray of shape (y, x), float32
        1 deep in the region, falling to 0 at its boundary, a quarter of a window wide.
    sides, lag : tuple of int
        Of the windows, (y, x) in pixels.
    starts : ndarray of shape (n, 2), int
        First pixel (y, x) of the first window of each cell.
    mates : ndarray of shape (2, n), bool
        Whether the mate below, and that to the right, lie within the region.
    overlap : float
        As many cells, overlapping as they do, count as one.
    origin : (int, int)
        Pixel (y, x) of the image that the first of `pixels` is.
    """

    pixels: NDArray[np.float32]
    weights: NDArray[np.float32]
    sides: tuple[int, int]
    lag: tuple[int, int]
    starts: NDArray[np.intp]
    mates: NDArray[np.bool_]
    overlap: float
    origin: tuple[int, int]

    @classmethod
    def within(
        cls, image: Array, region: NDArray[np.bool_], sides: tuple[int, int], most_pixels: float = MOST_PIXELS
    ) -> Pairs | None:
        """Pairs of windows of these sides within a region of an image (y, x); None if none fits."""
        inside = [np.flatnonzero(region.any(axis=axis)) for axis in (1, 0)]
        if not inside[0].size:
            return None
        box = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in inside)
        region = region[box]
        if any(n < side for n, side in zip(region.shape, sides, strict=True)):
            return None
        pixels = np.where(region, image[box], 0).astype(np.float64)
        pixels -= pixels[region].mean()
        scatter = sqrt(float(np.mean(pixels[region] ** 2)))
        if not scatter > 0:
            return None
        scaled = np.where(region, pixels / scatter, 0).astype(np.float32)
        depth = tuple(max(1, side // 2) for side in sides)
        inside_near = uniform_filter(region.astype(np.float32), depth, mode="nearest")
        weights = (np.maximum(2 * inside_near - 1, 0) * region).astype(np.float32)
        pitch = tuple(max(1, round(side * PITCH)) for side in sides)
        enough = _covered(weights, sides, pitch) >= LEAST_WEIGHT
        below, right = np.zeros_like(enough), np.zeros_like(enough)
        below[:-LAG] = enough[:-LAG] & enough[LAG:]
        right[:, :-LAG] = enough[:, :-LAG] & enough[:, LAG:]
        cells = below | right
        if not cells.any():
            return None
        thinned, (y, x), most = 1, (0, 0), most_pixels / (3 * sides[0] * sides[1])
        while np.count_nonzero(cells[y::thinned, x::thinned]) > most:
            thinned += 1
            y, x = first_of_coarsened(cells, thinned)
        places = thinned * np.argwhere(cells[y::thinned, x::thinned]) + (y, x)
        mates = np.stack([m[tuple(places.T)] for m in (below, right)])
        lag = (LAG * pitch[0], LAG * pitch[1])
        return cls(
            scaled, weights, sides, lag, places * pitch, mates, _overlap(thinned * PITCH), (box[0].start, box[1].start)
        )

    @property
    def n(self) -> NDArray[np.intp]:
        """Pairs along y, and along x."""
        counts: NDArray[np.intp] = self.mates.sum(axis=1)
        return counts

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Some cells after others, and their windows (m, 3, *sides) without their means, tapered to the region."""
        taper = np.outer(*(get_window("hann", side) for side in self.sides)).astype(np.float32)
        views = [np.lib.stride_tricks.sliding_window_view(a, self.sides) for a in (self.pixels, self.weights)]
        steps = np.array([(0, 0), (self.lag[0], 0), (0, self.lag[1])])
        last = np.subtract(self.pixels.shape, self.sides)
        for start in range(0, len(self.starts), CHUNK):
            some = slice(start, start + CHUNK)
            # A mate that would lie beyond the edge is none, and is not looked at.
            y, x = np.moveaxis(np.minimum(self.starts[some, np.newaxis] + steps, last), -1, 0)
            weights = views[1][y, x] * taper
            windows = views[0][y, x] * weights
            within = np.maximum(weights.sum(axis=(2, 3), keepdims=True), np.finfo(np.float32).tiny)
            mean = windows.sum(axis=(2, 3), keepdims=True) / within
            yield some, windows - weights * mean

    def coefficients(self, frequencies: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Fourier coefficients (n, 3, q) of the windows at frequencies (q, 2), (ky, kx) in cycles per pixel."""
        along_y, along_x = (
            np.exp(-2j * pi * np.outer(np.arange(side), k)) for side, k in zip(self.sides, frequencies.T, strict=True)
        )
        # Windows are real: their products with the parts of a complex wave take half of what a complex product takes.
        parts = np.concatenate([along_x.real, along_x.imag], axis=1).astype(np.float32)
        found = np.empty((len(self.starts), 3, len(frequencies)), np.complex128)
        for some, windows in self.chunks():
            real, imaginary = np.split(windows @ parts, 2, axis=3)
            np.einsum("mcyq,yq->mcq", real + 1j * imaginary, along_y, out=found[some])
        return found


def _covered(weights: NDArray[np.float32], sides: tuple[int, int], pitch: tuple[int, ...]) -> NDArray[np.float32]:
    """Share of the taper that lies within the region, for windows on a grid."""
    tapers = []
    for n, side, step in zip(weights.shape, sides, pitch, strict=True):
        starts = np.arange(0, n - side + 1, step)
        rows = np.zeros((len(starts), n), np.float32)
        rows[np.arange(len(starts))[:, np.newaxis], starts[:, np.newaxis] + np.arange(side)] = get_window("hann", side)
        tapers.append(rows * np.float32(2 / side))
    return (tapers[0] @ weights @ tapers[1].T).astype(np.float32, copy=False)


def _overlap(apart: float) -> float:
    """Cells in a plane, `apart` sides from each other, that count as one independent one, for tapers of Hann.

    Coefficients of noise in two windows have the correlation r of their tapers, products of pairs of them r^2.
    """
    s = apart * np.arange(1, int(1 / apart) + 1)
    r = (1 - s) * (2 / 3 + np.cos(2 * pi * s) / 3) + np.sin(2 * pi * s) / (2 * pi)
    return float((1 + 2 * np.sum(r**2)) ** 2)
