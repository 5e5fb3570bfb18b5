"""The strongest period of an image, and the window that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import grey_opening, median_filter

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
#: An order below the strongest one counts if it has this share of its height. Twice as much: the period found is
#: sooner a half or a third of the true one.
LOWER_ORDER = 0.1
#: Pixels whose sides differ by less than this share are taken as square.
NEARLY_SQUARE = 0.02
#: Period in pixels for which the window is `USUAL_WINDOW`. Twice as much: windows are smaller by the root of 2.
USUAL_PERIOD = 17.0
#: Side in pixels of the window for `USUAL_PERIOD`. Twice as much: less noise in the maps, and half the resolution.
USUAL_WINDOW = 64
#: Smallest and largest side, in pixels, that a lattice asks for.
LEAST_WINDOW = 32
LARGEST_WINDOW = 128
#: Side in pixels down to which windows shrink in small images. Twice as much: fewer windows cover small images.
SMALLEST = 24
#: Windows that cover an image side by side, along each axis, at most when the window is largest for it. Twice as many:
#: windows of small images have half the side.
COVERING = 8


PixelSize = tuple[float, float]


class Reflection(NamedTuple):
    """What shows most of a lattice in the mean spectrum.

    Attributes
    ----------
    period : float
        Longest period of its lattice planes, in pixels.
    order : int
        The order of it that shows most: above 1 in a superlattice or a cell with a motif.
    """

    period: float
    order: int


def strongest_period(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    pixel_size: PixelSize | None = None,
    execution: Execution,
) -> float | None:
    """Longest period, in pixels, of the lattice planes that show most in an image; None if there are none."""
    found = strongest_reflection(image, mask, pixel_size=pixel_size, execution=execution)
    return None if found is None else found.period


def strongest_reflection(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    pixel_size: PixelSize | None = None,
    execution: Execution,
) -> Reflection | None:
    """Period of the lattice planes that show most, and its order; None if there are none.

    Power spectra of overlapping windows are averaged, and the median of each ring around zero frequency is subtracted:
    amorphous material and noise are round. Of the orders of the strongest peak the lowest that shows is taken, so that
    a harmonic does not pass for the lattice. The spots of many grains fill rings: if no peak stands out of its ring,
    the strongest ring that is much brighter than those around it is taken.

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
    """Sides (y, x) of the window that suits an image, in pixels, and the `strongest_period` it follows from."""
    pixels, excluded = frames.image[0], None if frames.mask is None else frames.mask[0]
    found = _strongest(pixels, excluded, frames, pixel_size, execution)
    period = None if found is None else found.period
    return suited_window(period, pixels.shape, pixel_size), period


def _strongest(
    pixels: Array,
    excluded: NDArray[np.bool_] | None,
    frames: Frames | None,
    pixel_size: PixelSize | None,
    execution: Execution,
) -> Reflection | None:
    """`strongest_reflection` of pixels; `frames` are these pixels if they have been surveyed."""
    side = int(min(SIDE, *(n * size for n, size in zip(pixels.shape[-2:], _relative(pixel_size), strict=True))))
    sides = [round(along) for along in pixels_along(side, pixel_size)]
    if min(side, *sides) < 3 * FEWEST_CYCLES:  # no frequency is high enough, and below a third
        return None
    steps = [n // 2 for n in sides]
    if pixels.size > MOST_PIXELS:
        pixels, excluded = _sample(pixels, excluded, sides)
        steps, frames = sides, None
    frames = _filled(Frames.survey(pixels, excluded, "exclude") if frames is None else frames)
    if frames is None:
        return None
    matrix = WindowFFT(sides, steps, zoom=1, scale="power").matrix_of(frames)
    rows = matrix.stored(execution)
    scale = rows.max(axis=1)
    seen = scale > CONTRAST * scale.max()
    if not seen.any():
        return None
    power = matrix.to_image((rows[seen] / scale[seen, np.newaxis]).mean(axis=0, dtype=np.float64))
    return _reflection_of(power, side)


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


def _reflection_of(power: Array, side: int) -> Reflection | None:
    """The lowest order of the strongest peak of a mean power spectrum, else the strongest ring."""
    radius = np.hypot(*np.meshgrid(*(np.arange(n) - n // 2 for n in power.shape), indexing="ij"))
    excess, spread = _above_ring(power, radius.round().astype(int))
    excess[(radius < FEWEST_CYCLES) | (radius > side / 3)] = -np.inf
    peak = np.unravel_index(excess.argmax(), excess.shape)
    if excess[peak] <= SIGNIFICANT * spread[peak] or not np.isfinite(excess[peak]):
        ring = _period_of_rings(power, radius, side)
        return None if ring is None else Reflection(ring, 1)
    ky, kx = (p - n // 2 for p, n in zip(peak, power.shape, strict=True))
    for order in (4, 3, 2):
        y, x = (round(k / order) + n // 2 for k, n in zip((ky, kx), power.shape, strict=True))
        around = excess[y - 1 : y + 2, x - 1 : x + 2]
        if around.max() > max(LOWER_ORDER * excess[peak], SIGNIFICANT * spread[y, x]):
            return Reflection(float(side * order / np.hypot(ky, kx)), order)
    return Reflection(float(side / np.hypot(ky, kx)), 1)


def _sample(
    pixels: Array, excluded: NDArray[np.bool_] | None, sides: Sequence[int]
) -> tuple[Array, NDArray[np.bool_] | None]:
    """Windows evenly spread over the included part of an image, put side by side; and which pixels they exclude."""
    first, last = (0, 0), pixels.shape
    if excluded is not None and not excluded.all():
        included = [np.flatnonzero(~excluded.all(axis=axis)) for axis in (1, 0)]
        first, last = zip(*((places[0], places[-1] + 1) for places in included), strict=True)
    height, width = (stop - start for start, stop in zip(first, last, strict=True))
    y, x = sides
    n_down = _fitting(int(np.sqrt(MOST_WINDOWS * height * x / (width * y))), height, y)
    n_across = _fitting(MOST_WINDOWS // n_down, width, x)
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


def _above_ring(power: Array, ring: Array) -> tuple[Array, Array]:
    """Power above the median of the ring of each frequency, and the median deviation of that ring as a standard one."""
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


def suited_window(period: float | None, shape: tuple[int, ...], pixel_size: PixelSize | None = None) -> tuple[int, int]:
    """Sides (y, x) of the window for a lattice period, in pixels: a multiple of 8, alike in length on both axes.

    It grows with the root of the period. A fixed number of periods would make the windows of a lattice of long period
    larger than small grains; a fixed number of pixels would hold too few of its periods. The window is no larger than a
    quarter of the image, and small enough that 64 of them cover it, down to 24 px: the field of view is taken to suit
    the grains. Where pixels are not square, all lengths are in pixels of the geometric mean of both sizes, and the
    sides are rounded to even numbers of true pixels.
    """
    relative = _relative(pixel_size)
    side = float(USUAL_WINDOW) if period is None else USUAL_WINDOW * np.sqrt(period / USUAL_PERIOD)
    side = float(np.clip(8 * round(side / 8), LEAST_WINDOW, LARGEST_WINDOW))
    covering = max(SMALLEST, 8 * round(float(np.sqrt(np.prod(shape))) / (8 * COVERING)))
    quarter = min(n * size for n, size in zip(shape, relative, strict=True)) // 4
    whole = int(max(4, min(side, covering, quarter)))
    if relative == (1.0, 1.0):
        return whole, whole
    y, x = (max(4, 2 * round(along / 2)) for along in pixels_along(whole, pixel_size))
    return y, x
