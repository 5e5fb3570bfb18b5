"""regularized(): memberships near those given with short boundaries, against an independent minimiser."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

from stemseg_core import Stopped
from stemseg_core.phases import regularize
from stemseg_core.phases.regularize import MAX_PASSES, RADIUS, TOLERANCE, regularized, regularized_bytes
from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid


def grid_of(shape, step=(8, 8), excluded=()):
    included = np.ones(shape, bool)
    for place in excluded:
        included[place] = False
    return Grid(included, (64, 64), step)


def some(grid, k, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(k), grid.included.sum()).astype(np.float32)


def objective(u, m, grid, weight, rounded=0.0):
    """Half the squared distance from m, and the weighted total variation, of planes (k, ny, nx)."""
    down, right = np.zeros_like(u), np.zeros_like(u)
    both = grid.included
    down[:, :-1] = np.diff(u, axis=1) / grid.step[0] * (both[1:] & both[:-1])
    right[:, :, :-1] = np.diff(u, axis=2) / grid.step[1] * (both[:, 1:] & both[:, :-1])
    variation = np.sqrt(down**2 + right**2 + rounded**2).sum()
    return 0.5 * ((u - m) ** 2)[:, both].sum() + weight * variation


@pytest.mark.parametrize("excluded", [[], [np.s_[1:3, 2], np.s_[3, 4]]])
@pytest.mark.parametrize("k", [2, pytest.param(3, marks=pytest.mark.long)])
def test_is_the_minimum(k, excluded):
    """Against a general minimiser of a slightly rounded objective, over shares that softmax makes."""
    grid = grid_of((4, 5), (8, 5), excluded)
    m = some(grid, k)
    planes = grid.to_planes(m, fill=0).astype(float)

    def shares(x):
        u = np.exp(x.reshape(planes.shape))
        return u / u.sum(axis=0)

    start = np.log(np.maximum(planes, 1e-3)).ravel()
    best = minimize(lambda x: objective(shares(x), planes, grid, 16 / RADIUS, 1e-4), start, method="L-BFGS-B",
                    options={"maxfun": 400_000, "maxiter": 3000})  # fmt: skip
    found = grid.to_planes(regularized(m, grid, 16, Execution()), fill=0).astype(float)
    reached = objective(found, planes, grid, 16 / RADIUS)
    assert reached < objective(planes, planes, grid, 16 / RADIUS)
    bound = 0.5 * TOLERANCE**2 * grid.included.sum()
    assert reached <= objective(shares(best.x), planes, grid, 16 / RADIUS) + bound


@given(k=st.integers(2, 5), radius=st.floats(0.1, 60), seed=st.integers(0, 99))
def test_are_memberships(k, radius, seed):
    grid = grid_of((9, 11), (8, 6), [np.s_[3:5, 2]])
    m = some(grid, k, seed)
    before = m.copy()
    found = regularized(m, grid, radius, Execution())
    np.testing.assert_array_equal(m, before)
    assert found.shape == m.shape
    assert found.dtype == np.float32
    assert found.min() >= 0
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.mean(axis=0), m.mean(axis=0), atol=0.35)
    order = np.random.default_rng(seed).permutation(k)
    np.testing.assert_allclose(regularized(m[:, order], grid, radius, Execution()), found[:, order], atol=1e-4)


@pytest.mark.parametrize("step", [4, 8])
@pytest.mark.parametrize(("size", "stays"), [(0.7, False), (1.5, True)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_patches_of_a_smaller_radius_vanish(step, size, stays):
    radius = 40
    y, x = np.mgrid[: 400 // step, : 400 // step] * step - 200
    inside = (np.hypot(y, x) < size * radius).ravel()
    m = np.stack([~inside, inside], axis=1).astype(np.float32)
    found = regularized(m, grid_of(y.shape, (step, step)), radius, Execution())[inside, 1] > 0.5
    assert found.mean() > 0.85 if stays else not found.any()


def test_noise_goes_and_a_boundary_stays():
    truth = np.arange(60 * 60) % 60 >= 25
    rng = np.random.default_rng(0)
    second = np.clip(np.where(truth, 0.7, 0.3) + 0.25 * rng.standard_normal(3600), 0, 1)
    m = np.stack([1 - second, second], axis=1).astype(np.float32)
    grid = grid_of((60, 60))
    assert ((m[:, 1] > 0.5) == truth).mean() < 0.85
    assert ((regularized(m, grid, 16, Execution())[:, 1] > 0.5) == truth).mean() > 0.985


def test_nothing_to_do():
    grid = grid_of((5, 6))
    m = some(grid, 3)
    assert regularized(m, grid, 0, Execution()) is m
    one = np.ones((30, 1), np.float32)
    assert regularized(one, grid, 50, Execution()) is one
    constant = np.full((30, 2), 0.5, np.float32)
    np.testing.assert_allclose(regularized(constant, grid, 50, Execution()), constant, atol=1e-6)


def test_windows_apart_do_not_know_of_each_other():
    grid = grid_of((8, 9), excluded=[np.s_[:, 4]])
    m = some(grid, 2)
    other = m.copy()
    left = (np.flatnonzero(grid.included.ravel()) % 9) < 4
    other[left] = m[left][::-1]
    found, expected = (regularized(given, grid, 20, Execution())[~left] for given in (m, other))
    np.testing.assert_allclose(found, expected, atol=2 * TOLERANCE)


def test_says_that_it_did_not_converge(monkeypatch):
    grid = grid_of((40, 50))
    monkeypatch.setattr(regularize, "MAX_PASSES", 20)
    with pytest.warns(ConvergenceWarning, match=r"regularize=5000 px did not converge in 20 passes.*within \d"):
        found = regularized(some(grid, 3), grid, 5000, Execution())
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_memory_progress_and_stopping():
    grid = grid_of((200, 210))
    m = some(grid, 3)
    calls = []
    tracemalloc.start()
    regularized(m, grid, 16, Execution(progress=lambda *call: calls.append(call)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak + m.nbytes < regularized_bytes(m.shape[0], 3) < 1.4 * peak
    assert [call[0] for call in calls[:-1]] == list(range(1, len(calls)))
    assert calls[-1] == (MAX_PASSES, MAX_PASSES, "regularize")
    with pytest.raises(Stopped):
        regularized(m, grid, 16, Execution(progress=lambda done, *_: done < 3))
