"""The lattice of a region of an image: found by its reflections, measured by the phase steps of all of them."""

from __future__ import annotations

from math import gcd, nan, pi
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemseg_core.lattices.basis import lattice_of, reduced
from stemseg_core.lattices.lattice import Lattice, Spacing
from stemseg_core.lattices.pairs import CHUNK, HELD_BYTES, LAID_BYTES, Pairs
from stemseg_core.lattices.reflections import LEAST_ORDER, find_peaks
from stemseg_core.system.types import Array

#: Sides of windows that are tried, in sides of those of the map, the first that finds a lattice counts. Larger ones
#: tell finer differences of frequency and hold larger cells, smaller ones fit into smaller regions.
SIDES = (3.0, 2.0, 1.5, 1.0, 0.75)
#: Largest side in pixels. Twice as much: four times the time, and crystals that bend have no lattice.
LARGEST_SIDE = 256
#: Smallest side in pixels. Twice as large: fine lattices of small grains are not seen; half: windows of no period.
SMALLEST_SIDE = 16
#: Cycles of the lowest frequency of the lattice in the windows in which it is measured, smaller ones if they can be.
#: Twice as many: fewer independent parts to tell the uncertainty by; half: reflections are not told apart.
MEASURED_CYCLES = 3.0
#: Power, relative to the strongest, that a second direction must have where only two reflections are seen. Twice as
#: much: lattices blurred in one direction are not seen; half: artefacts pass for a second direction.
LEAST_SHARE = 0.02
#: Parts of a region that are left out in turn, at least. Twice as many: those of small regions have much in common, and
#: uncertainties are too small.
LEAST_PARTS = 4
#: And at most. Twice as many: uncertainties are themselves more certain, at twice the work.
MOST_PARTS = 16
#: Share of the power of a reflection that scatters in any case: scan noise and strain are common to all. Twice as much:
#: reflections count more alike.
COMMON_SCATTER = 0.02
#: Independent pairs of windows, times the square of the order, of a known lattice that is measured in another region.
#: Where there is no lattice it is 0.8 on average, of few pairs as well. Twice as many: small grains have no lattice.
LEAST_EVIDENCE = 2.0
#: Pixels of a region in areas of a window below which no window is looked for in it: even in its middle, six tenths of
#: a taper cover more. Twice as many: the same lattices, until round grains of the size of a window have none.
LEAST_AREA = 1 / 8
#: Vectors count as equally long, for the choice of the angle, if they differ by less than this many times their
#: uncertainty. Twice as many: slightly oblong cells are turned by up to 45 degrees only.
ALIKE = 4.0
#: Or by less than this share. Twice as much: the same.
ALIKE_SHARE = 0.005
#: Spacings that are listed, at most. Twice as many: longer summaries.
MOST_SPACINGS = 12

Steps = NDArray[np.complex128]


class Cell(NamedTuple):
    """A lattice as a fit, in pixels.

    Attributes
    ----------
    sides : (int, int)
        Of the windows that it is measured in, (y, x) in pixels.
    indices : ndarray of shape (q, 2), int
        Of its reflections, the strongest first.
    power : ndarray of shape (q,), float64
    reciprocal : ndarray of shape (p + 1, 2, 2), float64
        Rows a* and b*, (ky, kx) in cycles per pixel: of all parts of the region, then without each.
    frequencies : ndarray of shape (p + 1, q, 2), float64
        Of the reflections, each by itself.
    weights : ndarray of shape (2, q), float64
        Of the steps of the reflections along y and x, in the fit.
    order : float
        Mean over the reflections of how well their phase angles go on from window to window, 0 to 1.
    """

    sides: tuple[int, int]
    indices: NDArray[np.intp]
    power: NDArray[np.float64]
    reciprocal: NDArray[np.float64]
    frequencies: NDArray[np.float64]
    weights: NDArray[np.float64]
    order: float


def lattice_in(
    image: Array,
    region: NDArray[np.bool_],
    window: tuple[int, int],
    pixel_size: tuple[float, float] | None = None,
    units: str = "nm",
) -> Lattice | None:
    """The lattice of a region (y, x) of an image; None if nothing is periodic in two directions, or it is too small.

    Parameters
    ----------
    image : ndarray of shape (y, x)
        Finite where `region` is True.
    region : ndarray of shape (y, x), bool
    window : (int, int)
        Windows of the map, (y, x) in pixels, which others are multiples of.
    pixel_size : (float, float), optional
        (y, x) in `units`.
    units : str, default="nm"

    Notes
    -----
    In windows deep in the region, frequencies are reflections whose phase angles go on from one window to the next
    (`find_peaks`); the lattice that explains most of them is taken (`lattice_of`). The phase steps of all its
    reflections, in all windows together, then give its two reciprocal vectors by least squares. Uncertainties are of a
    jackknife over parts of the region.

    Cost: some 0.1 s for windows of 128 px, whatever the size of the region beyond some ten windows; where nothing is
    found, that for each of five sizes of windows. Memory: `lattice_bytes` of the smallest rectangle around the region.
    """
    cell = find_cell(image, region, window)
    return None if cell is None else described(cell, pixel_size, units)


def lattice_bytes(n_pixels: int, window: tuple[int, int]) -> float:
    """Memory of `lattice_in` in a rectangle of so many pixels: to lay pairs, or to transform some of them."""
    largest = min(LARGEST_SIDE, round(max(SIDES) * max(window))) ** 2
    return max(n_pixels * LAID_BYTES, n_pixels * HELD_BYTES + 4 * CHUNK * 3 * 4 * min(n_pixels, largest))


def find_cell(image: Array, region: NDArray[np.bool_], window: tuple[int, int]) -> Cell | None:
    """The fit behind `lattice_in`: by the largest windows in which three or more reflections agree, else two."""
    two: Cell | None = None
    for times in SIDES:
        height, width = (2 * round(side * times / 2) for side in window)
        if max(height, width) > LARGEST_SIDE and times > SIDES[-1]:
            continue
        if min(height, width) < SMALLEST_SIDE:
            break
        pairs = Pairs.within(image, region, (height, width))
        if pairs is None or not pairs.n.all():
            continue
        peaks = find_peaks(pairs)
        found = lattice_of(peaks.frequencies * pairs.sides, peaks.power)
        if found is None:
            continue
        basis, indices, explained = found
        indices, power = indices[explained], peaks.power[explained]
        agree = _agree(indices)
        if not agree and (two is not None or np.linalg.matrix_rank(indices[power >= LEAST_SHARE]) < 2):
            continue
        smaller = min(1.0, MEASURED_CYCLES / float(np.hypot(*basis[0])))
        height, width = (2 * round(side * smaller / 2) for side in pairs.sides)
        within = Pairs.within(image, region, (height, width))
        if within is None or not within.n.all():
            continue
        cell = _fitted(within, indices, basis / pairs.sides, power)
        if agree:
            return cell
        two = cell
    return two


def _agree(indices: NDArray[np.intp]) -> bool:
    """Whether the lattice would be the same without any one of its reflections: none is a stray one."""
    return all(np.linalg.matrix_rank(np.delete(indices, i, axis=0)) == 2 for i in range(len(indices)))


def least_area(window: tuple[int, int]) -> float:
    """Pixels below which no region has a lattice of its own: no window that is tried lies in it."""
    sides = [max(SMALLEST_SIDE, min(SIDES) * side) for side in window]
    return LEAST_AREA * sides[0] * sides[1]


def cell_again(image: Array, region: NDArray[np.bool_], cell: Cell) -> Cell | None:
    """A lattice that is known, measured in another region; None if that is too small, or has not this lattice."""
    pairs = Pairs.within(image, region, cell.sides)
    if pairs is None or not pairs.n.all():
        return None
    again = _fitted(pairs, cell.indices, cell.reciprocal[0], cell.power)
    evidence = again.order**2 * pairs.n.min() / pairs.overlap
    return again if again.order >= LEAST_ORDER and evidence >= LEAST_EVIDENCE else None


def _fitted(pairs: Pairs, indices: NDArray[np.intp], basis: NDArray[np.float64], power: NDArray[np.float64]) -> Cell:
    """The lattice that gives the phase steps of these windows, near to the one with this reciprocal basis."""
    near = indices @ basis
    steps, order = _steps(pairs, near)
    lag = np.array(pairs.lag)
    # Along y a wave turns by its ky, along x by its kx.
    angles = np.angle(np.swapaxes(steps, 1, 2) * np.exp(-2j * pi * near * lag))
    frequencies = near + angles / (2 * pi * lag)
    weights = np.sqrt(order / (1 - order + COMMON_SCATTER))
    reciprocal = np.empty((len(frequencies), 2, 2))
    for axis in (0, 1):
        left, right = indices * weights[axis, :, np.newaxis], frequencies[:, :, axis] * weights[axis]
        reciprocal[:, :, axis] = np.linalg.lstsq(left, right.T, rcond=None)[0].T
    return Cell(pairs.sides, indices, power, reciprocal, frequencies, weights, float(np.sqrt(order).mean()))


def _steps(pairs: Pairs, frequencies: NDArray[np.float64]) -> tuple[Steps, NDArray[np.float64]]:
    """Sums (p + 1, 2, q) of the products of pairs of windows, along y and x: all, and without each part; their order.

    The order (2, q), 0 to 1, is the square of the sum over that of the moduli: 1 for a perfect lattice without noise.
    """
    first, *mates = np.moveaxis(pairs.coefficients(frequencies), 1, 0)
    parts = _parts(pairs)
    n_parts = parts.max() + 1
    steps = np.zeros((n_parts + 1, 2, len(frequencies)), np.complex128)
    squares = np.zeros((2, 2, len(frequencies)))
    for axis, mate in enumerate(mates):
        there = pairs.mates[axis]
        products = mate[there] * first[there].conj()
        own = np.zeros((n_parts, len(frequencies)), np.complex128)
        np.add.at(own, parts[there], products)
        steps[0, axis] = own.sum(axis=0)
        steps[1:, axis] = steps[0, axis] - own
        squares[axis] = (np.abs(mate[there]) ** 2).sum(axis=0), (np.abs(first[there]) ** 2).sum(axis=0)
    order = np.abs(steps[0]) ** 2 / np.maximum(squares.prod(axis=1), np.finfo(float).tiny)
    return steps, np.minimum(order, 1)


def _parts(pairs: Pairs) -> NDArray[np.intp]:
    """Part of the region that each cell belongs to: halves of halves, cut across the longer side."""
    n = len(pairs.starts)
    independent = n / pairs.overlap
    times = int(np.log2(np.clip(independent / 2, LEAST_PARTS, MOST_PARTS)))
    parts = np.zeros(n, np.intp)
    for _ in range(times):
        halved = 2 * parts
        for part in range(parts.max() + 1):
            own = np.flatnonzero(parts == part)
            places = pairs.starts[own] / pairs.sides
            axis = int(np.argmax(np.ptp(places, axis=0))) if len(own) else 0
            later = own[np.argsort(places[:, axis], kind="stable")[len(own) // 2 :]]
            halved[later] += 1
        parts = halved
    return np.unique(parts, return_inverse=True)[1]


def described(cell: Cell, pixel_size: tuple[float, float] | None, units: str) -> Lattice:
    """The reduced cell in units of length, with its uncertainties."""
    size = np.array(pixel_size or (1.0, 1.0))
    reciprocal = cell.reciprocal / size
    # Direct vectors, rows a and b, (y, x): the inverse of the reciprocal ones, transposed.
    direct = np.swapaxes(np.linalg.inv(reciprocal), 1, 2)
    basis = reduced(direct[0])
    change = np.round(basis @ np.linalg.inv(direct[0]))  # whole numbers; the same for all parts
    a, b, gamma, _ = values = _cell_parameters(change @ direct)
    sigma = [_jackknife(value) for value in values[:3]]
    limit = a[0] + np.fmax(ALIKE * (sigma[0] + sigma[1]), ALIKE_SHARE * a[0])
    vectors = np.array([(1, 0), (0, 1), (1, 1), (1, -1)]) @ change @ direct
    angles = np.rad2deg(np.arctan2(vectors[0, :, 0], vectors[0, :, 1]))
    angles = 90 - (90 - angles) % 180  # above -90, up to 90
    short = np.flatnonzero(np.hypot(*vectors[0].T) <= limit)
    which = short[np.argmin(np.abs(angles[short]))]
    turn = np.rad2deg(np.arctan2(vectors[:, which, 0], vectors[:, which, 1]))
    turn = (turn - turn[0] + 90) % 180 - 90
    return Lattice(
        a=float(a[0]),
        b=float(b[0]),
        gamma=float(gamma[0]),
        angle=float(angles[which]),
        a_uncertainty=sigma[0],
        b_uncertainty=sigma[1],
        gamma_uncertainty=sigma[2],
        angle_uncertainty=_jackknife(turn),
        units=units if pixel_size is not None else "px",
        spacings=_spacings(cell, size, change.T.astype(int)),
    )


def _cell_parameters(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Lengths a and b, the angle between them, and the direction of a, in degrees, of vectors (p, 2, 2)."""
    a, b = vectors[:, 0], vectors[:, 1]
    lengths = [np.hypot(*v.T) for v in (a, b)]
    gamma = np.arctan2(np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]), np.sum(a * b, axis=1))
    return *lengths, np.rad2deg(gamma), np.rad2deg(np.arctan2(a[:, 0], a[:, 1]))


def _jackknife(values: NDArray[np.float64]) -> float:
    """Standard uncertainty of the first value by those that leave out a part each.

    Few parts do not tell their own scatter well. Then errors have Student's distribution, whose standard deviation is
    larger by the root of (n - 1) / (n - 3) (JCGM 101:2008, 6.4.9). One part tells nothing: NaN.
    """
    parts = values[1:]
    n = len(parts)
    if n < 2:
        return nan
    return float(np.sqrt((n - 1) * np.mean((parts - parts.mean()) ** 2) * (n - 1) / max(n - 3, 0.5)))


def _spacings(cell: Cell, size: NDArray[np.float64], to_reduced: NDArray[np.intp]) -> tuple[Spacing, ...]:
    """What is known of each reflection, the strongest first."""
    frequencies = cell.frequencies / size
    d = 1 / np.hypot(frequencies[..., 0], frequencies[..., 1])
    found = []
    for i in range(min(len(cell.power), MOST_SPACINGS)):
        h, k = (cell.indices[i] @ to_reduced).tolist()
        ky, kx = frequencies[0, i].tolist()
        found.append(Spacing(float(d[0, i]), _jackknife(d[:, i]), ky, kx, (h, k), gcd(h, k), float(cell.power[i])))
    return tuple(found)
