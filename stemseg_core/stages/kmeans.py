"""k-means: restarts on compressed rows, the best of them made exact on all features."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from numbers import Real
from operator import attrgetter
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.base import ClusterMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsTransformer, check_whole, refuse_masked
from stemseg_core.rows.blocks import stored, take_rows
from stemseg_core.rows.sources import ArrayRows, Rows, cached, rows_of_shape
from stemseg_core.stages.compress import compress, compress_bytes
from stemseg_core.stages.lloyd import (
    Clustering,
    Nearest,
    distance_columns,
    distances_to,
    lloyd,
    nearest,
    squared_distances,
)
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError, warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState, streams
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Least number of directions that restarts are run on; more clusters get a direction each, since k centres span no
#: more. Twice as many: restarts take twice as long, and rarely end elsewhere.
RANK = 32
#: The gain of a restart is what iteration on all features lowers its inertia by. The next restart is taken to gain at
#: most this share more than the largest gain seen. Twice as much: more restarts are iterated on all features.
GAIN_SPREAD = 0.1
#: Names that `init` may have; see `_initial_centers`.
INITS = ("k-means++", "random")


@shared_docs
class KMeans(ClusterMixin, RowsTransformer):
    """k-means by Lloyd's algorithm: exact labels, the same bits for any number of threads.

    Restarts are run on the rows projected to their leading directions (`compress`); the best of them is then iterated
    to convergence on all features, and so are those that come so near to it that the features left out may decide.

    Parameters
    ----------
    n_clusters : int
        Number of clusters, k.
    init : {"k-means++", "random"} or array-like of shape (k, d), default="k-means++"
        "k-means++": rows drawn with probability proportional to the squared distance to the nearest centre so far, the
        best of 2 + log k candidates each; "random": k different rows; an array: the centres to start from, once.
    n_init : int, default=10
        Number of restarts; the one with the smallest inertia is taken. 1 if `init` is an array.
    max_iter : int, default=300
        Largest number of iterations on the compressed rows, and again on all features.
    tol : float, default=1e-4
        Stop when the squared moves of the centres sum to no more than `tol` times the mean variance of a feature.
        0: until no label changes.
    {random_state}
    {execution}

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (k, d)
        Centres, float32 for float32 rows, else float64.
    labels_ : ndarray of shape (n,), int32
        Number of the nearest centre of each row, as float64 distances have it, ties to the smallest number.
    inertia_ : float
        Sum of the squared distances of the rows to their centres, summed in float64.
    n_iter_ : int
        Iterations on all features.
    converged_ : bool
        Whether these ended by themselves, not by `max_iter`.
    n_features_in_ : int

    See Also
    --------
    stemseg_core.segment : From an image to the map of its phases.

    Notes
    -----
    An iteration costs at most 2 n d k operations and one reading of X, and less as it converges: a bound on each row's
    distances proves that its label cannot have changed (Hamerly 2010). Products are made in the type of X, relative to
    a point amid the data; a label that they do not prove, by a bound on their rounding, is decided by float64
    differences. Memory: scores of 32 (or k) features a row, 4 bytes a row and restart, 4 (3 + log k) + 8 a row and
    thread (float32).

    Restarts have a stream of random numbers each. Clusters that become empty continue from the rows farthest from
    their centres, as in scikit-learn.

    References
    ----------
    D. Arthur, S. Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007, 1027.
    G. Hamerly, Making k-means even faster, SDM 2010, 130, 10.1137/1.9781611972801.12.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> kmeans = KMeans(2).fit(X)
    >>> bool(kmeans.labels_[0] == kmeans.labels_[2] != kmeans.labels_[3])
    True
    >>> kmeans.inertia_
    16.0
    """

    def __init__(
        self,
        n_clusters: int,
        *,
        init: Any = "k-means++",
        n_init: int = 10,
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: RandomState = 0,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]  # which ClusterMixin takes away
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the clusters of the rows of `X` (n, d); `y` is ignored."""
        self._check_parameters()
        rows = self._check_rows(X, reset=True)
        if rows.shape[0] < self.n_clusters:
            raise ParameterError(
                f"n_samples={rows.shape[0]} should be >= `n_clusters=`: X needs a row for every cluster; use fewer "
                "clusters",
                n_clusters=self.n_clusters,
            )
        execution = self._execution
        needed = self._needed_bytes(rows, execution)
        execution.require(needed, f"KMeans of {rows.shape[0]} rows", "use fewer rows or restarts")
        rows = cached(rows, execution.spare(needed))
        if isinstance(self.init, str):
            best = self._best_of_restarts(rows, execution)
        else:
            best = self._lloyd(rows, self._check_init(rows), execution)
        self.cluster_centers_ = best.centers
        self.labels_ = best.labels
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.converged_ = best.converged
        self._warn()
        return self

    def predict(self, X: Any) -> NDArray[np.int32]:
        """Nearest of `cluster_centers_` for each row of `X` (n, d): ndarray of shape (n,), int32."""
        return self._nearest(X).labels

    def transform(self, X: Any) -> Array:
        """Distances of the rows of `X` (n, d) to the centres: ndarray of shape (n, k), computed in float64."""
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        return distances_to(rows, self.cluster_centers_, self._execution)

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the sum of the squared distances of the rows of `X` (n, d) to their nearest centres; `y` is ignored."""
        return -self._nearest(X).inertia

    def _nearest(self, X: Any) -> Nearest:
        check_is_fitted(self)
        return nearest(self._check_rows(X, reset=False), self.cluster_centers_, self._execution)

    def predicted_bytes(self, n: int, d: int, dtype: DTypeLike) -> float:
        """Predicted memory of a fit to n rows of d features in an array."""
        return self._needed_bytes(rows_of_shape(n, d, dtype), self._execution)

    def _needed_bytes(self, rows: Rows, execution: Execution) -> float:
        """Labels of every restart; bounds, distances and cumulative sums of those that run at once; scores, or rows."""
        (n, d), item = rows.shape, rows.dtype.itemsize
        if not isinstance(self.init, str):
            return float(n * (4 + 16))
        running = max(16, item * (3 + int(np.log(self.n_clusters))) + 8)
        needed = float(n * (4 * self.n_init + running * min(self.n_init, execution.n_threads)))
        if self._narrow(d):
            return needed if rows.in_memory else needed + n * d * item
        compressing = compress_bytes(rows, min(self._rank, n, d), execution.n_threads)
        return max(compressing, needed + n * self._rank * item)

    @property
    def _rank(self) -> int:
        """Directions that restarts are run on."""
        return max(RANK, self.n_clusters)

    def _narrow(self, d: int) -> bool:
        """Whether rows of d features are too short for a compression to pay: restarts run on them as they are."""
        return d <= 2 * self._rank

    def _lloyd(self, rows: Rows, centers: Array, execution: Execution) -> Clustering:
        return lloyd(rows, centers, execution, max_iter=self.max_iter, tol=self.tol)

    def _best_of_restarts(self, rows: Rows, execution: Execution) -> Clustering:
        """The best of the restarts on the stored rows, or on their scores and then on the rows themselves."""
        inertia = attrgetter("inertia")
        if self._narrow(rows.shape[1]):
            table = rows if rows.in_memory else ArrayRows(stored(rows, execution))  # restarts read it again and again
            return min(self._restarts(table, execution), key=inertia)
        compressed = compress(
            rows,
            self._rank,
            n_jobs=execution.n_threads,
            max_memory=execution.max_memory,
            progress=execution.progress,
        )
        left = float((compressed.residual**2).sum())
        best, largest_gain = None, 0.0
        tried: list[Clustering] = []
        # On all features a partition costs `left` more than on the scores, less what its centres gain there. Gains of
        # restarts are alike. The best is known when the next restart would not be better even with a gain somewhat
        # larger than any seen; until then the next one is made exact as well.
        for restart in sorted(self._restarts(ArrayRows(compressed.scores), execution), key=inertia):
            if best is not None and restart.inertia + left - (1 + GAIN_SPREAD) * largest_gain >= best.inertia:
                break
            if any(same_clusters(restart, other) for other in tried):
                continue
            tried.append(restart)
            with one_blas_thread():
                centers = compressed.mean + restart.centers @ compressed.basis
            exact = self._lloyd(rows, centers, execution)
            largest_gain = max(largest_gain, restart.inertia + left - exact.inertia)
            best = exact if best is None else min(best, exact, key=inertia)
        assert best is not None
        return best

    def _restarts(self, table: Rows, execution: Execution) -> list[Clustering]:
        """The restarts, as independent tasks: each has its own stream of random numbers."""
        stop = threading.Event()
        inside = execution
        if self.n_init > 1:  # on a thread each, to be stopped by any of them
            inside = replace(execution.on_one_thread(), progress=lambda *_: not stop.is_set())
        restart = partial(
            _restart, table, inside, k=self.n_clusters, init=self.init, max_iter=self.max_iter, tol=self.tol
        )
        tasks = [(stream,) for stream in streams(self.random_state, self.n_init)]
        return execution.map(restart, tasks, stage="KMeans restarts", stop=stop)

    def _check_parameters(self) -> None:
        check_whole(n_clusters=self.n_clusters, n_init=self.n_init, max_iter=self.max_iter)
        tol: object = self.tol
        if not isinstance(tol, Real) or not 0 <= float(tol) < np.inf:
            raise ParameterError(f"`tol` must be a number, at least 0; got {tol!r}", tol=tol)
        if isinstance(self.init, str) and self.init not in INITS:
            names = ", ".join(map(repr, INITS))
            raise ParameterError(f"`init` must be {names} or an array of centres; got {self.init!r}", init=self.init)

    def _check_init(self, rows: Rows) -> Array:
        refuse_masked(self.init, "init")
        centers = np.asarray(self.init, rows.dtype)
        shape = (self.n_clusters, rows.shape[1])
        if centers.shape != shape:
            raise ParameterError(
                f"`init` must have one row a cluster and the features of X, {shape}; got {centers.shape}",
                init=self.init,
            )
        if not np.isfinite(centers).all():
            raise ParameterError("`init` must be finite; got NaN or infinity", init=self.init)
        return centers

    def _warn(self) -> None:
        n_distinct = len(np.unique(self.labels_))
        if n_distinct < self.n_clusters:
            warn(
                f"Number of distinct clusters ({n_distinct}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
            )
        if not self.converged_:
            warn(
                f"KMeans did not converge in max_iter={self.max_iter} iterations: labels and inertia are those of the "
                "centres reached; raise max_iter or tol",
                ConvergenceWarning,
            )


def same_clusters(a: Clustering, b: Clustering) -> bool:
    """Whether two clusterings of the same rows have the same clusters, however these are numbered."""
    pairs = np.count_nonzero(np.bincount(a.labels.astype(np.intp) * len(b.centers) + b.labels))
    return all(np.count_nonzero(np.bincount(clustering.labels)) == pairs for clustering in (a, b))


def _restart(
    table: Rows, execution: Execution, stream: np.random.SeedSequence, *, k: int, init: str, max_iter: int, tol: float
) -> Clustering:
    """One restart: centres to start from, and Lloyd's iteration from there."""
    centers = _initial_centers(table, k, init, np.random.default_rng(stream), execution)
    return lloyd(table, centers, execution, max_iter=max_iter, tol=tol)


def _initial_centers(rows: Rows, k: int, init: str, rng: np.random.Generator, execution: Execution) -> Array:
    """Centres (k, d) to start from, by one of `INITS`; `KMeans._needed_bytes` predicts the memory that they need."""
    if init == "random":
        return take_rows(rows, rng.choice(rows.shape[0], k, replace=False))
    return plus_plus(rows, k, rng, execution)


def plus_plus(rows: Rows, k: int, rng: np.random.Generator, execution: Execution) -> Array:
    """Rows (k, d) to start from, by greedy k-means++: each the best of 2 + log k candidates.

    Distances are explicit differences in float64, so a row equal to a centre is never drawn while others are left.
    Cost: k (2 + log k) distances a row. Memory: 4 (3 + log k) bytes a row of float32, and 8.
    """
    n = rows.shape[0]
    centers = take_rows(rows, rng.integers(n, size=1))
    closest = np.full((n, 1), np.inf, rows.dtype)
    execution.run(_approach_block, rows, distance_columns(centers), 1, along=(closest,), out=(closest,))
    for _ in range(1, k):
        cumulative = np.cumsum(closest, dtype=np.float64)
        draws = rng.random(2 + int(np.log(k))) * cumulative[-1]
        candidates = take_rows(rows, np.minimum(np.searchsorted(cumulative, draws, side="right"), n - 1))
        distances = np.empty((n, len(candidates)), rows.dtype)
        columns = distance_columns(candidates)
        (potentials,) = execution.run(
            _approach_block, rows, columns, len(candidates), along=(closest,), out=(distances,)
        )
        best = potentials.argmin()
        centers = np.vstack([centers, candidates[best]])
        closest = distances[:, [best]]
    return centers


def _approach_block(block: Array, closest: Array, columns: Array, m: int) -> tuple[Partial, Partial]:
    """Squared distances to the nearest centre if each of m candidates were one, and their sums."""
    distances = np.minimum(squared_distances(block, columns, m), closest)
    return (distances,), (np.ones(len(block)) @ distances,)
