"""What N-FINDR, SPA, ATGP and VCA share: the cloud of scores they search, and what they make of the rows they find."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from stemseg_core._kernels import nfindr as kernels
from stemseg_core.rows.base import RowsEstimator, check_whole
from stemseg_core.rows.blocks import take_rows
from stemseg_core.rows.products import subtract_mean
from stemseg_core.rows.sources import ArrayRows, MaskedRows, Rows
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.leading import Leading, leading_bytes
from stemseg_core.stages.outliers import SPARE, outlier_bytes, without_outliers
from stemseg_core.stages.principal import FLOAT64_VARIANCE, fill_scores, principal_axes
from stemseg_core.stages.projections import RankError, random_projections, successive_projections
from stemseg_core.stages.simplex import inverse, log_volume
from stemseg_core.system.memory import require_memory
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Partial

Array = NDArray[Any]


class Cloud(NamedTuple):
    """Rows as points that span a simplex.

    Barycentric coordinates do not change under affine maps; scores of unit variance keep what is computed with them
    well conditioned.
    """

    Z: Array  # (n, k) float64: a column of ones, and scores of unit variance on k - 1 principal components
    scale: Array  # (k - 1,): root of the variance that the scores had
    mean: Array  # (d,) float64
    converged: bool  # whether the principal components are


class Endmembers(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RowsEstimator):
    """Base of the estimators whose components are rows of X, the endmembers of all others.

    Subclasses have the parameters ``n_components`` and ``n_neighbors`` as well, and choose rows in `_choose`.
    """

    n_components: int
    n_neighbors: int | None
    n_jobs: int | None
    max_memory: float | str | None
    progress: Progress | None

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
        k, options = int(self.n_components), self._options
        kept = np.ones(rows.shape[0], bool)
        if self.n_neighbors is not None:
            kept = without_outliers(rows, k, int(self.n_neighbors), **options)
        if not kept.all():
            rows = MaskedRows(rows, kept)
        cloud = self._cloud(rows)
        with one_blas_thread():
            if k > 1:
                found, n_iter, converged = self._choose(rows, cloud)
            else:
                found, n_iter, converged = self._farthest(rows, cloud.mean), 1, True
            certificate = self._certificate(cloud.Z, found)
            volume = log_volume(cloud.Z[found]) + float(np.log(cloud.scale).sum())
        self.components_ = take_rows(rows, found)
        self.indices_ = np.flatnonzero(kept)[found]
        self.outliers_ = np.flatnonzero(~kept)
        self.log_volume_ = volume
        self.certificate_ = certificate
        self.n_iter_ = n_iter
        self.converged_ = converged and cloud.converged
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

    @abstractmethod
    def _choose(self, rows: Rows, cloud: Cloud) -> tuple[NDArray[np.intp], int, bool]:
        """Numbers of k > 1 rows, passes over the scores, and whether the search came to its end."""

    @property
    def _dimensions(self) -> int:
        """Of the space that the endmembers span."""
        return int(self.n_components) - 1

    @property
    def _more_scores(self) -> int:
        """Columns of scores beside those that volumes are measured on."""
        return 0

    @property
    def _options(self) -> dict[str, Any]:
        return {"n_jobs": self.n_jobs, "progress": self.progress, "stage": type(self).__name__}

    def _check_parameters(self, rows: Rows) -> None:
        check_whole(n_components=self.n_components)
        (n, d), k = rows.shape, int(self.n_components)
        if n < k:
            raise ValueError(
                f"n_components must be at most n_samples = {n}, endmembers being rows of X; got {k}: ask for fewer"
            )
        if d < self._dimensions:
            raise ValueError(
                f"{k} components need at least {self._dimensions} features, X has n_features = {d}: ask for fewer"
            )
        rank, needed = max(1, k - 1), self.search_bytes(n)
        if self.n_neighbors is not None:
            check_whole(n_neighbors=self.n_neighbors)
            if self.n_neighbors >= n:
                raise ValueError(f"n_neighbors must be below n_samples = {n}, got {self.n_neighbors}: ask for fewer")
            rank, needed = min(k - 1 + SPARE, n, d), needed + outlier_bytes(n, k)
        require_memory(
            leading_bytes(rows, rank, self.n_jobs) + needed,
            self.max_memory,
            f"{type(self).__name__} of {n} x {d} with {k} components",
            "use fewer components, rows or features",
        )

    def search_bytes(self, n: int) -> float:
        """Memory of the search among n rows, beside that of the principal components."""
        return 8.0 * n * (int(self.n_components) + 3 + self._more_scores)

    def _cloud(self, rows: Rows) -> Cloud:
        n, k = rows.shape[0], int(self.n_components)
        first = self._leading(rows, max(1, k - 1))
        scale = np.sqrt(first.values[: k - 1] / n)
        Z = np.ones((n, k))
        if k > 1:
            fill_scores(rows, first, first.V / scale[:, np.newaxis], first.mean, Z[:, 1:], **self._options)
        return Cloud(Z, scale, first.mean, first.converged)

    def _farthest(self, rows: Rows, origin: Array) -> NDArray[np.intp]:
        """One endmember: no simplex, so the row farthest from the mean."""
        squares = np.empty(rows.shape[0])
        self._run(_squares_block, rows, origin, out=(squares,))
        return np.array([squares.argmax()])

    def _leading(self, rows: Rows, rank: int, *, center: bool = True) -> Leading:
        """Mean and principal axes; refuses too low a rank."""
        first = principal_axes(rows, rank, center=center, **self._options)
        name = type(self).__name__
        if not first.converged:
            warnings.warn(
                f"the {rank} principal components of {name} did not converge in {first.n_passes} passes: the last of "
                "them may lie in a nearly flat part of the spectrum; use fewer components",
                ConvergenceWarning,
                stacklevel=4,
            )
        energy = first.values.sum() + rows.shape[0] * float(first.mean @ first.mean)
        least = max(FLOAT64_VARIANCE * first.values[0], float(np.finfo(rows.dtype).eps) ** 2 * energy)
        found = int((first.values > least).sum())
        if not center and found < rank:
            raise RankError(
                f"n_components must be at most {found} for ATGP of these rows: they span a space of {found} dimensions "
                "(rank of the rows, to rounding); ask for fewer, or take SPA, as a start init='spa'"
            )
        if found < self.n_components - 1:
            raise RankError(
                f"n_components must be at most {found + 1} for these rows: they lie in an affine space of {found} "
                f"dimensions (rank of the rows minus their mean, to rounding), and {self.n_components} endmembers need "
                f"{self.n_components - 1}; ask for fewer"
            )
        return first

    def _by_spa(self, cloud: Cloud) -> NDArray[np.intp]:
        """Successive projections of ``[1, scores]``: the same whatever the origin and the unit of the features."""
        return successive_projections(cloud.Z, cloud.Z.shape[1])

    def _by_atgp(self, rows: Rows) -> NDArray[np.intp]:
        """Successive projections of the rows on their leading directions, lengths counting."""
        k = int(self.n_components)
        first = self._leading(rows, k, center=False)
        scores = np.empty((rows.shape[0], k))
        fill_scores(rows, first, first.V, np.zeros(rows.shape[1]), scores, **self._options)
        return successive_projections(scores, k)

    def _by_vca(self, cloud: Cloud, n_starts: int, random_state: np.random.RandomState) -> NDArray[np.intp]:
        """Rows (n_starts, k), a start of vertex component analysis each."""
        k = cloud.Z.shape[1]
        directions = random_state.standard_normal((n_starts, k, k))
        return random_projections(cloud.Z, directions, lambda W: self._extremes(cloud.Z, W))

    def _certificate(self, Z: Array, chosen: NDArray[np.intp]) -> float:
        """Largest modulus of a barycentric coordinate of any row."""
        return float(self._extremes(Z, inverse(Z[chosen]))[0].max())

    def _extremes(self, Z: Array, W: Array) -> tuple[Array, Array]:
        """Largest ``|Z W|`` of each column and its row number."""
        best, row = self._run(_extremes_block, ArrayRows(Z), W, along=(np.arange(len(Z)),), merge=_larger)
        return best, row


def _squares_block(block: Array, mean: Array) -> tuple[Partial, None]:
    return (subtract_mean(block, mean)[1],), None


def _extremes_block(block: Array, numbers: Array, W: Array) -> tuple[None, Partial]:
    best, row = np.empty(W.shape[1]), np.empty(W.shape[1], np.intp)
    kernels.extremes_block(block, W, np.empty((len(W), kernels.ROWS)), best, row)
    return None, (best, numbers[row])


def _larger(a: Partial, b: Partial) -> Partial:
    later = b[0] > a[0]
    return np.where(later, b[0], a[0]), np.where(later, b[1], a[1])
