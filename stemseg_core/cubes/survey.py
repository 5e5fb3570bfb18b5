"""A first look at a cube: what is no number, what is dead, hot or hit, and whether the values are counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Partial

#: Mean of whole numbers above which they are not taken for counts whose noise matters. Twice as large: images of 16
#: bits, whose unit is no electron, are weighed as counts.
MANY_COUNTS = 100.0
#: A channel is hot where its mean is this many times that of its neighbours. Twice as large: fewer are found; lines and
#: reflections are at least two channels wide, and stay below 10.
HOT = 20.0
#: A value is a spike where it is this many times the largest of its neighbours in the spectrum and in the mean
#: spectrum. Twice as large: only the strongest are found.
SPIKE = 10.0
#: Standard deviations of its channel that a spike must be above the channel's mean. Half as many: in a million values
#: of counts, a few would be spikes by chance.
SPIKE_DEVIATIONS = 20.0
#: Channels at each side that a spike is compared with. Twice as many: spikes near a line are missed.
SPIKE_REACH = 2


@dataclass(frozen=True, eq=False)
class Survey:
    """What one pass over the rows (n, d) of a cube sees.

    Attributes
    ----------
    sums : ndarray of shape (n,)
        Sum of each row; NaN where a value is none.
    mean, deviation : ndarray of shape (d,)
        Of each column, over the rows that are finite.
    finite : ndarray of bool of shape (n,)
        Which rows hold numbers alone.
    whole : bool
        Whether all values are whole numbers.
    n_negative : int
        Values below 0.
    largest : ndarray of shape (d,)
        Of each column.
    """

    sums: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]
    finite: NDArray[np.bool_]
    whole: bool
    n_negative: int
    largest: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Rows, dtype: np.dtype[Any], execution: Execution) -> Survey:
        """Survey of rows, which are stored in that type; one pass."""
        sums = np.empty(rows.shape[0])
        found = execution.run(_survey_block, rows, dtype.kind, out=(sums,), merge=_merged, stage="survey")
        n, totals, squares, n_negative, n_broken, largest = found
        mean = totals / max(n, 1)
        deviation = np.sqrt(np.maximum(squares / max(n, 1) - mean**2, 0))
        return cls(sums, mean, deviation, np.isfinite(sums), n_broken == 0, int(n_negative), largest)

    @property
    def counts(self) -> bool:
        """Whether the values look like counts of single events, so few that their noise differs from place to place."""
        return self.whole and self.n_negative == 0 and 0 < float(self.mean.mean()) < MANY_COUNTS


def hot_channels(mean: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Channels, of a mean spectrum or pattern, that are far above all their neighbours."""
    neighbours = np.ones((3,) * mean.ndim, bool)
    neighbours[(1,) * mean.ndim] = False
    around = maximum_filter(mean, footprint=neighbours, mode="nearest")
    floor = float(np.median(mean[mean > 0])) if (mean > 0).any() else 0.0
    hot: NDArray[np.bool_] = (mean > HOT * around) & (mean > HOT * floor)
    return hot


def spiky_rows(rows: Rows, survey: Survey, execution: Execution) -> NDArray[np.bool_]:
    """Rows (n,) of spectra in which one channel alone is far above its neighbours, as where a cosmic ray hit."""
    hit = np.zeros(rows.shape[0], bool)
    around = maximum_filter(survey.mean, footprint=_beside(), mode="nearest")
    limit = survey.mean + SPIKE_DEVIATIONS * survey.deviation
    narrow = survey.mean > SPIKE / 2 * around  # a line that is as narrow as a spike
    limit = np.where(narrow | (survey.deviation == 0), np.inf, limit)
    one_event = 1.0 if survey.whole else 0.0  # of counts, several together among none are a spike, not one
    limit = np.maximum(limit, SPIKE * one_event).astype(rows.dtype)
    if (survey.largest <= limit).all():
        return hit
    execution.run(_spikes_block, rows, limit, one_event, out=(hit,), stage="spikes")
    return hit


def _beside() -> NDArray[np.bool_]:
    beside = np.ones(2 * SPIKE_REACH + 1, bool)
    beside[SPIKE_REACH] = False
    return beside


def _spikes_block(block: Array, limit: Array, least: float) -> tuple[Partial, None]:
    hit = np.zeros(len(block), bool)
    i, j = np.nonzero(block > limit)
    if len(i):
        d = block.shape[1]
        columns = j[:, np.newaxis] + np.flatnonzero(_beside()) - SPIKE_REACH
        inside = (columns >= 0) & (columns < d)
        around = np.where(inside, np.abs(block[i[:, np.newaxis], np.clip(columns, 0, d - 1)]), 0).max(axis=1)
        hit[i[block[i, j] > SPIKE * np.maximum(around, least)]] = True
    return (hit,), None


def _survey_block(block: Array, kind: str) -> tuple[Partial, Partial]:
    """Sums of rows, NaN where one is not finite; number of finite rows, their column sums and squares, of all values
    those below 0 and those that are no whole numbers, and the largest of each column.
    """
    sums = (block @ np.ones(block.shape[1], block.dtype)).astype(np.float64)
    finite: NDArray[np.bool_] = np.isfinite(sums)
    if not finite.all():
        finite = np.isfinite(block).all(axis=1)
        sums[~finite] = np.nan
        block = block[finite]
    ones = np.ones(len(block), block.dtype)
    n_negative = np.count_nonzero(block < 0) if kind in "if" else 0
    n_broken = np.count_nonzero(block != np.rint(block)) if kind == "f" else 0
    columns = [(ones @ values).astype(np.float64) for values in (block, block * block)]
    return (sums,), (len(block), *columns, n_negative, n_broken, block.max(axis=0, initial=-np.inf))


def _merged(a: Partial, b: Partial) -> Partial:
    """Two surveys as one."""
    return (*(x + y for x, y in zip(a[:-1], b[:-1], strict=True)), np.maximum(a[-1], b[-1]))
