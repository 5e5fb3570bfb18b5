"""How many phases a map has: clusters that differ by more than drift, tilt and noise would make them differ."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

from stemseg_core.phases.boundaries import deep_windows, discriminate
from stemseg_core.rows.transitional import map_tasks, tell
from stemseg_core.stages.estimates import ComponentEstimate, Curve, Separation
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.windows.grid import Grid

Array = NDArray[Any]

#: Windows that are looked at: of more, those in every m-th row and column of the grid, at least about so many.
ROWS = 4000
#: Windows within this share of a window's side of another cluster see both; the others are a cluster's core.
MIXED = 0.4
#: No more than one in so many windows along an axis is taken off for that: in a narrow image few see one phase alone.
NARROW = 6
#: A core has at least so much of the area of a window: smaller ones are chance, or fringes of lattice and grid.
CORE_AREA = 0.5
#: Of numbers of phases whose separations are within this share of the largest, the largest is taken.
NEARLY = 0.9
#: Surrogate maps without phases; at least so many must have clusters with cores to be compared with.
N_SURROGATES, FEWEST = 16, 4
#: How many times their mean separation must be exceeded: where the map is wide, and more for each window that the map
#: has less, overlap not counted.
EXCEEDED, PER_WINDOW = 1.2, 3.0
#: Restarts of k-means on the map, and on each surrogate.
STARTS, SURROGATE_STARTS = 10, 2
#: Windows of a core that are within so many windows' sides of another phase lie beside it.
BESIDE = 1.0
#: What the phases of a wide map must be separated by where its surrogates are by `TYPICAL`; with how few windows,
#: overlap not counted, it is twice as much; and how many surrogates are made.
CHANCE, TYPICAL, TWICE_BELOW, N_MAP_SURROGATES = 5.2, 4.5, 20.0, 8
#: With fewer windows nothing is said of chance: it separates clusters as well as phases are.
FEWEST_WINDOWS = 60.0
#: Separations are at most this: clusters without any scatter.
LARGEST = 1e6
STAGE = "number of phases"


def n_phases_of(
    scores: Array,
    grid: Grid,
    *,
    max_phases: int = 10,
    random_state: int = 0,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> ComponentEstimate:
    """Number of phases on a map of scores, 1 included.

    Parameters
    ----------
    scores : ndarray of shape (n, r)
        Of the included windows, smoothed as they are to be clustered.
    grid : Grid
        Where they are.
    max_phases : int
        Largest number considered.
    random_state : int
    n_jobs, progress
        See `stemseg_core.rows.transitional.run`.

    Returns
    -------
    ComponentEstimate
        Its curve "separation" has the separation for k = 1, 2, ... (NaN: there is none, or a cluster without a core)
        and as null what it must exceed, where it was needed.

    Notes
    -----
    For each k the windows are clustered, and two clusters are as far apart as their means, over their scatter along
    the line between them. Of all pairs the nearest counts. This is taken twice, of all windows and of the cores, that
    is, without windows that see two clusters at once; the geometric mean of both is the separation. A phase cut in two
    has a small one; two phases taken for one scatter along some line; windows on boundaries, which form clusters next,
    have no core. The largest k whose separation is nearly the largest is taken.

    A drift can be cut in two as well. So the separation must clearly exceed that of surrogate maps: Gaussian fields
    with the spectra and cross spectra of the scores, which drift and are correlated like the map, but have no regions
    (the phases of all Fourier coefficients are replaced, alike in all scores; the map is mirrored first, since its
    sides do not fit together).

    Surrogates with the amplitudes of the data: J. Theiler et al., Physica D 58 (1992) 77, 10.1016/0167-2789(92)90102-S;
    alike in several series: D. Prichard, J. Theiler, Phys. Rev. Lett. 73 (1994) 951, 10.1103/PhysRevLett.73.951.
    """
    place = _Place(grid.coarsened(ROWS))
    rows = np.ascontiguousarray(grid.coarsened_rows(scores, ROWS))
    ks = np.arange(1, max(1, min(max_phases, len(np.unique(rows, axis=0)) // 2)) + 1)
    value, null = np.full(len(ks), np.nan), np.full(len(ks), np.nan)
    seeded: dict[str, Any] = {"random_state": random_state, "n_jobs": n_jobs}
    total, best = len(ks), 1
    with one_blas_thread():
        for i, k in enumerate(ks[1:], start=1):
            value[i] = _separation(rows, place, KMeans(k, n_init=STARTS, **seeded))
            tell(progress, i, total, STAGE)
        if np.isfinite(value).any():
            best = int(ks[np.flatnonzero(value >= NEARLY * np.nanmax(value))[-1]])
            for k in dict.fromkeys((best, 2)):  # clusters of surrogates may all be too small for cores: fewer are not
                chance = _by_chance(rows, place, KMeans(k, n_init=SURROGATE_STARTS, **seeded), random_state)
                if np.isfinite(chance):
                    break
            tell(progress, total, total, STAGE)
            null[best - 1] = (EXCEEDED + PER_WINDOW / place.n_apart) * chance
            if not value[best - 1] > null[best - 1]:
                best = 1
    return ComponentEstimate(best, "separation", {"separation": Curve(best, ks, value, null)})


def separation_of(
    points: Array, memberships: Array, grid: Grid, random_state: int = 0, n_jobs: int | None = None
) -> Separation:
    """How far apart the phases of a map are, and how far apart those of maps of one phase would be.

    Parameters
    ----------
    points : ndarray of shape (n, q)
        Of the included windows, coordinates in which phases are told apart, as of `boundaries.discriminate`.
    memberships : ndarray of shape (n, k)
        A window is of the phase with the largest.
    grid : Grid
        Where the windows are.
    random_state : int
    n_jobs : int, optional

    Notes
    -----
    Three distances over a scatter along the line between two phases, that of the nearest two: of their means over the
    scatter of all their windows; of the means of their cores over that of the cores; and of the means of those windows
    of the cores that lie beside the other phase, at most a window from it, over the scatter of the whole cores. The
    first is small for noise, which has no gap, the last for what changes gradually, which hardly differs to both sides
    of where it is cut. The separation is the geometric mean of the last with that of the first two.

    Surrogates, as of `n_phases_of`, are clustered in as many phases. Learnt coordinates separate noise more than these,
    by a share that was measured; those of two true phases are drifts of the same amplitude, and separated more than
    noise is. So what must be exceeded follows the root of their mean.
    """
    k = memberships.shape[1]
    place = _Place(grid.coarsened(ROWS))
    labels = grid.coarsened_rows(memberships, ROWS).argmax(axis=1)
    rows = np.ascontiguousarray(grid.coarsened_rows(points, ROWS))
    with one_blas_thread():
        value = _map_separation(rows, labels, place, k)
        if np.isnan(value) or place.n_apart < FEWEST_WINDOWS:
            return Separation(k, value, np.nan)
        streams = np.random.SeedSequence(random_state).spawn(N_MAP_SURROGATES)
        found = np.array(map_tasks(partial(_surrogate_separation, rows, place, k), [(s,) for s in streams], n_jobs))
    known = found[np.isfinite(found)]
    typical = float(known.mean()) if len(known) else TYPICAL
    return Separation(k, value, CHANCE * (1 + TWICE_BELOW / place.n_apart) * float(np.sqrt(typical / TYPICAL)))


def best_separated(estimate: ComponentEstimate | None) -> Separation | None:
    """Of a number of phases that was found to be 1: which larger one would be the best separated, None if none is."""
    if estimate is None:  # it was given
        return None
    curve = estimate.curves["separation"]
    if curve.null is None or not np.isfinite(curve.value).any():
        return None
    best = int(np.nanargmax(curve.value if np.isnan(curve.null).all() else curve.null))
    return Separation(int(curve.k[best]), float(curve.value[best]), float(curve.null[best]))


def separation_of_rows(
    rows: Array, memberships: Array, grid: Grid, random_state: int = 0, n_jobs: int | None = None
) -> Separation:
    """`separation_of` in the coordinates that windows deep in their phases teach of rows (n, r), such as scores."""
    rows, memberships = np.ascontiguousarray(grid.coarsened_rows(rows, ROWS)), grid.coarsened_rows(memberships, ROWS)
    grid = grid.coarsened(ROWS)
    labels = grid.to_map(memberships.argmax(axis=1).astype(np.int32), fill=-1)
    taught = np.where(deep_windows(labels), labels, -1)[grid.included]
    found = discriminate(rows, taught, memberships.shape[1], grid.noise_covariance(rows), n_jobs=n_jobs)
    if found is None:
        return Separation(memberships.shape[1], np.nan, np.nan)
    return separation_of(found[0], memberships, grid, random_state, n_jobs)


class _Place:
    """Where rows are: the included windows of a grid."""

    def __init__(self, grid: Grid) -> None:
        # What is excluded around the included windows is no part of the map.
        box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(grid.included))
        self.included = grid.included[box]
        windows = [w / s for w, s in zip(grid.window, grid.step, strict=True)]
        #: Windows to either side that see some of the same pixels, enough to be mixed.
        self.reach = [
            max(1, min(round(MIXED * w), n // NARROW)) for w, n in zip(windows, self.included.shape, strict=True)
        ]
        area = float(np.prod(windows))
        #: Distance between neighbours along each axis, in windows' sides.
        self.apart = [1 / w for w in windows]
        self.least = max(2, round(CORE_AREA * area))
        #: Windows that cover the included part of the map side by side.
        covered = float(np.prod([n + w for n, w in zip(self.included.shape, windows, strict=True)]))
        self.n_apart = max(1.0, covered * float(self.included.mean()) / area)

    def core(self, labels: Array) -> NDArray[np.bool_]:
        """Which rows have no window of another cluster within reach."""
        size = [2 * n + 1 for n in self.reach]
        low, high = (np.full(self.included.shape, fill, np.int32) for fill in (np.iinfo(np.int32).max, -1))
        low[self.included] = high[self.included] = labels
        alike = minimum_filter(low, size, mode="nearest") == maximum_filter(high, size, mode="nearest")
        found: NDArray[np.bool_] = alike[self.included]
        return found

    def fills(self, labels_of_cores: Array, k: int) -> bool:
        """Whether every one of k clusters has a core that is large enough."""
        return bool(np.bincount(labels_of_cores, minlength=k).min() >= self.least)

    def distances_to(self, members: NDArray[np.bool_]) -> Array:
        """Of every row from the nearest of some of them, in windows' sides."""
        away = np.ones(self.included.shape, bool)
        away[self.included] = ~members
        distance: Array = distance_transform_edt(away, sampling=self.apart)
        return distance[self.included]


def _map_separation(rows: Array, labels: Array, place: _Place, k: int) -> float:
    """Separation of phases as of `separation_of`, NaN if one of them has no core."""
    core = place.core(labels)
    cores, own = rows[core], labels[core]
    if not place.fills(own, k):
        return np.nan
    overall = np.sqrt(_nearest_pair(rows, labels, k) * _nearest_pair(cores, own, k))
    across = _nearest_pair(cores, own, k, _difference_beside(rows, labels, core, place))
    return float(min(LARGEST, np.sqrt(overall * across)))


def _surrogate_separation(rows: Array, place: _Place, k: int, stream: np.random.SeedSequence) -> float:
    rng = np.random.default_rng(stream)
    surrogate = _surrogate(rows, place.included, rng)
    kmeans = KMeans(k, n_init=SURROGATE_STARTS, random_state=rng, n_jobs=1)
    return _map_separation(surrogate, kmeans.fit(surrogate).labels_, place, k)


def _separation(rows: Array, place: _Place, kmeans: KMeans) -> float:
    """Separation of the nearest two clusters, NaN if one of them has no core."""
    k = kmeans.n_clusters
    labels = kmeans.fit(rows).labels_
    core = place.core(labels)
    if not place.fills(labels[core], k):
        return np.nan
    return float(np.sqrt(_nearest_pair(rows, labels, k) * _nearest_pair(rows[core], labels[core], k)))


def _by_chance(rows: Array, place: _Place, kmeans: KMeans, seed: int) -> float:
    """Mean separation of surrogates of the rows; NaN if too few have one."""
    rng = np.random.default_rng(seed)
    found = [_separation(_surrogate(rows, place.included, rng), place, kmeans) for _ in range(N_SURROGATES)]
    known = np.isfinite(found)
    return float(np.mean(found, where=known)) if known.sum() >= FEWEST else np.nan


def _difference_beside(
    rows: Array, labels: Array, core: NDArray[np.bool_], place: _Place
) -> Callable[[int, int], Array | None]:
    """Difference of the means of two clusters where these lie side by side, None if nowhere; windows of cores alone."""
    cores = [core & (labels == phase) for phase in range(labels.max() + 1)]
    near = [place.distances_to(labels == phase) < BESIDE for phase in range(len(cores))]

    def difference(i: int, j: int) -> Array | None:
        of_i, of_j = rows[cores[i] & near[j]], rows[cores[j] & near[i]]
        if not (len(of_i) and len(of_j)):
            return None
        return np.asarray(of_i.mean(axis=0, dtype=np.float64) - of_j.mean(axis=0, dtype=np.float64))

    return difference


def _nearest_pair(
    rows: Array, labels: Array, k: int, difference: Callable[[int, int], Array | None] | None = None
) -> float:
    """Distance of the means of two clusters over the standard deviation along it; the smallest of all pairs.

    `difference` gives that of two clusters where it is not the one of their means.
    """
    counts = np.bincount(labels, minlength=k)
    members = [rows[labels == j].astype(np.float64) for j in range(k)]
    means = [m.mean(axis=0) for m in members]
    scatters = [m.T @ m - len(m) * np.outer(c, c) for m, c in zip(members, means, strict=True)]
    smallest = LARGEST
    for i in range(k):
        for j in range(i):
            other = None if difference is None else difference(i, j)
            between = means[i] - means[j] if other is None else other
            square = float(between @ between)
            along = float(between @ (scatters[i] + scatters[j]) @ between) / (counts[i] + counts[j])
            if along > 0:
                smallest = min(smallest, square / np.sqrt(along))
    return smallest


def _surrogate(rows: Array, included: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """Rows of a map without phases: Gaussian fields with the spectra and cross spectra of the scores."""
    y, x = (np.flatnonzero(included.any(axis=axis)) for axis in (1, 0))
    included = included[y[0] : y[-1] + 1, x[0] : x[-1] + 1]
    ny, nx = included.shape
    noise = scipy.fft.rfft2(rng.standard_normal((2 * ny, 2 * nx)))
    turned = noise / np.abs(noise)
    result, plane = np.empty_like(rows), np.zeros((ny, nx))
    for own, new in zip(rows.T.astype(np.float64), result.T, strict=True):
        plane[included] = own - own.mean()
        mirrored = np.concatenate([plane, plane[::-1]], axis=0)
        mirrored = np.concatenate([mirrored, mirrored[:, ::-1]], axis=1)
        new[:] = scipy.fft.irfft2(scipy.fft.rfft2(mirrored) * turned, mirrored.shape)[:ny, :nx][included]
    return result
