"""Leading directions: products of a pass of the iteration."""

import numpy as np

from stemseg_core.rows.products import padded_columns
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.stages import leading
from stemseg_core.system.execution import Execution


def test_products_of_a_pass_of_the_iteration_are_summed_in_float64():
    """Blocks whose product is half a unit of the sum in float32: summed in that type, they would all be lost."""
    X = np.zeros((1024, 4), np.float32)
    X[0] = 2.0**12
    X[1:] = 1 / np.sqrt(2)
    one, rows = np.ones((4, 1), np.float32), ArrayRows(X)
    rows.block_rows, rows.n_blocks = 1, len(X)
    columns = padded_columns(one.T, np.float32)
    Z, _, _, n = Execution().run(leading._scatter_block, rows, np.zeros(4, np.float32), columns)
    assert n == len(X)
    np.testing.assert_allclose(Z[:1].T, X.T.astype(float) @ (X.astype(float) @ one), rtol=1e-9)
