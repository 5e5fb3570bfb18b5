"""Kernels of NMF against their twins in NumPy, on every SIMD level."""

import importlib

import numpy as np
import pytest
from numpy.testing import assert_allclose

from stemseg_core._kernels import available_levels
from stemseg_core.rows.products import padded_columns

DTYPES = (np.float32, np.float64)


@pytest.mark.parametrize("level", available_levels())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 63), (3, 64), (4, 65), (7, 200), (32, 130)])
def test_hals_kernel_is_its_twin(reference, level, dtype, k, n):
    kernels = importlib.import_module(f"stemseg_core._kernels.nmf_{level}")
    rng = np.random.default_rng(k)
    C = rng.random((k, 3 * k)).astype(dtype)
    B = np.ascontiguousarray(C @ rng.standard_normal((3 * k, n)).astype(dtype))
    G = C @ C.T
    if k > 2:
        G[1] = G[:, 1] = 0
    Z = rng.random((k, n)).astype(dtype)
    want = Z.copy()
    B.flags.writeable = G.flags.writeable = False
    kernels.hals_block(B, G, 3, Z)
    reference("nmf").hals_block(B.astype(np.float64), G.astype(np.float64), 3, want)
    assert Z.min() >= 0
    assert_allclose(Z, want, rtol=0, atol=1e4 * k * np.finfo(dtype).eps)


@pytest.mark.parametrize("level", available_levels())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "d", "k"), [(1, 1, 1), (5, 17, 3), (64, 64, 4), (65, 63, 8), (130, 300, 9), (200, 16, 20)]
)
def test_sweep_kernel_is_its_twin(reference, level, dtype, m, d, k):
    kernels = importlib.import_module(f"stemseg_core._kernels.nmf_{level}")
    rng = np.random.default_rng(d)
    X, W, H = rng.random((m, d)).astype(dtype), rng.random((m, k)), rng.random((k, d))
    if k > 2:
        H[1] = 0
    V, wide = padded_columns(H, np.float64, kernels.LANES), -(-k // kernels.LANES) * kernels.LANES
    scratch = [np.full(shape, np.nan) for shape in ((kernels.ROWS, wide), (wide, kernels.ROWS), (wide, kernels.ROWS))]
    found, want = ([np.full(shape, np.nan) for shape in ((m, k), (wide, d), (k, k))] for _ in range(2))
    for array in (X, V, W):
        array.flags.writeable = False
    kernels.sweep_block(X, V, H @ H.T, 3, W, *scratch, *found)
    reference("nmf").sweep_block(X, V, H @ H.T, 3, W, *scratch, *want)
    for one, other in zip(found, want, strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("level", available_levels())
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (5, 17, 3), (40, 64, 8), (130, 200, 5)])
def test_residual_kernel_is_its_twin(reference, level, dtype, n, d, k):
    kernels = importlib.import_module(f"stemseg_core._kernels.nmf_{level}")
    rng = np.random.default_rng(d)
    X, W, H = rng.random((n, d)).astype(dtype), rng.random((n, k)).astype(dtype), rng.random((k, d))
    out, want = np.full((2, d), np.nan)
    kernels.residual_block(X, W, H, out)
    reference("nmf").residual_block(X, W, H, want)
    assert_allclose(out, want, rtol=1e-12)
