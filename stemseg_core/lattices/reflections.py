"""Which frequencies of a region are reflections of a lattice: those whose phase angles go on from window to window."""

from __future__ import annotations

from math import log, pi
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft2
from scipy.ndimage import maximum_filter
from scipy.special import gammaincinv

from stemseg_core.lattices.pairs import Pairs

#: Chance that a region without a lattice shows a reflection anywhere. Twice as much: fainter reflections count, and
#: amorphous regions have a lattice twice as often.
FALSE_ALARM = 1e-4
#: Mean cosine of the phase steps about their mean from which a reflection counts as one of the whole region. Twice as
#: much: weak superlattice reflections at low dose do not count; half: those of a neighbour that leak in do.
LEAST_ORDER = 0.25
#: Chance of the phase steps alone that a reflection may have: its power is no proof, since rings are not quite even.
#: Twice as much: streaks pass for reflections sooner.
LIKELIEST_STEPS = 1e-3
#: Bins on both sides of the ring around a frequency that its power is compared with. Twice as many: what falls with
#: frequency looks like a peak; half: rings of a few bins, which reflections fill.
RING = 3
#: Nearest bin, to both sides along y and along x, that power is compared with. Twice as far: streaks that fade are not
#: known as such; half: the lobe of a reflection hides it.
NEAREST = 3
#: Bins from there on. Twice as many: the same; half: rows of reflections hide each other.
NEIGHBOURS = 6
#: Power along a line, over that of the ring, from which it is a streak. Twice as much: displaced scan lines pass for
#: reflections; half: those of large cells are taken for streaks.
STREAK = 3.0
#: Fewest cycles in a window. Twice as many: cells must be twice as small to be seen; half: contrast that changes slowly
#: passes for a reflection.
FEWEST_CYCLES = 2.0
#: Bins around a reflection in which weaker ones are not looked for: the main lobe of the taper. Twice as many:
#: reflections of large cells are missed beside strong ones.
LOBE = 2.5
#: Bins around a reflection in which much weaker ones are taken for its side lobes. Twice as many: faint superlattice
#: reflections are missed; half: side lobes of windows that the boundary of the region cuts pass for reflections.
SIDE_LOBES = 6.0
#: Share of its power below which they are; side lobes of Hann are at -31 dB. Twice as much: the same.
SIDE_LOBE_POWER = 3e-3
#: Reflections that are used, at most, the strongest first. Twice as many: longer lists that say nothing new.
MOST_REFLECTIONS = 32


class Peaks(NamedTuple):
    """Reflections, the strongest first.

    Attributes
    ----------
    frequencies : ndarray of shape (q, 2), float64
        (ky, kx) in cycles per pixel; kx >= 0.
    power : ndarray of shape (q,), float64
        Relative to the strongest.
    """

    frequencies: NDArray[np.float64]
    power: NDArray[np.float64]


def find_peaks(pairs: Pairs) -> Peaks:
    r"""Reflections of a region; their frequencies are told by the phase steps.

    Two tests say whether anything is a reflection. In windows that have nothing in common, the phase step of what is
    not periodic is any angle: of n unit phasors the sum S has \|S\|^2 / n of mean 1, exponentially distributed
    (Rayleigh's test). It must hold along y and along x: lines that the scan displaces are streaks, which go on along
    the lines alone. Every pair of windows has one vote, so that a bright place does not outvote the region. And the
    power is compared with that around it: the mean of n powers has a gamma distribution. The chances of both tests are
    combined by Fisher's method.
    """
    power, sums = _phase_steps(pairs)
    height, width = pairs.sides
    ky, kx = np.fft.fftfreq(height) * height, np.arange(width // 2 + 1)
    radius = np.hypot(ky[:, np.newaxis], kx)
    n = np.maximum(pairs.n, 1)[:, np.newaxis, np.newaxis]
    whole = _whole_plane(power, width)
    by_steps = -(np.abs(sums) ** 2 / n).min(axis=0) / pairs.overlap
    by_power, streak = _chance_of_power(whole, radius, pairs)
    # In a streak windows on the same lines see the same, and their steps are no evidence.
    evidence = np.where(streak, 0, -by_steps) - by_power
    order = np.abs(sums) / n
    seen = np.log1p(evidence) - evidence < log(FALSE_ALARM / radius.size)
    seen &= (by_steps < log(LIKELIEST_STEPS)) & (order.min(axis=0) > LEAST_ORDER) & (radius >= FEWEST_CYCLES)
    seen[np.abs(ky) > height / 2 - 2] = False
    seen[:, kx > width / 2 - 2] = False
    seen[ky < 0, 0] = False
    seen &= power == maximum_filter(whole, 3, mode="wrap")[:, : width // 2 + 1]
    y, x = np.nonzero(seen)
    strongest = np.argsort(-power[y, x], kind="stable")[: 4 * MOST_REFLECTIONS]
    y, x = y[strongest], x[strongest]
    near = np.column_stack([ky[y], kx[x]]) + np.column_stack([_offset(whole, y, x, axis) for axis in (0, 1)])
    chosen = _main_lobes(near, power[y, x])[:MOST_REFLECTIONS]
    y, x = y[chosen], x[chosen]
    frequencies = _from_steps(np.angle(sums[:, y, x]).T, near[chosen] / pairs.sides, np.array(pairs.lag))
    heights = power[y, x]
    return Peaks(frequencies, heights / heights.max(initial=np.finfo(float).tiny))


def _main_lobes(places: NDArray[np.float64], power: NDArray[np.float64]) -> list[int]:
    """Which of the places (q, 2), in bins, the strongest first, are no part of a stronger one."""
    chosen: list[int] = []
    for i, place in enumerate(places):
        stronger = places[chosen]
        apart = np.minimum(np.hypot(*(stronger - place).T), np.hypot(*(stronger + place).T))
        faint = power[i] < SIDE_LOBE_POWER * power[chosen]
        if not (apart < np.where(faint, SIDE_LOBES, LOBE)).any():
            chosen.append(i)
    return chosen


def _chance_of_power(
    whole: NDArray[np.float64], radius: NDArray[np.float64], pairs: Pairs
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Logarithm of the chance that mean powers reach these, in the half plane, and which lie in a streak.

    They are compared with the lower quartile of the ring around each, as amorphous material and noise are round and
    reflections may fill half of a small ring, or with that of neighbours along y or x, if that is more. If it is far
    more they lie in a streak, of lines that the scan displaces or brightens: then only windows on different lines are
    independent.
    """
    width = radius.shape[1]
    power = whole[:, :width]
    independent = len(pairs.starts) / pairs.overlap
    ring = radius.round().astype(int)
    order = np.argsort(ring, axis=None, kind="stable")
    sorted_powers = power.ravel()[order]
    ends = np.append(0, np.cumsum(np.bincount(ring.ravel())))
    last = len(ends) - 1
    quartile = np.array(
        [np.quantile(sorted_powers[ends[max(r - RING, 1)] : ends[min(r + RING + 1, last)]], 0.25) for r in range(last)]
    )
    around = quartile[ring]
    chance = _log_chance(power, around, independent)
    streak = np.zeros(power.shape, bool)
    apart = [sign * bins for bins in range(NEAREST, NEAREST + NEIGHBOURS) for sign in (1, -1)]
    for axis in (0, 1):
        neighbours = np.stack([np.roll(whole, bins, axis)[:, :width] for bins in apart])
        along = np.partition(neighbours, len(apart) // 4, axis=0)[len(apart) // 4]
        streaked = along > STREAK * around
        lines = len(np.unique(pairs.starts[:, axis])) / np.sqrt(pairs.overlap)
        of_lines = np.where(streaked, _log_chance(power, along, lines), _log_chance(power, along, independent))
        chance = np.maximum(chance, of_lines)
        streak |= streaked
    return chance, streak


def _log_chance(power: NDArray[np.float64], quartile: NDArray[np.float64], independent: float) -> NDArray[np.float64]:
    """Logarithm of the chance of such means of independent powers, given their lower quartile: Chernoff's bound."""
    ratio = power * (gammaincinv(independent, 0.25) / independent) / np.maximum(quartile, np.finfo(float).tiny)
    chance: NDArray[np.float64] = np.where(ratio > 1, -independent * (ratio - 1 - np.log(np.maximum(ratio, 1))), 0)
    return chance


def _from_steps(angles: NDArray[np.float64], near: NDArray[np.float64], lag: NDArray[np.intp]) -> NDArray[np.float64]:
    """Frequencies (q, 2) that give these phase steps over the lag and are nearest to those given."""
    turns = angles / (2 * pi)
    frequencies: NDArray[np.float64] = (turns + np.round(near * lag - turns)) / lag
    return frequencies


def _phase_steps(pairs: Pairs) -> tuple[NDArray[np.float64], NDArray[np.complex128]]:
    """Mean power (ky, kx) of windows, each of sum 1, and sums (2, ky, kx) of the unit phasors of steps along y and x.

    Half planes, ky in the order of the transform.
    """
    height, width = pairs.sides
    power = np.zeros((height, width // 2 + 1))
    sums = np.zeros((2, height, width // 2 + 1), np.complex128)
    for some, windows in pairs.chunks():
        first, *mates = np.moveaxis(rfft2(windows), 1, 0)
        squares = np.abs(first) ** 2
        squares /= np.maximum(squares.sum(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
        power += squares.sum(axis=0, dtype=np.float64)
        for axis, mate in enumerate(mates):
            products = (mate * first.conj())[pairs.mates[axis, some]]
            products /= np.maximum(np.abs(products), np.finfo(np.float32).tiny)
            sums[axis] += products.sum(axis=0, dtype=np.complex128)
    return power / max(1, len(pairs.starts)), sums


def _whole_plane(half: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """The plane of a transform's modulus of which the half with kx >= 0 is given."""
    mirrored = np.roll(half[::-1], 1, axis=0)[:, 1 : (width + 1) // 2][:, ::-1]
    return np.concatenate([half, mirrored], axis=1)


def _offset(plane: NDArray[np.float64], y: NDArray[np.intp], x: NDArray[np.intp], axis: int) -> NDArray[np.float64]:
    """Where along an axis, in bins, the top of the parabola lies that goes through the logarithms of three bins."""
    low, top, high = (np.log(np.maximum(np.roll(plane, k, axis)[y, x], np.finfo(float).tiny)) for k in (1, 0, -1))
    curvature = np.minimum(low + high - 2 * top, -1e-12)
    offset: NDArray[np.float64] = np.clip((low - high) / (2 * curvature), -0.5, 0.5)
    return offset
