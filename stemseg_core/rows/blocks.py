"""What every pass over blocks does: values are checked, rows are picked out or stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core.rows.sources import Rows
from stemseg_core.system.errors import NonFiniteError
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Index, Partial

#: Sums of squares are trusted from this multiple of the smallest normal number on, for each value. Ten times as much:
#: more fits read the rows once more to be sure.
TINY_SQUARES = 1e6


def take_rows(rows: Rows, wanted: NDArray[np.intp]) -> Array:
    """Rows `wanted` (m,) of a source, in that order; only the blocks that hold them are read."""
    out = np.empty((len(wanted), rows.shape[1]), rows.dtype)
    read = rows.reader()
    for i in range(rows.n_blocks):
        positions, targets = _positions(rows.index(i), wanted)
        if len(targets):
            out[targets] = read(i)[positions]
    return out


def _positions(index: Index, wanted: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where in a block that holds the rows `index` the wanted ones are, and which of the wanted they are."""
    if isinstance(index, slice):
        targets = np.flatnonzero((wanted >= index.start) & (wanted < index.stop))
        return wanted[targets] - index.start, targets
    positions, targets = np.nonzero(np.asarray(index)[:, None] == wanted)
    return positions, targets


def stored(rows: Rows, execution: Execution, dtype: DTypeLike | None = None) -> Array:
    """All rows as an array (n, d), in their own type or another; memory n d items."""
    out = np.empty(rows.shape, rows.dtype if dtype is None else dtype)
    execution.run(_stored_block, rows, out=(out,))
    return out


def _stored_block(block: Array) -> tuple[Partial, None]:
    return (block,), None


def refuse_non_finite(block: Array, products: Array) -> None:
    """Raise ValueError if `block` has NaN or infinity, judged by `products`: sums that every value of it went into.

    NaN and infinity survive every sum of products, so a look at a small result that is needed anyway replaces a pass
    over the block; only when that is not finite the block itself is searched.
    """
    if np.isfinite(products).all():
        return
    bad = ~np.isfinite(block)
    if not bad.any():
        raise ValueError(
            f"Input X has values too large for {block.dtype}: sums of products overflow to infinity; scale X down"
        )
    row, feature = np.argwhere(bad)[0]
    n_nan = int(np.isnan(block).sum())
    raise NonFiniteError(int(row), int(feature), n_nan, int(bad.sum()) - n_nan)


def refuse_too_small(rows: Rows, squares: float, execution: Execution, shift: Array | None = None) -> None:
    """Raise ValueError if the squares of `rows` minus `shift` (d,) vanish, judged by the sum of them.

    Values below the root of the smallest number of their type (1e-19 in float32, 1e-154 in float64) have squares of
    zero, and what is made of these is nonsense without NaN or infinity to tell of it. The sum is needed anyway; only
    where it is so small that a good part of it may be missing, the rows are searched for a value that differs from
    `shift`.
    """
    n, d = rows.shape
    if squares >= TINY_SQUARES * n * d * float(np.finfo(rows.dtype).tiny):
        return
    shift = np.zeros(d, rows.dtype) if shift is None else shift
    (n_different,) = execution.run(_differing_block, rows, shift)
    if n_different:
        raise ValueError(f"Input X has values too small for {rows.dtype}: their squares vanish; scale X up")


def _differing_block(block: Array, shift: Array) -> tuple[None, Partial]:
    return None, (np.count_nonzero(block != shift),)
