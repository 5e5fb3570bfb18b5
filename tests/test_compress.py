"""`compress` against linear algebra in float64: the best basis, bounds, refusals; the same bits from every source."""

import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemseg_core import Stopped, compress
from stemseg_core.rows import sources
from stemseg_core.rows.sources import ArrayRows, Groups, Rows
from stemseg_core.stages import compress as compress_module
from stemseg_core.stages import leading


def mixture(n, d, k=5, noise=0.05, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.gamma(1.0, 1.0, (n, k)) @ rng.random((k, d)) + noise * rng.standard_normal((n, d))
    return X.astype(dtype)


def optimum(X, r, center=True):
    """Energy of the best basis of rank r, by LAPACK in float64."""
    Y = X.astype(np.float64) - (X.mean(axis=0, dtype=np.float64) if center else 0)
    s = np.linalg.svd(np.linalg.qr(Y, mode="r"), compute_uv=False)
    return (s[:r] ** 2).sum() / (s**2).sum()


def assert_consistent(X, c, rtol=None, center=True):
    """What every Compressed promises, by direct computation in float64."""
    eps = float(np.finfo(c.scores.dtype).eps)
    Y = X.astype(np.float64) - c.mean
    V = c.basis.astype(np.float64)
    scale = np.linalg.norm(Y, axis=1).max() + np.linalg.norm(c.mean.astype(float)) + 1e-300
    mean = X.mean(axis=0, dtype=np.float64) if center else np.zeros(X.shape[1])
    np.testing.assert_allclose(c.mean, mean, rtol=2 * eps, atol=4 * eps * scale)
    np.testing.assert_allclose(V @ V.T, np.eye(len(V)), atol=max(30 * eps, 1e-12))
    np.testing.assert_allclose(c.scores, Y @ V.T, atol=30 * eps * scale)
    left = np.linalg.norm(Y - Y @ V.T @ V, axis=1)
    np.testing.assert_allclose(c.residual, left, atol=300 * eps * scale + c.mean_error)
    total = (Y**2).sum()
    if total > 1e3 * eps * scale**2:
        assert c.energy == pytest.approx(1 - (left**2).sum() / total, abs=300 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n", "d"), [(3000, 40), (50, 300), (700, 1), (1, 7), (2, 2)])
def test_exact_basis_is_the_best_of_its_rank(n, d, dtype):
    X = mixture(n, d, dtype=dtype)
    c = compress(X, rank=4)
    r = min(4, n, d)
    assert c.scores.shape == (n, r)
    assert c.basis.shape == (r, d)
    assert c.scores.dtype == c.basis.dtype == c.mean.dtype == dtype
    assert c.exact
    assert c.n_passes == 1
    assert_consistent(X, c)
    if n > 2:
        assert c.energy == pytest.approx(optimum(X, r), abs=1e-6)


def test_basis_of_a_sample_is_measured_on_all_rows(monkeypatch):
    monkeypatch.setattr(compress_module, "MIN_SAMPLE", 2000)
    monkeypatch.setattr(compress_module, "BASIS_COST", 0)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 16)
    X = mixture(30_000, 60)
    X += np.linspace(0, 2, len(X), dtype=np.float32)[:, np.newaxis]
    c = compress(X, rank=5)
    assert not c.exact
    assert_consistent(X, c)
    assert 0 < c.mean_error < 0.05
    assert optimum(X, 5) - 0.01 < c.energy < optimum(X, 5)


def test_basis_of_a_sample_of_fewer_rows_than_features(monkeypatch):
    monkeypatch.setattr(compress_module, "MIN_SAMPLE", 50)
    monkeypatch.setattr(compress_module, "BASIS_COST", 0)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 13)
    X = mixture(400, 300)
    c = compress(X, rank=5)
    assert not c.exact
    assert_consistent(X, c)
    assert optimum(X, 5) - 0.1 < c.energy < optimum(X, 5)


@pytest.mark.parametrize("shape", [(600, 200), (200, 600)])
def test_basis_by_block_lanczos_iteration(shape, monkeypatch):
    monkeypatch.setattr(leading, "GRAM_SIDE", 0)
    X = mixture(*shape)
    c = compress(X, rank=8)
    assert_consistent(X, c)
    assert optimum(X, 8) - 1e-3 < c.energy <= optimum(X, 8) + 1e-6


def test_without_centring():
    X = mixture(500, 30)
    c = compress(X, rank=3, center=False)
    assert not c.mean.any()
    assert_consistent(X, c, center=False)
    assert c.energy == pytest.approx(optimum(X, 3, center=False), abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("share", [1e-1, 1e-3, 1e-5, 0])
def test_small_residuals_keep_their_digits(share, dtype):
    X = mixture(400, 60, noise=0, dtype=np.float64)
    X = (X + share * np.random.default_rng(1).standard_normal(X.shape)).astype(dtype)
    c = compress(X, rank=5)
    Y, V = X.astype(np.float64) - c.mean, c.basis.astype(np.float64)
    left = np.linalg.norm(Y - Y @ V.T @ V, axis=1)
    rounding = 20 * np.finfo(dtype).eps * np.linalg.norm(Y, axis=1)
    assert (np.abs(c.residual - left) <= 1e-4 * left + rounding).all()
    assert np.isfinite(c.residual).all()


@pytest.mark.parametrize("n", [5, 300])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6, -1e-6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_rows(n, value, dtype):
    X = np.full((n, 20), value, dtype)
    c = compress(X, rank=4)
    assert c.energy == 1.0
    np.testing.assert_allclose(c.basis @ c.basis.T, np.eye(4), atol=1e-5)
    assert np.abs(c.scores).max() <= 10 * np.finfo(dtype).eps * abs(value)
    assert c.residual.max() <= 10 * np.finfo(dtype).eps * abs(value)


def test_rank_beyond_the_numerical_rank():
    X = np.repeat(mixture(3, 25, dtype=np.float64), 20, axis=0)
    c = compress(X, rank=10)
    assert c.scores.shape == (60, 10)
    assert_consistent(X, c)
    assert c.energy == pytest.approx(1.0)


def test_tol_enlarges_the_basis():
    rng = np.random.default_rng(0)
    X = mixture(3000, 80, k=3, noise=0, dtype=np.float64)
    X[rng.choice(3000, 10, replace=False)] += 5 * rng.standard_normal((1, 80))
    once = compress(X, rank=2)
    assert 1 - once.energy > 1e-6
    c = compress(X, rank=2, tol=1e-6)
    assert c.n_passes > 1
    assert c.scores.shape[1] <= 2 * 2 ** (c.n_passes - 1)
    assert 1 - c.energy <= 1e-6
    assert_consistent(X, c)
    V = c.basis
    assert (V[np.arange(len(V)), np.abs(V).argmax(axis=1)] > 0).all()
    np.testing.assert_allclose(np.abs(V[:2] @ once.basis.T), np.eye(2), atol=1e-10)
    assert compress(X, rank=2, tol=0.999).n_passes == 1
    everything = compress(mixture(100, 12), rank=2, tol=0.0)
    assert everything.scores.shape[1] == 12


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 60),
    d=st.integers(1, 40),
    rank=st.integers(1, 50),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
    offset=st.sampled_from([0.0, 1.0, 1e4]),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 99),
)
def test_promises_hold_for_any_shape_scale_and_offset(n, d, rank, scale, offset, dtype, seed):
    X = ((mixture(n, d, dtype=np.float64, seed=seed) + offset) * scale).astype(dtype)
    assert_consistent(X, compress(X, rank=rank))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_order_of_rows_does_not_matter(seed):
    X = mixture(120, 15, dtype=np.float64)
    order = np.random.default_rng(seed).permutation(len(X))
    a, b = compress(X, 4), compress(X[order], 4)
    np.testing.assert_allclose(a.scores[order], b.scores, atol=1e-10)
    assert a.energy == pytest.approx(b.energy, rel=1e-12)


def digest(c):
    return [np.asarray(v).tobytes() for v in (c.scores, c.basis, c.mean, c.residual, c.energy, c.mean_error)]


@pytest.mark.parametrize(("n", "d"), [(30_000, 64), (150, 3000)])
def test_same_bits_for_any_threads_and_source(n, d, tmp_path, monkeypatch):
    monkeypatch.setattr(compress_module, "MIN_SAMPLE", 5000)
    monkeypatch.setattr(compress_module, "BASIS_COST", 0)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 17)
    X = mixture(n, d)
    before = X.copy()
    wanted = digest(compress(X, 6, n_jobs=1))
    for n_jobs in (2, 3, 8):
        assert digest(compress(X, 6, n_jobs=n_jobs)) == wanted
    np.save(tmp_path / "x.npy", X)
    assert digest(compress(np.load(tmp_path / "x.npy", mmap_mode="r"), 6)) == wanted
    with h5py.File(tmp_path / "x.h5", "w") as f:
        assert digest(compress(f.create_dataset("x", data=X, chunks=(77, d)), 6)) == wanted
    assert digest(compress(np.asfortranarray(X), 6)) == wanted
    assert digest(compress(X.astype(">f4"), 6)) == wanted
    X.setflags(write=False)
    assert digest(compress(X, 6)) == wanted
    np.testing.assert_array_equal(X, before)


class TiledRows(Rows):
    """A virtual source whose blocks are interleaved rows, as those of a window grid may be."""

    def __init__(self, X, n_blocks):
        self.X, self.shape, self.dtype, self.n_blocks = X, X.shape, X.dtype, n_blocks

    def index(self, i):
        return np.arange(i, len(self.X), self.n_blocks)

    def reader(self):
        return lambda i: self.X[self.index(i)]


def test_any_row_source():
    X = mixture(3000, 30)
    assert_consistent(X, compress(TiledRows(X, 17), 4))
    assert_consistent(X, compress(TiledRows(X, 17), 3, tol=1e-3))


def test_integers_are_computed_in_float64():
    X = (100 * mixture(300, 10)).astype(np.uint16)
    c = compress(X, 3)
    assert c.scores.dtype == np.float64
    assert_consistent(X, c)


def problem(seed):
    """A random problem of the kinds that are hard on numbers, float32 or float64, and a rank."""
    rng = np.random.default_rng(seed)
    n, d = rng.integers(2, 200), rng.integers(1, 120)
    X = rng.standard_normal((n, d)) * np.geomspace(1, 10.0 ** rng.uniform(-4, 0), d)
    kind = seed % 7
    if kind == 1:
        X += rng.choice([1.0, 1e3, 1e5]) * rng.random(d)
    elif kind == 2:
        X *= rng.choice([1e-6, 1e6])
    elif kind == 3:
        r = min(3, n, d)
        X = rng.standard_normal((n, r)) @ rng.standard_normal((r, d))
    elif kind == 4:
        X = X[rng.integers(0, max(1, n // 10), n)]
    elif kind == 5:
        X = np.broadcast_to(X[:1], X.shape) * 1.0
    return X.astype(rng.choice([np.float32, np.float64])), int(rng.integers(1, 12)), bool(rng.integers(2))


@pytest.mark.parametrize("seeds", [range(0, 100), range(100, 200)])
def test_bounds_hold_on_random_problems(seeds, monkeypatch):
    monkeypatch.setattr(compress_module, "MIN_SAMPLE", 64)
    monkeypatch.setattr(compress_module, "BASIS_COST", 0)
    monkeypatch.setattr(sources, "MIN_BLOCKS", 4)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 11)
    inexact = 0
    for seed in seeds:
        X, rank, center = problem(seed)
        c = compress(X, rank, center=center)
        inexact += not c.exact
        mean = X.astype(np.float64).mean(axis=0) if center else np.zeros(X.shape[1])
        Y, V = X.astype(np.float64) - mean, np.linalg.qr(c.basis.T.astype(np.float64))[0]
        left = np.linalg.norm(Y - (Y @ V) @ V.T, axis=1)
        stored = np.linalg.norm(c.mean - mean)
        assert (np.abs(c.residual - left) <= c.residual_error + stored).all(), seed
        total = (Y**2).sum()
        if total > 1e-10 * (X.astype(np.float64) ** 2).sum():
            assert abs(c.energy - (1 - (left**2).sum() / total)) <= c.energy_error, seed
    assert inexact > 20


def test_vanishing_squares_are_refused(monkeypatch):
    X = mixture(300, 20)
    with pytest.raises(ValueError, match="values too small for float32: their squares vanish"):
        compress(np.float32(1e-22) * X, 3)
    assert compress(np.float32(1e-14) * X, 3).energy == pytest.approx(compress(X, 3).energy, rel=1e-6)
    assert compress(np.zeros((300, 20), np.float32), 3).energy == 1
    assert compress(np.full((300, 20), 1e-25, np.float32), 3).energy == 1
    for name in ("GRAM_SIDE", "COPY_BYTES"):
        monkeypatch.setattr(leading, name, 0)
        with pytest.raises(ValueError, match="their squares vanish"):
            compress(np.float32(1e-22) * X, 3)
    # Nothing is wrong with the sample, zeros, that the basis is made from.
    monkeypatch.setattr(compress_module, "MIN_SAMPLE", 1)
    monkeypatch.setattr(compress_module, "BASIS_COST", 0)
    monkeypatch.setattr(sources, "MIN_BLOCKS", 1)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 11)
    X[100:200] = 0
    with pytest.raises(ValueError, match="their squares vanish"):
        compress(np.float32(1e-22) * X, 3, center=False)


@pytest.mark.parametrize("source", [lambda X: TiledRows(X, 17), ArrayRows])
def test_groups_of_blocks(source, monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 15)
    X = mixture(3000, 30)
    rows = Groups(source(X), 5)
    read = rows.reader()
    indices = [np.arange(3000)[rows.index(i)] for i in range(rows.n_blocks)]
    for i, index in enumerate(indices):
        np.testing.assert_array_equal(read(i), X[index])
    np.testing.assert_array_equal(np.sort(np.concatenate(indices)), np.arange(3000))
    blocks_in = [len(rows._blocks(i)) for i in range(5)]
    assert sum(blocks_in) == rows.rows.n_blocks
    assert max(blocks_in) - min(blocks_in) <= 1 < min(blocks_in)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_values_are_located(bad):
    X = mixture(3000, 30)
    X[2345, 6] = bad
    with pytest.raises(ValueError, match="first in row 2345, feature 6"):
        compress(X)
    with pytest.raises(ValueError, match="too large for float32"):
        compress(np.full((300, 4), 1e25, np.float32) * np.arange(300, dtype=np.float32)[:, None], 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, "rank must be a whole number"),
        ({"rank": 2.5}, "rank must be a whole number"),
        ({"rank": True}, "rank must be a whole number"),
        ({"tol": 1.0}, "tol must be None or a fraction"),
        ({"tol": -0.1}, "tol must be None or a fraction"),
        ({"max_memory": "many"}, "max_memory must be"),
    ],
)
def test_wrong_parameters_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        compress(mixture(30, 5), **arguments)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"2-D|2D"):
        compress(np.zeros(5))
    with pytest.raises(ValueError, match="minimum of 1"):
        compress(np.zeros((0, 5)))


def test_memory_is_refused_before_anything_is_read():
    class Untouchable(ArrayRows):
        def reader(self):
            raise AssertionError("read")

    with pytest.raises(MemoryError, match=r"compress of 1000000 x 100 .* max_memory is 50 MB.*smaller rank"):
        compress(Untouchable(np.broadcast_to(np.float32(0), (1_000_000, 100))), 32, max_memory="50 MB")


def test_memory_is_that_of_the_scores():
    X = np.broadcast_to(mixture(1, 200), (200_000, 200))
    tracemalloc.start()
    compress(X, 8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000 * (8 * 4 + 8) * 2 + 40e6 < X.size * 4 / 2


def test_progress_reports_and_stops():
    seen = []
    X = mixture(9000, 200)
    compress(X, 3, progress=lambda done, total, stage: seen.append((done, total, stage)))
    assert seen[-1][0] == seen[-1][1]
    assert {s for *_, s in seen} == {"basis", "compress"}
    with pytest.raises(Stopped):
        compress(X, 3, progress=lambda *_: False)
