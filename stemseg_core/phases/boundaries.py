"""Where phases end: windows that are sure of their phase say how to tell phases apart in smaller windows.

A large window knows the lattice well and the place badly, a small one the reverse. Phases are found in large windows
(`stemseg_core.phases.multiscale`). Here, small windows that lie deep in a phase give its mean spectrum and the scatter
within phases; what is between phases over what is within them (Fisher's linear discriminant) then judges every window.
What varies within a phase, such as thickness, drift and noise, does not count, nor does what changes from one window to
the next: disorder at an interface, the place of a window in a large cell, a step of intensity at an edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from stemseg_core.rows.sources import ArrayRows
from stemseg_core.rows.transitional import run
from stemseg_core.system.threads import one_blas_thread

Array = NDArray[Any]

#: Share of the windows of a phase, those farthest from its boundary, that teach what it looks like.
DEEP = 0.5
#: Part of the mean variance that is added to the scatter within phases in every direction.
RIDGE = 1e-2
#: A phase is present where it is thicker than twice the first of these shares of a window, and around it as far as the
#: second.
THICK, NEAR = 0.375, 1.0
#: A window may be that much farther, in squares of the scatter and for each coordinate, from a mixture of phases than
#: from a phase of its own, and still be taken for a mixture.
MIXTURE = 2.0
#: Rounds in which thin rims are dissolved.
ROUNDS = 2
#: Variance of the Gaussians of memberships, at least, in that of the windows about the means of their phases; and that
#: of windows which are alike but for rounding.
LEAST_SPREAD, ROUNDING = 12.0, 1e-6


def deep_windows(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Of a map (ny, nx): the windows of each phase that are farthest from windows of others; -1 is of no phase."""
    deep = np.zeros(labels.shape, bool)
    for phase in range(labels.max() + 1):
        inside = labels == phase
        if inside.any():
            depth = depth_of(inside, (1.0, 1.0))
            deep |= inside & (depth >= np.quantile(depth[inside], 1 - DEEP))
    return deep


def depth_of(inside: NDArray[np.bool_], sampling: tuple[float, float]) -> Array:
    """Distance of each place to the next one outside; what is beyond the edge of the map is as the edge."""
    padded = np.pad(inside, 1, mode="edge")
    depth: Array = distance_transform_edt(padded, sampling=sampling)[1:-1, 1:-1]
    return depth


def discriminate(
    scores: Array, labels: NDArray[np.int32], k: int, change: Array, **threads: Any
) -> tuple[Array, Array] | None:
    """Coordinates (n, q) of scores (n, r) in which phases differ, and those (k, q) of the phases; q is k - 1, or r.

    `labels` (n,) are phases of the windows that are learnt from, and -1. The scatter within phases, to which every
    phase contributes alike, and the covariance `change` (r, r) of what changes from window to window, scaled to the
    same trace, add up to the unit matrix in these coordinates. None if a phase has fewer than two windows.
    """
    threads = {"stage": "boundaries", **threads}
    sums, counts = phase_sums(scores, labels, k, **threads)
    if counts.min() < 2:
        return None
    with one_blas_thread():
        means = sums / counts[:, np.newaxis]
        within = run(_within_block, ArrayRows(scores), means, 1 / (k * counts), along=(labels,), **threads)[0]
        changed = np.trace(change)
        within += change * (np.trace(within) / changed if changed > 0 else 0.0)
        within += (RIDGE * np.trace(within) / len(within) or 1.0) * np.eye(len(within))
        root = scipy.linalg.cholesky(within, lower=True)
        center = means.mean(axis=0)
        between = scipy.linalg.solve_triangular(root, (means - center).T, lower=True)
        directions = np.linalg.svd(between, full_matrices=False)[0][:, : k - 1]
        to_coordinates = scipy.linalg.solve_triangular(root.T, directions, lower=False)
        found = np.empty((len(scores), to_coordinates.shape[1]), np.float32)
        run(_coordinates_block, ArrayRows(scores), center, to_coordinates, out=(found,), **threads)
        return found, (means - center) @ to_coordinates


def phase_sums(rows: Array, labels: Array, k: int, **threads: Any) -> tuple[Array, Array]:
    """Sums (k, r) of the rows (n, r) of each phase, and how many these are (k,)."""
    sums, counts = run(_sums_block, ArrayRows(rows), k, along=(labels,), **threads)
    return sums, counts


def _sums_block(block: Array, labels: Array, k: int) -> tuple[None, tuple[Array, Array]]:
    members = (labels == np.arange(k)[:, np.newaxis]).astype(np.float64)
    return None, (members @ block, members.sum(axis=1))


def _within_block(block: Array, labels: Array, means: Array, weights: Array) -> tuple[None, tuple[Array]]:
    chosen = labels >= 0
    rest = block[chosen] - means[labels[chosen]]
    return None, ((rest * weights[labels[chosen], np.newaxis]).T @ rest,)


def _coordinates_block(block: Array, center: Array, to_coordinates: Array) -> tuple[tuple[Array], None]:
    return ((block - center) @ to_coordinates,), None


def without_rims(
    points: Array, means: Array, included: NDArray[np.bool_], window: tuple[int, int], step: tuple[int, int]
) -> Array:
    """Squared distances (n, k) of windows to phases, no least one to those they are not of: thin rims are dissolved.

    Between two phases there are windows that hold some of both. Their spectra may be those of a third phase: the
    lattices of two grains together look like one of an orientation in between. So a window of a phase that is nowhere
    near as thick as a window is compared with the mixtures of two phases that are, and if one of them does as well, the
    window is of one of these: to its own phase it is then as far, and `MIXTURE` farther, for which it is, is not sure.
    A thin layer with a lattice of its own stays.

    Parameters
    ----------
    points : ndarray of shape (n, q)
        Windows, in the coordinates of `discriminate`.
    means : ndarray of shape (k, q)
    included : ndarray of bool of shape (ny, nx)
        Where on the grid there are windows; these are the rows of `points`, in order.
    window, step : (int, int)
        In pixels.

    References
    ----------
    The linear mixture of two endmembers is that of N. Keshava and J. F. Mustard, IEEE Signal Process. Mag. 19 (2002)
    44-57, doi:10.1109/79.974727.
    """
    k, tolerance = len(means), MIXTURE * means.shape[1]
    squares = squares_to(points, means)
    allowed = np.ones(squares.shape, bool)
    labels = np.full(included.shape, -1, np.int32)
    for _ in range(ROUNDS):
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
    """Where a phase may be: not farther than a window from where it is thick."""
    shares = (step[0] / window[0], step[1] / window[1])
    thick = depth_of(inside, shares) > THICK if inside.any() else inside
    if not thick.any():
        return thick
    near: NDArray[np.bool_] = distance_transform_edt(~thick, sampling=shares) <= NEAR
    return near


def _to_mixtures(points: Array, means: Array, near: NDArray[np.bool_]) -> Array:
    """Least squared distance of points (m, q) to a mean, or to a line between two, of the phases that are near."""
    least = np.where(near, squares_to(points, means), np.inf).min(axis=1, initial=np.inf)
    for a in range(len(means)):
        for b in range(a + 1, len(means)):
            both = np.flatnonzero(near[:, a] & near[:, b])
            way = means[b] - means[a]
            if len(both) and way.any():
                from_a = points[both] - means[a]
                share = np.clip(from_a @ way / (way @ way), 0, 1)[:, np.newaxis]
                least[both] = np.minimum(least[both], ((from_a - share * way) ** 2).sum(axis=1))
    return least


def squares_to(points: Array, means: Array) -> Array:
    """Squared distances (n, k) of points to means, which have coordinates of unit scatter: no digits to lose."""
    with one_blas_thread():
        squares: Array = points @ (-2 * means.T)
    squares += (means**2).sum(axis=1)
    squares += np.einsum("ij,ij->i", points, points)[:, np.newaxis]
    return np.maximum(squares, 0, out=squares)


def memberships_of(points: Array, squares: Array) -> NDArray[np.float32]:
    """Memberships (n, k), rows sum to 1, under equal round Gaussians, from squared distances to the means of phases.

    Their variance is that of all windows about the means of their phases, those near boundaries included: of a gradual
    change, which has no gap between its ends, it is large. It is widened such that half of the windows are sure of
    their phase to 0.95, and by `LEAST_SPREAD` at least: phases that hardly differ are never sure. Coordinates of
    several scales say much the same, and count as one.
    """
    own, k = squares.argmin(axis=1), squares.shape[1]
    centers = np.zeros((k, points.shape[1]), points.dtype)
    for phase in np.unique(own):
        centers[phase] = points[own == phase].mean(axis=0)
    variance = max(ROUNDING, float(((points - centers[own]) ** 2).sum(axis=1).mean()) / points.shape[1])
    squares = squares - squares.min(axis=1, keepdims=True)
    squares /= variance * max(1, points.shape[1] // max(1, k - 1))
    spread = LEAST_SPREAD
    if k > 1:
        lead = np.partition(squares, 1, axis=1)[:, 1]
        spread = max(spread, float(np.median(lead)) / 6)
    weights = np.exp(-squares / (2 * spread))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
