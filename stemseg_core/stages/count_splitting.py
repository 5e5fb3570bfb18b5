"""How many components counts have: those of one random half of the events that the other half has as well."""

from __future__ import annotations

from collections.abc import Callable

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
            half = np.random.default_rng((self.seed, i)).binomial(block.astype(np.int64), 0.5)
            return (block - half if self.other else half).astype(self.dtype)

        return read_half


def split_counts(rows: Rows, max_components: int, seed: int, execution: Execution) -> ComponentEstimate:
    """Number of components of counts (n, d), whatever their mean.

    The singular vectors u, v of one half of the events are tried on the other half Y, weighed to unit variance:
    ``u^T Y v`` is normal with unit variance, about zero where the component is noise of the first half.

    Notes
    -----
    Cost: four passes over at most `SAMPLE_VALUES` values, drawn from evenly spread blocks of rows. Counts that were
    multiplied by a gain, or summed with an offset, have another variance and are not told right.

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
    (kept,) = execution.run(_agreement_block, second, svd.components_, along=(left,), stage="number of components")
    value = np.asarray(kept, np.float64)
    found = np.flatnonzero(value <= DEVIATIONS)
    n = int(np.clip(found[0] if len(found) else k, 1, max_components))
    null = np.full(k, DEVIATIONS)
    return ComponentEstimate(n, "counts", {"counts": Curve(n, np.arange(1, k + 1), value, null)})


def _agreement_block(block: Array, left: NDArray[np.float64], components: Array) -> tuple[None, Partial]:
    """Share of ``u^T Y v`` that a block of Y has, for each component."""
    return None, (np.einsum("ik,ik->k", block @ components.T, left, dtype=np.float64),)
