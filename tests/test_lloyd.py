"""The iteration of KMeans (lloyd): kernels against NumPy at every level, and proofs of labels."""

from importlib import import_module

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import stemseg_core
from stemseg_core._kernels import available_levels
from stemseg_core.rows.sources import ArrayRows
from stemseg_core.stages import lloyd
from stemseg_core.system.execution import Execution

LEVELS = available_levels()


def squared(X, centers):
    return ((X[:, None].astype(np.float64) - centers[None].astype(np.float64)) ** 2).sum(axis=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(1, 1, 1), (9, 3, 2), (50, 127, 5), (50, 128, 16), (61, 300, 17), (20, 40, 40)]
)
@pytest.mark.parametrize("level", LEVELS)
def test_kernels_agree_with_their_twins(level, n, d, k, dtype, reference):
    kernels, twin = import_module(f"stemseg_core._kernels.kmeans_{level}"), reference("kmeans")
    rng = np.random.default_rng(n)
    X = (rng.standard_normal((n, d)) + 3).astype(dtype)
    X.flags.writeable = False
    centers = (rng.standard_normal((k, d)) + 3).astype(dtype)
    origin = np.full(d, 3, dtype)
    exact = centers.astype(np.float64)
    lanes = kernels.LANES
    columns = np.zeros((d, -(-k // lanes) * lanes), dtype)
    columns[:, :k] = (centers - origin).T
    half_norms = ((exact - origin) ** 2).sum(axis=1) / 2
    products, touched = np.empty((kernels.TILE_ROWS, columns.shape[1]), dtype), np.empty(n, np.intp)
    first = rng.integers(-1, k, n).astype(np.int32)
    gaps = np.where(first < 0, 0, rng.standard_normal(n)).astype(dtype)
    moves = rng.random(k) * 0.1

    results = []
    for module in (kernels, twin):
        labels, left = first.copy(), gaps.copy()
        energy, n_touched = module.assign_block(
            X, origin, exact, columns, half_norms, moves, products, touched, labels, left
        )
        sums, counts = np.zeros((k, d)), np.zeros(k, np.int64)
        module.accumulate_block(X, origin, first, labels, sums, counts)
        squares, own = np.empty((n, k)), np.empty(n)
        module.distances_block(X, lloyd.distance_columns(exact), squares)
        module.own_distances_block(X, exact, labels, own)
        results.append((labels, left, n_touched, energy, sums, counts, squares, own))
    ours, theirs = results
    assert_array_equal(ours[0], theirs[0])
    bounded = np.isfinite(theirs[1]) & np.isfinite(ours[1])
    assert (ours[1][bounded] <= theirs[1][bounded] * (1 + 1e-6) + 1e-12).all()
    assert_allclose(ours[1][bounded], theirs[1][bounded], atol=1e-2 if dtype == np.float32 else 1e-9)
    for a, b in zip(ours[2:], theirs[2:], strict=True):
        assert_allclose(a, b, rtol=1e-5 if dtype == np.float32 else 1e-11, atol=1e-11)


@pytest.fixture(params=LEVELS)
def level(request, monkeypatch):
    """`lloyd` on the kernels of each SIMD level."""
    monkeypatch.setattr(lloyd, "kernels", import_module(f"stemseg_core._kernels.kmeans_{request.param}"))
    return request.param


@pytest.mark.usefixtures("level")
def test_near_ties_are_decided_in_float64():
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((6, 50)).astype(np.float32)
    centers[4] = centers[1]
    halfway = (centers[:, None] + centers[None]).reshape(-1, 50) / 2
    X = (halfway + 1e-7 * rng.standard_normal(halfway.shape)).astype(np.float32)
    labels, _ = lloyd.nearest(ArrayRows(X), centers, Execution())
    assert_array_equal(labels, squared(X, centers).argmin(axis=1))


@pytest.mark.usefixtures("level")
def test_products_that_underflow_prove_nothing():
    """Rows and centres of 1e-25 beside centres of 1: their float32 products are zero, but not their differences."""
    rng = np.random.default_rng(0)
    tiny = 1e-25 * rng.standard_normal((6, 20))
    centers = np.vstack([tiny, np.ones((1, 20)), -np.ones((1, 20))]).astype(np.float32)
    X = (tiny[rng.integers(0, 6, 200)] + 1e-26 * rng.standard_normal((200, 20))).astype(np.float32)
    labels, _ = lloyd.nearest(ArrayRows(X), centers, Execution())
    assert_array_equal(labels, squared(X, centers).argmin(axis=1))


def adversary(seed):
    """Rows, centres and how far these move: offsets, duplicates, ties and extreme scales, in turns."""
    rng = np.random.default_rng(seed)
    n, d, k = (int(rng.integers(low, high)) for low, high in ((1, 90), (1, 160), (1, 20)))
    X = rng.standard_normal((n, d)) + 2 * rng.standard_normal((3, d))[rng.integers(0, 3, n)]
    centers = X[rng.integers(0, n, k)] + 0.3 * rng.standard_normal((k, d))
    step = 0.05
    kind = seed // 2 % 6
    if kind == 1:
        X, centers = X + 1e4, centers + 1e4
    elif kind == 2:
        X, centers = X[rng.integers(0, max(1, n // 8), n)], X[rng.integers(0, max(1, n // 8), k)]
    elif kind == 3:  # rows halfway between centres, up to rounding
        X = (centers[rng.integers(0, k, n)] + centers[rng.integers(0, k, n)]) / 2
        step = 1e-7
    elif kind == 4:
        X, centers, step = X * 1e-6, centers * 1e-6, step * 1e-6
    elif kind == 5:
        X, centers, step = X * 1e6, centers * 1e6, step * 1e6
    dtype = (np.float32, np.float64)[seed % 2]
    return X.astype(dtype), centers.astype(dtype), step, rng


def test_proofs_hold_on_200_problems(monkeypatch):
    """While centres move, labels are those of explicit distances and no gap is larger than it is."""
    monkeypatch.setattr(stemseg_core.rows.sources, "BLOCK_BYTES", 1 << 13)
    n_kept = 0
    for seed in range(200):
        X, centers, step, rng = adversary(seed)
        assignment = lloyd.Assignment(ArrayRows(X), len(centers), Execution())
        for _ in range(5):
            before = assignment.gaps.copy()
            assignment.assign(centers)
            distances = np.sqrt(squared(X, centers))
            rounding = 1e-13 * distances.max()
            own = distances[np.arange(len(X)), assignment.labels]
            assert (own <= distances.min(axis=1) + rounding).all()
            others = distances.copy()
            others[np.arange(len(X)), assignment.labels] = np.inf
            assert (assignment.gaps <= others.min(axis=1) - own + rounding).all()
            n_kept += int(((assignment.gaps > 0) & (assignment.gaps < before)).sum())
            centers = (centers + step * rng.random() * rng.standard_normal(centers.shape)).astype(X.dtype)
    assert n_kept > 1000  # rows that were not looked at are among those that were judged
