"""Windows as mixtures of pure ones, which are found by an endmember estimator and must not be defects.

What is a defect for endmembers is kept from NMF as well, whose parts have no pure windows to go by.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.boundaries import depth_of
from stemseg_core.rows.sources import ArrayRows, MaskedRows
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.endmembers import Endmembers
from stemseg_core.stages.projections import RankError
from stemseg_core.windows.grid import Grid

Array = NDArray[Any]

#: Windows are of an endmember that they have more than this share of.
PURE = 0.7
#: Windows with more than this share of a defect see it.
SEEN = 0.4
#: Share of the windows that may be left out as defects: more are none.
MOST = 0.25


def mixed_from_pure(estimator: Endmembers, scores: Array, grid: Grid, **limits: Any) -> tuple[Array, NDArray[np.bool_]]:
    """Shares (n, k) of endmembers among rows (n, r) of scores that are no defects, and which rows see none, (n,).

    A hot pixel, a speck or a line of bad pixels is in all windows that see it, and in no others: the windows that are
    much like it lie in a spot or a band no wider than a window. So an endmember that is found only in places as thin as
    that is taken for a defect. Its windows are left out, and the endmembers are looked for again among the others; all
    windows get their shares. If more than a quarter of the windows would have to be left out, or the others are too
    much alike to have so many endmembers, the first ones stand, and there are no defects.

    Parameters
    ----------
    estimator : Endmembers
        Fitted here.
    scores : ndarray of shape (n, r)
        One row for each included window.
    grid : Grid
    **limits
        ``n_jobs``, ``max_memory`` and ``progress`` of `abundances`.
    """
    first = found = abundances(scores, estimator.fit(scores).components_, **limits)
    every = np.ones(len(scores), bool)
    kept, clear = every.copy(), every.copy()
    while True:
        pure = (found > PURE) & kept[:, np.newaxis]
        defects = [j for j in range(pure.shape[1]) if not _thick(pure[:, j], grid)]
        if not defects:
            return found, clear if clear.mean() >= 1 - MOST else kept
        kept &= ~pure[:, defects].any(axis=1)
        clear &= ~(found[:, defects] > SEEN).any(axis=1)
        if kept.mean() < 1 - MOST or not pure[:, defects].any():
            return first, every
        try:
            estimator.fit(MaskedRows(ArrayRows(scores), kept))
        except RankError:  # too few dimensions without the defects
            return first, every
        found = abundances(scores, estimator.components_, **limits)


def mixing_bytes(estimator: Endmembers, n: int) -> float:
    """Memory of `mixed_from_pure` beside the scores: the search, or shares; and the first shares, with what is pure."""
    k = estimator.n_components
    search = estimator.predicted_bytes(n, k, np.float64)  # whatever the features and their type
    return max(search, 4.0 * n * k) + n * (4 * k + k + 3)


def _thick(inside: NDArray[np.bool_], grid: Grid) -> bool:
    """Whether some of the windows (n,) lie deeper in the others than in those that see one pixel: half a window."""
    shares = (grid.step[0] / grid.window[0], grid.step[1] / grid.window[1])
    # So many windows of a row see a pixel; that in the middle is half as many steps from the next that does not.
    of_one_pixel = max((ceil(1 / share) + 1) // 2 * share for share in shares)
    return bool(inside.any() and depth_of(grid.to_map(inside, False), shares).max() > of_one_pixel)
