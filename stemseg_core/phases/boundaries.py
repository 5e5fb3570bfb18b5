"""Where phases end: windows that are sure of their phase say how to tell phases apart in smaller windows.

A large window shows the lattice well and the boundary badly, a small window the reverse. Phases are found in large
windows (`stemseg_core.phases.multiscale`). Here, small windows that lie deep in a phase give its mean spectrum and the
scatter within phases. Fisher's linear discriminant, the scatter between phases over that within phases, then judges
every window. Whatever varies within a phase, such as thickness, drift and noise, does not count. Whatever changes from
one window to the next does not count either: disorder at an interface, the position of a window in a large unit cell,
a step of intensity at an edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from stemseg_core.rows.sources import ArrayRows
from stemseg_core.system.execution import Execution
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array, Partial

#: Share of the windows of a phase that teach what it looks like: those farthest from its boundary. Twice as much: all
#: windows teach, mixtures at the boundary too.
DEEP_SHARE = 0.5
#: Part of the mean variance that is added to the scatter within phases in every direction: scatter that is small deep
#: in the phases need not be small beside a boundary. Twice as much: directions of little scatter count less.
RIDGE = 0.3
#: Depth of the middle of a phase, in sides of a window, from which on the phase is present there. Twice as much: layers
#: thinner than one and a half windows may be taken for rims.
THICK = 0.375
#: Distance from there, in sides of a window, up to which the phase is present. Twice as much: windows are compared with
#: mixtures of phases farther away.
NEAR = 1.0
#: How much larger the squared distance to a mixture may be than that to a phase, for each coordinate and in squares of
#: the scatter, for the window to be taken for a mixture. Twice as much: more layers are dissolved.
MIXTURE_TOLERANCE = 2.0
#: Rounds in which thin rims are dissolved: the phases beside a rim grow, and explain the next one. Twice as many: wider
#: rims go too.
RIM_ROUNDS = 2
#: Least variance of the Gaussians of memberships, in variances of the windows about the means of their phases. Twice as
#: much: phases that hardly differ are less sure.
MIN_VARIANCE = 12.0
#: Variance of windows that are equal but for rounding, in squares of the scatter; smaller ones count as this one.
ROUNDING_VARIANCE = 1e-6


class PhaseSums(NamedTuple):
    """Sums (k, r) of the rows of each phase, and their numbers (k,)."""

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Discriminant:
    """Windows in coordinates in which phases differ, and the scatter within phases has variance 1.

    Attributes
    ----------
    points : ndarray of shape (n, q), float32
        One row a window; q is k - 1, or r if that is less.
    means : ndarray of shape (k, q), float64
        One row a phase.
    """

    points: NDArray[np.float32]
    means: NDArray[np.float64]


def deep_windows(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which windows of a map (ny, nx) are the farthest of their phase from windows of others; -1 is of no phase."""
    deep = np.zeros(labels.shape, bool)
    for phase in range(labels.max() + 1):
        inside = labels == phase
        if inside.any():
            depth = depth_of(inside, (1.0, 1.0))
            deep |= inside & (depth >= np.quantile(depth[inside], 1 - DEEP_SHARE))
    return deep


def depth_of(inside: NDArray[np.bool_], sampling: tuple[float, float]) -> Array:
    """Distance of each window (ny, nx) from the nearest one outside; beyond the edge the map goes on as at the edge."""
    padded = np.pad(inside, 1, mode="edge")
    depth: Array = distance_transform_edt(padded, sampling=sampling)[1:-1, 1:-1]
    return depth


def discriminate(
    scores: Array, labels: NDArray[np.int32], k: int, noise: Array, execution: Execution
) -> Discriminant | None:
    """Coordinates in which phases differ, learnt from windows whose phase is known.

    Parameters
    ----------
    scores : ndarray of shape (n, r)
    labels : ndarray of shape (n,), int32
        Phases of the windows that are learnt from; -1 of the others.
    k : int
        Number of phases.
    noise : ndarray of shape (r, r)
        Covariance of what changes from one window to the next, as of `Grid.noise_covariance`.
    execution : Execution

    Returns
    -------
    Discriminant or None
        None if a phase has fewer than two windows.

    Notes
    -----
    The scatter within phases, to which every phase contributes alike, and the covariance `noise`, scaled to the same
    trace, add up to the unit matrix in these coordinates, with `RIDGE` times their mean variance in every direction.
    Without it, directions whose scatter deep in the phases is small by chance would decide.
    """
    execution = execution.called("boundaries")
    sums, counts = phase_sums(scores, labels, k, execution)
    if counts.min() < 2:
        return None
    with one_blas_thread():
        means = sums / counts[:, np.newaxis]
        (within,) = execution.run(_within_block, ArrayRows(scores), means, 1 / (k * counts), along=(labels,))
        noise_trace = np.trace(noise)
        within += noise * (np.trace(within) / noise_trace if noise_trace > 0 else 0.0)
        within += (RIDGE * np.trace(within) / len(within) or 1.0) * np.eye(len(within))
        root = scipy.linalg.cholesky(within, lower=True)
        center = means.mean(axis=0)
        whitened_means = scipy.linalg.solve_triangular(root, (means - center).T, lower=True)
        axes = np.linalg.svd(whitened_means, full_matrices=False)[0][:, : k - 1]
        to_coordinates = scipy.linalg.solve_triangular(root.T, axes, lower=False)
        points = np.empty((len(scores), to_coordinates.shape[1]), np.float32)
        execution.run(_coordinates_block, ArrayRows(scores), center, to_coordinates, out=(points,))
        return Discriminant(points=points, means=(means - center) @ to_coordinates)


def phase_sums(rows: Array, labels: Array, k: int, execution: Execution) -> PhaseSums:
    """Sums of the rows (n, r) of each phase."""
    sums, counts = execution.run(_sums_block, ArrayRows(rows), k, along=(labels,))
    return PhaseSums(sums=sums, counts=counts)


def _sums_block(block: Array, labels: Array, k: int) -> tuple[None, Partial]:
    members = (labels == np.arange(k)[:, np.newaxis]).astype(np.float64)
    return None, (members @ block, members.sum(axis=1))


def _within_block(block: Array, labels: Array, means: Array, weights: Array) -> tuple[None, Partial]:
    known = labels >= 0
    deviations = block[known] - means[labels[known]]
    return None, ((deviations * weights[labels[known], np.newaxis]).T @ deviations,)


def _coordinates_block(block: Array, center: Array, to_coordinates: Array) -> tuple[Partial, None]:
    return ((block - center) @ to_coordinates,), None


def without_rims(
    points: Array, means: Array, included: NDArray[np.bool_], window: tuple[int, int], step: tuple[int, int]
) -> Array:
    """Squared distances (n, k) of windows to phases, among which a thin rim between two phases is nearest to these.

    A window between two phases sees some of both. Its spectrum may be that of a third phase: the lattices of two grains
    together look like one of an orientation in between. So a window of a phase that is nowhere near as thick as a
    window is compared with the mixtures of two phases that are. If one of these explains it as well, the window goes to
    the nearer of the two. Its own phase is then put no nearer than that and `MIXTURE_TOLERANCE` more, because which of
    both is right is not known. A thin layer with a lattice of its own stays.

    Parameters
    ----------
    points : ndarray of shape (n, q)
        Windows, as of `Discriminant`.
    means : ndarray of shape (k, q)
        Phases, as of `Discriminant`.
    included : ndarray of bool of shape (ny, nx)
        Which windows of the grid are rows of `points`, in grid order.
    window, step : (int, int)
        In pixels, (y, x).

    References
    ----------
    The linear mixture of two endmembers is that of N. Keshava and J. F. Mustard, IEEE Signal Process. Mag. 19 (2002)
    44-57, doi:10.1109/79.974727.
    """
    k, tolerance = len(means), MIXTURE_TOLERANCE * means.shape[1]
    squares = squares_to(points, means)
    allowed = np.ones(squares.shape, bool)
    labels = np.full(included.shape, -1, np.int32)
    for _ in range(RIM_ROUNDS):
        own = np.where(allowed, squares, np.inf).argmin(axis=1)
        labels[included] = own
        near = np.stack([_near(labels == phase, window, step)[included] for phase in range(k)], axis=1)
        rim = np.flatnonzero(~near[np.arange(len(own)), own] & near.any(axis=1))
        mixed = rim[_to_mixtures(points[rim], means, near[rim]) <= squares[rim, own[rim]] + tolerance]
        if not len(mixed):
            break
        allowed[mixed] = near[mixed]
    least = np.where(allowed, squares, np.inf).min(axis=1, keepdims=True)
    return np.where(allowed, squares, np.maximum(squares, least + tolerance))


def _near(inside: NDArray[np.bool_], window: tuple[int, int], step: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a phase may be: at most a window from where it is thick."""
    spacing = (step[0] / window[0], step[1] / window[1])  # in sides of a window
    thick = depth_of(inside, spacing) > THICK if inside.any() else inside
    if not thick.any():
        return thick
    near: NDArray[np.bool_] = distance_transform_edt(~thick, sampling=spacing) <= NEAR
    return near


def _to_mixtures(points: Array, means: Array, near: NDArray[np.bool_]) -> Array:
    """Least squared distance (m,) of points (m, q) to the mean of a near phase, or to a line between two near ones."""
    least = np.where(near, squares_to(points, means), np.inf).min(axis=1, initial=np.inf)
    for a in range(len(means)):
        for b in range(a + 1, len(means)):
            both = np.flatnonzero(near[:, a] & near[:, b])
            a_to_b = means[b] - means[a]
            if len(both) and a_to_b.any():
                from_a = points[both] - means[a]
                share_of_b = np.clip(from_a @ a_to_b / (a_to_b @ a_to_b), 0, 1)[:, np.newaxis]
                least[both] = np.minimum(least[both], ((from_a - share_of_b * a_to_b) ** 2).sum(axis=1))
    return least


def squares_to(points: Array, means: Array) -> Array:
    """Squared distances (n, k) of points to means.

    Their coordinates have scatter 1, so that the difference of products loses no digits that count.
    """
    with one_blas_thread():
        squares: Array = points @ (-2 * means.T)
    squares += (means**2).sum(axis=1)
    squares += np.einsum("ij,ij->i", points, points)[:, np.newaxis]
    return np.maximum(squares, 0, out=squares)


def memberships_of(points: Array, squares: Array) -> NDArray[np.float32]:
    """Memberships (n, k) under equal round Gaussians, from squared distances to the means of phases; rows sum to 1.

    The variance is that of all windows about the means of their phases, windows near boundaries included. It is large
    for a gradual change, which has no gap between its ends. It is widened until half of the windows are sure of their
    phase to 0.95, and by `MIN_VARIANCE` at least: phases that hardly differ are never sure. Coordinates of several
    window sizes tell nearly the same, and count as those of one.
    """
    own, k = squares.argmin(axis=1), squares.shape[1]
    centers = np.zeros((k, points.shape[1]), points.dtype)
    for phase in np.unique(own):
        centers[phase] = points[own == phase].mean(axis=0)
    variance = max(ROUNDING_VARIANCE, float(((points - centers[own]) ** 2).sum(axis=1).mean()) / points.shape[1])
    squares = squares - squares.min(axis=1, keepdims=True)
    squares /= variance * max(1, points.shape[1] // max(1, k - 1))
    widening = MIN_VARIANCE
    if k > 1:
        to_second = np.partition(squares, 1, axis=1)[:, 1]
        # exp(-s / 2 w) of the second phase is 0.05 where s = 6 w, that of the first being 1.
        widening = max(widening, float(np.median(to_second)) / 6)
    weights = np.exp(-squares / (2 * widening))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
