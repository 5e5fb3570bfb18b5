"""Leading directions of rows that come in blocks: what `compress`, `SVD` and `ICA` stand on.

The Gram matrix on the shorter side of the matrix is summed in one pass and its eigenvectors are taken. Products of
float32 rows are formed in float32 over at most `PRODUCT_ROWS` rows and summed in float64. A first mean is subtracted
before the product and the rest of the mean afterwards, in float64, so that a large offset costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from stemseg_core._kernels.compress import center_block
from stemseg_core.blocks import ArrayRows, Index, Partial, Progress, Rows, one_blas_thread, refuse_non_finite, run

#: Rows of one product: long enough for BLAS, short enough that float32 sums keep their digits.
PRODUCT_ROWS = 1024
#: Rows read for the first mean.
FIRST_ROWS = 2048

Array = NDArray[Any]


class Sample:
    """Some blocks of a row source, as a row source; `index` still tells the rows of the whole."""

    def __init__(self, rows: Rows, blocks: Sequence[int]) -> None:
        self.rows, self.blocks, self.n_blocks = rows, blocks, len(blocks)
        self.shape: tuple[int, int] = (sum(n_rows_of(rows.index(i)) for i in blocks), rows.shape[1])
        self.dtype = rows.dtype

    def index(self, i: int) -> Index:
        return self.rows.index(self.blocks[i])

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()
        return lambda i: read(self.blocks[i])


def n_rows_of(index: Index) -> int:
    """How many rows an index of a row source stands for."""
    return index.stop - index.start if isinstance(index, slice) else len(index)


def spread(rows: Rows, n_rows: int) -> Rows:
    """About `n_rows` rows in blocks that are evenly spread over the source; the source itself if it has no more."""
    n, n_blocks = rows.shape[0], rows.n_blocks
    m = -(-n_rows * n_blocks // n)
    if m >= n_blocks:
        return rows
    return Sample(rows, [(2 * i + 1) * n_blocks // (2 * m) for i in range(m)])


def subtract_mean(block: Array, mean: Array) -> tuple[Array, Array, Array]:
    """``block - mean``, the squared norm of each of its rows and its column sums, in float64; refuses NaN, infinity."""
    block = block.astype(mean.dtype, copy=False)
    Y = np.empty_like(block)
    squares, sums = np.empty(len(block)), np.empty(block.shape[1])
    center_block(block, mean, Y, squares, sums)
    refuse_non_finite(block, squares)
    return Y, squares, sums


def _sum_block(block: Array, zero: Array) -> tuple[None, Partial]:
    return None, (subtract_mean(block, zero)[2], len(block))


def first_mean(rows: Rows, n_jobs: int | None = None) -> Array:
    """Mean of some rows, in the type of the rows: near enough to all of them to be subtracted before any product."""
    sums, n = run(_sum_block, spread(rows, FIRST_ROWS), np.zeros(rows.shape[1], rows.dtype), n_jobs=n_jobs)
    mean: Array = sums / n
    return mean.astype(rows.dtype)


class Moments(NamedTuple):
    """Sums over rows y = x - shift, in float64."""

    n: int
    shift: Array
    sums: Array
    squares: float
    gram: Array

    @property
    def offset(self) -> Array:
        """Mean of the rows y, (d,)."""
        offset: Array = self.sums / self.n
        return offset

    @property
    def mean(self) -> Array:
        """Mean of the rows x, (d,)."""
        return self.shift + self.offset

    def scatter(self, center: bool) -> Array:
        """Gram matrix of the rows minus their mean, or of the rows as they are."""
        G: Array = self.gram - self.n * np.outer(self.offset, self.offset)
        return G if center else G + self.n * np.outer(self.mean, self.mean)

    def energy(self, center: bool) -> float:
        """Trace of `scatter`, without the Gram matrix."""
        rest = self.squares - self.n * float(self.offset @ self.offset)
        return max(0.0, rest) if center else rest + self.n * float(self.mean @ self.mean)


def gram(rows: Rows, shift: Array, *, n_jobs: int | None, progress: Progress | None, stage: str) -> Moments:
    """Moments of the rows minus `shift`, whose type is that of the products.

    Cost: n d^2 operations at the speed of BLAS. Memory: d^2 doubles for each thread and each level of the merge tree.
    """
    partial = run(_gram_block, rows, shift, merge=_merge_gram, n_jobs=n_jobs, progress=progress, stage=stage)
    waiting, G, sums, squares, n = partial
    with one_blas_thread():
        G = _add_products(waiting, G)
    assert G is not None  # there is at least one row
    if not np.isfinite(G).all():
        raise ValueError(f"Input X has values too large for {shift.dtype}: sums of products overflow; scale X down")
    return Moments(n, shift.astype(np.float64), sums, squares, G)


def _gram_block(block: Array, shift: Array) -> tuple[None, Partial]:
    Y, squares, sums = subtract_mean(block, shift)
    return None, _multiply_when_due(([Y], None, sums, float(squares.sum()), len(Y)))


def _merge_gram(a: Partial, b: Partial) -> Partial:
    """A node of the merge tree is rows that wait for company, until there are enough of them to be worth a product."""
    G = a[1] if b[1] is None else b[1] if a[1] is None else np.add(a[1], b[1], out=a[1])
    return _multiply_when_due((a[0] + b[0], G, a[2] + b[2], a[3] + b[3], a[4] + b[4]))


def _multiply_when_due(partial: Partial) -> Partial:
    waiting, G, *rest = partial
    if sum(len(Y) for Y in waiting) < PRODUCT_ROWS:
        return partial
    return ([], _add_products(waiting, G), *rest)


def _add_products(waiting: list[Array], G: Array | None) -> Array | None:
    if not waiting:
        return G
    Y = waiting[0] if len(waiting) == 1 else np.vstack(waiting)
    for start in range(0, len(Y), PRODUCT_ROWS):
        part = Y[start : start + PRODUCT_ROWS]
        # float32 sums may overflow to infinity: `gram` looks at the total.
        with np.errstate(over="ignore", invalid="ignore"):
            product = part.T @ part
        G = product.astype(np.float64) if G is None else np.add(G, product, out=G)
    return G


def leading_bytes(rows: Rows, rank: int) -> float:
    """Predicted memory of `leading`: the Gram matrix some times over, the vectors, for few rows a copy of them."""
    n, d = rows.shape
    side = min(n, d)
    return 8.0 * (12 * side * side + 3 * rank * d) + (n * d * 8.0 if n < d else 0.0)


def leading_eigenvectors(G: Array, rank: int) -> tuple[Array, Array]:
    """The `rank` largest eigenvalues of a symmetric matrix, the largest first, and their eigenvectors as columns."""
    n = len(G)
    with one_blas_thread():
        values, vectors = scipy.linalg.eigh(G, subset_by_index=(n - rank, n - 1), driver="evr", check_finite=False)
    return values[::-1], vectors[:, ::-1]


def fixed_signs(V: Array) -> Array:
    """Signs of the rows such that the entry of largest modulus of each is positive."""
    at = np.abs(V).argmax(axis=1)
    return np.where(V[np.arange(len(V)), at] < 0, -1.0, 1.0)


class Leading(NamedTuple):
    """Leading right singular vectors of a matrix of rows."""

    mean: Array  # (d,) float64: mean of the rows that were looked at
    V: Array  # (rank, d) float64, orthonormal
    values: Array  # (rank,) squared singular values


def leading(
    rows: Rows,
    rank: int,
    *,
    center: bool = True,
    dtype: DTypeLike | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
    stage: str = "",
) -> Leading:
    """The first `rank` right singular vectors by the Gram matrix on the shorter side.

    Parameters
    ----------
    rows : Rows of shape (n, d)
    rank : int
        At most min(n, d).
    center : bool
        Of the rows minus their mean, or as they are.
    dtype
        Type of the products, by default that of the rows.
    """
    shift = first_mean(rows, n_jobs).astype(dtype or rows.dtype)
    options: dict[str, Any] = {"n_jobs": n_jobs, "progress": progress, "stage": stage}
    if rows.shape[0] >= rows.shape[1]:
        moments = gram(rows, shift, **options)
        values, vectors = leading_eigenvectors(moments.scatter(center), rank)
        return Leading(moments.mean, _oriented(vectors.T), values)
    return _leading_of_few_rows(rows, rank, shift, center, options)


def _leading_of_few_rows(rows: Rows, rank: int, shift: Array, center: bool, options: dict[str, Any]) -> Leading:
    """Fewer rows than features: rows minus `shift` are stored; their products are the Gram matrix of the columns."""
    n = rows.shape[0]
    if not center:
        shift = np.zeros_like(shift)
    Y = np.empty(rows.shape, shift.dtype)
    (sums,) = run(_keep_block, rows, shift, out=(Y,), **options)
    zero = np.zeros(n, Y.dtype)
    K = gram(ArrayRows(Y.T), zero, **options).gram
    if center:
        K = K - K.mean(axis=0) - K.mean(axis=0)[:, np.newaxis] + K.mean()
    values, U = leading_eigenvectors(K, rank)
    with one_blas_thread():
        V = np.linalg.qr((Y.T @ U.astype(Y.dtype)).astype(np.float64))[0].T
    return Leading(shift + sums / n, _oriented(V), values)


def _keep_block(block: Array, shift: Array) -> tuple[Partial, Partial]:
    Y, _, sums = subtract_mean(block, shift)
    return (Y,), (sums,)


def _oriented(V: Array) -> Array:
    return np.ascontiguousarray(V * fixed_signs(V)[:, np.newaxis])
