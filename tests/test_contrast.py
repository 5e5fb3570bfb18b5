"""Intensity: outlines that it corrects, and maps that it makes where nothing is periodic."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import adjusted_rand_score

from stemseg_core import segment
from stemseg_core.phases import contrast
from stemseg_core.phases.contrast import Statistics, contrast_bytes, contrast_map, corrected
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.images import Frames

ONE = Execution(1)


def blobs(seed, contrast=0.35, shape=(256, 320)):
    """Dark blobs on a speckled film without a lattice."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for _ in range(6):
        inside |= np.hypot(y - rng.uniform(0, shape[0]), x - rng.uniform(0, shape[1])) < rng.uniform(20, 40)
    speckle = gaussian_filter(rng.standard_normal(shape), 1.2)
    image = 1 - contrast * gaussian_filter(inside.astype(float), 2) + 0.13 * speckle / speckle.std()
    return image.astype(np.float32), inside.astype(np.int32)


def disc(shape=(200, 240), radius=60):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (np.hypot(y - shape[0] / 2, x - shape[1] / 2) < radius).astype(np.int32)


def grid_over(shape, window=32, step=4):
    return Grid(np.ones([(n - window) // step + 1 for n in shape], bool), (window, window), (step, step))


@pytest.mark.parametrize("seed", range(3))
def test_regions_without_a_lattice_are_told_apart_by_intensity(seed):
    image, truth = blobs(seed)
    result = segment(image, 2)
    assert adjusted_rand_score(truth.ravel(), result.label_image.ravel()) > 0.85
    assert contrast.NOTE in result.notes
    assert result.params["contrast"] == "auto"
    json.dumps(result.params)


@pytest.mark.parametrize("blur", [0, 1, 3])
@pytest.mark.parametrize("k", [2, 3, 5])
def test_noise_has_no_regions(blur, k):
    image = gaussian_filter(np.random.default_rng(k).standard_normal((256, 256)), blur)
    found = contrast_map(Frames.survey(image), grid_over(image.shape), k, 0, ONE)
    assert found.separation < contrast.SEPARATE


def test_what_is_excluded_is_no_region():
    image, truth = blobs(0)
    mask = np.zeros(image.shape, bool)
    mask[:100, :120] = True
    image[mask] = 50  # whatever is under a mask
    result = segment(image, 2, mask=mask)
    assert contrast.NOTE in result.notes
    assert (result.label_image[mask] == -1).all()
    assert adjusted_rand_score(truth[~mask], result.label_image[~mask]) > 0.85
    noise = np.random.default_rng(1).standard_normal(image.shape)
    found = contrast_map(Frames.survey(noise, mask), grid_over(image.shape), 2, 0, ONE)
    assert found.separation < contrast.SEPARATE


def test_a_number_that_was_found_gives_the_same_map():
    image, _ = blobs(1)
    found = segment(image, "auto")
    assert contrast.NOTE in found.notes
    again = segment(image, len(found.fractions))
    np.testing.assert_array_equal(again.label_image, found.label_image)
    assert again.separation == found.separation
    assert found.separation.value > found.separation.chance == contrast.SEPARATE
    assert found.verdict.startswith(f"the {len(found.fractions)} phases are ")
    curve = found.estimate.curves["separation"]
    assert found.estimate.n_components == len(found.fractions)
    assert curve.value[found.estimate.n_components - 1] == found.separation.value
    assert curve.value[found.estimate.n_components] <= contrast.SEPARATE  # the first that fails ends the search
    assert again.estimate is None


def test_noise_is_refused_if_contrast_alone_is_asked_for():
    image = np.random.default_rng(0).standard_normal((128, 128))
    with pytest.raises(ParameterError, match="finds no 2 phases"):
        segment(image, 2, contrast="only", window=24)


def test_texture_alone_makes_a_map():
    truth = disc()
    rng = np.random.default_rng(0)
    image = rng.standard_normal(truth.shape) * np.where(truth, 3.0, 1.0)
    result = segment(image, 2, contrast="only", window=32)
    assert adjusted_rand_score(truth.ravel(), result.label_image.ravel()) > 0.85


def test_unknown_values_and_other_methods_are_refused():
    image = np.eye(64)
    with pytest.raises(ParameterError, match="contrast must be one of"):
        segment(image, 2, contrast="yes")
    with pytest.raises(ParameterError, match="leave"):
        segment(image, 2, contrast="only", method="nmf")


def test_a_swollen_outline_is_corrected_and_small_errors_are_left():
    truth = disc()
    image = (truth + 0.05 * np.random.default_rng(0).standard_normal(truth.shape)).astype(np.float32)
    frames, grid = Frames.survey(image), grid_over(truth.shape)
    better = corrected(disc(radius=74), frames, grid, 2, ONE)
    assert adjusted_rand_score(truth.ravel(), better.ravel()) > 0.95
    nearly = disc(radius=64)
    np.testing.assert_array_equal(corrected(nearly, frames, grid, 2, ONE), nearly)


@pytest.mark.parametrize("middle", [100, 66])
def test_the_halo_of_a_small_particle_is_no_part_of_it(middle):
    """It has twice the area of the particle; at the edge of the image it may be cut off."""
    y, x = np.mgrid[:200, :200]
    distance = np.hypot(y - 100, x - middle)
    image = (distance < 30) + 0.02 * np.random.default_rng(0).standard_normal(distance.shape)
    swollen = (distance < 52) | ((np.abs(y - 100) < 45) & (x < middle - 30))
    frames, grid = Frames.survey(image.astype(np.float32)), grid_over(distance.shape)
    better = corrected(swollen.astype(np.int32), frames, grid, 2, ONE)
    assert np.count_nonzero(better != (distance < 30)) < 1.5 * 2 * np.pi * 30  # a pixel and a half


def test_phases_of_the_same_intensity_are_left_alone():
    labels = disc()
    image = np.random.default_rng(0).standard_normal(labels.shape).astype(np.float32)
    assert corrected(labels, Frames.survey(image), grid_over(labels.shape), 2, ONE) is labels


def test_excluded_pixels_do_not_count():
    truth = disc()
    image = (truth + 0.05 * np.random.default_rng(0).standard_normal(truth.shape)).astype(np.float32)
    mask = np.zeros(truth.shape, bool)
    mask[90:110, 20:60] = True
    spoilt = np.where(mask, 1e4, image).astype(np.float32)
    window = (32, 32)
    found = Statistics.of(Frames.survey(spoilt, mask), window, 0.14).planes[0]
    clean = Statistics.of(Frames.survey(np.where(mask, image.mean(), image)), window, 0.14).planes[0]
    spread = np.ptp(found[~np.isnan(found)])
    assert spread < 1.5 * np.ptp(clean) * Frames.survey(image).gain / Frames.survey(spoilt, mask).gain + 1
    labels = np.where(mask, -1, disc(radius=74)).astype(np.int32)
    grid = Grid(Frames.survey(spoilt, mask).included((32, 32), (4, 4))[0], window, (4, 4))
    better = corrected(labels, Frames.survey(spoilt, mask), grid, 2, ONE)
    assert (better[mask] == -1).all()
    assert adjusted_rand_score(truth[~mask], better[~mask]) > 0.9


def test_the_same_bits_on_any_number_of_threads():
    image, _ = blobs(0)
    one, three = segment(image, 2, n_jobs=1), segment(image, 2, n_jobs=3)
    np.testing.assert_array_equal(one.label_image, three.label_image)
    np.testing.assert_array_equal(one.abundances, three.abundances)


@pytest.mark.parametrize(("window", "k"), [(8, 2), (8, 10), (32, 2)])
def test_memory_is_at_most_what_was_predicted(window, k, peak_bytes):
    y, x = np.mgrid[:600, :600] - 300
    truth = (np.hypot(y, x) < 200).astype(np.int32)
    image = (truth + 0.05 * np.random.default_rng(0).standard_normal(truth.shape)).astype(np.float32)
    frames, sides, step = Frames.survey(image), (window, window), (8, 8)
    grid = Grid(frames.included(sides, step)[0], sides, step)
    n = grid.included.size
    peak = peak_bytes(lambda: contrast_map(frames, grid, k, 0, ONE))
    assert peak < contrast_bytes(truth.size, sides, n, k, 1, alone=True) < 3 * peak
    swollen = (np.hypot(y, x) < 200 + 0.45 * window).astype(np.int32)
    peak = peak_bytes(lambda: corrected(swollen, frames, grid, 2, ONE))
    assert peak < contrast_bytes(truth.size, sides, n, 2, 1, alone=False) < 2 * peak
