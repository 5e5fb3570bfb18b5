"""Boundaries of phases: what is learnt deep in them, thin rims, memberships."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from stemseg_core.phases.boundaries import (
    MIN_VARIANCE,
    RIDGE,
    deep_windows,
    discriminate,
    memberships_of,
    squares_to,
    without_rims,
)
from stemseg_core.system.execution import Execution

ONE_THREAD = Execution()


def stripes(*widths, height=20):
    """A map of vertical stripes of phases 0, 1, 2, ..."""
    return np.repeat(np.arange(len(widths)), widths).astype(np.int32) * np.ones((height, 1), np.int32)


def test_deep_windows_are_the_half_far_from_others():
    labels = stripes(10, 20)
    deep = deep_windows(labels)
    assert deep[:, :5].all()
    assert not deep[:, 5:20].any()
    assert deep[:, 20:].all()
    labels[:, 0] = -1  # excluded windows are of no phase, and what is beside them is not deep
    assert not deep_windows(labels)[:, :3].any()


def two_clouds(n=400, r=6, seed=0):
    """Scores whose largest variance, along the first direction, has nothing to do with the phase."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(np.int32)
    scores = rng.standard_normal((n, r)) * [5, 1, 1, 1, 1, 1]
    scores[:, 1] += 6 * labels
    return scores.astype(np.float32), labels


#: Nothing changes from one window to the next.
STEADY = np.zeros((6, 6))


def test_discriminant_is_that_of_scikit_learn():
    scores, labels = two_clouds()
    found = discriminate(scores, labels, 2, STEADY, ONE_THREAD)
    points, means = found.points, found.means
    theirs = LinearDiscriminantAnalysis().fit(scores, labels)
    sides = squares_to(points, means).argmin(axis=1)
    assert (sides == theirs.predict(scores)).mean() > 0.99
    assert abs(np.corrcoef(points[:, 0], theirs.transform(scores)[:, 0])[0, 1]) > 0.999
    within = [points[labels == phase] - means[phase] for phase in (0, 1)]
    scatter = np.mean([(one**2).mean() for one in within])
    assert 0.1 < scatter < 1 / (1 + RIDGE)  # with the ridge, which is part of its mean over directions, it is the unit


def test_what_changes_between_neighbours_does_not_tell_phases_apart():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 2000).astype(np.int32)
    scores = (rng.standard_normal((2000, 6)) + 4 * labels[:, np.newaxis] * [1, 1, 0, 0, 0, 0]).astype(np.float32)
    both = discriminate(scores, labels, 2, STEADY, ONE_THREAD).points[:, 0]
    change = np.diag([1.0, 0, 0, 0, 0, 0])
    steady = discriminate(scores, labels, 2, change, ONE_THREAD).points[:, 0]
    assert abs(np.corrcoef(both, scores[:, 0])[0, 1]) > 0.8
    # The first direction is worth 4^2 / (1 + 6 + r) where the second is worth 4^2 / (1 + r), for a mean variance of 2.
    r = 2 * RIDGE
    weight = np.linalg.lstsq(scores - scores.mean(axis=0), steady - steady.mean(), rcond=None)[0]
    assert weight[0] / weight[1] == pytest.approx((1 + r) / (7 + r), rel=0.05)
    for scale in (1e-6, 1e6):  # only the directions of a change count
        found = discriminate(scores, labels, 2, scale * change, ONE_THREAD).points[:, 0]
        np.testing.assert_allclose(found, steady, rtol=1e-4, atol=1e-4)


def test_windows_of_no_phase_are_not_learnt_from():
    scores, labels = two_clouds()
    expected = discriminate(scores, labels, 2, STEADY, ONE_THREAD).means
    more = np.concatenate([scores, np.full((50, 6), 1e3, np.float32)])
    found = discriminate(more, np.append(labels, np.full(50, -1, np.int32)), 2, STEADY, ONE_THREAD).means
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(n_threads):
    scores, labels = two_clouds(n=100_000)
    found, expected = (discriminate(scores, labels, 2, STEADY, Execution(n)) for n in (n_threads, 1))
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(found.means, expected.means)


def test_a_phase_of_one_window_cannot_be_learnt():
    scores, labels = two_clouds()
    labels[:] = 0
    labels[0] = 1
    assert discriminate(scores, labels, 2, STEADY, ONE_THREAD) is None


def test_equal_windows_are_no_division_by_zero():
    scores, labels = np.ones((10, 3), np.float32), np.repeat([0, 1], 5).astype(np.int32)
    found = discriminate(scores, labels, 2, STEADY[:3, :3], ONE_THREAD)
    assert np.isfinite(found.points).all()
    assert np.isfinite(found.means).all()


def ramp(means, width, mixed):
    """Points of two stripes of the outer phases with `mixed` windows in between that are mixtures of them."""
    share = np.clip((np.arange(2 * width + mixed) - width + 0.5) / mixed, 0, 1)
    row = means[0] + share[:, np.newaxis] * (means[2] - means[0])
    return np.tile(row, (20, 1))


def test_rims_that_are_mixtures_are_dissolved():
    means = np.array([[-10.0, 0], [0, 1.0], [10.0, 0]], np.float32)
    points = ramp(means, 15, 5).astype(np.float32)
    labels = squares_to(points, means).argmin(axis=1).astype(np.int32).reshape(20, -1)
    assert (labels == 1).any()
    squares = without_rims(points, means, np.ones(labels.shape, bool), (64, 64), (8, 8))
    found = memberships_of(points, squares).argmax(axis=1).reshape(20, -1)
    assert not (found == 1).any()
    assert (found[:, :17] == 0).all()
    assert (found[:, 18:] == 2).all()


def test_thin_layers_of_their_own_stay():
    means = np.array([[-10.0, 0], [0, 30.0], [10.0, 0]], np.float32)
    labels = stripes(15, 3, 15)
    points = means[labels.ravel()]
    squares = without_rims(points, means, np.ones(labels.shape, bool), (64, 64), (8, 8))
    np.testing.assert_array_equal(squares, squares_to(points, means))


def test_excluded_windows_are_no_phase():
    means = np.array([[-10.0, 0], [0, 1.0], [10.0, 0]], np.float32)
    labels = squares_to(ramp(means, 15, 5), means).argmin(axis=1).astype(np.int32).reshape(20, -1)
    labels[:3] = -1
    points = ramp(means, 15, 5).astype(np.float32)[(labels >= 0).ravel()]
    squares = without_rims(points, means, labels >= 0, (64, 64), (8, 8))
    assert squares.shape == (len(points), 3)
    assert (labels[labels >= 0] == 1).any()
    assert (squares.argmin(axis=1) != 1).all()


def test_windows_of_rims_are_not_sure():
    means = np.array([[-10.0, 0], [0, 1.0], [10.0, 0]], np.float32)
    points = ramp(means, 15, 5)
    rim = squares_to(points, means).argmin(axis=1) == 1
    squares = without_rims(points, means, np.ones((20, len(points) // 20), bool), (64, 64), (8, 8))
    first_two = np.sort(memberships_of(points, squares), axis=1)[:, -2:]
    assert rim.any()
    assert (first_two[rim, 1] - first_two[rim, 0] < 0.2).all()


def test_memberships():
    rng = np.random.default_rng(0)
    means = np.array([[-20.0], [20.0]], np.float32)
    points = (means[rng.integers(0, 2, 1000)] + rng.standard_normal((1000, 1))).astype(np.float32)
    found = memberships_of(points, squares_to(points, means))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert np.median(found.max(axis=1)) == pytest.approx(0.95, abs=0.01)
    assert (found.argmax(axis=1) == (points[:, 0] > 0)).all()


def test_a_gradual_change_is_never_sure():
    points = np.linspace(-20, 20, 1000, dtype=np.float32)[:, np.newaxis]
    means = np.array([[-10.0], [10.0]], np.float32)
    found = memberships_of(points, squares_to(points, means))
    separation = 20 / (20 / np.sqrt(12))
    expected = 1 / (1 + np.exp(-(separation**2) / (2 * MIN_VARIANCE)))
    assert np.median(found.max(axis=1)) == pytest.approx(expected, abs=0.02)
    assert expected < 0.65
