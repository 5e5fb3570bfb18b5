"""`gram`: the kernel of Gram matrices, and the moments that are made of them."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from stemseg_core import SVD
from stemseg_core._kernels import available_levels
from stemseg_core.rows.sources import ArrayRows, as_rows
from stemseg_core.stages.gram import moments
from stemseg_core.system.execution import Execution

LEVELS = available_levels()


def rows_of(m, d, dtype=np.float64, seed=0):
    X = (3 + np.random.default_rng(seed).standard_normal((m, d))).astype(dtype)
    X.setflags(write=False)
    return X


def run_kernel(module, X, mean, scratch=np.nan):
    """Upper triangle of the Gram matrix, the rest zero, the sums, and the sum of squares."""
    d = X.shape[1]
    padding = getattr(module, "PADDING", 0)
    memory = np.full(getattr(module, "ROWS", 1) * (d + padding) + 64, scratch, X.dtype)
    memory[-64:] = 7
    panels = memory[:-64].reshape(-1, d + padding) if d + padding else np.empty((1, 0), X.dtype)
    G, sums = np.full((d, d), np.nan), np.full(d, np.nan)
    squares = module.gram_block(X, mean, panels, G, sums)
    assert_array_equal(memory[-64:], 7)  # nothing was written behind the scratch
    return np.triu(G), sums, squares


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 7), (0, 4), (5, 0), (4, 8), (255, 48), (256, 16), (257, 49), (600, 97), (70, 481), (9, 130)]
)
def test_kernel_equals_its_twin(reference, level, dtype, shape):
    kernel = importlib.import_module(f"stemseg_core._kernels.gram_{level}")
    X, mean = rows_of(*shape, dtype), np.linspace(2, 4, shape[1]).astype(dtype)
    tolerance = 20 * np.finfo(dtype).eps
    found, twin = (run_kernel(module, X, mean) for module in (kernel, reference("gram")))
    assert_allclose(found[2], twin[2], rtol=1e-13)
    for ours, theirs in zip(found, twin, strict=True):
        assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * np.abs(theirs).max(initial=1))


@pytest.mark.parametrize("level", LEVELS)
@given(m=st.integers(1, 512), d=st.integers(1, 120), seed=st.integers(0, 10**6), single=st.booleans())
def test_every_product_is_the_same_sum(level, m, d, seed, single):
    """Whichever features and rows it is made beside, and whatever the scratch memory held."""
    kernel = importlib.import_module(f"stemseg_core._kernels.gram_{level}")
    X = rows_of(m, d, np.float32 if single else np.float64, seed)
    mean = X.mean(axis=0)
    G, sums, _ = run_kernel(kernel, X, mean)
    order = np.random.default_rng(seed).permutation(d)
    of_other_order, sums_of_other_order, _ = run_kernel(kernel, np.ascontiguousarray(X[:, order]), mean[order], 1e30)
    full = G + np.triu(G, 1).T
    assert_array_equal(of_other_order, np.triu(full[np.ix_(order, order)]))
    # What is added four rows at a time by vectors, and one by one behind the last of them, are the same numbers.
    assert_array_equal(sums_of_other_order, sums[order])
    first, rest = (run_kernel(kernel, part, mean)[0] for part in (X[: kernel.ROWS], X[kernel.ROWS :]))
    assert_array_equal(first + rest, G)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_moments_are_those_of_the_rows(dtype, n_threads):
    X = rows_of(3000, 130, dtype)
    shift = X[:40].mean(axis=0)
    of_all = moments(as_rows(X), shift, Execution(n_threads))
    Y = X.astype(np.float64)
    tolerance = {"rtol": 1e-6, "atol": 1e-2} if dtype == np.float32 else {"rtol": 1e-11, "atol": 1e-8}
    assert_array_equal(of_all.gram, of_all.gram.T)
    assert_allclose(of_all.mean, Y.mean(axis=0), rtol=1e-6)
    assert_allclose(of_all.scatter_matrix(center=False), Y.T @ Y, **tolerance)
    centred = Y - Y.mean(axis=0)
    assert_allclose(of_all.scatter_matrix(center=True), centred.T @ centred, **tolerance)
    assert_allclose(of_all.centred_sum_squares, (centred**2).sum(), rtol=1e-6)
    assert_allclose(of_all.sum_squares, ((Y - shift) ** 2).sum(), rtol=1e-6)


def test_float32_sums_keep_their_digits():
    """Over many rows: products are summed in float64 before a long float32 sum would have lost digits."""
    X = rows_of(200_000, 3, np.float32)
    G = moments(as_rows(X), np.zeros(3, np.float32), Execution()).gram
    Y = X.astype(np.float64)
    assert_allclose(G, Y.T @ Y, rtol=2e-7)


def test_scatter_matrix_does_not_change_the_moments():
    X = rows_of(100, 5)
    of_all = moments(as_rows(X), np.zeros(5), Execution())
    before = of_all.gram.copy()
    of_all.scatter_matrix(center=True)
    of_all.scatter_matrix(center=False)
    assert_array_equal(of_all.gram, before)


@pytest.mark.parametrize("value", [1.1, 0.3])
def test_sum_of_squares_has_no_bias_of_float32(value):
    """Where all products of a column round the same way, as those of two values of one modulus do."""
    X = np.where(np.random.default_rng(0).random((4096, 3)) < 0.5, value, -value).astype(np.float32)
    found = moments(as_rows(X), np.zeros(3, np.float32), Execution()).centred_sum_squares
    Y = X - X.mean(axis=0, dtype=np.float64)
    assert_allclose(found, (Y**2).sum(), rtol=1e-12)
    ratios = SVD(3).fit(X).explained_variance_ratio_
    assert abs(ratios.sum(dtype=np.float64) - 1) < 3e-7


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_refused_values_are_located(bad):
    X = rows_of(2000, 40).copy()
    X[1234, 5] = bad
    with pytest.raises(ValueError, match="row 1234, feature 5"):
        moments(ArrayRows(X), np.zeros(40), Execution())


def test_overflow_of_products_is_told():
    """Without a warning, also where the sums of two blocks are infinities of both signs."""
    X = rows_of(40_000, 20, np.float32) * np.float32(1e25)
    X[20_000:, 1] *= -1
    rows = as_rows(X)
    assert rows.n_blocks > 1
    with pytest.raises(ValueError, match="too large for float32"):
        moments(rows, np.zeros(20, np.float32), Execution())


def test_groups_do_not_copy_an_array():
    rows = as_rows(rows_of(60_000, 64)).grouped()
    assert rows.n_blocks % 8 == 0
    assert np.shares_memory(rows.reader()(0), rows.rows.array)
