"""Spectra: rows of a WindowMatrix without the lowest frequencies, partly normalised."""

import numpy as np
import pytest

from stemseg_core import WindowFFT
from stemseg_core.phases.frequencies import Frequencies
from stemseg_core.phases.spectra import PowerSpectra, SmoothedSpectra, Spectra
from stemseg_core.system.execution import Execution


@pytest.fixture(scope="module")
def matrix():
    image = np.random.default_rng(0).poisson(20, (90, 120)).astype(np.float32)
    mask = np.zeros(image.shape, bool)
    mask[40:45, 50:60] = True
    return WindowFFT((20, 28), (3, 5)).matrix(image, mask)


def rows_as_they_are(block):
    return (block,), None


def all_rows(source, n_threads=1):
    out = np.full(source.shape, np.nan, source.dtype)
    Execution(n_threads).run(rows_as_they_are, source, out=(out,))
    return out


@pytest.mark.parametrize("k_min", [0, 1, 2.5, 4])
@pytest.mark.parametrize("normalize", [0, 0.5, 1])
def test_formula(matrix, k_min, normalize):
    spectra = Spectra(matrix, matrix.half_plane, Frequencies(k_min), normalize)
    planes = matrix.to_image(np.asarray(matrix)).astype(float)
    cycles = np.hypot(*np.meshgrid(matrix.ky * 20, matrix.kx * 28, indexing="ij"))
    planes[:, cycles < k_min] = 0
    norm = np.sqrt((planes**2).sum(axis=(1, 2), keepdims=True))
    np.testing.assert_allclose(matrix.to_image(all_rows(spectra)), planes / norm**normalize, rtol=1e-4, atol=1e-5)


def test_same_bits_for_any_number_of_threads(matrix):
    spectra = Spectra(matrix, matrix.half_plane, Frequencies(3), 0.5)
    np.testing.assert_array_equal(all_rows(spectra, 1), all_rows(spectra, 3))


def test_the_matrix_is_left_alone(matrix):
    before = np.asarray(matrix)
    all_rows(Spectra(matrix, matrix.half_plane, Frequencies(3), 0.5), 2)
    np.testing.assert_array_equal(np.asarray(matrix), before)


def test_is_the_row_source_of_its_matrix(matrix):
    spectra = Spectra(matrix, matrix.half_plane, Frequencies(3), 0.5)
    assert (spectra.shape, spectra.dtype, spectra.n_blocks) == (matrix.shape, matrix.dtype, matrix.n_blocks)
    for i in range(spectra.n_blocks):
        np.testing.assert_array_equal(spectra.index(i), matrix.index(i))


def test_windows_without_contrast_stay_faint():
    image = np.zeros((64, 96), np.float32)
    image[:, 64:] = np.random.default_rng(0).random((64, 32))
    matrix = WindowFFT(32, 32).matrix(image)
    norms = np.linalg.norm(all_rows(Spectra(matrix, matrix.half_plane, Frequencies(3), 0.5)), axis=1)
    assert norms[[0, 1, 3, 4]].max() < 0.05 * norms[[2, 5]].min()


def test_everything_dropped():
    matrix = WindowFFT(16, 8).matrix(np.random.default_rng(0).random((32, 32)))
    with pytest.raises(ValueError, match="k_min=100 leaves none of the frequencies"):
        Spectra(matrix, matrix.half_plane, Frequencies(100), 0.5)


def test_moments_of_powers_are_taken_when_these_are_smoothed(matrix):
    turned = Frequencies(3, rotation_invariant=True)
    half_plane = matrix.half_plane
    powers = PowerSpectra(matrix, half_plane, turned, 2.0)
    plain = Spectra(matrix, half_plane, turned, 0.5)
    assert powers.shape == matrix.shape
    moments = turned.moments(half_plane, matrix.dtype)
    assert plain.shape == (matrix.shape[0], moments.n)
    rows = all_rows(powers)
    scores, basis, mean = rows - rows.mean(axis=0), np.eye(matrix.shape[1], dtype=np.float32), rows.mean(axis=0)
    expected = moments(rows / np.linalg.norm(rows, axis=1, keepdims=True))
    found = SmoothedSpectra(scores, basis, mean, moments)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found[0 : len(rows)], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found[5:290], found[0 : len(rows)][5:290], rtol=1e-5)
