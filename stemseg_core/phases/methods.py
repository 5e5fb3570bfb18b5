"""The methods of `segment`: how windows become memberships of phases, and what each method needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from stemseg_core.phases.clusters import by_kmeans, kmeans_bytes, of_labels
from stemseg_core.phases.defects import unmix_windows, unmix_windows_bytes
from stemseg_core.phases.frequencies import Frequencies
from stemseg_core.phases.memberships import sum_to_one
from stemseg_core.phases.scores import PhaseMap, Problem
from stemseg_core.phases.separability import Witnesses, estimate_n_phases
from stemseg_core.rows.sources import ArrayRows, MaskedRows
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.endmembers import Endmembers
from stemseg_core.stages.ica import ICA
from stemseg_core.stages.leading import singular_vectors_bytes
from stemseg_core.stages.nfindr import NFINDR
from stemseg_core.stages.nmf import NMF
from stemseg_core.stages.projections import RankError
from stemseg_core.stages.spa import ATGP, SPA
from stemseg_core.stages.vca import VCA
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.matrix import WindowMatrix

#: A correlation of parts below this share of the largest is a dependence. Twice as much: parts that nearly depend on
#: each other are left as they are.
DEPENDENT = 1e-8

#: Gives the scores and lets go of them: whoever drops them frees their memory.
TakeScores = Callable[[], Array]


@dataclass(frozen=True)
class Method:
    """A way to find phases.

    Attributes
    ----------
    find : callable or None
        ``find(k, take_scores, problem)`` gives a `PhaseMap` of k phases. None: phases are found in windows of several
        sizes, see `stemseg_core.phases.multiscale`.
    beside_bytes : callable
        ``beside_bytes(n, rank, k, n_threads)``: memory that `find` holds beside the scores of n windows.
    alone_bytes : callable
        ``alone_bytes(n, d, k, dtype)``: memory that it holds once it has dropped the scores, of d features a window.
    beyond_rank : int or None
        At most this many phases more than scores are found; None: any number.
    centred : bool
        Whether scores are of spectra minus their mean.
    may_whiten : bool
        Whether the noise of the scores may be made equal; else `whiten` changes nothing.
    keeps_rows : bool
        Whether it keeps the spectra in memory itself, if there is room.
    """

    find: Callable[[int, TakeScores, Problem], PhaseMap] | None = None
    beside_bytes: Callable[[int, int, int, int], float] = lambda n, rank, k, n_threads: 0.0
    alone_bytes: Callable[[int, int, int, Any], float] = lambda n, d, k, dtype: 0.0
    beyond_rank: int | None = None
    centred: bool = True
    may_whiten: bool = True
    keeps_rows: bool = False

    @property
    def of_several_sizes(self) -> bool:
        """Whether windows of several sizes are used together."""
        return self.find is None


@dataclass(frozen=True, eq=False)
class OneSize:
    """Windows of one size, in which a method finds phases.

    Attributes
    ----------
    method : Method
    maps : WindowMatrix
        The windows, which the maps have an entry for.
    frequencies : Frequencies
        Which are compared.
    """

    method: Method
    maps: WindowMatrix
    frequencies: Frequencies

    @property
    def largest(self) -> WindowMatrix:
        """The largest windows whose frequencies are compared."""
        return self.maps

    @property
    def sizes(self) -> None:
        """Sizes that are used together."""
        return None

    def find_phases(self, problem: Problem) -> PhaseMap:
        """The phases of the windows."""
        method = self.method
        assert method.find is not None
        find_phases = method.find

        def scores() -> Array:
            whiten = problem.parameters.whiten and method.may_whiten
            return problem.scores(whiten=whiten, center=method.centred)

        held = [scores()]
        witnesses = Witnesses.of(held[0], problem.grid, problem.parameters.smooth)

        def find(k: int) -> PhaseMap:
            found = find_phases(k, lambda: held.pop() if held else scores(), problem)
            return replace(found, separation=witnesses.separation(found.memberships) if k > 1 else None)

        estimate = None
        if problem.counts:
            estimate = estimate_n_phases(
                witnesses, problem.execution, max_phases=problem.most_phases, seed=problem.seed
            )
        return problem.settled(estimate, find)

    def predicted_bytes(self, n_phases: int, rank: int, n_threads: int) -> float:
        """Largest memory that `find_phases` holds at once, without what an estimator of the user needs itself."""
        matrix, method = self.maps, self.method
        n, d, dtype = matrix.shape[0], self.frequencies.n_features(matrix.half_plane), matrix.dtype
        rank = min(rank, n, d)
        smoothing = Grid.of(matrix).smooth_bytes(rank, dtype)
        beside = method.beside_bytes(n, rank, n_phases, n_threads)
        finding = n * rank * dtype.itemsize + max(8 * n, smoothing, beside)
        return max(singular_vectors_bytes(matrix, rank, n_threads), finding, method.alone_bytes(n, d, n_phases, dtype))


# Endmembers.


def _by_endmembers(estimator: type[Endmembers], k: int, take_scores: TakeScores, problem: Problem) -> PhaseMap:
    """Shares of the purest windows, defects left out."""
    endmembers = problem.execution.configure(estimator(k))
    if "random_state" in endmembers.get_params():
        endmembers.set_params(random_state=problem.seed)
    unmixed = unmix_windows(endmembers, take_scores(), problem.grid, problem.execution)
    return PhaseMap(sum_to_one(unmixed.abundances), partition=False)


def _endmembers(estimator: type[Endmembers], **about: Any) -> Method:
    """The method of an endmember estimator."""
    return Method(
        partial(_by_endmembers, estimator),
        beside_bytes=lambda n, rank, k, n_threads: unmix_windows_bytes(estimator(k), n),
        may_whiten=False,
        **about,
    )


# Parts.


def _by_parts(k: int, take_scores: TakeScores, problem: Problem) -> PhaseMap:
    """Shares of non-negative parts of the spectra, which are learnt from windows that see no defect."""
    clear = _clear_windows(k, take_scores(), problem)
    spectra, execution = problem.spectra, problem.execution
    nmf = execution.configure(NMF(k, random_state=problem.seed))
    weights = nmf.fit_transform(spectra) if clear.all() else nmf.fit(MaskedRows(spectra, clear)).transform(spectra)
    parts = sum_to_one(problem.grid.smooth(weights, problem.parameters.smooth, execution))
    return PhaseMap(_between_extremes(parts, clear, problem), partition=False)


def _clear_windows(k: int, scores: Array, problem: Problem) -> NDArray[np.bool_]:
    """Which windows (n,) see no defect, as N-FINDR finds them; all where the scores have fewer than k endmembers."""
    nfindr = problem.execution.configure(_purest(k, scores.shape[1]).set_params(random_state=problem.seed))
    try:
        return unmix_windows(nfindr, scores, problem.grid, problem.execution).clear
    except RankError:
        return np.ones(len(scores), bool)


def _purest(k: int, rank: int) -> NFINDR:
    """Finds k endmembers among scores, or as many as these can have."""
    return NFINDR(min(k, rank + 1))


def _between_extremes(parts: Array, clear: NDArray[np.bool_], problem: Problem) -> NDArray[np.float32]:
    """Shares (n, k) as mixtures of the purest rows among those that see no defect.

    Non-negative factors are not unique: W Q and Q^-1 H explain the spectra as well for many Q, and shares of W move
    with Q. The tightest simplex around the rows does not.
    """
    k = parts.shape[1]
    learnt = parts[clear]
    if k == 1 or np.linalg.matrix_rank(_covariance(learnt, problem.execution), tol=DEPENDENT, hermitian=True) < k - 1:
        return parts
    nfindr = problem.execution.configure(NFINDR(k, random_state=problem.seed))
    pure, execution = nfindr.fit(learnt).components_, problem.execution
    mixed = abundances(
        parts, pure, n_jobs=execution.n_threads, max_memory=execution.max_memory, progress=execution.progress
    )
    return sum_to_one(mixed)


def _covariance(rows: Array, execution: Execution) -> Array:
    """Covariance (k, k) of rows (n, k)."""
    center = rows.mean(axis=0, dtype=np.float64)
    (products,) = execution.run(_products_block, ArrayRows(rows), center, stage="memberships")
    return np.asarray(products / len(rows))


def _products_block(block: Array, center: Array) -> tuple[None, tuple[Array]]:
    relative = block - center
    return None, (relative.T @ relative,)


# Sources, and estimators of the user.


def _by_sources(k: int, take_scores: TakeScores, problem: Problem) -> PhaseMap:
    """Clusters of independent sources of the scores."""
    ica = problem.execution.configure(ICA(k, random_state=problem.seed))
    sources = ica.fit_transform(take_scores())
    return PhaseMap(by_kmeans(sources, problem.grid, k, problem.seed, problem.execution), partition=True)


def _by_estimator(estimator: Any, k: int, take_scores: TakeScores, problem: Problem) -> PhaseMap:
    """By a clone of any clusterer or transformer of scikit-learn's kind."""
    estimator, scores = clone(estimator), take_scores()
    estimator.fit(scores)
    labels = getattr(estimator, "labels_", None)
    if labels is None and hasattr(estimator, "predict"):
        labels = estimator.predict(scores)
    if labels is not None:
        labels = np.asarray(labels)
        _check_labels(estimator, labels, len(scores), k)
        return PhaseMap(of_labels(scores, labels, k, problem.execution), partition=True)
    weights = np.asarray(estimator.transform(scores))
    if weights.shape != (len(scores), k):
        raise ParameterError(
            f"`method=` must transform {len(scores)} windows to `n_phases=` weights each; got shape {weights.shape}",
            method=estimator,
            n_phases=k,
        )
    return PhaseMap(sum_to_one(weights), partition=False)


def _check_labels(estimator: Any, labels: Array, n: int, k: int) -> None:
    """Refuse labels of n windows that are no numbers of k phases."""
    if labels.shape != (n,) or labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < k:
        raise ParameterError(
            f"`method=` must give each of the {n} windows a label from 0 to {k - 1} for `n_phases=`; got labels "
            f"{np.unique(labels)[:10]} of shape {labels.shape}",
            method=estimator,
            n_phases=k,
        )


#: The methods of `segment`, the default first.
METHODS: Mapping[str, Method] = {
    "kmeans": Method(),
    # N-FINDR, VCA and SPA find the corners of a simplex, one more than it has dimensions.
    "nfindr": _endmembers(NFINDR, beyond_rank=1),
    "vca": _endmembers(VCA, beyond_rank=1),
    "spa": _endmembers(SPA, beyond_rank=1),
    # ATGP measures lengths: among centred rows it would find one less.
    "atgp": _endmembers(ATGP, beyond_rank=0, centred=False),
    "nmf": Method(
        _by_parts,
        beside_bytes=lambda n, rank, k, n_threads: unmix_windows_bytes(_purest(k, rank), n),
        alone_bytes=lambda n, d, k, dtype: NMF(k).predicted_bytes(n, d, dtype),
        may_whiten=False,
        keeps_rows=True,
    ),
    "ica": Method(
        _by_sources,
        beside_bytes=lambda n, rank, k, n_threads: max(13 * n * k, 4 * n * k + kmeans_bytes(n, rank, k, n_threads)),
        beyond_rank=0,
    ),
}


def method_of(method: Any) -> Method:
    """The method of that name, or that of an estimator."""
    if isinstance(method, str):
        return METHODS[method]
    return Method(partial(_by_estimator, method), beside_bytes=kmeans_bytes)
