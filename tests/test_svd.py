"""`SVD`, `leading` and `block_lanczos` (lanczos) against LAPACK, scikit-learn, and themselves on other threads."""

import tracemalloc
import warnings

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from stemseg_core import SVD
from stemseg_core.rows import sources
from stemseg_core.stages import lanczos, leading
from stemseg_core.system.memory import memory_limit
from stemseg_core.system.threads import one_blas_thread

TOLERANCE = {np.float32: 1e-5, np.float64: 1e-9}


# One thread for the truth: those of a BLAS wait for each other by spinning, which on a busy machine takes seconds.
@one_blas_thread()
def with_spectrum(n, d, s, dtype=np.float64, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    k = len(s)
    U, V = (np.linalg.qr(rng.standard_normal((m, k)))[0] for m in (n, d))
    return ((U * s) @ V.T + offset).astype(dtype)


@one_blas_thread()
def lapack(X, center):
    X = X.astype(np.float64)
    return np.linalg.svd(X - X.mean(axis=0) if center else X, full_matrices=False)


@one_blas_thread()
def assert_is_svd(X, svd, center):
    """Values as LAPACK's, orthonormal components, scores as long as the values, residual as small as can be."""
    tol, r = TOLERANCE[svd.components_.dtype.type], len(svd.components_)
    s = lapack(X, center)[1]
    V, got = svd.components_.astype(np.float64), svd.singular_values_
    above = s[:r] > 1e-6 * s[0]
    np.testing.assert_allclose(got[above], s[:r][above], rtol=tol)
    assert (got[~above] <= 1.1e-6 * s[0]).all()
    assert (np.diff(got) <= 0).all()
    np.testing.assert_allclose(V @ V.T, np.eye(r), atol=tol / 10)
    assert (V[np.arange(r), np.abs(V).argmax(axis=1)] > 0).all()
    Y = X.astype(np.float64) - svd.mean_
    left = ((Y - Y @ V.T @ V) ** 2).sum()
    assert left <= (s[r:] ** 2).sum() * (1 + 1e-6) + tol**2 * s[0] ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", [(500, 40), (40, 500), (90, 90)])
@pytest.mark.parametrize("decay", [1.0, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_values_and_vectors_agree_with_lapack(shape, decay, center, dtype, offset):
    k = min(shape)
    X = with_spectrum(*shape, np.geomspace(1, decay, k), dtype, offset)
    for rank in (5, k):
        assert_is_svd(X, SVD(rank, center=center).fit(X), center)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(300, 20), (20, 300)])
def test_beyond_the_rank_the_values_are_zero(shape, dtype):
    X = with_spectrum(*shape, np.array([3.0, 2.0, 2.0]), dtype)
    svd = SVD(8).fit(X)
    assert_is_svd(X, svd, True)
    assert (svd.singular_values_[3:] < 1e-6).all()
    assert np.isfinite(svd.components_).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_rows(value, dtype):
    svd = SVD(3).fit(np.full((30, 10), value, dtype))
    assert np.abs(svd.singular_values_).max() <= 100 * np.finfo(dtype).eps * value
    np.testing.assert_allclose(svd.components_ @ svd.components_.T, np.eye(3), atol=1e-6)
    assert np.isfinite(svd.explained_variance_ratio_).all()


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    d=st.integers(1, 40),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    center=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_any_shape_and_scale(n, d, scale, center, dtype, seed):
    X = (scale * np.random.default_rng(seed).standard_normal((n, d))).astype(dtype)
    assert_is_svd(X, SVD(min(n, d, 7), center=center).fit(X), center)


def test_large_offset():
    rng = np.random.default_rng(0)
    X = with_spectrum(800, 30, np.geomspace(1, 1e-2, 30)) + 1e5 * rng.random(30)
    assert_is_svd(X, SVD(10).fit(X), True)
    Z = (100 * with_spectrum(800, 30, np.geomspace(1, 1e-2, 30)) + 1e3).astype(np.float32)
    assert_is_svd(Z, SVD(10).fit(Z), True)


def test_variances_are_those_of_pca():
    X = with_spectrum(300, 25, np.geomspace(1, 1e-2, 25), offset=3.0)
    ours, theirs = SVD(6).fit(X), PCA(6).fit(X)
    for name in ("singular_values_", "explained_variance_", "explained_variance_ratio_", "mean_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9)
    np.testing.assert_allclose(np.abs(ours.transform(X)), np.abs(theirs.transform(X)), atol=1e-9)
    plain = SVD(6, center=False).fit(X)
    np.testing.assert_allclose(plain.explained_variance_, plain.transform(X).var(axis=0, ddof=1), rtol=1e-8)
    total = X.var(axis=0, ddof=1).sum()
    np.testing.assert_allclose(plain.explained_variance_ratio_, plain.explained_variance_ / total, rtol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_back_and_forth(dtype):
    X = with_spectrum(100, 12, np.ones(12), dtype, offset=2.0)
    svd = SVD(12).fit(X)
    scores = svd.transform(X)
    assert scores.dtype == svd.inverse_transform(scores).dtype == dtype
    np.testing.assert_allclose(svd.inverse_transform(scores), X, atol=20 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match="12 columns"):
        svd.inverse_transform(scores[:, :5])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_scores_of_the_fit_are_those_of_transform(dtype, center, offset):
    X = with_spectrum(700, 30, np.geomspace(1, 0.1, 30), dtype, offset)
    svd = SVD(6, center=center)
    scores = svd.fit_transform(X)
    assert scores.dtype == dtype
    rounding = 100 * np.finfo(dtype).eps * (1 + offset * (30 if not center else 1))
    np.testing.assert_allclose(scores, svd.transform(X), atol=rounding)
    fitted = SVD(6, center=center).fit(X)
    np.testing.assert_array_equal(fitted.components_, svd.components_)
    np.testing.assert_array_equal(fitted.singular_values_, svd.singular_values_)


@pytest.mark.parametrize("limits", [{}, {"GRAM_SIDE": 0}, {"DIRECT_SIDE": 0}])
@pytest.mark.parametrize("seeds", [range(0, 100), range(100, 200)])
def test_bounds_hold_on_random_problems(small_limits, limits, seeds):
    small_limits(**limits)
    useful = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        n, d = rng.integers(2, 150), rng.integers(1, 100)
        X = rng.standard_normal((n, d)) * np.geomspace(1, 10.0 ** rng.uniform(-4, 0), d)
        if seed % 6 == 1:
            X += rng.choice([1.0, 1e3, 1e5]) * rng.random(d)
        elif seed % 6 == 2:
            X *= rng.choice([1e-6, 1e6])
        elif seed % 6 == 3:
            r = min(3, n, d)
            X = rng.standard_normal((n, r)) @ rng.standard_normal((r, d))
        elif seed % 6 == 4:
            X = X[rng.integers(0, max(1, n // 10), n)]
        elif seed % 6 == 5 and seed % 4 == 1:
            X = np.repeat(X[:1], n, axis=0)
        X = X.astype(rng.choice([np.float32, np.float64]))
        center, rank = bool(rng.integers(2)), int(rng.integers(1, min(n, d, 12) + 1))
        svd = SVD(rank, center=center).fit(X)
        exact = lapack(X, center)[1][:rank]
        rounding = 1e-14 * np.linalg.norm(X.astype(np.float64))  # of LAPACK
        assert (np.abs(svd.singular_values_ - exact) <= svd.singular_value_errors_ + rounding).all(), seed
        useful += (svd.singular_value_errors_ <= 1e-3 * exact[0]).all()
    assert useful > 0.9 * len(seeds)


def test_vanishing_squares_are_refused(small_limits):
    X = with_spectrum(300, 20, np.ones(20), np.float32)
    for limits in ({}, {"GRAM_SIDE": 0}):
        small_limits(**limits)
        for Y in (X, X[:10]):
            with pytest.raises(ValueError, match="values too small for float32: their squares vanish"):
                SVD(3).fit(np.float32(1e-22) * Y)


@pytest.fixture
def small_limits(monkeypatch):
    """Makes small matrices take the ways of large ones."""

    def set_limits(**limits):
        for name, value in limits.items():
            (module,) = (module for module in (leading, lanczos, sources) if hasattr(module, name))
            monkeypatch.setattr(module, name, value)

    return set_limits


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("shape", [(300, 80), (80, 300)])
@pytest.mark.parametrize("limits", [{"GRAM_SIDE": 0}, {"DIRECT_SIDE": 0}, {"GRAM_SIDE": 0, "BASIS_BLOCKS": 3}])
@pytest.mark.parametrize("decay", [1e-1, 1e-5])
def test_block_lanczos_agrees_with_lapack(small_limits, limits, shape, center, dtype, decay):
    small_limits(**limits)
    X = with_spectrum(*shape, np.geomspace(1, decay, 80), dtype, offset=1.0)
    svd = SVD(6, center=center).fit(X)
    assert svd.converged_
    assert_is_svd(X, svd, center)


@pytest.mark.parametrize("limits", [{"GRAM_SIDE": 0}, {"DIRECT_SIDE": 0}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_block_lanczos_beyond_the_rank(small_limits, limits, dtype):
    small_limits(**limits)
    X = with_spectrum(300, 150, np.array([3.0, 2.0, 2.0]), dtype)
    assert_is_svd(X, SVD(8).fit(X), True)
    assert_is_svd(X[:, :1] * np.ones((1, 120), dtype), SVD(3).fit(X[:, :1] * np.ones((1, 120), dtype)), True)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("fall", [1e-2, 0.9])
@pytest.mark.parametrize("hidden", [False, True])
def test_iteration_in_place_of_a_gram_matrix(small_limits, monkeypatch, dtype, center, fall, hidden):
    """Where a sample says that the spectrum falls; also if it says so because what is large is not in the sample."""
    small_limits(GRAM_COST=0, BLOCK_BYTES=1 << 17, PRODUCT_BYTES=1 << 18)
    s = np.concatenate([[1.0, 0.7], np.geomspace(fall, fall / 2, 398)])
    X = with_spectrum(3000, 400, s, dtype, offset=0.01)
    if hidden:
        X[:3, 5] += np.array([0.9, -0.8, 0.7], dtype)
    ways = []
    iterate = leading.block_lanczos
    monkeypatch.setattr(leading, "block_lanczos", lambda *a, **k: ways.append(k) or iterate(*a, **k))
    assert_is_svd(X, SVD(2, center=center).fit(X), center)
    assert bool(ways) == (fall < 0.1)


@pytest.mark.parametrize("center", [True, False])
def test_the_mean_is_a_direction_of_rows_as_they_are(small_limits, monkeypatch, center):
    """Where it is longer than all others, few steps find it."""
    small_limits(GRAM_COST=0, BLOCK_BYTES=1 << 17, PRODUCT_BYTES=1 << 18)
    X = with_spectrum(3000, 400, np.ones(400), np.float32, offset=0.1)
    ways = []
    iterate = leading.block_lanczos
    monkeypatch.setattr(leading, "block_lanczos", lambda *a, **k: ways.append(k) or iterate(*a, **k))
    assert_is_svd(X, SVD(1, center=center).fit(X), center)
    assert bool(ways) == (not center)


def test_flat_spectrum_without_enough_passes_warns(small_limits):
    small_limits(GRAM_SIDE=0, MAX_STEPS=2)
    X = np.random.default_rng(0).standard_normal((400, 300))
    with pytest.warns(ConvergenceWarning, match="did not converge in 2 passes"):
        svd = SVD(5).fit(X)
    assert not svd.converged_


def digest(svd, X):
    svd.fit(X)
    return [a.tobytes() for a in (svd.components_, svd.singular_values_, svd.mean_, svd.transform(X))]


@pytest.mark.parametrize("limits", [{}, {"GRAM_SIDE": 0}, {"DIRECT_SIDE": 0}])
@pytest.mark.parametrize("shape", [(9000, 150), (300, 1500)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_threads_and_source(small_limits, limits, shape, dtype, tmp_path):
    small_limits(**limits)
    X = with_spectrum(*shape, np.geomspace(1, 0.1, 20), dtype, offset=1.0)
    X += 0.001 * np.random.default_rng(1).standard_normal(shape).astype(dtype)
    wanted = digest(SVD(5, n_jobs=1), X)
    for n_jobs in (2, 3, 8):
        assert digest(SVD(5, n_jobs=n_jobs), X) == wanted
    np.save(tmp_path / "x.npy", X)
    assert digest(SVD(5), np.load(tmp_path / "x.npy", mmap_mode="r")) == wanted
    with h5py.File(tmp_path / "x.h5", "w") as f:
        assert digest(SVD(5), f.create_dataset("x", data=X, chunks=(77, shape[1]))) == wanted
    before = X.copy()
    assert digest(SVD(5), np.asfortranarray(X)) == wanted
    np.testing.assert_array_equal(X, before)


def test_order_of_rows_does_not_matter():
    X = with_spectrum(300, 20, np.geomspace(1, 0.1, 20))
    order = np.random.default_rng(0).permutation(300)
    a, b = SVD(5).fit(X), SVD(5).fit(X[order])
    np.testing.assert_allclose(a.components_, b.components_, atol=1e-10)


@pytest.mark.parametrize("n_components", [0, -1, 2.5, "all", True])
def test_wrong_n_components_is_named(n_components):
    with pytest.raises(ValueError, match="n_components must be a whole number"):
        SVD(n_components).fit(np.eye(5))


def test_too_many_components_are_refused():
    with pytest.raises(ValueError, match=r"min\(n_samples, n_features\) = 4 .* got 5"):
        SVD(5).fit(np.ones((4, 9)))


def test_bad_values_and_too_little_memory():
    X = with_spectrum(3000, 40, np.ones(40))
    with pytest.raises(MemoryError, match="SVD of 3000 x 40"):
        SVD(3, max_memory=1000).fit(X)
    X[2345, 6] = np.inf
    with pytest.raises(ValueError, match="first in row 2345, feature 6"):
        SVD(3).fit(X)


@pytest.mark.parametrize("shape", [(20_000, 300), (600, 2000), (2100, 2200), (600_000, 6)])
@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_is_at_most_what_was_predicted(shape, n_jobs, dtype):
    X = (np.random.default_rng(0).standard_normal(shape) + 20).astype(dtype)
    with pytest.raises(MemoryError) as refused:
        SVD(5, n_jobs=n_jobs, max_memory=1).fit(X)
    predicted = memory_limit(str(refused.value).split(" needs ")[1].split(" but ")[0])
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        SVD(5, n_jobs=n_jobs).fit(X)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Products of float32 rows may have to be formed in float64, of copies.
    assert predicted / (8 if dtype == np.float32 else 4) < peak < 1.1 * predicted


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predicted_bytes_are_those_that_a_limit_is_compared_with(dtype):
    svd, X = SVD(3, n_jobs=2), with_spectrum(3000, 40, np.ones(40), dtype)
    predicted = svd.predicted_bytes(3000, 40, dtype)
    svd.set_params(max_memory=predicted).fit_transform(X)
    with pytest.raises(MemoryError, match="SVD of 3000 x 40"):
        svd.set_params(max_memory=predicted - 1).fit_transform(X)


@parametrize_with_checks([SVD(1), SVD(2, center=False)])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        check(estimator)
