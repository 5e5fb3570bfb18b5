"""How many components counts have: `stemseg_core.stages.count_splitting`."""

import numpy as np
import pytest

from stemseg_core.rows.blocks import stored
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.stages.count_splitting import DEVIATIONS, OverdispersedError, ThinnedRows, split_counts
from stemseg_core.system.execution import Execution


def mixtures(k, counts, seed, n=2000, d=150):
    rng = np.random.default_rng(seed)
    spectra = rng.gamma(0.3, size=(k, d))
    spectra *= counts / spectra.sum(axis=1, keepdims=True)
    shares = rng.dirichlet(np.ones(k), n) * rng.uniform(0.5, 1.5, (n, 1))
    return rng.poisson(shares @ spectra)


def test_halves():
    X = np.random.default_rng(0).poisson(3.0, (2000, 300))
    first, second = (
        stored(ThinnedRows(ArrayRows(X), 7, other=other), Execution(n_threads=2)) for other in (False, True)
    )
    assert np.array_equal(first + second, X)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.005
    np.testing.assert_allclose([first.mean(), first.var()], 1.5, rtol=0.01)


@pytest.mark.parametrize("counts", [40, 200, 3000])
@pytest.mark.parametrize("k", [1, 3, 6])
def test_number_of_components(k, counts):
    assert split_counts(ArrayRows(mixtures(k, counts, k)), 10, 0, Execution()).n_components == k


def test_noise_is_not_counted():
    """The statistic of what is no component is normal with unit variance."""
    values = np.concatenate(
        [
            split_counts(ArrayRows(mixtures(2, 40, seed, 600, 80)), 12, seed, Execution()).curves["counts"].value[2:]
            for seed in range(20)
        ]
    )
    assert abs(values.mean()) < 0.35
    assert 0.7 < values.std() < 1.3
    assert values.max() < DEVIATIONS


def test_threads_and_seed():
    X = ArrayRows(mixtures(3, 30, 0))
    one, two = (split_counts(X, 8, 5, Execution(n_threads=n)).to_dict() for n in (1, 2))
    assert one == two
    assert split_counts(X, 8, 6, Execution()).to_dict() != one


@pytest.mark.parametrize("gain", [2, 10])
def test_counts_times_a_gain_are_refused(gain):
    """Their halves are not independent: every direction of the noise would be a component."""
    with pytest.raises(OverdispersedError, match="times as much as counts do"):
        split_counts(ArrayRows(gain * mixtures(2, 40, 0)), 10, 0, Execution())


def test_patterns_that_differ_by_place_are_no_reason_to_refuse():
    """Where the variance is no number of the row times one of the column, the statistic still has unit variance."""
    rng = np.random.default_rng(0)
    patterns = rng.gamma(0.05, size=(3, 200))
    X = rng.poisson((300 * patterns / patterns.sum(axis=1, keepdims=True))[np.arange(1500) % 3])
    found = split_counts(ArrayRows(X), 12, 0, Execution())
    assert found.n_components == 3
    assert 0.6 < found.curves["counts"].value[3:].std() < 1.5


@pytest.mark.parametrize("shape", [(3, 4), (12, 40), (40, 3)])
def test_small_tables(shape):
    for seed in range(10):
        X = ArrayRows(np.random.default_rng(seed).poisson(5.0, shape))
        assert split_counts(X, 10, seed, Execution()).n_components == 1
