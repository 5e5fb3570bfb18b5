"""Endmembers of segment(): defects of an image are none, and clean images have the same maps as without that rule."""

import numpy as np
import pytest

from stemseg_core import NFINDR, abundances, datasets, segment
from stemseg_core.phases.defects import MAX_DEFECTS, unmix_windows
from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid

METHODS = ("nfindr", "spa", "vca", "atgp", "nmf")


def hot_pixels(image):
    image[[90, 200, 310, 333], [300, 110, 222, 70]] = 50 * image.max()


def cosmic_ray(image):
    image[150 + np.arange(14) // 3, 201 + np.arange(14)] = 30 * image.max()


def streak(image):
    image[250:253, 100:240] += 4 * image.max()


def speck(image):
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    image[(y - 120) ** 2 + (x - 250) ** 2 < 80] += 10 * image.max()


@pytest.fixture(scope="module")
def two_phase():
    return datasets.two_phase((400, 400), position=0.45, random_state=4)


def agreement(result, truth):
    """Share of right pixels of a map of two phases."""
    right = (result.label_image == truth).mean()
    return max(right, 1 - right)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("damage", [hot_pixels, cosmic_ray, streak, speck])
def test_defects_are_no_endmembers(two_phase, damage, method):
    image, truth = two_phase[0].copy(), two_phase[1]
    damage(image)
    # ATGP goes by length, and takes windows that see a little of the defect.
    assert agreement(segment(image, 2, method=method), truth) > (0.93 if method == "atgp" else 0.97)


@pytest.mark.parametrize("step", [24, 40, 64])
def test_defects_are_no_endmembers_of_coarse_grids(step):
    image, truth = datasets.two_phase((512, 512), position=0.45, random_state=4)
    hot_pixels(image)
    assert agreement(segment(image, 2, method="nfindr", window=64, step=step), truth) > 0.9


def test_other_errors_are_not_taken_for_too_few_dimensions(two_phase, monkeypatch):
    image = two_phase[0].copy()
    hot_pixels(image)
    search, calls = NFINDR._search, []

    def fails_again(self, *arguments):
        calls.append(self)
        if len(calls) > 1:
            raise ValueError("something else")
        return search(self, *arguments)

    monkeypatch.setattr(NFINDR, "_search", fails_again)
    with pytest.raises(ValueError, match="something else"):
        segment(image, 2, method="nfindr")


def test_defects_would_be_endmembers(two_phase, monkeypatch):
    """What the rule is for: without it, the map is one of the defects."""
    monkeypatch.setattr("stemseg_core.phases.defects._thick", lambda inside, grid: True)
    found = []
    for damage in (hot_pixels, streak):
        image, truth = two_phase[0].copy(), two_phase[1]
        damage(image)
        found.append(agreement(segment(image, 2, method="nfindr"), truth))
    assert min(found) < 0.7


@pytest.mark.parametrize(
    ("name", "k"), [("two_phase", 2), ("crystal_amorphous_vacuum", 3), ("polycrystal", 3), ("inclined_interface", 2)]
)
@pytest.mark.parametrize("method", ["nfindr", "nmf"])
def test_clean_images_keep_their_maps(name, k, method, monkeypatch):
    options = {"n_grains": 5, "n_orientations": 3} if name == "polycrystal" else {}
    image, _ = getattr(datasets, name)((512, 512), **options)
    found = segment(image, k, method=method)
    monkeypatch.setattr("stemseg_core.phases.defects._thick", lambda inside, grid: True)
    np.testing.assert_array_equal(found.abundances, segment(image, k, method=method).abundances)


def grid_of(included, window=16, step=4):
    return Grid(included, (window, window), (step, step))


@pytest.fixture
def scores():
    """Rows of a map of 40 x 40 windows, left and right different, with noise."""
    rng = np.random.default_rng(0)
    left = np.arange(1600) % 40 < 15
    return (np.outer(left, [5.0, 0, 0]) + 0.1 * rng.standard_normal((1600, 3))).astype(np.float32)


def test_thin_places_are_left_out(scores):
    included = np.ones((40, 40), bool)
    clean = abundances(scores, NFINDR(2).fit(scores).components_)
    place = np.s_[20 * 40 + 25 : 20 * 40 + 29]  # four windows side by side, as far as one window reaches
    scores[place] += [0, 60, 0]
    found = unmix_windows(NFINDR(2), scores, grid_of(included), Execution()).abundances
    rest = np.delete(np.arange(1600), np.r_[place])
    assert np.abs(np.corrcoef(found[rest, 0], clean[rest, 0])[0, 1]) > 0.999
    assert found.shape == (1600, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_thick_places_stay(scores):
    included = np.ones((40, 40), bool)
    block = np.zeros((40, 40), bool)
    block[18:25, 22:29] = True
    scores[block.ravel()] += [0, 60, 0]
    found = unmix_windows(NFINDR(2), scores, grid_of(included), Execution()).abundances
    own = found[block.ravel()].mean(axis=0)
    assert own.max() > 0.9
    assert found[~block.ravel()][:, own.argmax()].max() < 0.2


def test_excluded_windows_have_no_depth(scores):
    included = np.ones((40, 40), bool)
    included[10:14] = False
    kept = scores[included.ravel()]
    found = unmix_windows(NFINDR(2), kept, grid_of(included), Execution()).abundances
    np.testing.assert_array_equal(found, abundances(kept, NFINDR(2).fit(kept).components_))


def test_too_many_defects_are_none(scores):
    included = np.ones((40, 40), bool)
    stripes = np.zeros((40, 40), bool)
    stripes[:, ::3] = True
    assert stripes.mean() > MAX_DEFECTS
    scores[stripes.ravel()] += [0, 60, 0]
    found = unmix_windows(NFINDR(2), scores, grid_of(included), Execution()).abundances
    np.testing.assert_array_equal(found, abundances(scores, NFINDR(2).fit(scores).components_))


def test_nothing_left_beside_the_defects():
    scores = np.zeros((1600, 3), np.float32)
    scores[800:803] = np.eye(3)[1]
    found = unmix_windows(NFINDR(2), scores, grid_of(np.ones((40, 40), bool)), Execution()).abundances
    np.testing.assert_allclose(found[800:803].max(axis=1), 1)
    np.testing.assert_allclose(found[0].max(), 1)


def test_windows_that_see_a_defect_are_told(scores):
    place = np.s_[20 * 40 + 25 : 20 * 40 + 29]
    assert unmix_windows(NFINDR(2), scores, grid_of(np.ones((40, 40), bool)), Execution()).clear.all()
    scores[place] += [0, 60, 0]
    scores[20 * 40 + 29] += [0, 30, 0]  # sees half of it
    clear = unmix_windows(NFINDR(2), scores, grid_of(np.ones((40, 40), bool)), Execution()).clear
    np.testing.assert_array_equal(np.flatnonzero(~clear), np.arange(20 * 40 + 25, 20 * 40 + 30))


def test_parts_of_more_phases_than_scores_have_dimensions(two_phase):
    assert segment(two_phase[0], 5, method="nmf", rank=2).abundances.shape[0] == 5


def test_the_number_of_phases_does_not_depend_on_the_method(two_phase):
    curves = [segment(two_phase[0], "auto", method=m).estimate.curves["separation"] for m in ("nfindr", "atgp", "nmf")]
    assert len({curve.n_components for curve in curves}) == 1
    np.testing.assert_array_equal(curves[2].value, curves[0].value)
    np.testing.assert_allclose(curves[1].value, curves[0].value, rtol=0.05)  # its scores are not centred


def test_limits_and_refusals():
    image, _ = datasets.two_phase((160, 160))
    for method, most in (("nfindr", 3), ("vca", 3), ("spa", 3), ("atgp", 2)):
        with pytest.raises(ValueError, match=f"method='{method}' finds at most rank.* = {most} phases, got n_phases=4"):
            segment(image, 4, method=method, rank=2)
