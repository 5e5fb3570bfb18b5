"""Frequencies: limits in the right units, and moments that stay the same when a lattice is turned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from stemseg_core import WindowFFT, datasets
from stemseg_core.phases.frequencies import ORDERS, ORDERS_PER_CYCLE, REACH, Frequencies

TURNED = Frequencies(3, rotation_invariant=True)


@pytest.fixture(scope="module")
def matrix():
    return WindowFFT((40, 28), 8).matrix(np.random.default_rng(0).random((64, 72)))


def planes(matrix, values):
    """Features (d,) of 0 and 1 on the full plane."""
    return matrix.to_image(values * np.where(np.arange(matrix.shape[1]) == matrix.hy * matrix.hx, 1, np.sqrt(2)))


@pytest.mark.parametrize("k_max", [None, 3.0, 6.0])
@pytest.mark.parametrize("pixel_size", [(1.0, 1.0), (0.03, 0.05)])
def test_limits(matrix, k_max, pixel_size):
    """k_min in cycles a window, k_max per unit of length."""
    k_max = k_max and k_max * 0.04 / pixel_size[0]
    y, x = np.meshgrid(matrix.ky, matrix.kx, indexing="ij")
    expected = np.hypot(y * 40, x * 28) >= 3
    if k_max:
        expected &= np.hypot(y / pixel_size[0], x / pixel_size[1]) <= k_max
    np.testing.assert_allclose(
        planes(matrix, Frequencies(3, k_max, pixel_size).kept(matrix.half_plane)), expected, atol=1e-12
    )


def test_the_same_physical_limit_in_windows_of_all_sizes():
    image = np.zeros((128, 128))
    for window in (32, 48, 96):
        matrix = WindowFFT(window, 16).matrix(image)
        kept = planes(matrix, Frequencies(3, 7.0, (0.02, 0.02)).kept(matrix.half_plane)) > 0.5
        assert matrix.kx[kept.any(axis=0)].max() / 0.02 == pytest.approx(7, abs=1 / (window * 0.02))


@pytest.mark.parametrize("invariant", [False, True])
def test_nothing_left(matrix, invariant):
    with pytest.raises(ValueError, match=r"k_min=100 leaves none of the frequencies.* 40 x 28 px keeps; take a larger"):
        Frequencies(100, rotation_invariant=invariant).kept(matrix.half_plane)
    with pytest.raises(ValueError, match=r"k_min=3 with k_max=0.05 leaves none.*or a larger k_max"):
        Frequencies(3, 0.05, rotation_invariant=invariant).kept(matrix.half_plane)


@pytest.mark.parametrize("window", [(40, 28), (32, 32)])
@pytest.mark.parametrize("pixel_size", [(1.0, 1.0), (0.03, 0.05)])
@pytest.mark.parametrize("k_min", [0, 3])
def test_formula(window, pixel_size, k_min):
    """Against sums over the full plane, ring by ring."""
    matrix = WindowFFT(window, 8, zoom=1).matrix(np.random.default_rng(0).random((64, 72)))
    moments = Frequencies(k_min, None, pixel_size, rotation_invariant=True).moments(matrix.half_plane, matrix.dtype)
    rows = np.asarray(matrix)[:7]
    spectra = matrix.to_image(rows).astype(float)
    y, x = np.meshgrid(matrix.ky / pixel_size[0], matrix.kx / pixel_size[1], indexing="ij")
    unit = max(1 / (w * p) for w, p in zip(window, pixel_size, strict=True))
    cycles, angles = np.hypot(y, x) / unit, np.arctan2(y, x)
    last = min(matrix.ky[-1] / pixel_size[0], matrix.kx[-1] / pixel_size[1]) / unit
    expected = []
    for ring in np.arange(k_min + REACH, last - REACH + 1e-9):
        share = np.where(np.abs(cycles - ring) < REACH, np.cos(np.pi / 2 * (cycles - ring) / REACH) ** 2, 0)
        share /= np.linalg.norm(share)
        for order in ORDERS:
            if order <= ORDERS_PER_CYCLE * ring:
                factor = np.sqrt(2) if order else 1
                expected.append(np.abs((spectra * share * np.exp(1j * order * angles)).sum(axis=(1, 2))) * factor)
    assert moments.n == len(expected) > 3
    predicted = Frequencies(k_min, None, pixel_size, True).moments_bytes(matrix.half_plane, matrix.dtype)
    assert moments.to_both.nbytes == predicted
    np.testing.assert_allclose(moments(rows), np.transpose(expected), rtol=1e-4, atol=1e-4 * rows.max())


def test_quarter_turns_and_mirrors_change_nothing():
    image = datasets.two_phase((96, 96), dose=5)[0]
    for changed in (np.rot90(image), image[::-1], image.T):
        features = [
            TURNED.moments(matrix.half_plane, matrix.dtype)(np.asarray(matrix))
            for matrix in (WindowFFT(96, taper=None, dtype="float64").matrix(x) for x in (image, changed))
        ]
        np.testing.assert_allclose(*features, rtol=1e-9, atol=1e-9 * features[0].max())


@pytest.fixture(scope="module")
def lattices():
    """A lattice with its mean moments, and those of another one."""
    y, x = np.mgrid[-150:150, -150:150]
    lattice = np.cos(0.42 * x) + np.cos(0.42 * y) + 0.6 * np.cos(0.42 * (x + y)) + 0.6 * np.cos(0.42 * (x - y))
    other = np.cos(0.5 * x) + np.cos(0.25 * x + 0.433 * y) + np.cos(0.25 * x - 0.433 * y)
    return lattice, mean_moments(lattice), mean_moments(other)


@given(angle=st.floats(0, 180))
def test_turns_by_any_angle_change_little(lattices, angle):
    """Far less than another lattice does; not nothing, since spectra are seen through a square grid of frequencies."""
    lattice, first, third = lattices
    second = mean_moments(ndimage.rotate(lattice, angle, reshape=False, order=3))
    assert np.linalg.norm(second - first) < 0.15 * np.linalg.norm(first)
    assert np.linalg.norm(second - first) < 0.3 * np.linalg.norm(third - first)


def mean_moments(image):
    """Of the middle, which a turned image fills."""
    matrix = WindowFFT(64, 7).matrix(image[60:-60, 60:-60])
    return TURNED.moments(matrix.half_plane, matrix.dtype)(np.asarray(matrix)).mean(axis=0)


def test_noise_counts_alike_in_all_orders():
    """The mean square of each is the variance of the noise, twice that for what stands for two orders."""
    matrix = WindowFFT(48, 8).matrix(np.zeros((48, 48)))
    noise = np.random.default_rng(0).standard_normal((20_000, matrix.shape[1])).astype(np.float32)
    squares = (TURNED.moments(matrix.half_plane, matrix.dtype)(noise) ** 2).mean(axis=0)
    assert set(np.round(squares[np.abs(squares - 1) > 0.05])) == {2}


def test_rows_do_not_depend_on_those_made_with_them(matrix):
    rows = np.asarray(matrix)
    moments = TURNED.moments(matrix.half_plane, matrix.dtype)
    np.testing.assert_allclose(moments(rows)[3:5], moments(rows[3:5]), rtol=1e-6)
    assert TURNED.moments(matrix.half_plane, matrix.dtype)(rows).dtype == rows.dtype
    assert Frequencies(3).moments(matrix.half_plane, matrix.dtype) is None


def test_too_narrow_for_a_whole_ring():
    matrix = WindowFFT(16, 8).matrix(np.random.default_rng(0).random((32, 32)))
    moments = TURNED.moments(matrix.half_plane, matrix.dtype)(np.asarray(matrix))
    assert moments.shape[1] >= 1
    assert (moments > 0).all()
