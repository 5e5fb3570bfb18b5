"""Pure-NumPy twins of the kernels in src/strips.pyx."""

import numpy as np


def fold(pieces, taper):
    """Even and odd part of tapered pieces (.., w): (.., w // 2 + 1) and (.., (w - 1) // 2), the latter from j = 1."""
    w = len(taper)
    x = taper * pieces
    mirror = np.roll(x[..., ::-1], 1, axis=-1)  # x[-j]
    even, odd = x + mirror, x - mirror
    even[..., 0] = x[..., 0]
    if w % 2 == 0:
        even[..., w // 2] = x[..., w // 2]
    return even[..., : w // 2 + 1], odd[..., 1 : (w - 1) // 2 + 1]


def move_rows_block(rows, sums, start, count):
    rows[:, :count], sums[:count] = rows[:, start : start + count].copy(), sums[start : start + count].copy()


def window_means_block(sums, first, step, wy, wx, totals, means):
    for y in range(len(means)):
        means[y] = sums[first + y * step : first + y * step + wy].sum(axis=0) / (wy * wx)


def transform_rows_products_block(
    image, taper, step, cosines, minus_sines, taper_spectrum, mirror, even, odd, products, first, rows, sums
):
    n, m, w = sums.shape[1], products.shape[2], len(taper)
    for i in range(n):
        pieces = image[:, i * step : i * step + w]
        e, o = fold(pieces, taper)
        place = slice(first, first + len(image)), slice(i * m, (i + 1) * m)
        rows[0][place] = e @ cosines[:, :m]
        rows[1][place] = o @ minus_sines[:, :m]
        sums[place[0], i] = pieces.sum(axis=1, dtype=np.float64)


def transform_rows_fft_block(
    image, halved, step, radices, frequencies, twiddles, turns, vectors, totals, first, rows, sums
):
    taper = 2 * halved.T.ravel()
    n, m, w = sums.shape[1], len(turns), len(taper)
    for i in range(n):
        pieces = image[:, i * step : i * step + w]
        spectrum = np.fft.fft(taper * pieces)[:, :m]
        place = slice(first, first + len(image)), slice(i * m, (i + 1) * m)
        rows[0][place], rows[1][place] = spectrum.real, spectrum.imag
        sums[place[0], i] = pieces.sum(axis=1, dtype=np.float64)
