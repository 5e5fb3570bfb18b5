"""Spectra of phases: means or least squares, never negative, and what they leave of each window."""

import numpy as np
import pytest

from stemseg_core.phases.patterns import patterns
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.system.execution import Execution


@pytest.fixture
def mixed():
    """Rows that are mixtures of three spectra, with noise."""
    rng = np.random.default_rng(0)
    spectra = rng.random((3, 20))
    memberships = rng.dirichlet(np.ones(3), 3000).astype(np.float32)
    return spectra, memberships, (memberships @ spectra + 0.01 * rng.standard_normal((3000, 20))).astype(np.float32)


def test_patterns_of_a_partition_are_means(mixed):
    _, memberships, X = mixed
    labels = memberships.argmax(axis=1).astype(np.int32)
    found = patterns(ArrayRows(X), memberships, labels, Execution())
    np.testing.assert_allclose(found.components, [X[labels == j].mean(axis=0) for j in range(3)], rtol=1e-5)


def test_patterns_of_mixtures_are_those_of_least_squares(mixed):
    spectra, memberships, X = mixed
    found = patterns(ArrayRows(X), memberships, None, Execution())
    expected = np.linalg.lstsq(memberships.astype(float), X.astype(float), rcond=None)[0]
    np.testing.assert_allclose(found.components, expected, rtol=1e-4)
    np.testing.assert_allclose(found.components, spectra, atol=0.01)


def test_residual_is_what_is_left_of_a_row_relative_to_it(mixed):
    _, memberships, X = mixed
    X[5] = 0
    found = patterns(ArrayRows(X), memberships, None, Execution())
    left = np.linalg.norm(X - memberships @ found.components, axis=1)
    expected = left / np.where(X.any(axis=1), np.linalg.norm(X, axis=1), 1)
    np.testing.assert_allclose(found.residual, expected, rtol=1e-3)


def test_residual_keeps_its_digits_where_little_is_left():
    spectra = np.random.default_rng(1).random((2, 50)).astype(np.float32)
    labels = (np.arange(1000) % 2).astype(np.int32)
    memberships = np.eye(2, dtype=np.float32)[labels]
    found = patterns(ArrayRows(spectra[labels]), memberships, labels, Execution())
    assert found.residual.max() < 1e-5  # the rounding of a sum of 500 rows; 3e-4 by the difference of squares


def test_no_spectrum_is_negative():
    rng = np.random.default_rng(2)
    X, memberships = rng.random((500, 8)).astype(np.float32), rng.dirichlet(np.full(4, 30), 500).astype(np.float32)
    assert np.linalg.lstsq(memberships, X, rcond=None)[0].min() < 0
    assert patterns(ArrayRows(X), memberships, None, Execution()).components.min() == 0


def test_any_number_of_threads_gives_the_same_bits(mixed):
    _, memberships, X = mixed
    rows = ArrayRows(np.tile(X, (40, 1)))
    one, two = (patterns(rows, np.tile(memberships, (40, 1)), None, Execution(n)) for n in (1, 2))
    np.testing.assert_array_equal(one.components, two.components)
    np.testing.assert_array_equal(one.residual, two.residual)
