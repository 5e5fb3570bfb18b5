"""What the detector adds of its own: hot channels, and spikes where something hit it.

Tests: tests/test_unmix.py, tests/test_faults.py.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from stemseg_core.cubes.survey import Survey
from stemseg_core.rows.sources import Rows
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Partial

#: A channel may be hot where its mean is this many times that of its neighbours. Twice as large: fewer are found; lines
#: and reflections that are at least two channels wide stay below 10.
HOT = 20.0
#: Correlation of a channel's value at a pixel with that at the next from which it is of the specimen, and not hot.
#: Twice as large: narrow lines that hardly change over the map are taken for hot channels.
OF_THE_SPECIMEN = 0.05
#: Standard deviations of chance that the correlation must exceed as well.
OF_CHANCE = 5.0
#: Most hot channels that there can be; more are no fault, but what patterns on few channels look like.
MOST_HOT = 64
#: A value is a spike where it is this many times the largest of its neighbours in the spectrum and in the mean
#: spectrum. Twice as large: only the strongest are found.
SPIKE = 10.0
#: Standard deviations of its channel that a spike must be above the channel's mean. Half as many: in a million values
#: of counts, a few would be spikes by chance.
SPIKE_DEVIATIONS = 20.0
#: Channels at each side that a spike is compared with. Twice as many: spikes near a line are missed.
SPIKE_REACH = 2


def hot_channels(rows: Rows, survey: Survey, channels: NDArray[np.bool_], execution: Execution) -> NDArray[np.bool_]:
    """Channels (signal) that are far above all their neighbours and show nothing of the specimen.

    Parameters
    ----------
    rows : Rows
        Finite pixels, in the order of the map, by the channels that are used.
    survey : Survey
        Of these rows.
    channels : ndarray of bool of shape (signal)
        Which are used.

    Notes
    -----
    Lines and reflections of one channel are as far above their neighbours. But they change over the map as the specimen
    does, smoothly: the value at a pixel tells of that at the next.
    """
    mean = _on(channels, _without_largest(survey)[0])
    floor = float(np.median(mean[mean > 0])) if (mean > 0).any() else 0.0
    suspect = (mean > HOT * maximum_filter(mean, footprint=_beside(mean.ndim, 1))) & (mean > HOT * floor) & channels
    numbers = np.flatnonzero(suspect[channels])
    hot = np.zeros(channels.shape, bool)
    if not 0 < len(numbers) <= MOST_HOT:
        return hot
    maps = np.empty((rows.shape[0], len(numbers)))
    execution.run(_columns_block, rows, numbers, out=(maps,), stage="hot channels")
    maps -= maps.mean(axis=0)
    squares = np.einsum("ij,ij->j", maps, maps)
    products = np.einsum("ij,ij->j", maps[1:], maps[:-1])
    limit = max(OF_THE_SPECIMEN, OF_CHANCE / math.sqrt(len(maps)))
    hot[suspect] = products <= limit * squares
    return hot


def spiky_rows(rows: Rows, survey: Survey, channels: NDArray[np.bool_], execution: Execution) -> NDArray[np.bool_]:
    """Rows (n,) in which one channel alone is far above its neighbours, as where a cosmic ray hit.

    Parameters as those of `hot_channels`.
    """
    hit = np.zeros(rows.shape[0], bool)
    mean, deviation = _without_largest(survey)
    around = maximum_filter(_on(channels, mean), footprint=_beside(channels.ndim, SPIKE_REACH))[channels]
    narrow = mean > SPIKE / 2 * around  # a line that is as narrow as a spike
    limit = np.where(narrow, np.inf, mean + SPIKE_DEVIATIONS * deviation)
    one_event = 1.0 if survey.whole else 0.0  # of counts, several together among none are a spike, not one
    limit = np.maximum(limit, SPIKE * one_event).astype(rows.dtype)
    if not (survey.largest <= limit).all():
        execution.run(_spikes_block, rows, limit, _neighbours(channels), one_event, out=(hit,), stage="spikes")
    return hit


def _without_largest(survey: Survey) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of each column but for its largest value, which may be a spike."""
    n = max(2, int(np.count_nonzero(survey.finite)))
    mean = (n * survey.mean - survey.largest) / (n - 1)
    squares = (n * (survey.deviation**2 + survey.mean**2) - survey.largest**2) / (n - 1)
    return mean, np.sqrt(np.maximum(squares - mean**2, 0))


def _on(channels: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values of the used channels in their places, 0 in the others."""
    out = np.zeros(channels.shape)
    out[channels] = values
    return out


def _beside(ndim: int, reach: int) -> NDArray[np.bool_]:
    """Footprint of all neighbours up to that distance along each axis."""
    beside = np.ones((2 * reach + 1,) * ndim, bool)
    beside[(reach,) * ndim] = False
    return beside


def _neighbours(channels: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Number of the used channel at each place of the frame, widened by the reach, -1 for none; the place of each used
    channel in it; and how far from there its neighbours are.
    """
    framed = np.pad(channels, SPIKE_REACH)
    numbers = np.where(framed, np.cumsum(framed).reshape(framed.shape) - 1, -1)
    steps = np.argwhere(_beside(channels.ndim, SPIKE_REACH)) - SPIKE_REACH
    strides = np.array([math.prod(framed.shape[axis + 1 :]) for axis in range(framed.ndim)])
    return numbers.ravel(), np.flatnonzero(framed), steps @ strides


def _spikes_block(
    block: Array, limit: Array, neighbours: tuple[NDArray[np.intp], ...], least: float
) -> tuple[Partial, None]:
    hit = np.zeros(len(block), bool)
    i, j = np.nonzero(block > limit)
    if len(i):
        numbers, places, steps = neighbours
        columns = numbers[places[j][:, np.newaxis] + steps]
        around = np.where(columns >= 0, np.abs(block[i[:, np.newaxis], columns]), 0).max(axis=1)
        hit[i[block[i, j] > SPIKE * np.maximum(around, least)]] = True
    return (hit,), None


def _columns_block(block: Array, numbers: NDArray[np.intp]) -> tuple[Partial, None]:
    return (block[:, numbers],), None
