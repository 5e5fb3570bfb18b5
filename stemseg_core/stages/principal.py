"""Principal axes that endmembers and outliers are looked for on, and scores on them.

Products of float32 rows are formed in float32 where they tell all axes that are asked for from rounding, else in
float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.products import as_columns, scores_on
from stemseg_core.rows.sources import Rows
from stemseg_core.rows.transitional import run
from stemseg_core.stages.leading import Leading, leading
from stemseg_core.system.types import Partial

Array = NDArray[Any]

#: Variance of an axis, by that of the first, below which products of float32, and of float64, say nothing about it.
FLOAT32_VARIANCE, FLOAT64_VARIANCE = 1e-5, 1e-13


def principal_axes(rows: Rows, rank: int, *, center: bool = True, **options: Any) -> Leading:
    """`leading` with products in the type that the spectrum of the rows asks for."""
    first = leading(rows, rank, center=center, **options)
    if rows.dtype == np.float32 and not _float32_suffices(first):
        first = leading(rows, rank, center=center, dtype=np.float64, **options)
    return first


def above_rounding(first: Leading) -> NDArray[np.bool_]:
    """Which of the axes are more than rounding of products of float64."""
    seen: NDArray[np.bool_] = first.values > FLOAT64_VARIANCE * first.values[0]
    return seen


def fill_scores(rows: Rows, first: Leading, V: Array, origin: Array, out: Array, **options: Any) -> None:
    """Scores (n, r) of the rows minus an origin (d,) on directions V (r, d) that span axes of `first`."""
    dtype = rows.dtype if _float32_suffices(first) else np.dtype(np.float64)
    shift = origin.astype(dtype)
    run(_scores_block, rows, shift, as_columns(V, dtype), V @ (origin - shift), out=(out,), **options)


def _float32_suffices(first: Leading) -> bool:
    return bool(first.converged and first.values[-1] > FLOAT32_VARIANCE * first.values[0])


def _scores_block(block: Array, shift: Array, columns: Array, onto: Array) -> tuple[Partial, None]:
    """Scores with products in the type of the shift, which is the origin up to `onto`, the scores of the rest."""
    return (scores_on(block, shift, columns)[:, : len(onto)] - onto,), None
