"""Sizes of windows: those that are asked for, and those that are refused."""

import re
from functools import partial

import numpy as np
import pytest

from stemseg_core import datasets, segment
from stemseg_core.phases.window_sizes import window_sizes


@pytest.fixture(scope="module")
def two_phase():
    return datasets.two_phase((320, 336))


def test_sizes_that_are_asked_for():
    found = partial(window_sizes, suited=(56, 56))
    assert found(None, None) == [(56, 56)]
    assert found(48, None) == [(48, 48)]
    assert found(None, [32, 96, 64]) == [(64, 64), (96, 96), (32, 32)]
    assert found(32, [32, (96, 80), 64, 64]) == [(32, 32), (96, 80), (64, 64)]
    assert found(None, np.array([40])) == [(40, 40)]


@pytest.mark.parametrize(
    ("window", "windows", "message"),
    [
        (48, [32, 64], "window=48, the one of the maps, must be one of windows=[32, 64]"),
        (None, [], "windows must be a sequence of window sizes, got []"),
        (None, "64", "windows must be a sequence of window sizes, got '64'"),
        (None, 64, "windows must be a sequence of window sizes, got 64"),
        (None, [64, 0], "windows must be a whole number of pixels >= 1"),
    ],
)
def test_sizes_that_are_refused(two_phase, window, windows, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        segment(two_phase[0], 2, window=window, windows=windows)
