"""Non-negative matrix factorisation: components that only add up.

``|X - W H|^2`` is lowered over W >= 0 and H >= 0 by passes over the rows (`stemseg_core.stages.nmf_solver`). The same
pass runs on X and on a compressed form ``X ~ B C``, which is far smaller: there several starts compete
(`stemseg_core.stages.nmf_starts`) and the best one settles; passes over X finish.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted

from stemseg_core._kernels import nmf as kernels
from stemseg_core.rows.base import RowsTransformer, check_whole, refuse_masked
from stemseg_core.rows.blocks import refuse_too_small
from stemseg_core.rows.products import row_sums, scatter_times
from stemseg_core.rows.sources import BLOCK_BYTES, Rows, cached
from stemseg_core.stages.abundances import GramForm, abundances, abundances_block, gram_form
from stemseg_core.stages.nmf_solver import (
    EXACT,
    Descent,
    Problem,
    StoredProblem,
    descend,
    reduced,
    successive_halving,
    zero_mean_and_columns,
)
from stemseg_core.stages.nmf_starts import NAMES, starts, starts_bytes
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError, warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState
from stemseg_core.system.threads import Progress
from stemseg_core.system.types import Array, Partial

#: Directions of the compressed form beyond two for each component: they take what random directions miss. Twice as
#: many: a compressed form nearer to X, larger and slower.
OVERSAMPLING = 10
#: Least ratio of the features of X to those of the compressed form at which compression pays. Twice as large: rows of
#: medium length are not compressed.
MIN_RATIO = 2


@shared_docs
class NMF(RowsTransformer):
    """Non-negative matrix factorisation X ~ W H of least squared error.

    Components are patterns that only add up: with spectra as rows, each row is a sum of non-negative amounts of k
    non-negative spectra. Several starts compete on a compressed form of the data; the best is then finished on X.

    Parameters
    ----------
    n_components : int
        Number of components, k.
    init : {"auto", "nfindr", "spa", "kmeans", "nndsvda", "random"} or array-like of shape (k, d), default="auto"
        Where to start. "auto" tries all of the named ones and goes on with the best. An array is taken as H.
    n_init : int, default=1
        Number of random starts, for "auto" and "random".
    tol : float, default=1e-4
        Stops when the projected gradient [3]_ of the squared error in H, with W at its optimum, is below `tol` times
        ``|X - W H| |W|``, the largest it can be, whatever the scale; ten times that is enough when a pass lowers the
        squared error by less than a hundredth of `tol` of it. With 1e-4 the squared error was within about 1e-4 of its
        minimum in the problems tried.
    max_iter : int, default=1000
        Most passes over X, and over its compressed form for the start that won.
    {random_state}
    {execution}

    Attributes
    ----------
    components_ : ndarray of shape (k, d), float32 if X is float32, else float64
        H. Rows have length 1, so that column l of W is the length of what component l adds to each row of X; they are
        ordered by the sum of squares of that column, the largest first. A component that the data do not need (k above
        the rank) may be zero, and comes last.
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

    The compressed form is the projection on q = 2 k + 10 directions, found by multiplying random ones twice by X'X
    [4]_; only the way to the solution depends on it. These random directions are the same in every fit, whatever
    `random_state` (a generator of seed 0): that is for random starts, k-means and N-FINDR. Where the starts compete,
    every m-th row stands for all.

    Cost: X is read four times and once for each of `n_iter_` passes of 4 n d k flops; usually one to five, since they
    start from the solution of the compressed form. Memory besides X: n (q + 3 k) numbers of 8 bytes.

    References
    ----------
    .. [1] N. Gillis, F. Glineur, "Accelerated multiplicative updates and hierarchical ALS algorithms for nonnegative
       matrix factorization", Neural Comput. 24 (2012) 1085-1105. https://doi.org/10.1162/NECO_a_00256
    .. [2] A. M. S. Ang, N. Gillis, "Accelerating nonnegative matrix factorization algorithms using extrapolation",
       Neural Comput. 31 (2019) 417-439. https://doi.org/10.1162/neco_a_01157
    .. [3] C.-J. Lin, "Projected gradient methods for nonnegative matrix factorization", Neural Comput. 19 (2007)
       2756-2779. https://doi.org/10.1162/neco.2007.19.10.2756
    .. [4] N. Halko, P.-G. Martinsson, J. A. Tropp, "Finding structure with randomness", SIAM Rev. 53 (2011) 217-288.
       https://doi.org/10.1137/090771806

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
        n_init: int = 1,
        tol: float = 1e-4,
        max_iter: int = 1000,
        random_state: RandomState = 0,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
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

    @shared_docs
    def fit(self, X: Any, y: object = None) -> NMF:
        """Find the components of X.

        Parameters
        ----------
        {X}
            Not negative.
        y : ignored

        Returns
        -------
        self
        """
        self.fit_transform(X)
        return self

    @shared_docs
    def fit_transform(self, X: Any, y: object = None) -> Array:
        """Find the components of X and return W; the same as ``fit(X).transform(X)``.

        Parameters
        ----------
        {X}
            Not negative.
        y : ignored

        Returns
        -------
        W : ndarray of shape (n, k)
        """
        rows = self._check_rows(X, reset=True)
        init = self._check_parameters()
        n, d = rows.shape
        k = self.n_components
        execution = self._execution
        needed = self.predicted_bytes(n, d, rows.dtype)
        execution.require(needed, f"NMF of {n} rows in {k} components", "use fewer components or pass fewer rows")
        # The fits inside of this one are part of what is predicted: they must not ask for memory again.
        problem, product = self._problem(cached(rows, execution.spare(needed)), replace(execution, max_memory=None))
        if problem.sum_squares > 0:
            small = reduced(problem, product)
            sample = small.sample()
            state = successive_halving(
                small, sample, self._starts(small, sample, init), tol=self.tol / 3, max_iter=self.max_iter
            )
            state = descend(problem, state.H, state.W, tol=self.tol, max_iter=self.max_iter)
        else:
            state = Descent(np.zeros((k, d)), np.zeros((n, k)), converged=True, added_squares=np.zeros(k))
        if not state.converged:
            warn(
                f"NMF did not meet tol={self.tol} within max_iter={self.max_iter} passes; raise either",
                ConvergenceWarning,
            )
        self.components_ = state.components().astype(rows.dtype)
        self.n_iter_ = state.n_iter
        self.converged_ = state.converged
        del state
        H = self.components_.astype(np.float64)
        W = np.empty((n, k), rows.dtype)
        (squares,) = problem.run(_finish_block, H, gram_form(H, rows.dtype, "nnls"), out=(W,))
        self.reconstruction_err_ = float(np.sqrt(squares.sum()))
        return W

    @shared_docs
    def transform(self, X: Any) -> Array:
        """W of rows: their non-negative least-squares solution on `components_`.

        Parameters
        ----------
        {X}

        Returns
        -------
        W : ndarray of shape (n, k)
        """
        check_is_fitted(self)
        return abundances(
            self._check_rows(X, reset=False),
            self.components_,
            constraint="nnls",
            n_jobs=self.n_jobs,
            max_memory=self.max_memory,
            progress=self.progress,
        )

    def inverse_transform(self, W: ArrayLike) -> Array:
        """Rows W H of amounts W.

        Parameters
        ----------
        W : array-like of shape (n, k)

        Returns
        -------
        X : ndarray of shape (n, d)
        """
        check_is_fitted(self)
        return self._mixed(W, self.components_, name="W")

    def predicted_bytes(self, n: int, d: int, dtype: DTypeLike) -> float:
        """Predicted memory of a fit to n rows of d features in an array.

        The compressed form; the starts on it, or W before and after a pass, and the W that is returned.
        """
        k, q = int(self.n_components), self._reduced_features(d)
        descending = n * k * (16.0 + np.dtype(dtype).itemsize)
        execution = self._execution
        starting = starts_bytes(n, q, k, len(NAMES) + int(self.n_init), execution)
        return 8.0 * n * q + max(descending, starting) + execution.n_threads * BLOCK_BYTES

    def _reduced_features(self, d: int) -> int:
        """Features of the compressed form of d of them: fewer, or d where that does not pay."""
        q = min(d, 2 * self.n_components + OVERSAMPLING)
        return q if d >= MIN_RATIO * q else d

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def _check_parameters(self) -> Array | None:
        """The components to start from, if `init` is an array."""
        check_whole(n_components=self.n_components, n_init=self.n_init, max_iter=self.max_iter)
        tol: Any = self.tol
        if not isinstance(tol, Real) or not float(tol) >= 0:
            raise ParameterError(f"`tol` must be a number, at least 0; got {tol!r}", tol=tol)
        if isinstance(self.init, str):
            if self.init not in ("auto", *NAMES):
                names = ", ".join(map(repr, ("auto", *NAMES)))
                raise ParameterError(
                    f"`init` must be one of {names}, or an array of components; got {self.init!r}", init=self.init
                )
            return None
        refuse_masked(self.init, "init")
        init: Array = check_array(self.init, dtype=np.float64, input_name="init")
        shape = (self.n_components, self.n_features_in_)
        if init.shape != shape:
            raise ParameterError(
                f"`init` must have one row a component and the features of X, {shape}; got {init.shape}", init=self.init
            )
        if init.min() < 0:
            raise ParameterError("`init` must not be negative; clip it at zero", init=self.init)
        return init

    def _starts(self, problem: StoredProblem, sample: StoredProblem, init: Array | None) -> Iterable[Array]:
        """The components to start from."""
        if init is not None:
            return [init]
        names = NAMES if self.init == "auto" else (str(self.init),)
        return starts(
            problem, sample, self.n_components, names=names, n_random=self.n_init, random_state=self.random_state
        )

    def _problem(self, rows: Rows, execution: Execution) -> tuple[Problem, Array | None]:
        """The problem on X, whose values are checked; ``X' X`` times random directions, if it is to be compressed."""
        n, d = rows.shape
        q = self._reduced_features(d)
        random = np.random.default_rng(0).standard_normal((q, d)) if q < d else None
        operands = () if random is None else zero_mean_and_columns(random, rows.dtype)
        sum_squares, n_negative, *product = execution.run(_first_block, rows, *operands)
        if n_negative:
            counts = np.zeros(n, np.int64)
            execution.run(_negatives_block, rows, out=(counts,))
            raise ValueError(
                f"Negative values in data passed to NMF: {n_negative} of them, the first in row "
                f"{np.argmax(counts > 0)}; clip them at zero, or leave out the step that subtracted a background"
            )
        refuse_too_small(rows, sum_squares, execution)
        problem = Problem(rows, None, sum_squares, execution, EXACT[rows.dtype.itemsize])
        return problem, product[0][:q] if product else None


def _first_block(block: Array, *operands: Array) -> tuple[None, Partial]:
    """Sum of squares, how many values are negative, and, of a mean and columns for `scatter_times`, its product."""
    n_negative = int((block < 0).sum()) if block.min() < 0 else 0
    if not operands:
        return None, (float(row_sums(block).squares.sum()), n_negative)
    product, squares, _ = scatter_times(block, *operands)
    return None, (float(squares.sum()), n_negative, product.astype(np.float64))


def _negatives_block(block: Array) -> tuple[tuple[Array], None]:
    return ((block < 0).sum(axis=1),), None


def _finish_block(block: Array, H: Array, form: GramForm) -> tuple[tuple[Array], tuple[Array]]:
    """W of the rows, and their squared residuals by feature."""
    (W,), _ = abundances_block(block, form)
    W, squares = W.astype(block.dtype, copy=False), np.empty(block.shape[1])
    kernels.residual_block(block, W, H, squares)
    return (W,), (squares,)
