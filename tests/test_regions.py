"""Small regions are given to the phases around them."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label

from stemseg_core.phases.regions import without_small_regions, without_small_regions_bytes


def areas_of(labels):
    """(phase, area) of all regions."""
    for phase in range(labels.max() + 1):
        regions, n = label(labels == phase)
        yield from ((phase, int((regions == i + 1).sum())) for i in range(n))


def test_a_speck_goes_to_the_nearest_phase():
    labels = np.zeros((20, 30), np.int32)
    labels[:, 15:] = 1
    labels[5:7, 5:7] = labels[10:12, 16:18] = labels[19, 0] = 2
    found = without_small_regions(labels, 5)
    expected = np.zeros((20, 30), np.int32)
    expected[:, 15:] = 1
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(without_small_regions(labels, 4)[5:7, 5:7], 2)


def test_regions_hang_together_by_edges():
    labels = np.zeros((12, 12), np.int32)
    labels[2:4, 2:4] = labels[4:6, 4:6] = 1  # touch with a corner
    assert not without_small_regions(labels, 5).any()


def test_between_two_phases_each_pixel_has_its_own():
    labels = np.zeros((9, 20), np.int32)
    labels[:, 10:] = 1
    labels[3:6, 7:13] = 2
    found = without_small_regions(labels, 19)
    np.testing.assert_array_equal(found[:, :10], 0)
    np.testing.assert_array_equal(found[:, 10:], 1)


def test_excluded_pixels_are_left_and_part_regions():
    labels = np.zeros((20, 20), np.int32)
    labels[:, 8] = -1
    labels[:, 9:] = 1
    labels[3, 8:11] = -1, 0, 0
    found = without_small_regions(labels, 10)
    np.testing.assert_array_equal(found < 0, labels < 0)
    assert (found[3, 9:11] == 1).all()


@pytest.mark.parametrize("min_area", [0, 1])
def test_off(min_area):
    labels = np.random.default_rng(0).integers(-1, 3, (30, 30)).astype(np.int32)
    assert without_small_regions(labels, min_area) is labels


def test_something_always_stays():
    labels = np.repeat(np.arange(4, dtype=np.int32), [3, 5, 5, 2])[np.newaxis]
    assert (without_small_regions(labels, 1000) == 1).all()  # the largest, of equal ones the first
    assert (without_small_regions(labels[:, ::-1].copy(), 1000) == 2).all()
    nothing = np.full((4, 4), -1, np.int32)
    np.testing.assert_array_equal(without_small_regions(nothing, 3), nothing)


@given(labels=arrays(np.int32, (12, 14), elements=st.integers(-1, 2)), min_area=st.integers(2, 200))
def test_properties(labels, min_area):
    before = labels.copy()
    found = without_small_regions(labels, min_area)
    np.testing.assert_array_equal(labels, before)
    np.testing.assert_array_equal(found < 0, labels < 0)
    np.testing.assert_array_equal(without_small_regions(found, min_area), found)
    large = [phase for phase, area in areas_of(labels) if area >= min_area]
    if large:
        assert set(np.unique(found[found >= 0])) == set(large)
    if (labels >= 0).all():
        assert min((area for _, area in areas_of(found)), default=min_area) >= min(min_area, labels.size)


def test_memory():
    labels = np.random.default_rng(0).integers(0, 3, (300, 400)).astype(np.int32)
    tracemalloc.start()
    without_small_regions(labels, 50)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak + labels.nbytes < without_small_regions_bytes(labels.size) < 1.3 * peak
