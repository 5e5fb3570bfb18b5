"""Cubes to components and maps: `stemseg_core.cubes.unmix`, and its cube, data, methods, survey, unmixing; archives."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.decomposition import NMF as SKNMF

from stemseg_core import Axis, Unmixing, unmix
from stemseg_core.cubes.methods import METHODS

AXES = (
    {"name": "y", "scale": 0.5, "units": "nm"},
    {"name": "x", "scale": 0.5, "units": "nm"},
    {"name": "Energy", "offset": 0.1, "scale": 0.02, "units": "keV"},
)


def materials(shape=(24, 30), channels=80, k=3, seed=0):
    """Shares (k, shape) of disks over a ground, and spectra (k, channels) of lines that sum to 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    shares = [np.zeros(shape) for _ in range(k)]
    for i in range(1, k):
        cy, cx = shape[0] * (0.2 + 0.6 * i / k), shape[1] * (0.9 - 0.7 * i / k)
        shares[i] = np.clip(1.5 - np.hypot(y - cy, x - cx) / (0.16 * shape[1]), 0, 1) * (1 - sum(shares))
    shares[0] = 1 - sum(shares)
    e = np.arange(channels)
    spectra = [sum(np.exp(-((e - c) ** 2) / 8) for c in rng.uniform(5, channels - 5, 4)) + 0.05 for _ in range(k)]
    return np.array(shares), np.array([s / s.sum() for s in spectra])


def counts(mean=60, seed=0, **options):
    shares, spectra = materials(seed=seed, **options)
    return np.random.default_rng(seed).poisson(mean * np.tensordot(shares, spectra, (0, 0))).astype(np.uint16)


def nearest(found, truth):
    """Largest of the angles between each true spectrum and the nearest one found, in radians."""
    a, b = (
        v.reshape(len(v), -1) / np.linalg.norm(v.reshape(len(v), -1), axis=1, keepdims=True) for v in (found, truth)
    )
    return np.arccos(np.clip(b @ a.T, -1, 1)).min(axis=1).max()


# Methods.


@pytest.mark.parametrize("method", ["nmf", "nfindr", "vca", "spa", "atgp"])
def test_spectra_and_maps_of_counts(method):
    shares, spectra = materials()
    result = unmix(counts(600), 3, method=method)
    assert nearest(result.components, spectra) < 0.12
    order = [int(np.argmax([np.corrcoef(m.ravel(), s.ravel())[0, 1] for m in result.abundances])) for s in shares]
    assert sorted(order) == [0, 1, 2]
    totals = result.abundances * result.components.sum(axis=1)[:, None, None]
    found = (totals / totals.sum(axis=0))[order]
    assert np.sqrt(np.mean((found - shares) ** 2)) < 0.12
    assert result.residual.max() < 1


@pytest.mark.parametrize("method", METHODS)
def test_reconstruction_is_what_the_figures_are_of(method):
    cube = counts()
    result = unmix(cube, 3, method=method, axes=AXES)
    again = result.reconstruction()
    assert again.shape == cube.shape
    left = cube - again
    norm = np.linalg.norm(cube.astype(float), axis=2)
    np.testing.assert_allclose(result.residual, np.linalg.norm(left, axis=2) / norm, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(result.residual_spectrum, np.sqrt(np.mean(left**2, axis=(0, 1))), rtol=1e-3)
    variance = ((cube - cube.mean(axis=(0, 1))) ** 2).sum()
    assert result.explained_variance == pytest.approx(1 - (left**2).sum() / variance, abs=1e-4)
    assert result.explained_variance > 0.05


def test_clusters():
    shares, _ = materials()
    labels, truth = unmix(counts(600), 3, method="kmeans").labels, shares.argmax(axis=0)
    sure = shares.max(axis=0) > 0.9
    assert len({*zip(labels[sure].tolist(), truth[sure].tolist(), strict=True)}) == 3


def test_nmf_is_in_counts():
    cube = counts(600)
    result = unmix(cube, 3)
    assert result.components.min() >= 0
    assert result.reconstruction().sum() == pytest.approx(cube.sum(), rel=0.01)
    np.testing.assert_allclose(result.components.sum(axis=1), cube.sum() / (24 * 30), rtol=0.01)
    assert np.median(result.abundances.sum(axis=0)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", ["nfindr", "vca", "spa", "atgp"])
def test_shares_sum_to_one(method):
    result = unmix(counts(), 3, method=method)
    np.testing.assert_allclose(result.abundances.sum(axis=0), 1, atol=1e-4)
    assert result.abundances.min() >= 0


def test_weights_make_better_maps():
    shares, _ = materials()
    cube = counts(20)

    def error(noise):
        result = unmix(cube, 3, noise=noise)
        maps = result.abundances / np.maximum(result.abundances.sum(axis=0), 1e-9)
        return sum(min(np.sqrt(np.mean((m - s) ** 2)) for m in maps) for s in shares)

    assert error("poisson") < 0.9 * error(None)


def test_estimators_of_others():
    cube = counts()
    parts = unmix(cube, 2, method=SKNMF(2, init="nndsvda", max_iter=500))
    ours = unmix(cube, 2)
    assert parts.explained_variance == pytest.approx(ours.explained_variance, abs=0.02)
    clusters = unmix(cube, 3, method=AgglomerativeClustering(3))
    assert set(np.unique(clusters.labels)) == {0, 1, 2}
    assert clusters.abundances.shape == (3, 24, 30)


def test_the_largest_component_is_the_first():
    for method in ("nmf", "kmeans", "nfindr"):
        totals = unmix(counts(), 3, method=method).totals
        assert (np.diff(totals) <= 1e-6).all()
        assert totals.sum() == pytest.approx(1)


def test_seeds_threads_and_types():
    cube = counts()
    for method in ("nmf", "kmeans", "ica"):
        results = [unmix(cube.astype(kind), 3, method=method, n_jobs=n) for kind in ("u2", "u1") for n in (1, 2)]
        for other in results[1:]:
            assert np.array_equal(other.abundances, results[0].abundances)
            assert np.array_equal(other.components, results[0].components)


# The number of components.


@pytest.mark.parametrize("k", [2, 4])
def test_number_of_components(k):
    result = unmix(counts(300, k=k, channels=120), "auto")
    assert len(result.components) == result.estimate.n_components == k
    assert result.estimate.method == "counts"


def test_number_of_components_of_other_values():
    shares, spectra = materials()
    cube = np.tensordot(shares, spectra, (0, 0)) + 1e-3 * np.random.default_rng(0).standard_normal((24, 30, 80))
    result = unmix(cube, "auto", method="nfindr")
    assert len(result.components) == 3
    assert result.estimate.method == "scree"


def test_number_of_components_of_counts_times_a_gain():
    result = unmix(counts(300) * 3, "auto")
    assert result.estimate.method == "scree"
    assert len(result.components) == 3
    assert any("times as much as counts do" in note for note in result.notes), result.notes


def test_more_components_than_are_looked_for():
    cube = counts(600, k=4, channels=300).astype(np.int64)
    smoothed = sum(np.roll(cube, (i, j), (0, 1)) for i in range(2) for j in range(2))
    result = unmix(smoothed, "auto", method="svd")
    assert len(result.components) == 16
    assert any("16 components or more" in note for note in result.notes)


# Noise.


def test_what_is_weighed_as_counts_without_being_asked():
    weighed = "values are whole numbers, few on average: weighed as counts"
    assert weighed in unmix(counts(), 3).notes
    assert unmix(counts(), 3, noise="poisson").notes == unmix(counts().astype(float) * 0.5, 3).notes == ()
    assert weighed not in unmix(counts(100_000).astype(np.int32), 3).notes


def test_known_variances():
    """Noise of one half of the channels is ten times that of the other."""
    shares, spectra = materials()
    rng = np.random.default_rng(0)
    sigma = np.where(np.arange(80) < 40, 0.02, 0.002)
    cube = np.tensordot(shares, spectra, (0, 0)) + sigma * rng.standard_normal((24, 30, 80))
    with_it, without = (unmix(cube, 3, method="svd", noise=noise).reconstruction() for noise in (sigma**2, None))
    truth = np.tensordot(shares, spectra, (0, 0))
    error = [np.mean(((found - truth) / sigma) ** 2) for found in (with_it, without)]
    assert error[0] < 0.9 * error[1]
    full = unmix(cube, 3, method="svd", noise=np.broadcast_to(sigma**2, cube.shape)).reconstruction()
    np.testing.assert_allclose(full, with_it, atol=1e-6)


def test_values_below_zero():
    """Where a background was subtracted, noise goes below zero; NMF takes it as zero and says so."""
    cube = counts().astype(float) - 2
    result = unmix(cube, 3)
    n = np.count_nonzero(cube < 0)
    assert result.notes == (f"{n} values below 0 were taken as 0",)
    assert np.array_equal(result.components, unmix(np.maximum(cube, 0), 3, noise=None).components)
    assert not unmix(cube, 3, method="nfindr").notes


# What is left out.


def test_masks_ranges_and_axes():
    mask = np.zeros((24, 30), bool)
    mask[:4] = True
    signal_mask = np.zeros(80, bool)
    signal_mask[40:43] = True
    result = unmix(counts(), 3, mask=mask, signal_mask=signal_mask, signal_range=(0.5, 1.3), axes=AXES)
    energies = 0.1 + 0.02 * np.arange(80)
    inside = (energies > 0.499) & (energies < 1.301)
    assert result.components.shape == (3, inside.sum())
    axis = result.axes[2]
    assert (axis.name, axis.units, axis.scale) == ("Energy", "keV", 0.02)
    assert axis.offset == pytest.approx(energies[inside][0])
    assert np.array_equal(np.isnan(result.components[0]), signal_mask[inside])
    assert np.array_equal(np.isnan(result.residual_spectrum), signal_mask[inside])
    for maps in (result.abundances, result.residual[None]):
        assert np.array_equal(np.isnan(maps), np.broadcast_to(mask, maps.shape))
    assert np.array_equal(result.labels == -1, mask)
    cut = unmix(counts()[4:][:, :, inside & ~signal_mask], 3)
    np.testing.assert_allclose(cut.abundances, result.abundances[:, 4:], atol=1e-5)


def test_pixels_that_are_no_numbers():
    cube = counts().astype(float)
    cube[3, 5, 7] = np.nan
    cube[9, 9, 0] = np.inf
    with pytest.raises(
        ValueError, match=r"2 pixels hold NaN or infinity, the first at \(3, 5\); take invalid='exclude'"
    ):
        unmix(cube, 3)
    result = unmix(cube, 3, invalid="exclude")
    assert np.isnan(result.residual).sum() == 2
    assert "2 pixels hold NaN or infinity, the first at (3, 5): left out" in result.notes


def test_hot_channels_and_spikes():
    cube = counts(600).astype(np.int32)
    cube[:, :, 33] += 5000
    cube[7, 8, 60] += 900
    result = unmix(cube, 3)
    assert "1 channel (33) far above all neighbours: left out as hot" in result.notes
    assert "1 pixel ((7, 8)) with a spike in the spectrum: left out" in result.notes
    assert np.isnan(result.components[:, 33]).all()
    assert np.isnan(result.residual[7, 8])
    kept = unmix(cube, 3, faults="keep")
    assert np.isfinite(kept.components).all()


@given(seed=st.integers(0, 200), mean=st.sampled_from([2, 20, 300]))
def test_counts_have_no_faults(seed, mean):
    shares, spectra = materials((8, 9), 40, 2, seed)
    cube = np.random.default_rng(seed).poisson(mean * np.tensordot(shares, spectra, (0, 0)))
    assert not [note for note in unmix(cube, 1, method="svd").notes if "left out" in note]


def test_bins():
    cube = counts()
    binned = cube.reshape(12, 2, 10, 3, 80).sum(axis=(1, 3))
    result = unmix(cube, 3, bin=(2, 3, 1), axes=AXES)
    expected = unmix(binned, 3)
    np.testing.assert_allclose(result.abundances, expected.abundances, atol=1e-4)
    y, x, _ = result.axes
    assert (y.scale, x.scale) == (1.0, 1.5)
    assert (y.offset, x.offset) == (0.25, 0.5)


# Scans of patterns, and storage.


def scan(shape=(14, 16), side=20, seed=0):
    ky, kx = np.mgrid[:side, :side] - side / 2 + 0.5
    spots = [np.exp(-((ky - 6 * np.sin(t)) ** 2 + (kx - 6 * np.cos(t)) ** 2) / 4) for t in (0.3, 1.5, 2.7)]
    truth = (np.mgrid[: shape[0], : shape[1]].sum(axis=0) * 3 // (sum(shape) - 1)).clip(0, 2)
    return np.random.default_rng(seed).poisson(np.array(spots)[truth] * 4 + 0.1).astype(np.uint8), truth


def test_patterns():
    data, truth = scan()
    result = unmix(data, 3, method="kmeans", signal_axes=2)
    assert result.components.shape == (3, 20, 20)
    assert len({*zip(result.labels.ravel().tolist(), truth.ravel().tolist(), strict=True)}) == 3
    axes = [*AXES[:2], *({"name": n, "scale": 0.1, "offset": -0.95, "units": "1/nm"} for n in ("ky", "kx"))]
    ring = unmix(data, 3, method="kmeans", signal_axes=2, axes=axes, signal_range=(0.2, 0.9))
    used = np.isfinite(ring.components[0])
    k = -0.95 + 0.1 * np.arange(20)
    expected = (np.hypot(k[:, None], k) >= 0.2) & (np.hypot(k[:, None], k) <= 0.9)
    assert used.sum() == expected.sum()
    assert ring.signal_axes[0].units == "1/nm"


@pytest.mark.parametrize("kind", ["memmap", "h5py", "fortran", "energy first"])
def test_the_same_bits_from_any_storage(tmp_path, kind):
    cube = counts()
    expected = unmix(cube, 3, method="kmeans")
    if kind == "h5py":
        with h5py.File(tmp_path / "c.h5", "w") as file:
            found = unmix(file.create_dataset("d", data=cube, chunks=(5, 7, 80)), 3, method="kmeans")
    else:
        np.save(tmp_path / "c.npy", np.asfortranarray(cube) if kind == "fortran" else cube)
        stored = np.load(tmp_path / "c.npy", mmap_mode="r")
        if kind == "energy first":
            stored = np.moveaxis(np.ascontiguousarray(np.moveaxis(cube, 2, 0)), 0, 2)
        found = unmix(stored, 3, method="kmeans")
    assert np.array_equal(found.components, expected.components)
    assert np.array_equal(found.labels, expected.labels)


def test_a_line_of_spectra():
    result = unmix(counts()[10], 2)
    assert result.abundances.shape == (2, 30)
    assert [axis.name for axis in result.axes] == ["x", "channel"]


# The result.


@pytest.mark.parametrize("method", ["nmf", "ica", "kmeans"])
def test_saved_and_loaded(tmp_path, method):
    result = unmix(counts(), "auto", method=method, axes=AXES)
    result.save(tmp_path / "u.npz")
    again = Unmixing.load(tmp_path / "u.npz")
    for name, value in result.to_dict().items():
        other = again.to_dict()[name]
        assert np.array_equal(value, other, equal_nan=True) if isinstance(value, np.ndarray) else value == other
    assert again.axes[2] == Axis("Energy", 0.1, 0.02, "keV")
    assert repr(again) == repr(result)


def test_loading_something_else(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(3))
    with pytest.raises(ValueError, match=r"x\.npz: not a file that Unmixing\.save wrote"):
        Unmixing.load(tmp_path / "x.npz")
