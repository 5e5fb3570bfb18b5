"""Non-negative matrix factorisation: components that only add up.

``|X - W H|^2`` is lowered over W >= 0 and H >= 0 by passes over the rows (`stemseg_core.stages.nmf_solver`). The same
pass runs on X and on a compressed form ``X ~ B C``, which is far smaller: there several starts compete
(`stemseg_core.stages.nmf_starts`) and the best one settles; passes over X finish.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted

from stemseg_core._kernels import nmf as kernels
from stemseg_core.rows.base import RowsEstimator, check_whole
from stemseg_core.rows.products import row_sums, scatter
from stemseg_core.rows.sources import Rows, cached
from stemseg_core.rows.transitional import refuse_too_small
from stemseg_core.stages.abundances import abundances, abundances_block, gram_form
from stemseg_core.stages.nmf_solver import (
    EXACT,
    Array,
    Descent,
    Problem,
    compressed,
    descend,
    directions,
    race,
    thinned,
)
from stemseg_core.stages.nmf_starts import POOL, starts
from stemseg_core.system.memory import require_memory, spare_memory
from stemseg_core.system.threads import Progress, one_blas_thread

#: Directions of the compressed form beyond two for each component: they absorb what random directions miss.
SPARE = 10
#: Rows with this many times as many features as the compressed form are compressed.
WORTH = 2


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
    n_init : int, default=1
        Number of random starts, for "auto" and "random".
    tol : float, default=1e-4
        Stops when the projected gradient [3]_ of the squared error in H, with W at its optimum, is below `tol` times
        ``|X - W H| |W|``, the largest it can be, whatever the scale; ten times that is enough when a pass lowers the
        squared error by less than a hundredth of `tol` of it. With 1e-4 the squared error was within about 1e-4 of its
        minimum in the problems tried.
    max_iter : int, default=1000
        Most passes over X, and over its compressed form for the start that won.
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

    The compressed form is the projection on q = 2 k + 10 directions, found by multiplying random ones by X'X [4]_; only
    the way to the solution depends on it. Where the starts compete, every m-th row stands for all.

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

    def fit_transform(self, X: Any, y: object = None) -> Array:
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
        init = self._check_parameters()
        n, d = rows.shape
        k = self.n_components
        q = self._compressed_features(d)
        require_memory(
            self.needed_bytes(n, d, rows.dtype.itemsize),
            self.max_memory,
            f"NMF of {n} rows in {k} components",
            "use fewer components or pass fewer rows",
        )
        rows = cached(rows, spare_memory(self.needed_bytes(n, d, rows.dtype.itemsize), self.max_memory))
        problem, product = self._problem(rows, q)
        if problem.energy > 0:
            small = compressed(problem, product)
            few = thinned(small)
            state = race(small, few, self._pool(small, few, init), tol=self.tol / 3, max_iter=self.max_iter)
            state = descend(problem, state.H, state.W, tol=self.tol, max_iter=self.max_iter)
        else:
            state = Descent(np.zeros((k, d)), np.zeros((n, k)), converged=True, weight=np.zeros(k))
        if not state.converged:
            warnings.warn(
                f"NMF did not meet tol={self.tol} within max_iter={self.max_iter} passes; raise either",
                ConvergenceWarning,
                stacklevel=2,
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

    def transform(self, X: Any) -> Array:
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

    def _transform(self, rows: Rows) -> Array:
        return abundances(
            rows,
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
        amounts: Array = check_array(W, dtype=(np.float64, np.float32), input_name="W")
        if amounts.shape[1] != len(self.components_):
            raise ValueError(f"W must have one column a component, {len(self.components_)}; got shape {amounts.shape}")
        with one_blas_thread():
            return np.asarray(amounts @ self.components_)

    def needed_bytes(self, n: int, d: int, itemsize: int = 4) -> int:
        """Predicted memory of a fit to n rows of d features."""
        k = self.n_components
        return n * ((self._compressed_features(d) + 2 * k) * 8 + k * itemsize)

    def _compressed_features(self, d: int) -> int:
        q = min(d, 2 * self.n_components + SPARE)
        return q if d >= WORTH * q else d

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _check_parameters(self) -> Array | None:
        """The components to start from, if `init` is an array."""
        check_whole(n_components=self.n_components, n_init=self.n_init, max_iter=self.max_iter)
        tol: Any = self.tol
        if not isinstance(tol, Real) or not float(tol) >= 0:
            raise ValueError(f"tol must be a number, at least 0; got {tol!r}")
        if isinstance(self.init, str):
            if self.init not in ("auto", *POOL):
                names = ", ".join(map(repr, ("auto", *POOL)))
                raise ValueError(f"init must be one of {names}, or an array of components; got {self.init!r}")
            return None
        init: Array = check_array(self.init, dtype=np.float64, input_name="init")
        shape = (self.n_components, self.n_features_in_)
        if init.shape != shape:
            raise ValueError(f"init must have one row a component and the features of X, {shape}; got {init.shape}")
        if init.min() < 0:
            raise ValueError("init must not be negative; clip it at zero")
        return init

    def _pool(self, problem: Problem, few: Problem, init: Array | None) -> Iterable[Array]:
        """The components to start from."""
        if init is not None:
            return [init]
        names = POOL if self.init == "auto" else (str(self.init),)
        return starts(
            problem, few, self.n_components, names=names, n_random=self.n_init, random_state=self.random_state
        )

    def _problem(self, rows: Rows, q: int) -> tuple[Problem, Array | None]:
        """The problem on X, whose values are checked on the way, and ``X' X`` times q random directions."""
        n, d = rows.shape
        options = {"n_jobs": self.n_jobs, "progress": self.progress}
        problem = Problem(rows, None, 0.0, options, EXACT[rows.dtype.itemsize])
        state = directions(np.random.default_rng(0).standard_normal((q, d)), rows.dtype) if q < d else ()
        squares, n_negative, *product = problem.run(_first_block, *state)
        if n_negative:
            counts = np.zeros(n, np.int64)
            problem.run(_negatives_block, out=(counts,))
            raise ValueError(
                f"Negative values in data passed to NMF: {n_negative} of them, the first in row "
                f"{np.argmax(counts > 0)}; clip them at zero, or leave out the step that subtracted a background"
            )
        refuse_too_small(rows, squares, **problem.options)
        problem.energy = squares
        return problem, product[0][:q] if product else None


def _first_block(block: Array, *directions: Array) -> tuple[None, tuple[Any, ...]]:
    n_negative = int((block < 0).sum()) if block.min() < 0 else 0
    if not directions:
        return None, (float(row_sums(block)[0].sum()), n_negative)
    product, squares, _ = scatter(block, *directions)
    return None, (float(squares.sum()), n_negative, product.astype(np.float64))


def _negatives_block(block: Array) -> tuple[tuple[Array], None]:
    return ((block < 0).sum(axis=1),), None


def _finish_block(block: Array, H: Array, form: tuple[Any, ...]) -> tuple[tuple[Array], tuple[Array]]:
    """W of the rows, and their squared residuals by feature."""
    (W,), _ = abundances_block(block, *form)
    W, squares = W.astype(block.dtype, copy=False), np.empty(block.shape[1])
    kernels.residual_block(block, W, H, squares)
    return (W,), (squares,)
