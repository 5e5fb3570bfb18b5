"""The descent of NMF: passes over rows that lower the squared error, and the race of starts.

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
from stemseg_core.rows.products import as_columns, scatter, scores_block
from stemseg_core.rows.sources import ArrayRows, Rows
from stemseg_core.rows.transitional import run
from stemseg_core.system.threads import one_blas_thread

Array = NDArray[Any]

#: Sweeps over the components for each pass: a sweep in the cache costs less than the products it works on.
SWEEPS = 8
#: Rows on which starts compete.
RACE_ROWS = 4096
#: Passes of a start in the first round of the race; twice as many in each later round, for half of the starts.
ROUND = 8
#: A squared error of this share of the energy of X is as good as none, for float32 and for float64 rows.
EXACT = {4: 1e-11, 8: 1e-12}


@dataclass
class Problem:
    """Rows to factorise, ``X = B C`` with orthonormal C: B is read in blocks; C is None where B is X itself.

    `energy` is the sum of squares, of which a squared error of the share `exact` is as good as none; `options` are the
    estimator's ``n_jobs`` and ``progress``.
    """

    rows: Rows
    basis: Array | None
    energy: float
    options: dict[str, Any]
    exact: float = EXACT[8]

    def run(self, function: Callable[..., Any], *state: Any, **arguments: Any) -> Any:
        return run(function, self.rows, *state, stage="NMF", **arguments, **self.options)

    @property
    def stored(self) -> Array:
        """B, of a compressed problem."""
        B: Array = self.rows.array  # type: ignore[attr-defined]
        return B

    def lift(self, P: Array) -> NDArray[np.float64]:
        """Rows in the terms of B as rows in the terms of X."""
        return np.asarray(P if self.basis is None else P @ self.basis, dtype=np.float64)

    def pass_over(self, H: Array, W: Array, W_next: Array) -> tuple[Array, Array]:
        """Sweep W into `W_next`; return ``W' X`` (k, d) and ``W' W`` (k, k) of the new W."""
        P = H if self.basis is None else H @ self.basis.T
        columns = as_columns(P, np.float64, kernels.LANES)
        WtB, WtW = self.run(_sweep_block, columns, H @ H.T, along=(W,), out=(W_next,))
        products: tuple[Array, Array] = self.lift(WtB), WtW
        return products


def _sweep_block(block: Array, W: Array, columns: Array, G: Array) -> tuple[tuple[Array], tuple[Array, Array]]:
    k, wide = len(G), columns.shape[1]
    A, B, Wt = np.empty((kernels.ROWS, wide)), np.empty((wide, kernels.ROWS)), np.empty((wide, kernels.ROWS))
    W_next, WtX, WtW = np.empty_like(W), np.empty((wide, block.shape[1])), np.empty((k, k))
    kernels.sweep_block(block, columns, G, SWEEPS, W, A, B, Wt, W_next, WtX, WtW)
    return (W_next,), (WtX[:k], WtW)


def compressed(problem: Problem, product: Array | None) -> Problem:
    """The problem in float64 in memory, projected on the span of the rows of `product` (q, d), if that is given.

    `product` is random directions times X'X; it is multiplied by X'X once more, which halved the passes over X.
    """
    n, d = problem.rows.shape
    if product is None:
        B = np.empty((n, d))
        problem.run(_copy_block, out=(B,))
        return in_memory(problem, B, None)
    q = len(product)
    (product,) = problem.run(_scatter_block, *directions(_orthonormal(product), problem.rows.dtype))
    Q = _orthonormal(product[:q]).astype(problem.rows.dtype)  # as it is multiplied by
    B = np.empty((n, len(Q)))
    problem.run(scores_block, *directions(Q, Q.dtype), len(Q), out=(B,))
    return in_memory(problem, B, Q.astype(np.float64))


def in_memory(problem: Problem, B: Array, basis: Array | None) -> Problem:
    """The problem of rows B in memory."""
    with one_blas_thread():
        return Problem(ArrayRows(B), basis, float(np.vdot(B, B)), problem.options, problem.exact)


def directions(Q: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """What `scores_block` and `scatter` take: nothing to subtract, and rows Q as columns."""
    return np.zeros(Q.shape[1], dtype), as_columns(Q, dtype)


def _orthonormal(product: Array) -> Array:
    """Orthonormal rows that span those of `product`."""
    if not np.isfinite(product).all():
        raise ValueError("Input X has values too large for its type: sums of products overflow; scale X down")
    with one_blas_thread():
        return np.ascontiguousarray(np.linalg.qr(product.T / np.abs(product).max())[0].T)


def _scatter_block(block: Array, zero: Array, columns: Array) -> tuple[None, tuple[Array]]:
    return None, (scatter(block, zero, columns)[0].astype(np.float64),)


def _copy_block(block: Array) -> tuple[tuple[Array], None]:
    return (block,), None


@dataclass
class Descent:
    """How far a descent has come: H, W, and what the last pass told about them.

    `weight` is the energy of each component, the sum of squares of what it adds to X.
    """

    H: Array
    W: Array
    objective: float = np.inf
    n_iter: int = 0
    converged: bool = False
    weight: Array = field(default_factory=lambda: np.zeros(0))

    def components(self) -> Array:
        """Rows of H with length 1, or 0, by falling energy."""
        lengths = np.linalg.norm(self.H, axis=1, keepdims=True)
        H: Array = np.divide(self.H, lengths, out=np.zeros_like(self.H), where=lengths > 0)
        return H[np.argsort(-self.weight, kind="stable")]


def descend(problem: Problem, H: Array, W: Array, *, max_iter: int, tol: float) -> Descent:
    """Lower the squared error by at most `max_iter` passes; never raises it. W becomes scratch.

    Each new H is extrapolated along its last step; if that raises the error, the step is taken back and the
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
            objective = float(problem.energy - 2 * np.vdot(WtX, H_try) + np.vdot(WtW, H_try @ H_try.T))
            if extrapolated and objective > state.objective:
                H_try, extrapolated = state.H, False
                ceiling, factor = factor, factor / 1.5
                continue
            gradient = WtW @ H_try - WtX
        gradient[(H_try <= 0) & (gradient > 0)] = 0
        previous, state.H = state.H, H_try.copy()
        kernels.hals_block(WtX, WtW, SWEEPS, state.H)
        state.W, W_next = W_next, state.W
        decrease = state.objective - objective
        state.objective = max(objective, 0.0)
        state.weight = WtW.diagonal() * (state.H**2).sum(axis=1)
        # The cosine between the residual and what the components can still take of it.
        slope = np.linalg.norm(gradient) / np.sqrt(state.objective * np.trace(WtW) or 1.0)
        slow = decrease <= 0.01 * tol * objective
        exact = state.objective <= problem.exact * problem.energy
        state.converged = bool(exact or slope <= (10 * tol if slow else tol))
        factor, ceiling = min(ceiling, 1.05 * factor), min(1.0, 1.01 * ceiling)
        H_try, extrapolated = np.maximum(state.H + factor * (state.H - previous), 0), True
    return state


def thinned(problem: Problem) -> Problem:
    """A compressed problem on every m-th row, about RACE_ROWS of them; itself if it has no more."""
    B = problem.stored
    step = -(-len(B) // RACE_ROWS)
    return problem if step == 1 else in_memory(problem, np.ascontiguousarray(B[::step]), problem.basis)


def race(problem: Problem, few: Problem, pool: Iterable[Array], *, tol: float, max_iter: int) -> Descent:
    """The best of the starts: all run a few passes, the better half goes on twice as far, the last one to the end.

    The starts compete on the rows of `few`, which stand for all. If these are fewer, the winner begins anew on all
    rows, lest it has given up a component that the others need.
    """
    runners = [(H, H) for H in pool]
    k = len(runners[0][0])
    passes = ROUND
    while len(runners) > 1:
        ran: list[tuple[float, int, Array, Array]] = []
        for first, H in runners:
            state = descend(few, H, np.zeros((few.rows.shape[0], k)), max_iter=passes, tol=tol)
            ran.append((state.objective, len(ran), first, state.H))
        runners = [(first, H) for _, _, first, H in sorted(ran, key=itemgetter(0, 1))[: len(ran) // 2]]
        passes *= 2
    first, H = runners[0]
    start = H if few is problem else first
    state = descend(problem, start, np.zeros((problem.rows.shape[0], k)), max_iter=max_iter, tol=tol)
    return revive(problem, state, max_iter=max_iter, tol=tol)


def revive(problem: Problem, state: Descent, *, tol: float, max_iter: int) -> Descent:
    """Go on with what is missing most in one row, in place of a component that has become zero, while that helps."""
    while state.objective > problem.exact * problem.energy and not state.weight.all():
        H = state.H.copy()
        _, H[np.argmin(state.weight)] = problem.run(
            _missing_block, state.H, problem.basis, along=(state.W,), merge=larger
        )
        before, state = state, descend(problem, H, state.W, max_iter=max_iter, tol=tol)
        if np.count_nonzero(state.weight) <= np.count_nonzero(before.weight):
            break
    return state


def _missing_block(block: Array, W: Array, H: Array, basis: Array | None) -> tuple[None, tuple[float, Array]]:
    missing = np.maximum((block if basis is None else block @ basis) - W @ H, 0)
    squares = np.einsum("ij,ij->i", missing, missing)
    return None, (float(squares.max()), missing[squares.argmax()])


def larger(a: tuple[float, Array], b: tuple[float, Array]) -> tuple[float, Array]:
    """The partial result with the larger value, the first of equal ones."""
    return a if a[0] >= b[0] else b
