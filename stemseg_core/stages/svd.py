"""Singular value decomposition (principal component analysis) of rows that come in blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsTransformer, checked_n_components
from stemseg_core.rows.products import all_scores, padded_columns, project, scores_bytes, scores_on
from stemseg_core.rows.sources import Rows, rows_of_shape
from stemseg_core.stages.leading import SingularVectors, fixed_signs, singular_vectors_bytes, singular_vectors_precisely
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Products of float32 rows are formed again in float64 where a wanted singular value is below this share of the first.
#: Twice as large: more rows are passed again, and errors of the last values are bounded by half as much.
FLOAT32_RANGE = 3e-3
#: They are also formed again where the squared singular value is below the square of that share times the sum of all
#: squares that went into the products, divided by this number. Twice as large: rows with twice as flat a spectrum, or
#: twice as far from their first mean, are not passed again.
FLAT_SPECTRUM = 10.0
#: Roundings of the sum of all squares that products of rows are trusted to. Twice as many: bounds on the errors of
#: singular values that are up to twice as wide.
ROUNDINGS = 4


@shared_docs
class SVD(RowsTransformer):
    """Truncated singular value decomposition; with ``center=True``, principal component analysis.

    ``X - mean_ = U diag(singular_values_) components_``, cut after `n_components`. `transform` gives the scores
    ``(X - mean_) @ components_.T``, which are the maps; the components are the patterns (HyperSpy's factors).

    Parameters
    ----------
    n_components : int, default=2
        At most min(n, d).
    center : bool, default=True
        Subtract the mean of the rows. Without it, the plain singular value decomposition of X.
    {execution}

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
    Above that side, block Lanczos iteration [1]_ with a check of the residual takes the place of the Gram matrix.
    Products of float32 rows are formed in float32 and summed in float64; where the smallest wanted singular value is
    below 3e-3 of the first, they are formed again in float64.

    The values are those of X on the components, so that they exceed the exact ones s by rounding at most. They are not
    far below s either: ``s^2`` is at most the eigenvalue of the Gram matrix (or of the iteration, plus the norm of its
    residuals) plus the rounding of that matrix, which is taken to be four roundings of its trace. The difference is the
    bound `singular_value_errors_`, which is of first order; the error itself is of second order, and much smaller where
    the spectrum falls.

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
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.center = center
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    @shared_docs
    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        {X}
        y : ignored

        Returns
        -------
        self
        """
        rows, execution = self._check_rows(X, reset=True), self._execution
        self._check(rows, execution, with_scores=False)
        self._fit(rows, execution)
        return self

    @shared_docs
    def fit_transform(self, X: Any, y: Any = None) -> Array:
        """Find the components and return the scores on them; the pass that refines the components makes both.

        Parameters
        ----------
        {X}
        y : ignored

        Returns
        -------
        scores : ndarray of shape (n, n_components)
            Those of ``fit(X).transform(X)``, to rounding.
        """
        rows, execution = self._check_rows(X, reset=True), self._execution
        self._check(rows, execution, with_scores=True)
        scores = np.empty((rows.shape[0], int(self.n_components)), rows.dtype)
        refined = self._fit(rows, execution, scores)
        with one_blas_thread():
            scores = scores @ refined.rotation.T.astype(rows.dtype)
        # `mean_` is stored in the type of the rows.
        rest = refined.mean - self.mean_.astype(np.float64)
        scores += (refined.V @ rest).astype(rows.dtype)
        return scores

    def predicted_bytes(self, n: int, d: int, dtype: DTypeLike) -> float:
        """Predicted memory of `fit_transform` of n rows of d features in an array.

        Parameters
        ----------
        n, d : int
        dtype : dtype

        Returns
        -------
        float
            Bytes.
        """
        rows = rows_of_shape(n, d, dtype)
        return self._needed_bytes(rows, self._execution, with_scores=True)

    def _needed_bytes(self, rows: Rows, execution: Execution, *, with_scores: bool) -> float:
        """Predicted memory: `singular_vectors`, a pass, small matrices, and the scores before and after a turn."""
        (n, d), rank = rows.shape, int(self.n_components)
        scores = 2 * n * rank * rows.dtype.itemsize if with_scores else 0
        passes = singular_vectors_bytes(rows, rank, execution.n_threads) + scores_bytes(rows, rank, execution.n_threads)
        return passes + 8.0 * rank * (2 * rank + 4 * d) + scores

    def _check(self, rows: Rows, execution: Execution, *, with_scores: bool) -> None:
        (n, d), rank = rows.shape, checked_n_components(self.n_components, rows)
        execution.require(
            self._needed_bytes(rows, execution, with_scores=with_scores),
            f"SVD of {n} x {d} with {rank} components",
            "use fewer components, rows or features",
        )

    def _fit(self, rows: Rows, execution: Execution, first_scores: Array | None = None) -> _Refined:
        """Fit; `first_scores` (n, rank) is filled with the scores before the rotation, if it is given."""
        n, rank = rows.shape[0], int(self.n_components)
        first = singular_vectors_precisely(rows, rank, execution, _float32_suffices, center=self.center)
        if not first.converged:
            warn(
                f"SVD did not converge in {first.n_passes} passes; the last of the {rank} components may lie in a "
                "nearly flat part of the spectrum: use fewer components",
                ConvergenceWarning,
            )
        dtype = rows.dtype if _float32_suffices(first) else np.dtype(np.float64)
        refined = _refined(rows, first, execution, dtype, first_scores, center=self.center)
        values, V = refined.values, refined.V
        self.singular_value_errors_ = _errors(values, first, rows.dtype, dtype)
        self.n_samples_ = n
        self.converged_ = first.converged
        self.mean_ = refined.mean.astype(rows.dtype)
        self.components_ = V.astype(rows.dtype)
        self.singular_values_ = values.astype(rows.dtype)
        # Without centring, the mean of the scores is no variance.
        of_mean = 0.0 if self.center else n * (V @ first.mean) ** 2
        variance = np.maximum(0.0, values**2 - of_mean) / max(1, n - 1)
        self.explained_variance_ = variance.astype(rows.dtype)
        total = refined.centred_sum_squares / max(1, n - 1)
        self.explained_variance_ratio_ = (variance / total if total > 0 else np.zeros(rank)).astype(rows.dtype)
        return refined

    @shared_docs
    def transform(self, X: Any) -> Array:
        """Scores of the rows on the components, (n, n_components).

        Parameters
        ----------
        {X}

        Returns
        -------
        scores : ndarray of shape (n, n_components)
            float32 for float32 rows, else float64.
        """
        check_is_fitted(self)
        return all_scores(self._check_rows(X, reset=False), self.mean_, self.components_, self._execution)

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
        return self._mixed(X, self.components_)


def _float32_suffices(first: SingularVectors) -> bool:
    """Whether products of float32 rows in float32 determine all singular values that are wanted."""
    largest = max(first.values[0], first.sum_squares / FLAT_SPECTRUM)
    return bool(first.values[-1] >= FLOAT32_RANGE**2 * largest)


@dataclass(frozen=True, eq=False)
class _Refined:
    """Singular values and vectors of the rows minus `mean` (d,), refined by a pass over the rows.

    The singular vectors V (rank, d) are ``rotation @ first.V`` of those vectors that the pass started from.
    """

    values: Array
    V: Array
    rotation: Array
    mean: Array
    centred_sum_squares: float


def _refined(
    rows: Rows,
    first: SingularVectors,
    execution: Execution,
    dtype: np.dtype[Any],
    scores: Array | None,
    *,
    center: bool,
) -> _Refined:
    """One more pass, with products in `dtype`; `scores` (n, rank) becomes those on ``first.V``, if it is given.

    With B the scores on ``first.V`` and D the lengths of their columns, ``M = (B / D)^T (B / D)`` is near the unit
    matrix: it has lost no digits, and the singular values of ``M^(1/2) D`` are those of B.
    """
    shift = first.mean.astype(dtype)
    # Scores of what is to be subtracted beside the shift.
    rest = first.V @ (first.mean - shift if center else -shift.astype(np.float64))
    state = shift, padded_columns(first.V, dtype), rest, scores is not None
    out = () if scores is None else (scores,)
    centred_sum_squares = first.centred_sum_squares
    if centred_sum_squares is None:
        G, sums, sum_squares = execution.run(_gram_and_sums_block, rows, *state, out=out)
        offset = sums / rows.shape[0]
        centred_sum_squares = max(0.0, sum_squares - rows.shape[0] * float(offset @ offset))
    else:
        (G,) = execution.run(_gram_block, rows, *state, out=out)
    with one_blas_thread():
        lengths = np.sqrt(np.diag(G))
        safe = np.where(lengths > 0, lengths, 1.0)
        eigenvalues, vectors = np.linalg.eigh(G / np.outer(safe, safe))
        root = np.sqrt(np.maximum(eigenvalues, 0.0))[:, np.newaxis] * vectors.T
        _, values, W = np.linalg.svd(root * lengths)
    W = W * fixed_signs(W @ first.V)[:, np.newaxis]
    mean = first.mean if center else np.zeros_like(first.mean)
    return _Refined(values=values, V=W @ first.V, rotation=W, mean=mean, centred_sum_squares=centred_sum_squares)


def _gram_block(
    block: Array, shift: Array, columns: Array, rest: Array, with_scores: bool
) -> tuple[Partial | None, Partial]:
    """Gram matrix of the scores, and the scores themselves where they are asked for."""
    B = scores_on(block, shift, columns)[:, : len(rest)] - rest
    return (B,) if with_scores else None, (B.T @ B,)


def _gram_and_sums_block(
    block: Array, shift: Array, columns: Array, rest: Array, with_scores: bool
) -> tuple[Partial | None, Partial]:
    """`_gram_block`, with column sums and the sum of squares of the rows minus the shift."""
    found = project(block, shift, columns)
    B = found.scores[:, : len(rest)] - rest
    return (B,) if with_scores else None, (B.T @ B, found.sums, float(found.squares.sum()))


def _errors(values: Array, first: SingularVectors, stored: np.dtype[Any], products: np.dtype[Any]) -> Array:
    """Bounds on the errors of singular values; see the notes of `SVD`."""
    rounding = ROUNDINGS * float(np.finfo(products).eps) * first.sum_squares
    rounding += 4 * ROUNDINGS * float(np.finfo(np.float64).eps) * first.values[0]  # of the eigenvalues
    squared = np.maximum(0.0, first.values - values**2) + first.residual + rounding
    errors: Array = np.minimum(squared / np.maximum(values, 1e-300), np.sqrt(squared))
    return errors + float(np.finfo(stored).eps) * values
