"""Regions of a map of labels, and what becomes of those too small to be meant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from stemseg_core.windows.grid import nearest_values

#: Bytes a pixel while small regions are given away: labels before and after, numbers of regions, nearest pixels. It
#: predicts memory only.
BYTES_A_PIXEL = 42


def without_small_regions(labels: NDArray[np.int32], min_area: int) -> NDArray[np.int32]:
    """Labels without regions smaller than `min_area`: their pixels are of the phase of the nearest pixel that stays.

    A region is a set of pixels of one phase that are connected by their edges. If all are too small, the largest stays;
    of equally large ones, the one with the first pixel. Regions that excluded pixels cut off from all others may stay
    small.

    Parameters
    ----------
    labels : ndarray of shape (y, x), int32
        -1: excluded, and left as it is.
    min_area : int
        In pixels.

    Returns
    -------
    ndarray of shape (y, x), int32
        New where something changes.

    Notes
    -----
    Small regions are given away in rounds until none is left that can be. Pixels of regions that stay do not change,
    hence the rounds end; one is nearly always enough. Cost: some 50 ns a pixel and phase, and 200 ns a pixel for each
    round.
    """
    while min_area > 1:
        small = _small(labels, min_area)
        if not small.any():
            break
        given = labels.copy()
        given[small] = nearest_values(labels, ~small & (labels >= 0), small)
        if (given == labels).all():
            break
        labels = given
    return labels


def without_small_regions_bytes(n_pixels: int) -> int:
    """Memory of `without_small_regions`, with the labels given and returned."""
    return BYTES_A_PIXEL * n_pixels


def _small(labels: NDArray[np.int32], min_area: int) -> NDArray[np.bool_]:
    """Pixels of the regions that are to be given away."""
    regions, n = np.zeros(labels.shape, np.int32), 0
    for phase in range(labels.max() + 1):
        own, n_own = label(labels == phase)
        np.add(regions, own + np.int32(n), out=regions, where=own > 0)
        n += n_own
    areas = np.bincount(regions.ravel(), minlength=n + 1)
    areas[0] = 0  # of no phase
    small = areas < min_area
    if small.all():
        largest = np.isin(regions, np.flatnonzero(areas == areas.max()))
        small[regions.flat[largest.argmax()]] = False
    small[0] = False
    found: NDArray[np.bool_] = small[regions]
    return found
