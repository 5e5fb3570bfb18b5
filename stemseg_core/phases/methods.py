"""How windows become memberships of phases: the methods of `segment`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from stemseg_core.phases.boundaries import phase_sums
from stemseg_core.phases.defects import unmix_windows, unmix_windows_bytes
from stemseg_core.phases.memberships import posterior, sum_to_one
from stemseg_core.phases.separability import best_separated, estimate_n_phases
from stemseg_core.phases.spectra import Spectra
from stemseg_core.rows.sources import ArrayRows, MaskedRows
from stemseg_core.rows.transitional import run
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.compress import compress
from stemseg_core.stages.estimates import ComponentEstimate, Separation
from stemseg_core.stages.ica import ICA
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.stages.leading import leading_bytes
from stemseg_core.stages.lloyd import distance_columns, squared_distances
from stemseg_core.stages.nfindr import NFINDR
from stemseg_core.stages.nmf import NMF
from stemseg_core.stages.projections import RankError
from stemseg_core.stages.spa import ATGP, SPA
from stemseg_core.stages.vca import VCA
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import Progress
from stemseg_core.windows.grid import Grid, coarsening, whiten_noise
from stemseg_core.windows.matrix import WindowMatrix

#: Methods by which phases are endmembers, and windows mixtures of them.
ENDMEMBERS = {"nfindr": NFINDR, "vca": VCA, "spa": SPA, "atgp": ATGP}
METHODS = ("kmeans", *ENDMEMBERS, "nmf", "ica")
#: The number of phases that stands for "find out", and the largest that is found then.
AUTO, MAX_PHASES = "auto", 10
#: Windows that restarts of k-means are run on, at least, where there are many more.
START_ROWS = 100_000
#: Rows whose memberships are made at once, in the second-level cache.
POSTERIOR_ROWS = 4096

Array = NDArray[Any]
Found = tuple[NDArray[np.float32], bool, ComponentEstimate | None, Separation | None]


@dataclass(frozen=True)
class Settings:
    """Parameters of `segment` that every way of finding phases takes."""

    rank: int
    smooth: float
    whiten: bool
    random_state: int
    n_jobs: int | None
    max_memory: int | str | None
    progress: Progress | None

    @property
    def threads(self) -> dict[str, Any]:
        return {"n_jobs": self.n_jobs, "progress": self.progress}

    @property
    def limits(self) -> dict[str, Any]:
        return {"max_memory": self.max_memory, **self.threads}

    @property
    def seeded(self) -> dict[str, Any]:
        return {"random_state": self.random_state, **self.limits}


def find_phases(method: Any, spectra: Spectra, grid: Grid, n_phases: int | str, settings: Settings) -> Found:
    """Memberships (n, k) of the included windows by any method but the default; and whether they are a partition.

    Rows sum to 1. A partition comes from clusters of scores; otherwise the memberships are shares of endmembers. Then
    come how the number of phases was found, if it was `AUTO`, and if it is 1, how far apart more would be: how far
    apart phases are is only known of the default method to tell anything.
    """
    memberships, partition, estimate = _found(method, spectra, grid, n_phases, settings)
    return memberships, partition, estimate, best_separated(estimate) if memberships.shape[1] == 1 else None


def _found(
    method: Any, spectra: Spectra, grid: Grid, n_phases: int | str, settings: Settings
) -> tuple[NDArray[np.float32], bool, ComponentEstimate | None]:
    """All but the last of `find_phases`."""
    seeded, limits, threads = settings.seeded, settings.limits, settings.threads
    unmixed = isinstance(method, str) and method in ENDMEMBERS
    if unmixed or method == "nmf":
        settings = replace(settings, whiten=False)
    if method == "atgp":  # it measures lengths, and rows that are centred have a rank too few for it
        k, estimate = counted(n_phases, lambda: smoothed_scores(spectra, grid, settings), grid, settings)
        scores = smoothed_scores(spectra, grid, settings, center=False)
    else:
        scores = smoothed_scores(spectra, grid, settings)
        k, estimate = counted(n_phases, lambda: scores, grid, settings)
    if method == "nmf":
        kept = _clear(k, scores, grid, settings)
        del scores
        return _by_parts(k, spectra, kept, grid, settings), False, estimate
    if unmixed:
        estimator = ENDMEMBERS[method](k, **limits)
        if hasattr(estimator, "random_state"):
            estimator.set_params(random_state=settings.random_state)
        return sum_to_one(unmix_windows(estimator, scores, grid, Execution.of(**limits)).abundances), False, estimate
    if method == "ica":
        return by_kmeans(ICA(k, **seeded).fit_transform(scores), grid, k, seeded), True, estimate
    return *_by_estimator(clone(method), scores, k, threads), estimate


def counted(
    n_phases: int | str, scores: Callable[[], Array], grid: Grid, settings: Settings
) -> tuple[int, ComponentEstimate | None]:
    """The number of phases that is given, or that on a map of smoothed scores and how it was found."""
    if n_phases != AUTO:
        return int(n_phases), None
    most, seed = min(MAX_PHASES, settings.rank), settings.random_state
    execution = Execution.of(**settings.threads)
    estimate = estimate_n_phases(scores(), grid, execution, max_phases=most, seed=seed)
    return estimate.n_components, estimate


def smoothed_scores(spectra: Spectra, grid: Grid, settings: Settings, *, center: bool = True) -> Array:
    """What is clustered: scores (n, rank) of the spectra, smoothed over the grid, their noise equal if asked for."""
    scores = compress(spectra, settings.rank, center=center, **settings.limits).scores
    noise = grid.noise_covariance(scores) if settings.whiten else None
    scores = grid.smooth(scores, settings.smooth, Execution.of(**settings.threads))
    return scores if noise is None else whiten_noise(scores, noise)


def phases_bytes(
    matrix: WindowMatrix, n_features: int, method: Any, n_phases: int, *, rank: int, n_threads: int
) -> float:
    """Largest memory that `find_phases` holds at once, of an estimator of the user without what that needs itself.

    Windows are compared by `n_features` numbers.
    """
    n, d, k, item = matrix.shape[0], n_features, n_phases, matrix.dtype.itemsize
    rank = min(rank, n, d)
    scores = n * rank * item
    kmeans = kmeans_bytes(n, rank, k, n_threads)
    beside = {"ica": max(13 * n * k, 4 * n * k + kmeans), "nmf": unmix_windows_bytes(_purest(k, rank), n)} | {
        name: unmix_windows_bytes(estimator(k), n) for name, estimator in ENDMEMBERS.items()
    }
    finding = scores + max(8 * n, Grid.of(matrix).smooth_bytes(rank, matrix.dtype), beside.get(str(method), kmeans))
    fitting = NMF(k).predicted_bytes(n, d, matrix.dtype) if method == "nmf" else 0
    return max(leading_bytes(matrix, rank, n_threads), finding, fitting)


def kmeans_bytes(n: int, rank: int, k: int, n_threads: int) -> float:
    """Beside the scores: those of the restarts, and what these need; memberships."""
    every = coarsening(n, _start_rows(k))
    starts = (4 * rank if every > 1 else 0) + 40 + 24 * min(n_threads, 10)
    return max(n / every**2 * starts, 8 * n, n * (4 + 4 * k))


def _start_rows(k: int) -> int:
    """Rows that restarts of k-means are run on, at least, where there are many more."""
    return max(START_ROWS, 100 * k)


def by_kmeans(rows: Array, grid: Grid, k: int, seeded: dict[str, Any]) -> NDArray[np.float32]:
    """Memberships by k-means, whose restarts on dense grids are run on windows of a coarser one.

    Neighbouring windows of a dense grid share most of their pixels: more of them say nothing about which restart is
    the best. From its centres a few passes over all rows lead to where a restart on all of them would have ended.
    """
    kmeans = KMeans(k, **seeded)
    few = grid.coarsened_rows(rows, _start_rows(k))
    if few is not rows:
        kmeans.set_params(init=kmeans.fit(few).cluster_centers_)
    del few
    kmeans.fit(rows)
    threads = {name: seeded[name] for name in ("n_jobs", "progress")}
    return _around(rows, kmeans.cluster_centers_, kmeans.inertia_ / len(rows), threads)


def _purest(k: int, rank: int, **options: Any) -> NFINDR:
    """Finds k endmembers among scores, or as many as these can have."""
    return NFINDR(min(k, rank + 1), **options)


def _clear(k: int, scores: Array, grid: Grid, settings: Settings) -> NDArray[np.bool_]:
    """Which windows (n,) see no defect, as N-FINDR finds them; all if the scores do not have so many endmembers."""
    purest = _purest(k, scores.shape[1], **settings.seeded)
    try:
        return unmix_windows(purest, scores, grid, Execution.of(**settings.limits)).clear
    except RankError:
        return np.ones(len(scores), bool)


def _by_parts(k: int, spectra: Spectra, kept: NDArray[np.bool_], grid: Grid, settings: Settings) -> NDArray[np.float32]:
    """Shares (n, k) of non-negative parts of the spectra, which are learnt from those that are kept."""
    nmf = NMF(k, **settings.seeded)
    weights = nmf.fit_transform(spectra) if kept.all() else nmf.fit(MaskedRows(spectra, kept)).transform(spectra)
    parts = sum_to_one(grid.smooth(weights, settings.smooth, Execution.of(**settings.threads)))
    return _between_extremes(parts, kept, settings)


def _between_extremes(parts: Array, kept: NDArray[np.bool_], settings: Settings) -> NDArray[np.float32]:
    """Shares (n, k) as mixtures of the purest rows among those that are kept.

    Non-negative factors are not unique: W Q and Q^-1 H explain the spectra as well for many Q, and shares of W move
    with Q. The tightest simplex around the rows does not.
    """
    k = parts.shape[1]
    learnt = parts[kept]
    if k == 1 or np.linalg.matrix_rank(_covariance(learnt), tol=1e-8, hermitian=True) < k - 1:
        return parts
    pure = NFINDR(k, **settings.seeded).fit(learnt).components_
    return sum_to_one(abundances(parts, pure, **settings.limits))


def _covariance(rows: Array) -> Array:
    """Covariance (k, k) of rows (n, k)."""
    center = rows.mean(axis=0, dtype=np.float64)
    return np.asarray(run(_products_block, ArrayRows(rows), center)[0] / len(rows))


def _products_block(block: Array, center: Array) -> tuple[None, tuple[Array]]:
    relative = block - center
    return None, (relative.T @ relative,)


def _by_estimator(
    estimator: Any, scores: Array, n_phases: int, threads: dict[str, Any]
) -> tuple[NDArray[np.float32], bool]:
    """Memberships by any clusterer or transformer of scikit-learn's kind."""
    estimator.fit(scores)
    labels = getattr(estimator, "labels_", None)
    if labels is None and hasattr(estimator, "predict"):
        labels = estimator.predict(scores)
    if labels is not None:
        labels = np.asarray(labels)
        if (
            labels.shape != (len(scores),)
            or labels.dtype.kind not in "iu"
            or not 0 <= labels.min() <= labels.max() < n_phases
        ):
            raise ValueError(
                f"method={estimator!r} must give each of the {len(scores)} windows a label from 0 to {n_phases - 1} "
                f"for n_phases={n_phases}; got labels {np.unique(labels)[:10]} of shape {labels.shape}"
            )
        return _of_clusters(scores, labels, n_phases, threads), True
    weights = np.asarray(estimator.transform(scores))
    if weights.shape != (len(scores), n_phases):
        raise ValueError(
            f"method={estimator!r} must transform {len(scores)} windows to n_phases={n_phases} weights each; "
            f"got shape {weights.shape}"
        )
    return sum_to_one(weights), False


def _of_clusters(rows: Array, labels: NDArray[Any], k: int, threads: dict[str, Any]) -> NDArray[np.float32]:
    """Memberships under equal round Gaussians about the means of clusters; none of a cluster without rows."""
    sums, counts = phase_sums(rows, labels, k, Execution.of(**threads))
    filled = np.flatnonzero(counts)
    centers = sums[filled] / counts[filled, np.newaxis]
    squares = run(_squares_block, ArrayRows(rows), centers, np.cumsum(counts > 0) - 1, along=(labels,), **threads)[0]
    memberships = np.zeros((len(rows), k), np.float32)
    memberships[:, filled] = _around(rows, centers, squares / len(rows), threads)
    return memberships


def _around(rows: Array, centers: Array, variance: float, threads: dict[str, Any]) -> NDArray[np.float32]:
    """Memberships (n, k) under equal round Gaussians about centres (k, r).

    Their variance is the mean squared distance of a row to its mean. A share of it for each coordinate would call
    every row certain: smoothed scores scatter in few directions, and between clusters most of all.
    """
    memberships = np.empty((len(rows), len(centers)), np.float32)
    options = {"out": (memberships,), "stage": "memberships", **threads}
    run(_posterior_block, ArrayRows(rows), distance_columns(centers), len(centers), variance, **options)
    return memberships


def _posterior_block(block: Array, columns: Array, k: int, variance: float) -> tuple[tuple[Array], None]:
    memberships = np.empty((len(block), k), np.float32)
    for start in range(0, len(block), POSTERIOR_ROWS):  # a block of few scores has many rows
        part = block[start : start + POSTERIOR_ROWS]
        memberships[start : start + POSTERIOR_ROWS] = posterior(squared_distances(part, columns, k), variance)
    return (memberships,), None


def _squares_block(block: Array, labels: Array, centers: Array, number: Array) -> tuple[None, tuple[float]]:
    """Sum of the squared distances of rows to their centres, cluster j having the centre ``number[j]``."""
    return None, (float(((block - centers[number[labels]]) ** 2).sum()),)
