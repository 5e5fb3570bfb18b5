"""Rows picked out and stored; NaN, infinity and vanishing squares refused where they are first seen."""

import numpy as np
import pytest

from stemseg_core import WindowFFT
from stemseg_core.rows import sources
from stemseg_core.rows.blocks import refuse_non_finite, refuse_too_small, stored, take_rows
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.system.errors import NonFiniteError
from stemseg_core.system.execution import Execution


def test_take_rows_and_stored(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 10)
    image = np.random.default_rng(0).random((80, 90))
    matrix = WindowFFT(16, 4).matrix(image)
    X = stored(matrix, Execution(3))
    np.testing.assert_array_equal(X, np.asarray(matrix))
    assert stored(ArrayRows(X), Execution(2), np.float64).dtype == np.float64
    wanted = np.random.default_rng(1).permutation(len(X))[:20]
    for rows in (matrix, ArrayRows(X)):
        np.testing.assert_array_equal(take_rows(rows, wanted), X[wanted])


def test_refuse_non_finite():
    block = np.ones((4, 3))
    refuse_non_finite(block, block.sum(axis=1))
    huge = np.full((2, 3), 3e38, np.float32)
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="too large for float32"):
        refuse_non_finite(huge, (huge * huge).sum(axis=1))
    block[1, 2], block[3, 0], block[3, 1] = np.nan, np.inf, np.inf
    with pytest.raises(NonFiniteError, match=r"row 1, feature 2 \(1 NaN and 2 infinity"):
        refuse_non_finite(block, block.sum(axis=1))


@pytest.mark.parametrize(("dtype", "small"), [(np.float32, 1e-20), (np.float64, 1e-160)])
def test_refuse_too_small(dtype, small):
    X = np.random.default_rng(0).random((300, 20)).astype(dtype)
    for rows, shift in ((X, None), (X * 0, None), (X * 0 + X[0], X[0]), (X[0] * 0 + X * dtype(1e-10), None)):
        Y = rows if shift is None else rows - shift
        refuse_too_small(ArrayRows(rows), float((Y * Y).sum()), Execution(), shift)
    for scale, offset in ((small, 0), (small, small)):
        rows = X * dtype(scale) + dtype(offset)
        with pytest.raises(ValueError, match=f"values too small for {X.dtype}: their squares vanish; scale X up"):
            refuse_too_small(ArrayRows(rows), float((rows * rows).sum()), Execution())
