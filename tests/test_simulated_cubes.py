"""Simulated cubes: `stemseg_core.datasets.cubes`, and its signals and elements."""

import numpy as np
import pytest

from stemseg_core import datasets
from stemseg_core.system.errors import ParameterError

MAKERS = {
    "eels": lambda **k: datasets.eels_cube((12, 14), counts=50_000, **k),
    "edx": lambda **k: datasets.edx_cube((12, 14), counts=3_000, **k),
    "scan": lambda **k: datasets.scan_4d((12, 14), (24, 26), counts=3_000, **k),
}


@pytest.mark.parametrize("name", MAKERS)
def test_counts_are_about_shares_times_components(name):
    cube, axes, shares, components = MAKERS[name]()
    assert cube.dtype == np.uint16
    assert len(axes) == cube.ndim
    assert shares.shape == (len(components), *cube.shape[:2])
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    assert (shares.sum(axis=(1, 2)) > 0).all()
    signal = tuple(range(1, components.ndim))
    np.testing.assert_allclose(components.sum(axis=signal), {"eels": 50_000}.get(name, 3_000), rtol=1e-3)
    ramp = 1 if name == "scan" else (1 + 0.4 * ((np.arange(12) + 0.5) / 12 - 0.5))[:, None]
    expected = np.tensordot(shares * ramp, components, (0, 0)).astype(float)
    chi2 = ((cube - expected) ** 2).sum() / expected.sum()  # 1 for Poisson noise alone
    assert 0.9 < chi2 < (2.5 if name == "eels" else 1.1)  # plural losses change along y


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_seed_gives_the_same_cube(name):
    first, again, other = (MAKERS[name](random_state=seed).cube for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_edges_and_lines_are_where_they_belong():
    _, axes, _, spectra = datasets.eels_cube((2, 2), ({"Ti": 1}, {"C": 1}))
    energy = axes[2].offset + axes[2].scale * np.arange(640)
    steepest = energy[np.argmax(np.diff(np.log(spectra), axis=1), axis=1)]
    assert abs(steepest[0] - 456) < 4
    assert abs(steepest[1] - 284) < 4
    _, axes, _, spectra = datasets.edx_cube((2, 2), ({"Fe": 1}, {"Si": 1}))
    strongest = axes[2].scale * spectra.argmax(axis=1)
    np.testing.assert_allclose(strongest, [6.404, 1.740], atol=0.011)
    above = spectra > spectra.max(axis=1, keepdims=True) / 2
    half = above[:, 60:].sum(axis=1) * axes[2].scale  # from 1.2 keV on
    assert half[0] == pytest.approx(0.134, abs=0.02)  # at 6.4 keV, of a detector with 0.130 keV at 5.9 keV
    assert half[1] == pytest.approx(0.08, abs=0.021)


def test_thicker_specimens_smear_their_edges():
    thin, thick = (datasets.eels_cube((2, 2), ({"Ti": 1},), thickness=t).components[0] for t in (0.1, 2.0))
    before, peak, after = 456 - 260, 459 - 250, 481 - 250
    assert thin[peak] / thin[before] > 1.3 * thick[peak] / thick[before]
    assert thick[after] / thick[peak] > thin[after] / thin[peak]


def test_patterns_have_the_reflections_of_their_zone():
    _, axes, shares, patterns = datasets.scan_4d((4, 4), (140, 140))
    ky, kx = (a.offset + a.scale * np.arange(140) for a in axes[2:])
    radius = np.hypot(ky[:, None], kx)
    assert set(np.unique(shares)) == {0.0, 1.0}
    for pattern, first in zip(patterns, (2.0, 3**0.5, 8**0.5), strict=True):  # |hkl|: 200, 111 and 220
        outside = np.where(radius > 2, pattern, 0)
        assert radius[outside > 0.9 * outside.max()].min() == pytest.approx(first / 0.361, abs=1.0)


def test_gain_multiplies_counts():
    one, ten = (datasets.eels_cube((4, 4), gain=gain) for gain in (1.0, 2.5))
    assert ten.cube.dtype == np.float32
    np.testing.assert_array_equal(ten.cube, one.cube * np.float32(2.5))
    np.testing.assert_allclose(ten.components, one.components * 2.5, rtol=1e-6)


def test_many_counts_do_not_wrap_around():
    cube = datasets.edx_cube((2, 2), counts=5e6).cube
    assert cube.dtype == np.uint32
    assert cube.sum(axis=2).min() > 3.5e6


@pytest.mark.parametrize("n", [1, 2, 5])
def test_any_number_of_materials(n):
    materials = [{e: 1} for e in ("C", "O", "Ti", "Mn", "Fe")][:n]
    for make in (datasets.eels_cube, datasets.edx_cube):
        made = make((20, 20), materials)
        assert len(made.shares) == len(made.components) == n
        assert made.shares.min() >= 0
        np.testing.assert_allclose(made.shares.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: datasets.eels_cube((4,)),
        lambda: datasets.eels_cube((4, 4), [{"Xx": 1}]),
        lambda: datasets.eels_cube((4, 4), []),
        lambda: datasets.edx_cube((4, 4), [{"Fe": -1}]),
        lambda: datasets.edx_cube((4, 4), counts=0),
        lambda: datasets.edx_cube((4, 4), channels=0),
        lambda: datasets.edx_cube((4, 4), ramp=2),
        lambda: datasets.scan_4d((4, 4), (0, 4)),
        lambda: datasets.scan_4d((4, 4), n_patterns=9),
        lambda: datasets.eels_cube((4, 4), thickness=float("nan")),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(ParameterError):
        make()
