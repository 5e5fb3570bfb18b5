"""Scores of windows, which methods of `segment` find phases among, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.frequencies import Frequencies
from stemseg_core.phases.separability import best_separated, lowered
from stemseg_core.phases.spectra import Spectra
from stemseg_core.rows.sources import Rows
from stemseg_core.stages.compress import Compressed, compress
from stemseg_core.stages.estimates import ComponentEstimate, Separation
from stemseg_core.system.execution import Execution
from stemseg_core.system.random import as_seed
from stemseg_core.system.types import Array
from stemseg_core.windows.grid import Grid, whiten_noise
from stemseg_core.windows.matrix import WindowMatrix

if TYPE_CHECKING:
    from stemseg_core.phases.parameters import Parameters

#: The number of phases that stands for "find out".
AUTO = "auto"
#: The largest number of phases that is found. Twice as many: counting takes four times as long.
MAX_PHASES = 10


@dataclass(frozen=True, eq=False)
class PhaseMap:
    """What a method finds.

    Attributes
    ----------
    memberships : ndarray of shape (n, k), float32
        Of the included windows in the phases; rows sum to 1.
    partition : bool
        Whether they come from clusters; otherwise they are shares of endmembers or parts.
    estimate : ComponentEstimate or None
        How the number of phases was found, if it was.
    separation : Separation or None
        How far apart the phases are; of one phase, how far apart more would be, where that was found out.
    pixels : ndarray of shape (y, x), int32, or None
        Phase of each pixel, where that is known better than by memberships.
    """

    memberships: NDArray[np.float32]
    partition: bool
    estimate: ComponentEstimate | None = None
    separation: Separation | None = None
    pixels: NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class Problem:
    """Windows of one size whose phases are to be found.

    Attributes
    ----------
    spectra : Spectra
        One row a window.
    grid : Grid
        Where the windows lie.
    parameters : Parameters
    execution : Execution
    """

    spectra: Spectra
    grid: Grid
    parameters: Parameters
    execution: Execution

    @property
    def seed(self) -> int:
        """`random_state`, which is a number by now."""
        return as_seed(self.parameters.random_state)

    def on(self, matrix: WindowMatrix, frequencies: Frequencies) -> Problem:
        """The same for other windows of the image."""
        spectra = Spectra(matrix, matrix.half_plane, frequencies, self.parameters.normalize)
        return replace(self, spectra=spectra, grid=Grid.of(matrix))

    def scores(self, *, whiten: bool, center: bool = True) -> Array:
        """Scores (n, rank) of the spectra, smoothed over the grid; `whiten` makes their noise equal."""
        scores = compressed(self.spectra, self.parameters.rank, self.execution, center=center).scores
        noise = self.grid.noise_covariance(scores) if whiten else None
        scores = self.grid.smooth(scores, self.parameters.smooth, self.execution)
        return scores if noise is None else whiten_noise(scores, noise)

    @property
    def counts(self) -> bool:
        """Whether the number of phases is to be found."""
        return self.parameters.n_phases == AUTO

    @property
    def most_phases(self) -> int:
        """The largest number of phases that may be found."""
        return min(MAX_PHASES, self.parameters.rank)

    def settled(self, estimate: ComponentEstimate | None, find: Callable[[int], PhaseMap]) -> PhaseMap:
        """The map of the number of phases that is given, or of the largest up to the estimate whose map passes.

        Parameters
        ----------
        estimate : ComponentEstimate or None
            None if the number is given.
        find : callable
            Of the map of k phases.
        """
        if estimate is None:
            return find(int(self.parameters.n_phases))
        while estimate.n_components > 1:
            found = find(estimate.n_components)
            assert found.separation is not None
            if found.separation.exists:
                return replace(found, estimate=estimate)
            estimate = lowered(estimate, found.separation)
        return replace(find(1), estimate=estimate, separation=best_separated(estimate))


def compressed(rows: Rows, rank: int, execution: Execution, *, center: bool = True) -> Compressed:
    """`compress` within an execution."""
    return compress(
        rows,
        rank,
        center=center,
        n_jobs=execution.n_threads,
        max_memory=execution.max_memory,
        progress=execution.progress,
    )
