"""One pass makes rows short: scores on an orthonormal basis, and the norm of what the basis leaves out of each."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.base import check_rows, check_whole
from stemseg_core.rows.blocks import refuse_too_small, take_rows
from stemseg_core.rows.products import padded_columns, project, subtract_mean
from stemseg_core.rows.sources import Rows
from stemseg_core.stages.leading import fixed_signs, singular_vectors, singular_vectors_bytes
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Directions that are kept by default, also by `segment`. Twice as many: fainter differences, more noise, and twice the
#: memory of the scores.
RANK = 32
#: Multiply-adds that the basis may cost; it says how many rows it is made from. Twice as many: a basis nearer to the
#: best one of its rank, at twice the time before the pass over all rows.
BASIS_COST = 2e10
#: Rows that the basis is made from in any case. Twice as many: the same.
MIN_SAMPLE = 5_000
#: Rows that the basis is made from at most. Twice as many: the same, for rows of few features.
MAX_SAMPLE = 100_000
#: Passes over the sample of block Lanczos iteration, where it replaces the Gram matrix. Twice as many: a basis slightly
#: nearer to the best one.
BASIS_PASSES = 4
#: Below this share of a row's squared norm, what the basis leaves out is formed explicitly, since the difference of
#: norms cancels. Twice as large: more rows take the slower way, and residuals have half a bit more.
CANCELLED = 1e-2
#: Roundings of a squared norm that bound its error. Twice as many: wider bounds that say less.
ROUNDINGS = 16
#: Rows with the largest residuals that the basis is enlarged from when `tol` is not met. Twice as many: each pass for
#: `tol` takes longer to prepare, and fewer may be needed.
WORST_ROWS = 512


@dataclass(frozen=True, eq=False)
class Compressed:
    """Rows on an orthonormal basis: ``X ~ scores @ basis + mean``, with the norm of what the basis leaves out of each.

    Attributes
    ----------
    scores : ndarray of shape (n, r)
        ``(X - mean) @ basis.T``, float32 or float64 as the rows.
    basis : ndarray of shape (r, d)
        Orthonormal rows; the entry of largest modulus of each is positive. First come those of the first pass, the one
        that captures most of the rows they were made from first. Those that each further pass adds for `tol` follow,
        ordered likewise by the rows that were worst until then.
    mean : ndarray of shape (d,)
        Mean of all rows; zero with ``center=False``.
    residual : ndarray of shape (n,), float64
        ``|x - mean - a @ basis|`` of each row x with scores a, within `mean_error`.
    energy : float
        Fraction of ``sum |x - mean|^2`` over all rows that the basis captures, measured on all rows.
    mean_error : float
        Length of the part of the mean outside the basis that was not known before the pass: an upper bound on the
        error of every `residual`. Rounding only, if `exact`.
    exact : bool
        Whether the basis was made from all rows, and thus is the best of its rank (until `tol` enlarges it).
    n_passes : int
        Passes over all rows that projected them; more than one only with `tol`.
    residual_error : ndarray of shape (n,), float64
        Bound on the error of each `residual`, for rounding that does not conspire.
    energy_error : float
        Bound on the error of `energy`, likewise.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import compress
    >>> X = np.array([[1.0, 0.0, 0.2], [3.0, 0.0, 0.2], [5.0, 0.5, 0.2]])
    >>> compressed = compress(X, rank=2)
    >>> rows = compressed.scores @ compressed.basis + compressed.mean
    >>> bool(np.abs(rows - X).max() < 1e-12)
    True
    >>> compressed.exact, compressed.n_passes
    (True, 1)
    """

    scores: Array
    basis: Array
    mean: Array
    residual: NDArray[np.float64]
    energy: float
    mean_error: float
    exact: bool
    n_passes: int

    @property
    def residual_error(self) -> NDArray[np.float64]:
        """Bound on the error of each `residual`, (n,): `mean_error`, and what rounding does to a norm and a difference.

        ``16 eps |y| (1 + |y| / residual)`` for rows y = x - mean, with the last quotient at most ten.
        """
        scores = self.scores.astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", scores, scores) + self.residual**2)
        kept = np.maximum(self.residual, np.sqrt(CANCELLED) * lengths)
        quotient = np.divide(lengths, kept, out=np.zeros_like(lengths), where=kept > 0)
        eps = float(np.finfo(self.scores.dtype).eps)
        bound: NDArray[np.float64] = self.mean_error + ROUNDINGS * eps * lengths * (1 + quotient)
        return bound

    @property
    def energy_error(self) -> float:
        """Bound on the error of `energy`, ``64 eps``."""
        return 4 * ROUNDINGS * float(np.finfo(self.scores.dtype).eps)


@shared_docs
def compress(
    X: Any,
    rank: int = RANK,
    *,
    center: bool = True,
    tol: float | None = None,
    n_jobs: int | None = None,
    max_memory: MemoryLimit = None,
    progress: Progress | None = None,
) -> Compressed:
    """Project rows on their leading directions in one streaming pass.

    The basis is made from a sample of the rows (all of them, if they are few), since for any orthonormal basis V
    ``|x - xVV^T|^2 = |x|^2 - |xV|^2``: what it captures of all rows is measured in the pass that makes the scores.

    Parameters
    ----------
    {X}
    rank : int, default=32
        Directions to keep; not more than min(n, d) are.
    center : bool, default=True
        Subtract the mean of all rows.
    tol : float, optional
        Largest fraction of the energy to leave out. While more is left, the basis is enlarged by the directions of
        the rows with the largest residuals, to at most twice its rank a pass, and the rows are passed again.
    {execution}

    Returns
    -------
    Compressed

    Raises
    ------
    ValueError
        If X is not two-dimensional, real and finite, or a parameter is out of its range.
    MemoryError
        If the predicted memory exceeds `max_memory`; nothing was allocated.

    Notes
    -----
    The basis is made from as many rows as their Gram matrix takes 2e10 multiply-adds for, but not from fewer than 5,000
    or more than 100,000: from all rows, or from a sample in evenly spread blocks. The pass costs 2 n d r operations.
    Memory: the scores, 8 bytes a row, and some d x d matrices of doubles. The projection of float32 rows is in
    float32, norms and sums over rows are in float64; a residual below a tenth of its row is formed explicitly rather
    than as a difference of norms, and is good to the rounding of the row.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import compress
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((1000, 3)) @ rng.random((3, 50))
    >>> compressed = compress(X, rank=3)
    >>> compressed.scores.shape, compressed.basis.shape
    ((1000, 3), (3, 50))
    >>> round(compressed.energy, 6)
    1.0
    """
    execution = Execution.of(n_jobs, max_memory, progress, stage="compress")
    rows = check_rows(X)
    n, d = rows.shape
    _check_parameters(rank, tol)
    rank = min(rank, n, d)
    _require_memory(rows, rank, execution)
    sample = rows.sample(_sample_rows(rows))
    first = singular_vectors(sample, rank, execution.called("basis"), center=center, max_passes=BASIS_PASSES)
    shift = (first.mean if center else np.zeros(d)).astype(rows.dtype)
    basis = first.V.astype(rows.dtype)
    n_passes = 0
    with one_blas_thread():
        while True:
            n_passes += 1
            compressed = _projected(
                rows, shift, basis, execution, center=center, exact=sample is rows, n_passes=n_passes
            )
            rank = len(basis)
            if tol is None or 1.0 - compressed.energy <= tol or rank == min(n, d):
                return compressed
            _require_memory(rows, min(2 * rank, n, d), execution)
            basis = _enlarged(rows, compressed)
            shift = compressed.mean
            del compressed  # the scores of the next pass take their place


def compress_bytes(rows: Rows, rank: int, n_threads: int) -> float:
    """Predicted memory of `compress`: what the basis takes is free again when the scores are made."""
    return max(rows.shape[0] * (rank * rows.dtype.itemsize + 8), singular_vectors_bytes(rows, rank, n_threads))


def _check_parameters(rank: object, tol: object) -> None:
    check_whole(rank=rank)
    if tol is not None and not (isinstance(tol, Real) and 0 <= float(tol) < 1):
        raise ParameterError(
            f"`tol` must be None or a fraction of the energy, at least 0 and below 1; got {tol!r}", tol=tol
        )


def _sample_rows(rows: Rows) -> int:
    return int(np.clip(BASIS_COST / rows.shape[1] ** 2, MIN_SAMPLE, MAX_SAMPLE))


def _require_memory(rows: Rows, rank: int, execution: Execution) -> None:
    n, d = rows.shape
    needed = compress_bytes(rows, rank, execution.n_threads)
    execution.require(needed, f"compress of {n} x {d} to rank {rank}", "use a smaller rank or fewer rows")


def _projected(
    rows: Rows, shift: Array, basis: Array, execution: Execution, *, center: bool, exact: bool, n_passes: int
) -> Compressed:
    """The pass over all rows, by way of the rows minus `shift`, a guess of their mean."""
    n = rows.shape[0]
    scores, residual = np.empty((n, len(basis)), rows.dtype), np.empty(n)
    state = shift, basis, padded_columns(basis, basis.dtype)
    sums, sum_squares, left_out = execution.run(_project_block, rows, *state, out=(scores, residual))
    refuse_too_small(rows, sum_squares, execution, shift)
    mean, rest = shift, np.zeros(len(shift))
    if center:
        mean = (shift + sums / n).astype(rows.dtype)
        # The scores are those of the rows minus `mean` as it is stored, rounding included.
        rest = mean.astype(np.float64) - shift
    within = basis @ rest
    scores -= within.astype(rows.dtype)
    outside = float(np.linalg.norm(rest - within @ basis))
    centred_sum_squares = sum_squares - n * float(rest @ rest)
    captured = 1.0  # of constant rows, which leave nothing but the rounding of their mean
    if centred_sum_squares > 1e-12 * sum_squares:
        captured -= max(0.0, left_out - n * outside**2) / centred_sum_squares
    return Compressed(
        scores=scores,
        basis=basis,
        mean=mean,
        residual=residual,
        energy=float(max(0.0, captured)),
        mean_error=outside,
        exact=exact,
        n_passes=n_passes,
    )


def _project_block(block: Array, shift: Array, basis: Array, columns: Array) -> tuple[Partial, Partial]:
    """Scores and residual of each row; sums of the rows minus `shift`, of their squares and of squared residuals."""
    scores, squares, sums = project(block, shift, columns)
    scores = scores[:, : len(basis)]
    left = squares - np.einsum("ij,ij->i", scores, scores)
    cancelled = left < CANCELLED * squares
    if cancelled.any():
        Y = subtract_mean(block[cancelled], shift).rows - scores[cancelled].astype(basis.dtype) @ basis
        left[cancelled] = subtract_mean(Y, np.zeros_like(shift)).squares
    return (scores, np.sqrt(left)), (sums, squares.sum(), left.sum())


def _enlarged(rows: Rows, compressed: Compressed) -> Array:
    """The basis, and as many more directions at most, of the rows with the largest residuals."""
    basis = compressed.basis.astype(np.float64)
    worst = np.zeros(rows.shape[0], bool)
    worst[np.argsort(-compressed.residual, kind="stable")[:WORST_ROWS]] = True
    wanted = [np.r_[index][worst[index]] for index in map(rows.index, range(rows.n_blocks))]  # in the order of blocks
    Y = take_rows(rows, np.concatenate(wanted)) - compressed.mean.astype(np.float64)
    Y -= (Y @ basis.T) @ basis
    more = min(len(basis), min(rows.shape) - len(basis))
    V = np.linalg.svd(Y, full_matrices=False)[2][:more]
    # Again orthonormal to the last digit; QR keeps the span of the first rows.
    V = np.linalg.qr(np.vstack([basis, V]).T)[0].T
    return np.ascontiguousarray(V * fixed_signs(V)[:, np.newaxis]).astype(rows.dtype)
