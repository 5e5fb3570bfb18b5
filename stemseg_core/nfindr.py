"""N-FINDR: the rows that span the largest simplex, as the endmembers of all others."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from stemseg_core._kernels import nfindr as kernels
from stemseg_core.abundances import abundances
from stemseg_core.blocks import ArrayRows, Partial, Rows, take_rows
from stemseg_core.directions import Leading, leading, leading_bytes
from stemseg_core.estimator import RowsEstimator, check_whole
from stemseg_core.memory import require_memory
from stemseg_core.products import as_columns, scores_on, subtract_mean
from stemseg_core.projections import successive_projections
from stemseg_core.threads import Progress, one_blas_thread

Array = NDArray[Any]

#: A vertex is replaced only if the volume grows by more than this factor, so that rounding cannot go in circles.
GROWTH = 1 + 1e-10
#: Variance, by that of the first component, below which float32 products say nothing about a component.
FLOAT32_VARIANCE = 1e-5
#: The same for float64 products: what is below is rounding.
FLOAT64_VARIANCE = 1e-13


#: Components up to which ten starts find the largest simplex of all but for rare cases.
EASY_COMPONENTS = 5
#: From the largest simplex found for more components: tries a start in one round, and vertices that each one moves.
SHAKES, SHAKEN = 20, (3, 4)
#: Log volume below the largest one at which a simplex is too flat to start from.
FLAT = 20.0


class NFINDR(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RowsEstimator):
    """Endmembers by N-FINDR: the `n_components` rows of X that span the simplex of largest volume.

    Volumes are measured in the space of the first ``n_components - 1`` principal components.

    Parameters
    ----------
    n_components : int, default=2
        Number of endmembers k. With 1 it is the row farthest from the mean.
    n_init : int, default=10
        Starts of the search: one by successive projections, the others from random directions. The largest volume wins;
        with more than five components, twenty tries a start go on from there with some vertices moved at random.
    max_iter : int, default=100
        Most passes over the scores.
    random_state : int, RandomState instance or None, default=0
        Seed of the random starts. None: another one every time.
    n_jobs : int or None, default=None
        Threads, as in joblib; None: all CPUs this process may use. The result is the same to the bit for any number.
    max_memory : int, float, str or None, default=None
        Bytes that may be used, or a text such as "4 GB"; None: a share of what is free.
    progress : callable or None, default=None
        Called as ``progress(done, total, stage)``; returning False stops.

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        The endmembers, rows of X, in the order of their row numbers.
    indices_ : ndarray of shape (k,), int
        Their row numbers.
    log_volume_ : float
        ``log |det [1; Y]|`` of the principal component scores Y of the endmembers: log of (k - 1)! times the volume.
    certificate_ : float
        Largest modulus of a barycentric coordinate of any row with respect to the endmembers. At most 1 (to rounding):
        no single replacement enlarges the simplex, and its volume is at least ``k**(-k / 2)`` of the largest possible.
    n_iter_ : int
        Passes over the scores.
    converged_ : bool
        Whether every start ended at a simplex that no single replacement enlarges (and the principal components are
        converged).
    n_features_in_ : int
        Number of features.

    See Also
    --------
    abundances : Shares of the endmembers in each row, which `transform` returns.

    Notes
    -----
    One row of the inverse of M = [1; vertices] gives for all rows of X the factor by which the volume grows if they
    replace a vertex [1]_, so a pass scores every row for every vertex of every start. The best rows join a pool, in
    which every start replaces vertices while its volume grows; when a pass finds no row
    outside the pool that would enlarge any simplex, all starts have converged on all rows. [2]_ is the start. Where
    there are many components, local optima abound: three or four vertices of the largest simplex are moved to random
    rows of the pool, which is cheap, and what is larger after another ascent takes its place and is tried on all rows.

    Cost: principal components, n d^2 products; then a few passes over n (k - 1) scores, kept in memory as 8 n k bytes.

    References
    ----------
    .. [1] M. E. Winter, "N-FINDR: an algorithm for fast autonomous spectral end-member determination in hyperspectral
       data", Proc. SPIE 3753 (1999) 266-275. https://doi.org/10.1117/12.366289
    .. [2] N. Gillis, S. A. Vavasis, "Fast and robust recursive algorithms for separable nonnegative matrix
       factorization", IEEE Trans. Pattern Anal. Mach. Intell. 36 (2014) 698-714.
       https://doi.org/10.1109/TPAMI.2013.226

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import NFINDR
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 1.0], [0.0, 4.0], [2.0, 2.0]])
    >>> nfindr = NFINDR(3).fit(X)
    >>> nfindr.indices_
    array([0, 1, 3])
    >>> nfindr.transform(X)[2].round(6)
    array([0.5 , 0.25, 0.25])
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        n_init: int = 10,
        max_iter: int = 100,
        random_state: Any = 0,
        n_jobs: int | None = None,
        max_memory: float | str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_init = n_init
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the endmembers.

        Parameters
        ----------
        X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X has fewer than k rows, or its rows lie in an affine space of fewer than k - 1 dimensions.
        """
        rows = self._check_rows(X, reset=True)
        self._check_parameters(rows)
        found = self._search(rows) if self.n_components > 1 else self._farthest(rows)
        self.components_ = take_rows(rows, found.indices)
        self.indices_ = found.indices
        self.log_volume_ = found.log_volume
        self.certificate_ = found.certificate
        self.n_iter_ = found.n_iter
        self.converged_ = found.converged
        return self

    def transform(self, X: Any) -> Array:
        """Abundances of the endmembers in each row: not negative, with sum 1.

        Parameters
        ----------
        X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)

        Returns
        -------
        ndarray of shape (n, k)
        """
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        return abundances(
            rows, self.components_, n_jobs=self.n_jobs, max_memory=self.max_memory, progress=self.progress
        )

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self, rows: Rows) -> None:
        check_whole(n_components=self.n_components, n_init=self.n_init, max_iter=self.max_iter)
        (n, d), k = rows.shape, int(self.n_components)
        if n < k:
            raise ValueError(
                f"n_components must be at most n_samples = {n}, endmembers being rows of X; got {k}: ask for fewer"
            )
        if d < k - 1:
            raise ValueError(f"{k} components need at least {k - 1} features, X has n_features = {d}: ask for fewer")
        require_memory(
            leading_bytes(rows, k - 1, self.n_jobs) + 8.0 * n * (k + 3),
            self.max_memory,
            f"N-FINDR of {n} x {d} with {k} components",
            "use fewer components, rows or features",
        )

    def _farthest(self, rows: Rows) -> Found:
        """One endmember: no simplex, so the row farthest from the mean."""
        mean = self._leading(rows, 1).mean
        squares = np.empty(rows.shape[0])
        self._run(_squares_block, rows, mean, out=(squares,))
        return Found(np.array([squares.argmax()]), 0.0, 1.0, 1, True)

    def _search(self, rows: Rows) -> Found:
        n, k = rows.shape[0], int(self.n_components)
        first = self._leading(rows, k - 1)
        scale = np.sqrt(first.values / n)
        # Barycentric coordinates do not change under affine maps; scores of unit variance keep M well conditioned.
        V = first.V / scale[:, np.newaxis]
        dtype = rows.dtype if _float32_suffices(first) else np.dtype(np.float64)
        shift = first.mean.astype(dtype)
        Z = np.ones((n, k))
        self._run(
            _scores_block,
            rows,
            shift,
            as_columns(V, dtype),
            V @ (first.mean - shift),
            out=(Z[:, 1:],),
        )
        with one_blas_thread():
            search = _Search(Z, lambda W: self._extremes(Z, W))
            random_state = check_random_state(self.random_state)
            search.start(int(self.n_init), random_state)
            n_shakes = SHAKES * int(self.n_init) if k > EASY_COMPONENTS else 0
            n_iter, converged = search.improve(int(self.max_iter), n_shakes, random_state)
            indices, log_volume, certificate = search.best()
        if not converged:
            warnings.warn(
                f"N-FINDR did not converge in max_iter = {self.max_iter} passes: a row would enlarge the best "
                f"simplex {certificate:.6g} times; raise max_iter",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Found(
            indices, log_volume + float(np.log(scale).sum()), certificate, n_iter, converged and first.converged
        )

    def _leading(self, rows: Rows, rank: int) -> Leading:
        """Mean and principal axes, from float64 products if the spectrum asks for it; refuses too low a rank."""
        options: dict[str, Any] = {"n_jobs": self.n_jobs, "progress": self.progress, "stage": "NFINDR"}
        first = leading(rows, rank, **options)
        if rows.dtype == np.float32 and not _float32_suffices(first):
            first = leading(rows, rank, dtype=np.float64, **options)
        if not first.converged:
            warnings.warn(
                f"the {rank} principal components of N-FINDR did not converge in {first.n_passes} passes: the last of "
                "them may lie in a nearly flat part of the spectrum; use fewer components",
                ConvergenceWarning,
                stacklevel=4,
            )
        energy = first.values.sum() + rows.shape[0] * float(first.mean @ first.mean)
        least = max(FLOAT64_VARIANCE * first.values[0], float(np.finfo(rows.dtype).eps) ** 2 * energy)
        found = int((first.values > least).sum())
        if found < self.n_components - 1:
            raise ValueError(
                f"n_components must be at most {found + 1} for these rows: they lie in an affine space of {found} "
                f"dimensions (rank of the rows minus their mean, to rounding), and {self.n_components} endmembers need "
                f"{self.n_components - 1}; ask for fewer"
            )
        return first

    def _extremes(self, Z: Array, W: Array) -> tuple[Array, Array]:
        """Largest ``|Z W|`` of each column and its row number."""
        best, row = self._run(_extremes_block, ArrayRows(Z), W, along=(np.arange(len(Z)),), merge=_larger)
        return best, row


class Found(NamedTuple):
    """Result of the search; see the attributes of `NFINDR`."""

    indices: NDArray[np.intp]
    log_volume: float
    certificate: float
    n_iter: int
    converged: bool


class _Search:
    """Simplices of several starts, improved together from a pool of rows that were extreme in some direction.

    `extremes` is the pass over all rows Z = [1, scores]: for columns of W the largest ``|Z W|`` and its row.
    """

    def __init__(self, Z: Array, extremes: Callable[[Array], tuple[Array, Array]]) -> None:
        self.Z, self.extremes = Z, extremes
        self.pool: NDArray[np.intp] = np.empty(0, np.intp)
        self.simplices: list[NDArray[np.intp]] = []

    def start(self, n_init: int, random_state: np.random.RandomState) -> None:
        """Successive projections; then, in the pool of rows extreme along random directions, random projections."""
        k = self.Z.shape[1]
        self.simplices = [successive_projections(self.Z, k)]
        self.pool = np.unique(self.simplices[0])
        if n_init > 1:
            self._add_to_pool(self.extremes(random_state.standard_normal((k, (n_init - 1) * k)))[1])
        points = self.Z[self.pool]
        for _ in range(n_init - 1):
            self.simplices.append(self.pool[_random_simplex(points, random_state)])

    def improve(self, max_iter: int, n_shakes: int, random_state: np.random.RandomState) -> tuple[int, bool]:
        """Ascend; then shake the largest simplex and ascend again, while that finds a larger one."""
        n_iter, converged = self._ascend(max_iter)
        while converged and n_shakes and n_iter < max_iter:
            largest = self.best()[0]
            shaken = self._shaken(largest, n_shakes, random_state)
            if np.array_equal(shaken, largest):
                break
            self.simplices = [shaken]
            more, converged = self._ascend(max_iter - n_iter)
            n_iter += more
        return n_iter, converged

    def _shaken(self, simplex: NDArray[np.intp], n_shakes: int, random_state: np.random.RandomState) -> Array:
        """The largest simplex found in a larger pool by moving a few vertices to random places and enlarging it."""
        k = len(simplex)
        self._add_to_pool(self.extremes(random_state.standard_normal((k, n_shakes // SHAKES * k)))[1])
        points = self.Z[self.pool]
        largest = np.searchsorted(self.pool, simplex)
        volume = _log_volume(points[largest])
        for i in range(n_shakes):
            m = SHAKEN[i % len(SHAKEN)]
            moved = largest.copy()
            moved[random_state.choice(len(moved), m, replace=False)] = random_state.choice(len(points), m)
            if _log_volume(points[moved]) < volume - FLAT:
                continue
            moved = _enlarge(points, moved)
            found = _log_volume(points[moved])
            if found > volume + np.log(GROWTH):
                largest, volume = moved, found
        return np.sort(self.pool[largest])

    def _ascend(self, max_iter: int) -> tuple[int, bool]:
        """Enlarge the simplices until no row does; passes over all rows, and whether that was reached."""
        for n_iter in range(1, max_iter + 1):
            points = self.Z[self.pool]
            enlarged = [self.pool[_enlarge(points, np.searchsorted(self.pool, s))] for s in self.simplices]
            self.simplices = list({tuple(np.sort(s)): np.sort(s) for s in enlarged}.values())
            W = np.hstack([_inverse(self.Z[s]) for s in self.simplices])
            growth, rows = self.extremes(W)
            self.growth = growth.reshape(len(self.simplices), -1).max(axis=1)
            # A row of the pool that seems to enlarge a simplex does so by rounding only.
            if not self._add_to_pool(rows[growth > GROWTH]):
                return n_iter, True
        return max_iter, False

    def best(self) -> tuple[NDArray[np.intp], float, float]:
        """The largest simplex, the first of equals: its rows, log |det| and largest barycentric coordinate."""
        log_volumes = [_log_volume(self.Z[s]) for s in self.simplices]
        i = int(np.argmax(log_volumes))
        return self.simplices[i], float(log_volumes[i]), float(self.growth[i])

    def _add_to_pool(self, rows: NDArray[np.intp]) -> bool:
        """Whether any of the rows is new."""
        before = len(self.pool)
        self.pool = np.union1d(self.pool, rows)
        return len(self.pool) > before


def _log_volume(vertices: Array) -> float:
    return float(np.linalg.slogdet(vertices)[1])


def _inverse(vertices: Array) -> Array:
    """W such that ``z W`` are the barycentric coordinates of z = [1, y]."""
    return np.linalg.inv(vertices)


def _random_simplex(points: Array, random_state: np.random.RandomState) -> list[int]:
    """Points extreme along random directions, each orthogonal to the points before."""
    q = points.shape[1]
    P = np.eye(q)
    chosen = []
    for _ in range(q):
        chosen.append(int(np.abs(points @ (P @ random_state.standard_normal(q))).argmax()))
        u = P @ points[chosen[-1]]
        P -= np.outer(u, u) / (u @ u)
    return chosen


def _enlarge(points: Array, vertices: NDArray[np.intp]) -> NDArray[np.intp]:
    """Replace the vertex by the point that together enlarge the simplex most, while any does."""
    vertices = vertices.copy()
    while True:
        growth = np.abs(points @ _inverse(points[vertices]))
        p, j = np.unravel_index(growth.argmax(), growth.shape)
        if growth[p, j] <= GROWTH:
            return vertices
        vertices[j] = p


def _squares_block(block: Array, mean: Array) -> tuple[Partial, None]:
    return (subtract_mean(block, mean)[1],), None


def _float32_suffices(first: Leading) -> bool:
    return bool(first.converged and first.values[-1] > FLOAT32_VARIANCE * first.values[0])


def _scores_block(block: Array, shift: Array, columns: Array, onto: Array) -> tuple[Partial, None]:
    """Scores with products in the type of the shift, which is the mean up to `onto`, the scores of the rest."""
    return (scores_on(block, shift, columns)[:, : len(onto)] - onto,), None


def _extremes_block(block: Array, numbers: Array, W: Array) -> tuple[None, Partial]:
    best, row = np.empty(W.shape[1]), np.empty(W.shape[1], np.intp)
    kernels.extremes_block(block, W, np.empty((len(W), kernels.ROWS)), best, row)
    return None, (best, numbers[row])


def _larger(a: Partial, b: Partial) -> Partial:
    later = b[0] > a[0]
    return np.where(later, b[0], a[0]), np.where(later, b[1], a[1])
