"""The descent of NMF: passes over rows that lower the squared error, and the choice among starts.

Given H, the rows of W are independent, so a pass takes a block once and, while it is in the cache, makes ``X H'``,
sweeps the rows of W, and adds up ``W' X`` and ``W' W``, which give the next H. The rows may be X or shorter ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core._kernels import nmf as kernels
from stemseg_core.rows import sources
from stemseg_core.rows.blocks import stored
from stemseg_core.rows.products import padded_columns, scatter_times, scores_block
from stemseg_core.rows.sources import ArrayRows, Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.merging import larger
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Sweeps over the components for each pass. A sweep in the cache costs less than the products it works on. Twice as
#: many: slower passes, of which about as many are needed.
SWEEPS = 8
#: Most rows on which starts compete. Twice as many: the choice takes twice as long, and is surer.
SAMPLE_ROWS = 4096
#: Passes of each start in the first round; every later round has twice as many, for half of the starts. Twice as many:
#: the choice takes twice as long, and is surer.
FIRST_PASSES = 8
#: A squared error of this share of the sum of squares of X is as good as none: by the bytes of a number of X. Ten times
#: as large: a descent ends earlier where the components explain all of X.
EXACT = {4: 1e-11, 8: 1e-12}


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows to factorise, ``X = B C`` with orthonormal C.

    Attributes
    ----------
    rows : Rows of shape (n, q)
        B.
    basis : ndarray of shape (q, d) or None
        C; None where B is X itself.
    sum_squares : float
        Of B, and of X.
    execution : Execution
    exact : float
        A squared error of this share of `sum_squares` is as good as none.
    """

    rows: Rows
    basis: Array | None
    sum_squares: float
    execution: Execution
    exact: float

    def run(self, function: Callable[..., Any], *state: Any, **arguments: Any) -> Any:
        return self.execution.run(function, self.rows, *state, **arguments)

    def is_solved(self, objective: float) -> bool:
        """Whether a squared error is as good as none."""
        return objective <= self.exact * self.sum_squares

    def lift(self, P: Array) -> NDArray[np.float64]:
        """Rows P (m, q) in the features of B as rows (m, d) in those of X."""
        return np.asarray(P if self.basis is None else P @ self.basis, dtype=np.float64)

    def pass_over(self, H: Array, W: Array, W_next: Array) -> tuple[Array, Array]:
        """Sweep W into `W_next`; return ``W' X`` (k, d) and ``W' W`` (k, k) of the new W."""
        P = H if self.basis is None else H @ self.basis.T
        columns = padded_columns(P, np.float64, kernels.LANES)
        WtB, WtW = self.run(_sweep_block, columns, H @ H.T, along=(W,), out=(W_next,))
        products: tuple[Array, Array] = self.lift(WtB), WtW
        return products


class StoredProblem(Problem):
    """A problem whose rows B are an array in memory."""

    rows: ArrayRows

    @classmethod
    def of(cls, problem: Problem, B: Array, basis: Array | None) -> StoredProblem:
        """`problem` with the rows B and the basis C instead."""
        with one_blas_thread():
            return cls(ArrayRows(B), basis, float(np.vdot(B, B)), problem.execution, problem.exact)

    @property
    def B(self) -> Array:  # noqa: N802
        array: Array = self.rows.array
        return array

    def sample(self) -> StoredProblem:
        """The problem of every m-th row, at most `SAMPLE_ROWS` of them; itself if it has no more."""
        step = -(-len(self.B) // SAMPLE_ROWS)
        return self if step == 1 else self.of(self, np.ascontiguousarray(self.B[::step]), self.basis)


def _sweep_block(block: Array, W: Array, columns: Array, G: Array) -> tuple[tuple[Array], tuple[Array, Array]]:
    k, wide = len(G), columns.shape[1]
    A, B, Wt = np.empty((kernels.ROWS, wide)), np.empty((wide, kernels.ROWS)), np.empty((wide, kernels.ROWS))
    W_next, WtX, WtW = np.empty_like(W), np.empty((wide, block.shape[1])), np.empty((k, k))
    kernels.sweep_block(block, columns, G, SWEEPS, W, A, B, Wt, W_next, WtX, WtW)
    return (W_next,), (WtX[:k], WtW)


def reduced(problem: Problem, product: Array | None) -> StoredProblem:
    """The problem in float64 in memory, projected on the span of the rows of `product` (q, d), if that is given.

    `product` is random directions times X'X; it is multiplied by X'X once more, which halved the passes over X.
    """
    if product is None:
        return StoredProblem.of(problem, stored(problem.rows, problem.execution, np.float64), None)
    q = len(product)
    (product,) = problem.run(_scatter_block, *zero_mean_and_columns(_orthonormal(product), problem.rows.dtype))
    Q = _orthonormal(product[:q]).astype(problem.rows.dtype)  # rounded here, so that B and C have the same Q
    B = np.empty((problem.rows.shape[0], len(Q)))
    problem.run(scores_block, *zero_mean_and_columns(Q, Q.dtype), len(Q), out=(B,))
    return StoredProblem.of(problem, B, Q.astype(np.float64))


def zero_mean_and_columns(Q: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """What `scores_block` and `scatter_times` take for products of rows as they are with the rows of Q (q, d)."""
    return np.zeros(Q.shape[1], dtype), padded_columns(Q, dtype)


def _orthonormal(product: Array) -> Array:
    """Orthonormal rows that span those of `product`."""
    if not np.isfinite(product).all():
        raise ValueError("Input X has values too large for its type: sums of products overflow; scale X down")
    with one_blas_thread():
        return np.ascontiguousarray(np.linalg.qr(product.T / np.abs(product).max())[0].T)


def _scatter_block(block: Array, zero_mean: Array, columns: Array) -> tuple[None, tuple[Array]]:
    return None, (scatter_times(block, zero_mean, columns).product.astype(np.float64),)


@dataclass
class Descent:
    """How far a descent has come: H, W, and what the last pass found.

    Attributes
    ----------
    H : ndarray of shape (k, d)
    W : ndarray of shape (n, k)
    objective : float
        Squared error that the last pass found: of this W and of H before its last step.
    n_iter : int
        Passes.
    converged : bool
    added_squares : ndarray of shape (k,)
        Sum of the squares of what each component adds to X.
    """

    H: Array
    W: Array
    objective: float = np.inf
    n_iter: int = 0
    converged: bool = False
    added_squares: Array = field(default_factory=lambda: np.zeros(0))

    def components(self) -> Array:
        """Rows of H with length 1, or 0; those that add most to X come first."""
        lengths = np.linalg.norm(self.H, axis=1, keepdims=True)
        H: Array = np.divide(self.H, lengths, out=np.zeros_like(self.H), where=lengths > 0)
        return H[np.argsort(-self.added_squares, kind="stable")]


def descend(problem: Problem, H: Array, W: Array, *, max_iter: int, tol: float) -> Descent:
    """Lower the squared error by at most `max_iter` passes; never raises it. W becomes scratch.

    Each new H is extrapolated along its last step. If that raises the error, the step is taken back and the
    extrapolation shortened (Ang and Gillis 2019, with W as a function of H instead of a second sequence).
    """
    state = Descent(H, W)
    W_next = np.empty_like(W)
    H_try, extrapolated = H, False
    factor, ceiling = 0.5, 1.0
    while state.n_iter < max_iter and not state.converged:
        state.n_iter += 1
        with one_blas_thread():
            WtX, WtW = problem.pass_over(H_try, state.W, W_next)
            objective = float(problem.sum_squares - 2 * np.vdot(WtX, H_try) + np.vdot(WtW, H_try @ H_try.T))
            if extrapolated and objective > state.objective:
                H_try, extrapolated = state.H, False
                ceiling, factor = factor, factor / 1.5
                continue
            gradient = WtW @ H_try - WtX
        gradient[(H_try <= 0) & (gradient > 0)] = 0
        with one_blas_thread():
            length = np.linalg.norm(gradient)
        previous, state.H = state.H, H_try.copy()
        kernels.hals_block(WtX, WtW, SWEEPS, state.H)
        state.W, W_next = W_next, state.W
        decrease = state.objective - objective
        state.objective = max(objective, 0.0)
        state.added_squares = WtW.diagonal() * (state.H**2).sum(axis=1)
        # Cosine between the residual and the part of it that the components can still take.
        slope = length / np.sqrt(state.objective * np.trace(WtW) or 1.0)
        slow = decrease <= 0.01 * tol * objective
        state.converged = bool(problem.is_solved(state.objective) or slope <= (10 * tol if slow else tol))
        factor, ceiling = min(ceiling, 1.05 * factor), min(1.0, 1.01 * ceiling)
        H_try, extrapolated = np.maximum(state.H + factor * (state.H - previous), 0), True
    return state


def successive_halving(
    problem: StoredProblem, sample: StoredProblem, starts: Iterable[Array], *, tol: float, max_iter: int
) -> Descent:
    """The best of the starts H: all go on for a few passes, the better half for twice as many, the last to the end.

    The starts are compared on `sample`, some rows of `problem`. If these are not all rows, the best start begins anew
    on all of them: on the sample it may have given up a component that the other rows need.
    """
    candidates = [(H, H) for H in starts]  # each start, and what has become of it
    k = len(candidates[0][0])
    n_passes = FIRST_PASSES
    while len(candidates) > 1:
        ends = [
            descend(sample, H, np.zeros((sample.rows.shape[0], k)), max_iter=n_passes, tol=tol) for _, H in candidates
        ]
        better = np.argsort([end.objective for end in ends], kind="stable")[: len(ends) // 2]
        candidates = [(candidates[i][0], ends[i].H) for i in better]
        n_passes *= 2
    first, H = candidates[0]
    start = H if sample is problem else first
    state = descend(problem, start, np.zeros((problem.rows.shape[0], k)), max_iter=max_iter, tol=tol)
    return refill_dead_components(problem, state, max_iter=max_iter, tol=tol)


def refill_dead_components(problem: Problem, state: Descent, *, tol: float, max_iter: int) -> Descent:
    """Replace a component that has become zero by the part of a row that is missing most, while that helps."""
    while not problem.is_solved(state.objective) and not state.added_squares.all():
        H = state.H.copy()
        dead = np.argmin(state.added_squares)
        _, H[dead] = problem.run(_missing_block, state.H, problem.basis, along=(state.W,), merge=larger)
        before, state = state, descend(problem, H, state.W, max_iter=max_iter, tol=tol)
        if np.count_nonzero(state.added_squares) <= np.count_nonzero(before.added_squares):
            break
    return state


def _missing_block(block: Array, W: Array, H: Array, basis: Array | None) -> tuple[None, Partial]:
    """The largest sum of squares of what W H lacks in a row, and what it lacks there."""
    found: list[tuple[float, Array]] = []
    n_rows = max(1, sources.BLOCK_BYTES // (8 * H.shape[1]))  # rows of X are longer than those of a compressed block
    for start in range(0, len(block), n_rows):
        B, A = block[start : start + n_rows], W[start : start + n_rows]
        missing = np.maximum((B if basis is None else B @ basis) - A @ H, 0)
        squares = np.einsum("ij,ij->i", missing, missing)
        found.append((float(squares.max()), missing[squares.argmax()].copy()))
    return None, max(found, key=itemgetter(0))
