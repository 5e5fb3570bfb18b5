"""The window kernels in plain NumPy, and the features of a whole image by `numpy.fft` as their oracle."""

import numpy as np
from scipy.signal import get_window


def fold(pieces, taper):
    """Even and odd part of tapered pieces (.., w): (.., w // 2 + 1) and (.., (w - 1) // 2), the latter from j = 1."""
    w = len(taper)
    x = taper * pieces
    turned = np.roll(x[..., ::-1], 1, axis=-1)  # x[-j]
    even, odd = x + turned, x - turned
    even[..., 0] = x[..., 0]
    if w % 2 == 0:
        even[..., w // 2] = x[..., w // 2]
    return even[..., : w // 2 + 1], odd[..., 1 : (w - 1) // 2 + 1]


def transform_rows_block(image, taper, step, cosines, minus_sines, even, odd, rows, sums):
    n, m, w = rows.shape[1], rows.shape[3], len(taper)
    for i in range(n):
        pieces = image[:, i * step : i * step + w]
        e, o = fold(pieces, taper)
        rows[:, i, 0] = e @ cosines[:, :m]
        rows[:, i, 1] = o @ minus_sines[:, :m]
        sums[:, i] = pieces.sum(axis=1, dtype=np.float64)


def transform_windows_block(rows, first, step, taper, cosines, sines, shift, uniform, even, odd, products, out):
    w, hy, hx = len(taper), len(cosines) - 1, rows.shape[3] - 1
    flat = uniform[0] + 1j * uniform[1]
    ky, kx = np.mgrid[-hy : hy + 1, 0 : hx + 1]
    kept = (kx > 0) | (ky >= 0)
    for y in range(len(out)):
        window = rows[first + y * step : first + y * step + w]
        e, o = fold(np.moveaxis(window[:, :, 0] + 1j * window[:, :, 1], 0, -1), taper)  # (n, kx, j)
        plus = e @ cosines.T - 1j * (o @ sines.T)
        minus = e @ cosines.T + 1j * (o @ sines.T)
        spectrum = np.concatenate([minus[..., :0:-1], plus], axis=-1).swapaxes(-1, -2)  # (n, ky, kx)
        spectrum = spectrum - shift[y][:, None, None] * flat
        out[y] = (spectrum.real**2 + spectrum.imag**2)[:, kept]


def scale_block(out, scale, gain, weight, zero):
    modulus = gain * np.sqrt(out)
    feature = {"abs": modulus, "sqrt": np.sqrt(modulus), "log1p": np.log1p(modulus), "power": modulus**2}[scale]
    out[:] = weight * feature
    out[..., zero] = feature[..., zero]


def features(image, window, step, taper="hann", detrend="constant", zoom=2, scale="sqrt"):
    """Centred full-plane features (n, 2 hy + 1, 2 hx + 1) of a 2-D image, window by window, in float64."""
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
