"""`MNF` and `differences` against the generalized eigenproblem of LAPACK, and any source of rows."""

import tracemalloc
import warnings

import h5py
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.estimator_checks import parametrize_with_checks

from stemseg_core import MNF, SVD, WindowFFT
from stemseg_core.rows import sources
from stemseg_core.system.memory import memory_limit
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.windows import plan


def scanned(n=2000, d=15, k=3, dtype=np.float64, offset=5.0, seed=0):
    """Rows of k smooth signals, unequally strong, with noise that is unequal in the features; and the signal alone."""
    rng = np.random.default_rng(seed)
    smooth = np.sin(np.outer(np.arange(n), rng.uniform(0.002, 0.02, k)) + rng.uniform(0, 6, k)) * 3.0 ** -np.arange(k)
    signal = smooth @ rng.standard_normal((k, d)) + offset
    return (signal + rng.uniform(0.02, 2, d) * rng.standard_normal((n, d))).astype(dtype), signal


@one_blas_thread()
def by_definition(X, noise=None):
    """Ratios of total to noise variance, falling, and components of unit noise variance, largest entry positive."""
    X = X.astype(np.float64)
    D = np.diff(X, axis=0)
    S = np.atleast_2d(np.cov(X, rowvar=False))
    values, V = scipy.linalg.eigh(S, D.T @ D / (2 * len(D)) if noise is None else noise)
    V = V.T[::-1]
    return values[::-1], V * np.sign(V[np.arange(len(V)), np.abs(V).argmax(axis=1)])[:, np.newaxis]


def assert_same_up_to_sign(a, b, **tolerance):
    np.testing.assert_allclose(a * np.sign((a * b).sum(axis=0)), b, **tolerance)


def covariance(d, seed=3):
    A = np.random.default_rng(seed).standard_normal((2 * d, d))
    return A.T @ A / d


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-9)])
@pytest.mark.parametrize("given_noise", [False, True])
@pytest.mark.parametrize("shape", [(2000, 15), (60, 40), (9000, 130)])
def test_agrees_with_lapack(shape, given_noise, dtype, tolerance):
    X, _ = scanned(*shape, dtype=dtype)
    noise = covariance(shape[1]) if given_noise else None
    mnf = MNF(4, noise=noise).fit(X)
    values, C = by_definition(X, noise)
    np.testing.assert_allclose(mnf.snr_, values[:4] - 1, rtol=1e-8)
    np.testing.assert_allclose(mnf.components_, C[:4], atol=tolerance * np.abs(C[:4]).max())
    np.testing.assert_allclose(mnf.mean_, X.mean(axis=0, dtype=np.float64), rtol=tolerance)
    scores = (X - X.mean(axis=0, dtype=np.float64)) @ C[:4].T
    found = mnf.transform(X)
    assert found.dtype == mnf.components_.dtype == mnf.mixing_.dtype == dtype
    np.testing.assert_allclose(found, scores, atol=50 * tolerance * np.abs(scores).max())


@given(n=st.integers(30, 300), d=st.integers(1, 12), seed=st.integers(0, 99), scale=st.sampled_from([1e-6, 1.0, 1e6]))
def test_any_linear_map_of_the_features_leaves_the_scores(n, d, seed, scale):
    X, _ = scanned(n, d, min(3, d), seed=seed)
    rng = np.random.default_rng(seed)
    turns = [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2)]
    A = scale * turns[0] * np.geomspace(1, 1e-2, d) @ turns[1]
    units = 10.0 ** rng.integers(-6, 6, d)
    k = min(2, d)
    one = MNF(k).fit(X)
    values = by_definition(X)[0][: k + 1]
    apart = (values[1:] < 0.95 * values[:-1]).all()
    for map_ in (A, np.diag(units)):
        other = MNF(k).fit(X @ map_)
        np.testing.assert_allclose(other.snr_, one.snr_, rtol=1e-6, atol=1e-6)
        if apart:
            assert_same_up_to_sign(other.transform(X @ map_), one.transform(X), atol=1e-4)


@given(n=st.integers(20, 400), d=st.integers(1, 12), k=st.integers(1, 5), seed=st.integers(0, 99))
def test_noise_of_scores_is_white_and_signal_falls(n, d, k, seed):
    X, _ = scanned(n, d, seed=seed)
    mnf = MNF(min(k, d)).fit(X)
    scores = mnf.transform(X)
    steps = np.diff(scores, axis=0)
    np.testing.assert_allclose(steps.T @ steps / (2 * len(steps)), np.eye(scores.shape[1]), atol=1e-8)
    np.testing.assert_allclose(np.cov(scores, rowvar=False).reshape(2 * (min(k, d),)), np.diag(mnf.snr_ + 1), atol=1e-8)
    assert (np.diff(mnf.snr_) <= 0).all()
    assert (mnf.components_[np.arange(min(k, d)), np.abs(mnf.components_).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_back_and_forth(dtype):
    X, signal = scanned(dtype=dtype)
    whole = MNF(15).fit(X)
    np.testing.assert_allclose(whole.components_ @ whole.mixing_, np.eye(15), atol=1e5 * np.finfo(dtype).eps)
    np.testing.assert_allclose(whole.inverse_transform(whole.transform(X)), X, atol=1e5 * np.finfo(dtype).eps)
    error = {
        Reduction: np.square(fitted.inverse_transform(fitted.transform(X)) - signal).mean()
        for Reduction, fitted in ((MNF, MNF(3).fit(X)), (SVD, SVD(3).fit(X)))
    }
    assert error[MNF] < 0.2 * np.square(X - signal).mean()
    assert error[MNF] < 0.5 * error[SVD]
    with pytest.raises(ValueError, match="15 columns"):
        whole.inverse_transform(X[:, :4])


def test_signal_to_noise_is_that_of_the_truth():
    X, signal = scanned(n=20_000)
    mnf = MNF(3).fit(X)
    scores = (signal - mnf.mean_) @ mnf.components_.T
    np.testing.assert_allclose(mnf.snr_, scores.var(axis=0), rtol=0.05)
    np.testing.assert_allclose(MNF(3, noise=np.cov((X - signal).T)).fit(X).snr_, mnf.snr_, rtol=0.05)


def test_constant_and_dependent_features_are_left_out():
    X, _ = scanned(d=6)
    more = np.c_[X, np.full(len(X), 7.0), X[:, 0] - 2 * X[:, 3], X[:, 2]]
    one, other = MNF(6).fit(X), MNF(6).fit(more)
    np.testing.assert_allclose(other.snr_, one.snr_, rtol=1e-6)
    assert_same_up_to_sign(other.transform(more), one.transform(X), atol=1e-5)
    np.testing.assert_allclose(other.inverse_transform(other.transform(more)), more, atol=1e-6)
    with pytest.raises(ValueError, match="independent directions that have noise, 6; got 7"):
        MNF(7).fit(more)


def test_fewer_rows_than_features():
    X, _ = scanned(n=10, d=40)
    mnf = MNF(9).fit(X)
    steps = np.diff(mnf.transform(X), axis=0)
    np.testing.assert_allclose(steps.T @ steps / 18, np.eye(9), atol=1e-7)
    np.testing.assert_allclose(mnf.inverse_transform(mnf.transform(X)), X, atol=1e-7)


def test_a_large_offset_costs_no_digits():
    X, _ = scanned()
    one, other = MNF(3).fit(X), MNF(3).fit(X + 1e6)
    np.testing.assert_allclose(other.snr_, one.snr_, rtol=1e-6)


def singular(d):
    return np.diag([0.0, *np.ones(d - 1)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": np.eye(4)}, r"noise must be a covariance matrix: .* of shape \(15, 15\); got shape \(4, 4\)"),
        ({"noise": np.full((15, 15), np.nan)}, "noise must be a covariance matrix: symmetric, finite"),
        ({"noise": np.triu(np.ones((15, 15)))}, "noise must be a covariance matrix: symmetric"),
        ({"noise": -np.eye(15)}, "noise must be a covariance matrix; it has negative eigenvalues"),
        ({"noise": singular(15)}, "varies in 1 of 15 directions without noise.*added to its diagonal"),
        ({"noise": np.zeros((15, 15))}, "varies in 15 of 15 directions without noise"),
        ({"n_components": 0}, "n_components must be a whole number"),
        ({"n_components": 16}, r"min\(n_samples, n_features\) = 15 .* got 16"),
    ],
)
def test_wrong_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MNF(**options).fit(scanned()[0])


def test_data_that_cannot_be_told_from_noise_or_read_are_refused():
    X, _ = scanned()
    with pytest.raises(ValueError, match="minimum of 2"):
        MNF(1).fit(X[:1])
    with pytest.raises(ValueError, match="directions that have noise, 0; got 1"):
        MNF(1).fit(np.ones((20, 3)))
    with pytest.raises(ValueError, match="values too small for float32: their squares vanish"):
        MNF(1).fit((1e-30 * X).astype(np.float32))
    with pytest.raises(MemoryError, match="MNF of 2000 x 15"):
        MNF(1, max_memory=1000).fit(X)
    X[1234, 5] = np.nan
    with pytest.raises(ValueError, match="first in row 1234, feature 5"):
        MNF(1).fit(X)


@pytest.fixture
def many_blocks(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 13)
    monkeypatch.setattr(sources, "PRODUCT_BYTES", 1 << 15)


@pytest.mark.usefixtures("many_blocks")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_any_threads_and_source(dtype, tmp_path):
    def digest(X, n_jobs=None):
        mnf = MNF(3, n_jobs=n_jobs).fit(X)
        return [a.tobytes() for a in (mnf.components_, mnf.mixing_, mnf.mean_, mnf.snr_, mnf.transform(X))]

    X, _ = scanned(n=5000, dtype=dtype)
    assert sources.ArrayRows(X).n_blocks > 8
    wanted = digest(X)
    for n_jobs in (1, 2, 3, 8):
        assert digest(X, n_jobs) == wanted
    np.save(tmp_path / "x.npy", X)
    assert digest(np.load(tmp_path / "x.npy", mmap_mode="r")) == wanted
    with h5py.File(tmp_path / "x.h5", "w") as file:
        assert digest(file.create_dataset("x", data=X, chunks=(77, 15))) == wanted


@pytest.mark.usefixtures("many_blocks")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_windows_have_the_pairs_of_an_array(masked, frames, grouped, monkeypatch):
    """Also those pairs whose rows are in two tiles, two strips or two frames."""
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 12)
    monkeypatch.setattr(plan, "STRIP_COLUMNS", 40)
    monkeypatch.setattr(sources, "MIN_GROUPS", 3)
    monkeypatch.setattr(sources, "PRODUCT_BYTES", 1 << 14 if grouped else 0)
    rng = np.random.default_rng(0)
    image = rng.normal(10, 1, (frames, 200, 150)) + np.cos(np.arange(150) * np.linspace(0.5, 1, 200)[:, np.newaxis])
    mask = np.zeros(image.shape, bool)
    mask[:, 40:52, 60:75] = mask[0, 90:, 3:5] = masked
    matrix = WindowFFT(10, 5).matrix(image, mask)
    stored = np.asarray(matrix)
    assert min(matrix.tiles.counts[1:]) > 1
    assert (matrix.grouped() is matrix) == (not grouped)
    virtual, array = MNF(3).fit(matrix), MNF(3).fit(stored)
    np.testing.assert_allclose(virtual.snr_, by_definition(stored)[0][:3] - 1, rtol=1e-6)
    np.testing.assert_allclose(virtual.snr_, array.snr_, rtol=1e-6)
    np.testing.assert_allclose(virtual.transform(matrix), array.transform(stored), atol=1e-6 * np.abs(stored).max())


def peak_bytes(function):
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("shape", [(40_000, 100), (1500, 900), (600_000, 3)])
@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_memory_is_at_most_what_was_predicted(shape, n_jobs, dtype):
    X = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    mnf = MNF(2, n_jobs=n_jobs)
    predicted = mnf.predicted_bytes(*shape, dtype)
    with pytest.raises(MemoryError):
        mnf.set_params(max_memory=predicted - 1).fit(X)
    peak = peak_bytes(lambda: mnf.set_params(max_memory=predicted).fit(X))
    assert predicted / 4 < peak < 1.1 * predicted


@pytest.mark.parametrize("shape", [(1200, 300), (300, 1200), (2400, 150)])
def test_memory_for_windows(shape):
    matrix = WindowFFT(24, 2).matrix(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    mnf = MNF(2, n_jobs=2)
    with pytest.raises(MemoryError) as refused:
        mnf.set_params(max_memory=1).fit(matrix)
    predicted = memory_limit(str(refused.value).split(" needs ")[1].split(" but ")[0])
    peak = peak_bytes(lambda: mnf.set_params(max_memory=None).fit(matrix))
    assert predicted / 4 < peak < 1.1 * predicted


@parametrize_with_checks([MNF(1), MNF(2)])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        check(estimator)
