"""Windows as mixtures of pure ones, which are found by an endmember estimator and must not be defects.

NMF learns its parts without the windows that see a defect as well; it has no pure windows by which to find them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.boundaries import depth_of
from stemseg_core.rows.sources import ArrayRows, MaskedRows
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.endmembers import Endmembers
from stemseg_core.stages.projections import RankError
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid

#: Abundance from which on a window is pure: of that endmember. Half of it: windows around a defect make it thicker, and
#: fewer defects are found.
PURE = 0.7
#: Abundance of a defect from which on a window sees it. Twice as much: NMF learns from windows that see half of one.
SEEN = 0.4
#: Largest share of the windows that is left out as defects; if more would be, there are none. Twice as much: true
#: phases that are thin everywhere may go.
MAX_DEFECTS = 0.25


@dataclass(frozen=True, eq=False)
class Unmixed:
    """Windows as mixtures of pure ones.

    Attributes
    ----------
    abundances : ndarray of shape (n, k)
        Shares of the endmembers.
    clear : ndarray of bool of shape (n,)
        Which windows see no defect.
    """

    abundances: Array
    clear: NDArray[np.bool_]


def unmix_windows(estimator: Endmembers, scores: Array, grid: Grid, execution: Execution) -> Unmixed:
    """Abundances of endmembers that are no defects, in the windows of a grid.

    A hot pixel, a speck or a line of bad pixels is in all windows that see it, and in no others: the windows that are
    much like it lie in a spot or a band no wider than a window. So an endmember that is found only in places as thin as
    that is taken for a defect. Its windows are left out, and the endmembers are looked for again among the others; all
    windows get their abundances. The first endmembers stand, and there are no defects, if more than a quarter of the
    windows would have to be left out, or if the others have too few dimensions for that many endmembers.

    Parameters
    ----------
    estimator : Endmembers
        Fitted here.
    scores : ndarray of shape (n, r)
        One row for each included window.
    grid : Grid
    execution : Execution
    """

    def mixed() -> Array:
        return abundances(
            scores,
            estimator.components_,
            n_jobs=execution.n_threads,
            max_memory=execution.max_memory,
            progress=execution.progress,
        )

    estimator.fit(scores)
    first = found = mixed()
    kept, clear = (np.ones(len(scores), bool) for _ in range(2))
    while True:
        pure = (found > PURE) & kept[:, np.newaxis]
        defects = [j for j in range(pure.shape[1]) if not _thick(pure[:, j], grid)]
        if not defects:
            return Unmixed(abundances=found, clear=clear if clear.mean() >= 1 - MAX_DEFECTS else kept)
        kept &= ~pure[:, defects].any(axis=1)
        clear &= ~(found[:, defects] > SEEN).any(axis=1)
        if kept.mean() < 1 - MAX_DEFECTS or not pure[:, defects].any():
            break
        try:
            estimator.fit(MaskedRows(ArrayRows(scores), kept))
        except RankError:  # too few dimensions without the defects
            break
        found = mixed()
    return Unmixed(abundances=first, clear=np.ones(len(scores), bool))


def unmix_windows_bytes(estimator: Endmembers, n: int) -> float:
    """Memory of `unmix_windows` beside the scores.

    That is the search, or abundances; and the first abundances, with what is pure.
    """
    k = estimator.n_components
    return max(estimator.search_bytes(n), 4.0 * n * k) + n * (4 * k + k + 3)


def _thick(inside: NDArray[np.bool_], grid: Grid) -> bool:
    """Whether some of the windows (n,) lie deeper than those that see one pixel: half a window."""
    spacing = (grid.step[0] / grid.window[0], grid.step[1] / grid.window[1])  # in sides of a window
    # At most ceil(1 / s) windows side by side see a pixel. From the middle one to the next that does not see it there
    # are half as many steps, rounded up.
    of_one_pixel = max((ceil(1 / s) + 1) // 2 * s for s in spacing)
    return bool(inside.any() and depth_of(grid.to_map(inside, False), spacing).max() > of_one_pixel)
