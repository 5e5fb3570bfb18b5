"""Products of blocks of rows: kernels against their NumPy twins at every level."""

import importlib

import numpy as np
import pytest

import stemseg_core._kernels as kernels


def mixture(n, d, k=5, noise=0.05, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.gamma(1.0, 1.0, (n, k)) @ rng.random((k, d)) + noise * rng.standard_normal((n, d))
    return X.astype(dtype)


@pytest.mark.parametrize("level", kernels.available_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (5, 8), (16, 37), (0, 4)])
def test_kernel_equals_its_twin(reference, level, dtype, shape):
    kernel = importlib.import_module(f"stemseg_core._kernels.compress_{level}")
    X = mixture(*shape, dtype=dtype)
    X.setflags(write=False)
    mean = np.linspace(-1, 1, shape[1]).astype(dtype)
    ours = [np.empty(shape, dtype), np.empty(shape[0]), np.empty(shape[1])]
    twin = [np.empty_like(a) for a in ours]
    kernel.center_block(X, mean, *ours)
    reference("compress").center_block(X, mean, *twin)
    np.testing.assert_array_equal(ours[0], twin[0])
    np.testing.assert_allclose(ours[1], twin[1], rtol=1e-14)
    np.testing.assert_allclose(ours[2], twin[2], rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("level", kernels.available_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (8, 256), (17, 300), (70, 65), (200, 513), (0, 4)])
@pytest.mark.parametrize("n_columns", [16, 48])
def test_products_equal_their_twins(reference, level, dtype, shape, n_columns):
    kernel, twin = importlib.import_module(f"stemseg_core._kernels.compress_{level}"), reference("compress")
    m, d = shape
    X = mixture(m, d, dtype=dtype)
    X.setflags(write=False)
    mean = np.linspace(-1, 1, d).astype(dtype)
    V = np.random.default_rng(1).standard_normal((d, n_columns)).astype(dtype)

    def results(module):
        A = np.full((-(-m // kernel.TILE_ROWS) * kernel.TILE_ROWS, n_columns), np.nan)
        sums = [np.full(m, np.nan), np.full(d, np.nan)]
        module.project_block(X, mean, V, A, *sums)
        alone = np.full(A.shape, np.nan)
        module.project_block(X, mean, V, alone, None, None)
        np.testing.assert_array_equal(alone[:m], A[:m])
        Z, again = np.full((n_columns, d), np.nan, dtype), [np.full(m, np.nan), np.full(d, np.nan)]
        raw = [np.full(m, np.nan), np.full(d, np.nan)]
        module.sum_block(X, *raw)
        scratch = np.empty((kernel.ROWS, n_columns)), np.empty((n_columns, kernel.ROWS), dtype)
        module.scatter_block(X, mean, V, *scratch, Z, *again)
        return A[:m], Z, *sums, *again, *raw

    tolerance = 100 * np.finfo(dtype).eps
    for ours, theirs in zip(results(kernel), results(twin), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max(initial=1))
