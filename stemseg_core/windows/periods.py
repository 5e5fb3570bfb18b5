"""The strongest period of an image, and the window that suits it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import grey_opening, median_filter

from stemseg_core.windows.images import check_image
from stemseg_core.windows.windows import WindowFFT

#: Side of the windows whose spectra are averaged, at most, and the fewest cycles in it that count as a period.
SIDE, FEWEST = 256, 4
#: Pixels up to which an image is looked at everywhere, and windows that are looked at of a larger one: about as many.
MOST_PIXELS, MOST_WINDOWS = 2**22, 256
#: Windows whose largest power is below this share of that of others have no contrast: what they show is rounding.
CONTRAST = 1e-8
#: Differences of pixels whose powers neither overflow nor vanish in float32; others are scaled.
CONTRASTS = 1e-10, 1e10
#: A peak stands out by so many times the spread of its ring.
SIGNIFICANT = 12.0
#: A ring of spots exceeds by so many times the smooth profile below it, which has no peaks narrower than so many rings.
RING, RING_WIDTH = 4.0, 15
#: An order below the strongest one counts if it has this share of its height.
LOWER_ORDER = 0.1
#: Pixels whose sides differ by less than this share are as good as square.
NEARLY_SQUARE = 0.02
#: The window for a lattice of `USUAL_PERIOD` pixels, the limits of what is chosen, and that for small images.
USUAL_WINDOW, USUAL_PERIOD, LEAST, MOST, SMALLEST = 64, 17.0, 32, 128, 24


PixelSize = tuple[float, float]


def strongest_period(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    pixel_size: PixelSize | None = None,
    n_jobs: int | None = None,
) -> float | None:
    """Longest period, in pixels, of the lattice planes that show most in an image; None if there are none."""
    found = strongest_reflection(image, mask, pixel_size=pixel_size, n_jobs=n_jobs)
    return None if found is None else found[0]


def strongest_reflection(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    pixel_size: PixelSize | None = None,
    n_jobs: int | None = None,
) -> tuple[float, int] | None:
    """`strongest_period`, and the order of it that shows most: above 1 in a superlattice or a cell with a motif.

    Power spectra of overlapping windows are averaged, and what their ring around zero frequency has on the median is
    subtracted: amorphous material and noise are round. Of the orders of the strongest peak the lowest that shows is
    taken, so that a harmonic does not pass for the lattice. The spots of many grains fill rings: if no peak stands out
    of its ring, the strongest ring that is much brighter than those around it is taken.

    Parameters
    ----------
    image : array-like of shape (y, x)
    mask : array-like of bool of shape (y, x), optional
        True: excluded.
    pixel_size : (float, float), optional
        (y, x) of pixels that are not square: windows are square in length then, and the period is in pixels of the
        geometric mean of both sizes, see `pixels_along`.
    n_jobs : int or None

    Notes
    -----
    Cost: a few milliseconds for each million pixels. Of more than four millions, some windows are looked at that are
    evenly spread over what is not excluded: it takes no longer.
    """
    pixels, excluded = check_image(image, mask)
    side = int(min(SIDE, *(n * size for n, size in zip(pixels.shape[-2:], _relative(pixel_size), strict=True))))
    sides = [round(along) for along in pixels_along(side, pixel_size)]
    if min(side, *sides) < 3 * FEWEST:  # no frequency is high enough, and below a third
        return None
    steps = [n // 2 for n in sides]
    if pixels.size > MOST_PIXELS:
        pixels, excluded = _sample(pixels, excluded, sides)
        steps = sides
    excluded = ~np.isfinite(pixels) if excluded is None else excluded | ~np.isfinite(pixels)
    if excluded.all():
        return None
    contrast = float(np.ptp(pixels[~excluded].astype(np.float64)))
    if contrast > 0 and not CONTRASTS[0] < contrast < CONTRASTS[1]:
        pixels = pixels / contrast
    if excluded.any():  # large windows may all meet some of them
        pixels = np.where(excluded, pixels[~excluded].mean(dtype=np.float64), pixels)
    matrix = WindowFFT(sides, steps, zoom=1, scale="power").matrix(pixels)
    rows = matrix.to_array(n_jobs=n_jobs)
    scale = rows.max(axis=1)
    seen = scale > CONTRAST * scale.max()
    if not seen.any():
        return None
    power = matrix.to_image((rows[seen] / scale[seen, np.newaxis]).mean(axis=0, dtype=np.float64))
    radius = np.hypot(*np.meshgrid(*(np.arange(n) - n // 2 for n in power.shape), indexing="ij"))
    excess, spread = _above_ring(power, radius.round().astype(int))
    excess[(radius < FEWEST) | (radius > side / 3)] = -np.inf
    peak = np.unravel_index(excess.argmax(), excess.shape)
    if excess[peak] <= SIGNIFICANT * spread[peak] or not np.isfinite(excess[peak]):
        ring = _period_of_rings(power, radius, side)
        return None if ring is None else (ring, 1)
    ky, kx = (p - n // 2 for p, n in zip(peak, power.shape, strict=True))
    for order in (4, 3, 2):
        y, x = (round(k / order) + n // 2 for k, n in zip((ky, kx), power.shape, strict=True))
        around = excess[y - 1 : y + 2, x - 1 : x + 2]
        if around.max() > max(LOWER_ORDER * excess[peak], SIGNIFICANT * spread[y, x]):
            return float(side * order / np.hypot(ky, kx)), order
    return float(side / np.hypot(ky, kx)), 1


def _sample(
    pixels: NDArray[Any], excluded: NDArray[np.bool_] | None, sides: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Windows evenly spread over the part of an image that has pixels, put side by side, and what they exclude."""
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
    """At most n windows, no more than overlap by half along an axis, and one at least."""
    return max(1, min(n, 2 * length // side - 1))


def _period_of_rings(power: NDArray[Any], radius: NDArray[Any], side: int) -> float | None:
    """Period of the ring that is most above the profile of the rings without narrow peaks; None if none is far above.

    An opening leaves every profile as it is that only falls, as that of amorphous material does but for noise: its
    bumps were up to 3.5 times the profile below them in two and more windows, rings of 16 grains at 2 electrons a pixel
    five times and more.
    """
    ring = radius.round().astype(int).ravel()
    profile = (np.bincount(ring, power.ravel()) / np.bincount(ring))[FEWEST : side // 3 + RING_WIDTH]
    # Padded: an opening has no use for what is within its width of an end.
    below = grey_opening(np.pad(profile, RING_WIDTH, mode="edge"), RING_WIDTH)[RING_WIDTH:-RING_WIDTH]
    above = (profile - below)[: side // 3 + 1 - FEWEST]
    strongest = int(above.argmax())
    return side / (strongest + FEWEST) if above[strongest] > RING * below[strongest] else None


def _above_ring(power: NDArray[Any], ring: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is above the median of the ring of each frequency, and the spread of that ring."""
    order = np.argsort(ring, axis=None, kind="stable")
    parts = np.split(power.ravel()[order], np.cumsum(np.bincount(ring.ravel()))[:-1])
    medians = np.array([np.median(part) for part in parts])
    spreads = np.array([np.median(np.abs(part - m)) for part, m in zip(parts, medians, strict=True)])
    # Rings of few frequencies have no spread of their own.
    spreads = median_filter(spreads, 5, mode="nearest")
    return power - medians[ring], 1.4826 * spreads[ring]


def _relative(pixel_size: PixelSize | None) -> PixelSize:
    """Size of a pixel, (y, x), over the geometric mean of both; 1 for pixels that are as good as square."""
    y, x = pixel_size or (1.0, 1.0)
    if abs(y / x - 1) < NEARLY_SQUARE:
        return 1.0, 1.0
    ratio = float(np.sqrt(y / x))
    return ratio, 1 / ratio


def pixels_along(length: float, pixel_size: PixelSize | None) -> PixelSize:
    """How many pixels a length has along y and along x, if it has `length` pixels of the geometric mean of both."""
    y, x = _relative(pixel_size)
    return length / y, length / x


def window_of(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    pixel_size: PixelSize | None = None,
    n_jobs: int | None = None,
) -> tuple[tuple[int, int], float | None]:
    """Sides (y, x) of the window that suits an image, in pixels, and the `strongest_period` it follows from."""
    period = strongest_period(image, mask, pixel_size=pixel_size, n_jobs=n_jobs)
    return suited_window(period, np.shape(image), pixel_size), period


def suited_window(period: float | None, shape: tuple[int, ...], pixel_size: PixelSize | None = None) -> tuple[int, int]:
    """Sides (y, x) of the window for a lattice period, in pixels: a multiple of 8, alike in length on both axes.

    It grows with the root of the period: a window of so many periods would find small grains of a lattice of long
    period too coarse, and a fixed number of pixels holds too few periods of it. It is no larger than a quarter of the
    image, and so small that 64 windows cover it, down to 24 px: an image is taken to show what there is in it. Where
    pixels are not square, all this is in pixels of the geometric mean of both sizes, and sides are the nearest even
    numbers of those that there are.
    """
    relative = _relative(pixel_size)
    side = float(USUAL_WINDOW) if period is None else USUAL_WINDOW * np.sqrt(period / USUAL_PERIOD)
    side = float(np.clip(8 * round(side / 8), LEAST, MOST))
    covering = max(SMALLEST, 8 * round(float(np.sqrt(np.prod(shape))) / 64))
    quarter = min(n * size for n, size in zip(shape, relative, strict=True)) // 4
    whole = int(max(4, min(side, covering, quarter)))
    if relative == (1.0, 1.0):
        return whole, whole
    y, x = (max(4, 2 * round(along / 2)) for along in pixels_along(whole, pixel_size))
    return y, x
