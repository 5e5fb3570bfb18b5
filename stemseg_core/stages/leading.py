"""Leading right singular vectors of rows that come in blocks: what `compress`, `SVD` and the endmembers stand on.

Where the shorter side of the matrix is at most `GRAM_SIDE`, the Gram matrix on that side is summed in one pass and its
leading eigenvectors are taken. Above that side, and where a sample of the rows shows that the spectrum falls so fast
that a few steps suffice, block Lanczos iteration finds the vectors without that matrix, one pass a step. Either way a
first mean is subtracted before the products and the rest of the mean afterwards, in float64, so that a large offset
costs no digits.

Sums of products are large: passes that make them take several neighbouring blocks together (`Rows.grouped`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from stemseg_core.rows.blocks import refuse_too_small
from stemseg_core.rows.products import padded_columns, row_sums, scatter_times, scores_on, subtract_mean
from stemseg_core.rows.sources import ArrayRows, Rows
from stemseg_core.stages.gram import moments
from stemseg_core.stages.lanczos import EigenPairs, block_lanczos, block_width, lanczos_bytes
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Rows that the first mean is made of. Twice as many: a mean that is nearer, which changes nothing but rounding.
FIRST_ROWS = 512
#: Blocks that these rows come from at least. Twice as many: twice the reading, and a mean that is nearer.
FIRST_BLOCKS = 4
#: Largest side of a Gram matrix, unless a tenth or more of its eigenvectors are wanted. Twice as large: eight times the
#: time and four times the memory before the iteration takes over.
GRAM_SIDE = 2000
#: Largest copy of the rows, in bytes, that is made for a Gram matrix of few, long rows. Twice as large: more memory
#: before the iteration takes over.
COPY_BYTES = 1 << 30
#: Multiply-adds of a Gram matrix above which a sample is asked whether the iteration would take less. Twice as many:
#: more matrices of middle size are made without the question, whose answer costs some ms.
GRAM_COST = 5e9
#: Rows of that sample. Twice as many: the fall of a longer part of the spectrum is known, at four times the cost.
FALL_ROWS = 128
#: Columns of a Gram matrix that cost as much as one vector in a step of the iteration. Twice as many: the iteration is
#: chosen only where half as many steps suffice.
STEP_COLUMNS = 7
#: Largest Gram matrix whose eigenvectors are found directly where a few are wanted. Twice as large: eight times the
#: time of the largest, where the iteration takes four times.
DIRECT_SIDE = 800
#: Rows of a Gram matrix that one task multiplies by the vectors of a step. Twice as many: fewer threads have work.
PANEL_ROWS = 256
#: Variance of an axis, as a share of that of the first, below which products of float32 tell nothing about it. Twice as
#: large: more rows are passed again with products in float64.
FLOAT32_VARIANCE = 1e-5
#: The same for products of float64. Twice as large: rows of nearly as low a rank are refused or given fewer axes.
FLOAT64_VARIANCE = 1e-13


def _sum_block(block: Array) -> tuple[None, Partial]:
    return None, (row_sums(block).sums,)


def first_mean(rows: Rows, execution: Execution) -> Array:
    """Mean of some rows, in their type: near enough to that of all rows to be subtracted before any product."""
    some = rows.sample(FIRST_ROWS, FIRST_BLOCKS)
    (sums,) = execution.without_progress().run(_sum_block, some)
    mean: Array = (sums / some.shape[0]).astype(rows.dtype)
    return mean


def singular_vectors_bytes(rows: Rows, rank: int, n_threads: int) -> float:
    """Predicted memory of `singular_vectors`; products may have to be formed in float64."""
    n, d = rows.shape
    groups = rows.grouped()
    n_threads = min(n_threads, groups.n_blocks)
    copies = 8.0 * d * n / groups.n_blocks * n_threads
    if not _gram_pays(rows, rank):
        # Each thread has a sum of products, and another waits to be merged.
        needed = lanczos_bytes(d, rank) + 8.0 * d * block_width(rank, d) * 2 * n_threads
        return needed if rows.sliceable else needed + copies
    # Eigenvectors take five; each thread has a product, and another waits to be merged.
    side = min(n, d)
    return 8.0 * ((5 + 2 * n_threads) * side * side + 3 * rank * d) + copies + (n * d * 8.0 if n < d else 0.0)


def _gram_pays(rows: Rows, rank: int) -> bool:
    """Whether a Gram matrix is made: it is small, or cheaper, as for many eigenvectors."""
    n, d = rows.shape
    if n < d and n * d * rows.dtype.itemsize > COPY_BYTES:
        return False
    return min(n, d) <= max(GRAM_SIDE, 10 * rank)


def leading_eigenvectors(G: Array, rank: int, dtype: DTypeLike, execution: Execution) -> EigenPairs:
    """The `rank` largest eigenvalues of a Gram matrix and their eigenvectors.

    `dtype` is the type that the products in the matrix were formed in, which is precise enough to iterate in.
    """
    if len(G) > max(DIRECT_SIDE, 10 * rank):
        return _iterated(G.astype(dtype), rank, execution)
    with one_blas_thread():
        values, vectors = _direct(G, rank)
    return EigenPairs(values=values[::-1], vectors=vectors[:, ::-1])


def _iterated(G: Array, rank: int, execution: Execution) -> EigenPairs:
    """`leading_eigenvectors` by iteration in the type of G, to which the matrix was rounded."""
    panels = [G[i : i + PANEL_ROWS] for i in range(0, len(G), PANEL_ROWS)]

    def times(Q: Array) -> Array:
        Q = Q.astype(G.dtype)
        products = execution.map(np.matmul, [(panel, Q) for panel in panels])
        return np.vstack(products).astype(np.float64)

    with one_blas_thread():
        pairs = block_lanczos(times, len(G), rank, G.dtype)
    rounding = float(np.finfo(G.dtype).eps) * float(pairs.values[0])
    return replace(pairs, residual=pairs.residual + rounding)


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


@dataclass(frozen=True, eq=False)
class SingularVectors:
    """Leading right singular vectors of a matrix of rows.

    Attributes
    ----------
    mean : ndarray of shape (d,), float64
        Mean of the rows.
    V : ndarray of shape (rank, d), float64
        Orthonormal; the entry of largest modulus of each is positive.
    values : ndarray of shape (rank,), float64
        Squared singular values, the largest first; rounding may make the last ones negative.
    sum_squares : float
        Of the rows minus a first mean: the size of the numbers that were added up, to which products are rounded.
    centred_sum_squares : float or None
        Of the rows minus their mean, where it is known.
    converged : bool
        False only where an iteration ran out of steps.
    n_passes : int
        Passes over the rows that made products.
    residual : float
        Norm of ``S V' - V' diag(values)`` for the matrix S of the products, where that was iterated.
    """

    mean: Array
    V: Array
    values: Array
    sum_squares: float
    centred_sum_squares: float | None = None
    converged: bool = True
    n_passes: int = 1
    residual: float = 0.0


def singular_vectors(
    rows: Rows,
    rank: int,
    execution: Execution,
    *,
    center: bool = True,
    dtype: DTypeLike | None = None,
    max_passes: int | None = None,
) -> SingularVectors:
    """The first `rank` right singular vectors: by the Gram matrix on the shorter side, or by block Lanczos iteration.

    Parameters
    ----------
    rows : Rows of shape (n, d)
    rank : int
        At most min(n, d).
    execution : Execution
    center : bool
        Of the rows minus their mean, or as they are.
    dtype
        Type of the products, by default that of the rows.
    max_passes : int, optional
        For the iteration.
    """
    shift = first_mean(rows, execution).astype(dtype or rows.dtype)
    if not _gram_pays(rows, rank):
        return _without_gram(rows, rank, shift, execution, center=center, max_passes=max_passes)
    if rows.shape[0] < rows.shape[1]:
        return _by_gram_of_few_rows(rows, rank, shift, execution, center=center)
    hint = _iteration_instead(rows, rank, center=center)
    if hint is not None:
        found = _without_gram(rows, rank, shift, execution, center=center, max_passes=hint.steps, start=hint.start)
        if found.converged:
            return found
    return _by_gram(rows, rank, shift, execution, center=center)


def _by_gram(rows: Rows, rank: int, shift: Array, execution: Execution, *, center: bool) -> SingularVectors:
    """By the eigenvectors of the Gram matrix of the features."""
    of_rows = moments(rows, shift, execution)
    refuse_too_small(rows, of_rows.sum_squares, execution, shift)
    pairs = leading_eigenvectors(of_rows.scatter_matrix(center=center), rank, shift.dtype, execution)
    return SingularVectors(
        mean=of_rows.mean,
        V=_oriented(pairs.vectors.T),
        values=pairs.values,
        sum_squares=of_rows.sum_squares,
        centred_sum_squares=of_rows.centred_sum_squares,
        converged=pairs.converged,
        residual=pairs.residual,
    )


class _Iteration(NamedTuple):
    """What a sample of the rows says of block Lanczos iteration."""

    steps: int  # that suffice
    start: Array  # (d, m): vectors to start from


def _iteration_instead(rows: Rows, rank: int, *, center: bool) -> _Iteration | None:
    """The iteration that takes the place of a Gram matrix, None where that is cheaper.

    A step lowers the error of eigenvalues by the square of the fall of the spectrum over the width of a block, here
    that of the Gram matrix on the side of a few rows.
    """
    n, d = rows.shape
    width = block_width(rank, d)
    most = d // (STEP_COLUMNS * width)
    if n * d * d < GRAM_COST or most < 3 or 2 * width >= FALL_ROWS:
        return None
    sample = rows.sample(FALL_ROWS)
    read = sample.reader()
    each = -(-FALL_ROWS // sample.n_blocks)
    with one_blas_thread():
        Y = np.vstack([read(i)[:each] for i in range(sample.n_blocks)]).astype(np.float64)
        if center:
            Y -= Y.mean(axis=0)
        if not np.isfinite(Y).all():
            return None  # the pass over all rows says where
        values, U = np.linalg.eigh(Y @ Y.T)
        fall = max(values[-width - 1], 0.0) / values[-rank] if values[-rank] > 0 else 1.0
        # From a good start the first step is worth two; one more is for what the sample did not show.
        steps = 2 + int(np.ceil(np.log(1e-6) / (2 * np.log(fall)))) if 0 < fall < 1 else 2 + (fall == 1) * most
        V = Y.T @ U[:, -min(2 * rank, width // 2) :]
    return _Iteration(steps, start=V / np.maximum(np.linalg.norm(V, axis=0), 1e-300)) if steps <= most else None


def _by_gram_of_few_rows(rows: Rows, rank: int, shift: Array, execution: Execution, *, center: bool) -> SingularVectors:
    """Fewer rows than features: rows minus `shift` are stored; their products are the Gram matrix of the columns."""
    n = rows.shape[0]
    if not center:
        shift = np.zeros_like(shift)
    parts, sums, squares = execution.run(_keep_block, rows, shift)
    Y, start = np.empty(rows.shape, shift.dtype), 0
    while parts:  # in the order of the blocks; a part goes as its rows arrive
        part = parts.pop(0)
        Y[start : start + len(part)] = part
        start += len(part)
    refuse_too_small(rows, squares, execution, shift)
    K = moments(ArrayRows(Y.T), np.zeros(n, Y.dtype), execution).gram
    if center:
        K = K - K.mean(axis=0) - K.mean(axis=0)[:, np.newaxis] + K.mean()
    pairs = leading_eigenvectors(K, rank, Y.dtype, execution)
    with one_blas_thread():
        V = np.linalg.qr((Y.T @ pairs.vectors.astype(Y.dtype)).astype(np.float64))[0].T
    return SingularVectors(
        mean=shift + sums / n,
        V=_oriented(V),
        values=pairs.values,
        sum_squares=squares,
        converged=pairs.converged,
        residual=pairs.residual,
    )


def _keep_block(block: Array, shift: Array) -> tuple[None, Partial]:
    centred = subtract_mean(block, shift)
    return None, ([centred.rows], centred.sums, float(centred.squares.sum()))


def _without_gram(
    rows: Rows,
    rank: int,
    shift: Array,
    execution: Execution,
    *,
    center: bool,
    max_passes: int | None,
    start: Array | None = None,
) -> SingularVectors:
    """By block Lanczos iteration on the scatter matrix, which multiplies by passing over the rows."""
    mean, groups = shift.astype(np.float64), rows.grouped()
    squares: list[float] = []

    def times_scatter_matrix(Q: Array) -> Array:
        product, sums, square, n = execution.run(_scatter_block, groups, shift, padded_columns(Q.T, shift.dtype))
        if not squares:
            refuse_too_small(rows, square, execution, shift)
            squares.append(square)
        offset = sums / n
        mean[:] = shift + offset
        SQ: Array = product[: Q.shape[1]].T
        SQ -= n * np.outer(offset, offset @ Q)
        return SQ if center else SQ + n * np.outer(mean, mean @ Q)

    with one_blas_thread():
        pairs = block_lanczos(times_scatter_matrix, rows.shape[1], rank, shift.dtype, max_steps=max_passes, start=start)
    return SingularVectors(
        mean=mean,
        V=_oriented(pairs.vectors.T),
        values=pairs.values,
        sum_squares=squares[0],
        converged=pairs.converged,
        n_passes=pairs.n_steps,
        residual=pairs.residual,
    )


def _scatter_block(block: Array, shift: Array, columns: Array) -> tuple[None, Partial]:
    """``(Y^T Y Q)^T``, formed in the type of the rows and summed over blocks in float64."""
    found = scatter_times(block, shift, columns)
    return None, (found.product.astype(np.float64), found.sums, float(found.squares.sum()), len(block))


def _oriented(V: Array) -> Array:
    return np.ascontiguousarray(V * fixed_signs(V)[:, np.newaxis])


# The type of the products.


def singular_vectors_precisely(
    rows: Rows,
    rank: int,
    execution: Execution,
    float32_suffices: Callable[[SingularVectors], bool],
    *,
    center: bool = True,
) -> SingularVectors:
    """`singular_vectors`, with products in float64 where those of float32 rows in float32 do not converge or suffice.

    How small a singular value may be depends on what the vectors are for: `SVD` bounds the errors of its values, also
    against the size of all numbers that were added up; axes to search on must only be told from rounding.
    """
    first = singular_vectors(rows, rank, execution, center=center)
    if rows.dtype == np.float64 or (first.converged and float32_suffices(first)):
        return first
    return singular_vectors(rows, rank, execution, center=center, dtype=np.float64)


def principal_axes(rows: Rows, rank: int, execution: Execution, *, center: bool = True) -> SingularVectors:
    """Axes that endmembers and outliers are looked for on."""
    return singular_vectors_precisely(rows, rank, execution, _float32_tells_axes, center=center)


def _float32_tells_axes(axes: SingularVectors) -> bool:
    return bool(axes.values[-1] > FLOAT32_VARIANCE * axes.values[0])


def above_rounding(axes: SingularVectors) -> NDArray[np.bool_]:
    """Which of the axes are more than rounding of products of float64."""
    above: NDArray[np.bool_] = axes.values > FLOAT64_VARIANCE * axes.values[0]
    return above


def fill_scores(
    rows: Rows, axes: SingularVectors, V: Array, origin: Array, execution: Execution, *, out: Array
) -> None:
    """Write to `out` (n, r) the scores of the rows minus an origin (d,) on vectors V (r, d) in the span of the axes."""
    in_float32 = axes.converged and _float32_tells_axes(axes)
    dtype = rows.dtype if in_float32 else np.dtype(np.float64)
    shift = origin.astype(dtype)
    with one_blas_thread():
        rest = V @ (origin - shift)
    execution.run(_scores_block, rows, shift, padded_columns(V, dtype), rest, out=(out,))


def _scores_block(block: Array, shift: Array, columns: Array, rest: Array) -> tuple[Partial, None]:
    """Scores with products in the type of the shift, which is the origin up to something whose scores are `rest`."""
    return (scores_on(block, shift, columns)[:, : len(rest)] - rest,), None
