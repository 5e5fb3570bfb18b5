"""Non-negative matrix factorisation: components that only add up.

``|X - W H|^2`` is lowered over W >= 0 and H >= 0 by passes over the rows. Given H, the rows of W are independent, so a
pass takes a block of X once and, while it is in the cache, makes ``X H'``, sweeps the rows of W, and adds up ``W' X``
and ``W' W``; these give the next H. The same pass runs on X and on its compressed form ``X ~ B C``, which is far
smaller: there the starts compete (`stemseg_core.nmf_starts`) and the best one settles; passes over X finish.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted

from stemseg_core._kernels import nmf as kernels
from stemseg_core.abundances import abundances
from stemseg_core.blocks import ArrayRows, Progress, Rows, refuse_non_finite
from stemseg_core.compress import compress
from stemseg_core.estimator import RowsEstimator
from stemseg_core.memory import require_memory
from stemseg_core.nmf_starts import POOL, starts

#: Sweeps over the components for each pass: a sweep in the cache costs less than the products it works on.
SWEEPS = 8
#: The compressed form is used where rows have this many times as many features as it.
WORTH = 3
#: Passes of a start in the first round of the race; twice as many in each later round, for half of the starts.
ROUND = 10
#: A squared error of this share of the energy of X is as good as none.
EXACT = 1e-12
HIST = None


@dataclass
class Problem:
    """Rows to factorise, ``X = B C`` with orthonormal C: B is read in blocks; C is None where B is X itself."""

    run: Callable[..., Any]
    rows: Rows
    basis: NDArray[Any] | None
    energy: float
    n_jobs: int | None

    def lift(self, P: NDArray[Any]) -> NDArray[np.float64]:
        """Rows in the terms of B as rows in the terms of X."""
        return np.asarray(P if self.basis is None else P @ self.basis, dtype=np.float64)

    def pass_over(self, H: NDArray[Any], W: NDArray[Any], W_next: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Sweep W into `W_next`; return ``W' X`` (k, d) and ``W' W`` (k, k) of the new W."""
        P = H if self.basis is None else H @ self.basis.T
        WtB, WtW = self.run(_sweep_block, self.rows, P, H @ H.T, SWEEPS, along=(W,), out=(W_next,))
        return self.lift(WtB), WtW


def _sweep_block(
    block: NDArray[Any], W: NDArray[Any], P: NDArray[Any], G: NDArray[Any], n_sweeps: int
) -> tuple[tuple[NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]:
    # float32 would blur the squared error, a small difference of large sums, by 1e-7 of the energy of X.
    block = block.astype(np.float64, copy=False)
    Wt = np.array(W.T, order="C")
    kernels.hals_block(np.matmul(P, block.T), G, n_sweeps, Wt)
    return (Wt.T,), (np.matmul(Wt, block), np.matmul(Wt, Wt.T))


@dataclass
class Descent:
    """State of a descent: H and W, what the last pass told about them, and what is needed to go on."""

    H: NDArray[Any]
    W: NDArray[Any]
    objective: float = np.inf
    n_iter: int = 0
    converged: bool = False
    weight: NDArray[Any] | None = None

    def ordered(self) -> NDArray[Any]:
        """Rows of H with length 1, or 0, by falling energy."""
        lengths = np.linalg.norm(self.H, axis=1, keepdims=True)
        H = np.divide(self.H, lengths, out=np.zeros_like(self.H), where=lengths > 0)
        return H[np.argsort(-self.weight, kind="stable")]


def descend(problem: Problem, H: NDArray[Any], W: NDArray[Any], *, max_iter: int, tol: float) -> Descent:
    """Lower the squared error by at most `max_iter` passes; never raises it.

    Each new H is extrapolated along its last step; if that raises the error, the step is taken back and the
    extrapolation shortened (Ang and Gillis 2019, with W as a function of H instead of a second sequence).
    """
    state = Descent(H, W)
    W_next = np.empty_like(W)
    H_try, extrapolated = H, False
    factor, ceiling = 0.5, 1.0
    while state.n_iter < max_iter:
        state.n_iter += 1
        WtX, WtW = problem.pass_over(H_try, state.W, W_next)
        objective = problem.energy - 2 * np.vdot(WtX, H_try) + np.vdot(WtW, H_try @ H_try.T)
        if extrapolated and objective > state.objective:
            H_try, extrapolated = state.H, False
            ceiling, factor = factor, factor / 1.5
            continue
        gradient = WtW @ H_try - WtX
        gradient[(H_try <= 0) & (gradient > 0)] = 0
        previous, state.H = state.H, H_try.copy()
        kernels.hals_block(WtX, WtW, SWEEPS, state.H)
        state.W, W_next = W_next, state.W
        state.objective = max(float(objective), 0.0)
        state.weight = WtW.diagonal() * (state.H**2).sum(axis=1)
        if HIST is not None: HIST.append(objective)
        if (
            np.linalg.norm(gradient) <= tol * np.sqrt(state.objective * np.trace(WtW))
            or state.objective <= EXACT * problem.energy
        ):
            state.converged = True
            break
        factor, ceiling = min(ceiling, 1.05 * factor), min(1.0, 1.01 * ceiling)
        H_try, extrapolated = np.maximum(state.H + factor * (state.H - previous), 0), True
    return state


def race(problem: Problem, candidates: Iterable[NDArray[Any]], *, tol: float, max_iter: int) -> Descent:
    """The best of the starts: all run a few passes, the better half goes on twice as far, the last one to the end."""
    n, k = problem.rows.shape[0], 0
    field = list(candidates)
    k = len(field[0])
    passes = ROUND
    while len(field) > 1:
        ran = [descend(problem, H, np.zeros((n, k)), tol=tol, max_iter=passes) for H in field]
        ran.sort(key=lambda state: state.objective)
        field = [state.H for state in ran[: len(ran) // 2]]
        passes *= 2
    return descend(problem, field[0], np.zeros((n, k)), tol=tol, max_iter=max_iter)


class NMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RowsEstimator):
    """Non-negative matrix factorisation X ~ W H of least squared error.

    Components are patterns that only add up: with spectra as rows, each row is a sum of non-negative amounts of k
    non-negative spectra. Several starts compete on a compressed form of the data; the best is then finished on X.

    Parameters
    ----------
    n_components : int
        Number of components, k.
    init : {"auto", "nfindr", "spa", "kmeans", "nndsvda", "random"} or array-like of shape (k, d), default="auto"
        Where to start. "auto" tries all of the named ones and goes on with the best. An array is taken as H.
    n_init : int, default=3
        Number of random starts, for "auto" and "random".
    tol : float, default=1e-4
        Stops when the projected gradient [3]_ is below `tol` of what it is at H = 0, and a pass lowers the squared
        error by less than a hundredth of `tol` of it.
    max_iter : int, default=400
        Most passes over X. (Passes over its compressed form are far cheaper, and limited to five times as many.)
    random_state : int, RandomState instance or None, default=0
        For the random starts, k-means and N-FINDR.
    n_jobs : int or None, default=None
        Threads, as in joblib; None: all CPUs this process may use. The result is the same to the bit for any number.
    max_memory : int, float, str or None, default=None
        Bytes that may be used, or a text such as "4 GB"; None: a share of what is free.
    progress : callable or None, default=None
        Called as ``progress(done, total, stage)`` in every pass; returning False stops.

    Attributes
    ----------
    components_ : ndarray of shape (k, d), float32 if X is float32, else float64
        H. Rows have length 1, so that column l of W is the length of what component l adds to each row of X; they are
        ordered by energy, the sum of squares of that column, the largest first. A component that the data do not need
        (k above the rank) may be zero, and comes last.
    reconstruction_err_ : float
        ``|X - W H|``, Frobenius norm, W being what `fit_transform` returns; by subtraction in float64.
    n_iter_ : int
        Passes over X.
    converged_ : bool
        Whether `tol` was met within `max_iter`.
    n_features_in_ : int
        Number of features, d.

    Raises
    ------
    ValueError
        If X holds NaN, infinity or negative values (counted and located), or a parameter is out of range.
    MemoryError
        If the fit would exceed `max_memory`.

    Notes
    -----
    Hierarchical alternating least squares with repeated sweeps [1]_ and extrapolation of H [2]_. W always is the
    exact non-negative least-squares solution for `components_`: ``fit_transform(X)`` and ``transform(X)`` agree.

    Cost: each pass reads X once and takes 4 n d k flops; usually some ten passes. Memory: about n (r + 4 k) numbers
    with the compressed form of rank r = max(16, 2 k + 4), besides X.

    References
    ----------
    .. [1] N. Gillis, F. Glineur, "Accelerated multiplicative updates and hierarchical ALS algorithms for nonnegative
       matrix factorization", Neural Comput. 24 (2012) 1085-1105. https://doi.org/10.1162/NECO_a_00256
    .. [2] A. M. S. Ang, N. Gillis, "Accelerating nonnegative matrix factorization algorithms using extrapolation",
       Neural Comput. 31 (2019) 417-439. https://doi.org/10.1162/neco_a_01157
    .. [3] C.-J. Lin, "Projected gradient methods for nonnegative matrix factorization", Neural Comput. 19 (2007)
       2756-2779. https://doi.org/10.1162/neco.2007.19.10.2756

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import NMF
    >>> X = np.array([[3.0, 4.0, 0.0], [0.0, 0.0, 2.0], [6.0, 8.0, 2.0]])
    >>> model = NMF(2).fit(X)
    >>> model.components_.round(6)
    array([[0.6, 0.8, 0. ],
           [0. , 0. , 1. ]])
    >>> model.transform(X).round(6)
    array([[ 5.,  0.],
           [ 0.,  2.],
           [10.,  2.]])
    """

    def __init__(
        self,
        n_components: int,
        *,
        init: str | ArrayLike = "auto",
        n_init: int = 3,
        tol: float = 1e-4,
        max_iter: int = 400,
        random_state: Any = 0,
        n_jobs: int | None = None,
        max_memory: int | float | str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.n_init = n_init
        self.tol = tol
        self.max_iter = max_iter
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    def fit(self, X: Any, y: object = None) -> NMF:
        """Find the components of X.

        Parameters
        ----------
        X : array-like, HDF5 or zarr data set, or row source, of shape (n, d)
            Not negative.
        y : ignored

        Returns
        -------
        self
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X: Any, y: object = None) -> NDArray[Any]:
        """Find the components of X and return W; the same as ``fit(X).transform(X)``.

        Parameters
        ----------
        X : array-like, HDF5 or zarr data set, or row source, of shape (n, d)
            Not negative.
        y : ignored

        Returns
        -------
        W : ndarray of shape (n, k)
        """
        rows = self._check_rows(X, reset=True)
        self._check_parameters(rows)
        n, d = rows.shape
        k = self.n_components
        rank = min(max(16, 2 * k + 4), n, d)
        require_memory(
            n * (rank + 4 * k) * rows.dtype.itemsize,
            self.max_memory,
            f"NMF of {n} rows in {k} components",
            "use fewer components or pass fewer rows",
        )
        problem = Problem(self._run, rows, None, self._energy(rows), self.n_jobs)
        H, n_iter, converged = np.zeros((k, d)), 0, True
        if problem.energy > 0:
            small = self._compressed(problem, rank)
            state = race(small, self._starts(small), tol=self.tol, max_iter=5 * self.max_iter)
            if small is not problem:
                state = descend(problem, state.H, state.W, tol=self.tol, max_iter=self.max_iter)
            H, n_iter, converged = state.ordered(), state.n_iter, state.converged
        if not converged:
            warnings.warn(
                f"NMF did not meet tol={self.tol} within max_iter={self.max_iter} passes; raise either",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.components_ = H.astype(rows.dtype)
        self.n_iter_ = n_iter
        self.converged_ = converged
        W = self._transform(rows)
        (squares,) = self._run(_residual_block, rows, self.components_.astype(np.float64), along=(W,))
        self.reconstruction_err_ = float(np.sqrt(squares.sum()))
        return W

    def transform(self, X: Any) -> NDArray[Any]:
        """W of rows: their non-negative least-squares solution on `components_`.

        Parameters
        ----------
        X : array-like, HDF5 or zarr data set, or row source, of shape (n, d)

        Returns
        -------
        W : ndarray of shape (n, k)
        """
        check_is_fitted(self)
        return self._transform(self._check_rows(X, reset=False))

    def _transform(self, rows: Rows) -> NDArray[Any]:
        return abundances(
            rows,
            self.components_,
            constraint="nnls",
            n_jobs=self.n_jobs,
            max_memory=self.max_memory,
            progress=self.progress,
        )

    def inverse_transform(self, W: ArrayLike) -> NDArray[Any]:
        """Rows W H of amounts W.

        Parameters
        ----------
        W : array-like of shape (n, k)

        Returns
        -------
        X : ndarray of shape (n, d)
        """
        check_is_fitted(self)
        W = check_array(W, dtype=(np.float64, np.float32), input_name="W")
        if W.shape[1] != len(self.components_):
            raise ValueError(f"W must have one column a component, {len(self.components_)}; got shape {W.shape}")
        return np.asarray(W @ self.components_)

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self, rows: Rows) -> None:
        for name, least in (("n_components", 1), ("n_init", 1), ("max_iter", 1)):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < least:
                raise ValueError(f"{name} must be a whole number >= {least}; got {value!r}")
        if not isinstance(self.tol, Real) or not self.tol >= 0:
            raise ValueError(f"tol must be a number >= 0; got {self.tol!r}")
        if isinstance(self.init, str):
            if self.init not in ("auto", *POOL):
                names = ", ".join(map(repr, ("auto", *POOL)))
                raise ValueError(f"init must be one of {names}, or an array of components; got {self.init!r}")

    def _energy(self, rows: Rows) -> float:
        """Sum of squares of X, whose values are checked on the way."""
        squares, n_negative, largest = self._run(_check_block, rows)
        if n_negative:
            counts = np.zeros(rows.shape[0], np.int64)
            self._run(_negatives_block, rows, out=(counts,))
            raise ValueError(
                f"Negative values in data passed to NMF: {n_negative} of them, the first in row {np.argmax(counts > 0)}; "
                "subtract no background before NMF, or clip it at zero"
            )
        tiny = float(np.finfo(rows.dtype).tiny) * rows.shape[0] * rows.shape[1] * 1e6
        if largest > 0 and squares < tiny:
            raise ValueError(f"X has values too small for {rows.dtype}: their squares vanish; scale X up")
        return float(squares)

    def _compressed(self, problem: Problem, rank: int) -> Problem:
        """The problem on few features, or the problem itself where that would not pay."""
        if problem.rows.shape[1] < WORTH * rank:
            return problem
        compressed = compress(problem.rows, rank, center=False, n_jobs=self.n_jobs, progress=self.progress)
        scores = ArrayRows(compressed.scores.astype(np.float64))
        squares, *_ = self._run(_check_block, scores)
        return Problem(self._run, scores, compressed.basis.astype(np.float64), float(squares), self.n_jobs)

    def _starts(self, problem: Problem) -> Iterable[NDArray[Any]]:
        if not isinstance(self.init, str):
            H = check_array(self.init, dtype=np.float64, copy=True, input_name="init")
            shape = (self.n_components, self.n_features_in_)
            if H.shape != shape or H.min() < 0:
                raise ValueError(f"init must be a non-negative array of shape {shape}, got shape {H.shape} ")
            return [H]
        names = POOL if self.init == "auto" else (self.init,)
        return starts(problem, self.n_components, names, self.n_init, self.random_state)


def _check_block(block: NDArray[Any]) -> tuple[None, tuple[float, int, float]]:
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", block, block)
    refuse_non_finite(block, squares)
    n_negative = int((block < 0).sum()) if block.min() < 0 else 0
    return None, (float(squares.sum(dtype=np.float64)), n_negative, float(block.max()))


def _negatives_block(block: NDArray[Any]) -> tuple[tuple[NDArray[Any]], None]:
    return ((block < 0).sum(axis=1),), None


def _residual_block(block: NDArray[Any], W: NDArray[Any], H: NDArray[Any]) -> tuple[None, tuple[NDArray[Any]]]:
    squares = np.empty(block.shape[1])
    kernels.residual_block(block, np.ascontiguousarray(W), H, np.empty_like(squares), squares)
    return None, (squares,)
