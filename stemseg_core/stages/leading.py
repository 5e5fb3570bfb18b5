"""Leading directions of rows that come in blocks: what `compress`, `SVD` and `ICA` stand on.

Where the shorter side of the matrix is at most `GRAM_SIDE`, the Gram matrix on that side is summed in one pass and its
leading eigenvectors are taken; above, and where a sample of the rows shows that the spectrum falls so fast that a few
steps suffice, block Krylov iteration finds them without that matrix, one pass a step. Products of float32 rows are
formed in float32 over a bounded number of rows and summed in float64. A first mean is subtracted before the products
and the rest of the mean afterwards, in float64, so that a large offset costs no digits.

Sums of products are large: passes that make them take several neighbouring blocks together (`grouped`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from stemseg_core.rows.products import Scratch, as_columns, gram, row_sums, scatter, subtract_mean
from stemseg_core.rows.sources import ArrayRows, Rows
from stemseg_core.rows.transitional import map_tasks, refuse_too_small, run
from stemseg_core.stages.lanczos import KRYLOV_BLOCKS, MAX_PASSES, block_width, krylov
from stemseg_core.system.threads import Progress, effective_n_jobs, one_blas_thread
from stemseg_core.system.types import Partial

#: Rows and blocks read for the first mean, which need not be near, and blocks in a sample that is to stand for all.
FIRST_ROWS, FIRST_BLOCKS, MIN_BLOCKS = 512, 4, 16
#: Largest side of a Gram matrix, unless a tenth or more of its eigenvectors are wanted.
GRAM_SIDE = 2000
#: Multiply-adds of a Gram matrix above which a sample of so many rows is asked whether iteration would take less: a
#: step costs as much as so many columns of the matrix for each direction.
GRAM_COST, FALL_ROWS, STEP_COLUMNS = 5e9, 128, 7
#: Largest Gram matrix whose eigenvectors are found directly where a few are wanted.
DIRECT_SIDE = 800
#: Rows of a Gram matrix that are mirrored at a time.
MIRRORED_ROWS = 64
#: Largest copy of the rows that is made for a Gram matrix of few, long rows.
COPY_BYTES = 1 << 30

Array = NDArray[Any]


def _sum_block(block: Array) -> tuple[None, Partial]:
    return None, (row_sums(block)[1],)


def first_mean(rows: Rows, n_jobs: int | None = None) -> Array:
    """Mean of some rows, in their type: near enough to that of all rows to be subtracted before any product."""
    some = rows.sample(FIRST_ROWS, FIRST_BLOCKS)
    (sums,) = run(_sum_block, some, n_jobs=n_jobs)
    mean: Array = (sums / some.shape[0]).astype(rows.dtype)
    return mean


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
        G: Array = np.outer(-self.n * self.offset, self.offset)
        G += self.gram
        if not center:
            G += np.outer(self.n * self.mean, self.mean)
        return G

    def energy(self, center: bool) -> float:
        """Trace of `scatter`."""
        rest = self.squares - self.n * float(self.offset @ self.offset)
        return max(0.0, rest) if center else rest + self.n * float(self.mean @ self.mean)


def moments(
    rows: Rows, shift: Array, *, n_jobs: int | None = None, progress: Progress | None = None, stage: str = ""
) -> Moments:
    """Moments of the rows minus `shift`, whose type is that of the products.

    Cost: n d^2 operations. Memory: for each thread a Gram matrix, another that waits to be merged, and scratch for 256
    rows.
    """
    G, sums, squares = run(
        _moments_block, rows.grouped(), shift, Scratch(), n_jobs=n_jobs, progress=progress, stage=stage
    )
    if not np.isfinite(G).all():
        raise ValueError(f"Input X has values too large for {shift.dtype}: sums of products overflow; scale X down")
    return Moments(rows.shape[0], shift.astype(np.float64), sums, squares, _mirrored(G))


def _moments_block(block: Array, shift: Array, scratch: Scratch) -> tuple[None, Partial]:
    return None, gram(block, shift, scratch)


def _mirrored(G: Array) -> Array:
    """A matrix whose upper triangle is known, made symmetric in place, in pieces that stay in the cache."""
    for start in range(0, len(G), MIRRORED_ROWS):
        stop = start + MIRRORED_ROWS
        upper = np.triu(G[start:stop, start:stop])
        G[start:stop, start:stop] = upper + np.triu(upper, 1).T
        G[stop:, start:stop] = G[start:stop, stop:].T
    return G


def leading_bytes(rows: Rows, rank: int, n_jobs: int | None = None) -> float:
    """Predicted memory of `leading`; products may have to be formed in float64."""
    n, d = rows.shape
    groups = rows.grouped()
    n_threads = min(effective_n_jobs(n_jobs), groups.n_blocks)
    copies = 8.0 * d * n / groups.n_blocks * n_threads
    if not _gram_pays(rows, rank):
        # The basis and what is made of its last block; each thread has a sum, and another waits to be merged.
        needed = 8.0 * d * block_width(rank, d) * (KRYLOV_BLOCKS + 10 + 2 * n_threads)
        return needed if rows.sliced else needed + copies
    # Eigenvectors take five; each thread has a product, and another waits to be merged.
    side = min(n, d)
    return 8.0 * ((5 + 2 * n_threads) * side * side + 3 * rank * d) + copies + (n * d * 8.0 if n < d else 0.0)


def _gram_pays(rows: Rows, rank: int) -> bool:
    """Whether the Gram matrix is the way: it is small, or so many of its eigenvectors are wanted that it is cheaper."""
    n, d = rows.shape
    if n < d and n * d * rows.dtype.itemsize > COPY_BYTES:
        return False
    return min(n, d) <= max(GRAM_SIDE, 10 * rank)


def leading_eigenvectors(
    G: Array, rank: int, dtype: DTypeLike = np.float64, n_jobs: int | None = None
) -> tuple[Array, Array, bool, float]:
    """The `rank` largest eigenvalues of a Gram matrix, the largest first; eigenvectors as columns; converged, residual.

    `dtype` is the type that the products in the matrix were formed in, which is precise enough to iterate in.
    """
    if len(G) > max(DIRECT_SIDE, 10 * rank):
        G = G.astype(dtype)
        panels = [G[i : i + 256] for i in range(0, len(G), 256)]

        def times(Q: Array) -> Array:
            Q = Q.astype(dtype)
            return np.vstack(map_tasks(np.matmul, [(panel, Q) for panel in panels], n_jobs)).astype(np.float64)

        with one_blas_thread():
            values, vectors, converged, _, residual = krylov(times, len(G), rank, np.dtype(dtype))
        # The matrix was rounded to the type of its products.
        return values, vectors, converged, residual + float(np.finfo(dtype).eps) * float(values[0])
    with one_blas_thread():
        values, vectors = _direct(G, rank)
    return values[::-1], vectors[:, ::-1], True, 0.0


def _direct(G: Array, rank: int) -> tuple[Array, Array]:
    """The `rank` largest eigenvalues, rising, and their eigenvectors."""
    d = len(G)
    if 4 * rank < d:
        # Half the time of all of them. LAPACK was seen to return fewer than asked for where most eigenvalues are zero.
        values, vectors = scipy.linalg.eigh(G, subset_by_index=(d - rank, d - 1))
        if len(values) == rank and np.abs(vectors.T @ vectors - np.eye(rank)).max() < 1e-10:
            return values, vectors
    values, vectors = np.linalg.eigh(G)
    return values[-rank:], vectors[:, -rank:]


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
    residual: float = 0.0  # norm of S V' - V' diag(values) for the matrix S of the products, where that was iterated
    energy: float = 0.0  # sum of squares of the rows minus a first mean, to which products are rounded
    scatter: float | None = None  # that of the rows minus their mean, where it is known


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
    steps, start = _steps_instead(rows, rank, center)
    if steps:
        found = _without_gram(rows, rank, shift, center=center, max_passes=steps, options=options, start=start)
        if found.converged:
            return found
    of_rows = moments(rows, shift, **options)
    refuse_too_small(rows, of_rows.squares, shift, **options)
    values, vectors, converged, residual = leading_eigenvectors(
        of_rows.scatter(center), rank, shift.dtype, options.get("n_jobs")
    )
    V = _oriented(vectors.T)
    return Leading(of_rows.mean, V, values, converged, 1, residual, of_rows.squares, of_rows.energy(center=True))


def _steps_instead(rows: Rows, rank: int, center: bool) -> tuple[int, Array | None]:
    """Steps of block Krylov iteration that would do in place of a Gram matrix, 0 if that is cheaper; a start for them.

    A step lowers the error of eigenvalues by the square of the fall of the spectrum over the width of a block, here
    that of the Gram matrix on the side of a few rows.
    """
    n, d = rows.shape
    width = block_width(rank, d)
    most = d // (STEP_COLUMNS * width)
    if n * d * d < GRAM_COST or most < 3 or 2 * width >= FALL_ROWS:
        return 0, None
    sample = rows.sample(FALL_ROWS, MIN_BLOCKS)
    read = sample.reader()
    each = -(-FALL_ROWS // sample.n_blocks)
    with one_blas_thread():
        Y = np.vstack([read(i)[:each] for i in range(sample.n_blocks)]).astype(np.float64)
        if center:
            Y -= Y.mean(axis=0)
        if not np.isfinite(Y).all():
            return 0, None  # the pass over all rows says where
        values, U = np.linalg.eigh(Y @ Y.T)
        fall = max(values[-width - 1], 0.0) / values[-rank] if values[-rank] > 0 else 1.0
        # From a good start the first step is worth two; one more is for what the sample did not show.
        steps = 2 + int(np.ceil(np.log(1e-6) / (2 * np.log(fall)))) if 0 < fall < 1 else 2 + (fall == 1) * most
        V = Y.T @ U[:, -min(2 * rank, width // 2) :]
    return (steps if steps <= most else 0), V / np.maximum(np.linalg.norm(V, axis=0), 1e-300)


def _gram_of_few_rows(rows: Rows, rank: int, shift: Array, center: bool, options: dict[str, Any]) -> Leading:
    """Fewer rows than features: rows minus `shift` are stored; their products are the Gram matrix of the columns."""
    n = rows.shape[0]
    if not center:
        shift = np.zeros_like(shift)
    parts, sums, squares = run(_keep_block, rows, shift, **options)
    Y, start = np.empty(rows.shape, shift.dtype), 0
    while parts:  # in the order of the blocks; a part goes as its rows arrive
        part = parts.pop(0)
        Y[start : start + len(part)] = part
        start += len(part)
    refuse_too_small(rows, squares, shift, **options)
    K = moments(ArrayRows(Y.T), np.zeros(n, Y.dtype), **options).gram
    if center:
        K = K - K.mean(axis=0) - K.mean(axis=0)[:, np.newaxis] + K.mean()
    values, U, converged, residual = leading_eigenvectors(K, rank, Y.dtype, options.get("n_jobs"))
    with one_blas_thread():
        V = np.linalg.qr((Y.T @ U.astype(Y.dtype)).astype(np.float64))[0].T
    return Leading(shift + sums / n, _oriented(V), values, converged, 1, residual, squares)


def _keep_block(block: Array, shift: Array) -> tuple[None, Partial]:
    Y, squares, sums = subtract_mean(block, shift)
    return None, ([Y], sums, float(squares.sum()))


def _oriented(V: Array) -> Array:
    return np.ascontiguousarray(V * fixed_signs(V)[:, np.newaxis])


def _without_gram(
    rows: Rows,
    rank: int,
    shift: Array,
    *,
    center: bool,
    max_passes: int,
    options: dict[str, Any],
    start: Array | None = None,
) -> Leading:
    """Block Krylov iteration on the scatter matrix, which multiplies by passing over the rows."""
    mean, groups = shift.astype(np.float64), rows.grouped()
    squares: list[float] = []

    def scatter_times(Q: Array) -> Array:
        Z, sums, square, n = run(_scatter_block, groups, shift, as_columns(Q.T, shift.dtype), **options)
        if not squares:
            refuse_too_small(rows, square, shift, **options)
            squares.append(square)
        offset = sums / n
        mean[:] = shift + offset
        SQ: Array = Z[: Q.shape[1]].T
        SQ -= n * np.outer(offset, offset @ Q)
        return SQ if center else SQ + n * np.outer(mean, mean @ Q)

    with one_blas_thread():
        values, vectors, converged, n_passes, residual = krylov(
            scatter_times, rows.shape[1], rank, shift.dtype, max_steps=max_passes, start=start
        )
    return Leading(mean, _oriented(vectors.T), values, converged, n_passes, residual, squares[0])


def _scatter_block(block: Array, shift: Array, columns: Array) -> tuple[None, Partial]:
    """``(Y^T Y Q)^T``, formed in the type of the rows and summed over blocks in float64."""
    Z, squares, sums = scatter(block, shift, columns)
    return None, (Z.astype(np.float64), sums, float(squares.sum()), len(block))
