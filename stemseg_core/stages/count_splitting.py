"""How many components counts have: those of one random half of the events that the other half has as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.sources import Numbered, Rows
from stemseg_core.rows.weights import WeighedRows, Weights
from stemseg_core.stages.estimates import ComponentEstimate, Curve
from stemseg_core.stages.svd import SVD
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Index, Partial

#: Values (rows times features) of the sample that is split. Twice as many: twice the time; fewer: components of few
#: rows are missed.
SAMPLE_VALUES = 20_000_000
#: Variance of half the counts, as a multiple of what it should be, from which values are no counts. Closer to 1: counts
#: of few events are refused; farther: halves are alike in their noise, which is counted.
OVERDISPERSED = 1.1
#: Parts of the columns that this is looked at in. Twice as many: less is hidden, but chance has more to say.
N_PARTS = 4
#: Standard deviations by which the second half must have a component. Twice as many: fainter ones are missed; half as
#: many: one of a hundred results has one too many.
DEVIATIONS = 5.0


class ThinnedRows(Rows):
    """One random half of the events that rows (n, d) count: each event is in this half or in the other.

    The halves of Poisson counts are independent of each other, with half the mean.

    Parameters
    ----------
    rows : Rows
        Whole numbers, none below 0.
    seed : int
    other : bool
        Which half.
    """

    def __init__(self, rows: Rows, seed: int, *, other: bool) -> None:
        self.rows, self.seed, self.other = rows, seed, other
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()

        def read_half(i: int) -> Array:
            block = read(i)
            if (block < 0).any() or (block != np.rint(block)).any():
                raise ValueError("counts must be whole numbers, none below 0; some are not")
            half = np.random.default_rng((self.seed, i)).binomial(block.astype(np.int64), 0.5)
            return (block - half if self.other else half).astype(self.dtype)

        return read_half


class OverdispersedError(ValueError):
    """Values scatter more than counts of single events of that mean."""


def split_counts(rows: Rows, max_components: int, seed: int, execution: Execution) -> ComponentEstimate:
    """Number of components of counts (n, d), whatever their mean.

    The singular vectors u, v of one half of the events are tried on the other half Y, weighed to unit variance:
    ``u^T Y v``, divided by its own standard deviation as the events of Y have it, is normal with unit variance, about
    zero where the component is noise of the first half.

    Raises
    ------
    OverdispersedError
        If what `max_components` leave of the second half has more than the variance of counts: the halves of counts
        that were multiplied by a gain are not independent.

    Notes
    -----
    Cost: four passes over at most `SAMPLE_VALUES` values, drawn from evenly spread blocks of rows.

    References
    ----------
    A. Neufeld et al., "Data thinning for convolution-closed distributions", J. Mach. Learn. Res. 25 (2024) 57; A. B.
    Owen, P. O. Perry, Ann. Appl. Stat. 3 (2009) 564, 10.1214/08-AOAS227 (cross-validation of the SVD).
    """
    sample = Numbered(rows.sample(SAMPLE_VALUES // max(1, rows.shape[1])))
    halves = [ThinnedRows(sample, seed, other=other) for other in (False, True)]
    weights = Weights.of(sample, execution, counts=True)
    weights = Weights(weights.rows * np.sqrt(2), weights.columns)  # half the counts have half the variance
    first, second = (WeighedRows(half, weights) for half in halves)
    k = min(max_components + 1, *first.shape)
    svd = execution.configure(SVD(k, center=False))
    scores = svd.fit_transform(first)
    lengths = np.linalg.norm(scores, axis=0)
    left = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    kept, variances, squares, expected = execution.run(
        _agreement_block,
        second,
        svd.components_,
        weights.columns.astype(first.dtype),
        along=(left, weights.rows),
        stage="number of components",
    )
    left_out = np.maximum(1 - np.einsum("kj,kj->j", svd.components_, svd.components_), 0)
    _refuse_overdispersed(squares, expected * left_out, len(left) * left_out)
    value = np.divide(kept, np.sqrt(variances), out=np.zeros(k), where=variances > 0)
    found = np.flatnonzero(value <= DEVIATIONS)
    n = int(np.clip(found[0] if len(found) else k, 1, max_components))
    null = np.full(k, DEVIATIONS)
    return ComponentEstimate(n, "counts", {"counts": Curve(n, np.arange(1, k + 1), value, null)})


def _agreement_block(
    block: Array, left: NDArray[Any], row_weights: NDArray[np.float64], components: Array, column_weights: Array
) -> tuple[None, Partial]:
    """Share of ``u^T Y v`` and of its variance that a block of Y has, for each component; what all of them leave of
    each column, squared and summed, and the sum of its variances.
    """
    projected = block @ components.T
    kept = np.einsum("ik,ik->k", projected, left, dtype=np.float64)
    variance = block * column_weights  # of a count weighed by w: w^2 times the count
    variance *= row_weights[:, np.newaxis].astype(block.dtype)
    variances = np.einsum("ik,ik->k", variance @ (components**2).T, left**2, dtype=np.float64)
    residual = block - projected @ components
    squares = np.einsum("ij,ij->j", residual, residual, dtype=np.float64)
    return None, (kept, variances, squares, variance.sum(axis=0, dtype=np.float64))


def _refuse_overdispersed(
    squares: NDArray[np.float64], expected: NDArray[np.float64], freedom: NDArray[np.float64]
) -> None:
    """Raise if the squares (d,) that are left exceed what is expected of counts, in a part of the columns.

    Parts, from the faintest column to the strongest, because an offset makes faint ones too quiet. `freedom` is how
    many independent squares there are in each column.
    """
    order = np.argsort(expected)
    sums = np.cumsum(expected[order])
    parts = np.split(order, np.searchsorted(sums, sums[-1] * np.arange(1, N_PARTS) / N_PARTS))
    for part in parts:
        among, by_chance = float(expected[part].sum()), DEVIATIONS * np.sqrt(2 / max(freedom[part].sum(), 1e-9))
        ratio = float(squares[part].sum()) / among if among > 0 else 0.0
        if ratio > OVERDISPERSED + by_chance:
            raise OverdispersedError(
                f"values scatter {2 * ratio - 1:.2g} times as much as counts do: they are no numbers of single events"
            )
