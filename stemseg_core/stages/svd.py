"""Singular value decomposition (principal component analysis) of rows that come in blocks."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsEstimator, check_whole
from stemseg_core.rows.products import as_columns, project, scores_block, scores_bytes, scores_on
from stemseg_core.rows.sources import Rows
from stemseg_core.stages.leading import Leading, fixed_signs, leading, leading_bytes
from stemseg_core.system.memory import require_memory
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Partial

Array = NDArray[Any]

#: Products of float32 rows are formed again in float64 where a wanted singular value is below this share of the first.
FLOAT32_RANGE = 3e-3
#: The same of the root of the sum of all squares that went into the products, over the root of this number.
TYPICAL = 10.0
#: Roundings of the sum of all squares that products of rows are trusted to.
ROUNDINGS = 4


class SVD(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RowsEstimator):
    """Truncated singular value decomposition; with ``center=True``, principal component analysis.

    ``X - mean_ = U diag(singular_values_) components_``, cut after `n_components`. `transform` gives the scores
    ``(X - mean_) @ components_.T``, which are the maps; the components are the patterns (HyperSpy's factors).

    Parameters
    ----------
    n_components : int, default 2
        At most min(n, d).
    center : bool, default True
        Subtract the mean of the rows. Without it, the plain singular value decomposition of X.
    n_jobs : int, optional
        Threads, as in joblib; None: all CPUs that this process may use. The result has the same bits for any number.
    max_memory : float or str, optional
        Refuse to start if more bytes are needed, such as ``"4 GB"``; None: a share of what is free.
    progress : callable, optional
        ``progress(done, total, stage)`` after each group of blocks; returning False stops.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, d)
        Right singular vectors, orthonormal, float32 or float64 as X; the entry of largest modulus of each is positive.
    singular_values_ : ndarray of shape (n_components,)
        Falling; zero beyond the rank of X.
    explained_variance_ : ndarray of shape (n_components,)
        Variance of each column of scores (n - 1 in the denominator).
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Its share of the total variance; zero for constant rows.
    mean_ : ndarray of shape (d,)
        Mean of the rows; zero with ``center=False``.
    singular_value_errors_ : ndarray of shape (n_components,), float64
        Bound on the distance of each singular value from the exact one; see Notes.
    n_samples_ : int
        Rows seen by `fit`.
    converged_ : bool
        False only where the iteration for matrices with both sides above 2,000 ran out of passes.
    n_features_in_ : int
        Features seen by `fit`.

    Notes
    -----
    With the shorter side at most 2,000 (or ten times `n_components`): Gram matrix on that side, its eigenvectors V,
    and one more pass for the Gram matrix of the scores on V, whose columns are scaled to unit length. That last step
    makes the error of the singular values quadratic in that of V, so that the digits that a Gram matrix loses are
    gained back: they agree with LAPACK to 1e-5 (float32) and 1e-9 (float64) while they are above 1e-6 of the first.
    Above that side, block Krylov iteration [1]_ with a check of the residual takes the place of the Gram matrix.
    Products of float32 rows are formed in float32 and summed in float64; where the smallest wanted singular value is
    below 3e-3 of the first, they are formed again in float64.

    The values are those of X on the components, and so not above the exact ones s but for rounding. Nor are they far
    below: ``s^2`` is at most the eigenvalue of the Gram matrix (or of the iteration, plus the norm of its residuals)
    plus the rounding of that matrix, for which four roundings of its trace are taken. That bounds the error to first
    order, as `singular_value_errors_`; the error itself is of second order, and much smaller where the spectrum falls.

    Cost: n d min(n, d) + 2 n d n_components operations by the Gram matrix, in two passes, of which the second makes the
    scores of `fit_transform`. Memory: five Gram matrices of doubles, and two more and 8 MB of rows for each thread,
    where rows are not those of an array in the type of the products; a copy of X if n < d.

    References
    ----------
    .. [1] C. Musco and C. Musco, "Randomized block Krylov methods for stronger and faster approximate singular value
       decomposition", NeurIPS 2015, https://arxiv.org/abs/1504.05477.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import SVD
    >>> X = np.array([[3.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> svd = SVD(2, center=False).fit(X)
    >>> svd.singular_values_
    array([3., 2.])
    >>> svd.transform(X).shape
    (3, 2)
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        center: bool = True,
        n_jobs: int | None = None,
        max_memory: float | str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.center = center
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)
        y : ignored

        Returns
        -------
        self
        """
        self._fit(X)
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Array:
        """Find the components and return the scores on them; the pass that refines the components makes both.

        Parameters
        ----------
        X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)
        y : ignored

        Returns
        -------
        scores : ndarray of shape (n, n_components)
            Those of ``fit(X).transform(X)``, to rounding.
        """
        return self._fit(X, with_scores=True)

    def _fit(self, X: Any, with_scores: bool = False) -> Array:
        """Fit; returns the scores, without rows if they are not asked for."""
        rows = self._check_rows(X, reset=True)
        n, d = rows.shape
        rank = checked_n_components(self.n_components, rows)
        n_scores = n if with_scores else 0
        require_memory(
            leading_bytes(rows, rank, self.n_jobs)
            + scores_bytes(rows, rank, self.n_jobs)
            + 8.0 * rank * (2 * rank + 4 * d)
            + 2 * n_scores * rank * rows.dtype.itemsize,
            self.max_memory,
            f"SVD of {n} x {d} with {rank} components",
            "use fewer components, rows or features",
        )
        scores = np.empty((n_scores, rank), rows.dtype)
        first = self._leading(rows, rank)
        if not first.converged:
            warnings.warn(
                f"SVD did not converge in {first.n_passes} passes; the last of the {rank} components may lie in a "
                "nearly flat part of the spectrum: use fewer components",
                ConvergenceWarning,
                stacklevel=3,
            )
        values, W, scatter = self._refined(rows, first, scores)
        self.singular_value_errors_ = _errors(values, first, rows.dtype, self._refined_dtype(rows, first))
        V = W @ first.V
        self.n_samples_ = n
        self.converged_ = first.converged
        self.mean_ = (first.mean if self.center else np.zeros(d)).astype(rows.dtype)
        self.components_ = V.astype(rows.dtype)
        self.singular_values_ = values.astype(rows.dtype)
        # Without centring, the mean of the scores is no variance.
        of_mean = 0.0 if self.center else n * (V @ first.mean) ** 2
        variance = np.maximum(0.0, values**2 - of_mean) / max(1, n - 1)
        self.explained_variance_ = variance.astype(rows.dtype)
        total = scatter / max(1, n - 1)
        self.explained_variance_ratio_ = (variance / total if total > 0 else np.zeros(rank)).astype(rows.dtype)
        if with_scores:
            with one_blas_thread():
                scores = scores @ W.T.astype(rows.dtype)
            # `mean_` is stored in the type of the rows.
            scores += (V @ ((first.mean if self.center else 0) - self.mean_.astype(np.float64))).astype(rows.dtype)
        return scores

    def _leading(self, rows: Rows, rank: int) -> Leading:
        """Right singular vectors, from float64 products if the spectrum asks for them."""
        options: dict[str, Any] = {"n_jobs": self.n_jobs, "progress": self.progress, "stage": "SVD"}
        first = leading(rows, rank, center=self.center, **options)
        if rows.dtype == np.float64 or (first.converged and _float32_suffices(first)):
            return first
        return leading(rows, rank, center=self.center, dtype=np.float64, **options)

    def _refined_dtype(self, rows: Rows, first: Leading) -> np.dtype[Any]:
        return rows.dtype if _float32_suffices(first) else np.dtype(np.float64)

    def _refined(self, rows: Rows, first: Leading, scores: Array) -> tuple[Array, Array, float]:
        """Singular values; their vectors as combinations of ``first.V``; the squared sum of the centred rows.

        With B the scores on V and D the lengths of their columns, ``M = (B / D)^T (B / D)`` is near the unit matrix: it
        has lost no digits, and the singular values of ``M^(1/2) D`` are those of B. `scores` becomes B, if it has rows.
        """
        dtype = self._refined_dtype(rows, first)
        shift = first.mean.astype(dtype)
        # Scores on V of what the shift leaves to subtract, or was too much.
        onto = first.V @ (first.mean - shift if self.center else -shift.astype(np.float64))
        state = (shift, as_columns(first.V, dtype), onto, (len(scores) > 0, first.scatter is None))
        G, *moments = self._run(_scores_gram_block, rows, *state, out=(scores,) if len(scores) else ())
        with one_blas_thread():
            lengths = np.sqrt(np.diag(G))
            safe = np.where(lengths > 0, lengths, 1.0)
            values, vectors = np.linalg.eigh(G / np.outer(safe, safe))
            root = np.sqrt(np.maximum(values, 0.0))[:, np.newaxis] * vectors.T
            _, s, W = np.linalg.svd(root * lengths)
        W = W * fixed_signs(W @ first.V)[:, np.newaxis]
        if first.scatter is not None:
            return s, W, first.scatter
        sums, squares = moments
        n, offset = rows.shape[0], sums / rows.shape[0]
        return s, W, max(0.0, squares - n * float(offset @ offset))

    def transform(self, X: Any) -> Array:
        """Scores of the rows on the components, (n, n_components).

        Parameters
        ----------
        X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)

        Returns
        -------
        scores : ndarray of shape (n, n_components)
            float32 for float32 rows, else float64.
        """
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        scores = np.empty((rows.shape[0], len(self.components_)), rows.dtype)
        state = (self.mean_.astype(rows.dtype), as_columns(self.components_, rows.dtype), len(self.components_))
        self._run(scores_block, rows, *state, out=(scores,))
        return scores

    def inverse_transform(self, X: Any) -> Array:
        """Rows of these scores, ``X @ components_ + mean_``.

        Parameters
        ----------
        X : array-like of shape (n, n_components)

        Returns
        -------
        rows : ndarray of shape (n, d)
        """
        check_is_fitted(self)
        scores = check_array(X, dtype=[np.float64, np.float32])
        if scores.shape[1] != len(self.components_):
            raise ValueError(f"X must have {len(self.components_)} columns, one a component; got shape {scores.shape}")
        with one_blas_thread():
            rows: Array = scores @ self.components_ + self.mean_
        return rows

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def checked_n_components(n_components: Any, rows: Rows) -> int:
    """`n_components` if it can be had from these rows."""
    check_whole(n_components=n_components)
    if int(n_components) > min(rows.shape):
        n, d = rows.shape
        raise ValueError(
            f"n_components must be at most min(n_samples, n_features) = {min(n, d)} for n_samples = {n} and "
            f"n_features = {d}; got {n_components}: ask for fewer, or give more rows"
        )
    return int(n_components)


def _float32_suffices(first: Leading) -> bool:
    return bool(first.values[-1] >= FLOAT32_RANGE**2 * max(first.values[0], first.energy / TYPICAL))


def _errors(values: Array, first: Leading, stored: np.dtype[Any], products: np.dtype[Any]) -> Array:
    """Bounds on the errors of singular values; see the notes of `SVD`."""
    rounding = ROUNDINGS * float(np.finfo(products).eps) * first.energy
    rounding += 4 * ROUNDINGS * float(np.finfo(np.float64).eps) * first.values[0]  # of the eigenvalues
    squared = np.maximum(0.0, first.values - values**2) + first.residual + rounding
    errors: Array = np.minimum(squared / np.maximum(values, 1e-300), np.sqrt(squared))
    return errors + float(np.finfo(stored).eps) * values


def _scores_gram_block(
    block: Array, shift: Array, columns: Array, onto: Array, wanted: tuple[bool, bool]
) -> tuple[Partial | None, Partial]:
    """Gram matrix of the scores; the scores themselves and the sums of the rows, if they are wanted."""
    with_scores, with_sums = wanted
    if with_sums:
        A, squares, sums = project(block, shift, columns)
        moments: Partial = sums, float(squares.sum())
    else:
        A, moments = scores_on(block, shift, columns), ()
    B = A[:, : len(onto)] - onto
    return (B,) if with_scores else None, (B.T @ B, *moments)
