"""Independent component analysis of rows that come in blocks."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import FastICA
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsEstimator
from stemseg_core.rows.products import as_columns, scores_block
from stemseg_core.stages.leading import fixed_signs
from stemseg_core.stages.svd import SVD, checked_n_components
from stemseg_core.system.memory import require_memory
from stemseg_core.system.threads import Progress, one_blas_thread

Array = NDArray[Any]

#: A direction shorter than this many roundings of the longest has no sources in it, only noise of the arithmetic.
ROUNDINGS = 100


class ICA(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RowsEstimator):
    """Independent sources: ``X - mean_ ~ S mixing_.T`` with columns of S as far from Gaussian as can be.

    The rows are reduced to their principal components by `SVD`, these are scaled to unit variance, and scikit-learn's
    FastICA [1]_ (parallel) turns them. Sources have unit variance and are ordered by the energy of their patterns,
    the columns of `mixing_`; the entry of largest modulus of each pattern is positive.

    Parameters
    ----------
    n_components : int, default 2
        At most min(n, d), and at most the rank of the centred rows.
    fun : {"logcosh", "exp", "cube"}, default "logcosh"
        Measure of distance from Gaussian.
    max_iter : int, default 200
        Iterations of FastICA at most.
    tol : float, default 1e-4
        Change of the turned axes at which it ends.
    random_state : int, RandomState or None, default 0
        Of the start. An int gives the same answer every time, None fresh entropy.
    n_jobs : int, optional
        Threads, as in joblib; None: all CPUs that this process may use. The result has the same bits for any number.
    max_memory : float or str, optional
        Refuse to start if more bytes are needed, such as ``"4 GB"``; None: a share of what is free.
    progress : callable, optional
        ``progress(done, total, stage)`` after each group of blocks; returning False stops.

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
        random_state: int | np.random.RandomState | None = 0,
        n_jobs: int | None = None,
        max_memory: float | str | None = None,
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

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the sources.

        Parameters
        ----------
        X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)
        y : ignored

        Returns
        -------
        self
        """
        rows = self._check_rows(X, reset=True, min_rows=2)
        n, d = rows.shape
        k = checked_n_components(self.n_components, rows)
        require_memory(
            6.0 * n * k * rows.dtype.itemsize, self.max_memory, f"ICA of {n} x {d} with {k} components", "use fewer"
        )
        svd = SVD(k, n_jobs=self.n_jobs, max_memory=self.max_memory, progress=self.progress)
        white = svd.fit_transform(rows)
        lengths = svd.singular_values_.astype(np.float64)
        rank = int((lengths > ROUNDINGS * np.finfo(rows.dtype).eps * lengths[0]).sum())
        if rank < k:
            raise ValueError(f"n_components must be at most the rank of the centred X, {rank}; got {k}")
        scale = lengths / np.sqrt(n)
        whitening = svd.components_ / scale[:, np.newaxis]
        white /= scale.astype(rows.dtype)
        unmixing, self.n_iter_, self.converged_ = self._turned(white)
        # The turn is orthogonal: its inverse is its transpose.
        mixing = (svd.components_.T * scale) @ unmixing.T
        order = np.argsort(-(mixing**2).sum(axis=0), kind="stable")
        signs = fixed_signs(mixing.T)[order]
        self.mean_ = svd.mean_
        self.components_ = (signs[:, np.newaxis] * (unmixing @ whitening)[order]).astype(rows.dtype)
        self.mixing_ = (mixing[:, order] * signs).astype(rows.dtype)
        return self

    def _turned(self, white: Array) -> tuple[Array, int, bool]:
        """The orthogonal matrix that turns white scores into sources, iterations, whether they converged."""
        fast = FastICA(whiten=False, fun=self.fun, max_iter=self.max_iter, tol=self.tol, random_state=self.random_state)
        with one_blas_thread(), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fast.fit(white)
        for warning in caught:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        return fast.components_.astype(np.float64), int(fast.n_iter_), converged

    def transform(self, X: Any) -> Array:
        """Sources of the rows, (n, n_components), float32 for float32 rows, else float64.

        Parameters
        ----------
        X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)
        """
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        sources = np.empty((rows.shape[0], len(self.components_)), rows.dtype)
        state = (self.mean_.astype(rows.dtype), as_columns(self.components_, rows.dtype), len(self.components_))
        self._run(scores_block, rows, *state, out=(sources,))
        return sources

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
        sources = check_array(X, dtype=[np.float64, np.float32])
        if sources.shape[1] != len(self.components_):
            raise ValueError(f"X must have {len(self.components_)} columns, one a source; got shape {sources.shape}")
        with one_blas_thread():
            rows: Array = sources @ self.mixing_.T + self.mean_
        return rows

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
