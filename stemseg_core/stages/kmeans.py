"""k-means: restarts on compressed rows, the best of them made exact on all features."""

from __future__ import annotations

import threading
import warnings
from functools import partial
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsEstimator, check_whole
from stemseg_core.rows.blocks import take_rows
from stemseg_core.rows.sources import ArrayRows, Rows, cached
from stemseg_core.rows.transitional import map_tasks, run
from stemseg_core.stages.compress import compress
from stemseg_core.stages.lloyd import (
    Array,
    Clustering,
    distance_columns,
    distances_to,
    lloyd,
    nearest,
    squared_distances,
)
from stemseg_core.system.memory import require_memory, spare_memory
from stemseg_core.system.threads import Progress, effective_n_jobs
from stemseg_core.system.types import Partial

#: Directions that restarts are run on, or as many as there are clusters: these many centres span no more.
RANK = 32
#: How much more than the largest gain seen another restart may gain, as a share of it.
GAIN_SPREAD = 0.1


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, RowsEstimator):
    """k-means by Lloyd's algorithm: exact labels, the same bits for any number of threads.

    Restarts are run on the rows projected to their leading directions (`compress`); the best of them is then iterated
    to convergence on all features, and so are those that come so near to it that the features left out may decide.

    Parameters
    ----------
    n_clusters : int
        Number of clusters, k.
    init : {"k-means++", "random"} or array-like of shape (k, d), default "k-means++"
        "k-means++": rows drawn with probability proportional to the squared distance to the nearest centre so far, the
        best of 2 + log k candidates each; "random": k different rows; an array: the centres to start from, once.
    n_init : int, default 10
        Number of restarts; the one with the smallest inertia is taken. 1 if `init` is an array.
    max_iter : int, default 300
        Largest number of iterations on the compressed rows, and again on all features.
    tol : float, default 1e-4
        Stop when the squared moves of the centres sum to no more than `tol` times the mean variance of a feature.
        0: until no label changes.
    random_state : int, RandomState, Generator or None, default 0
        Seed of the restarts, each with a stream of its own; None: a different one in every call.
    n_jobs : int, optional
        Threads, as in joblib; None: all CPUs that this process may use. The result has the same bits for any number.
    max_memory : float or str, optional
        Refuse to start if more bytes are needed, such as ``"4 GB"``; None: a share of what is free.
    progress : callable, optional
        ``progress(done, total, stage)`` after each group of blocks, or restart; returning False stops.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (k, d)
        Centres, float32 for float32 rows, else float64.
    labels_ : ndarray of shape (n,), int32
        Nearest of `cluster_centers_` for each row, as float64 distances have it, ties to the smallest index.
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
    distances tells that its label cannot have changed (Hamerly 2010). Products are made in the type of X, relative to
    a point amid the data; labels that they do not prove, by a bound on their rounding, are decided by float64
    differences. Memory: scores of 32 (or k) features a row, 4 bytes a row and restart, 4 (3 + log k) + 8 a row and
    thread (float32).

    Clusters that become empty continue from the rows farthest from their centres, as in scikit-learn.

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
        random_state: Any = 0,
        n_jobs: int | None = None,
        max_memory: float | str | None = None,
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
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the clusters of the rows of `X` (n, d); `y` is ignored."""
        self._check_parameters()
        rows = self._check_rows(X, reset=True)
        if rows.shape[0] < self.n_clusters:
            raise ValueError(
                f"n_samples={rows.shape[0]} should be >= n_clusters={self.n_clusters}: X needs a row for every "
                "cluster; use fewer clusters"
            )
        rows = cached(rows, spare_memory(self._require_memory(rows), self.max_memory))
        best = self._best_of_starts(rows) if isinstance(self.init, str) else self._lloyd(rows, self._check_init(rows))
        self.cluster_centers_ = best.centers
        self.labels_ = best.labels
        self.inertia_ = best.inertia
        self.n_iter_ = best.n_iter
        self.converged_ = best.converged
        self._warn()
        return self

    def predict(self, X: Any) -> NDArray[np.int32]:
        """Nearest of `cluster_centers_` for each row of `X` (n, d): ndarray of shape (n,), int32."""
        return self._nearest(X)[0]

    def transform(self, X: Any) -> Array:
        """Distances of the rows of `X` (n, d) to the centres: ndarray of shape (n, k), computed in float64."""
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        return distances_to(rows, self.cluster_centers_, **self._options())

    def score(self, X: Any, y: Any = None) -> float:
        """Minus the sum of the squared distances of the rows of `X` (n, d) to their nearest centres; `y` is ignored."""
        return -self._nearest(X)[1]

    def _nearest(self, X: Any) -> tuple[NDArray[np.int32], float]:
        check_is_fitted(self)
        return nearest(self._check_rows(X, reset=False), self.cluster_centers_, **self._options())

    def _options(self) -> dict[str, Any]:
        return {"n_jobs": self.n_jobs, "progress": self.progress, "stage": type(self).__name__}

    def _lloyd(self, rows: Rows, centers: Array) -> Clustering:
        return lloyd(rows, centers, max_iter=self.max_iter, tol=self.tol, **self._options())

    def _best_of_starts(self, rows: Rows) -> Clustering:
        """The best of the restarts on the stored rows, or on their scores and then on the rows themselves."""
        rank = self._rank()
        if rows.shape[1] <= 2 * rank:
            return min(self._starts(_stored(rows, **self._options())), key=_inertia)
        compressed = compress(rows, rank, n_jobs=self.n_jobs, max_memory=self.max_memory, progress=self.progress)
        left = float((compressed.residual**2).sum())
        best, most = None, 0.0
        tried: list[Clustering] = []
        # On all features a partition costs `left` more than on the scores, less what its centres gain there. Gains are
        # much alike: while one that is larger by a share than any seen would not put the next restart in front, the
        # best is known; else that one is made exact as well.
        for start in sorted(self._starts(ArrayRows(compressed.scores)), key=_inertia):
            if best is not None and start.inertia + left - (1 + GAIN_SPREAD) * most >= best.inertia:
                break
            if any(_same_clusters(start, other) for other in tried):
                continue
            tried.append(start)
            exact = self._lloyd(rows, compressed.mean + start.centers @ compressed.basis)
            most = max(most, start.inertia + left - exact.inertia)
            best = exact if best is None else min(best, exact, key=_inertia)
        assert best is not None
        return best

    def _starts(self, table: Rows) -> list[Clustering]:
        """The restarts, as independent tasks: each has its own stream of random numbers."""
        stop = threading.Event()
        options = self._options()
        if self.n_init > 1:
            options |= {"n_jobs": 1, "progress": lambda *_: not stop.is_set()}
        limits: dict[str, Any] = {"max_iter": self.max_iter, "tol": self.tol}
        start = partial(_start, table, k=self.n_clusters, init=self.init, **limits, **options)
        tasks = [(stream,) for stream in _streams(self.random_state, self.n_init)]
        return map_tasks(start, tasks, self.n_jobs, progress=self.progress, stage="KMeans restarts", stop=stop)

    def _require_memory(self, rows: Rows) -> float:
        """Labels of every restart; bounds, distances and their cumulative sum in every thread; narrow rows stored.

        Returns what is needed in all, with the scores that `compress` asks for by itself.
        """
        n, d = rows.shape
        n_starts = self.n_init if isinstance(self.init, str) else 1
        stored = (
            d * rows.dtype.itemsize
            if isinstance(self.init, str) and d <= 2 * self._rank() and not _in_memory(rows)
            else 0
        )
        starting = rows.dtype.itemsize * (3 + int(np.log(self.n_clusters))) + 8
        row_bytes = 4 * n_starts + max(16, starting) * min(n_starts, effective_n_jobs(self.n_jobs)) + stored
        require_memory(n * row_bytes, self.max_memory, f"KMeans of {n} rows", "use fewer rows or restarts")
        scores = 0 if d <= 2 * self._rank() else self._rank() * rows.dtype.itemsize
        return float(n * (row_bytes + scores))

    def _rank(self) -> int:
        return max(RANK, self.n_clusters)

    def _check_parameters(self) -> None:
        check_whole(n_clusters=self.n_clusters, n_init=self.n_init, max_iter=self.max_iter)
        tol: object = self.tol
        if not isinstance(tol, Real) or not 0 <= float(tol) < np.inf:
            raise ValueError(f"tol must be a number, at least 0; got {self.tol!r}")
        if isinstance(self.init, str) and self.init not in ("k-means++", "random"):
            raise ValueError(f"init must be 'k-means++', 'random' or an array of centres; got {self.init!r}")

    def _check_init(self, rows: Rows) -> Array:
        centers = np.asarray(self.init, rows.dtype)
        shape = (self.n_clusters, rows.shape[1])
        if centers.shape != shape:
            raise ValueError(f"init must have one row a cluster and the features of X, {shape}; got {centers.shape}")
        if not np.isfinite(centers).all():
            raise ValueError("init must be finite; got NaN or infinity")
        return centers

    def _warn(self) -> None:
        n_distinct = len(np.unique(self.labels_))
        if n_distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({n_distinct}) found smaller than n_clusters ({self.n_clusters}). "
                "Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if not self.converged_:
            warnings.warn(
                f"KMeans did not converge in max_iter={self.max_iter} iterations: labels and inertia are those of the "
                "centres reached; raise max_iter or tol",
                ConvergenceWarning,
                stacklevel=3,
            )


def _inertia(clustering: Clustering) -> float:
    return clustering.inertia


def _same_clusters(a: Clustering, b: Clustering) -> bool:
    """Whether two clusterings of the same rows have the same clusters, however these are numbered."""
    pairs = np.count_nonzero(np.bincount(a.labels.astype(np.intp) * len(b.centers) + b.labels))
    return all(np.count_nonzero(np.bincount(clustering.labels)) == pairs for clustering in (a, b))


def _streams(random_state: Any, n: int) -> list[np.random.SeedSequence]:
    """Independent streams, n of them; a generator given as `random_state` moves on."""
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**32, size=4, dtype=np.uint32)
    elif isinstance(random_state, np.random.Generator):
        random_state = random_state.integers(2**32, size=4, dtype=np.uint32)
    return np.random.SeedSequence(random_state).spawn(n)


def _in_memory(rows: Rows) -> bool:
    return isinstance(rows, ArrayRows) and isinstance(rows.array, np.ndarray)


def _stored(rows: Rows, **options: Any) -> Rows:
    """The rows in memory: restarts read them again and again."""
    if _in_memory(rows):
        return rows
    table = np.empty(rows.shape, rows.dtype)
    run(_copy, rows, out=(table,), **options)
    return ArrayRows(table)


def _copy(block: Array) -> tuple[Partial, None]:
    return (block,), None


def _start(
    table: Rows, stream: np.random.SeedSequence, *, k: int, init: str, max_iter: int, tol: float, **options: Any
) -> Clustering:
    """One restart."""
    rng = np.random.default_rng(stream)
    if init == "random":
        centers = take_rows(table, rng.choice(table.shape[0], k, replace=False))
    else:
        centers = plus_plus(table, k, rng, **options)
    return lloyd(table, centers, max_iter=max_iter, tol=tol, **options)


def plus_plus(rows: Rows, k: int, rng: np.random.Generator, **options: Any) -> Array:
    """Rows to start from, k of them, by greedy k-means++: each the best of 2 + log k candidates.

    Distances are explicit differences in float64, so a row equal to a centre is never drawn while others are left.
    Cost: k (2 + log k) distances a row. Memory: 4 (3 + log k) bytes a row of float32, and 8.
    """
    n = rows.shape[0]
    centers = take_rows(rows, rng.integers(n, size=1))
    closest = np.full((n, 1), np.inf, rows.dtype)
    run(_approach, rows, distance_columns(centers), 1, along=(closest,), out=(closest,), **options)
    for _ in range(1, k):
        cumulative = np.cumsum(closest, dtype=np.float64)
        draws = rng.random(2 + int(np.log(k))) * cumulative[-1]
        candidates = take_rows(rows, np.minimum(np.searchsorted(cumulative, draws, side="right"), n - 1))
        distances = np.empty((n, len(candidates)), rows.dtype)
        columns = distance_columns(candidates)
        potentials = run(_approach, rows, columns, len(candidates), along=(closest,), out=(distances,), **options)[0]
        best = potentials.argmin()
        centers = np.vstack([centers, candidates[best]])
        closest = distances[:, [best]]
    return centers


def _approach(block: Array, closest: Array, columns: Array, m: int) -> tuple[Partial, Partial]:
    """Squared distances to the nearest centre if each of m candidates were one, and their sums."""
    distances = np.minimum(squared_distances(block, columns, m), closest)
    return (distances,), (np.ones(len(block)) @ distances,)
