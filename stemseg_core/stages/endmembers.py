"""What N-FINDR, SPA, ATGP and VCA share: the cloud of scores they search, and what they make of the rows they find."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from stemseg_core.rows.base import RowsTransformer, check_whole
from stemseg_core.rows.blocks import take_rows
from stemseg_core.rows.products import subtract_mean
from stemseg_core.rows.sources import MaskedRows, Rows, cached, rows_of_shape
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.leading import (
    SingularVectors,
    above_rounding,
    fill_scores,
    principal_axes,
    singular_vectors_bytes,
)
from stemseg_core.stages.outliers import SPARE_COMPONENTS, inliers, inliers_bytes
from stemseg_core.stages.projections import RankError, find_extremes, random_projections, successive_projections
from stemseg_core.stages.simplex import inverse, log_volume
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError, warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array, Partial


class Cloud(NamedTuple):
    """Rows as points that span a simplex.

    Barycentric coordinates do not change under affine maps. Scores of unit variance keep what is computed with them
    well conditioned.
    """

    Z: Array  # (n, k) float64: a column of ones, and scores of unit variance on k - 1 principal components
    scale: Array  # (k - 1,): root of the variance that the scores had
    mean: Array  # (d,) float64: mean of the rows
    converged: bool  # whether the principal components are


class Found(NamedTuple):
    """What a search found."""

    rows: NDArray[np.intp]  # (k,): numbers of the rows
    n_iter: int  # passes over the scores
    converged: bool  # whether the search came to its end


class Endmembers(RowsTransformer):
    """Base of the estimators whose components are rows of X, the endmembers of all others.

    Subclasses have the parameters ``n_components`` and ``n_neighbors`` as well, and search in `_search`.
    """

    n_components: int
    n_neighbors: int | None

    @shared_docs
    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the endmembers.

        Parameters
        ----------
        {X}
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X has fewer than k rows, or its rows lie in an affine space of fewer than k - 1 dimensions.
        """
        rows, execution = self._check_rows(X, reset=True), self._execution
        needed = self._check_parameters(rows, execution)
        rows, k = cached(rows, execution.spare(needed)), int(self.n_components)
        kept = np.ones(rows.shape[0], bool)
        if self.n_neighbors is not None:
            kept = inliers(rows, k, int(self.n_neighbors), execution)
        if not kept.all():
            rows = MaskedRows(rows, kept)
        with one_blas_thread():
            cloud = self._cloud(rows, execution)
            if k > 1:
                found = self._search(rows, cloud, execution)
            else:
                found = Found(self._farthest(rows, cloud.mean, execution), 1, True)
            certificate = largest_coordinate(cloud.Z, found.rows, execution)
            volume = log_volume(cloud.Z[found.rows]) + float(np.log(cloud.scale).sum())
        self.components_ = take_rows(rows, found.rows)
        self.indices_ = np.flatnonzero(kept)[found.rows]
        self.outliers_ = np.flatnonzero(~kept)
        self.log_volume_ = volume
        self.certificate_ = certificate
        self.n_iter_ = found.n_iter
        self.converged_ = found.converged and cloud.converged
        return self

    @shared_docs
    def transform(self, X: Any) -> Array:
        """Abundances of the endmembers in each row: not negative, with sum 1.

        Parameters
        ----------
        {X}

        Returns
        -------
        ndarray of shape (n, k)
        """
        check_is_fitted(self)
        rows = self._check_rows(X, reset=False)
        return abundances(
            rows, self.components_, n_jobs=self.n_jobs, max_memory=self.max_memory, progress=self.progress
        )

    @abstractmethod
    def _search(self, rows: Rows, cloud: Cloud, execution: Execution) -> Found:
        """Choose k > 1 rows."""

    @property
    def _dimensions(self) -> int:
        """Least number of features: dimensions of the space that the endmembers span."""
        return int(self.n_components) - 1

    @property
    def _n_more_scores(self) -> int:
        """Columns of scores that the search needs beside those that volumes are measured on."""
        return 0

    def _check_parameters(self, rows: Rows, execution: Execution) -> float:
        """Refuse what cannot be done; returns the bytes that a fit is predicted to need."""
        check_whole(n_components=self.n_components)
        (n, d), k = rows.shape, int(self.n_components)
        if n < k:
            raise ParameterError(
                f"`n_components` must be at most n_samples = {n}, endmembers being rows of X; got {k}: ask for fewer",
                n_components=k,
            )
        if d < self._dimensions:
            raise ParameterError(
                f"{k} components need at least {self._dimensions} features, X has n_features = {d}: ask for fewer",
                n_components=k,
            )
        if self.n_neighbors is not None:
            check_whole(n_neighbors=self.n_neighbors)
            if self.n_neighbors >= n:
                raise ParameterError(
                    f"`n_neighbors` must be below n_samples = {n}, got {self.n_neighbors}: ask for fewer",
                    n_neighbors=self.n_neighbors,
                )
        needed = self._needed_bytes(rows, execution)
        what = f"{type(self).__name__} of {n} x {d} with {k} components"
        execution.require(needed, what, "use fewer components, rows or features")
        return needed

    def predicted_bytes(self, n: int, d: int, dtype: DTypeLike) -> float:
        """Predicted memory of a fit to n rows of d features in an array."""
        return self._needed_bytes(rows_of_shape(n, d, dtype), self._execution)

    def _needed_bytes(self, rows: Rows, execution: Execution) -> float:
        (n, d), rank = rows.shape, max(1, int(self.n_components) - 1)
        if self.n_neighbors is not None:
            rank = min(int(self.n_components) - 1 + SPARE_COMPONENTS, n, d)
        return singular_vectors_bytes(rows, rank, execution.n_threads) + self.search_bytes(n)

    def search_bytes(self, n: int) -> float:
        """Predicted memory of the search among n rows, beside that of their principal components."""
        k = int(self.n_components)
        needed = 8.0 * n * (k + 3 + self._n_more_scores)
        return needed if self.n_neighbors is None else needed + inliers_bytes(n, k)

    def _cloud(self, rows: Rows, execution: Execution) -> Cloud:
        n, k = rows.shape[0], int(self.n_components)
        first = self._leading(rows, max(1, k - 1), execution)
        scale = np.sqrt(first.values[: k - 1] / n)
        Z = np.ones((n, k))
        if k > 1:
            fill_scores(rows, first, first.V / scale[:, np.newaxis], first.mean, execution, out=Z[:, 1:])
        return Cloud(Z, scale, first.mean, first.converged)

    def _farthest(self, rows: Rows, origin: Array, execution: Execution) -> NDArray[np.intp]:
        """The row farthest from the origin (d,): one endmember spans no simplex."""
        squares = np.empty(rows.shape[0])
        execution.run(_squares_block, rows, origin, out=(squares,))
        return np.array([squares.argmax()])

    def _leading(self, rows: Rows, rank: int, execution: Execution, *, center: bool = True) -> SingularVectors:
        """Mean and principal axes; refuses rows that have too few."""
        first = principal_axes(rows, rank, execution, center=center)
        name = type(self).__name__
        if not first.converged:
            warn(
                f"the {rank} principal components of {name} did not converge in {first.n_passes} passes: the last of "
                "them may lie in a nearly flat part of the spectrum; use fewer components",
                ConvergenceWarning,
            )
        which = f"the {rows.shape[0]} rows beside outliers" if isinstance(rows, MaskedRows) else "these rows"
        sum_squares = first.values.sum() + rows.shape[0] * float(first.mean @ first.mean)
        rounding_of_rows = float(np.finfo(rows.dtype).eps) ** 2 * sum_squares
        found = int((above_rounding(first) & (first.values > rounding_of_rows)).sum())
        if not center and found < rank:
            raise RankError(
                f"`n_components` must be at most {found} for ATGP of {which}: they span a space of {found} "
                "dimensions (rank of the rows, to rounding); ask for fewer, or take SPA, as a start init='spa'",
                n_components=self.n_components,
            )
        if found < self.n_components - 1:
            raise RankError(
                f"`n_components` must be at most {found + 1} for {which}: they lie in an affine space of {found} "
                f"dimensions (rank of the rows minus their mean, to rounding), and {self.n_components} endmembers need "
                f"{self.n_components - 1}; ask for fewer",
                n_components=self.n_components,
            )
        return first

    def _by_spa(self, cloud: Cloud) -> NDArray[np.intp]:
        """Successive projections of ``[1, scores]``: the same whatever the origin and the unit of the features."""
        return successive_projections(cloud.Z, cloud.Z.shape[1])

    def _by_atgp(self, rows: Rows, execution: Execution) -> NDArray[np.intp]:
        """Successive projections of the rows on their leading directions, lengths counting."""
        k = int(self.n_components)
        first = self._leading(rows, k, execution, center=False)
        scores = np.empty((rows.shape[0], k))
        fill_scores(rows, first, first.V, np.zeros(rows.shape[1]), execution, out=scores)
        return successive_projections(scores, k)

    def _by_vca(
        self, cloud: Cloud, n_starts: int, random_state: np.random.RandomState, execution: Execution
    ) -> NDArray[np.intp]:
        """Rows (n_starts, k): those of a run of vertex component analysis for each start."""
        k = cloud.Z.shape[1]
        directions = random_state.standard_normal((n_starts, k, k))
        return random_projections(cloud.Z, directions, lambda W: find_extremes(cloud.Z, W, execution))


def largest_coordinate(Z: Array, chosen: NDArray[np.intp], execution: Execution) -> float:
    """Largest modulus of a barycentric coordinate of any row."""
    return float(find_extremes(Z, inverse(Z[chosen]), execution).sizes.max())


def _squares_block(block: Array, mean: Array) -> tuple[Partial, None]:
    return (subtract_mean(block, mean).squares,), None
