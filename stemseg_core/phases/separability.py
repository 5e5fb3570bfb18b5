"""Whether phases exist: how far apart those of a map are, and how far apart chance would put them.

One test judges every map, whichever method made it, and the number of phases is the largest whose map passes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.places import MIN_TEACHERS, WIDTHS, Places
from stemseg_core.stages.estimates import ComponentEstimate, Curve, Separation
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid

#: Windows that are looked at, about: the grid is coarsened to them. Twice as many: twice the time, and separations that
#: change from one coarsening to another by less.
MAP_ROWS = 4000
#: Depth of the middle of a phase, in sides of a window, from which on it is no band that a boundary could make. Twice
#: as much: wide layers between two phases that they resemble are not counted.
NO_BAND = 1.25
#: Cosine of the angle at which a band sees the two phases beside it; if it is less, the band is a mixture of these. Of
#: three phases that differ alike it is 0.5. Twice as much: more layers are taken for boundaries.
BETWEEN = 0.2
#: Separation that a wide map must exceed. Twice as much: phases that differ little count as chance.
LIMIT = 4.0
#: Number of windows, overlap not counted, at which the limit is twice as high. Twice as many: small images must be
#: separated better.
TWICE_THE_LIMIT = 4.5
#: Fewest windows, overlap not counted, of a map whose phases are called chance: on smaller ones true phases are hardly
#: better separated. Twice as many: nothing is said of images of some 350 px.
MIN_JUDGED_WINDOWS = 10.0
#: Fewest windows that are looked at on such a map: fewer say little in as many dimensions as scores have. Twice as
#: many: nothing is said of grids whose windows lie side by side.
MIN_WITNESSES = 150
#: Part of the mean variance that is added to the scatter within phases in every direction, so that it can be inverted.
#: Twice as much: directions of little scatter count less.
RIDGE = 1e-2
#: Separation of phases without any scatter, and the largest of all: what differs by rounding has none.
MAX_SEPARATION = 1e6
#: Numbers of phases, one after the other, that fail before no larger one is tried. Twice as many: more time.
FAILURES = 2
#: Restarts of k-means on the map. Twice as many: twice the time, and rarely other clusters.
MAP_N_INIT = 10

STAGE = "number of phases"


@dataclass(frozen=True, eq=False)
class Witnesses:
    """Some of the windows of a map, by which its phases are judged.

    Attributes
    ----------
    rows : ndarray of shape (m, r)
        Their scores, smoothed.
    grid : Grid
        Of these windows, `full` coarsened.
    full : Grid
        Of all windows.
    smooth : float
        Standard deviation of the mean over neighbours, in pixels.
    """

    rows: Array
    grid: Grid
    full: Grid
    smooth: float

    @classmethod
    def of(cls, scores: Array, grid: Grid, smooth: float) -> Witnesses:
        """About `MAP_ROWS` of all windows, from their scores (n, r), which are copied."""
        return cls(np.array(grid.coarsened_rows(scores, MAP_ROWS)), grid.coarsened(MAP_ROWS), grid, smooth)

    @property
    def most_phases(self) -> int:
        """Largest number of clusters that is looked for: half that of different windows."""
        return len(np.unique(self.rows, axis=0)) // 2

    def separation(self, memberships: Array) -> Separation:
        """How far apart phases are, from memberships (n, k) of all windows; a window is of the phase of the largest."""
        labels = self.full.coarsened_rows(memberships, MAP_ROWS).argmax(axis=1)
        return self.separation_of(labels, memberships.shape[1])

    def separation_of(self, labels: Array, k: int) -> Separation:
        """How far apart k phases are, from the labels (m,) of these windows.

        Notes
        -----
        Windows that lie `MIXED_REACH` from other phases are the core of their phase. Two phases are compared by the
        windows of their cores that are near the other one. Fisher's discriminant, from the means of the two and the
        scatter within all cores, gives each window a value. The map is divided into blocks, and a window is judged by a
        discriminant that was learnt in the blocks beside its own: noise that looks different in two places does so no
        more in others. A plane is fitted to these values together with a step from one phase to the other, so that what
        changes gradually makes no step. The separation is that step over the scatter about it, in the phase that
        scatters more, and of several phases that of the nearest two. A sharp boundary makes a step as wide as a window
        with its smoothing; where a wider one fits the values better, the separation is less in proportion, so that it
        is what changes over that distance. It is not known, NaN, where a phase has no core, or hardly any, or is a band
        between two others that looks like a mixture of these, where phases differ by more than chance, but gradually,
        nor in images of less than `MIN_JUDGED_WINDOWS` and on grids of less than `MIN_WITNESSES` where it is no larger
        than chance.

        Clusters of random fields are separated by 3 to 4, the more the fewer windows there are, hence the limit. Cost:
        some 10 ms for each pair of phases.
        """
        places = Places(self.grid, labels, k, self.smooth)
        limit = LIMIT * (1 + TWICE_THE_LIMIT / places.n_disjoint)
        rows = self.rows.astype(np.float64)
        with one_blas_thread():
            if not places.have_cores:
                return Separation(k, np.nan, limit)
            judge = _Judge(rows, places, self.grid.noise_covariance(self.rows))
            if k > 2 and judge.some_band_is_a_mixture():
                return Separation(k, np.nan, limit)
            steps, widths = np.array([judge.step(i, j) for i in range(k) for j in range(i)]).T
        value, gradual = float((steps / widths).min()), float(steps.min()) > limit
        enough = places.n_disjoint >= MIN_JUDGED_WINDOWS and len(rows) >= MIN_WITNESSES
        judged = value > limit or (enough and not gradual)
        return Separation(k, value if judged else np.nan, limit)


def count_phases(
    separation_of: Callable[[int], Separation], most: int, execution: Execution, *, failures: int = FAILURES
) -> ComponentEstimate:
    """The largest number of phases whose map is better separated than by chance, 1 if there is none.

    Parameters
    ----------
    separation_of : callable
        Of the map of k phases, k > 1.
    most : int
        Largest number considered.
    execution : Execution
        Progress is reported after every map.
    failures : int
        Numbers in a row that fail, after which no more are tried.

    Returns
    -------
    ComponentEstimate
        Its curve "separation" has the separation for k = 1, 2, ... (NaN: there is none) and as null what it must
        exceed.
    """
    ks = np.arange(1, max(1, most) + 1)
    value, null = np.full(len(ks), np.nan), np.full(len(ks), np.nan)
    best = 1
    for k in ks[1:].tolist():
        if k > best + failures:
            break
        found = separation_of(k)
        value[k - 1], null[k - 1] = found.value, found.chance
        if found.exists:
            best = k
        execution.report(k - 1, len(ks), STAGE)
    execution.report(len(ks), len(ks), STAGE)
    return ComponentEstimate(best, "separation", {"separation": Curve(best, ks, value, null)})


def estimate_n_phases(
    witnesses: Witnesses, execution: Execution, *, max_phases: int = 10, seed: int = 0
) -> ComponentEstimate:
    """`count_phases` of maps of clusters of the windows, for k-means of this seed."""
    rows = np.ascontiguousarray(witnesses.rows)

    def separation_of(k: int) -> Separation:
        kmeans = KMeans(k, n_init=MAP_N_INIT, random_state=seed, n_jobs=execution.n_threads)
        return witnesses.separation_of(kmeans.fit(rows).labels_, k)

    return count_phases(separation_of, min(max_phases, witnesses.most_phases), execution)


def best_separated(estimate: ComponentEstimate | None) -> Separation | None:
    """The best separated number of phases above 1, where one phase was found; None if there is none.

    Of a number that was given, the estimate is None, and so is what is returned.
    """
    if estimate is None:
        return None
    curve = estimate.curves["separation"]
    if curve.null is None or not np.isfinite(curve.value).any():
        return None
    best = int(np.nanargmax(curve.value))
    return Separation(int(curve.k[best]), float(curve.value[best]), float(curve.null[best]))


def lowered(estimate: ComponentEstimate, separation: Separation) -> ComponentEstimate:
    """The estimate after the finished map of its number of phases failed: that of the next smaller number."""
    curve, k = estimate.curves["separation"], estimate.n_components
    value = curve.value.copy()
    value[k - 1] = separation.value
    fewer = Curve(k - 1, curve.k, value, curve.null)
    return ComponentEstimate(k - 1, "separation", {"separation": fewer})


class _Judge:
    """Compares phases, two by two.

    Parameters
    ----------
    rows : ndarray of shape (n, r), float64
    places : Places
        Every phase has a core.
    noise : ndarray of shape (r, r)
        Covariance of what changes from one window to the next.
    """

    def __init__(self, rows: Array, places: Places, noise: Array) -> None:
        self.rows, self.places, self.noise = rows, places, noise
        self.scatter = [self._scatter(places.fold != fold) for fold in range(4)]

    def _scatter(self, known: NDArray[np.bool_]) -> Array:
        """Covariance (r, r) within the cores, of known windows; the noise adds as much again, as for boundaries."""
        cores = [self.rows[core & known] for core in self.places.cores]
        large = [core for core in cores if len(core) >= 2 * MIN_TEACHERS]
        # Of one score, `cov` is a number.
        scatters = [np.atleast_2d(np.cov(core.T)) for core in large]
        within = np.mean(scatters, axis=0) if large else np.zeros_like(self.noise)
        trace, noise_trace = np.trace(within), np.trace(self.noise)
        if noise_trace > 0:
            within = within + self.noise * (trace / noise_trace)
        return within + (RIDGE * trace / len(within) or 1.0) * np.eye(len(within))

    def some_band_is_a_mixture(self) -> bool:
        """Whether a phase that is nowhere wider than a boundary looks like a mixture of two others."""
        places = self.places
        bands = np.flatnonzero(places.depth < NO_BAND)
        if not len(bands):
            return False
        means = np.stack([self.rows[core].mean(axis=0) for core in places.cores])
        metric = np.linalg.inv(self._scatter(np.ones(len(self.rows), bool)))
        for band in bands:
            to_others = np.delete(means, band, axis=0) - means[band]
            products = to_others @ metric @ to_others.T
            lengths = np.sqrt(np.diag(products))
            if (products < BETWEEN * np.outer(lengths, lengths)).any():
                return True
        return False

    def step(self, i: int, j: int) -> tuple[float, float]:
        """Step between phases over the scatter about it, NaN if too few windows can be judged, and its width."""
        places = self.places
        near_i, near_j = places.beside(i, j)
        between = places.between(i, j)
        values = self._values(near_i, near_j, near_i | near_j | between)
        known = np.isfinite(values)
        near_i, near_j = near_i & known, near_j & known
        if min(np.count_nonzero(near_i), np.count_nonzero(near_j)) < MIN_TEACHERS:
            return np.nan, 1.0
        cores = near_i | near_j
        of_i = near_i[cores]
        design = np.column_stack([places.plane(cores), of_i])
        fitted = np.linalg.lstsq(design, values[cores], rcond=None)[0]
        about = values[cores] - design @ fitted
        separation = float(fitted[-1]) / max(float(about[of_i].std()), float(about[~of_i].std()), 1 / MAX_SEPARATION)
        return separation, self._width(values, between & known, i, j)

    def _values(self, near_i: NDArray[np.bool_], near_j: NDArray[np.bool_], judged: NDArray[np.bool_]) -> Array:
        """Discriminants (n,) of judged windows, 1 apart on average for the two; NaN where none was learnt."""
        values = np.full(len(self.rows), np.nan)
        for number, scatter in enumerate(self.scatter):
            own, beside = judged & (self.places.fold == number), self.places.fold != number
            known_i, known_j = near_i & beside, near_j & beside
            if min(np.count_nonzero(known_i), np.count_nonzero(known_j)) < MIN_TEACHERS:
                continue
            mean_i, mean_j = self.rows[known_i].mean(axis=0), self.rows[known_j].mean(axis=0)
            axis = np.linalg.solve(scatter, mean_i - mean_j)
            length = float((mean_i - mean_j) @ axis)
            values[own] = (self.rows[own] - (mean_i + mean_j) / 2) @ axis / (length or 1.0)
        return values

    def _width(self, values: Array, known: NDArray[np.bool_], i: int, j: int) -> float:
        """Width of the step between two phases in that of a sharp boundary, from 1 up, which fits the values best.

        The step is the share of one of the two, a Gaussian mean of the map, beside a common plane. Of phases that
        hardly touch it is taken as sharp.
        """
        if min(np.count_nonzero(known & self.places.cores[phase]) for phase in (i, j)) < self.places.smallest:
            return 1.0
        plane = np.linalg.qr(self.places.plane(known))[0]
        rest = values[known] - plane @ (plane.T @ values[known])
        explained = []
        for shares in self.places.shares:
            both = shares[known][:, [i, j]]
            step = both[:, 0] / np.maximum(both.sum(axis=1), np.finfo(np.float64).tiny)
            step -= plane @ (plane.T @ step)
            explained.append(float(step @ rest) ** 2 / max(float(step @ step), np.finfo(np.float64).tiny))
        best = int(np.argmax(explained))
        if best in (0, len(WIDTHS) - 1):
            return WIDTHS[best]
        below, at, above = explained[best - 1 : best + 2]
        shift = (above - below) / (2 * (2 * at - above - below) or 1.0)  # vertex of a parabola
        return float(WIDTHS[best] * (WIDTHS[best + 1] / WIDTHS[best]) ** shift)
