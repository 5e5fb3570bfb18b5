"""Memberships: posteriors and shares, their margin, and the order of phases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemseg_core.phases.memberships import margin, order_by_size, posterior, sum_to_one


def test_margin():
    np.testing.assert_allclose(margin(np.array([[[0.2, 0.5]], [[0.7, 0.5]], [[0.1, 0]]])), [[0.5, 0]])
    assert np.isnan(margin(np.ones((1, 1, 2)))).all()


@given(variance=st.sampled_from([0, 1e-300, 1e-30, 0.1, 1, 1e30]), seed=st.integers(0, 100))
def test_posterior_is_a_distribution_with_the_nearest_first(variance, seed):
    squared = np.random.default_rng(seed).random((50, 3)) * max(1, variance)
    with np.errstate(over="ignore"):
        memberships = posterior(squared, variance)
    assert memberships.dtype == np.float32
    np.testing.assert_allclose(memberships.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(memberships[np.arange(50), squared.argmin(axis=1)], memberships.max(axis=1))


def test_posterior_by_hand():
    expected = np.exp([-1, -2, -0.5])
    np.testing.assert_allclose(posterior(np.array([[4.0, 8, 2]]), 2)[0], expected / expected.sum(), rtol=1e-6)
    assert posterior(np.array([[1.0, np.inf]]), 1).tolist() == [[1, 0]]


def test_posterior_of_points_on_their_centers():
    assert posterior(np.array([[0.0, 1e3], [7, 0]]), 0).tolist() == [[1, 0], [0, 1]]


def test_sum_to_one():
    assert sum_to_one(np.array([[1.0, 3], [0, 0], [-1, 2], [-1, -1]])).tolist() == [
        [0.25, 0.75],
        [0.5, 0.5],
        [0, 1],
        [0.5, 0.5],
    ]
    assert sum_to_one(np.ones((2, 1))).dtype == np.float32
    np.testing.assert_allclose(sum_to_one(np.full((1, 4), 1e-300)).sum(), 1)


@pytest.mark.parametrize(
    ("image", "k", "expected"),
    [
        ([[0, 0, 1]], 2, [0, 1]),
        ([[0, 1, 1]], 2, [1, 0]),
        ([[1, 0, 0, 1]], 2, [1, 0]),  # a tie: the phase of the first pixel
        ([[-1, 2, 0, 0, -1]], 4, [0, 2, 1, 3]),  # phases without a pixel last
        ([[-1, -1, -1, 1]], 2, [1, 0]),  # excluded pixels are no phase
        ([[-1, -1]], 2, [0, 1]),
        ([[2, 1], [1, 2], [0, 0]], 3, [2, 1, 0]),
    ],
)
def test_order_by_size(image, k, expected):
    assert list(order_by_size(np.array(image, np.int32), k)) == expected
