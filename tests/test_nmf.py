"""NMF with nmf_solver and nmf_starts: objective against scikit-learn, W against scipy."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import nnls
from sklearn import decomposition
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from stemseg_core import NMF, Stopped
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.stages.nmf_solver import EXACT, Problem, _missing_block, descend
from stemseg_core.stages.nmf_starts import NAMES
from stemseg_core.system.execution import Execution

DTYPES = (np.float32, np.float64)


def mixed(seed, n=600, d=90, k=4, noise=0.05, dtype=np.float64):
    rng = np.random.default_rng(seed)
    E = rng.gamma(1.0, 1.0, (k, d))
    A = rng.dirichlet(np.full(k, 0.7), n)
    return np.clip(A @ E + noise * rng.standard_normal((n, d)), 0, None).astype(dtype)


def error_of(model, W, X):
    return np.linalg.norm(X.astype(np.float64) - W.astype(np.float64) @ model.components_.astype(np.float64))


@parametrize_with_checks([NMF(2), NMF(1, init="random")])
def test_scikit_learn_checks(estimator, check):
    check(estimator)


# The objective


@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(10, 14))])
def test_as_good_as_the_best_of_three_scikit_learn_starts(seed):
    k = 2 + seed % 7
    X = mixed(seed, 300 + 50 * seed, 30 + 12 * seed, k, (0.01, 0.05, 0.2)[seed % 3], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = [
            decomposition.NMF(k, init=init, max_iter=400, random_state=0).fit(X).reconstruction_err_
            for init in ("nndsvda", "nndsvd", "random")
        ]
    model = NMF(k)
    W = model.fit_transform(X)
    assert model.converged_
    assert W.min() >= 0
    assert model.components_.min() >= 0
    assert error_of(model, W, X) <= min(theirs) * 1.0005


@pytest.mark.parametrize("extrapolate_from", ["spa", "random"])
@pytest.mark.parametrize("d", [20, 120])
def test_no_pass_raises_the_exact_error(extrapolate_from, d):
    X = mixed(3, d=d)
    rng = np.random.default_rng(0)
    H = X[:4].copy() if extrapolate_from == "spa" else rng.random((4, d))
    problem = Problem(ArrayRows(X), None, float((X**2).sum()), Execution(), EXACT[8])
    errors = []
    for n in range(1, 40):
        state = descend(problem, H, np.zeros((len(X), 4)), max_iter=n, tol=0)
        errors.append(state.objective)
        assert state.n_iter == n
    assert_array_equal(np.diff(errors) <= 1e-12 * problem.sum_squares, True)
    assert errors[-1] < 0.95 * errors[0]


def test_objective_of_a_descent_is_the_direct_one():
    X = mixed(5)
    problem = Problem(ArrayRows(X), None, float((X**2).sum()), Execution(), EXACT[8])
    H = X[:4].copy()
    state = descend(problem, H, np.zeros((len(X), 4)), max_iter=1, tol=0)
    assert_allclose(state.objective, ((X - state.W @ H) ** 2).sum(), rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("noise", [0.0, 1e-5, 0.1])
def test_reported_error_is_that_of_the_returned_factors(dtype, noise):
    X = mixed(1, noise=noise, dtype=dtype)
    model = NMF(4)
    W = model.fit_transform(X)
    assert W.dtype == model.components_.dtype == dtype
    rounding = 1e-15 * np.linalg.norm(X)
    assert_allclose(model.reconstruction_err_, error_of(model, W, X), rtol=1e-6, atol=rounding)
    assert model.reconstruction_err_ <= 4e-6 * np.linalg.norm(X) + noise * np.sqrt(X.size)


@pytest.mark.parametrize("k", [3, 7])
@pytest.mark.parametrize("dtype", DTYPES)
def test_transform_is_scipy_nnls_and_what_fit_transform_gave(k, dtype):
    X = mixed(2, k=k, dtype=dtype)
    model = NMF(k)
    W = model.fit_transform(X)
    assert_array_equal(model.transform(X), W)
    H = model.components_.astype(np.float64)
    want = np.array([nnls(H.T, x)[0] for x in X[:100].astype(np.float64)])
    assert_allclose(W[:100], want, atol=2e-4 if dtype == np.float32 else 1e-9)
    assert_allclose(model.inverse_transform(W), W @ model.components_, rtol=1e-6)


def test_a_planted_factorisation_is_found():
    rng = np.random.default_rng(0)
    H = np.kron(np.eye(3), np.ones(20)) * rng.random(60)
    X = np.vstack([np.eye(3), rng.dirichlet(np.ones(3), 500)]) @ H
    model = NMF(3).fit(X)
    cosines = model.components_ @ H.T / np.linalg.norm(H, axis=1)
    assert_allclose(np.sort(cosines.max(axis=1)), 1, atol=1e-6)


@pytest.mark.parametrize("init", NAMES)
def test_each_start_alone(init):
    X = mixed(4)
    model = NMF(4, init=init).fit(X)
    assert model.converged_
    assert_allclose(model.reconstruction_err_, NMF(4).fit(X).reconstruction_err_, rtol=2e-2)


def test_given_components_are_the_start():
    X = mixed(6)
    best = NMF(4, tol=1e-6, max_iter=5000).fit(X)
    again = NMF(4, init=best.components_, tol=1e-5).fit(X)
    assert_allclose(again.components_, best.components_, atol=5e-3)
    assert again.n_iter_ < 30


def test_starts_are_compared_on_some_of_many_rows():
    X = mixed(7, n=20_000, d=60, k=3, dtype=np.float32)
    X[777:780] = 0
    X[777:780, 11] = 40  # rows of a fourth component that every third row nearly misses
    model = NMF(4).fit(X)
    assert model.components_[:, 11].max() > 0.99


# Conventions


def test_components_have_length_one_and_fall_in_sum_of_squares():
    model = NMF(5)
    W = model.fit_transform(mixed(8, k=5))
    assert_allclose(np.linalg.norm(model.components_, axis=1), 1)
    squares = (W**2).sum(axis=0)
    assert (np.diff(squares) <= 1e-3 * squares[:-1]).all()


@given(exponent=st.integers(-6, 6), seed=st.integers(0, 5))
@settings(max_examples=8, deadline=None)
def test_scale_goes_into_w(exponent, seed):
    X = mixed(seed, 200, 40, 3, dtype=np.float32)
    scale = 10.0**exponent
    one, other = NMF(3), NMF(3)
    W, V = one.fit_transform(X), other.fit_transform(X * np.float32(scale))
    assert_allclose(other.components_, one.components_, atol=2e-3)
    assert_allclose(V / scale, W, atol=1e-2)
    assert_allclose(other.reconstruction_err_ / scale, one.reconstruction_err_, rtol=1e-4)


@given(seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_order_of_rows_and_features_does_not_matter(seed):
    X = mixed(9, 200, 40, 3)
    rng = np.random.default_rng(seed)
    rows, features = rng.permutation(200), rng.permutation(40)
    one, other = NMF(3, tol=1e-6), NMF(3, tol=1e-6)
    W, V = one.fit_transform(X), other.fit_transform(X[rows][:, features])
    assert_allclose(other.reconstruction_err_, one.reconstruction_err_, rtol=1e-6)
    assert_allclose(other.components_, one.components_[:, features], atol=2e-2)
    assert_allclose(V, W[rows], atol=5e-2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [24, 150])
def test_same_bits_for_any_threads_and_storage(dtype, d, tmp_path):
    h5py = pytest.importorskip("h5py")
    X = mixed(10, 9000, d, 3, dtype=dtype)
    model = NMF(3, n_jobs=1)
    W = model.fit_transform(X)
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=X, chunks=(777, d))
        memmap = np.load(tmp_path / "x.npy", mmap_mode="r")
        for data, n_jobs in ((X, 2), (X, 3), (X, 8), (memmap, 2), (stored, 2), (np.asfortranarray(X), 1)):
            other = NMF(3, n_jobs=n_jobs)
            assert_array_equal(other.fit_transform(data), W)
            assert_array_equal(other.components_, model.components_)
            assert other.reconstruction_err_ == model.reconstruction_err_


def test_integers_and_read_only_input_stay_as_they_are():
    X = (mixed(11) * 100).astype(np.uint16)
    X.flags.writeable = False
    before = X.copy()
    model = NMF(4).fit(X)
    assert_array_equal(X, before)
    assert model.components_.dtype == np.float64
    assert_array_equal(model.components_, NMF(4).fit(X.astype(float)).components_)
    assert list(model.get_feature_names_out()) == ["nmf0", "nmf1", "nmf2", "nmf3"]


# Degenerate data


@pytest.mark.parametrize(
    ("X", "k"),
    [
        (np.ones((50, 80)), 3),
        (np.outer(np.arange(50.0), np.arange(80.0)), 4),
        (mixed(12, 5, 200, 3), 8),
        (mixed(12, 1, 30, 2), 3),
        (mixed(12, 300, 1, 2), 2),
        (mixed(12, 40, 6, 3), 10),
        (np.repeat(mixed(12, 3, 90, 3), 30, axis=0), 5),
        (np.eye(70), 70),
        (np.pad(mixed(12, 100, 60, 3), ((10, 5), (7, 9))), 3),
    ],
    ids=[
        "constant",
        "rank 1",
        "n < k",
        "one row",
        "one feature",
        "d < k",
        "duplicates",
        "identity",
        "zero rows, columns",
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_degenerate_data_are_factorised(X, k, dtype):
    X = X.astype(dtype)
    model = NMF(k)
    W = model.fit_transform(X)
    assert np.isfinite(W).all()
    assert np.isfinite(model.components_).all()
    assert W.min() >= 0
    assert_allclose(model.reconstruction_err_, error_of(model, W, X), rtol=1e-4, atol=1e-6 * np.linalg.norm(X))
    rank = min(k, *X.shape)
    least = np.sqrt((np.linalg.svd(X.astype(float), compute_uv=False)[rank:] ** 2).sum())
    assert model.reconstruction_err_ <= 1.2 * least + 2e-3 * np.linalg.norm(X)


def test_zero_data_give_zero():
    model = NMF(2)
    assert_array_equal(model.fit_transform(np.zeros((6, 5))), 0)
    assert_array_equal(model.components_, 0)
    assert model.reconstruction_err_ == 0
    assert model.converged_


def test_a_component_of_zero_is_refilled():
    X = mixed(13, k=3, noise=0.01)
    init = np.vstack([X[:2], np.zeros(X.shape[1])])
    model = NMF(3, init=init).fit(X)
    assert_allclose(model.reconstruction_err_, NMF(3).fit(X).reconstruction_err_, rtol=1e-2)


def test_a_row_to_refill_from_is_looked_for_in_little_memory(peak_bytes):
    rng = np.random.default_rng(0)
    B, basis, W, H = rng.random((3000, 12)), rng.random((12, 400)), rng.random((3000, 3)), rng.random((3, 400))
    lacks = np.maximum(B @ basis - W @ H, 0)
    squares = (lacks**2).sum(axis=1)
    peak = peak_bytes(_missing_block, B, W, H, basis)
    _, (size, row) = _missing_block(B, W, H, basis)
    assert peak < 4e6 < B.shape[0] * H.shape[1] * 8 / 2
    assert_allclose(size, squares.max(), rtol=1e-12)
    assert_allclose(row, lacks[squares.argmax()], rtol=1e-12, atol=1e-12)


# Errors


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "n_components must be a whole number, at least 1; got 0"),
        ({"n_components": 2.5}, "n_components must be a whole number"),
        ({"n_init": 0}, "n_init must be"),
        ({"max_iter": 0}, "max_iter must be"),
        ({"tol": -1}, "tol must be a number, at least 0"),
        ({"init": "best"}, "init must be one of 'auto', 'nfindr'.*got 'best'"),
        ({"init": np.ones((2, 3))}, r"init must have one row a component.*\(2, 20\); got \(2, 3\)"),
        ({"init": -np.ones((2, 20))}, "init must not be negative"),
    ],
)
def test_wrong_parameters_are_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        NMF(**{"n_components": 2, **parameters}).fit(mixed(0, 30, 20))


def test_bad_values_are_counted_and_located():
    X = mixed(0, 3000, 100)
    X[2000, 3] = X[2500, 4] = -1
    with pytest.raises(ValueError, match="Negative values in data passed to NMF: 2 of them, the first in row 2000"):
        NMF(2).fit(X)
    X[1234, 7] = np.nan
    with pytest.raises(ValueError, match="first in row 1234, feature 7"):
        NMF(2).fit(X)


@pytest.mark.parametrize(("scale", "d", "message"), [(1e-25, 20, "too small for float32"), (1e25, 60, "too large for")])
def test_values_whose_squares_float32_cannot_hold_are_refused(scale, d, message):
    X = mixed(0, 50, d)
    with pytest.raises(ValueError, match=message):
        NMF(2).fit((X * scale).astype(np.float32))
    assert NMF(2).fit(X * scale).converged_


def test_memory_is_predicted():
    X = mixed(0)
    predicted = NMF(4).predicted_bytes(*X.shape, X.dtype)
    NMF(4, max_memory=predicted).fit(X)
    with pytest.raises(MemoryError, match="NMF of 600 rows in 4 components needs"):
        NMF(4, max_memory=predicted - 1).fit(X)


@pytest.mark.parametrize(("n", "d", "k"), [(20000, 30, 4), (8000, 200, 8)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_memory_is_at_most_what_was_predicted(n, d, k, dtype, peak_bytes):
    X, model = mixed(0, n, d, k, dtype=dtype), NMF(k, n_jobs=2)
    assert peak_bytes(model.fit, X) < model.predicted_bytes(n, d, X.dtype) < 3 * peak_bytes(model.fit, X)


def test_progress_stops():
    model = NMF(4, progress=lambda done, total, stage: stage != "NMF")
    with pytest.raises(Stopped, match="NMF"):
        model.fit(mixed(0))
    assert not hasattr(model, "components_")


def test_too_few_passes_are_told():
    with pytest.warns(ConvergenceWarning, match="max_iter=1 passes"):
        model = NMF(4, max_iter=1).fit(mixed(0))
    assert not model.converged_


def test_wrong_number_of_amounts():
    model = NMF(2).fit(mixed(0))
    with pytest.raises(ValueError, match=r"W must have 2 columns, one a component; got shape \(5, 3\)"):
        model.inverse_transform(np.ones((5, 3)))
