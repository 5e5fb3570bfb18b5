"""Endmembers, SPA and ATGP (spa), VCA (vca), the starts of N-FINDR (projections), and outliers."""

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import linear_sum_assignment
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from stemseg_core import ATGP, NFINDR, SPA, VCA, Stopped, abundances
from stemseg_core.rows.blocks import stored, take_rows
from stemseg_core.rows.sources import ArrayRows, MaskedRows
from stemseg_core.stages.projections import successive_projections
from stemseg_core.system.execution import Execution

DATA = Path(os.environ.get("STEMSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
SAMSON = DATA / "spectra" / "samson.npz"
AFFINE = (NFINDR, SPA, VCA)
ALL = (*AFFINE, ATGP)


def mixtures(n=1000, d=40, k=4, noise=0.01, seed=0, dtype=np.float64):
    """Rows that are noisy mixtures, in any order, and the pure spectra, each of which is a row up to noise."""
    rng = np.random.default_rng(seed)
    A = rng.dirichlet(np.full(k, 0.7), n)
    pure = rng.permutation(n)[:k]
    A[pure] = np.eye(k)
    E = rng.gamma(1.0, 1.0, (k, d))
    return (A @ E + noise * rng.standard_normal((n, d))).astype(dtype), E, np.sort(pure)


def with_outliers(X, share, size, seed=0):
    """Rows of which some are moved in random directions, by `size` times the scatter of all; and which these are."""
    rng = np.random.default_rng(seed)
    X, rows = X.copy(), np.sort(rng.permutation(len(X))[: round(share * len(X))])
    directions = rng.standard_normal((len(rows), X.shape[1]))
    directions /= np.linalg.norm(directions, axis=1)[:, np.newaxis]
    X[rows] += size * np.sqrt(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean()) * directions
    return X, rows


def angles(C, E):
    """Angles between found and true spectra, paired such that their sum is least."""
    C = C.astype(np.float64)
    cosine = (C @ E.T) / np.linalg.norm(C, axis=1)[:, np.newaxis] / np.linalg.norm(E, axis=1)
    angle = np.arccos(np.clip(cosine, -1, 1))
    return angle[linear_sum_assignment(angle)]


@parametrize_with_checks([E(k) for E in (SPA, ATGP, VCA) for k in (1, 2)] + [NFINDR(2, n_neighbors=3)])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("estimator", ALL)
def test_pure_rows_are_found(estimator, k, dtype):
    X, _, pure = mixtures(k=k, noise=0, dtype=dtype)
    if k == 1:
        X[pure] *= 2
    found = estimator(k).fit(X)
    assert_array_equal(np.sort(found.indices_), pure)
    assert_array_equal(found.components_, X[found.indices_])
    assert found.components_.dtype == dtype
    assert found.converged_
    assert_allclose(found.certificate_, 1, atol=1e-4 if dtype == np.float32 else 1e-9)
    assert len(found.outliers_) == 0
    assert_array_equal(found.transform(X), abundances(X, found.components_))


@pytest.mark.parametrize("k", [2, 4, 9])
def test_spa_is_the_pivoting_of_a_qr_factorisation(k):
    X, _, _ = mixtures(k=k, noise=0.1)
    Y = PCA(k - 1, svd_solver="full", whiten=True).fit_transform(X) * np.sqrt(len(X) / (len(X) - 1))
    pivots = scipy.linalg.qr(np.column_stack([np.ones(len(X)), Y]).T, mode="r", pivoting=True)[1]
    spa = SPA(k).fit(X)
    assert_array_equal(spa.indices_, pivots[:k])
    Z = np.column_stack([np.ones(len(X)), Y])
    assert_allclose(spa.certificate_, np.abs(Z @ np.linalg.inv(Z[spa.indices_])).max(), rtol=1e-6)


@pytest.mark.parametrize("k", [2, 4, 9])
def test_atgp_is_the_pivoting_of_a_qr_factorisation_of_the_rows(k):
    X, _, _ = mixtures(k=k, noise=0)
    X[:50] = 0.5 * X[50:100] + 0.5 * X[100:150]  # ties in no direction
    pivots = scipy.linalg.qr(X.T, mode="r", pivoting=True)[1]
    assert_array_equal(ATGP(k).fit(X).indices_, pivots[:k])
    assert_array_equal(ATGP(1).fit(X).indices_, [np.linalg.norm(X, axis=1).argmax()])


def test_atgp_measures_lengths():
    X, _, _ = mixtures(k=4)
    longest = np.linalg.norm(X, axis=1).argmax()
    assert ATGP(4).fit(X).indices_[0] == longest
    pure, _, _ = mixtures(k=4, noise=0)
    for dtype in (np.float32, np.float64):
        with pytest.raises(ValueError, match=r"n_components must be at most 3 for ATGP of these rows: .*take SPA"):
            ATGP(4).fit((pure - pure.mean(axis=0)).astype(dtype))
    with pytest.raises(ValueError, match="5 components need at least 5 features, X has n_features = 4"):
        ATGP(5).fit(X[:, :4])
    assert len(SPA(5).fit(X[:, :4]).indices_) == 5


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([SPA, ATGP, VCA]), st.integers(2, 5), st.integers(0, 10**6), st.floats(-6, 6))
def test_permutation_and_scale_of_the_rows(estimator, k, seed, exponent):
    X, _, _ = mixtures(n=60, d=8, k=k, seed=seed, noise=0.1)
    order = np.random.default_rng(seed).permutation(60)
    found = estimator(k).fit(X)
    changed = estimator(k).fit(10.0**exponent * X[order])
    if estimator is not VCA:  # random directions depend on the signs of the components
        assert_array_equal(order[changed.indices_], found.indices_)
    else:
        assert_allclose(changed.log_volume_ - (k - 1) * exponent * np.log(10), found.log_volume_, atol=1.0)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([SPA, VCA]), st.integers(2, 5), st.integers(0, 10**6), st.floats(-10, 10))
def test_offset_of_the_rows(estimator, k, seed, offset):
    X, _, _ = mixtures(n=60, d=8, k=k, seed=seed, noise=0.1)
    assert_array_equal(estimator(k).fit(X + offset).indices_, estimator(k).fit(X).indices_)


@pytest.mark.parametrize("estimator", ALL)
def test_duplicate_rows_take_the_first(estimator):
    X, _, _ = mixtures()
    assert_array_equal(estimator(4).fit(np.vstack([X, X])).indices_, estimator(4).fit(X).indices_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ALL)
def test_too_low_a_rank_is_refused(estimator, dtype):
    X = mixtures(n=50, d=6, k=3, noise=0)[0].astype(dtype)
    with pytest.raises(ValueError, match="at most 3 for these rows"):
        estimator(4).fit(X)
    with pytest.raises(ValueError, match="at most 1 for these rows"):
        estimator(2).fit(np.full((50, 6), 3.3, dtype))


@pytest.mark.parametrize("estimator", ALL)
def test_errors(estimator):
    X, _, _ = mixtures(n=30, d=5)
    with pytest.raises(ValueError, match=r"n_components must be a whole number, at least 1; got 2.5"):
        estimator(2.5).fit(X)
    with pytest.raises(ValueError, match=r"at most n_samples = 3, .*; got 4"):
        estimator(4).fit(X[:3])
    with pytest.raises(MemoryError, match=rf"{estimator.__name__} of 30 x 5 with 3 components needs"):
        estimator(3, max_memory=1000).fit(X)
    for value in (0, -1, 1.5, True, "5"):
        with pytest.raises(ValueError, match=f"n_neighbors must be a whole number, at least 1; got {value!r}"):
            estimator(3, n_neighbors=value).fit(X)
    with pytest.raises(ValueError, match="n_neighbors must be below n_samples = 30, got 30"):
        estimator(3, n_neighbors=30).fit(X)
    stopped = estimator(3, progress=lambda done, total, stage: False)
    with pytest.raises(Stopped):
        stopped.fit(X)
    assert not hasattr(stopped, "components_")
    for n_neighbors in (None, 3):
        Y = X.copy()
        Y[7, 3] = np.nan
        with pytest.raises(ValueError, match="first in row 7, feature 3"):
            estimator(3, n_neighbors=n_neighbors).fit(Y)


def test_wrong_starts():
    X, _, _ = mixtures(n=30, d=5, k=3, noise=0)
    with pytest.raises(ValueError, match=r"init must be one of \('spa', 'vca', 'atgp'\), got 'random'"):
        NFINDR(3, init="random").fit(X)
    with pytest.raises(ValueError, match="n_init must be a whole number, at least 1; got 0"):
        VCA(3, n_init=0).fit(X)
    with pytest.raises(ValueError, match="at most 2 for ATGP of these rows"):
        NFINDR(3, init="atgp").fit(X - X.mean(axis=0))


@pytest.mark.parametrize("k", [3, 6, 12])
@pytest.mark.parametrize("init", ["spa", "vca", "atgp"])
def test_search_from_any_start(init, k):
    X, _, _ = mixtures(k=k, noise=0.1)
    start = {"spa": SPA, "vca": VCA, "atgp": ATGP}[init](k).fit(X)
    nfindr = NFINDR(k, init=init, n_init=1).fit(X)
    assert nfindr.converged_
    assert nfindr.certificate_ <= 1 + 1e-9
    assert start.certificate_ >= 1 - 1e-9
    if init != "vca":  # whose first run need not be the one with the largest simplex
        assert nfindr.log_volume_ >= start.log_volume_ - 1e-9


def test_runs_of_vca():
    X, _, _ = mixtures(k=6, noise=0.2)
    volumes = [VCA(6, n_init=m).fit(X).log_volume_ for m in (1, 3, 10, 30)]
    assert_array_equal(np.sort(volumes), volumes)
    assert volumes[-1] <= NFINDR(6, n_init=50).fit(X).log_volume_ + 1e-9
    found = VCA(6).fit(X)
    assert_array_equal(np.sort(found.indices_), found.indices_)
    assert_array_equal(VCA(6, random_state=0).fit(X).indices_, found.indices_)
    assert len({VCA(6, n_init=1, random_state=seed).fit(X).log_volume_ for seed in range(8)}) > 1
    assert VCA(6, random_state=None).fit(X).converged_


# Outliers.


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("estimator", ALL)
@pytest.mark.parametrize(("share", "size"), [(0.001, 3), (0.001, 100), (0.01, 2), (0.01, 10), (0.01, 1000)])
def test_outliers_are_left_out(share, size, estimator, dtype):
    for seed, k in ((0, 3), (1, 6)):
        clean, E, _ = mixtures(n=3000, k=k, noise=0.02, seed=seed)
        X, outliers = with_outliers(clean, share, size, seed)
        X = X.astype(dtype)
        found = estimator(k, n_neighbors=5).fit(X)
        assert_array_equal(found.outliers_, outliers)
        assert angles(found.components_, E).max() < 0.05
        assert_array_equal(found.components_, X[found.indices_])
        rest = np.delete(np.arange(len(X)), outliers)
        assert_array_equal(found.indices_, rest[estimator(k).fit(X[rest]).indices_])
        if size >= 10:
            assert angles(estimator(k).fit(X).components_, E).max() > 0.5


@pytest.mark.parametrize("noise", [0, 0.02, 0.2])
@pytest.mark.parametrize("k", [2, 3, 5, 9])
def test_nothing_is_left_out_of_clean_data(k, noise):
    for seed in range(3):
        X, _, _ = mixtures(n=3000, k=k, noise=noise, seed=seed)
        found = NFINDR(k, n_neighbors=5).fit(X)
        assert len(found.outliers_) == 0
        assert_array_equal(found.indices_, NFINDR(k).fit(X).indices_)


def test_company_counts():
    """Three outliers that are alike have two neighbours each."""
    X, _, _ = mixtures(n=2000, k=3, noise=0.02)
    X[:3] = X[0] + 30 * np.eye(40)[5]
    assert_array_equal(NFINDR(3, n_neighbors=3).fit(X).outliers_, [0, 1, 2])
    assert len(NFINDR(3, n_neighbors=2).fit(X).outliers_) == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(-6, 6), st.floats(-10, 10))
def test_outliers_in_any_order_and_scale(seed, exponent, offset):
    X, rows = with_outliers(mixtures(n=500, k=3, noise=0.02, seed=seed)[0], 0.01, 30, seed)
    order = np.random.default_rng(seed).permutation(500)
    found = SPA(3, n_neighbors=4).fit(10.0**exponent * (X[order] + offset))
    assert_array_equal(np.sort(order[found.outliers_]), rows)


def test_same_rows_have_company():
    X = np.tile(np.eye(3), (20, 1))
    assert len(SPA(3, n_neighbors=5).fit(X).outliers_) == 0
    assert len(SPA(1, n_neighbors=5).fit(np.ones((20, 3))).outliers_) == 0


def test_kept_rows_are_a_source():
    X = np.arange(30_000.0).reshape(-1, 2)
    rows = ArrayRows(X).in_larger_blocks(1)
    rows.block_rows, rows.n_blocks = 1000, 15
    kept = np.random.default_rng(0).random(15_000) < 0.5
    kept[2000:4000] = False
    source = MaskedRows(rows, kept)
    assert source.shape == (kept.sum(), 2)
    assert source.n_blocks == 13
    assert_array_equal(stored(source, Execution(2)), X[kept])
    wanted = np.array([5000, 3, 17])
    assert_array_equal(take_rows(source, wanted), X[kept][wanted])


def test_parameters_survive_a_clone():
    for estimator in (SPA(3, n_neighbors=4), ATGP(3, n_jobs=1), VCA(3, n_init=2), NFINDR(3, init="vca", n_neighbors=2)):
        assert clone(estimator).get_params() == estimator.get_params()


@pytest.mark.skipif(not SAMSON.exists(), reason="needs the shared data beside the checkout")
@pytest.mark.parametrize("estimator", ALL)
def test_samson(estimator):
    data = np.load(SAMSON)
    X, E = data["cube"].reshape(-1, data["cube"].shape[2]), data["endmembers"].astype(float)
    found = estimator(3).fit(X)
    assert angles(found.components_, E).mean() <= 0.0705  # plain N-FINDR: .070
    truth = data["abundances"].reshape(3, -1)
    pairs = np.array([[np.abs(np.corrcoef(a, t)[0, 1]) for t in truth] for a in found.transform(X).T])
    i, j = linear_sum_assignment(-pairs)
    assert np.sqrt(((found.transform(X)[:, i] - truth[j].T) ** 2).mean()) <= 0.3255  # .323
    assert_array_equal(successive_projections(X, 3)[:1], ATGP(1).fit(X).indices_)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outliers_beside_one_strong_component(dtype):
    rng = np.random.default_rng(0)
    X = rng.dirichlet(np.ones(4), 3000) @ rng.random((4, 60)) + 0.01 * rng.standard_normal((3000, 60))
    X += 300 * rng.random((3000, 1)) * np.ones(60)
    X[::300] += 3 * rng.standard_normal((10, 60))
    assert_array_equal(SPA(4, n_neighbors=5).fit(X.astype(dtype)).outliers_, np.arange(0, 3000, 300))


def test_outliers_among_many_equal_rows():
    rng = np.random.default_rng(0)
    X = np.zeros((4000, 20))
    X[:150] = rng.dirichlet(np.ones(4), 150) @ rng.random((4, 20))
    X[200:204] = 1000 * rng.random((4, 20))
    found = NFINDR(4, n_neighbors=5).fit(X)
    assert_array_equal(found.outliers_, np.arange(200, 204))


@pytest.mark.parametrize(
    "estimator", [NFINDR(3), NFINDR(3, init="atgp"), SPA(3, n_neighbors=5), ATGP(3), VCA(3)], ids=str
)
def test_predicted_bytes_are_those_that_a_limit_is_compared_with(estimator):
    X = np.random.default_rng(0).random((3000, 6))
    estimator = clone(estimator).set_params(n_jobs=2)
    predicted = estimator.predicted_bytes(*X.shape, X.dtype)
    estimator.set_params(max_memory=predicted).fit(X)
    with pytest.raises(MemoryError, match="of 3000 x 6 with 3 components needs"):
        estimator.set_params(max_memory=predicted - 1).fit(X)
