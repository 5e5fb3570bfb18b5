"""The number of components of rows (with estimates, eigenvalue_criteria and cluster_criteria)."""

import numpy as np
import pytest

from stemseg_core import (
    estimate_n_components,
)
from stemseg_core.phases.n_components import METHODS
from stemseg_core.stages.eigenvalue_criteria import SingularValues
from stemseg_core.system.errors import ParameterError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def mixtures(rng, k, n=500, d=30, noise=0.02):
    return rng.dirichlet(np.full(k, 0.7), n) @ rng.random((k, d)) + noise * rng.standard_normal((n, d))


def clusters(rng, k, n=500, d=30, noise=0.2):
    return rng.standard_normal((k, d))[np.arange(n) % k] + noise * rng.standard_normal((n, d))


# ---------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_mixtures_are_counted(rng, k):
    X = mixtures(rng, k)
    for method in ("auto", "scree", "residual"):
        assert estimate_n_components(X, max_components=7, method=method).n_components == k


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("method", ["scree", "residual", "stability", "silhouette", "gap"])
def test_clusters_are_counted(rng, k, method):
    assert estimate_n_components(clusters(rng, k), method=method).n_components == k


def test_hfc_is_the_test_of_its_authors(rng):
    X = mixtures(rng, 4, noise=0.05)
    n = len(X)
    pairs = zip(np.linalg.eigvalsh(X.T @ X / n)[::-1], np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1], strict=True)
    excess = [(r - c) / np.sqrt(2 * (r**2 + c**2) / n) for r, c in pairs]
    curve = estimate_n_components(X, method="hfc").curves["hfc"]
    assert curve.n_components == sum(e > 3.0902 for e in excess) > 1
    np.testing.assert_allclose(curve.value, excess[:10], rtol=1e-6)


def test_noise_whitening_makes_hfc_deaf_to_loud_features(rng):
    X = mixtures(rng, 3) + rng.standard_normal((500, 30)) * np.r_[np.zeros(25), np.full(5, 3)]
    quiet, loud = (estimate_n_components(X, method=m).n_components for m in ("nwhfc", "hfc"))
    assert quiet >= loud
    assert estimate_n_components(rng.standard_normal((500, 24)), method="nwhfc").n_components == 1


def test_elbow_is_where_the_values_bend(rng):
    U, V = (np.linalg.qr(rng.standard_normal((n, 20)))[0] for n in (400, 30))
    values = np.r_[100, 80, 60, np.linspace(1, 0.8, 17)]
    curve = estimate_n_components((U - U.mean(axis=0)) * values @ V.T, method="elbow").curves["elbow"]
    assert curve.n_components == 3  # of zero mean: three directions and no more


def test_scree_finds_weak_components_beside_strong_ones(rng):
    # Without deflation the strong one makes the permuted rows loud.
    H = np.linalg.qr(rng.standard_normal((40, 3)))[0].T
    X = rng.standard_normal((1500, 3)) * [100, 1, 1] @ H * 2 + 0.5 * rng.standard_normal((1500, 40))
    assert estimate_n_components(X, method="scree").n_components == 3


def test_scree_of_noise_is_one_for_any_shape(rng):
    shapes = [(50, 400), (400, 50), (300, 300), (2000, 10)]
    assert [estimate_n_components(rng.standard_normal(s), method="scree").n_components for s in shapes] == [1] * 4


def test_singular_values_are_those_of_lapack(rng):
    X = mixtures(rng, 3, 60, 20)
    expected = np.linalg.svd(X - X.mean(axis=0), compute_uv=False) / np.sqrt(60)
    np.testing.assert_allclose(SingularValues(X, 10, 0).values, expected[:20], rtol=1e-6)
    np.testing.assert_allclose(SingularValues(X.T.copy(), 10, 0).mean, X.mean(axis=1))


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scale_and_offset_do_not_matter(rng, scale):
    X = clusters(rng, 3, 200)
    scaled, plain = (estimate_n_components(Y, max_components=5).curves for Y in (X * scale, X))
    assert {name: c.n_components for name, c in scaled.items()} == {name: c.n_components for name, c in plain.items()}
    assert estimate_n_components((X + 1000) * scale, method="silhouette").n_components == 3


@pytest.mark.parametrize(
    "X",
    [np.zeros((20, 5)), np.ones((20, 5)), np.ones((1, 4)), np.arange(12.0).reshape(3, 4) ** 2, np.ones((30, 1))],
    ids=["zeros", "constant", "one row", "three rows", "one feature"],
)
def test_degenerate_rows(X):
    found = estimate_n_components(X)
    assert 1 <= found.n_components <= 3
    assert all(1 <= c.n_components <= 10 for c in found.curves.values())


def test_any_type_and_order_and_threads(rng, tmp_path):
    X = clusters(rng, 3, 200).astype(np.float32)
    expected = estimate_n_components(X, max_components=5, n_jobs=1).to_dict()
    stored = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", X.dtype, X.shape)
    stored[:] = X
    X.flags.writeable = False
    for same, n_jobs in ((X, 2), (np.asfortranarray(X), 1), (stored, 2)):
        assert estimate_n_components(same, max_components=5, n_jobs=n_jobs).to_dict() == expected


def test_no_more_than_asked_for(rng):
    found = estimate_n_components(clusters(rng, 6, 200), max_components=4)
    assert all(c.n_components <= 4 for c in found.curves.values())
    assert all(len(c.k) <= 4 for c in found.curves.values())


def test_what_was_computed(rng):
    X = mixtures(rng, 2, 200)
    found = estimate_n_components(X)
    assert set(found.curves) == set(METHODS) - {"auto", "separation", "counts"}
    for curve in found.curves.values():
        assert curve.k.shape == curve.value.shape
        assert curve.null is None or curve.null.shape == curve.k.shape
    alone = estimate_n_components(X, method="gap")
    assert (set(alone.curves), alone.method) == ({"gap"}, "gap")
    assert "nwhfc" not in estimate_n_components(rng.random((20, 30))).curves


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"max_components": 0}, "max_components must be a whole number"),
        ({"random_state": -1}, "random_state must be"),
        ({"method": "separation"}, "needs the WindowMatrix of one image"),
        ({"method": "nwhfc"}, "more rows than features"),
    ],
)
def test_wrong_parameters(rng, options, message):
    with pytest.raises(ParameterError, match=message) as refused:
        estimate_n_components(rng.random((10, 20)), **options)
    assert {refused.value.name: refused.value.value} == options


def test_any_kind_of_random_state(rng):
    X = clusters(rng, 3, 200)
    for kind in (np.random.RandomState, np.random.default_rng):
        one, same = (estimate_n_components(X, method="gap", random_state=kind(7)).to_dict() for _ in range(2))
        assert one == same
        assert one["n_components"] == 3
    assert estimate_n_components(X, method="gap", random_state=None).n_components == 3
    expected = estimate_n_components(X, method="gap", random_state=5).to_dict()
    assert estimate_n_components(X, method="gap", random_state=np.int64(5)).to_dict() == expected


def test_rows_that_are_not_finite_and_too_little_memory(rng):
    X = rng.random((50, 20))
    with pytest.raises(MemoryError, match="sample"):
        estimate_n_components(X, max_memory=1000)
    X[7, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        estimate_n_components(X)


def counted(k=3, mean=40, seed=0):
    rng = np.random.default_rng(seed)
    spectra = rng.gamma(0.3, size=(k, 120))
    shares = rng.dirichlet(np.ones(k), 1500)
    return rng.poisson(mean * shares @ (spectra / spectra.sum(axis=1, keepdims=True)))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_counts(k):
    found = estimate_n_components(counted(k), noise="poisson")
    assert (found.method, found.n_components, list(found.curves)) == ("counts", k, ["counts"])
    assert estimate_n_components(counted(k), noise="poisson", method="counts").n_components == k


def test_other_criteria_on_weighed_counts():
    assert estimate_n_components(counted(2, 300), noise="poisson", method="scree").n_components == 2


def test_what_are_no_counts():
    with pytest.raises(ValueError, match="noise must be None or 'poisson'"):
        estimate_n_components(counted(), noise="gauss")
    with pytest.raises(ValueError, match="method='counts' needs noise='poisson'"):
        estimate_n_components(counted(), method="counts")
    with pytest.raises(ValueError, match="counts must be whole numbers"):
        estimate_n_components(counted() * 0.5, noise="poisson")
    with pytest.raises(ValueError, match="must not be negative"):
        estimate_n_components(counted() - 1, noise="poisson")
    with pytest.raises(ValueError, match="times as much as counts do"):
        estimate_n_components(counted() * 5, noise="poisson")
