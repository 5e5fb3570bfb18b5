"""Memberships with short boundaries: total variation on the grid of windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from stemseg_core.system.errors import warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid

#: Radius over the weight of the boundaries of a round patch of a sure phase in a sure one that is just given up: the
#: patch loses 2 w / r, and half of its memberships are enough. A constant of the problem, not a choice.
RADIUS = 4.0
#: Root mean square distance from the exact minimum that must be proved. Twice as much: fewer passes, and memberships
#: off by up to twice as much.
TOLERANCE = 0.02
#: Passes at most. Twice as many: twice the time where nothing is proved before, and fewer warnings.
MAX_PASSES = 500
#: Passes from one look at what is proved to the next; a look takes as long as a pass. Twice as many: up to ten passes
#: too many.
PASSES_A_LOOK = 10
#: Planes of a phase that are held at once, the memberships given and returned included. It predicts memory only.
HELD_PLANES = 11
STAGE = "regularize"


def regularized(memberships: Array, grid: Grid, radius: float, execution: Execution) -> NDArray[np.float32]:
    """Memberships near those given, with boundaries that are short: patches smaller than a radius are given up.

    Parameters
    ----------
    memberships : ndarray of shape (n, k)
        Of the included windows; rows are not negative and sum to 1.
    grid : Grid
    radius : float
        In pixels: a round patch of windows that are sure of a phase, amid windows that are sure of another, is of the
        other phase afterwards if its radius is smaller, and loses certainty if it is larger. 0: nothing changes.
    execution : Execution
        Only its progress counts: the work is done on one thread.

    Returns
    -------
    ndarray of shape (n, k), float32
        Rows are not negative and sum to 1.

    Notes
    -----
    The memberships u minimise 1/2 sum |u - m|^2 + w sum_phases TV(u) over all u that are not negative and sum to 1,
    where m are those given. TV sums the lengths of the gradients in pixels. The weight w is a quarter of the radius,
    since a disc of radius r and height 1 loses 2 w / r. The minimum is unique. For two phases its largest membership is
    also the segmentation that minimises w times the length of the boundaries plus the sum of the memberships that are
    overruled: thresholds of total variation minima are minimal cuts [1]_. For more phases it is the convex relaxation
    of that problem [2]_, [3]_.

    The minimum is found by the accelerated primal-dual algorithm [4]_. It ends when the duality gap proves that the
    root mean square distance to the minimum is below 0.02 (the true distance was 0.001 to 0.01 then), or after 500
    passes with a ConvergenceWarning that says what was proved. Excluded windows, and the edge of the grid, have no
    boundary.

    Cost: 50 to 500 passes of 45 ns a window and phase on one thread; the larger the radius in windows, the more passes.
    Memory: `regularized_bytes`.

    References
    ----------
    .. [1] A. Chambolle, EMMCVPR 2005, LNCS 3757, 136-152. https://doi.org/10.1007/11585978_10
    .. [2] C. Zach, D. Gallup, J.-M. Frahm, M. Niethammer, VMV 2008, 243-252.
    .. [3] J. Lellmann, C. Schnoerr, SIAM J. Imaging Sci. 4 (2011) 1049-1096. https://doi.org/10.1137/100805844
    .. [4] A. Chambolle, T. Pock, J. Math. Imaging Vis. 40 (2011) 120-145. https://doi.org/10.1007/s10851-010-0251-1
    """
    if not radius or memberships.shape[1] == 1 or len(memberships) == 1:
        return memberships
    boundaries = _Boundaries(grid, radius / RADIUS)
    given = grid.to_planes(memberships, fill=1 / memberships.shape[1])
    found, ahead = given.copy(), given.copy()
    forces = np.zeros((2, *given.shape), given.dtype)
    primal, dual, proved = 1.0, 1 / boundaries.norm**2, np.inf
    for done in range(1, MAX_PASSES + 1):
        boundaries.push(forces, ahead, dual)
        before = found
        found = boundaries.divergence(forces)
        found += given
        found *= primal
        found += before
        found /= 1 + primal
        _to_simplex(found)
        faster = 1 / np.sqrt(1 + 2 * primal)
        primal, dual = primal * faster, dual / faster
        np.subtract(found, before, out=ahead)
        ahead *= faster
        ahead += found
        del before
        if done % PASSES_A_LOOK == 0:
            proved = float(np.sqrt(2 * max(0.0, boundaries.gap(found, forces, given))))
        last = proved <= TOLERANCE or done == MAX_PASSES
        execution.report(MAX_PASSES if last else done, MAX_PASSES, STAGE)
        if last:
            break
    if proved > TOLERANCE:
        warn(
            f"regularize={radius:g} px did not converge in {MAX_PASSES} passes: memberships are proved to be within "
            f"{proved:.2g} (root mean square) of those sought, not {TOLERANCE}; take a smaller radius or a larger step",
            ConvergenceWarning,
        )
    return found[:, grid.included].T.astype(np.float32, order="C")


def regularized_bytes(n_grid: int, n_phases: int) -> float:
    """Memory of `regularized`, with the memberships given and returned."""
    return 4.0 * n_grid * n_phases * HELD_PLANES


class _Boundaries:
    """Differences between neighbouring windows, and the forces that resist them.

    A window has a neighbour below and one to the right, if both are included. Forces (2, k, ny, nx) are the dual
    variables: for each phase and window a vector no longer than the weight.
    """

    def __init__(self, grid: Grid, weight: float) -> None:
        # The gradient is one of pixels; in units of a step the weight is smaller.
        self.along = [weight / step for step in grid.step]
        included = grid.included
        self.missing = None if grid.full else (~(included[1:] & included[:-1]), ~(included[:, 1:] & included[:, :-1]))
        self.n = int(included.sum())
        self.norm = 2 * float(np.linalg.norm(self.along))

    def differences(self, planes: Array) -> tuple[Array, Array]:
        """Weighted differences to the windows below (k, ny - 1, nx), and to the right (k, ny, nx - 1)."""
        down, right = np.diff(planes, axis=1), np.diff(planes, axis=2)
        down *= planes.dtype.type(self.along[0])
        right *= planes.dtype.type(self.along[1])
        if self.missing is not None:
            down[:, self.missing[0]] = 0
            right[:, self.missing[1]] = 0
        return down, right

    def push(self, forces: Array, planes: Array, rate: float) -> None:
        """Forces grow with the differences, up to length 1; in place."""
        down, right = self.differences(planes)
        down *= planes.dtype.type(rate)
        right *= planes.dtype.type(rate)
        forces[0][:, :-1] += down
        forces[1][:, :, :-1] += right
        del down, right
        length = np.hypot(forces[0], forces[1])
        np.maximum(length, 1, out=length)
        forces /= length

    def divergence(self, forces: Array) -> Array:
        """Minus the transpose of `differences`, of the forces: where these push the memberships to."""
        result = np.zeros_like(forces[0])
        for force, factor, low, high in (
            (forces[0], self.along[0], np.s_[:, :-1], np.s_[:, 1:]),
            (forces[1], self.along[1], np.s_[:, :, :-1], np.s_[:, :, 1:]),
        ):
            flow = force[low] * force.dtype.type(factor)
            result[low] += flow
            result[high] -= flow
        return result

    def gap(self, found: Array, forces: Array, given: Array) -> float:
        """Duality gap divided by the number of windows: at least half the mean square distance from the minimum."""
        best = self.divergence(forces)
        best += given
        towards = best.copy()
        _to_simplex(best)
        towards -= given
        towards *= best
        # The least that any memberships reach against these forces.
        least = _half_squares(best, given) - float(towards.sum(dtype=np.float64))
        del best, towards
        down, right = self.differences(found)
        squares = np.zeros_like(found)
        squares[:, :-1] = np.square(down, out=down)
        squares[:, :, :-1] += np.square(right, out=right)
        reached = _half_squares(found, given) + float(np.sqrt(squares, out=squares).sum(dtype=np.float64))
        return (reached - least) / self.n


def _half_squares(a: Array, b: Array) -> float:
    difference = a - b
    return 0.5 * float(np.square(difference, out=difference).sum(dtype=np.float64))


def _to_simplex(planes: Array) -> None:
    """Make planes (k, ny, nx) the nearest ones that are not negative and sum to 1 in each window; in place.

    By the threshold of the sorted values: M. Held, P. Wolfe, H. P. Crowder, Math. Program. 6 (1974) 62-88,
    doi:10.1007/BF01580223.
    """
    k = len(planes)
    falling = -np.sort(-planes, axis=0)
    total = falling[0] - 1
    threshold = total.copy()
    for j in range(1, k):
        total += falling[j]
        # The threshold is the largest of those that the largest j + 1 values give, for any j.
        np.maximum(threshold, total / planes.dtype.type(j + 1), out=threshold)
    planes -= threshold
    np.maximum(planes, 0, out=planes)
