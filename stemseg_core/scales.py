"""Windows of several sizes: large ones tell phases apart, small ones say where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, map_coordinates
from sklearn.base import clone

from stemseg_core.blocks import ArrayRows
from stemseg_core.boundaries import deep_windows, discriminate, memberships_of, squares_to, without_rims
from stemseg_core.compress import compress
from stemseg_core.directions import leading_bytes
from stemseg_core.images import pair
from stemseg_core.maps import Grid, whiten_noise
from stemseg_core.periods import strongest_period, suited_window
from stemseg_core.phases import by_kmeans, kmeans_bytes, smoothing_bytes
from stemseg_core.spectra import SmoothedSpectra, Spectra
from stemseg_core.windows import WindowFFT, WindowMatrix

#: Scores kept of the powers of large windows, and of their lattices: smoothed, and of length 1.
POWER_RANK, LATTICE_RANK = 48, 24

#: Large windows have steps of one in so many of their side.
LARGE_STEPS = 16
#: Large windows are used if there is one for so many others.
FEWER = 16

Array = NDArray[Any]
Size = tuple[int, int]


def window_sizes(image: ArrayLike, mask: ArrayLike | None, window: Any, windows: Any, n_jobs: int | None) -> list[Size]:
    """The sizes of windows that are asked for, the largest first; one that suits the image if none is."""
    if windows is None:
        if window is not None:
            return [pair("window", window)]
        side = suited_window(strongest_period(image, mask, n_jobs=n_jobs), np.shape(image))
        return [(side, side)]
    if window is not None:
        raise ValueError(f"give window or windows, not both; got window={window!r} and windows={windows!r}")
    if not isinstance(windows, Sequence | np.ndarray) or isinstance(windows, str) or not len(windows):
        raise ValueError(f"windows must be a sequence of window sizes, got {windows!r}")
    return sorted({pair("windows", size) for size in windows}, key=lambda size: (-size[0] * size[1], size))


@dataclass
class Scale:
    """Windows of one size: their spectra, and the grid they lie on."""

    matrix: WindowMatrix
    spectra: Spectra

    def __post_init__(self) -> None:
        self.grid = Grid(self.matrix.included, self.matrix.window, self.matrix.step)


class Scales:
    """Windows of several sizes over one image.

    Parameters
    ----------
    sizes : list of (int, int)
        One size, that of the maps, to which others are added; or the size for the lattices, that of the maps, others.
    features : WindowFFT
        Its window is set here, and so is its step, which is that of the maps.
    image, mask
        As for `WindowFFT.matrix`.
    k_min : float
    """

    def __init__(
        self, sizes: list[Size], features: WindowFFT, image: ArrayLike, mask: ArrayLike | None, *, k_min: float
    ) -> None:
        self.sizes = sizes if len(sizes) > 1 else _around(sizes[0], np.shape(image), features.zoom, k_min)
        large, maps, *others = self.sizes

        def matrix(size: Size, step: Size, **parameters: Any) -> WindowMatrix:
            return clone(features).set_params(window=size, step=step, **parameters).matrix(image, mask)

        step = step_of(maps, features.step)
        self.small = [matrix(size, step) for size in (maps, *others)]
        apart = (max(step[0], large[0] // LARGE_STEPS), max(step[1], large[1] // LARGE_STEPS))
        self.large = matrix(large, apart, scale="abs")
        if FEWER * self.large.shape[0] < self.small[0].shape[0] * step[0] * step[1] / (apart[0] * apart[1]):
            self.large = matrix(maps, step, scale="abs")  # large ones meet excluded pixels everywhere
        self.k_min = k_min

    @property
    def maps(self) -> WindowMatrix:
        """Windows that the maps have an entry for."""
        return self.small[0]

    def needed_bytes(self, n_phases: int, rank: int, n_threads: int) -> float:
        """Largest memory that `memberships` holds at once."""
        large, first, k = self.large, self.maps.shape[0], n_phases
        pixels = 4 * large.image.shape[-2] * large.image.shape[-1]
        n, powers = large.shape[0], min(POWER_RANK, *large.shape)
        lattices = min(max(LATTICE_RANK, k + 8), *large.shape)
        needed = [
            leading_bytes(large, powers, n_threads),
            4 * n * powers + max(smoothing_bytes(large, powers), 4 * n * lattices, 8 * n),
            4 * n * lattices + max(kmeans_bytes(n, lattices, k, n_threads), 4 * n * k + pixels),
        ]
        coordinates = 0.0
        for matrix in self.small:
            n, kept = matrix.shape[0], min(rank, *matrix.shape)
            taught = matrix.included.size * 40  # labels, and distances to the boundaries of phases
            beside = 4 * n * kept + max(smoothing_bytes(matrix, kept), 8 * n, taught)
            needed.append(pixels + coordinates + max(leading_bytes(matrix, kept, n_threads), beside))
            coordinates += 4 * first * (k - 1)
        # Coordinates twice while they are put together; distances to the phases, what is allowed, memberships.
        needed.append(pixels + coordinates + max(coordinates, first * (k * 18 + 40)))
        return max(needed)

    def memberships(
        self,
        n_phases: int,
        spectra: Spectra,
        *,
        rank: int,
        smooth: float,
        whiten: bool,
        random_state: int,
        settings: dict[str, Any],
    ) -> NDArray[np.float32]:
        """Memberships (n, k) of the windows of the maps, whose spectra are given; rows sum to 1.

        The lattices of large windows are clustered by k-means; what the clusters look like in small windows then tells
        phases apart to the pixel (`stemseg_core.boundaries`).
        """
        seeded = {"random_state": random_state, **settings}
        threads = {name: settings[name] for name in ("n_jobs", "progress")}
        large = Scale(self.large, Spectra(self.large, self.k_min, 0, unit=_modulus(self.large)))
        lattices = _lattices(large, max(LATTICE_RANK, n_phases + 8), smooth, settings)
        if whiten:
            lattices = whiten_noise(lattices, large.grid.noise_covariance(lattices))
        clustered = by_kmeans(lattices, large.grid, n_phases, seeded)
        shape = self.large.image.shape[-2:]
        pixels = large.grid.label_image(clustered, shape, n_jobs=settings["n_jobs"])
        del lattices, clustered
        others = (Scale(matrix, Spectra(matrix, self.k_min, spectra.normalize)) for matrix in self.small[1:])
        first, found = Grid(self.maps.included, self.maps.window, self.maps.step), list[tuple[Array, Array]]()
        for scale in (Scale(self.maps, spectra), *others):
            grid = scale.grid
            labels = _at_centers(pixels, grid)
            scores = grid.smooth(compress(scale.spectra, rank, **settings).scores, smooth, **threads)
            taught = np.where(deep_windows(labels), labels, -1)[grid.included]
            told = discriminate(scores, taught, n_phases, **threads)
            if told is None and not found:  # these windows are too large for one of the phases
                return by_kmeans(scores, grid, n_phases, seeded)
            if told is not None:
                found.append(told if not found else (_resampled(told[0], grid, first), told[1]))
        points = np.concatenate([one for one, _ in found], axis=1)
        means = np.concatenate([one for _, one in found], axis=1).astype(np.float32)
        del found
        labels = np.full(first.included.shape, -1, np.int32)
        labels[first.included] = squares_to(points, means).argmin(axis=1)
        return memberships_of(points, means, without_rims(points, means, labels, first.window, first.step))


def step_of(window: Size, step: Any) -> Size:
    """`step`, or an eighth of the window."""
    return (max(1, window[0] // 8), max(1, window[1] // 8)) if step is None else pair("step", step)


def _around(window: Size, shape: tuple[int, ...], zoom: Any, k_min: float) -> list[Size]:
    """Sizes of windows: that for the lattices, that of the maps, and a smaller one for the boundaries."""
    (y, x), (height, width) = window, shape[-2:]
    large = max(y, min(2 * y, height // 2)), max(x, min(2 * x, width // 2))
    small = 3 * y // 4, 3 * x // 4
    # Frequencies that a window of this size keeps.
    enough = (min(small) - 1) // (2 * zoom) > k_min
    return [large, window, small] if enough else [large, window]


def _modulus(matrix: WindowMatrix) -> float:
    """About the modulus of the transform of a window: powers in units of its square neither overflow nor vanish."""
    some = np.asarray(matrix.image[..., ::7, ::7], dtype=np.float64)
    some = some[np.isfinite(some)]
    spread = float(some.std()) if some.size else 0.0
    return spread * float(np.sqrt(matrix.window[0] * matrix.window[1])) or 1.0


def _lattices(scale: Scale, rank: int, smooth: float, settings: dict[str, Any]) -> Array:
    """Scores of the smoothed power spectra of windows, each of length 1."""
    powers = compress(scale.spectra, POWER_RANK, **settings)
    threads = {name: settings[name] for name in ("n_jobs", "progress")}
    smoothed = scale.grid.smooth(powers.scores, smooth, **threads)
    return compress(ArrayRows(SmoothedSpectra(smoothed, powers.basis, powers.mean)), rank, **settings).scores


def _at_centers(pixels: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
    """Labels (ny, nx) of the pixels at the centres of included windows; -1 elsewhere."""
    y, x = grid.centers().astype(np.intp).T
    return np.where(grid.included, pixels[y, x].reshape(grid.included.shape), -1).astype(np.int32)


def _resampled(rows: Array, of: Grid, at: Grid) -> Array:
    """Rows (n, q) of a grid at the centres of the windows of another: interpolated linearly, constant beyond."""
    planes = of.to_planes(rows)
    if not of.full:
        nearest = distance_transform_edt(~of.included, return_distances=False, return_indices=True)
        planes = planes[:, nearest[0], nearest[1]]
    centers = at.centers()[at.included.ravel()].T
    places = [(c - (w - 1) / 2) / s for c, w, s in zip(centers, of.window, of.step, strict=True)]
    return np.stack([map_coordinates(plane, places, order=1, mode="nearest") for plane in planes], axis=1)
