"""Windows of several sizes: which are taken, and what they are good for."""

import numpy as np
import pytest

from stemseg_core import datasets, segment
from stemseg_core.phases.frequencies import Frequencies
from stemseg_core.phases.multiscale import Multiscale, _surest
from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.images import Frames
from stemseg_core.windows.windows import WindowFFT


@pytest.fixture(scope="module")
def two_phase():
    return datasets.two_phase((320, 336))


def agreement(labels, truth):
    same = (labels == truth).mean()
    return max(same, 1 - same)


def test_several_windows_are_for_the_default_method(two_phase):
    with pytest.raises(ValueError, match=r"windows must be left out with method='nmf'.*give window instead"):
        segment(two_phase[0], 2, method="nmf", windows=[32, 64])


def test_maps_have_an_entry_for_each_window_of_theirs(two_phase):
    image, truth = two_phase
    result = segment(image, 2, windows=[32, 48, 96], step=8)
    assert result.params["window"] == (48, 48)
    assert result.labels.shape == ((320 - 48) // 8 + 1, (336 - 48) // 8 + 1)
    assert agreement(result.label_image, truth) > 0.97
    again = segment(image, 2, **{k: v for k, v in result.params.items() if k != "n_phases"})
    np.testing.assert_array_equal(again.abundances, result.abundances)


def test_one_size_alone(two_phase):
    image, truth = two_phase
    result = segment(image, 2, windows=[64], step=8)
    assert set(result.params["windows"]) >= {(64, 64)}
    assert agreement(result.label_image, truth) > 0.95


def test_large_windows_that_meet_a_mask_everywhere_are_not_used(two_phase):
    image, truth = two_phase
    mask = np.zeros(image.shape, bool)
    mask[20::48, 20::48] = True
    windows = Multiscale.over(Frames.survey(image, mask), [(32, 32)], WindowFFT(32, 8), Frequencies(3))
    assert windows.lattices.window == (32, 32)
    assert windows.large is None
    result = segment(image, 2, window=32, step=8, mask=mask)
    assert agreement(result.label_image[~mask], truth[~mask]) > 0.9


def test_thickness_is_no_phase():
    """A dose that varies by a factor of three across the image must not decide, the lattice must."""
    image, truth = datasets.two_phase((384, 384))
    ramp = np.linspace(0.5, 1.5, 384)[:, np.newaxis]  # along the boundary
    noisy = np.random.default_rng(0).poisson(image / image.mean() * 4 * ramp)
    assert agreement(segment(noisy, 2).label_image, truth) > 0.97


@pytest.mark.parametrize("dose", [60, 1.5])
def test_phases_that_nowhere_fill_a_large_window(dose):
    """Vacuum and amorphous layer have no lattice, and hardly one window of 128 px holds either alone."""
    image, truth = datasets.crystal_amorphous_vacuum((400, 512), random_state=7, dose=dose)
    labels = segment(image, 3).label_image
    table = np.array([[np.count_nonzero(labels[truth == phase] == found) for found in range(3)] for phase in range(3)])
    assert sorted(table.argmax(axis=1)) == [0, 1, 2]
    assert table.max(axis=1).sum() / truth.size > 0.95


def test_the_surest_map_is_kept():
    """Of a map with the boundary in the place where scores change and one across it, whichever comes first."""
    grid = Grid(np.ones((30, 40), bool), (16, 16), (8, 8))
    rng = np.random.default_rng(0)
    side = np.repeat([0, 1], 20) * np.ones((30, 1))
    scores = (rng.standard_normal((1200, 4)) + 8 * side.reshape(-1, 1) * [1, 0, 0, 0]).astype(np.float32)
    right = np.zeros((30 * 8 + 8, 40 * 8 + 8), np.int32)
    wrong = right.copy()
    right[:, right.shape[1] // 2 :] = 1
    wrong[right.shape[0] // 2 :] = 1
    for maps in ((right, wrong), (wrong, right), (np.zeros_like(right), right)):
        assert _surest(scores, grid, maps, 2, Execution()).pixels is right
    assert _surest(scores, grid, (np.zeros_like(right),), 2, Execution()) is None


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units_of_the_image_do_not_matter(two_phase, scale):
    image, _ = two_phase
    expected = segment(image, 2).label_image
    assert (segment((image * scale).astype(np.float32), 2).label_image == expected).mean() > 0.999


@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")  # three phases are asked for where there are two
def test_any_number_of_threads_gives_the_same_bits(two_phase):
    image, _ = two_phase
    noisy = np.random.default_rng(0).poisson(image / image.mean() * 1.5)  # small windows give way to larger ones
    maps = [segment(noisy, 3, n_jobs=n_jobs).abundances for n_jobs in (1, 2, 3)]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])
