"""Leading directions of rows that come in blocks: what `compress`, `SVD` and `ICA` stand on.

Where the shorter side of the matrix is at most `GRAM_SIDE`, the Gram matrix on that side is summed in one pass and its
leading eigenvectors are taken; above, block Krylov iteration finds them without that matrix, one pass a step. Products
of float32 rows are formed in float32 over a bounded number of rows and summed in float64. A first mean is subtracted
before the products and the rest of the mean afterwards, in float64, so that a large offset costs no digits.

Products are only fast over many rows: passes that sum them take several neighbouring blocks together (`grouped`).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import DTypeLike, NDArray

from stemseg_core._kernels.compress import LANES, ROWS, center_block, project_block, scatter_block
from stemseg_core.blocks import (
    ArrayRows,
    Index,
    Partial,
    Progress,
    Rows,
    effective_n_jobs,
    map_tasks,
    one_blas_thread,
    refuse_non_finite,
    refuse_too_small,
    run,
)

#: Rows of one sum of products: so many bytes, where that leaves enough groups of blocks for all threads; products are
#: formed over so many rows at a time, that float32 sums do not lose digits.
PRODUCT_BYTES, PRODUCT_ROWS, MIN_GROUPS = 8 << 20, 4096, 8
#: Rows read for the first mean, and blocks in any sample.
FIRST_ROWS, MIN_BLOCKS = 512, 16
#: Largest side of a Gram matrix, unless a tenth or more of its eigenvectors are wanted.
GRAM_SIDE = 2000
#: Largest Gram matrix whose eigenvectors are found directly where a few are wanted.
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


class Groups:
    """Neighbouring blocks of a row source as one block, copied together; a row source."""

    def __init__(self, rows: Rows, size: int) -> None:
        self.rows, self.size, self.n_blocks = rows, size, -(-rows.n_blocks // size)
        self.shape, self.dtype = rows.shape, rows.dtype

    def _indices(self, i: int) -> list[Index]:
        return [self.rows.index(j) for j in range(i * self.size, min((i + 1) * self.size, self.rows.n_blocks))]

    def index(self, i: int) -> Index:
        return np.concatenate([np.r_[index] for index in self._indices(i)])

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()

        def read_group(i: int) -> Array:
            sizes = [n_rows_of(index) for index in self._indices(i)]
            group, start = np.empty((sum(sizes), self.shape[1]), self.dtype), 0
            for j, size in enumerate(sizes):
                group[start : start + size] = read(i * self.size + j)
                start += size
            return group

        return read_group


def grouped(rows: Rows) -> Rows:
    """The rows in blocks of about `PRODUCT_BYTES`, but at least `MIN_GROUPS` of them if there are so many blocks.

    A function of the geometry alone, as the blocks are; the rows of an array are not copied.
    """
    n, d = rows.shape
    block_bytes = max(1, n * d * rows.dtype.itemsize // rows.n_blocks)
    size = min(PRODUCT_BYTES // block_bytes, rows.n_blocks // MIN_GROUPS)
    if size < 2:
        return rows
    size = 1 << (size.bit_length() - 1)
    if not isinstance(rows, ArrayRows):
        return Groups(rows, size)
    larger = copy.copy(rows)
    larger.block_rows, larger.n_blocks = size * rows.block_rows, -(-rows.n_blocks // size)
    return larger


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


class Scratch(threading.local):
    """Memory that a block function uses again in its next call on the same thread: new pages take time to be made."""

    memory: Array = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
        size = shape[0] * shape[1] * dtype.itemsize
        if self.memory.nbytes < size:
            self.memory = np.empty(size, np.uint8)
        return self.memory[:size].view(dtype).reshape(shape)

    def __reduce__(self) -> tuple[type[Scratch], tuple[()]]:
        return Scratch, ()


def subtract_mean(block: Array, mean: Array, scratch: Scratch | None = None) -> tuple[Array, Array, Array]:
    """``block - mean``, the squared norm of each of its rows and its column sums, in float64; refuses NaN, infinity."""
    block = block.astype(mean.dtype, copy=False)
    Y = np.empty_like(block) if scratch is None else scratch.array(block.shape, block.dtype)
    squares, sums = np.empty(len(block)), np.empty(block.shape[1])
    center_block(block, mean, Y, squares, sums)
    refuse_non_finite(block, squares)
    return Y, squares, sums


def as_columns(V: Array, dtype: DTypeLike) -> Array:
    """Directions (r, d) as `project` takes them: columns, and zeros up to a multiple of the lanes of the kernel."""
    columns = np.zeros((V.shape[1], -(-len(V) // LANES) * LANES), dtype)
    columns[:, : len(V)] = V.T
    return columns


def project(block: Array, mean: Array, columns: Array) -> tuple[Array, Array, Array]:
    """``(block - mean) @ columns`` in float64, and the sums of `subtract_mean`, in one read of the block."""
    block = block.astype(mean.dtype, copy=False)
    m, d = block.shape
    A, squares, sums = np.empty((-(-m // ROWS) * ROWS, columns.shape[1])), np.empty(m), np.empty(d)
    project_block(block, mean, columns, A, squares, sums)
    refuse_non_finite(block, squares)
    return A[:m], squares, sums


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

    Cost: n d^2 operations at the speed of BLAS. Memory: `_gram_bytes`.
    """
    G, sums, squares, n = run(
        _gram_block, grouped(rows), shift, Scratch(), n_jobs=n_jobs, progress=progress, stage=stage
    )
    if not np.isfinite(G).all():
        raise ValueError(f"Input X has values too large for {shift.dtype}: sums of products overflow; scale X down")
    return Moments(n, shift.astype(np.float64), sums, squares, G)


def _gram_block(block: Array, shift: Array, scratch: Scratch) -> tuple[None, Partial]:
    Y, squares, sums = subtract_mean(block, shift, scratch)
    parts = (Y[start : start + PRODUCT_ROWS] for start in range(0, len(Y), PRODUCT_ROWS))
    # float32 sums may overflow to infinity: `gram` looks at the total.
    with np.errstate(over="ignore", invalid="ignore"):
        first = next(parts)
        G = (first.T @ first).astype(np.float64)
        for part in parts:
            G += part.T @ part
    return None, (G, sums, float(squares.sum()), len(Y))


def leading_bytes(rows: Rows, rank: int, n_jobs: int | None = None) -> float:
    """Predicted memory of `leading`."""
    n, d = rows.shape
    groups = grouped(rows)
    group_bytes = 8.0 * d * n / groups.n_blocks
    n_threads = min(effective_n_jobs(n_jobs), groups.n_blocks)
    if not _gram_pays(rows, rank):
        # The subspace and its image, their leading parts, and the partial sums of the passes.
        width = rank + OVERSAMPLING
        return 8.0 * d * width * (2 * KRYLOV_BLOCKS + 12 + 2 * n_threads) + n_threads * group_bytes
    side = min(n, d)
    # Each thread has a group, its product, and a sum; sums wait to be merged, and at each level of the tree.
    alive = 6 + 4 * n_threads + groups.n_blocks.bit_length()
    return 8.0 * (alive * side * side + 3 * rank * d) + n_threads * group_bytes + (n * d * 8.0 if n < d else 0.0)


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
    refuse_too_small(rows, moments.squares, shift, **options)
    values, vectors, converged, residual = leading_eigenvectors(
        moments.scatter(center), rank, shift.dtype, options.get("n_jobs")
    )
    return Leading(moments.mean, _oriented(vectors.T), values, converged, 1, residual, moments.squares)


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
    K = gram(ArrayRows(Y.T), np.zeros(n, Y.dtype), **options).gram
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
    rows: Rows, rank: int, shift: Array, *, center: bool, max_passes: int, options: dict[str, Any]
) -> Leading:
    """Block Krylov iteration on the scatter matrix, which multiplies by passing over the rows."""
    mean, groups = shift.astype(np.float64), grouped(rows)
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
            scatter_times, rows.shape[1], rank, shift.dtype, max_passes
        )
    return Leading(mean, _oriented(vectors.T), values, converged, n_passes, residual, squares[0])


def _scatter_block(block: Array, shift: Array, columns: Array) -> tuple[None, Partial]:
    """``(Y^T Y Q)^T``, formed in the type of the rows and summed over blocks in float64."""
    block = block.astype(shift.dtype, copy=False)
    (m, d), k = block.shape, columns.shape[1]
    Z, squares, sums = np.empty((k, d), shift.dtype), np.empty(m), np.empty(d)
    scatter_block(block, shift, columns, np.empty((ROWS, k)), np.empty((k, ROWS), shift.dtype), Z, squares, sums)
    refuse_non_finite(block, squares)
    return None, (Z.astype(np.float64), sums, float(squares.sum()), m)


def krylov(
    times: Callable[[Array], Array], d: int, rank: int, dtype: np.dtype[Any], max_steps: int = MAX_PASSES
) -> tuple[Array, Array, bool, int, float]:
    """Leading eigenpairs of a positive semi-definite matrix S by block Lanczos iteration, from a start of fixed seed.

    The orthonormal basis K of the Krylov space grows by what S times its last block adds to it, and is cut down to its
    leading Ritz vectors when it gets large (thick restart). What is added has the products of K and S K as its
    coefficients, so that neither S K nor the Ritz vectors need be formed to know the residuals ``S v - theta v``. A
    Ritz value is off by at most the square of its residual over its distance to the rest of the spectrum.

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
    values (rank,), vectors (d, rank), whether it converged, number of steps, norm of the residuals

    References
    ----------
    C. Musco and C. Musco, Randomized block Krylov methods, NeurIPS 2015, arXiv:1504.05477; K. Wu and H. Simon,
    Thick-restart Lanczos, SIAM J. Matrix Anal. Appl. 22 (2000), doi:10.1137/S0895479898334605.
    """
    tolerance, rounding = (1e-6, 1e-8) if dtype == np.float32 else (1e-11, 1e-16)
    # As wide as the kernel multiplies at no more cost.
    width = min(-(-(rank + OVERSAMPLING) // LANES) * LANES, d)
    Q = np.random.default_rng(0).standard_normal((d, width))
    Q = _new_directions(Q, Q.T @ Q, np.empty((d, 0)))
    K, size = np.empty((d, KRYLOV_BLOCKS * width), order="F"), 0
    T = np.empty((0, 0))
    converged, step = False, 0
    while not converged and step < max_steps:
        step += 1
        K[:, size : size + Q.shape[1]] = Q
        size += Q.shape[1]
        basis = K[:, :size]
        SQ = times(Q)
        new = basis.T @ SQ
        T = np.block([[T, new[: len(T)]], [new.T]])
        theta, y = scipy.linalg.eigh(T)
        theta, y = theta[::-1], y[:, ::-1]
        R = SQ
        R -= basis @ new
        RR = R.T @ R
        last = y[size - Q.shape[1] :, :rank]
        residual = np.sqrt(np.maximum(np.einsum("ij,ij->j", last, RR @ last), 0))
        gap = theta[:rank] - (theta[width] if len(theta) > width else 0.0)
        accurate = residual**2 <= tolerance * np.maximum(theta[:rank], 0) * gap
        Q = _new_directions(R, RR, basis)
        converged = bool((accurate | (residual <= rounding * theta[0])).all()) or Q.shape[1] == 0
        if size + Q.shape[1] > K.shape[1] and not converged:
            K[:, :width], T, size = basis @ y[:, :width], np.diag(theta[:width]), width
    return theta[:rank], np.linalg.qr(basis @ y[:, :rank])[0], converged, step, float(np.linalg.norm(residual))


def _new_directions(R: Array, RR: Array, K: Array) -> Array:
    """Orthonormal basis of what the columns of R, orthogonal to K up to rounding, add to the span of K; RR is R' R.

    By products with small matrices, which take a quarter of the time of a QR factorisation of so tall a matrix; what
    is below 1e-7 of its column is dropped, and orthogonality is restored by a second round.
    """
    Q = R @ _inverse_root(RR)
    Q -= K @ (K.T @ Q)
    Q = Q @ _inverse_root(Q.T @ Q)
    return Q[:, : K.shape[0] - K.shape[1]]


def _inverse_root(RR: Array) -> Array:
    """W such that R W is orthonormal, given R' R; of directions small beside the columns of R there is none in W."""
    lengths = np.sqrt(np.diag(RR))
    scale = np.where(lengths > 0, lengths, 1.0)
    values, vectors = np.linalg.eigh(RR / np.outer(scale, scale))
    kept = values > 1e-14
    W: Array = vectors[:, kept] / np.sqrt(values[kept]) / scale[:, np.newaxis]
    return W
