"""The longest period of the lattices of an image, and the window that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import grey_opening, maximum_filter, median_filter

from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array
from stemseg_core.windows.images import Frames, check_image
from stemseg_core.windows.windows import WindowFFT

#: Largest side, in pixels, of the windows whose spectra are averaged. Twice as large: longer periods are found, and
#: small grains are less seen.
SIDE = 256
#: Fewest cycles in such a window that count as a period. Twice as many: periods above an eighth of it are not found.
FEWEST_CYCLES = 4
#: Pixels up to which an image is looked at everywhere. Twice as many: images of that size take twice as long.
MOST_PIXELS = 2**22
#: Windows that are looked at in larger images. Twice as many: they take twice as long, and rare grains are seen.
MOST_WINDOWS = 256
#: The same of the windows in which cells too large for `SIDE` are looked for.
MOST_LARGE_WINDOWS = 16
#: Windows whose largest power is below this share of the largest of all have no contrast: they show rounding. Twice as
#: much: no difference, unless the contrast of windows differs by orders of magnitude.
CONTRAST = 1e-8
#: Smallest and largest difference of pixels whose powers neither vanish nor overflow in float32; others are scaled.
LEAST_DIFFERENCE = 1e-10
LARGEST_DIFFERENCE = 1e10
#: A peak counts if it is this many times the spread of its ring above the median. Twice as much: faint lattices have no
#: period; half: some noise has one.
SIGNIFICANT = 12.0
#: A ring of spots counts if it exceeds the smooth profile below it by this many times that profile. Twice as much: the
#: rings of many small grains are not seen; half: bumps of amorphous material are taken for rings.
RING = 4.0
#: Width, in rings, from which peaks of the profile count as smooth. Twice as much: broad bumps count as rings.
RING_WIDTH = 15
#: A reflection below the strongest one counts if it has this share of its height. Twice as much: the cells of weak
#: superlattices are not found; half: artefacts of compression and scan are sooner taken for cells.
WEAKEST = 0.002
#: The same in images with excluded pixels, whose edges have side lobes beside every reflection.
WEAKEST_BESIDE_HOLES = 0.02
#: And if it is this many times what is around it, from `AROUND` to the next. Twice as much: cells whose reflections
#: crowd are not found; half: streaks and speckle are taken for cells.
PROMINENT = 3.0
#: Radii, in cycles a window, of the ring around a reflection: beyond its own width under the taper. Twice as much:
#: other reflections of large cells lie in it.
AROUND = (2.2, 3.7)
#: Side, in pixels, of the means of pixels in which cells too large for `SIDE` are looked for. Twice as much: larger
#: cells are found, in larger images alone.
BINNED = 4
#: Side, in such means, of the windows whose spectra are averaged then. Twice as much: larger cells are found, in larger
#: images alone.
BINNED_SIDE = 128
#: Pixels whose sides differ by less than this share are taken as square.
NEARLY_SQUARE = 0.02
#: Period in pixels for which the window is `USUAL_WINDOW`. Twice as much: windows are smaller by the root of 2.
USUAL_PERIOD = 17.0
#: Side in pixels of the window for `USUAL_PERIOD`. Twice as much: less noise in the maps, and half the resolution.
USUAL_WINDOW = 64
#: Smallest and largest side, in pixels, that a lattice asks for.
LEAST_WINDOW = 32
LARGEST_WINDOW = 192
#: Periods that a window holds at least, unless it would be larger than a quarter of the image. Twice as many: maps of
#: large cells have half the resolution; half: unit cells come out as stripes.
LEAST_PERIODS = 1.5
#: Side in pixels down to which windows shrink in small images. Twice as much: fewer windows cover small images.
SMALLEST = 24
#: Windows that cover an image side by side, along each axis, at most when the window is largest for it. Twice as many:
#: windows of small images have half the side.
COVERING = 8
#: Planes of frequencies that peaks are looked for in: power, radius, rings and their order. It predicts memory only.
PLANES = 8

PixelSize = tuple[float, float]


class Periods(NamedTuple):
    """What the mean spectrum shows of the lattices, as distances of lattice planes in pixels.

    Attributes
    ----------
    period : float
        The longest: of a superlattice, or of a cell with a motif, often not that which shows most.
    strongest : float
        Of those that show most.
    """

    period: float
    strongest: float


def longest_period(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    pixel_size: PixelSize | None = None,
    execution: Execution,
) -> float | None:
    """Longest period, in pixels, of the lattice planes of an image; None if there are none."""
    found = periods_of(image, mask, pixel_size=pixel_size, execution=execution)
    return None if found is None else found.period


def periods_of(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    pixel_size: PixelSize | None = None,
    execution: Execution,
) -> Periods | None:
    """Longest period of the lattice planes, and that of those that show most; None if there are none.

    Power spectra of overlapping windows are averaged, and the median of each ring around zero frequency is subtracted:
    amorphous material and noise are round. Of all peaks, in whatever direction, the one of lowest frequency is taken
    that stands out of its ring and out of what is around it, though it be a small share of the strongest: superlattices
    and large cells have weak reflections. Cells too large for these windows are looked for in the same way in larger
    ones of means of pixels. The spots of many grains fill rings: if no peak stands out of its ring, the strongest ring
    that is much brighter than those around it is taken.

    Parameters
    ----------
    image : array-like of shape (y, x)
    mask : array-like of bool of shape (y, x), optional
        True: excluded.
    pixel_size : (float, float), optional
        (y, x) of pixels that are not square: windows are square in length then, and the period is in pixels of the
        geometric mean of both sizes, see `pixels_along`.
    execution : Execution

    Notes
    -----
    Cost: a few milliseconds for each million pixels, up to four millions. In larger images some windows are looked at,
    evenly spread over the pixels that are not excluded: they take no longer.
    """
    pixels, excluded = check_image(image, mask)
    return _strongest(pixels, excluded, None, pixel_size, execution)


def window_of(
    frames: Frames, *, pixel_size: PixelSize | None = None, execution: Execution
) -> tuple[tuple[int, int], float | None]:
    """Sides (y, x) of the window that suits an image, in pixels, and the `longest_period` it follows from."""
    pixels, excluded = frames.image[0], None if frames.mask is None else frames.mask[0]
    found = _strongest(pixels, excluded, frames, pixel_size, execution)
    period = None if found is None else found.period
    return suited_window(period, pixels.shape, pixel_size), period


def period_bytes(frames: Frames) -> float:
    """Memory of `window_of`: windows that are copied out of a large image, excluded pixels filled, spectra thrice."""
    n, dtype, masked = frames.image.size, frames.image.dtype, frames.mask is not None
    copied = min(n, MOST_WINDOWS * SIDE**2) if n > MOST_PIXELS else 0
    looked_at = copied or n
    # Windows overlap by a half unless they are copied; half of the plane is kept of each, in float32.
    spectra = 3 * 2 * looked_at * (1 if copied else 4)
    planes = 8 * SIDE**2 * PLANES
    return copied * (dtype.itemsize + masked) + looked_at * 8 * masked + spectra + planes


def _strongest(
    pixels: Array,
    excluded: NDArray[np.bool_] | None,
    frames: Frames | None,
    pixel_size: PixelSize | None,
    execution: Execution,
) -> Periods | None:
    """`periods_of` pixels; `frames` are these pixels if they have been surveyed."""
    side = int(min(SIDE, *(n * size for n, size in zip(pixels.shape[-2:], _relative(pixel_size), strict=True))))
    sides = [round(along) for along in pixels_along(side, pixel_size)]
    if min(side, *sides) < 3 * FEWEST_CYCLES:  # no frequency is high enough, and below a third
        return None
    steps = [n // 2 for n in sides]
    whole = pixels, excluded
    if pixels.size > MOST_PIXELS:
        pixels, excluded = _sample(pixels, excluded, sides, MOST_WINDOWS)
        steps, frames = sides, None
    frames = _filled(Frames.survey(pixels, excluded, "exclude") if frames is None else frames)
    if frames is None:
        return None
    power = _mean_power(frames, sides, steps, execution)
    if power is None:
        return None
    weakest = WEAKEST if excluded is None or not excluded.any() else WEAKEST_BESIDE_HOLES
    found = _periods_in(power, side, weakest)
    larger = _period_of_large_cells(frames, whole, weakest, pixel_size, execution)
    if larger is None:
        return found
    return Periods(larger, larger if found is None else found.strongest)


def _mean_power(frames: Frames, sides: Sequence[int], steps: Sequence[int], execution: Execution) -> Array | None:
    """Mean power spectrum of windows, each scaled by its largest power; None if none has contrast."""
    matrix = WindowFFT(sides, steps, zoom=1, scale="power").matrix_of(frames)
    rows = matrix.stored(execution)
    scale = rows.max(axis=1)
    seen = scale > CONTRAST * scale.max()
    if not seen.any():
        return None
    power: Array = matrix.to_image((rows[seen] / scale[seen, np.newaxis]).mean(axis=0, dtype=np.float64))
    return power


def _period_of_large_cells(
    frames: Frames,
    whole: tuple[Array, NDArray[np.bool_] | None],
    weakest: float,
    pixel_size: PixelSize | None,
    execution: Execution,
) -> float | None:
    """The longest period above those that windows of `SIDE` show, in pixels; None if there is none, or no room.

    `frames` is the whole image, or windows of it that lie side by side and are too small.
    """
    sides = [round(along) for along in pixels_along(BINNED_SIDE, pixel_size)]
    if any(n < BINNED * side for n, side in zip(whole[0].shape, sides, strict=True)):
        return None
    steps = [n // 2 for n in sides]
    if whole[0].size > MOST_PIXELS:
        large = _sample(*whole, [BINNED * side for side in sides], MOST_LARGE_WINDOWS)
        sampled, steps = _filled(Frames.survey(*large, "exclude")), sides
        if sampled is None:
            return None
        frames = sampled
    height, width = (n // BINNED for n in frames.image.shape[-2:])
    pixels = frames.image[0, : height * BINNED, : width * BINNED]
    rows = pixels.reshape(height, BINNED, width * BINNED).mean(axis=1, dtype=np.float64)
    means = rows.reshape(height, width, BINNED).mean(axis=2)
    power = _mean_power(Frames.survey(means), sides, steps, execution)
    lowest = None if power is None else _peaks(power, _radius(power), BINNED_SIDE, weakest)[1]
    period = BINNED * BINNED_SIDE / (lowest or np.inf)
    return period if period > SIDE / FEWEST_CYCLES else None


def _filled(frames: Frames) -> Frames | None:
    """The image without excluded pixels, at a scale of which powers neither overflow nor vanish; None without pixels.

    Excluded pixels become the mean of the others: large windows may all meet some of them.
    """
    pixels = image = frames.image[0]
    excluded = frames.mask
    if excluded is not None and excluded.all():
        return None
    low, high = frames.extremes[0]
    difference = float(high) - float(low)
    if difference > 0 and not LEAST_DIFFERENCE < difference < LARGEST_DIFFERENCE:
        pixels = pixels / difference
    if excluded is not None and excluded.any():
        pixels = np.where(excluded[0], pixels[~excluded[0]].mean(dtype=np.float64), pixels)
    return frames if pixels is image else Frames.survey(pixels)


def _periods_in(power: Array, side: int, weakest: float) -> Periods | None:
    """Those of the lowest and of the strongest peak of a mean power spectrum, else of the strongest ring."""
    radius = _radius(power)
    strongest, lowest = _peaks(power, radius, side, weakest)
    if strongest is None:
        ring = _period_of_rings(power, radius, side)
        return None if ring is None else Periods(ring, ring)
    return Periods(side / (lowest or strongest), side / strongest)


def _peaks(power: Array, radius: Array, side: int, weakest: float) -> tuple[float | None, float | None]:
    """Frequency of the strongest peak, and the lowest of those that stand out of what is around them; None: no peak."""
    excess, spread = _above_ring(power, radius)
    excess[(radius < FEWEST_CYCLES) | (radius > side / 3)] = -np.inf
    strongest = np.unravel_index(excess.argmax(), excess.shape)
    highest = excess[strongest]
    if highest <= SIGNIFICANT * spread[strongest] or not np.isfinite(highest):
        return None, None
    peaks = (power == maximum_filter(power, 3)) & (radius <= radius[strongest])
    peaks &= (excess > SIGNIFICANT * spread) & (excess > weakest * highest)
    standing = [radius[tuple(place)] for place in np.argwhere(peaks) if _stands_out(power, place)]
    return float(radius[strongest]), float(min(standing)) if standing else None


def _stands_out(power: Array, place: NDArray[np.intp]) -> bool:
    """Whether a peak is much higher than what is around it, unlike speckle and the streak of an edge."""
    reach = ceil(AROUND[1])
    # Spectra of small images end nearer than that.
    near = [np.arange(max(0, p - reach), min(n, p + reach + 1)) for p, n in zip(place, power.shape, strict=True)]
    distance = np.hypot(*np.ix_(*(along - p for along, p in zip(near, place, strict=True))))
    around = (distance >= AROUND[0]) & (distance <= AROUND[1])
    return bool(power[tuple(place)] > PROMINENT * power[np.ix_(*near)][around].max())


def _radius(power: Array) -> Array:
    """Distance of each frequency from zero in the middle, in cycles a window."""
    return np.hypot(*np.meshgrid(*(np.arange(n) - n // 2 for n in power.shape), indexing="ij"))


def _sample(
    pixels: Array, excluded: NDArray[np.bool_] | None, sides: Sequence[int], most: int
) -> tuple[Array, NDArray[np.bool_] | None]:
    """Windows evenly spread over the included part of an image, put side by side; and which pixels they exclude."""
    first, last = (0, 0), pixels.shape
    if excluded is not None and not excluded.all():
        included = [np.flatnonzero(~excluded.all(axis=axis)) for axis in (1, 0)]
        first, last = zip(*((places[0], places[-1] + 1) for places in included), strict=True)
    height, width = (stop - start for start, stop in zip(first, last, strict=True))
    y, x = sides
    n_down = _fitting(int(np.sqrt(most * height * x / (width * y))), height, y)
    n_across = _fitting(most // n_down, width, x)
    places = []
    for n, start, stop, size, side in zip((n_down, n_across), first, last, pixels.shape, sides, strict=True):
        starts = np.linspace(start, max(start, stop - side), n).astype(int)
        places.append((np.minimum(starts, size - side)[:, np.newaxis] + np.arange(side)).ravel())
    chosen = np.ix_(*places)
    return pixels[chosen], None if excluded is None else excluded[chosen]


def _fitting(n: int, length: int, side: int) -> int:
    """At most n windows along an axis, at least one, which overlap by a half at most."""
    return max(1, min(n, 2 * length // side - 1))


def _period_of_rings(power: Array, radius: Array, side: int) -> float | None:
    """Period of the ring that is farthest above the profile of the rings without narrow peaks; None if none is far.

    An opening does not change a profile that only falls, as that of amorphous material does but for noise. In two and
    more windows of amorphous material bumps were up to 3.5 times the profile below them; rings of 16 grains at 2
    electrons a pixel were five times that profile and more.
    """
    ring = radius.round().astype(int).ravel()
    profile = (np.bincount(ring, power.ravel()) / np.bincount(ring))[FEWEST_CYCLES : side // 3 + RING_WIDTH]
    # Padded, since an opening is wrong within its width of an end.
    below = grey_opening(np.pad(profile, RING_WIDTH, mode="edge"), RING_WIDTH)[RING_WIDTH:-RING_WIDTH]
    above = (profile - below)[: side // 3 + 1 - FEWEST_CYCLES]
    strongest = int(above.argmax())
    return side / (strongest + FEWEST_CYCLES) if above[strongest] > RING * below[strongest] else None


def _above_ring(power: Array, radius: Array) -> tuple[Array, Array]:
    """Power above the median of the ring of each frequency, and the median deviation of that ring as a standard one."""
    ring = radius.round().astype(int)
    order = np.argsort(ring, axis=None, kind="stable")
    parts = np.split(power.ravel()[order], np.cumsum(np.bincount(ring.ravel()))[:-1])
    medians = np.array([np.median(part) for part in parts])
    spreads = np.array([np.median(np.abs(part - m)) for part, m in zip(parts, medians, strict=True)])
    # Rings of few frequencies have no spread of their own.
    spreads = median_filter(spreads, 5, mode="nearest")
    return power - medians[ring], 1.4826 * spreads[ring]


def _relative(pixel_size: PixelSize | None) -> PixelSize:
    """Size of a pixel, (y, x), over the geometric mean of both; 1 for pixels that are nearly square."""
    y, x = pixel_size or (1.0, 1.0)
    if abs(y / x - 1) < NEARLY_SQUARE:
        return 1.0, 1.0
    ratio = float(np.sqrt(y / x))
    return ratio, 1 / ratio


def pixels_along(length: float, pixel_size: PixelSize | None) -> PixelSize:
    """Pixels along y and along x of a length that is given in pixels of the geometric mean of both sizes."""
    y, x = _relative(pixel_size)
    return length / y, length / x


def smaller_than_a_cell(window: Sequence[float], period: float, pixel_size: PixelSize | None) -> bool:
    """Whether sides (y, x) of a window, in pixels, do not hold the longest period: spectra change within the cell."""
    return any(side < along for side, along in zip(window, pixels_along(period, pixel_size), strict=True))


def suited_window(period: float | None, shape: tuple[int, ...], pixel_size: PixelSize | None = None) -> tuple[int, int]:
    """Sides (y, x) of the window for a lattice period, in pixels: a multiple of 8, alike in length on both axes.

    It grows with the root of the period. A fixed number of periods would make the windows of a lattice of long period
    larger than small grains; a fixed number of pixels would hold too few of its periods. The window is no larger than a
    quarter of the image, and small enough that 64 of them cover it, down to 24 px, or one and a half periods: the field
    of view is taken to suit the grains. Where pixels are not square, all lengths are in pixels of the geometric mean of
    both sizes, and the sides are rounded to even numbers of true pixels.
    """
    relative = _relative(pixel_size)
    side = float(USUAL_WINDOW) if period is None else USUAL_WINDOW * np.sqrt(period / USUAL_PERIOD)
    side = float(np.clip(8 * round(side / 8), LEAST_WINDOW, LARGEST_WINDOW))
    cells = min(LARGEST_WINDOW, 8 * ceil(LEAST_PERIODS * (period or 0) / 8))
    covering = max(SMALLEST, cells, 8 * round(float(np.sqrt(np.prod(shape))) / (8 * COVERING)))
    quarter = min(n * size for n, size in zip(shape, relative, strict=True)) // 4
    whole = int(max(4, min(side, covering, quarter)))
    if relative == (1.0, 1.0):
        return whole, whole
    y, x = (max(4, 2 * round(along / 2)) for along in pixels_along(whole, pixel_size))
    return y, x
