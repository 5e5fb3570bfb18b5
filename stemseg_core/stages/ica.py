"""Independent component analysis of rows that come in blocks."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsTransformer, checked_n_components
from stemseg_core.rows.products import all_scores
from stemseg_core.rows.sources import row_dtype
from stemseg_core.stages.leading import fixed_signs
from stemseg_core.stages.svd import SVD
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState, stream
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Array

#: A direction shorter than this many roundings of the longest has no sources in it, only noise of the arithmetic. Twice
#: as many: components that are nearly lost in rounding are refused earlier.
ROUNDINGS = 100


@shared_docs
class ICA(RowsTransformer):
    """Independent sources: ``X - mean_ ~ S mixing_.T`` with columns of S as far from Gaussian as can be.

    The rows are reduced to their principal components by `SVD`, these are scaled to unit variance, and scikit-learn's
    FastICA [1]_ (parallel) turns them. Sources have unit variance and are ordered by the norm of their patterns,
    the columns of `mixing_`, the largest first; the entry of largest modulus of each pattern is positive.

    Parameters
    ----------
    n_components : int, default=2
        At most min(n, d), and at most the rank of the centred rows.
    fun : {"logcosh", "exp", "cube"}, default="logcosh"
        Measure of distance from Gaussian.
    max_iter : int, default=200
        Iterations of FastICA at most.
    tol : float, default=1e-4
        Change of the turned axes at which it ends.
    {random_state}
    {execution}

    Attributes
    ----------
    components_ : ndarray of shape (n_components, d)
        Unmixing vectors, as in scikit-learn: ``sources = (X - mean_) @ components_.T``.
    mixing_ : ndarray of shape (d, n_components)
        Pseudo-inverse of `components_`; its columns are the patterns of the sources.
    mean_ : ndarray of shape (d,)
    n_iter_ : int
        Iterations of FastICA.
    converged_ : bool
        Whether they ended by `tol`; a ConvergenceWarning tells otherwise.
    n_features_in_ : int

    Notes
    -----
    Cost: that of `SVD`, and 4 n k^2 operations and n k hyperbolic tangents an iteration on one thread. Memory: that of
    `SVD`, and about six times the scores, n x k.

    References
    ----------
    .. [1] A. Hyvärinen and E. Oja, "Independent component analysis: algorithms and applications", Neural Networks 13
       (2000) 411-430, https://doi.org/10.1016/S0893-6080(00)00026-5.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import ICA
    >>> rng = np.random.default_rng(0)
    >>> sources = rng.random((500, 2))
    >>> X = sources @ np.array([[3.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    >>> ica = ICA(2).fit(X)
    >>> found = ica.transform(X)
    >>> np.abs(np.corrcoef(found.T, sources.T)[:2, 2:]).round()
    array([[1., 0.],
           [0., 1.]])
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        fun: str = "logcosh",
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: RandomState = 0,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.fun = fun
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    @shared_docs
    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the sources.

        Parameters
        ----------
        {X}
        y : ignored

        Returns
        -------
        self
        """
        rows, execution = self._check_rows(X, reset=True, min_rows=2), self._execution
        n, d = rows.shape
        k = checked_n_components(self.n_components, rows)
        execution.require(_turn_bytes(n, k, rows.dtype), f"ICA of {n} x {d} with {k} components", "use fewer")
        random_state = stream(self.random_state)
        svd = execution.configure(SVD(k))
        white = svd.fit_transform(rows)
        lengths = svd.singular_values_.astype(np.float64)
        rank = int((lengths > ROUNDINGS * np.finfo(rows.dtype).eps * lengths[0]).sum())
        if rank < k:
            raise ParameterError(
                f"`n_components` must be at most the rank of the centred X, {rank}; got {k}", n_components=k
            )
        scale = lengths / np.sqrt(n)
        whitening = svd.components_ / scale[:, np.newaxis]
        white /= scale.astype(rows.dtype)
        turn = self._turn(white, random_state)
        # The turn is orthogonal: its inverse is its transpose.
        mixing = (svd.components_.T * scale) @ turn.matrix.T
        order = np.argsort(-(mixing**2).sum(axis=0), kind="stable")
        signs = fixed_signs(mixing.T)[order]
        self.n_iter_, self.converged_ = turn.n_iter, turn.converged
        self.mean_ = svd.mean_
        self.components_ = (signs[:, np.newaxis] * (turn.matrix @ whitening)[order]).astype(rows.dtype)
        self.mixing_ = (mixing[:, order] * signs).astype(rows.dtype)
        return self

    def predicted_bytes(self, n: int, d: int, dtype: DTypeLike) -> float:
        """Predicted memory of `fit` to n rows of d features in an array.

        Parameters
        ----------
        n, d : int
        dtype : dtype

        Returns
        -------
        float
            Bytes.
        """
        k = int(self.n_components)
        return max(self._execution.configure(SVD(k)).predicted_bytes(n, d, dtype), _turn_bytes(n, k, dtype))

    def _turn(self, white: Array, random_state: np.random.RandomState) -> _Turn:
        """The orthogonal matrix that turns white scores into sources."""
        fast = FastICA(whiten=False, fun=self.fun, max_iter=self.max_iter, tol=self.tol, random_state=random_state)
        with one_blas_thread(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fast.fit(white)
        for warning in caught:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        return _Turn(matrix=fast.components_.astype(np.float64), n_iter=int(fast.n_iter_), converged=converged)

    @shared_docs
    def transform(self, X: Any) -> Array:
        """Sources of the rows.

        Parameters
        ----------
        {X}

        Returns
        -------
        sources : ndarray of shape (n, n_components)
            float32 for float32 rows, else float64.
        """
        check_is_fitted(self)
        return all_scores(self._check_rows(X, reset=False), self.mean_, self.components_, self._execution)

    def inverse_transform(self, X: Any) -> Array:
        """Rows of these sources, ``X @ mixing_.T + mean_``.

        Parameters
        ----------
        X : array-like of shape (n, n_components)

        Returns
        -------
        rows : ndarray of shape (n, d)
        """
        check_is_fitted(self)
        return self._mixed(X, self.mixing_.T, "source")


class _Turn(NamedTuple):
    """What FastICA found."""

    matrix: Array  # (k, k), orthogonal
    n_iter: int
    converged: bool


def _turn_bytes(n: int, k: int, dtype: DTypeLike) -> float:
    """Predicted memory of turning the scores (n, k), with what FastICA makes of them."""
    return 6.0 * n * k * row_dtype(dtype).itemsize
