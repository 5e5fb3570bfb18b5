"""How many phases a map has: clusters that differ by more than drift, tilt and noise would make them differ."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from stemseg_core.phases.boundaries import deep_windows, discriminate
from stemseg_core.stages.estimates import ComponentEstimate, Curve, Separation
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.system.execution import Execution
from stemseg_core.system.random import streams
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid

#: Windows that are looked at, about: the grid is coarsened to them. Twice as many: twice the time, and separations that
#: change from one coarsening to another by less.
MAP_ROWS = 4000
#: Distance from a window of another cluster, in sides of a window, up to which a window sees both; the other windows
#: are the core of their cluster. Twice as much: cores without any mixture, but none in small phases.
MIXED_REACH = 0.4
#: Length of the map along an axis over the largest that distance may be, for in a narrow map few windows see one phase
#: alone. Twice as large: narrow maps keep cores, with more mixtures in them.
NARROW = 6
#: Smallest core, in areas of a window: smaller ones are chance, or fringes of lattice and grid. Twice as much: phases
#: must be larger to be counted.
MIN_CORE_AREA = 0.5
#: Share of the largest separation from which on a number of phases is nearly the best separated; the largest such
#: number is taken. Twice as much would be above 1: never more phases than those of the largest separation.
NEARLY_BEST = 0.9
#: Restarts of k-means on the map. Twice as many: twice the time, and rarely other clusters.
MAP_N_INIT = 10
#: Restarts of k-means on a surrogate map. Twice as many: twice the time, and surrogates that are somewhat better
#: separated.
SURROGATE_N_INIT = 2
#: Distance of a window from another phase, in sides of a window, below which it lies beside it. Twice as much: gradual
#: changes look better separated.
BESIDE = 1.0
#: Separation of clusters without any scatter, and the largest of all.
MAX_SEPARATION = 1e6

#: Surrogate maps that a number of phases is compared with. Twice as many: twice the time, and the mean of them is known
#: to 0.7 of its error.
N_COUNT_SURROGATES = 16
#: Fewest of these that must have clusters with cores, for the map to be compared with them. Twice as many: more often
#: the surrogates are cut into two clusters instead.
MIN_COUNT_SURROGATES = 4
#: How many times the mean separation of the surrogates a wide map must reach. Twice as much: two phases that are far
#: apart count as one.
COUNT_FACTOR = 1.2
#: Added to that for a map of one window; for a larger map, divided by its windows, overlap not counted. Twice as much:
#: small images are found to be one phase.
COUNT_FACTOR_OF_ONE_WINDOW = 3.0

#: Surrogate maps that the phases of a finished map are compared with. Twice as many: twice the time, and the limit is
#: known to 0.7 of its error.
N_MAP_SURROGATES = 8
#: Mean separation of surrogates, in learnt coordinates, at which a wide map must be separated by `TYPICAL_LIMIT`. Twice
#: as much: limits are lower by a factor of 1.4.
TYPICAL_SURROGATE = 4.5
#: Separation that a wide map must reach where its surrogates are typical. Twice as much: true maps of phases that
#: differ little count as chance.
TYPICAL_LIMIT = 5.2
#: Number of windows, overlap not counted, of a map that must be separated twice as much as a wide one. Twice as many:
#: maps of small images must be separated better.
TWICE_THE_LIMIT = 20.0
#: Fewest windows, overlap not counted, of a map that is judged: on smaller ones chance separates clusters as well as
#: phases are. Twice as many: nothing is said of images of some 500 px.
MIN_JUDGED_WINDOWS = 60.0

STAGE = "number of phases"


def estimate_n_phases(
    scores: Array, grid: Grid, execution: Execution, *, max_phases: int = 10, seed: int = 0
) -> ComponentEstimate:
    """Number of phases on a map of scores, 1 included.

    Parameters
    ----------
    scores : ndarray of shape (n, r)
        Of the included windows, smoothed as they are to be clustered.
    grid : Grid
        Of these windows.
    execution : Execution
    max_phases : int
        Largest number considered.
    seed : int
        Of k-means, and of surrogates.

    Returns
    -------
    ComponentEstimate
        Its curve "separation" has the separation for k = 1, 2, ... (NaN: there is none, or a cluster without a core)
        and as null the limit that it must exceed, for the number of phases that was compared with surrogates.

    Notes
    -----
    For each k the windows are clustered. Two clusters are as far apart as their means, over their scatter along the
    line between them; the nearest pair counts. The separation is the geometric mean of that of all windows and that of
    the cores, which leave out windows that see two clusters at once. It is small for a phase cut in two, and for two
    phases taken for one, which scatter along some line; clusters of windows on boundaries, which come next, have no
    core. The largest k whose separation is nearly the largest is taken.

    A drift can be cut in two as well. So the separation must clearly exceed that of surrogate maps: Gaussian fields
    with the spectra and cross spectra of the scores, which drift and are correlated like the map but have no regions.
    All Fourier coefficients of the map get other phase angles, the same ones in all scores; the map is mirrored first,
    since its sides do not fit together.

    Surrogates with the amplitudes of the data: J. Theiler et al., Physica D 58 (1992) 77, 10.1016/0167-2789(92)90102-S;
    alike in several series: D. Prichard, J. Theiler, Phys. Rev. Lett. 73 (1994) 951, 10.1103/PhysRevLett.73.951.
    """
    windows = _Windows(grid.coarsened(MAP_ROWS))
    rows = np.ascontiguousarray(grid.coarsened_rows(scores, MAP_ROWS))
    ks = np.arange(1, max(1, min(max_phases, len(np.unique(rows, axis=0)) // 2)) + 1)
    value, null = np.full(len(ks), np.nan), np.full(len(ks), np.nan)
    total, best = len(ks), 1
    with one_blas_thread():
        for i, k in enumerate(ks[1:], start=1):
            value[i] = _separation_of_clusters(rows, windows, _kmeans(k, MAP_N_INIT, seed, execution))
            execution.report(i, total, STAGE)
        if np.isfinite(value).any():
            best = int(ks[np.flatnonzero(value >= NEARLY_BEST * np.nanmax(value))[-1]])
            for k in dict.fromkeys((best, 2)):  # two clusters of a surrogate may have cores where more have none
                by_chance = _mean_of_surrogates(rows, windows, _kmeans(k, SURROGATE_N_INIT, seed, execution), seed)
                if np.isfinite(by_chance):
                    break
            execution.report(total, total, STAGE)
            null[best - 1] = (COUNT_FACTOR + COUNT_FACTOR_OF_ONE_WINDOW / windows.n_disjoint) * by_chance
            if not value[best - 1] > null[best - 1]:
                best = 1
    return ComponentEstimate(best, "separation", {"separation": Curve(best, ks, value, null)})


def best_separated(estimate: ComponentEstimate | None) -> Separation | None:
    """The best separated number of phases above 1, where `estimate_n_phases` found 1; None if there is none.

    Of a number that was given, the estimate is None, and so is what is returned.
    """
    if estimate is None:
        return None
    curve = estimate.curves["separation"]
    if curve.null is None or not np.isfinite(curve.value).any():
        return None
    best = int(np.nanargmax(curve.value if np.isnan(curve.null).all() else curve.null))
    return Separation(int(curve.k[best]), float(curve.value[best]), float(curve.null[best]))


def separation_of_map(
    points: Array, memberships: Array, grid: Grid, execution: Execution, *, seed: int = 0
) -> Separation:
    """How far apart the phases of a map are, and how far apart those of maps of one phase would be.

    Parameters
    ----------
    points : ndarray of shape (n, q)
        Of the included windows, coordinates in which phases are told apart, as of `boundaries.discriminate`.
    memberships : ndarray of shape (n, k)
        A window is of the phase with the largest.
    grid : Grid
        Of these windows.
    execution : Execution
    seed : int
        Of the surrogates.

    Notes
    -----
    Three distances count, each over a scatter along the line between two phases, and each that of the nearest two:

    - of their means, over the scatter of all their windows;
    - of the means of their cores, over the scatter of the cores;
    - of the means of those windows of the cores that lie beside the other phase, at most a window from it, over the
      scatter of the whole cores.

    The first is small for noise, which has no gap. The last is small for a gradual change, which hardly differs to both
    sides of where it is cut. The separation is the geometric mean of the last with that of the first two.

    Surrogates, as of `estimate_n_phases`, are clustered in as many phases. Learnt coordinates separate noise more than
    these, by a factor that was measured. Surrogates of two true phases are drifts of the same amplitude, and better
    separated than noise; therefore the limit follows the root of their mean.
    """
    k = memberships.shape[1]
    windows = _Windows(grid.coarsened(MAP_ROWS))
    labels = grid.coarsened_rows(memberships, MAP_ROWS).argmax(axis=1)
    rows = np.ascontiguousarray(grid.coarsened_rows(points, MAP_ROWS))
    with one_blas_thread():
        value = _separation_of_phases(rows, labels, windows, k)
        if np.isnan(value) or windows.n_disjoint < MIN_JUDGED_WINDOWS:
            return Separation(k, value, np.nan)
        tasks = [(stream,) for stream in streams(seed, N_MAP_SURROGATES)]
        found = np.array(execution.map(partial(_separation_of_surrogate, rows, windows, k), tasks))
    known = found[np.isfinite(found)]
    mean = float(known.mean()) if len(known) else TYPICAL_SURROGATE
    limit = TYPICAL_LIMIT * (1 + TWICE_THE_LIMIT / windows.n_disjoint) * float(np.sqrt(mean / TYPICAL_SURROGATE))
    return Separation(k, value, limit)


def separation_of_scores(
    scores: Array, memberships: Array, grid: Grid, execution: Execution, *, seed: int = 0
) -> Separation:
    """`separation_of_map` for scores (n, r), in the coordinates that windows deep in their phases teach."""
    scores = np.ascontiguousarray(grid.coarsened_rows(scores, MAP_ROWS))
    memberships = grid.coarsened_rows(memberships, MAP_ROWS)
    grid = grid.coarsened(MAP_ROWS)
    k = memberships.shape[1]
    labels = grid.to_map(memberships.argmax(axis=1).astype(np.int32), fill=-1)
    known = np.where(deep_windows(labels), labels, -1)[grid.included]
    discriminant = discriminate(scores, known, k, grid.noise_covariance(scores), execution)
    if discriminant is None:
        return Separation(k, np.nan, np.nan)
    return separation_of_map(discriminant.points, memberships, grid, execution, seed=seed)


class _Windows:
    """Where the windows of a map lie, and which of them are the cores of its clusters.

    Attributes
    ----------
    included : ndarray of bool of shape (ny, nx)
        Of the smallest part of the grid that holds all included windows.
    reach : list of int
        Windows to either side, along y and x, that see enough of the same pixels to be mixed.
    spacing : list of float
        Distance of neighbours along y and x, in sides of a window.
    min_core : int
        Windows of the smallest core.
    n_disjoint : float
        Windows that cover the included part of the map side by side.
    """

    def __init__(self, grid: Grid) -> None:
        # What is excluded around the included windows is no part of the map.
        box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(grid.included))
        self.included = grid.included[box]
        side = [w / s for w, s in zip(grid.window, grid.step, strict=True)]  # in steps
        self.reach = [
            max(1, min(round(MIXED_REACH * w), n // NARROW)) for w, n in zip(side, self.included.shape, strict=True)
        ]
        area = float(np.prod(side))
        self.spacing = [1 / w for w in side]
        self.min_core = max(2, round(MIN_CORE_AREA * area))
        covered = float(np.prod([n + w for n, w in zip(self.included.shape, side, strict=True)]))
        self.n_disjoint = max(1.0, covered * float(self.included.mean()) / area)

    def core(self, labels: Array) -> NDArray[np.bool_]:
        """Which windows (n,) have none of another cluster within reach."""
        size = [2 * n + 1 for n in self.reach]
        low, high = (np.full(self.included.shape, fill, np.int32) for fill in (np.iinfo(np.int32).max, -1))
        low[self.included] = high[self.included] = labels
        alike = minimum_filter(low, size, mode="nearest") == maximum_filter(high, size, mode="nearest")
        found: NDArray[np.bool_] = alike[self.included]
        return found

    def has_cores(self, labels_of_cores: Array, k: int) -> bool:
        """Whether every one of k clusters has a core that is large enough."""
        return bool(np.bincount(labels_of_cores, minlength=k).min() >= self.min_core)

    def distances_to(self, members: NDArray[np.bool_]) -> Array:
        """Distance (n,) of every window from the nearest of `members` (n,), in sides of a window."""
        away = np.ones(self.included.shape, bool)
        away[self.included] = ~members
        distance: Array = distance_transform_edt(away, sampling=self.spacing)
        return distance[self.included]


def _kmeans(k: int, n_init: int, seed: int, execution: Execution) -> KMeans:
    """On the threads of `execution`; its progress is that of numbers of phases."""
    return KMeans(k, n_init=n_init, random_state=seed, n_jobs=execution.n_threads)


def _separation_of_clusters(rows: Array, windows: _Windows, kmeans: KMeans) -> float:
    """Separation of the nearest two clusters as of `estimate_n_phases`, NaN if one of them has no core."""
    k = kmeans.n_clusters
    labels = kmeans.fit(rows).labels_
    core = windows.core(labels)
    if not windows.has_cores(labels[core], k):
        return np.nan
    return float(np.sqrt(_nearest_pair(rows, labels, k) * _nearest_pair(rows[core], labels[core], k)))


def _mean_of_surrogates(rows: Array, windows: _Windows, kmeans: KMeans, seed: int) -> float:
    """Mean separation of clusters of surrogates of the rows; NaN if too few have one."""
    rng = np.random.default_rng(seed)
    surrogates = (_surrogate(rows, windows.included, rng) for _ in range(N_COUNT_SURROGATES))
    found = [_separation_of_clusters(surrogate, windows, kmeans) for surrogate in surrogates]
    known = np.isfinite(found)
    return float(np.mean(found, where=known)) if known.sum() >= MIN_COUNT_SURROGATES else np.nan


def _separation_of_phases(rows: Array, labels: Array, windows: _Windows, k: int) -> float:
    """Separation of phases as of `separation_of_map`, NaN if one of them has no core."""
    core = windows.core(labels)
    cores, own = rows[core], labels[core]
    if not windows.has_cores(own, k):
        return np.nan
    overall = np.sqrt(_nearest_pair(rows, labels, k) * _nearest_pair(cores, own, k))
    across = _nearest_pair(cores, own, k, _difference_beside(rows, labels, core, windows))
    return float(min(MAX_SEPARATION, np.sqrt(overall * across)))


def _separation_of_surrogate(rows: Array, windows: _Windows, k: int, stream: np.random.SeedSequence) -> float:
    """`_separation_of_phases` of the clusters of one surrogate."""
    rng = np.random.default_rng(stream)
    surrogate = _surrogate(rows, windows.included, rng)
    kmeans = KMeans(k, n_init=SURROGATE_N_INIT, random_state=rng, n_jobs=1)
    return _separation_of_phases(surrogate, kmeans.fit(surrogate).labels_, windows, k)


def _difference_beside(
    rows: Array, labels: Array, core: NDArray[np.bool_], windows: _Windows
) -> Callable[[int, int], Array | None]:
    """A function of two clusters: the difference of their means where they lie side by side, None if nowhere.

    Windows of cores alone count.
    """
    cores = [core & (labels == phase) for phase in range(labels.max() + 1)]
    near = [windows.distances_to(labels == phase) < BESIDE for phase in range(len(cores))]

    def difference(i: int, j: int) -> Array | None:
        of_i, of_j = rows[cores[i] & near[j]], rows[cores[j] & near[i]]
        if not (len(of_i) and len(of_j)):
            return None
        return np.asarray(of_i.mean(axis=0, dtype=np.float64) - of_j.mean(axis=0, dtype=np.float64))

    return difference


def _nearest_pair(
    rows: Array, labels: Array, k: int, difference: Callable[[int, int], Array | None] | None = None
) -> float:
    """Smallest distance of two of k clusters: of their means, over the standard deviation along the line between them.

    `difference` of two clusters takes the place of that of their means, unless it is None.
    """
    counts = np.bincount(labels, minlength=k)
    members = [rows[labels == j].astype(np.float64) for j in range(k)]
    means = [m.mean(axis=0) for m in members]
    scatters = [m.T @ m - len(m) * np.outer(c, c) for m, c in zip(members, means, strict=True)]
    smallest = MAX_SEPARATION
    for i in range(k):
        for j in range(i):
            other = None if difference is None else difference(i, j)
            vector = means[i] - means[j] if other is None else other
            square = float(vector @ vector)
            variance = float(vector @ (scatters[i] + scatters[j]) @ vector) / (counts[i] + counts[j])
            if variance > 0:  # that of products with the vector, hence the square above
                smallest = min(smallest, square / np.sqrt(variance))
    return smallest


def _surrogate(rows: Array, included: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Rows of a map without phases: Gaussian fields with the spectra and cross spectra of the scores."""
    y, x = (np.flatnonzero(included.any(axis=axis)) for axis in (1, 0))
    included = included[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    ny, nx = included.shape
    noise = scipy.fft.rfft2(rng.standard_normal((2 * ny, 2 * nx)))
    rotation = noise / np.abs(noise)
    result, plane = np.empty_like(rows), np.zeros((ny, nx))
    for score, new in zip(rows.T.astype(np.float64), result.T, strict=True):
        plane[included] = score - score.mean()
        mirrored = np.concatenate([plane, plane[::-1]], axis=0)
        mirrored = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)
        new[:] = scipy.fft.irfft2(scipy.fft.rfft2(mirrored) * rotation, mirrored.shape)[:ny, :nx][included]
    return result
