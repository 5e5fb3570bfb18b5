"""Windows of several sizes: large ones tell phases apart, small ones say where they end.

The default method of `segment`. Lattices in large windows are clustered by k-means, and so are the spectra of large
windows and those of the windows of the maps. Lattices show faint differences whatever the thickness, but not phases
without a lattice, and large windows do not show phases that nowhere fill them. Which of this matters differs from image
to image. So each of the three maps is tried as the teacher of the windows of the maps, and the one that makes the
surest map is kept. What its phases look like in smaller windows then tells them apart to the pixel
(`stemseg_core.phases.boundaries`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from stemseg_core.phases.boundaries import deep_windows, discriminate, memberships_of, squares_to, without_rims
from stemseg_core.phases.clusters import by_kmeans, kmeans_bytes
from stemseg_core.phases.frequencies import Frequencies
from stemseg_core.phases.scores import PhaseMap, Problem, compressed
from stemseg_core.phases.separability import Witnesses, count_phases
from stemseg_core.phases.spectra import PowerSpectra, SmoothedSpectra
from stemseg_core.phases.window_sizes import Size, coarser, largest_first, sizes_around, step_of
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.stages.estimates import ComponentEstimate, Separation
from stemseg_core.stages.leading import singular_vectors_bytes
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid, filled, whiten_noise
from stemseg_core.windows.images import Frames
from stemseg_core.windows.matrix import NoWindowError, WindowMatrix
from stemseg_core.windows.windows import WindowFFT

#: Scores kept of the power spectra of large windows. Twice as many: noise of more directions in the lattices.
POWER_RANK = 48
#: Least number of scores kept of the lattices, which are smoothed powers of length 1. Twice as many: noise counts more.
LATTICE_RANK = 24
#: Scores of the lattices for each phase beyond the number of phases.
SPARE_RANK = 8
#: Steps of large windows in a side of one, at most. Twice as many: four times the windows, and a hardly finer map.
LARGE_STEPS = 16
#: Steps of small windows in a side of one, at most. Twice as many: four times the windows, boundaries hardly better.
SMALL_STEPS = 8
#: Fewest large windows that are used: with fewer, an image is segmented without them. Twice as many: images of a few
#: large windows lose them.
MIN_LARGE_WINDOWS = 64
#: Most windows of the maps to one large window, at equal steps; with more, large windows are excluded nearly everywhere
#: and not used. Twice as many: large windows are used although they see little of the image.
MAX_MAP_WINDOWS = 16
#: Share of the windows deep in a phase that may look like another phase. From there on small windows are too noisy, and
#: larger ones take their place. Twice as much: small windows place boundaries at less dose.
NOISY = 0.005
#: Every which row and column of pixels is looked at for the scatter of an image. Twice as many are left out: faster,
#: less exact, and only the units of powers depend on it.
SCATTER_STEP = 7


@dataclass(frozen=True, eq=False)
class Learnt:
    """What windows look like that lie deep in the phases of a map.

    Attributes
    ----------
    points : ndarray of shape (n, q), float32
        All windows, in coordinates in which the phases differ.
    means : ndarray of shape (k, q), float32
        The phases.
    mistaken : float
        Share of the windows deep in a phase that are nearer to another, the mean over phases.
    """

    points: NDArray[np.float32]
    means: NDArray[np.float32]
    mistaken: float


@dataclass(frozen=True, eq=False)
class Teacher:
    """A map (y, x) of pixels, and what the windows of the maps learn from it."""

    pixels: NDArray[np.int32]
    learnt: Learnt

    def memberships(self, grid: Grid) -> NDArray[np.float32]:
        """Memberships (n, k) of the windows of the maps by what they learnt, before smaller windows are asked."""
        return _memberships(self.learnt.points, self.learnt.means, grid)


@dataclass(frozen=True, eq=False)
class LargeWindows:
    """Large windows, and medium ones between these and the windows of the maps.

    Moduli of spectra are for lattices. Spectra are in the chosen scale.
    """

    moduli: WindowMatrix
    spectra: WindowMatrix
    medium_moduli: WindowMatrix
    medium_spectra: WindowMatrix


@dataclass(frozen=True, eq=False)
class Multiscale:
    """Windows of several sizes over one image.

    Attributes
    ----------
    maps : WindowMatrix
        Windows that the maps have an entry for.
    smaller : list of WindowMatrix
        Others that find the boundaries.
    large : LargeWindows or None
        Those that tell phases apart; None if they meet the edge, or excluded pixels, nearly everywhere.
    lattices : WindowMatrix
        Moduli of the windows whose lattices are compared: large ones, else those of the maps.
    frequencies : Frequencies
        Which are compared.
    """

    maps: WindowMatrix
    smaller: list[WindowMatrix]
    large: LargeWindows | None
    lattices: WindowMatrix
    frequencies: Frequencies

    @classmethod
    def over(cls, frames: Frames, sizes: list[Size], features: WindowFFT, frequencies: Frequencies) -> Multiscale:
        """Windows over an image.

        Parameters
        ----------
        frames : Frames
            The image.
        sizes : list of (int, int)
            That of the maps, and others, of which the largest is for the lattices; they are chosen if there is none.
        features : WindowFFT
            Its step is that of the maps. Its window is not used.
        frequencies : Frequencies
        """
        lay = partial(_laid, features, frames)
        first, step = sizes[0], step_of(sizes[0], features.step)
        all_sizes = sizes if len(sizes) > 1 else sizes_around(first, frames.image.shape)
        largest = max(all_sizes, key=lambda size: size[0] * size[1])
        maps = lay(first, step)
        smaller = [lay(size, coarser(step, size, SMALL_STEPS)) for size in all_sizes[1:] if size != largest]
        # One that was not asked for may be too small for the frequencies that are compared.
        smaller = [size for size in smaller if size.window in sizes or frequencies.leaves_some(size.half_plane)]
        large = _large_windows(lay, largest, maps)
        lattices = lay(first, step, scale="abs") if large is None else large.moduli
        windows = cls(maps, smaller, large, lattices, frequencies)
        for size in (lattices, maps, *smaller, *windows._medium):
            frequencies.kept(size.half_plane)  # refused before any work
        return windows

    @property
    def _medium(self) -> list[WindowMatrix]:
        return [] if self.large is None else [self.large.medium_spectra, self.large.medium_moduli]

    @property
    def largest(self) -> WindowMatrix:
        """The largest windows whose frequencies are compared."""
        return self.lattices

    @property
    def sizes(self) -> tuple[Size, ...] | None:
        """Sizes of the windows, the largest first."""
        return tuple(largest_first({matrix.window for matrix in (self.lattices, self.maps, *self.smaller)}))

    def find_phases(self, problem: Problem) -> PhaseMap:
        """Phases of the windows of the maps, whose spectra and grid are those of the problem."""
        estimate = self._count(problem) if problem.counts else None
        return problem.settled(estimate, lambda k: self._find_phases(k, problem))

    def _count(self, problem: Problem) -> ComponentEstimate:
        """How many phases there are, by maps that the windows of the maps make without smaller ones."""
        witnesses = Witnesses.of(problem.scores(whiten=False), problem.grid, problem.parameters.smooth)
        views = [Witnesses.of(rows, grid, 0.0) for rows, grid in self._views(problem.most_phases, problem)]
        views.append(witnesses)
        quiet = replace(problem, execution=problem.execution.without_progress())

        def separation_of(k: int) -> Separation:
            maps = [self._map_of_clusters(view.rows, view.grid, k, quiet) for view in views]
            teacher = _surest(witnesses.rows, witnesses.grid, maps, k, quiet.execution)
            if teacher is None:
                return Separation(k, np.nan, np.nan)
            return witnesses.separation_of(teacher.memberships(witnesses.grid).argmax(axis=1), k)

        most = min(problem.most_phases, *(view.most_phases for view in views))
        return count_phases(separation_of, most, problem.execution)

    def _find_phases(self, k: int, problem: Problem) -> PhaseMap:
        """The map of k phases."""
        if k == 1:
            return PhaseMap(np.ones((self.maps.shape[0], 1), np.float32), partition=True)
        grid, execution, seed = problem.grid, problem.execution, problem.seed
        maps = self._maps_of_large_windows(k, problem)
        scores = problem.scores(whiten=False)
        witnesses = Witnesses.of(scores, grid, problem.parameters.smooth)
        maps.append(self._map_of_clusters(scores, grid, k, problem))
        teacher = _surest(scores, grid, maps, k, execution)
        if teacher is None:  # these windows are too large for one of the phases
            memberships = by_kmeans(scores, grid, k, seed, execution)
            return PhaseMap(memberships, partition=True, separation=witnesses.separation(memberships))
        pixels, learnt = teacher.pixels, [teacher.learnt]
        separation = witnesses.separation(teacher.memberships(grid))
        del scores, maps, teacher
        for matrix in self.smaller:
            learnt += self._learn_in_smaller(matrix, pixels, k, problem)
        points = np.concatenate([some.points for some in learnt], axis=1)
        means = np.concatenate([some.means for some in learnt], axis=1)
        learnt.clear()
        memberships = _memberships(points, means, grid)
        return PhaseMap(memberships, partition=True, separation=separation)

    def predicted_bytes(self, n_phases: int, rank: int, n_threads: int) -> float:
        """Largest memory that `find_phases` holds at once."""
        n, k = self.maps.shape[0], n_phases
        pixels, kept = _label_bytes(self.maps), min(rank, n, self.frequencies.n_features(self.maps.half_plane))
        scores, coordinates = 4 * n * kept, 4 * n * (k - 1)
        memberships = n * (k * 18 + 40)  # and distances to the phases, and which of these are allowed
        needed = [
            self._maps_of_large_windows_bytes(k, n_threads),
            # Scores of the windows of the maps, also whitened.
            2 * pixels + 2 * scores + _map_of_clusters_bytes(self.maps, kept, k, n_threads),
            3 * pixels + scores + 2 * coordinates + memberships,
        ]
        learnt = 0
        for matrix in (self.maps, *self.smaller, *self._medium):
            kept = POWER_RANK if matrix in self._medium else min(rank, self.frequencies.n_features(matrix.half_plane))
            needed.append(2 * pixels + learnt + _learn_bytes(matrix, min(kept, *matrix.shape), n_threads))
            learnt += coordinates
        needed.append(pixels + learnt + max(learnt, memberships))  # coordinates twice while they are put together
        return max(needed)

    def _maps_of_large_windows(self, k: int, problem: Problem) -> list[NDArray[np.int32]]:
        """Phase of each pixel by clusters of the lattices of large windows, and by those of their spectra."""
        return [self._map_of_clusters(rows, grid, k, problem) for rows, grid in self._views(k, problem)]

    def _views(self, k: int, problem: Problem) -> Iterator[tuple[Array, Grid]]:
        """Scores of the lattices of large windows, for k phases, and those of their spectra; made one by one."""
        grid = Grid.of(self.lattices)
        yield self._lattice_scores(self.lattices, k, problem), grid
        if self.large is not None:
            yield problem.on(self.large.spectra, self.frequencies).scores(whiten=False), grid

    def _maps_of_large_windows_bytes(self, k: int, n_threads: int) -> float:
        """Memory of the map of lattices, which is the larger one."""
        matrix = self.lattices
        n, powers = matrix.shape[0], min(POWER_RANK, *matrix.shape)
        lattices = min(_lattice_rank(k), n, self.frequencies.n_features(matrix.half_plane))
        smoothing = Grid.of(matrix).smooth_bytes(powers, matrix.dtype)
        return max(
            singular_vectors_bytes(matrix, powers, n_threads),
            4 * n * powers + max(smoothing, 4 * n * lattices, 8 * n),
            4 * n * lattices + _map_of_clusters_bytes(matrix, lattices, k, n_threads),
        )

    def _map_of_clusters(self, rows: Array, grid: Grid, k: int, problem: Problem) -> NDArray[np.int32]:
        """Phase of each pixel by k-means of rows, whitened if that is asked for."""
        if problem.parameters.whiten:
            rows = whiten_noise(rows.copy(), grid.noise_covariance(rows))
        memberships = by_kmeans(rows, grid, k, problem.seed, problem.execution)
        return grid.label_image(memberships, self.maps.image.shape[-2:], problem.execution)

    def _lattice_scores(self, matrix: WindowMatrix, k: int, problem: Problem) -> Array:
        """Scores of the smoothed power spectra of windows, each of length 1."""
        execution = problem.execution
        spectra = PowerSpectra(matrix, matrix.half_plane, self.frequencies, _modulus(matrix))
        powers = compressed(spectra, POWER_RANK, execution)
        smoothed = Grid.of(matrix).smooth(powers.scores, problem.parameters.smooth, execution)
        moments = self.frequencies.moments(matrix.half_plane, matrix.dtype)
        lattices = SmoothedSpectra(smoothed, powers.basis, powers.mean, moments)
        return compressed(ArrayRows(lattices), _lattice_rank(k), execution).scores

    def _learn_in_smaller(
        self, matrix: WindowMatrix, pixels: NDArray[np.int32], k: int, problem: Problem
    ) -> list[Learnt]:
        """What smaller windows learn from a map, with points at the centres of the windows of the maps.

        Where too many of them are mistaken, boundaries are in noise. Then it is what medium windows learn.
        """

        def learn(scores: Array, grid: Grid) -> Learnt | None:
            return _learn(scores, grid, pixels, k, problem.execution)

        grid = Grid.of(matrix)
        learnt = learn(problem.on(matrix, self.frequencies).scores(whiten=False), grid)
        found = [learnt]
        if learnt is not None and learnt.mistaken > NOISY and self.large is not None:
            medium = self.large.medium_spectra
            grid = Grid.of(medium)
            found = [
                learn(problem.on(medium, self.frequencies).scores(whiten=False), grid),
                learn(self._lattice_scores(self.large.medium_moduli, k, problem), grid),
            ]
        return [replace(some, points=_resampled(some.points, grid, problem.grid)) for some in found if some is not None]


def _laid(features: WindowFFT, frames: Frames, size: Size, step: Size, **parameters: Any) -> WindowMatrix:
    """Windows of that size and step over an image, with other parameters than those of `features`."""
    return clone(features).set_params(window=size, step=step, **parameters).matrix_of(frames)


def _large_windows(lay: Callable[..., WindowMatrix], size: Size, maps: WindowMatrix) -> LargeWindows | None:
    """Large windows of that size; None if there are too few."""
    step = coarser(maps.step, size, LARGE_STEPS)
    medium = (size[0] + maps.window[0]) // 2, (size[1] + maps.window[1]) // 2
    try:
        large = LargeWindows(
            moduli=lay(size, step, scale="abs"),
            spectra=lay(size, step),
            medium_moduli=lay(medium, step, scale="abs"),
            medium_spectra=lay(medium, step),
        )
    except NoWindowError:
        return None
    n_maps_at_this_step = maps.step[0] * maps.step[1] / (step[0] * step[1]) * maps.shape[0]
    return large if large.moduli.shape[0] >= max(MIN_LARGE_WINDOWS, n_maps_at_this_step / MAX_MAP_WINDOWS) else None


def _lattice_rank(k: int) -> int:
    """Scores that lattices of k phases are told apart by."""
    return max(LATTICE_RANK, k + SPARE_RANK)


def _label_bytes(matrix: WindowMatrix) -> int:
    """Memory of a map of the pixels."""
    return 4 * matrix.image.shape[-2] * matrix.image.shape[-1]


def _map_of_clusters_bytes(matrix: WindowMatrix, rank: int, k: int, n_threads: int) -> float:
    """Memory of `_map_of_clusters` beside the rows."""
    n = matrix.shape[0]
    return max(kmeans_bytes(n, rank, k, n_threads), 4 * n * k + _label_bytes(matrix))


def _surest(
    scores: Array, grid: Grid, maps: Sequence[NDArray[np.int32]], n_phases: int, execution: Execution
) -> Teacher | None:
    """The map of pixels that leads to the largest mean confidence, the first of equals; None if none teaches."""
    surest: Teacher | None = None
    most = -1.0
    for pixels in maps:
        learnt = _learn(scores, grid, pixels, n_phases, execution)
        if learnt is not None:
            first_two = np.partition(_memberships(learnt.points, learnt.means, grid), -2, axis=1)[:, -2:]
            confidence = float(np.diff(first_two, axis=1).mean(dtype=np.float64))
            if confidence > most:
                surest, most = Teacher(pixels, learnt), confidence
    return surest


def _memberships(points: Array, means: Array, grid: Grid) -> NDArray[np.float32]:
    """Memberships (n, k) from coordinates of windows and phases, thin rims dissolved."""
    return memberships_of(points, without_rims(points, means, grid.included, grid.window, grid.step))


def _learn(scores: Array, grid: Grid, pixels: NDArray[np.int32], n_phases: int, execution: Execution) -> Learnt | None:
    """What windows learn from those deep in the phases of a map of pixels; None if a phase has fewer than two."""
    labels = _at_centers(pixels, grid)
    known = np.where(deep_windows(labels), labels, -1)[grid.included]
    found = discriminate(scores, known, n_phases, grid.noise_covariance(scores), execution)
    if found is None:
        return None
    means, deep = found.means.astype(np.float32), known >= 0
    wrong = squares_to(found.points[deep], means).argmin(axis=1) != known[deep]
    mistaken = float(np.mean([wrong[known[deep] == phase].mean() for phase in range(n_phases)]))
    return Learnt(found.points, means, mistaken)


def _learn_bytes(matrix: WindowMatrix, rank: int, n_threads: int) -> float:
    """Memory of scores of a matrix, and of learning among them."""
    known = matrix.included.size * 40  # labels, and distances to the boundaries of phases
    smoothing = Grid.of(matrix).smooth_bytes(rank, matrix.dtype)
    beside = 4 * matrix.shape[0] * rank + max(smoothing, 8 * matrix.shape[0], known)
    return max(singular_vectors_bytes(matrix, rank, n_threads), beside)


def _modulus(matrix: WindowMatrix) -> float:
    """About the modulus of the transform of a window: powers in units of its square neither overflow nor vanish."""
    some = np.asarray(matrix.image[..., ::SCATTER_STEP, ::SCATTER_STEP], dtype=np.float64)
    some = some[np.isfinite(some)]
    scatter = float(some.std()) if some.size else 0.0
    return scatter * float(np.sqrt(matrix.window[0] * matrix.window[1])) or 1.0


def _at_centers(pixels: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
    """Labels (ny, nx) of the pixels at the centres of included windows; -1 elsewhere."""
    return np.where(grid.included, grid.at_centers(pixels), -1).astype(np.int32)


def _resampled(rows: Array, of: Grid, at: Grid) -> Array:
    """Rows (n, q) of a grid at the centres of the windows of another: interpolated linearly, constant beyond."""
    return of.resampled(filled(of.to_planes(rows), of.included), at)
