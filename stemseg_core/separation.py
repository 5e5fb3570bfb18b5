"""How many phases a map has: clusters that differ by more than drift, tilt and noise would make them differ."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

from stemseg_core.curves import ComponentEstimate, Curve
from stemseg_core.kmeans import KMeans
from stemseg_core.maps import Grid, thinning
from stemseg_core.threads import Progress, one_blas_thread, tell

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
EXCEEDED, FEW_WINDOWS = 1.2, 3.0
#: Restarts of k-means on the map, and on each surrogate.
STARTS, SURROGATE_STARTS = 10, 2
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
        See `stemseg_core.blocks.run`.

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
    every = thinning(len(scores), ROWS)
    place = _Place(grid, every)
    rows = np.ascontiguousarray(grid.thinned(scores, ROWS))
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
            null[best - 1] = (EXCEEDED + FEW_WINDOWS / place.n_apart) * chance
            if not value[best - 1] > null[best - 1]:
                best = 1
    return ComponentEstimate(best, "separation", {"separation": Curve(best, ks, value, null)})


class _Place:
    """Where rows are: every m-th window of a grid along both axes."""

    def __init__(self, grid: Grid, every: int) -> None:
        self.included = grid.included[every // 2 :: every, every // 2 :: every]
        windows = [w / (s * every) for w, s in zip(grid.window, grid.step, strict=True)]
        #: Windows to either side that see some of the same pixels, enough to be mixed.
        self.reach = [
            max(1, min(round(MIXED * w), n // NARROW)) for w, n in zip(windows, self.included.shape, strict=True)
        ]
        area = float(np.prod(windows))
        self.least = max(2, round(CORE_AREA * area))
        self.n_apart = max(
            1.0, float(np.prod([n + w for n, w in zip(self.included.shape, windows, strict=True)])) / area
        )

    def core(self, labels: Array) -> NDArray[np.bool_]:
        """Which rows have no window of another cluster within reach."""
        size = [2 * n + 1 for n in self.reach]
        low, high = (np.full(self.included.shape, fill, np.int32) for fill in (np.iinfo(np.int32).max, -1))
        low[self.included] = high[self.included] = labels
        alike = minimum_filter(low, size, mode="nearest") == maximum_filter(high, size, mode="nearest")
        found: NDArray[np.bool_] = alike[self.included]
        return found


def _separation(rows: Array, place: _Place, kmeans: KMeans) -> float:
    """Separation of the nearest two clusters, NaN if one of them has no core."""
    k = kmeans.n_clusters
    labels = kmeans.fit(rows).labels_
    core = place.core(labels)
    if np.bincount(labels[core], minlength=k).min() < place.least:
        return np.nan
    return float(np.sqrt(_nearest_pair(rows, labels, k) * _nearest_pair(rows[core], labels[core], k)))


def _by_chance(rows: Array, place: _Place, kmeans: KMeans, seed: int) -> float:
    """Mean separation of surrogates of the rows; NaN if too few have one."""
    rng = np.random.default_rng(seed)
    found = [_separation(_surrogate(rows, place.included, rng), place, kmeans) for _ in range(N_SURROGATES)]
    known = np.isfinite(found)
    return float(np.mean(found, where=known)) if known.sum() >= FEWEST else np.nan


def _nearest_pair(rows: Array, labels: Array, k: int) -> float:
    """Distance of the means of two clusters over the standard deviation along it; the smallest of all pairs."""
    counts = np.bincount(labels, minlength=k)
    members = [rows[labels == j].astype(np.float64) for j in range(k)]
    means = [m.mean(axis=0) for m in members]
    scatters = [m.T @ m - len(m) * np.outer(c, c) for m, c in zip(members, means, strict=True)]
    smallest = LARGEST
    for i in range(k):
        for j in range(i):
            between = means[i] - means[j]
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
