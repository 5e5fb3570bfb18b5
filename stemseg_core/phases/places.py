"""Where the windows of a map lie: how far from other phases, which of them see one phase alone."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.ndimage import label as label_pieces

from stemseg_core.phases.boundaries import depth_of
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid

#: Distance from a window of another phase, in sides of a window, up to which a window sees both; the other windows are
#: the core of their phase. Twice as much: cores without any mixture, but none in small phases.
MIXED_REACH = 0.4
#: Smallest piece of a core, in areas of a window: smaller ones are chance, or fringes of lattice and grid. Twice as
#: much: phases must be larger to be counted.
MIN_CORE_AREA = 0.5
#: Distance from another phase, in sides of a window, up to which windows are compared with those of that phase. Twice
#: as much: what varies far from both counts as well.
BESIDE = 2.0
#: Share of a core that must lie so near; of phases that touch less, the whole cores are compared. Twice as much: phases
#: that touch in one place are compared as a whole.
TOUCHING = 0.25
#: Standard deviations of `smooth` that count as a side of a window: smoothing over 12 pixels makes of a window of 64
#: one of 88 pixels. Twice as many: fewer windows, and limits that are higher for small images.
SMOOTHED_SIDE = 5.0
#: Standard deviation of the smooth step that windows see of a sharp boundary, in sides of a window as smoothing makes
#: them. Twice as much: changes over two windows count as boundaries.
SHARP = 0.25
#: Widths of steps that are tried, in that of a sharp one. Twice the largest: what changes even more slowly counts less.
WIDTHS = (1.0, 1.4, 2.0, 2.8, 4.0)
#: Fewest windows of a phase that directions are learnt from, beside those that are judged. Twice as many: small phases
#: are not judged.
MIN_TEACHERS = 4


class Places:
    """Where the windows of phases lie; distances are in sides of a window.

    Attributes
    ----------
    labels : ndarray of shape (n,)
        Phase of each window.
    distance : ndarray of shape (n, k)
        Of each window from the nearest one of each phase.
    cores : list of ndarray of bool of shape (n,)
        Which windows are the core of each phase.
    smallest : float
        Windows that the largest piece of a core must hold.
    have_cores : bool
        Whether every phase has a core with a piece that is large enough.
    depth : ndarray of shape (k,)
        Of the middle of each phase.
    centers : ndarray of shape (n, 2)
        Of the windows.
    fold : ndarray of shape (n,)
        Number, 0 to 3, of the blocks that a window lies in.
    n_disjoint : float
        Windows, as large as smoothing makes them, that cover the included part of the map side by side.
    """

    def __init__(self, grid: Grid, labels: Array, k: int, smooth: float) -> None:
        self.labels, self._included = labels, grid.included
        spacing = (grid.step[0] / grid.window[0], grid.step[1] / grid.window[1])
        of_phase = self._maps = [grid.to_map(labels == phase, fill=False) for phase in range(k)]
        filled = [bool(here.any()) for here in of_phase]
        self.distance = np.stack(
            [
                distance_transform_edt(~here, sampling=spacing)[grid.included] if some else np.full(len(labels), np.inf)
                for here, some in zip(of_phase, filled, strict=True)
            ],
            axis=1,
        )
        others = self.distance.copy()
        others[np.arange(len(labels)), labels] = np.inf
        core = others.min(axis=1) > MIXED_REACH
        self.cores = [core & (labels == phase) for phase in range(k)]
        self.smallest = max(2 * MIN_TEACHERS, MIN_CORE_AREA / (spacing[0] * spacing[1]))
        self.have_cores = all(
            _largest_piece(grid.to_map(members, fill=False)) >= self.smallest for members in self.cores
        )
        self.depth = np.array([depth_of(here, spacing).max() for here in of_phase])
        self.centers = np.stack(np.nonzero(grid.included), axis=1) * spacing
        sides = np.hypot(grid.window, SMOOTHED_SIDE * smooth) / grid.window
        self._sharp = SHARP * sides / spacing
        by, bx = (np.floor(self.centers / sides).astype(int) % 2).T
        self.fold = 2 * by + bx
        box = [np.ptp(places) + 1 for places in np.nonzero(grid.included)]
        covered = np.prod([(n - 1) * s + 1 for n, s in zip(box, spacing, strict=True)])
        share = len(labels) / np.prod(box)
        self.n_disjoint = max(1.0, float(covered * share / np.prod(sides)))

    def beside(self, i: int, j: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which windows (n,) of the cores of two phases are compared: those near the other, if there are enough."""
        core_i, core_j = self.cores[i], self.cores[j]
        near_i, near_j = core_i & (self.distance[:, j] < BESIDE), core_j & (self.distance[:, i] < BESIDE)
        smaller = min(np.count_nonzero(core_i), np.count_nonzero(core_j))
        touching = min(np.count_nonzero(near_i), np.count_nonzero(near_j)) >= TOUCHING * smaller
        return (near_i, near_j) if touching else (core_i, core_j)

    def between(self, i: int, j: int) -> NDArray[np.bool_]:
        """Which windows (n,) of two phases are near the other one, the mixed ones too, and see none of a third."""
        both = (self.labels == i) | (self.labels == j)
        third = np.delete(self.distance, [i, j], axis=1).min(axis=1, initial=np.inf)
        near: NDArray[np.bool_] = both & (self.distance[:, [i, j]].max(axis=1) < BESIDE) & (third > MIXED_REACH)
        return near

    def plane(self, chosen: NDArray[np.bool_]) -> Array:
        """What a plane over some windows is made of, one row a window."""
        centers = self.centers[chosen]
        return np.column_stack([np.ones(len(centers)), centers - centers.mean(axis=0)])

    @cached_property
    def shares(self) -> list[Array]:
        """Shares (n, k) of the phases about each window, for each of `WIDTHS`."""
        phases = np.stack(self._maps).astype(np.float64)
        return [
            gaussian_filter(phases, (0, *(width * self._sharp)), mode="nearest", truncate=3)[:, self._included].T
            for width in WIDTHS
        ]


def _largest_piece(inside: NDArray[np.bool_]) -> int:
    """Number of windows (ny, nx) of the largest piece that hangs together, corners included."""
    pieces, n = label_pieces(inside, structure=np.ones((3, 3)))
    return int(np.bincount(pieces.ravel())[1:].max()) if n else 0
