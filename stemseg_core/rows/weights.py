"""Rows of which each value is divided by its own noise, where that is a number of its row times one of its column."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Index, Partial

#: Events that are added to the sums of counts over each row and column: what the sums of empty ones are not known
#: better than. Twice as many: rows and columns of few events are trusted less; without, the few events of nearly empty
#: ones become components (docs/decisions.md).
ADDED_EVENTS = 10.0


@dataclass(frozen=True, eq=False)
class Weights:
    """What rows and columns are multiplied by, so that the noise of every value has about unit variance.

    Attributes
    ----------
    rows : ndarray of shape (n,), float64
        0 for rows without variance, which hold nothing.
    columns : ndarray of shape (d,), float64
        0 for columns without variance.

    Notes
    -----
    Variances ``v`` (n, d) are taken as ``r_i c_j / t`` of their sums over rows r, over columns c and of all t: the best
    approximation of rank one where columns differ by a factor from row to row. Those of counts are their means, which
    the sums of counts estimate (M. R. Keenan, P. G. Kotula, Surf. Interface Anal. 36 (2004) 203, 10.1002/sia.1657).
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]

    @classmethod
    def of(cls, variances: Rows, execution: Execution, *, counts: bool = False) -> Self:
        """Of variances (n, d), or of counts; one pass."""
        sums = np.empty(variances.shape[0])
        column_sums, n_negative = execution.run(_sums_block, variances, out=(sums,), stage="noise")
        if n_negative:
            raise ValueError(f"variances and counts must not be negative; {n_negative} of them are")
        return cls.of_sums(sums, column_sums, counts=counts)

    @classmethod
    def of_sums(cls, sums: NDArray[np.float64], column_sums: NDArray[np.float64], *, counts: bool = False) -> Self:
        """Of variances that are known by their sums over rows (n,) and columns (d,), or of counts."""
        if counts:
            sums, column_sums = sums + ADDED_EVENTS, column_sums + ADDED_EVENTS
        root = float(sums.sum() * column_sums.sum()) ** 0.25 or 1.0
        return cls(_inverse_roots(sums / root), _inverse_roots(column_sums / root))

    def only_columns(self) -> Self:
        """Those of the columns alone, for methods that compare rows: a mixture of rows stays the same mixture."""
        return type(self)(np.ones_like(self.rows), self.columns)

    def undone(self, maps: Array, components: Array) -> tuple[Array, Array]:
        """Factors ``maps @ components`` of weighed rows as factors of the rows; 0 where these hold nothing."""
        return maps * _inverse(self.rows, maps)[:, np.newaxis], self.undone_columns(components)

    def undone_columns(self, patterns: Array) -> Array:
        """Weighed patterns (.., d) in the units of the rows."""
        unweighed: Array = patterns * _inverse(self.columns, patterns)
        return unweighed


class WeighedRows(Rows):
    """Rows times `Weights`; nothing is stored."""

    def __init__(self, rows: Rows, weights: Weights) -> None:
        self.rows, self.weights, self.quick = rows, weights, rows.quick
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks
        self._of_rows, self._of_columns = weights.rows.astype(rows.dtype), weights.columns.astype(rows.dtype)

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()

        def read_weighed(i: int) -> Array:
            block = read(i) * self._of_columns
            block *= self._of_rows[self.rows.index(i), np.newaxis]
            return block

        return read_weighed


def _sums_block(block: Array) -> tuple[Partial, Partial]:
    sums = block.sum(axis=1, dtype=np.float64)
    return (sums,), (block.sum(axis=0, dtype=np.float64), np.count_nonzero(block < 0))


def _inverse_roots(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(1.0, np.sqrt(sums), out=np.zeros_like(sums), where=sums > 0)


def _inverse(weights: NDArray[np.float64], like: Array) -> Array:
    inverse: Array = np.divide(1.0, weights, out=np.zeros_like(weights), where=weights > 0).astype(like.dtype)
    return inverse
