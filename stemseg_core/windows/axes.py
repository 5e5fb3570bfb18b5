"""One axis of the windows, and the tables of its Fourier transforms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core._kernels import windows as kernels


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of the windows: its taper, step and frequencies.

    Parameters
    ----------
    taper : ndarray of shape (w,), float64
    h : int
        Highest frequency that is kept.
    step : int
        From one window to the next, in pixels.
    dtype : dtype
        Of the transforms.
    """

    taper: NDArray[np.float64]
    h: int
    step: int
    dtype: np.dtype[Any]

    @property
    def w(self) -> int:
        return len(self.taper)

    @cached_property
    def taper_spectrum(self) -> NDArray[np.complex128]:
        """DFT of the taper at the frequencies -h..h: the spectrum of a window whose pixels are all 1."""
        turns = np.outer(np.arange(-self.h, self.h + 1), np.arange(self.w)) % self.w / self.w
        return np.asarray(np.exp(-2j * np.pi * turns) @ self.taper)

    @cached_property
    def reach(self) -> int:
        """The highest frequency at which `taper_spectrum` is more than rounding; for most tapers it is low."""
        size = np.abs(self.taper_spectrum[self.h :])
        return int(np.flatnonzero(size > 1e-13 * np.abs(self.taper).sum()).max(initial=0))

    def angles(self, highest: int, length: int) -> NDArray[np.float64]:
        """2 pi k j / w for k = 0..highest and j = 0..length - 1.

        The product k j is reduced modulo w in whole numbers: the angle is as exact for high k j as for low.
        """
        return np.asarray(2 * np.pi / self.w * (np.outer(np.arange(highest + 1), np.arange(length)) % self.w))

    @cached_property
    def cosines(self) -> NDArray[np.float64] | None:
        """Coefficients a_0, a_1, .. of a taper sum_t a_t cos(2 pi t j / w) of few terms; None for other tapers."""
        spectrum = np.fft.rfft(self.taper) / self.w
        a = np.r_[spectrum.real[0], 2 * spectrum.real[1:]]
        present = np.flatnonzero(np.abs(spectrum) > 1e-13 * np.abs(self.taper).max())
        last = int(present[-1]) if len(present) else 0
        skew = np.abs(spectrum.imag).max() > 1e-13 * np.abs(self.taper).max()
        # At w / 2 a cosine has no sine to pair with: short windows are left to the other transforms. The mean is taken
        # off by way of a_0, which must not drown in the other terms.
        if last > kernels.MAX_TERMS or 2 * last >= self.w or skew or abs(a[0]) < 0.01 * np.abs(a).max():
            return None
        return np.asarray(a[: last + 1])


class FFT:
    """Tables of a Fourier transform of length n: see src/fft.h.

    Attributes
    ----------
    radices, frequencies : ndarray of int32
    twiddles : ndarray
    """

    def __init__(self, n: int, dtype: DTypeLike) -> None:
        radices = self.radices_of(n)
        assert radices is not None
        twiddles, length = [np.empty(0)], n
        for radix in radices[:-1]:
            p, c = np.arange(length // radix)[:, None], np.arange(1, radix)
            twiddles.append(np.exp(-2j * np.pi * (p * c % length) / length).ravel().view(float))
            length //= radix
        self.radices = np.array(radices, np.int32)
        self.twiddles = np.concatenate(twiddles).astype(dtype)
        # Frequency c1 + r1 (c2 + r2 (c3 + ..)) comes from part c1 of the first stage, part c2 of the second, and so on.
        places = np.arange(n // radices[-1]).reshape(radices[:-1]).transpose().ravel()
        self.frequencies = np.argsort(places).astype(np.int32)

    @staticmethod
    def radices_of(n: int) -> list[int] | None:
        """Factors 4, 2, 3 and 5 of n, in the order of the stages; None if there are others, or fewer than two.

        The last is 4 where there is one: with `zoom` 2 only a half of the results is kept, and a last stage of 4 can
        leave the others out, which a stage of 2 cannot.
        """
        fours, rest = 0, []
        while n % 4 == 0:
            n, fours = n // 4, fours + 1
        for radix in (2, 3, 5):
            while n % radix == 0:
                n //= radix
                rest.append(radix)
        radices = [4] * (fours - 1) + rest + [4] * (fours > 0)
        return radices if n == 1 and len(radices) > 1 else None

    @staticmethod
    def stages(n: int) -> float:
        """Cost of a transform of length n, in units of a stage of radix 4 on n numbers."""
        return sum({2: 0.6, 3: 0.9, 4: 1.0, 5: 1.5}[radix] for radix in FFT.radices_of(n) or ())
