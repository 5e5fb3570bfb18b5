"""Rows divided by their noise: `stemseg_core.rows.weights`."""

import numpy as np
import pytest

from stemseg_core.rows import weights as module
from stemseg_core.rows.blocks import stored
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.rows.weights import WeighedRows, Weights
from stemseg_core.system.execution import Execution


def outer(rng, n=300, d=40):
    return rng.uniform(0.5, 3, (n, 1)) * rng.uniform(0.2, 5, d)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_known_variances_become_one(rng):
    variances = outer(rng)
    weights = Weights.of(ArrayRows(variances), Execution())
    np.testing.assert_allclose(weights.rows[:, None] * weights.columns * np.sqrt(variances), 1)


def test_counts_get_unit_variance(rng):
    means = outer(rng, 4000)
    counts = rng.poisson(means).astype(np.float32)
    weighed = stored(
        WeighedRows(ArrayRows(counts), Weights.of(ArrayRows(counts), Execution(), counts=True)), Execution()
    )
    noise = weighed - means / np.sqrt(means)
    np.testing.assert_allclose(noise.std(axis=0), 1, atol=0.06)


def test_rows_and_columns_without_anything(rng):
    variances = outer(rng)
    variances[7] = 0
    variances[:, 3] = 0
    weights = Weights.of(ArrayRows(variances), Execution())
    assert weights.rows[7] == weights.columns[3] == 0
    maps, components = weights.undone(np.ones((300, 2)), np.ones((2, 40)))
    assert not maps[7].any()
    assert not components[:, 3].any()
    assert np.isfinite(maps).all()


def test_undone_is_the_inverse(rng):
    weights = Weights.of(ArrayRows(outer(rng)), Execution())
    W, H = rng.random((300, 3)), rng.random((3, 40))
    X = W @ H
    weighed = stored(WeighedRows(ArrayRows(X), weights), Execution())
    np.testing.assert_allclose(weighed, (weights.rows[:, None] * W) @ (H * weights.columns))
    back = weights.undone(weights.rows[:, None] * W, H * weights.columns)
    np.testing.assert_allclose(back[0] @ back[1], X)


def test_few_events_are_not_trusted(rng, monkeypatch):
    """A channel with one event in all is not the loudest."""
    counts = rng.poisson(outer(rng))
    counts[:, 5] = 0
    counts[17, 5] = 1
    rows = ArrayRows(counts)
    assert Weights.of(rows, Execution(), counts=True).columns[5] < np.sqrt(300 / module.ADDED_EVENTS)
    with_few = stored(WeighedRows(rows, Weights.of(rows, Execution(), counts=True)), Execution())
    monkeypatch.setattr(module, "ADDED_EVENTS", 0.0)
    without = stored(WeighedRows(rows, Weights.of(rows, Execution(), counts=True)), Execution())
    assert with_few[17, 5] < 0.4 * without[17, 5]


def test_negative_values_are_refused(rng):
    X = rng.random((5, 4))
    X[2, 1] = -1
    with pytest.raises(ValueError, match="1 of them"):
        Weights.of(ArrayRows(X), Execution())


def test_same_bits_for_any_threads(rng):
    counts = rng.poisson(outer(rng, 20_000, 64))
    one, two = (Weights.of(ArrayRows(counts), Execution(n_threads=n)) for n in (1, 2))
    assert np.array_equal(one.columns, two.columns)
    assert np.array_equal(one.rows, two.rows)
