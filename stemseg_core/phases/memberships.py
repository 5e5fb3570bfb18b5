"""Memberships of windows in phases: from distances or weights, their margin, and the order of phases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stemseg_core.system.types import Array

#: Rows that are divided by their sums at once: a bound on memory. Twice as many need twice the scratch memory.
BLOCK_ROWS = 8192


def posterior(squared_distances: Array, variance: float) -> NDArray[np.float32]:
    """Memberships (n, k) under equal round Gaussians of the given variance about k centres; rows sum to 1."""
    excess = squared_distances - squared_distances.min(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # without variance the nearest centre takes all
        weight = np.exp(-excess / (2 * max(variance, np.finfo(np.float64).tiny)))
    return (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def sum_to_one(weights: Array) -> NDArray[np.float32]:
    """Rows (n, k) divided by their sums, negative weights taken as 0; a row of zeros becomes 1 / k throughout.

    float32 rows are changed in place.
    """
    result = weights.astype(np.float32, copy=False)
    for start in range(0, len(weights), BLOCK_ROWS):
        block = np.maximum(weights[start : start + BLOCK_ROWS], 0)
        total = block.sum(axis=1, keepdims=True)
        np.divide(block, total, out=block, where=total > 0)
        result[start : start + BLOCK_ROWS] = np.where(total > 0, block, 1 / block.shape[1])
    return result


def order_by_size(label_image: NDArray[np.int32], k: int) -> Sequence[int]:
    """Phases by falling number of pixels; ties go by the first pixel, and phases without a pixel come last."""
    flat = label_image.ravel()

    def key(phase: int) -> tuple[int, int, int]:
        found = flat == phase
        count = int(np.count_nonzero(found))
        return -count, int(found.argmax()) if count else flat.size, phase

    return sorted(range(k), key=key)


def margin(planes: Array) -> Array:
    """How far the largest of the values (k, y, x) of a place is above the second, (y, x); NaN if k is 1."""
    if len(planes) == 1:
        return np.full_like(planes[0], np.nan)
    best, second = planes[0].copy(), np.zeros_like(planes[0])
    for plane in planes[1:]:
        np.maximum(second, np.minimum(best, plane), out=second)
        np.maximum(best, plane, out=best)
    best -= second
    return best
