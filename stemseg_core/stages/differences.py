"""Covariance of the noise of rows, from the differences of successive rows, in whichever blocks these are.

A part of the rows is a tuple: the sum of products (d, d) of all differences of which it holds both rows, and its open
ends, numbers and values of the rows whose predecessor, and of those whose successor, it lacks. Where two parts are
merged, ends that meet are closed. So all pairs count, also where blocks are tiles of a grid of windows.
"""

from __future__ import annotations

import numpy as np

from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Partial

#: Open ends where blocks are tiles, in square roots of the number of rows: two a line of windows in each part. Twice as
#: many: more memory is predicted, which grids four times as tall for their width would need.
OPEN_ENDS = 16


def noise_of_differences(rows: Rows, execution: Execution) -> Array:
    """Half the mean of ``(x[i + 1] - x[i]) (x[i + 1] - x[i])'`` over all n - 1 pairs of successive rows, (d, d).

    Values are taken to be finite. Cost: n d^2 operations. Memory: `differences_bytes`.
    """
    n = rows.shape[0]
    part = execution.run(_differences_block, rows.grouped(), along=(np.arange(n),), merge=_joined)
    N: Array = part[0] / (2 * (n - 1))
    return N


def differences_bytes(rows: Rows, n_threads: int) -> float:
    """Predicted memory: for each thread sums of products, others that wait, and rows; row numbers; open ends."""
    n, d = rows.shape
    n_groups = rows.grouped().n_blocks
    n_threads = min(n_threads, n_groups)
    copies, open_ends = (3, 0.0) if rows.sliceable else (5, min(n, OPEN_ENDS * n**0.5) * d * rows.dtype.itemsize)
    return 8.0 * (2 * n_threads * d * d + copies * d * n / n_groups * n_threads + n) + open_ends


def _differences_block(block: Array, numbers: Array) -> tuple[None, Partial]:
    follows = np.diff(numbers) == 1
    D = np.subtract(block[1:], block[:-1], dtype=np.float64)
    if not follows.all():
        D = D[follows]
    first, last = np.append(True, ~follows), np.append(~follows, True)
    return None, _closed(D.T @ D, numbers[first], block[first], numbers[last], block[last])


def _joined(a: Partial, b: Partial) -> Partial:
    ends = (np.concatenate(pair) for pair in zip(a[1:], b[1:], strict=True))
    return _closed(np.add(a[0], b[0], out=a[0]), *ends)


def _closed(products: Array, firsts: Array, first_rows: Array, lasts: Array, last_rows: Array) -> Partial:
    """The part with those differences added whose two rows are among its open ends."""
    _, i, j = np.intersect1d(firsts, lasts + 1, assume_unique=True, return_indices=True)
    D = np.subtract(first_rows[i], last_rows[j], dtype=np.float64)
    products += D.T @ D
    return (
        products,
        np.delete(firsts, i),
        np.delete(first_rows, i, axis=0),
        np.delete(lasts, j),
        np.delete(last_rows, j, axis=0),
    )
