"""Abundances: KKT conditions, independent solvers, degenerate input, kernels against their twins."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import nnls

from stemseg_core import Stopped, abundances
from stemseg_core._kernels import available_levels
from stemseg_core.stages import abundances as abundances_module
from stemseg_core.stages.abundances import CONSTRAINTS, KERNEL_COMPONENTS, GramSolver, enumerated_supports

ALL = tuple(CONSTRAINTS)
BOUNDED = ("fcls", "nnls")


def mixtures(n=200, d=30, k=4, noise=0.3, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    E = rng.gamma(1.0, 1.0, (k, d))
    X = rng.dirichlet(np.full(k, 0.7), n) @ E + noise * rng.standard_normal((n, d))
    return X.astype(dtype), E


def kkt_residual(X, E, A, constraint):
    """Largest violation of the KKT conditions, by the scale of the problem."""
    X, E, A = X.astype(np.float64), np.asarray(E, dtype=np.float64), A.astype(np.float64)
    non_negative, sum_to_one = CONSTRAINTS[constraint]
    norms = np.linalg.norm(E, axis=1).max()
    scale = norms * np.maximum(norms, np.linalg.norm(X, axis=1))[:, np.newaxis]
    gradient = (A @ E - X) @ E.T
    if sum_to_one:
        mu = (gradient * A).sum(axis=1) if non_negative else gradient.mean(axis=1)
        gradient -= mu[:, np.newaxis]
        assert np.abs(A.sum(axis=1) - 1).max() < 2e-6
    if non_negative:
        assert A.min() >= 0
        violation = np.maximum(-gradient, np.abs(A * gradient) / np.maximum(1, A.max(axis=1, keepdims=True)))
    else:
        violation = np.abs(gradient)
    return (violation / scale).max()


@pytest.mark.parametrize("constraint", ALL)
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 9, 14, 33, 64])
def test_kkt(constraint, k):
    X, E = mixtures(k=k, d=80)
    assert kkt_residual(X, E, abundances(X, E, constraint=constraint), constraint) < 1e-13
    X = X.astype(np.float32)
    A = abundances(X, E, constraint=constraint)
    assert A.dtype == np.float32
    assert kkt_residual(X, E, A, constraint) < 1e-5


@pytest.mark.parametrize("k", [1, 3, 5, 7, 12])
def test_nnls_is_that_of_scipy(k):
    X, E = mixtures(k=k)
    assert_allclose(abundances(X, E, constraint="nnls"), [nnls(E.T, x)[0] for x in X], atol=1e-9)


@pytest.mark.parametrize("k", [1, 3, 5, 7, 12])
def test_fcls_is_the_limit_of_a_heavy_row_of_ones(k):
    X, E = mixtures(k=k)
    heavy = 1e5
    want = [nnls(np.vstack([E.T, np.full(k, heavy)]), np.append(x, heavy))[0] for x in X]
    assert_allclose(abundances(X, E), want, atol=1e-6)


def test_ucls_and_scls_are_least_squares():
    X, E = mixtures()
    assert_allclose(abundances(X, E, constraint="ucls"), np.linalg.lstsq(E.T, X.T, rcond=None)[0].T, atol=1e-12)
    free = np.linalg.lstsq((E[:-1] - E[-1]).T, (X - E[-1]).T, rcond=None)[0].T
    assert_allclose(abundances(X, E, constraint="scls"), np.c_[free, 1 - free.sum(axis=1)], atol=1e-12)


@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize("constraint", ALL)
def test_true_abundances_of_noiseless_rows(constraint, k):
    A = np.random.default_rng(1).dirichlet(np.full(k, 0.5), 100)
    A[:k] = np.eye(k)
    E = mixtures(k=k)[1]
    assert_allclose(abundances(A @ E, E, constraint=constraint), A, atol=1e-12)
    assert_allclose(abundances((A @ E).astype(np.float32), E, constraint=constraint), A, atol=1e-4)


@pytest.mark.parametrize("k", [4, 8])
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_scale_of_the_data(scale, k):
    X, E = mixtures(k=k)
    for constraint in ALL:
        want = abundances(X, E, constraint=constraint)
        assert_allclose(abundances(scale * X, scale * E, constraint=constraint), want, atol=1e-9)
        assert_allclose(abundances((scale * X).astype(np.float32), scale * E, constraint=constraint), want, atol=1e-4)


@pytest.mark.parametrize("k", [4, 8])
def test_components_of_very_different_scale(k):
    X, E = mixtures(k=k)
    factors = np.geomspace(1e-6, 1e6, k)
    for constraint in ("nnls", "ucls"):
        want = abundances(X, E, constraint=constraint)
        assert_allclose(abundances(X, E * factors[:, np.newaxis], constraint=constraint) * factors, want, atol=1e-9)


@pytest.mark.parametrize("k", [4, 8])
@pytest.mark.parametrize("constraint", ["fcls", "scls"])
def test_offset_of_the_data_does_not_matter_with_sum_one(constraint, k):
    X, E = mixtures(k=k)
    X = X.astype(np.float32).astype(np.float64)
    want = abundances(X, E, constraint=constraint)
    assert_allclose(abundances(X + 1e6, E + 1e6, constraint=constraint), want, atol=1e-7)
    offset = np.float32(1024)  # on X it rounds to 1e-4, which is what is left of the digits
    shifted = (X + offset).astype(np.float32)
    assert_allclose(abundances(shifted, E + offset, constraint=constraint), want, atol=2e-3)
    exact = abundances(shifted.astype(np.float64), E + offset, constraint=constraint)
    assert_allclose(abundances(shifted, E + offset, constraint=constraint), exact, atol=1e-6)


@pytest.mark.parametrize("constraint", ALL)
@pytest.mark.parametrize("k", [3, 8])
@pytest.mark.parametrize("distance", [1e-2, 1e-4, 1e-6, 1e-8, 0.0])
def test_components_nearly_alike(distance, k, constraint):
    X, E = mixtures(k=k)
    E[1] = E[0] + distance * E[1]
    A = abundances(X, E, constraint=constraint)
    assert np.isfinite(A).all()
    assert kkt_residual(X, E, A, constraint) < (1e-10 if distance > 1e-5 else 1e-7) * max(1, np.abs(A).max())
    assert np.isfinite(abundances(X.astype(np.float32), E, constraint=constraint)).all()


@pytest.mark.parametrize("constraint", ALL)
@pytest.mark.parametrize("k", [4, 9])
@pytest.mark.parametrize(
    "degrade",
    [
        lambda E: np.repeat(E[:1], len(E), axis=0),
        lambda E: np.vstack([E[:2], (E[:2] * [[0.5], [0.5]]).sum(axis=0), E[3:]]),
        lambda E: E * (np.arange(len(E)) > 0)[:, np.newaxis],
        lambda E: E * 0,
        lambda E: np.outer(np.arange(1, len(E) + 1), E[0]),
        lambda E: E * (np.arange(E.shape[1]) < 2),
    ],
    ids=["one", "midpoint", "zero", "all zero", "collinear", "plane"],
)
def test_degenerate_components(degrade, k, constraint):
    X, E = mixtures(k=k)
    E = degrade(E)
    X[0] = 0
    X[1] = 7
    for dtype, tolerance in ((np.float64, 1e-12), (np.float32, 1e-5)):
        if not E.any():
            assert np.isfinite(abundances(X.astype(dtype), E, constraint=constraint)).all()
            continue
        A = abundances(X.astype(dtype), E, constraint=constraint)
        assert kkt_residual(X.astype(dtype), E, A, constraint) < tolerance


def test_min_norm_where_least_squares_is_not_unique():
    X, E = mixtures(k=3)
    E[2] = E[0]
    for constraint in ("ucls", "scls"):
        A = abundances(X, E, constraint=constraint)
        assert_allclose(A[:, 0], A[:, 2], atol=1e-12)


@pytest.mark.parametrize("k", [3, 7])
@pytest.mark.parametrize("constraint", ALL)
def test_reduced_data_give_the_same(constraint, k):
    X, E = mixtures(k=k)
    basis = np.linalg.qr(E.T)[0]
    want = abundances(X, E, constraint=constraint)
    assert_allclose(abundances(X @ basis, E @ basis, constraint=constraint), want, atol=1e-10)
    centred = np.linalg.svd(E - E.mean(axis=0), full_matrices=False)[2][: k - 1].T  # k components in k - 1 features
    if constraint in ("fcls", "scls"):
        assert_allclose(abundances(X @ centred, E @ centred, constraint=constraint), want, atol=1e-10)


@pytest.mark.parametrize("k", [4, 9])
@pytest.mark.parametrize("constraint", ALL)
def test_a_row_far_away(constraint, k):
    X, E = mixtures(k=k)
    A = abundances(X * 1e8, E, constraint=constraint)
    assert kkt_residual(X * 1e8, E, A, constraint) < 1e-13 * max(1, np.abs(A).max())


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 12),
    st.integers(1, 70),
    st.integers(0, 10**6),
    st.sampled_from(ALL),
    st.booleans(),
)
def test_any_integers(k, d, n, seed, constraint, single):
    """Small whole numbers: ties, duplicates, dependent components, zeros."""
    rng = np.random.default_rng(seed)
    E, X = rng.integers(-1, 3, (k, d)).astype(float), rng.integers(-2, 4, (n, d)).astype(float)
    if not E.any():
        return
    X = X.astype(np.float32) if single else X
    A = abundances(X, E, constraint=constraint)
    assert kkt_residual(X, E, A, constraint) < (1e-5 if single else 1e-11)
    order = rng.permutation(n)
    assert_allclose(abundances(X[order], E, constraint=constraint), A[order], atol=1e-9)
    assert_allclose(abundances(X[:1], E, constraint=constraint), A[:1], atol=1e-9)


@pytest.mark.parametrize("constraint", ALL)
@pytest.mark.parametrize("k", [3, 7])
def test_same_bits_for_any_threads_and_storage(constraint, k, tmp_path):
    h5py = pytest.importorskip("h5py")
    X, E = mixtures(n=20_000, d=50, k=k, dtype=np.float32)
    want = abundances(X, E, constraint=constraint, n_jobs=1)
    for n_jobs in (2, 3, 8):
        assert_array_equal(abundances(X, E, constraint=constraint, n_jobs=n_jobs), want)
    np.save(tmp_path / "x.npy", X)
    assert_array_equal(abundances(np.load(tmp_path / "x.npy", mmap_mode="r"), E, constraint=constraint), want)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("x", data=X, chunks=(777, 50))
        assert_array_equal(abundances(stored, E, constraint=constraint), want)


@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda X: X[::-1][::-1], lambda X: X.astype(">f8"), lambda X: X.tolist()],
    ids=["Fortran", "strides", "big-endian", "list"],
)
def test_layout_does_not_matter(change):
    X, E = mixtures()
    X.setflags(write=False)
    assert_array_equal(abundances(change(X), E), abundances(X, E))
    assert_array_equal(abundances(X, change(E)), abundances(X, E))
    whole = np.arange(60).reshape(20, 3)
    assert_array_equal(abundances(whole, whole[:3]), abundances(whole.astype(float), whole[:3].astype(float)))


@pytest.mark.parametrize("constraint", ALL)
def test_products_suffice(constraint):
    X, E = mixtures(k=7)
    want = abundances(X, E, constraint=constraint)
    B = X @ E.T
    solver = GramSolver(E @ E.T, constraint)
    found = solver.solve(B)
    assert_allclose(found, want, atol=1e-10)
    assert solver.solve(B, out=B) is B
    assert_array_equal(B, found)


@pytest.mark.parametrize("level", available_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constraint", BOUNDED)
@pytest.mark.parametrize("n", [1, 31, 100])
def test_kernels_are_their_twins(reference, level, dtype, constraint, n):
    kernels, twins = importlib.import_module(f"stemseg_core._kernels.abundances_{level}"), reference("abundances")
    tolerance = 1e-6 if dtype == np.float32 else 1e-12
    for k in (1, 2, 3, 4, 5, 6, 8):
        X, E = mixtures(n=n, k=k, seed=n)
        solver = GramSolver(E @ E.T, constraint)
        supports = enumerated_supports(solver.G, solver.c)
        problem = ((X @ E.T).astype(dtype), solver.offset, solver.scale, solver.c, solver.G)
        got, want = np.full((n, k), np.nan, dtype), np.full((n, k), np.nan, dtype)
        if k <= kernels.ENUMERATE_MOST:
            start = (*problem[:3], constraint == "fcls", *supports)
            kernels.enumerate_block(*start, got)
            twins.enumerate_block(*start, want)
            assert_allclose(got, want, atol=tolerance)
        scratch = np.empty((k, k)), np.empty((6, k)), np.empty((2, k), np.intp)
        assert kernels.active_set_block(*problem, 100, *scratch, got) == 0
        assert twins.active_set_block(*problem, 100, *scratch, want) == 0
        assert_allclose(got, want, atol=tolerance)
    stopped = kernels.active_set_block(*problem, 1, *scratch, got)
    assert stopped == twins.active_set_block(*problem, 1, *scratch, want) > 0
    assert_allclose(got, want, atol=tolerance)


@pytest.mark.parametrize("level", available_levels())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=200)
@given(m=st.integers(0, 21), d=st.integers(0, 70), k=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_products_are_their_twin(reference, level, dtype, m, d, k, seed):
    kernels, twins = importlib.import_module(f"stemseg_core._kernels.abundances_{level}"), reference("abundances")
    rng = np.random.default_rng(seed)
    X, E = rng.standard_normal((m, d)).astype(dtype), rng.standard_normal((k, d)).astype(dtype)
    X.setflags(write=False)

    def products(module, X, E):
        B = np.full((len(X), len(E)), np.nan, dtype)
        module.products_block(X, E, 0.25, B)
        return B

    B, tolerance = products(kernels, X, E), 4 * (d + 1) * np.finfo(dtype).eps
    assert_allclose(B, products(twins, X, E), rtol=tolerance, atol=tolerance)
    # The same bits whichever rows and components are beside.
    rows, components = rng.permutation(m)[: m // 2], rng.permutation(k)
    part = products(kernels, np.ascontiguousarray(X[rows]), np.ascontiguousarray(E[components]))
    assert_array_equal(part, B[np.ix_(rows, components)])


def test_many_components_are_multiplied_by_blas(monkeypatch):
    X, E = mixtures(n=300, d=60, k=KERNEL_COMPONENTS + 1)
    module = abundances_module
    shapes, kernel = [], module.kernels.products_block
    monkeypatch.setattr(module.kernels, "products_block", lambda *a: shapes.append(a[1].shape) or kernel(*a))
    for part in (E[:KERNEL_COMPONENTS], E):
        assert kkt_residual(X, part, abundances(X, part, constraint="ucls"), "ucls") < 1e-9
    assert shapes == [(KERNEL_COMPONENTS, 60)]


def test_errors():
    X, E = mixtures()
    with pytest.raises(ValueError, match="'fcls', 'nnls', 'scls', 'ucls'; got 'fcsl'"):
        abundances(X, E, constraint="fcsl")
    with pytest.raises(ValueError, match=r"components of shape \(4, 29\) and X of shape \(200, 30\)"):
        abundances(X, E[:, 1:])
    with pytest.raises(ValueError, match="components contains NaN"):
        abundances(X, np.where(E > 3, np.nan, E))
    with pytest.raises(ValueError, match=r"G must be square.*\(3, 4\)"):
        GramSolver(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"one column a component, 4; got shape \(200, 30\)"):
        GramSolver(E @ E.T).solve(X)
    with pytest.raises(ValueError, match="scale X and the components down"), np.errstate(over="ignore"):
        GramSolver(E @ E.T * np.inf)
    with pytest.raises(MemoryError, match=r"6\.4 kB but max_memory is 1 kB"):
        abundances(X, E, max_memory=1000)
    with pytest.raises(Stopped):
        abundances(X, E, progress=lambda done, total, stage: False)
    X[7, 3] = np.nan
    with pytest.raises(ValueError, match="first in row 7, feature 3"):
        abundances(X, E)
    X[7] = 1.7e308
    with pytest.raises(ValueError, match="too large for float64"):
        abundances(X, E, constraint="nnls")


def test_unfinished_rows_warn():
    X, E = mixtures(k=9)
    solver = GramSolver(E @ E.T)
    solver.max_iter = 1
    with pytest.warns(UserWarning, match=r"of 200 rows did not reach the optimum"):
        A = solver.solve(X @ E.T)
    assert_allclose(A.sum(axis=1), 1)
    assert A.min() >= 0


@pytest.mark.parametrize("constraint", ["fcls", "nnls", "scls", "ucls"])
@pytest.mark.parametrize("exponent", [-110, -70, 60, 100])
def test_products_neither_vanish_nor_overflow(constraint, exponent):
    """Squares of such float32 numbers are zero or infinite; abundances have no unit."""
    rng = np.random.default_rng(0)
    E = rng.gamma(1.0, 1.0, (3, 20)).astype(np.float32)
    X = (rng.dirichlet(np.ones(3), 50) @ E + 0.1 * rng.standard_normal((50, 20))).astype(np.float32)
    unit = np.float32(2.0**exponent)
    np.testing.assert_array_equal(
        abundances(unit * X, unit * E, constraint=constraint), abundances(X, E, constraint=constraint)
    )
