"""What all estimators share: taking any source of rows, checking it, and carrying out work on its blocks."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from stemseg_core.rows.sources import Rows, as_rows
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Array


class RowsEstimator(BaseEstimator):
    """Base of the estimators: X may be an array, a memory map, an HDF5 or zarr data set, or a `WindowMatrix`.

    Subclasses have the parameters ``n_jobs``, ``max_memory`` and ``progress``.
    """

    n_jobs: int | None
    max_memory: MemoryLimit
    progress: Progress | None

    @property
    def _execution(self) -> Execution:
        """How to work: asked for once a method, and handed on."""
        return Execution.of(self.n_jobs, self.max_memory, self.progress, stage=type(self).__name__)

    def _check_rows(self, X: Any, *, reset: bool, min_rows: int = 1) -> Rows:
        """The row source of `X`; shape and type are checked as scikit-learn does, values as the blocks are read."""
        if is_row_store(X):
            check_store(X, "X")
            validate_data(self, X, reset=reset, skip_check_array=True)
            if X.shape[0] < min_rows:
                raise ValueError(f"Found array with {X.shape[0]} sample(s) while a minimum of {min_rows} is required.")
            return as_rows(X)
        refuse_masked(X, "X")
        # The finiteness check would read X once more: `blocks.refuse_non_finite` does it inside the first pass.
        X = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite=False, ensure_min_samples=min_rows)
        return as_rows(X)


class RowsTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, RowsEstimator):
    """Base of the estimators that describe rows by `components_` (k, d): `transform` gives k numbers a row."""

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _mixed(self, X: Any, patterns: Array, what: str = "component", name: str = "X") -> Array:
        """Rows ``X @ patterns``, plus `mean_` if there is one, of scores X (n, k), which are checked."""
        refuse_masked(X, name)
        scores = check_array(X, dtype=[np.float64, np.float32], input_name=name)
        if scores.shape[1] != len(patterns):
            raise ValueError(f"{name} must have {len(patterns)} columns, one a {what}; got shape {scores.shape}")
        with one_blas_thread():
            rows: Array = scores @ patterns
        return rows + self.mean_ if hasattr(self, "mean_") else rows


def is_row_store(X: Any) -> bool:
    """Whether `X` is to be read block by block instead of being made an array: a row source, HDF5 or zarr."""
    return isinstance(X, Rows) or type(X).__module__.split(".")[0] in ("h5py", "zarr")


def check_whole(**parameters: object) -> None:
    """Raise `ParameterError` unless each of the named parameters is a whole number, at least 1."""
    for name, value in parameters.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < 1:
            raise ParameterError(f"`{name}` must be a whole number, at least 1; got {value!r}", **{name: value})


def check_store(X: Any, name: str) -> None:
    """Refuse a row store that has no real rows of features, as scikit-learn does an array."""
    if len(X.shape) != 2:
        raise ValueError(f"{name} must be 2-D, rows by features; got shape {tuple(X.shape)}")
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{name} must be of real numbers; got dtype {X.dtype}")
    if X.shape[1] == 0:
        raise ValueError(f"Found array with 0 feature(s) (shape={tuple(X.shape)}) while a minimum of 1 is required.")


def refuse_masked(X: Any, name: str) -> None:
    """Refuse an array with masked values, which would be taken for data: NumPy drops the mask of what it converts."""
    if isinstance(X, np.ma.MaskedArray) and np.ma.is_masked(X):
        masked = np.ma.getmaskarray(X).reshape(len(X), -1).any(axis=1)
        cure = f"{name}[~{name}.mask.any(axis=1)].data" if X.ndim == 2 else f"{name}.filled(value)"
        raise ParameterError(
            f"`{name}` must be without masked values, got {int(masked.sum())} rows with some, first row "
            f"{int(masked.argmax())}; leave them out: {cure}",
            **{name: X},
        )


def check_rows(X: Any, name: str = "X") -> Rows:
    """`RowsEstimator._check_rows` for functions."""
    if is_row_store(X):
        check_store(X, name)
    else:
        refuse_masked(X, name)
        X = check_array(X, dtype="numeric", ensure_all_finite=False, input_name=name)
    return as_rows(X)


def checked_n_components(n_components: Any, rows: Rows) -> int:
    """`n_components` if it can be had from these rows."""
    check_whole(n_components=n_components)
    if int(n_components) > min(rows.shape):
        n, d = rows.shape
        raise ParameterError(
            f"`n_components` must be at most min(n_samples, n_features) = {min(n, d)} for n_samples = {n} and "
            f"n_features = {d}; got {n_components}: ask for fewer, or give more rows",
            n_components=n_components,
        )
    return int(n_components)
