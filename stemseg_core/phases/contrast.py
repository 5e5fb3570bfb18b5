"""Intensity: where it tells phases apart, it corrects outlines, and makes the map of an image without a lattice.

A window sees a bright particle from half a window away. The mean intensity about a pixel, over a fraction of a window,
says where it ends. So where two phases differ in it by much more than it scatters within them, what the windows have
got clearly wrong is put right: the faint glow of a particle, or the edge of the image, which no window is centred on.
An image in which nothing is periodic may still have regions of their own intensity or texture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, label, maximum_filter1d

from stemseg_core.phases.boundaries import deep_windows, depth_of
from stemseg_core.phases.clusters import by_kmeans, kmeans_bytes
from stemseg_core.phases.scores import AUTO, MAX_PHASES, PhaseMap, Problem
from stemseg_core.phases.separability import count_phases
from stemseg_core.stages.estimates import Separation
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid, filled, nearest_values
from stemseg_core.windows.images import Frames

#: What the map of an image without a lattice says of itself.
NOTE = "nothing periodic is seen in the image: phases are regions of their own intensity or texture"
#: Means of pixels, in a side of a window, that an image is reduced to. Twice as many: four times the memory.
BINS = 16
#: Standard deviation of the Gaussian mean of intensity, in sides of a window. Twice as much: less noise, and corners
#: are rounder.
SPREAD = 0.14
#: The same where nothing is periodic, so that no lattice has to be averaged out.
SPREAD_WITHOUT_LATTICE = 0.08
#: Part of the way from the darker to the brighter of two phases where one ends. Twice as much: bright phases are thin.
LEVEL = 0.45
#: Distance of this level from either phase, in the scatter of their intensities, from which on they differ. Twice as
#: much: only images of hardly any noise are corrected.
CLEAR_LEVEL = 2.75
#: Part of the way from the darker to the brighter of two phases up to which a window is of the halo, where the darker
#: one hardly scatters. Twice as much: thin edges of particles do not count in their intensity.
HALO = 0.2
#: Least width, in sides of a window, of what is corrected: windows place boundaries better than that, also on thin
#: edges, which are dark. Twice as much: maps that swell by half a window are left so.
GROSS = 0.4
#: Farthest that a pixel may be from the phase it is given to, in sides of a window. Twice as much: more of a halo may
#: change its phase.
REACH = 0.75
#: Times that this is done, each from where the last one ended: at the edge of the image, up to which the map is only
#: continued, a halo is wider than elsewhere. Twice as many: the same, and dark parts of bright phases change as well.
ROUNDS = 2
#: Distance of two clusters of intensity, in their scatter, above which they are two. The halves of noise are 2.65 apart
#: whatever it looks like, many slices of a slow change up to 3.46. Twice as much: no image has two.
SEPARATE = 3.6
#: Weight of the mean of a phase everywhere among its means nearby, in that of all windows nearby. It only counts far
#: from a phase.
EVERYWHERE = 1e-4
#: Bytes a pixel while outlines are corrected: labels, intensity, regions, distances. It predicts memory only.
CORRECTED_BYTES = 68
#: Bytes a pixel while pixels are told apart by intensity or texture alone: levels there, labels twice. The same.
LABELLED_BYTES = 32
#: Bytes a bin while sums over its pixels, which are smoothed, become statistics. The same.
STATISTICS_BYTES = 44


@dataclass(frozen=True, eq=False)
class Statistics:
    """Mean intensity, and logarithm of its variance, about the centres of bins.

    Attributes
    ----------
    planes : ndarray of shape (2, by, bx), float32
        Where all pixels of a bin are excluded, what is in the nearest one where they are not.
    bins : Grid
        Of the bins, side by side; those with pixels that are not excluded are included.
    """

    planes: Array
    bins: Grid

    @classmethod
    def of(cls, frames: Frames, window: tuple[int, int], spread: float) -> Statistics:
        """Of the pixels of an image that are not excluded, with a Gaussian of `spread` sides of a window."""
        side = _bin(window)
        (height, width), (y, x) = frames.image.shape[1:], side
        ny, nx = height // y, width // x
        sums = np.empty((3, ny, nx), np.float32)
        for i in range(ny):
            rows = slice(i * y, (i + 1) * y)
            pixels = frames.pixels(0, rows, slice(0, nx * x), np.dtype(np.float32)).reshape(y, nx, x)
            sums[0, i] = pixels.sum(axis=(0, 2))
            sums[1, i] = np.square(pixels).sum(axis=(0, 2))
            hidden = 0 if frames.mask is None else frames.mask[0, rows, : nx * x].reshape(y, nx, x).sum(axis=(0, 2))
            sums[2, i] = y * x - hidden
        seen = sums[2] > 0
        sigma = [spread * w / s for w, s in zip(window, side, strict=True)]
        total, squares, weight = (gaussian_filter(plane, sigma, mode="nearest") for plane in sums)
        weight = np.maximum(weight, np.finfo(np.float32).tiny)
        mean = total / weight
        variance = np.maximum(squares / weight - mean**2, 1e-12)
        return cls(filled(np.stack([mean, np.log(variance)]), seen), Grid(seen, side, side))

    def at_centers(self, grid: Grid) -> Array:
        """Values (n, 2) at the centres of the included windows of a grid."""
        return self.bins.resampled(self.planes, grid)

    def at_pixels(self, plane: int, shape: tuple[int, int]) -> Array:
        """Values of a plane at all pixels, float32."""
        return _spread(self.planes[plane], self.bins, shape)


class Level(NamedTuple):
    """Where the brighter of two phases ends.

    Attributes
    ----------
    plane : ndarray of shape (ny, nx)
        Intensity of their boundary, at the centres of all windows.
    brighter, darker : int
    """

    plane: Array
    brighter: int
    darker: int


class ContrastMap(NamedTuple):
    """Phases by intensity or texture.

    Attributes
    ----------
    memberships : ndarray of shape (n, k), float32
        Of the included windows.
    label_image : ndarray of shape (y, x), int32
    separation : float
        Distance of the two nearest clusters, in their scatter.
    """

    memberships: NDArray[np.float32]
    label_image: NDArray[np.int32]
    separation: float


def by_contrast(frames: Frames, problem: Problem, period: float | None) -> PhaseMap | None:
    """Phases by intensity or texture, if that is asked for, or if nothing is periodic and they are clearly separated.

    Raises
    ------
    ParameterError
        If it is asked for, and they are not.
    """
    parameters, grid, execution = problem.parameters, problem.grid, problem.execution
    asked = parameters.contrast == "only"
    if parameters.n_phases == 1 or parameters.contrast == "off":
        return None
    if not asked and (parameters.method != "kmeans" or period is not None):
        return None
    maps: dict[int, ContrastMap] = {}

    def separation_of(k: int) -> Separation:
        tried = contrast_map(frames, grid, k, problem.seed, execution)
        separation = Separation(k, tried.separation, SEPARATE)
        if separation.exists:
            maps.clear()
            maps[k] = tried
        return separation

    estimate = None
    if parameters.n_phases == AUTO:
        # Many thin slices of one region may pass for more.
        estimate = count_phases(separation_of, MAX_PHASES, execution, failures=1)
        k = max(2, estimate.n_components)
        separation = Separation(k, float(estimate.curves["separation"].value[k - 1]), SEPARATE)
    else:
        k = int(parameters.n_phases)
        separation = separation_of(k)
    if k in maps:
        memberships, pixels, _ = maps[k]
        return PhaseMap(memberships, partition=True, estimate=estimate, separation=separation, pixels=pixels)
    if asked:
        raise ParameterError(
            f"`contrast=` finds no {k} phases: their intensities or textures are {separation.value:.1f} times their "
            f"scatter apart, noise gives up to {SEPARATE}; take the default, which looks for lattices",
            contrast=parameters.contrast,
        )
    return None


def corrected(labels: NDArray[np.int32], frames: Frames, grid: Grid, k: int, execution: Execution) -> NDArray[np.int32]:
    """Labels of pixels, those corrected that their intensity shows to be clearly wrong.

    Parameters
    ----------
    labels : ndarray of shape (y, x), int32
        -1: excluded, and left as it is.
    frames : Frames
        The image.
    grid : Grid
        Of the windows that the labels are from.
    k : int
        Number of phases.

    Returns
    -------
    ndarray of shape (y, x), int32
        The same object if no two phases differ clearly.

    Notes
    -----
    Levels are those of windows deep in the phases nearby, so that uneven light does not matter. Cost: 10 ns a pixel if
    no phases differ, else some 300.
    """
    statistics = Statistics.of(frames, grid.window, SPREAD)
    levels = _levels(labels, statistics, grid, k, execution)
    if not levels:
        return labels
    intensity = statistics.at_pixels(0, labels.shape)
    given = labels
    for _ in range(ROUNDS):
        given = _moved(given, intensity, levels, grid)
    moved = given != labels
    return np.where(moved & ~_gross(moved, grid.window), labels, given) if moved.any() else labels


def _moved(labels: NDArray[np.int32], intensity: Array, levels: list[Level], grid: Grid) -> NDArray[np.int32]:
    """Labels where pixels beyond the level of their phase are of the other one, if that is near."""
    given = labels.copy()
    for phase in sorted({p for level in levels for p in level[1:]}):
        leaves = np.zeros(labels.shape, bool)
        others = []
        for level in levels:
            if phase not in level[1:]:
                continue
            other = level.darker if phase == level.brighter else level.brighter
            at = _spread(level.plane, grid, labels.shape)
            beyond = intensity < at if phase == level.brighter else intensity > at
            leaves |= beyond & (labels == phase) & _near(labels == other, grid.window)
            others.append(other)
        if leaves.any():
            given[leaves] = nearest_values(labels, np.isin(labels, others), leaves)
    return given


def contrast_map(frames: Frames, grid: Grid, k: int, seed: int, execution: Execution) -> ContrastMap:
    """Phases by k-means of intensity or of texture, whichever is the better separated.

    The texture is the standard deviation of the pixels about a place. Pixels are told apart by their own intensity or
    texture, windows by those at their centres.
    """
    statistics = Statistics.of(frames, grid.window, SPREAD_WITHOUT_LATTICE)
    bins = statistics.bins
    best: ContrastMap | None = None
    at_centers = statistics.at_centers(grid)
    for plane, values in enumerate(statistics.planes):
        rows = values[bins.included][:, np.newaxis]
        found = by_kmeans(rows, bins, k, seed, execution).argmax(axis=1)
        separation, centers, variance = _separation(rows[:, 0].astype(np.float64), found, k)
        if best is not None and separation <= best.separation:
            continue
        edges = (centers[1:] + centers[:-1]) / 2
        labels = np.searchsorted(edges, statistics.at_pixels(plane, frames.image.shape[1:])).astype(np.int32)
        squares = (at_centers[:, plane, np.newaxis] - centers) ** 2
        squares -= squares.min(axis=1, keepdims=True)
        weights = np.exp(-squares / (2 * variance))
        memberships = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        best = ContrastMap(memberships, labels, separation)
    assert best is not None
    return best


def contrast_bytes(n_pixels: int, window: tuple[int, int], n: int, k: int, n_threads: int, *, alone: bool) -> float:
    """Memory of `contrast_map`, and of `corrected` unless intensity makes the map `alone`."""
    y, x = _bin(window)
    n_bins = n_pixels // (y * x)
    # Statistics and labels of the pixels by the first of them, while bins are grouped, and their scatter is found.
    grouping = n_pixels * 4 + n_bins * 36 + max(kmeans_bytes(n_bins, 1, k, n_threads), n_bins * max(4 * k + 12, 36))
    by_pixels = n_pixels * (LABELLED_BYTES if alone else CORRECTED_BYTES) + n_bins * 9
    return max(n_bins * STATISTICS_BYTES, grouping, by_pixels) + n * (8 + 16 * k)


def _bin(window: tuple[int, int]) -> tuple[int, int]:
    """Sides of a bin, in pixels."""
    return max(1, window[0] // BINS), max(1, window[1] // BINS)


def _separation(values: Array, labels: Array, k: int) -> tuple[float, Array, float]:
    """Least distance of neighbouring clusters over their scatter; their centres, rising, and the mean variance."""
    counts = np.bincount(labels, minlength=k)
    if counts.min() < 2:
        return 0.0, np.linspace(values.min(), values.max(), k), 1.0
    centers = np.bincount(labels, values, k) / counts
    variances = np.bincount(labels, (values - centers[labels]) ** 2, k) / counts
    order = np.argsort(centers)
    centers, variances = centers[order], variances[order]
    scatter = np.sqrt(np.maximum((variances[1:] + variances[:-1]) / 2, np.finfo(np.float64).tiny))
    separation = float((np.diff(centers) / scatter).min()) if k > 1 else 0.0
    return separation, centers, max(float(variances.mean()), float(np.finfo(np.float32).tiny))


def _levels(labels: NDArray[np.int32], statistics: Statistics, grid: Grid, k: int, execution: Execution) -> list[Level]:
    """Levels of the pairs of phases that differ clearly in intensity.

    The windows deep in a phase tell its intensity. A small particle has a wide halo, which is deep in its phase as
    well: so windows that may as well be of the darker phase are left out of the brighter one.
    """
    execution = execution.called("contrast")
    intensity = statistics.at_centers(grid)[:, 0]
    own = np.where(grid.included, grid.at_centers(labels), -1).astype(np.int32)
    found = [_intensity(intensity, _deep(own, phase, grid), grid, execution) for phase in range(k)]
    levels = []
    for a in range(k):
        for b in range(a + 1, k):
            if not np.isfinite(found[a].scatter + found[b].scatter):
                continue
            bright, dark = (a, b) if found[a].mean.mean() > found[b].mean.mean() else (b, a)
            brighter, darker = found[bright], found[dark]
            halo = np.zeros(own.shape, bool)
            tail = HALO * (brighter.mean - darker.mean)
            halo[grid.included] = intensity < darker.mean + np.maximum(CLEAR_LEVEL * darker.scatter, tail)
            halo &= own == bright
            if halo.any():
                rest = deep_windows(np.where(halo, dark, own)) & (own == bright) & ~halo
                brighter = _intensity(intensity, rest[grid.included], grid, execution)
            apart = float(np.median(brighter.mean - darker.mean))
            clear = min(LEVEL * apart / darker.scatter, (1 - LEVEL) * apart / brighter.scatter)
            if clear > CLEAR_LEVEL:
                level = darker.mean + np.float32(LEVEL) * (brighter.mean - darker.mean)
                plane = grid.to_planes(level[:, np.newaxis], float(np.median(level)))[0]
                levels.append(Level(plane, bright, dark))
    return levels


class Intensity(NamedTuple):
    """Mean intensity of a phase about each window (n,), NaN if it is not known, and its scatter, infinite then."""

    mean: Array
    scatter: float


def _deep(own: NDArray[np.int32], phase: int, grid: Grid) -> NDArray[np.bool_]:
    """Which included windows (n,) lie half a window deep in a phase, or deeper than its others."""
    inside = own == phase
    deep = inside & (depth_of(inside, grid.step) >= max(grid.window) / 2) if inside.any() else inside
    return (deep if deep.sum() > 1 else inside & deep_windows(own))[grid.included]


def _intensity(intensity: Array, deep: NDArray[np.bool_], grid: Grid, execution: Execution) -> Intensity:
    """That of a phase, told by some of its windows."""
    if deep.sum() < 2:
        return Intensity(np.full(len(intensity), np.nan, np.float32), np.inf)
    rows = np.stack([intensity * deep, deep], axis=1).astype(np.float32)
    rows = grid.smooth(rows, max(grid.window), execution) + EVERYWHERE * rows.dtype.type(deep.mean()) * np.array(
        [intensity[deep].mean(), 1], np.float32
    )
    mean = rows[:, 0] / rows[:, 1]
    scatter = float(np.sqrt(np.square(intensity - mean)[deep].mean(dtype=np.float64)))
    return Intensity(mean, max(scatter, float(np.finfo(np.float32).tiny)))


def _near(inside: NDArray[np.bool_], window: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels that a phase may reach to."""
    return _dilated(inside, [REACH * w for w in window])


def _dilated(inside: NDArray[np.bool_], reach: list[float]) -> NDArray[np.bool_]:
    result = inside.view(np.uint8)
    for axis, distance in enumerate(reach):
        result = maximum_filter1d(result, 2 * round(distance) + 1, axis=axis, mode="nearest")
    return result.view(bool)


def _gross(moved: NDArray[np.bool_], window: tuple[int, int]) -> NDArray[np.bool_]:
    """Those connected regions that are at some place wide enough to be corrected."""
    regions, n = label(moved)
    depth = distance_transform_edt(np.pad(moved, 1, mode="edge"))[1:-1, 1:-1]
    deepest = np.zeros(n + 1)
    np.maximum.at(deepest, regions.ravel(), depth.ravel())
    wide = 2 * deepest >= GROSS * max(window)
    wide[0] = False
    result: NDArray[np.bool_] = wide[regions]
    return result


def _spread(plane: Array, of: Grid, shape: tuple[int, int]) -> Array:
    """Values (ny, nx) at the centres of a grid, at all pixels: linear between them, constant beyond; float32."""
    along_y, along_x = of.interpolations(*map(np.arange, shape))
    return along_x(along_y(plane.astype(np.float32, copy=False), 0), 1)
