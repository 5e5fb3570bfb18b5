"""Pure-NumPy twins of the kernels in src/windows.pyx, and the features of a whole image by `numpy.fft`."""

import numpy as np
from scipy.signal import get_window


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


def tapered_windows(rows, first, step, taper, hx, out):
    """Every window of a tile from transformed image rows, complex, tapered along y: (m, n, w, hx + 1)."""
    (m, n), w = out.shape[:2], len(taper)
    rows = (rows[0] + 1j * rows[1])[:, : n * (hx + 1)].reshape(-1, n, hx + 1)
    windows = np.stack([rows[first + y * step : first + y * step + w] for y in range(m)])
    return taper[:, None] * windows.swapaxes(1, 2)


def store_features(spectrum, shift, taper_spectrum, hx, roots, factor, zero, out):
    """Features of spectra (m, n, 2 hy + 1, hx + 1)."""
    hy = spectrum.shape[2] // 2
    ky, kx = np.mgrid[-hy : hy + 1, 0 : hx + 1]
    spectrum = spectrum - shift[:, :, None, None] * (taper_spectrum[0] + 1j * taper_spectrum[1])[:, : hx + 1]
    power = (np.abs(spectrum) ** 2)[..., (kx > 0) | (ky >= 0)]
    out[:] = factor * (power**0.25 if roots else power)
    out[..., hy * hx] *= zero


def transform_windows_products_block(
    rows,
    first,
    step,
    shift,
    taper_spectrum,
    reach,
    hx,
    roots,
    factor,
    zero,
    taper,
    cosines,
    sines,
    even,
    odd,
    products,
    out,
):
    windows = tapered_windows(rows, first, step, np.ones(len(taper)), hx, out)
    e, o = fold(np.moveaxis(windows, 2, -1), taper)  # (m, n, kx, j)
    plus, minus = e @ cosines.T - 1j * (o @ sines.T), e @ cosines.T + 1j * (o @ sines.T)
    spectrum = np.concatenate([minus[..., :0:-1], plus], axis=-1).swapaxes(-1, -2)
    store_features(spectrum, shift, taper_spectrum, hx, roots, factor, zero, out)


def transform_windows_fft_block(
    rows,
    first,
    step,
    shift,
    taper_spectrum,
    reach,
    hx,
    roots,
    factor,
    zero,
    taper,
    radices,
    frequencies,
    twiddles,
    vectors,
    out,
):
    hy = taper_spectrum.shape[1] // 2
    spectrum = np.fft.fft(tapered_windows(rows, first, step, taper, hx, out), axis=2)
    store_features(spectrum[:, :, np.arange(-hy, hy + 1)], shift, taper_spectrum, hx, roots, factor, zero, out)


def transform_windows_sliding_block(
    rows, first, step, shift, taper_spectrum, reach, hx, roots, factor, zero, cosines, sines, mixing, vectors, out
):
    hy, w = taper_spectrum.shape[1] // 2, cosines.shape[1]
    # The first window of a tile is where its taper begins: a_0 + sum_t 2 (a_t / 2) cos(2 pi t j / w).
    taper = mixing[0, 0] + 2 * mixing[0, 1::2] @ np.cos(
        2 * np.pi * np.outer(np.arange(1, mixing.shape[1] // 2 + 1), np.arange(w)) / w
    )
    spectrum = np.fft.fft(tapered_windows(rows, first, step, taper, hx, out), axis=2)
    store_features(spectrum[:, :, np.arange(-hy, hy + 1)], shift, taper_spectrum, hx, roots, factor, zero, out)


def finish_block(out, scale, gain, weight, zero):
    modulus = gain * np.sqrt(out)
    out[:] = weight * {"abs": modulus, "log1p": np.log1p(modulus)}[scale]
    out[..., zero] /= weight


def features(image, window, step, taper="hann", detrend="constant", zoom=2, scale="sqrt"):
    """Centred full-plane features (n, 2 hy + 1, 2 hx + 1) of a 2-D image, window by window, by `numpy.fft`."""
    (wy, wx), (sy, sx) = np.broadcast_to(window, 2), np.broadcast_to(step, 2)
    hy, hx = (wy - 1) // (2 * zoom), (wx - 1) // (2 * zoom)
    ty, tx = (np.ones(w) if taper is None else get_window(taper, w) for w in (wy, wx))
    found = []
    for y in range(0, image.shape[0] - wy + 1, sy):
        for x in range(0, image.shape[1] - wx + 1, sx):
            piece = image[y : y + wy, x : x + wx].astype(float)
            if detrend == "constant":
                piece = piece - piece.mean()
            modulus = np.fft.fftshift(np.abs(np.fft.fft2(piece * np.outer(ty, tx))))
            found.append(modulus[wy // 2 - hy : wy // 2 + hy + 1, wx // 2 - hx : wx // 2 + hx + 1])
    modulus = np.array(found)
    return {"abs": modulus, "sqrt": np.sqrt(modulus), "log1p": np.log1p(modulus), "power": modulus**2}[scale]
