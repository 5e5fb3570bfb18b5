"""Windows of several sizes: large ones tell phases apart, small ones say where they end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sklearn.base import clone

from stemseg_core.phases.boundaries import deep_windows, discriminate, memberships_of, squares_to, without_rims
from stemseg_core.phases.frequencies import Frequencies
from stemseg_core.phases.methods import Found, Settings, by_kmeans, counted, kmeans_bytes, smoothed_scores
from stemseg_core.phases.separability import best_separated, separation_of_map, separation_of_scores
from stemseg_core.phases.spectra import PowerSpectra, SmoothedSpectra, Spectra
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.stages.compress import compress
from stemseg_core.stages.estimates import Separation
from stemseg_core.stages.leading import leading_bytes
from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid, interpolation, whiten_noise
from stemseg_core.windows.images import Frames, pair
from stemseg_core.windows.matrix import NoWindowError, WindowMatrix
from stemseg_core.windows.periods import window_of
from stemseg_core.windows.windows import WindowFFT

#: Scores kept of the powers of large windows, and of their lattices: smoothed, and of length 1.
POWER_RANK, LATTICE_RANK = 48, 24
#: Large windows have steps of one in so many of their side, small ones at least such.
LARGE_STEPS, SMALL_STEPS = 16, 8
#: Large windows are used if there are so many, and one for so many others.
FEWEST, FEWER = 64, 16
#: Small windows are too noisy if this share of those deep in a phase looks like another.
NOISY = 0.005

Array = NDArray[Any]
Size = tuple[int, int]
Learnt = tuple[Array, Array, float]


def window_sizes(
    frames: Frames,
    window: Any,
    windows: Any,
    *,
    pixel_size: tuple[float, float] | None,
    execution: Execution,
) -> list[Size]:
    """The sizes of windows that are asked for: that of the maps, then others; one that suits the image if none is."""
    if windows is None:
        if window is not None:
            return [pair("window", window)]
        return [window_of(frames, pixel_size=pixel_size, execution=execution)[0]]
    if not isinstance(windows, Sequence | np.ndarray) or isinstance(windows, str) or not len(windows):
        raise ValueError(f"windows must be a sequence of window sizes, got {windows!r}")
    sizes = _largest_first({pair("windows", size) for size in windows})
    maps = sizes[min(1, len(sizes) - 1)] if window is None else pair("window", window)
    if maps not in sizes:
        raise ValueError(f"window={window!r}, the one of the maps, must be one of windows={windows!r}")
    return [maps, *(size for size in sizes if size != maps)]


class Scales:
    """Windows of several sizes over one image.

    Parameters
    ----------
    sizes : list of (int, int)
        That of the maps, and others, of which the largest is for the lattices; they are added if there is none.
    features : WindowFFT
        Its window is set here, and so is its step, which is that of the maps.
    frames : Frames
    frequencies : Frequencies
        Which are compared.
    """

    def __init__(
        self,
        sizes: list[Size],
        features: WindowFFT,
        frames: Frames,
        *,
        frequencies: Frequencies,
    ) -> None:
        def matrix(size: Size, step: Size, **parameters: Any) -> WindowMatrix:
            return clone(features).set_params(window=size, step=step, **parameters).matrix_of(frames)

        step = step_of(sizes[0], features.step)
        self.small = [matrix(sizes[0], step)]
        given = sizes
        if len(sizes) == 1:
            sizes = _around(sizes[0], frames.image.shape)
        large = max(sizes, key=lambda size: size[0] * size[1])
        smaller = [matrix(size, _apart(step, size, SMALL_STEPS)) for size in sizes[1:] if size != large]
        # One that was not asked for may be too small for the frequencies that are compared.
        self.small += [size for size in smaller if size.window in given or frequencies.leaves_some(size.half_plane)]
        self.between: list[WindowMatrix] = []
        self.large_spectra: WindowMatrix | None = None
        apart = _apart(step, large, LARGE_STEPS)
        half = (large[0] + sizes[0][0]) // 2, (large[1] + sizes[0][1]) // 2
        try:
            self.large, self.large_spectra = matrix(large, apart, scale="abs"), matrix(large, apart)
            # Of windows between the sizes: spectra as of the small ones, and moduli as of the large ones.
            self.between = [matrix(half, apart), matrix(half, apart, scale="abs")]
            thinner = step[0] * step[1] / (apart[0] * apart[1])
            enough = self.large.shape[0] >= max(FEWEST, thinner * self.maps.shape[0] / FEWER)
        except NoWindowError:
            enough = False
        if not enough:  # large ones meet the edge, or excluded pixels, everywhere
            self.large, self.large_spectra, self.between = matrix(sizes[0], step, scale="abs"), None, []
        self.frequencies = frequencies
        for size in (self.large, *self.small, *self.between):
            frequencies.kept(size.half_plane)  # refused before any work

    @property
    def sizes(self) -> list[Size]:
        """Sizes of the windows, the largest first."""
        return _largest_first({matrix.window for matrix in (self.large, *self.small)})

    @property
    def maps(self) -> WindowMatrix:
        """Windows that the maps have an entry for."""
        return self.small[0]

    def needed_bytes(self, n_phases: int, rank: int, n_threads: int) -> float:
        """Largest memory that `find_phases` holds at once."""
        large, first, k = self.large, self.maps.shape[0], n_phases
        pixels = 4 * large.image.shape[-2] * large.image.shape[-1]
        n, powers = large.shape[0], min(POWER_RANK, *large.shape)
        lattices = min(max(LATTICE_RANK, k + 8), n, self.frequencies.n_features(large.half_plane))
        needed = [
            leading_bytes(large, powers, n_threads),
            4 * n * powers + max(Grid.of(large).smooth_bytes(powers, large.dtype), 4 * n * lattices, 8 * n),
            4 * n * lattices + max(kmeans_bytes(n, lattices, k, n_threads), 4 * n * k + pixels),
        ]
        n, kept = first, min(rank, first, self.frequencies.n_features(self.maps.half_plane))
        own, beside = 4 * n * kept, max(kmeans_bytes(n, kept, k, n_threads), 4 * n * k + pixels)
        needed.append(2 * pixels + 2 * own + beside)  # scores of the windows of the maps, also whitened
        needed.append(3 * pixels + own + 8 * n * (k - 1) + n * (k * 18 + 40))
        coordinates = 0.0
        for matrix in (*self.small, *self.between):
            kept = POWER_RANK if matrix in self.between else min(rank, self.frequencies.n_features(matrix.half_plane))
            n, kept = matrix.shape[0], min(kept, *matrix.shape)
            taught = matrix.included.size * 40  # labels, and distances to the boundaries of phases
            beside = 4 * n * kept + max(Grid.of(matrix).smooth_bytes(kept, matrix.dtype), 8 * n, taught)
            needed.append(2 * pixels + coordinates + max(leading_bytes(matrix, kept, n_threads), beside))
            coordinates += 4 * first * (k - 1)
        # Coordinates twice while they are put together; distances to the phases, what is allowed, memberships.
        needed.append(pixels + coordinates + max(coordinates, first * (k * 18 + 40)))
        return max(needed)

    def find_phases(self, spectra: Spectra, grid: Grid, n_phases: int | str, settings: Settings) -> Found:
        """As `stemseg_core.phases.methods.find_phases` for the default method, with the spectra and grid of the maps.

        Lattices in large windows are clustered by k-means, and so are the spectra of large windows and of those of the
        maps. Lattices show faint differences whatever the thickness, but not phases without a lattice, and large
        windows not those that nowhere fill them; which of it matters, only the image knows. So each is tried as the
        teacher of the windows of the maps, and the one that makes the surest map is kept. What its clusters look like
        in small windows then tells phases apart to the pixel (`stemseg_core.phases.boundaries`).
        """
        # Scores to count phases on are made again below: they are too many to keep while large windows are clustered.
        k, estimate = counted(n_phases, lambda: smoothed_scores(spectra, grid, settings), grid, settings)
        if k == 1:
            return np.ones((self.maps.shape[0], 1), np.float32), True, estimate, best_separated(estimate)
        memberships, separation = self._find_phases(spectra, grid, k, settings)
        return memberships, True, estimate, separation

    def _find_phases(
        self, spectra: Spectra, grid: Grid, k: int, settings: Settings
    ) -> tuple[NDArray[np.float32], Separation]:
        """Memberships of so many phases, and how far apart these are."""
        n_lattices = max(LATTICE_RANK, k + 8)
        of = Grid.of(self.large)
        maps = [self._clusters(self._lattices(self.large, n_lattices, settings), of, k, settings)]
        plain = replace(settings, whiten=False)

        def scores_of(matrix: WindowMatrix, of: Grid) -> Array:
            return smoothed_scores(Spectra(matrix, matrix.half_plane, self.frequencies, spectra.normalize), of, plain)

        if self.large_spectra is not None:
            maps.append(self._clusters(scores_of(self.large_spectra, of), of, k, settings))
        own = smoothed_scores(spectra, grid, plain)
        maps.append(self._clusters(own, grid, k, settings))
        surest = _surest(own, grid, maps, k, settings.threads)
        if surest is None:  # these windows are too large for one of the phases
            memberships = by_kmeans(own, grid, k, settings.seeded)
            threads = Execution.of(settings.n_jobs)
            return memberships, separation_of_scores(own, memberships, grid, threads, seed=settings.random_state)
        pixels, learnt = surest
        del own, maps

        def learn(scores: Array, grid: Grid) -> Learnt | None:
            return _learn(scores, grid, pixels, k, settings.threads)

        points, means = [learnt[0]], [learnt[1]]

        def add(learnt: Learnt | None, of: Grid) -> None:
            if learnt is not None:
                points.append(_resampled(learnt[0], of, grid))
                means.append(learnt[1])

        for matrix in self.small[1:]:
            of = Grid.of(matrix)
            smaller = learn(scores_of(matrix, of), of)
            if smaller is None or smaller[2] <= NOISY or not self.between:
                add(smaller, of)
                continue
            of = Grid.of(self.between[0])  # larger windows in place of boundaries in noise
            add(learn(scores_of(self.between[0], of), of), of)
            add(learn(self._lattices(self.between[1], n_lattices, settings), of), of)
        place, phases = np.concatenate(points, axis=1), np.concatenate(means, axis=1)
        points.clear()
        memberships = _memberships(place, phases, grid)
        threads = Execution.of(settings.n_jobs)
        return memberships, separation_of_map(place, memberships, grid, threads, seed=settings.random_state)

    def _clusters(self, rows: Array, grid: Grid, k: int, settings: Settings) -> NDArray[np.int32]:
        """Phase of each pixel by k-means of rows."""
        if settings.whiten:
            rows = whiten_noise(rows.copy(), grid.noise_covariance(rows))
        clustered = by_kmeans(rows, grid, k, settings.seeded)
        return grid.label_image(clustered, self.large.image.shape[-2:], Execution.of(settings.n_jobs))

    def _lattices(self, matrix: WindowMatrix, rank: int, settings: Settings) -> Array:
        """Scores of the smoothed power spectra of windows, each of length 1."""
        spectra = PowerSpectra(matrix, matrix.half_plane, self.frequencies, _modulus(matrix))
        powers = compress(spectra, POWER_RANK, **settings.limits)
        smoothed = Grid.of(matrix).smooth(powers.scores, settings.smooth, Execution.of(**settings.threads))
        moments = self.frequencies.moments(matrix.half_plane, matrix.dtype)
        lattices = SmoothedSpectra(smoothed, powers.basis, powers.mean, moments)
        return compress(ArrayRows(lattices), rank, **settings.limits).scores


def _surest(
    scores: Array, grid: Grid, maps: Sequence[NDArray[np.int32]], n_phases: int, threads: dict[str, Any]
) -> tuple[NDArray[np.int32], Learnt] | None:
    """The one of some maps of pixels that leads to the largest mean confidence, the first of equals, and `_learn`."""
    surest: tuple[NDArray[np.int32], Learnt] | None = None
    most = -1.0
    for pixels in maps:
        learnt = _learn(scores, grid, pixels, n_phases, threads)
        if learnt is not None:
            first_two = np.partition(_memberships(learnt[0], learnt[1], grid), -2, axis=1)[:, -2:]
            confidence = float(np.diff(first_two, axis=1).mean(dtype=np.float64))
            if confidence > most:
                surest, most = (pixels, learnt), confidence
    return surest


def _memberships(points: Array, means: Array, grid: Grid) -> NDArray[np.float32]:
    return memberships_of(points, without_rims(points, means, grid.included, grid.window, grid.step))


def _learn(
    scores: Array, grid: Grid, pixels: NDArray[np.int32], n_phases: int, threads: dict[str, Any]
) -> Learnt | None:
    """`discriminate` from the windows deep in the phases of `pixels`, and the share of these that it mistakes."""
    labels = _at_centers(pixels, grid)
    taught = np.where(deep_windows(labels), labels, -1)[grid.included]
    found = discriminate(scores, taught, n_phases, grid.noise_covariance(scores), Execution.of(**threads))
    if found is None:
        return None
    points, means = found.points, found.means.astype(np.float32)
    deep = taught >= 0
    wrong = squares_to(points[deep], means).argmin(axis=1) != taught[deep]
    return points, means, float(np.mean([wrong[taught[deep] == phase].mean() for phase in range(n_phases)]))


def _largest_first(sizes: set[Size]) -> list[Size]:
    return sorted(sizes, key=lambda size: (-size[0] * size[1], size))


def step_of(window: Size, step: Any) -> Size:
    """`step`, or an eighth of the window."""
    return (max(1, window[0] // 8), max(1, window[1] // 8)) if step is None else pair("step", step)


def _apart(step: Size, window: Size, parts: int) -> Size:
    return max(step[0], window[0] // parts), max(step[1], window[1] // parts)


def _around(window: Size, shape: tuple[int, ...]) -> list[Size]:
    """Sizes of windows: that of the maps, that for the lattices, and a smaller one for the boundaries."""
    (y, x), (height, width) = window, shape[-2:]
    large = max(y, min(2 * y, height // 2)), max(x, min(2 * x, width // 2))
    return [window, large, (3 * y // 4, 3 * x // 4)]


def _modulus(matrix: WindowMatrix) -> float:
    """About the modulus of the transform of a window: powers in units of its square neither overflow nor vanish."""
    some = np.asarray(matrix.image[..., ::7, ::7], dtype=np.float64)
    some = some[np.isfinite(some)]
    spread = float(some.std()) if some.size else 0.0
    return spread * float(np.sqrt(matrix.window[0] * matrix.window[1])) or 1.0


def _at_centers(pixels: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
    """Labels (ny, nx) of the pixels at the centres of included windows; -1 elsewhere."""
    return np.where(grid.included, grid.at_centers(pixels), -1).astype(np.int32)


def _resampled(rows: Array, of: Grid, at: Grid) -> Array:
    """Rows (n, q) of a grid at the centres of the windows of another: interpolated linearly, constant beyond."""
    planes = of.to_planes(rows)
    if not of.full:
        nearest = distance_transform_edt(~of.included, return_distances=False, return_indices=True)
        planes = planes[:, nearest[0], nearest[1]]
    along_y, along_x = (
        interpolation((np.arange(m) * s + (w - 1) / 2 - (v - 1) / 2) / t, n)
        for m, w, s, n, v, t in zip(
            at.included.shape, at.window, at.step, of.included.shape, of.window, of.step, strict=True
        )
    )
    return np.stack([along_x(along_y(plane, 0), 1)[at.included] for plane in planes], axis=1)
