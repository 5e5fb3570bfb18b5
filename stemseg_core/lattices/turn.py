"""How the lattice of a phase is turned from place to place, relative to its mean."""

from __future__ import annotations

from math import inf, pi

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from stemseg_core.lattices.measure import Cell
from stemseg_core.lattices.pairs import LAG, Pairs
from stemseg_core.system.types import Array

#: Reflections whose phase steps are followed, the strongest. Twice as many: twice the time, little less noise.
MOST_FOLLOWED = 8
#: Standard deviation of the mean over neighbouring pairs, in steps from one window to the next, a quarter of a window.
#: Twice as much: half the noise and half the resolution.
SMOOTH = 1.5
#: Mean cosine of the phase steps about their mean from which a place has a turn. Twice as much cannot be; half: turns
#: of what is hardly a lattice.
LEAST_AGREEMENT = 0.4


def local_turn(
    image: Array,
    region: NDArray[np.bool_],
    cell: Cell,
    places: NDArray[np.float64],
    pixel_size: tuple[float, float] | None,
) -> NDArray[np.float32]:
    """Turn (n,) of the lattice at places (n, 2), in degrees clockwise from its mean; NaN where it is not seen.

    The phase steps of its reflections, averaged over a window or so, give the local reciprocal vectors by least
    squares, as those of the region are found. The rotation is that nearest to what takes the mean ones to them.

    Parameters
    ----------
    image : ndarray of shape (y, x)
    region : ndarray of shape (y, x), bool
    cell : Cell
        Lattice of the region.
    places : ndarray of shape (n, 2), float64
        (y, x) in pixels.
    pixel_size : (float, float) or None

    Notes
    -----
    Related to geometric phase analysis (Hytch, Snoeck, Kilaas, Ultramicroscopy 74 (1998) 131,
    doi:10.1016/S0304-3991(98)00035-7), with phase steps over a fixed lag in place of a gradient of unwrapped phases.
    """
    turn = np.full(len(places), np.nan, np.float32)
    pairs = Pairs.within(image, region, cell.sides, inf)
    if pairs is None:
        return turn
    followed = _followed(cell.indices)
    if followed is None:
        return turn
    indices, weights = cell.indices[followed], cell.weights[:, followed]
    near = indices @ cell.reciprocal[0]
    first, *mates = np.moveaxis(pairs.coefficients(near), 1, 0)
    pitch = np.array(pairs.lag) // LAG
    on_grid = pairs.starts // pitch
    shape = (*(on_grid.max(axis=0) + 1), len(indices))
    local = np.empty((len(places), 2, 2))
    seen = np.ones(len(places), bool)
    for axis, mate in enumerate(mates):
        there = pairs.mates[axis]
        lag = pairs.lag[axis]
        steps = np.zeros(shape, np.complex128)
        # A pair has one vote, as it has for the reflections; a strong place does not blur what is beside it.
        products = mate[there] * first[there].conj() * np.exp(-2j * pi * near[:, axis] * lag)
        steps[tuple(on_grid[there].T)] = products / np.maximum(np.abs(products), np.finfo(float).tiny)
        votes = np.zeros(shape[:2])
        votes[tuple(on_grid[there].T)] = 1
        middle = (np.array(pairs.sides) - 1) / 2 + np.where(np.arange(2) == axis, lag / 2, 0) + pairs.origin
        at = ((places - middle) / pitch).T
        mean = np.stack([_smoothed_at(steps[..., i], at) for i in range(len(indices))], axis=1)
        number = np.maximum(_smoothed_at(votes, at).real, np.finfo(float).tiny)
        w = weights[axis]
        seen &= (np.abs(mean) @ w / w.sum() / number > LEAST_AGREEMENT) & (number > 0.25)
        offsets = np.angle(mean) / (2 * pi * lag)
        fit = np.linalg.pinv(indices * w[:, np.newaxis]) * w
        local[:, :, axis] = cell.reciprocal[0, :, axis] + offsets @ fit.T
    size = np.array(pixel_size or (1.0, 1.0))
    change = np.linalg.inv(cell.reciprocal[0] / size) @ (local / size)
    rotation = np.arctan2(change[:, 1, 0] - change[:, 0, 1], change[:, 0, 0] + change[:, 1, 1])
    turn[seen] = np.rad2deg(rotation[seen])
    return turn


def _followed(indices: NDArray[np.intp]) -> NDArray[np.intp] | None:
    """The strongest reflections, not all in one row: the last gives way to one beside it; None if there is none."""
    strongest = np.arange(min(MOST_FOLLOWED, len(indices)))
    h, k = indices.T
    beside = np.flatnonzero(h * k[0] != k * h[0])
    if not len(beside):
        return None
    strongest[-1] = max(strongest[-1], beside[0])
    return strongest


def _smoothed_at(grid: Array, at: NDArray[np.float64]) -> Array:
    """A grid of complex or real numbers, smoothed, between its points at places (2, n)."""
    parts = [gaussian_filter(part, SMOOTH, mode="constant") for part in (grid.real, grid.imag)]
    real, imaginary = (map_coordinates(part, at, order=1, mode="constant") for part in parts)
    return real + 1j * imaginary
