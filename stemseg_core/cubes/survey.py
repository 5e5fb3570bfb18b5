"""A first look at a cube: what is no number, and whether the values are counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Partial

#: Mean of whole numbers above which they are not taken for counts whose noise matters. Twice as large: images of 16
#: bits, whose unit is no electron, are weighed as counts.
MANY_COUNTS = 100.0


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

    def of_columns(self, kept: NDArray[np.bool_]) -> Survey:
        """The survey of some columns (d,), but for the sums of rows."""
        return replace(self, mean=self.mean[kept], deviation=self.deviation[kept], largest=self.largest[kept])

    @property
    def counts(self) -> bool:
        """Whether the values look like counts of single events, so few that their noise differs from place to place."""
        return self.whole and self.n_negative == 0 and 0 < float(self.mean.mean()) < MANY_COUNTS


def _survey_block(block: Array, kind: str) -> tuple[Partial, Partial]:
    """Sums of rows, NaN where one is not finite; number of finite rows, their column sums and squares, of all values
    those below 0 and those that are no whole numbers, and the largest of each column.
    """
    sums = (block @ np.ones(block.shape[1], block.dtype)).astype(np.float64)
    finite: Any = np.isfinite(sums)
    if not finite.all():
        finite = np.asarray(np.isfinite(block).all(axis=1))
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
