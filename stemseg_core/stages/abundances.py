"""Abundances: how much of each component is in each row, by least squares with constraints, solved exactly.

With components E (k x d) and a row x, minimise ``|x - a E|^2`` over a: the Gram matrix G = E E' and b = E x hold all
that matters, so a row of d features becomes a problem of size k. `abundances` makes the products block after block,
`GramSolver` solves the small problems; other stages use it on products of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array

from stemseg_core._kernels import abundances as kernels
from stemseg_core.rows.base import check_rows, refuse_masked
from stemseg_core.rows.blocks import refuse_non_finite
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError, warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress
from stemseg_core.system.types import Array

#: Name of a constraint -> (non-negative, sum to one).
CONSTRAINTS = {"fcls": (True, True), "nnls": (True, False), "scls": (False, True), "ucls": (False, False)}
#: Products of float32 rows are made in float64 where the rounding of float32, 1e-7, would be enlarged by more than this
#: factor in the abundances. Twice as large: errors of up to 2e-4 in place of 1e-4.
FLOAT32_LOSS = 1e3
#: Most components whose products with rows are made by the kernel; beyond, BLAS is faster. Twice as many: slower.
KERNEL_COMPONENTS = 16
#: Condition number up to which one product with the inverse is accurate to rounding; beyond, a second one mends what
#: the first lost. Twice as large: one digit less in the worst case.
WELL_CONDITIONED = 100.0
#: Condition number up to which few components are solved by the inverses of all supports; beyond, by the active-set
#: method, which factorises as it goes. Twice as large: supports of nearly equal merit may be confused.
ENUMERABLE = 1e5
#: A pivot of a matrix of unit diagonal below this number times (its size + 3) is rounding: its component depends on the
#: others. Twice as large: components that are nearly dependent are taken to be so.
TINY_PIVOT = 1e-15


@shared_docs
def abundances(
    X: Any,
    components: ArrayLike,
    *,
    constraint: str = "fcls",
    n_jobs: int | None = None,
    max_memory: MemoryLimit = None,
    progress: Progress | None = None,
) -> Array:
    """Abundances of the components in each row of X: the least-squares solution under a constraint.

    Parameters
    ----------
    {X}
        They may be reduced data, such as scores, if the components are reduced alike.
    components : array-like of shape (k, d)
        The endmembers.
    constraint : {"fcls", "nnls", "scls", "ucls"}, default="fcls"
        "fcls": fully constrained, not negative and with sum 1; "nnls": not negative; "scls": with sum 1;
        "ucls": unconstrained.
    {execution}

    Returns
    -------
    ndarray of shape (n, k), float32 if X is float32, else float64
        Where the solution is not unique (more components than the data have dimensions, or duplicates), one of the
        solutions: of least norm for "scls" and "ucls", with independent components for "fcls" and "nnls".

    Raises
    ------
    ValueError
        If shapes do not fit, the constraint is unknown, or X or the components hold NaN or infinity.
    MemoryError
        If the result exceeds `max_memory`.

    Notes
    -----
    Solved in float64 by the conditions of Karush, Kuhn and Tucker (KKT), which hold to rounding: all supports are tried
    for few components that differ well, else the active-set method is used [1]_. The problem with sum 1 [2]_ is centred
    at the mean of the components, so an offset common to all data does no harm. For float32 rows the products with the
    components are float32 too, unless the components are so alike, or so far from the origin, that the abundances would
    lose digits.

    Cost: one read of X, n k d products, and 12 ns (k = 3) to 150 ns (k = 6) a row and thread, above that
    some 10 k^2; memory: the result.

    References
    ----------
    .. [1] C. L. Lawson, R. J. Hanson, "Solving Least Squares Problems", SIAM (1995), ch. 23.
       https://doi.org/10.1137/1.9781611971217
    .. [2] D. C. Heinz, C.-I Chang, "Fully constrained least squares linear spectral mixture analysis method for
       material quantification in hyperspectral imagery", IEEE Trans. Geosci. Remote Sens. 39 (2001) 529-545.
       https://doi.org/10.1109/36.911111

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import abundances
    >>> E = np.array([[1.0, 0.0, 2.0], [0.0, 3.0, 1.0]])
    >>> abundances([[0.25, 2.25, 1.25], [9.0, 0.0, 18.0]], E)
    array([[0.25, 0.75],
           [1.  , 0.  ]])
    >>> abundances([[9.0, 0.0, 18.0]], E, constraint="nnls").round(6)
    array([[9., 0.]])
    """
    execution = Execution.of(n_jobs, max_memory, progress, stage="abundances")
    rows = check_rows(X)
    refuse_masked(components, "components")
    E = check_array(components, dtype=np.float64, input_name="components")
    n, d = rows.shape
    k = E.shape[0]
    if E.shape[1] != d:
        raise ParameterError(
            f"`components` must have as many features as X; got components of shape {E.shape} and X of shape {(n, d)}",
            components=components,
        )
    execution.require(
        n * k * rows.dtype.itemsize, f"abundances of {n} rows in {k} components", "pass fewer rows at a time"
    )
    form = gram_form(E, rows.dtype, constraint)
    out = np.empty((n, k), rows.dtype)
    execution.run(abundances_block, rows, form, out=(out,))
    return out


@dataclass(frozen=True, eq=False)
class GramForm:
    """What `abundances_block` needs of k components.

    Attributes
    ----------
    components : ndarray of shape (k, d)
        In the type of the products with rows, minus a centre and in a unit of their own.
    scale : float
        What their products with rows are multiplied by.
    solver : GramSolver
    """

    components: Array
    scale: float
    solver: GramSolver


def gram_form(E: Array, dtype: np.dtype[Any], constraint: str) -> GramForm:
    """What is made once of components E (k, d), float64, for all rows of a type."""
    _, sum_to_one = _constraint(constraint)
    E = np.ascontiguousarray(E)  # as the kernel takes it; the order of sums follows that in memory
    # Abundances have no unit: in that of the components, a power of two, products neither overflow nor vanish.
    unit = float(np.ldexp(1.0, np.frexp(np.abs(E).max())[1] - 1)) if E.any() else 1.0
    E = E / unit
    center = E.mean(axis=0) if sum_to_one else np.zeros(E.shape[1])
    D = E - center
    D[np.abs(D) <= 4 * np.finfo(float).eps * np.abs(center)] = 0  # rounding is all that is left of equal components
    with np.errstate(over="ignore", invalid="ignore"):
        solver = GramSolver(D @ D.T, constraint, offset=-(D @ center))
    size = np.linalg.norm(D) or 1.0
    loss = solver.condition * max(1.0, float(np.linalg.norm(center) / size))
    if loss > FLOAT32_LOSS or unit <= float(np.finfo(dtype).tiny):
        dtype = np.dtype(np.float64)
    return GramForm(components=D.astype(dtype), scale=1 / unit, solver=solver)


def abundances_block(block: Array, form: GramForm) -> tuple[tuple[Array], None]:
    """The block function of `abundances`."""
    D = form.components
    block = block.astype(D.dtype, copy=False)
    if len(D) <= KERNEL_COMPONENTS:
        B = np.empty((len(block), len(D)), D.dtype)
        kernels.products_block(block, D, form.scale, B)
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            B = np.matmul(block, D.T)
            B *= D.dtype.type(form.scale)
    refuse_non_finite(block, B)
    return (form.solver.solve(B, out=B),), None


class GramSolver:
    """Solves ``min_a a' G a / 2 - (b + offset)' a`` under a constraint for many b; G is prepared once.

    Under the constraint of sum 1, neither a multiple of (1' a - 1)^2 in the objective nor a constant in b changes the
    solution. So G is centred and a constant is added to it: that makes it positive definite for affinely independent
    components, wherever the origin is. The unknowns are scaled so that the diagonal is 1.

    Parameters
    ----------
    G : array-like of shape (k, k)
        Gram matrix of the components.
    constraint : str
        As for `abundances`.
    offset : array-like of shape (k,), default=0
        Added to every row of B.

    Attributes
    ----------
    condition : float
        Condition number of the scaled matrix; infinite if it is singular.
    max_iter : int
        Changes of the support of a row at most, in the active-set method.
    """

    def __init__(self, G: ArrayLike, constraint: str = "fcls", offset: ArrayLike = 0.0) -> None:
        self.non_negative, sum_to_one = _constraint(constraint)
        G = np.array(G, dtype=np.float64)
        if G.ndim != 2 or G.shape[0] != G.shape[1]:
            raise ValueError(f"G must be square, components by components; got shape {G.shape}")
        if not np.isfinite(G).all():
            raise ValueError("products of the components overflow or are not finite: scale X and the components down")
        k = len(G)
        self.offset = np.zeros(k) + np.asarray(offset, dtype=np.float64)
        if sum_to_one:
            mean = G.mean(axis=1)
            level = np.trace(G) / k or 1.0
            G += level - mean - mean[:, np.newaxis] + mean.mean()
            self.offset += level - mean
        diagonal = np.maximum(G.diagonal(), 0.0)
        self.scale = np.divide(1.0, np.sqrt(diagonal), out=np.zeros(k), where=diagonal > 0)
        self.max_iter = 10 * k + 20
        self.G = G * self.scale * self.scale[:, np.newaxis]
        self.c = self.scale.copy() if sum_to_one else np.zeros(k)
        eigenvalues = np.linalg.eigvalsh(self.G)
        self.condition = float(eigenvalues[-1] / eigenvalues[0]) if eigenvalues[0] > 0 else np.inf
        if not self.non_negative:
            self._kkt, self._inverse, self._right = _kkt_inverse(self.G, self.c)
        elif self._enumerates:
            self._supports = enumerated_supports(self.G, self.c)

    @property
    def _enumerates(self) -> bool:
        return len(self.scale) <= kernels.ENUMERATE_MOST and self.condition <= ENUMERABLE

    def solve(self, B: ArrayLike, out: Array | None = None) -> Array:
        """Abundances, of the shape (n, k) and type of B, float32 or float64; computed in float64. `out` may be B."""
        B = np.ascontiguousarray(B)
        B = B if B.dtype == np.float32 else np.ascontiguousarray(B, dtype=np.float64)
        k = len(self.scale)
        if B.ndim != 2 or B.shape[1] != k:
            raise ValueError(f"B must have one column a component, {k}; got shape {B.shape}")
        A: Array = np.empty_like(B) if out is None else out
        if not self.non_negative:
            A[...] = self._solve_unbounded(B)
        elif self._enumerates:
            kernels.enumerate_block(B, self.offset, self.scale, bool(self.c.any()), *self._supports, A)
        else:
            problem = (B, self.offset, self.scale, self.c, self.G)
            scratch = np.empty((k, k)), np.empty((kernels.WORK_ROWS, k)), np.empty((kernels.INDEX_ROWS, k), np.intp)
            unfinished = kernels.active_set_block(*problem, self.max_iter, *scratch, A)
            if unfinished:
                warn(
                    f"{unfinished} of {len(B)} rows did not reach the optimum within {self.max_iter} changes of their "
                    "support; their abundances satisfy the constraints. Remove components that are nearly alike",
                    ConvergenceWarning,
                )
        return A

    def _solve_unbounded(self, B: Array) -> NDArray[np.float64]:
        """By the inverse of the KKT matrix; where that loses digits, what is left is solved for once more."""
        k = len(self.scale)
        right = np.empty((len(B), len(self._kkt)))
        right[:, :k] = (B + self.offset) * self.scale
        right[:, k:] = self._right
        solution: NDArray[np.float64] = right @ self._inverse
        if self.condition > WELL_CONDITIONED:
            solution += (right - solution @ self._kkt) @ self._inverse
        abundances: NDArray[np.float64] = solution[:, :k] * self.scale
        return abundances


def _constraint(constraint: str) -> tuple[bool, bool]:
    if constraint not in CONSTRAINTS:
        names = ", ".join(map(repr, CONSTRAINTS))
        raise ParameterError(f"`constraint` must be one of {names}; got {constraint!r}", constraint=constraint)
    return CONSTRAINTS[constraint]


def _kkt_inverse(G: Array, c: Array) -> tuple[Array, Array, float]:
    """The KKT matrix of ``G a + mu c = b, c' a = 1``, its pseudo-inverse, and the 1, with c scaled to length 1."""
    length = float(np.linalg.norm(c))
    kkt = np.block([[G, c[:, np.newaxis] / length], [c / length, 0.0]]) if length else G
    return kkt, np.linalg.pinv(kkt, rcond=TINY_PIVOT * (len(G) + 3), hermitian=True), 1 / length if length else 0.0


def enumerated_supports(G: Array, c: Array) -> tuple[Array, Array]:
    """All m supports, the sets of components that may be positive, as the kernel `enumerate_block` takes them.

    Returns
    -------
    maps : ndarray of shape (m, k, k + 1)
        For each support, what makes of b (and of 1, in the last column) the amounts by which the conditions of Karush,
        Kuhn and Tucker are violated.
    members : ndarray of shape (m, k)
        1 for components of the support, else 0.

    Notes
    -----
    Under the constraint of sum 1 the multiplier is one more unknown, which is in every support, and 1 its right side.
    """
    k, sum_to_one = len(G), bool(c.any())
    K = np.block([[G, c[:, np.newaxis]], [c, np.zeros(1)]]) if sum_to_one else G
    maps, members = [], []
    for size in range(1 if sum_to_one else 0, k + 1):
        supports = np.array(list(combinations(range(k), size)), np.intp)
        own = np.hstack([supports, np.full((len(supports), 1), k)]) if sum_to_one else supports
        # Unknowns of the support from right sides of it, in rows and columns of all.
        solution = np.zeros((len(supports), *K.shape))
        at = np.arange(len(supports))[:, np.newaxis, np.newaxis], own[:, :, np.newaxis], own[:, np.newaxis, :]
        solution[at] = np.linalg.inv(K[at[1:]])
        present = np.zeros((len(supports), k))
        present[np.arange(len(supports))[:, np.newaxis], supports] = 1
        left = np.eye(len(K)) - K @ solution
        violation = np.where(present[:, :, np.newaxis], -solution[:, :k], left[:, :k])
        maps.append(violation if sum_to_one else np.pad(violation, ((0, 0), (0, 0), (0, 1))))
        members.append(present)
    return np.ascontiguousarray(np.concatenate(maps)), np.concatenate(members)
