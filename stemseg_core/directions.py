"""Leading directions of rows that come in blocks: what `compress`, `SVD` and `ICA` stand on.

Where the shorter side of the matrix is at most `GRAM_SIDE`, the Gram matrix on that side is summed in one pass and its
leading eigenvectors are taken; above, block Krylov iteration finds them without that matrix, one pass a step. Products
of float32 rows are formed in float32 over a bounded number of rows and summed in float64. A first mean is subtracted
before the products and the rest of the mean afterwards, in float64, so that a large offset costs no digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from stemseg_core._kernels.compress import center_block
from stemseg_core.blocks import (
    TASK_BYTES,
    ArrayRows,
    Index,
    Partial,
    Progress,
    Rows,
    map_tasks,
    one_blas_thread,
    refuse_non_finite,
    run,
)

#: Rows of one product: so many bytes, worth the sum in float64 that follows, but not so many rows that float32 sums
#: lose digits. Half a task of the thread pool, so that most products are formed there and not where tasks are merged.
PRODUCT_BYTES, PRODUCT_ROWS = TASK_BYTES // 2, 2048
#: Rows read for the first mean, and blocks in any sample.
FIRST_ROWS, MIN_BLOCKS = 2048, 16
#: Largest side of a Gram matrix, unless a tenth or more of its eigenvectors are wanted.
GRAM_SIDE = 2000
#: Largest Gram matrix whose eigenvectors are all computed where a few are wanted.
DIRECT_SIDE = 800
#: Largest copy of the rows that is made for a Gram matrix of few, long rows.
COPY_BYTES = 1 << 30
#: Block Krylov iteration: directions beyond those wanted, blocks kept before a restart, passes at most.
OVERSAMPLING, KRYLOV_BLOCKS, MAX_PASSES = 10, 12, 100

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
    """At least `n_rows` rows in blocks that are evenly spread over the source; the source itself if it has no more."""
    n, n_blocks = rows.shape[0], rows.n_blocks
    # Rows of one place may be alike: however many rows a block has, a few blocks are not a sample.
    m = max(MIN_BLOCKS, -(-n_rows * n_blocks // n))
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


def gram(
    rows: Rows, shift: Array, *, n_jobs: int | None = None, progress: Progress | None = None, stage: str = ""
) -> Moments:
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
    if sum(Y.nbytes for Y in waiting) < PRODUCT_BYTES:
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
    """Predicted memory of `leading`."""
    n, d = rows.shape
    if not _gram_pays(rows, rank):
        # The subspace and its image, their leading parts, and the partial sums of the passes.
        return 8.0 * d * (rank + OVERSAMPLING) * (2 * KRYLOV_BLOCKS + 12)
    side = min(n, d)
    return 8.0 * (12 * side * side + 3 * rank * d) + (n * d * 8.0 if n < d else 0.0)


def _gram_pays(rows: Rows, rank: int) -> bool:
    """Whether the Gram matrix is the way: it is small, or so many of its eigenvectors are wanted that it is cheaper."""
    n, d = rows.shape
    if n < d and n * d * rows.dtype.itemsize > COPY_BYTES:
        return False
    return min(n, d) <= max(GRAM_SIDE, 10 * rank)


def leading_eigenvectors(
    G: Array, rank: int, dtype: DTypeLike = np.float64, n_jobs: int | None = None
) -> tuple[Array, Array, bool]:
    """The `rank` largest eigenvalues of a Gram matrix, the largest first; their eigenvectors as columns; converged.

    `dtype` is the type that the products in the matrix were formed in, which is precise enough to iterate in.
    """
    if len(G) > max(DIRECT_SIDE, 10 * rank):
        G = G.astype(dtype)
        panels = [G[i : i + 256] for i in range(0, len(G), 256)]

        def times(Q: Array) -> Array:
            Q = Q.astype(dtype)
            return np.vstack(map_tasks(np.matmul, [(panel, Q) for panel in panels], n_jobs)).astype(np.float64)

        with one_blas_thread():
            values, vectors, converged, _ = krylov(times, len(G), rank, np.dtype(dtype))
        return values, vectors, converged
    with one_blas_thread():
        # All of them by divide and conquer: asked for a few, the drivers of scipy.linalg were seen to return fewer than
        # that where most eigenvalues are zero.
        values, vectors = np.linalg.eigh(G)
    return values[: -rank - 1 : -1], vectors[:, : -rank - 1 : -1], True


def fixed_signs(V: Array) -> Array:
    """Signs of the rows such that the entry of largest modulus of each is positive."""
    at = np.abs(V).argmax(axis=1)
    return np.where(V[np.arange(len(V)), at] < 0, -1.0, 1.0)


class Leading(NamedTuple):
    """Leading right singular vectors of a matrix of rows."""

    mean: Array  # (d,) float64: mean of the rows that were looked at
    V: Array  # (rank, d) float64, orthonormal
    values: Array  # (rank,) squared singular values, the largest first; rounding may make the last ones negative
    converged: bool = True
    n_passes: int = 1


def leading(
    rows: Rows,
    rank: int,
    *,
    center: bool = True,
    dtype: DTypeLike | None = None,
    max_passes: int = MAX_PASSES,
    **options: Any,
) -> Leading:
    """The first `rank` right singular vectors: by the Gram matrix on the shorter side, or by block Krylov iteration.

    Parameters
    ----------
    rows : Rows of shape (n, d)
    rank : int
        At most min(n, d).
    center : bool
        Of the rows minus their mean, or as they are.
    dtype
        Type of the products, by default that of the rows.
    max_passes : int
        For the iteration.
    **options
        ``n_jobs``, ``progress`` and ``stage`` of `run`.
    """
    shift = first_mean(rows, options.get("n_jobs")).astype(dtype or rows.dtype)
    if not _gram_pays(rows, rank):
        return _without_gram(rows, rank, shift, center=center, max_passes=max_passes, options=options)
    if rows.shape[0] < rows.shape[1]:
        return _gram_of_few_rows(rows, rank, shift, center, options)
    moments = gram(rows, shift, **options)
    values, vectors, converged = leading_eigenvectors(moments.scatter(center), rank, shift.dtype, options.get("n_jobs"))
    return Leading(moments.mean, _oriented(vectors.T), values, converged)


def _gram_of_few_rows(rows: Rows, rank: int, shift: Array, center: bool, options: dict[str, Any]) -> Leading:
    """Fewer rows than features: rows minus `shift` are stored; their products are the Gram matrix of the columns."""
    n = rows.shape[0]
    if not center:
        shift = np.zeros_like(shift)
    Y = np.empty(rows.shape, shift.dtype)
    (sums,) = run(_keep_block, rows, shift, out=(Y,), **options)
    K = gram(ArrayRows(Y.T), np.zeros(n, Y.dtype), **options).gram
    if center:
        K = K - K.mean(axis=0) - K.mean(axis=0)[:, np.newaxis] + K.mean()
    values, U, converged = leading_eigenvectors(K, rank, Y.dtype, options.get("n_jobs"))
    with one_blas_thread():
        V = np.linalg.qr((Y.T @ U.astype(Y.dtype)).astype(np.float64))[0].T
    return Leading(shift + sums / n, _oriented(V), values, converged)


def _keep_block(block: Array, shift: Array) -> tuple[Partial, Partial]:
    Y, _, sums = subtract_mean(block, shift)
    return (Y,), (sums,)


def _oriented(V: Array) -> Array:
    return np.ascontiguousarray(V * fixed_signs(V)[:, np.newaxis])


def _without_gram(
    rows: Rows, rank: int, shift: Array, *, center: bool, max_passes: int, options: dict[str, Any]
) -> Leading:
    """Block Krylov iteration on the scatter matrix, which multiplies by passing over the rows."""
    mean = shift.astype(np.float64)

    def scatter_times(Q: Array) -> Array:
        Z, sums, n = run(_scatter_block, rows, shift, Q.astype(shift.dtype), **options)
        offset = sums / n
        mean[:] = shift + offset
        SQ: Array = Z - n * np.outer(offset, offset @ Q)
        return SQ if center else SQ + n * np.outer(mean, mean @ Q)

    with one_blas_thread():
        values, vectors, converged, n_passes = krylov(scatter_times, rows.shape[1], rank, shift.dtype, max_passes)
    return Leading(mean, _oriented(vectors.T), values, converged, n_passes)


def _scatter_block(block: Array, shift: Array, Q: Array) -> tuple[None, Partial]:
    """``Y^T (Y Q)``, formed in the type of the rows and summed over blocks in float64."""
    Y, _, sums = subtract_mean(block, shift)
    return None, ((Y.T @ (Y @ Q)).astype(np.float64), sums, len(Y))


def krylov(
    times: Callable[[Array], Array], d: int, rank: int, dtype: np.dtype[Any], max_steps: int = MAX_PASSES
) -> tuple[Array, Array, bool, int]:
    """Leading eigenpairs of a positive semi-definite matrix S by block Krylov iteration, from a start of fixed seed.

    The subspace K grows by the residuals ``S v - theta v`` of its Ritz pairs, which span the next Krylov block, and
    is cut down to these pairs when it gets large (thick restart). A Ritz value is off by at most the square of its
    residual over its distance to the rest of the spectrum.

    Parameters
    ----------
    times : callable
        Q -> S Q for Q of shape (d, m).
    d, rank : int
    dtype : dtype
        Precision of `times`. The iteration ends when the estimated error of every wanted eigenvalue is below 1e-6
        (float32) or 1e-11 (float64) of it, or its residual is rounding.

    Returns
    -------
    values (rank,), vectors (d, rank), whether it converged, number of steps

    References
    ----------
    C. Musco and C. Musco, Randomized block Krylov methods, NeurIPS 2015, arXiv:1504.05477; K. Wu and H. Simon,
    Thick-restart Lanczos, SIAM J. Matrix Anal. Appl. 22 (2000), doi:10.1137/S0895479898334605.
    """
    tolerance, rounding = (1e-6, 1e-8) if dtype == np.float32 else (1e-11, 1e-16)
    width = min(rank + OVERSAMPLING, d)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((d, width)))[0]
    K = SK = np.empty((d, 0))
    T = np.empty((0, 0))
    converged, step = False, 0
    while not converged and step < max_steps:
        step += 1
        SQ = times(Q)
        K, SK = np.hstack([K, Q]), np.hstack([SK, SQ])
        new = K.T @ SQ
        T = np.block([[T, new[: len(T)]], [new.T]])
        theta, y = scipy.linalg.eigh(T)
        theta, y = theta[::-1], y[:, ::-1]
        V, SV = K @ y[:, :width], SK @ y[:, :width]
        R = SV - V * theta[:width]
        gap = theta[:rank] - (theta[width] if len(theta) > width else 0.0)
        residual = np.linalg.norm(R[:, :rank], axis=0)
        accurate = residual**2 <= tolerance * np.maximum(theta[:rank], 0) * gap
        if K.shape[1] + width > KRYLOV_BLOCKS * width:
            K, SK, T = V, SV, np.diag(theta[:width])
        Q = _new_directions(R, K)
        converged = bool((accurate | (residual <= rounding * theta[0])).all()) or Q.shape[1] == 0
    return theta[:rank], np.linalg.qr(V[:, :rank])[0], converged, step


def _new_directions(R: Array, K: Array) -> Array:
    """Orthonormal basis of what the columns of R add to the span of K; columns that add only rounding are dropped."""
    lengths = np.linalg.norm(R, axis=0)
    R = R[:, lengths > 0] / lengths[lengths > 0]
    for _ in range(2 if R.shape[1] else 0):
        R = R - K @ (K.T @ R)
        Q, triangle, _ = scipy.linalg.qr(R, mode="economic", pivoting=True)
        R = Q[:, np.abs(np.diag(triangle)) > 1e-8]
    return R[:, : K.shape[0] - K.shape[1]]
