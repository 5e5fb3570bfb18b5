"""Minimum noise fraction of rows that come in blocks: components ordered by signal to noise."""

from __future__ import annotations

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsTransformer, checked_n_components
from stemseg_core.rows.blocks import refuse_too_small
from stemseg_core.rows.products import all_scores
from stemseg_core.rows.sources import Rows, rows_of_shape
from stemseg_core.stages.differences import differences_bytes, noise_of_differences
from stemseg_core.stages.gram import moments
from stemseg_core.stages.leading import first_mean, fixed_signs
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Array

#: Noise variance of a direction, as a share of that of a feature (each scaled to noise variance 1), below which the
#: direction has none; and its share of the variance of X, above which X varies there. Twice as large: directions of
#: twice the noise are left out.
NO_NOISE = 1e-10


@shared_docs
class MNF(RowsTransformer):
    """Minimum noise fraction: directions in which signal exceeds noise the most, in scores of unit noise variance.

    With S the covariance of the rows and N that of their noise, the components c solve ``S c = (snr + 1) N c`` with
    ``c' N c = 1`` [1]_. What units or mixtures the features are given in does not matter, unlike in `SVD`.

    Parameters
    ----------
    n_components : int, default=2
        At most min(n, d), and at most the number of independent directions that have noise.
    noise : array-like of shape (d, d), optional
        Covariance of the noise of the rows. Default: half the mean product ``(x[i + 1] - x[i]) (x[i + 1] - x[i])'`` of
        successive rows, over all n - 1 pairs; see Notes for what this assumes.
    {execution}

    Attributes
    ----------
    components_ : ndarray of shape (n_components, d)
        Scores are ``(X - mean_) @ components_.T``; float32 or float64 as X; the entry of largest modulus of each is
        positive.
    snr_ : ndarray of shape (n_components,), float64
        Variance of the signal over that of the noise of each column of scores, falling. The noise fraction is
        ``1 / (snr_ + 1)``. Below zero where the noise is overestimated.
    mixing_ : ndarray of shape (d, n_components)
        Patterns of the scores, ``N @ components_.T``.
    mean_ : ndarray of shape (d,)
    n_features_in_ : int

    Raises
    ------
    ValueError
        If X varies in directions in which `noise`, or the estimate of it, has no variance.

    Notes
    -----
    The estimate takes rows in scan order, signal that hardly changes from one to the next, and noise that is
    independent in the two. Of a `WindowMatrix` they are neighbouring windows of a line, and the last one of a line with
    the first one of the next; pixels that overlapping windows share are taken for signal. The pairs do not depend on
    blocks, tiles or storage.

    Directions in which noise and rows have less than 1e-10 of the variance of others, such as constant features or sums
    of other features, are left out.

    Cost: 2 n d^2 operations in two passes (one if `noise` is given), and 25 d^3. Memory: 12 matrices (d, d) of doubles,
    and for each thread two more and 40 MB of rows; for windows, also a few rows of each line of the grid.

    References
    ----------
    .. [1] A. A. Green, M. Berman, P. Switzer, M. D. Craig, "A transformation for ordering multispectral data in terms
       of image quality with implications for noise removal", IEEE Trans. Geosci. Remote Sens. 26 (1988) 65-74,
       https://doi.org/10.1109/36.3001.

    Examples
    --------
    A weak signal in one feature, strong noise in the other:

    >>> import numpy as np
    >>> from stemseg_core import MNF, SVD
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(scale=[0.1, 5.0], size=(1000, 2))
    >>> X[:, 0] += np.sin(np.arange(1000) / 50)
    >>> np.abs(SVD(1).fit(X).components_).round(1)
    array([[0., 1.]])
    >>> (MNF(1).fit(X).mixing_.T / [0.1, 5.0]).round(1)
    array([[1., 0.]])
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        noise: ArrayLike | None = None,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.noise = noise
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
        rows, execution = self._check_rows(X, reset=True, min_rows=2), self._execution
        n, d = rows.shape
        k = checked_n_components(self.n_components, rows)
        given = None if self.noise is None else _checked_noise(self.noise, d)
        execution.require(
            _needed_bytes(rows, execution.n_threads),
            f"MNF of {n} x {d} with {k} components",
            "use fewer features, of `compress` for instance",
        )
        # Products are float64: noise is often a small part of the rows.
        shift = first_mean(rows, execution).astype(np.float64)
        sums = moments(rows, shift, execution)
        refuse_too_small(rows, sums.sum_squares, execution, shift.astype(rows.dtype))
        N = noise_of_differences(rows, execution) if given is None else given
        with one_blas_thread():
            found = _directions(sums.scatter_matrix(center=True) / (n - 1), N)
            if k > len(found.snr):
                raise ParameterError(
                    f"`n_components` must be at most the number of independent directions that have noise, "
                    f"{len(found.snr)}; got {k}",
                    n_components=k,
                )
            C = found.vectors[:k] * fixed_signs(found.vectors[:k])[:, np.newaxis]
            self.mixing_ = (N @ C.T).astype(rows.dtype)
        self.mean_ = sums.mean.astype(rows.dtype)
        self.components_ = C.astype(rows.dtype)
        self.snr_ = found.snr[:k]
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
        rows = rows_of_shape(n, d, dtype)
        return _needed_bytes(rows, self._execution.n_threads)

    @shared_docs
    def transform(self, X: Any) -> Array:
        """Scores of the rows, whose noise has unit variance and is uncorrelated.

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
        """Rows of these scores, ``X @ mixing_.T + mean_``: of those that `transform` gives, the rows with less noise.

        Parameters
        ----------
        X : array-like of shape (n, n_components)

        Returns
        -------
        rows : ndarray of shape (n, d)
        """
        check_is_fitted(self)
        return self._mixed(X, self.mixing_.T)


def _needed_bytes(rows: Rows, n_threads: int) -> float:
    """Predicted memory of `fit`: small matrices, and the pass over differences, which takes more than the first one."""
    return 8.0 * 12 * rows.shape[1] ** 2 + differences_bytes(rows, n_threads)


def _checked_noise(noise: Any, d: int) -> Array:
    """`noise` as a symmetric matrix (d, d)."""
    N = np.asarray(noise, dtype=np.float64)
    if N.shape != (d, d) or not np.isfinite(N).all() or np.abs(N - N.T).max() > 1e-6 * np.abs(N).max():
        raise ParameterError(
            f"`noise` must be a covariance matrix: symmetric, finite, of shape ({d}, {d}); got shape {N.shape}",
            noise=noise,
        )
    return (N + N.T) / 2


class _Directions(NamedTuple):
    """Directions that have noise, in the order of signal to noise."""

    vectors: Array  # (r, d), of unit noise variance
    snr: Array  # (r,)


def _directions(S: Array, N: Array) -> _Directions:
    """Solve ``S c = (snr + 1) N c``, with features scaled to noise variance 1, where N is not singular."""
    scale = np.sqrt(np.maximum(N.diagonal(), 0))
    scale[scale == 0] = 1  # no noise: left out below
    variances, U = np.linalg.eigh(N / np.outer(scale, scale))
    if variances[0] < -NO_NOISE * len(N):
        raise ParameterError("`noise` must be a covariance matrix; it has negative eigenvalues", noise=N)
    noisy = variances > NO_NOISE
    S = S / np.outer(scale, scale)
    without = U[:, ~noisy]
    if np.einsum("ij,ij->j", without, S @ without).max(initial=0) > NO_NOISE * np.trace(S):
        raise ValueError(
            f"X varies in {without.shape[1]} of {len(N)} directions without noise: signal to noise is infinite there; "
            "leave out features that follow from others, or give a noise with a small number added to its diagonal"
        )
    W = U[:, noisy] / np.sqrt(variances[noisy])
    ratios, V = np.linalg.eigh(W.T @ S @ W)
    return _Directions(vectors=(W @ V).T[::-1] / scale, snr=ratios[::-1] - 1)
