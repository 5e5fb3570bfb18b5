"""The ways to transform windows along one axis, and which of them is the fastest.

Along x, image rows are transformed once for all windows of a column strip: by `ProductRows` or `FFTRows`. Along y,
every window is transformed from these rows: by `ProductWindows`, `FFTWindows` or `SlidingWindows`. All ways give the
same features, to rounding; `fastest` picks by a model of their costs, whose constants bench/transforms.py measured.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core._kernels import windows as kernels

Array = NDArray[Any]

#: No vector is longer than so many numbers, nor than so many bytes.
VECTOR_LANES, VECTOR_BYTES = 16, 64
#: Pieces of image rows that are multiplied at once: enough to use a factor often while it is in the first-level cache.
BATCH = 32
#: Columns along y that are folded and multiplied at once, in the first-level cache.
CHUNK = 64
#: Longer transforms outgrow the first-level cache.
LONG = 128
#: Bytes of features of a tile of sliding sums, at most, unless a window has more.
SLIDING_TILE_BYTES = 4 << 20
#: Most cosines of a taper for sliding sums; flat-top tapers have four.
MAX_TERMS = 4


def aligned(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Zeros that start at a multiple of the longest vector: a vector across two cache lines is loaded in two.

    Zeros, since lanes that nobody needs are computed too, and numbers below the smallest normal one take 100 cycles;
    memory whose lanes are all needed may be as it comes.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape))
    raw = np.zeros(size * dtype.itemsize + VECTOR_BYTES, np.uint8)
    start = -raw.ctypes.data % VECTOR_BYTES
    return raw[start : start + size * dtype.itemsize].view(dtype).reshape(shape)


@dataclass(frozen=True, eq=False)
class Axis:
    """One axis of the windows.

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
    def uniform(self) -> NDArray[np.complex128]:
        """DFT of the taper itself at the frequencies -h..h."""
        turns = np.outer(np.arange(-self.h, self.h + 1), np.arange(self.w)) % self.w / self.w
        return np.asarray(np.exp(-2j * np.pi * turns) @ self.taper)

    @cached_property
    def reach(self) -> int:
        """The highest frequency at which `uniform` is more than rounding: the spectra of most tapers are short."""
        size = np.abs(self.uniform[self.h :])
        return int(np.flatnonzero(size > 1e-13 * np.abs(self.taper).sum()).max(initial=0))

    def angles(self, highest: int, length: int) -> NDArray[np.float64]:
        """2 pi k j / w for k = 0..highest and j = 0..length - 1.

        The product k j is reduced modulo w in whole numbers: the angle is as exact for high k j as for low.
        """
        return np.asarray(2 * np.pi / self.w * (np.outer(np.arange(highest + 1), np.arange(length)) % self.w))

    @cached_property
    def cosines(self) -> NDArray[np.float64] | None:
        """Of a taper a_0 + sum_t a_t cos(2 pi t j / w): a_0, a_1, .., as few as there are; None for other tapers."""
        spectrum = np.fft.rfft(self.taper) / self.w
        a = np.r_[spectrum.real[0], 2 * spectrum.real[1:]]
        present = np.flatnonzero(np.abs(spectrum) > 1e-13 * np.abs(self.taper).max())
        last = int(present[-1]) if len(present) else 0
        # At w / 2 a cosine has no other to pair with: short windows are left to the other ways.
        skew = np.abs(spectrum.imag).max() > 1e-13 * np.abs(self.taper).max()
        # The mean is taken off by way of a_0, which must not drown in the other terms.
        if last > MAX_TERMS or 2 * last >= self.w or skew or abs(a[0]) < 0.01 * np.abs(a).max():
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
        # Frequency c1 + r1 (c2 + r2 (c3 + ..)) comes from part c1, and of that from part c2, and of that ..
        places = np.arange(n // radices[-1]).reshape(radices[:-1]).transpose().ravel()
        self.frequencies = np.argsort(places).astype(np.int32)

    @staticmethod
    def radices_of(n: int) -> list[int] | None:
        """Factors 4, 2, 3 and 5 of n, in the order of the stages; None if there are others, or fewer than two.

        The last is 4 where there is one: of what it makes, no more than a half is kept with `zoom` 2, a stage of 2
        would make what is not.
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
        """Cost of a transform of length n in stages of radix 4 of as many numbers."""
        return sum({2: 0.6, 3: 0.9, 4: 1.0, 5: 1.5}[radix] for radix in FFT.radices_of(n) or ())


class RowTransform(ABC):
    """Transforms of the pieces of image rows.

    `constants` are the nanoseconds that each of the `terms` of the cost takes.
    """

    constants: ClassVar[tuple[float, ...]]

    @classmethod
    @abstractmethod
    def terms(cls, axis: Axis) -> tuple[float, ...] | None:
        """What makes up the cost of a piece; None if it cannot do this axis."""

    @abstractmethod
    def __init__(self, axis: Axis) -> None: ...

    @abstractmethod
    def scratch(self, width: int, n: int) -> tuple[Array, ...]:
        """Scratch memory of one thread, for n pieces of image rows of some width."""

    @abstractmethod
    def __call__(self, pixels: Array, first: int, rows: Array, sums: Array, scratch: tuple[Array, ...]) -> None:
        """From pixels (y, width) to rows (2, .., n (h + 1) and room for a vector), sums (.., n), from row `first`."""


class Source(NamedTuple):
    """What all ways along y take first; see `transform_windows_products_block` in src/windows.pyx."""

    rows: Array
    first: int
    step: int
    shift: Array
    uniform: Array
    reach: int
    hx: int
    roots: bool
    factor: float
    zero: float


class WindowTransform(ABC):
    """Transforms of the windows of a tile, from the transforms of its image rows.

    `constants` are the nanoseconds that each of the `terms` of the cost takes; `down` is how many windows, one below
    the other, a tile should have, or a multiple of them.
    """

    constants: ClassVar[tuple[float, ...]]
    down: int = 1

    @classmethod
    @abstractmethod
    def terms(cls, axis: Axis, columns: int) -> tuple[float, ...] | None:
        """What makes up the cost of a window of so many columns (hx + 1); None if it cannot do this axis."""

    @abstractmethod
    def __init__(self, axis: Axis, columns: int) -> None: ...

    @abstractmethod
    def scratch(self, ld: int, m: int) -> tuple[Array, ...]:
        """Scratch memory of one thread, for m windows down and rows of `ld` numbers."""

    @abstractmethod
    def __call__(self, source: Source, out: Array, scratch: tuple[Array, ...]) -> None:
        """Features of the windows of a tile, out (m, n, d)."""


class ProductRows(RowTransform):
    """Products of even and odd parts with cosines and sines."""

    constants = (50.0, 0.0156)

    @classmethod
    def terms(cls, axis: Axis) -> tuple[float, ...] | None:
        return 1, axis.w * (axis.h + 1)

    def __init__(self, axis: Axis) -> None:
        self.step, self.h, self.taper = axis.step, axis.h, axis.taper.astype(axis.dtype)
        angles = np.pad(axis.angles(axis.h, axis.w // 2 + 1), ((0, -(axis.h + 1) % VECTOR_LANES), (0, 0))).T
        self.cosines = np.cos(angles).astype(axis.dtype, order="C")
        self.minus_sines = -np.sin(angles[1 : (axis.w - 1) // 2 + 1]).astype(axis.dtype, order="C")
        uniform = axis.uniform[axis.h :]
        self.uniform = np.stack([uniform.real, uniform.imag]).astype(axis.dtype)

    def scratch(self, width: int, n: int) -> tuple[Array, ...]:
        dtype, pieces = self.taper.dtype, -(-BATCH // n) * n
        return (
            np.empty(width + 1 + len(self.taper), dtype),
            np.empty((pieces, len(self.cosines)), dtype),
            np.empty((pieces, len(self.minus_sines)), dtype),
            np.empty((2, pieces, self.h + 1), dtype),
        )

    def __call__(self, pixels: Array, first: int, rows: Array, sums: Array, scratch: tuple[Array, ...]) -> None:
        tables = self.cosines, self.minus_sines, self.uniform
        turned, even, odd, products = scratch
        kernels.transform_rows_products_block(
            pixels, self.taper, self.step, *tables, turned, even, odd, products, first, rows, sums
        )


class FFTRows(RowTransform):
    """Fourier transforms of half the length, of several image rows at once."""

    constants = (2.0, 0.07, 0.49)

    @classmethod
    def terms(cls, axis: Axis) -> tuple[float, ...] | None:
        if axis.w % 2 or FFT.radices_of(axis.w // 2) is None:
            return None
        return 1, axis.w * FFT.stages(axis.w // 2), axis.h + 1

    def __init__(self, axis: Axis) -> None:
        self.axis = axis
        self.fft = FFT(axis.w // 2, axis.dtype)
        self.halved = np.ascontiguousarray(axis.taper.reshape(-1, 2).T / 2, axis.dtype)
        turns = np.exp(-2j * np.pi * np.arange(axis.h + 1) / axis.w)
        self.turns = turns.view(float).reshape(-1, 2).astype(axis.dtype)

    def scratch(self, width: int, n: int) -> tuple[Array, ...]:
        size = VECTOR_LANES * (width + 2 * self.axis.w + 2 * self.axis.h + 3 * VECTOR_LANES)
        return aligned(size, self.axis.dtype), np.empty(VECTOR_LANES * (width + 1))

    def __call__(self, pixels: Array, first: int, rows: Array, sums: Array, scratch: tuple[Array, ...]) -> None:
        tables = self.fft.radices, self.fft.frequencies, self.fft.twiddles, self.turns
        vectors, totals = scratch
        kernels.transform_rows_fft_block(
            pixels, self.halved, self.axis.step, *tables, vectors, totals, first, rows, sums
        )


class ProductWindows(WindowTransform):
    """Products of even and odd parts with cosines and sines."""

    constants = (0.19, 0.0245, 12.0, 6.5, 0.28)

    @classmethod
    def terms(cls, axis: Axis, columns: int) -> tuple[float, ...] | None:
        products = columns * axis.w, columns * axis.w * (axis.h + 1)
        return *products, *_stores(axis, columns)

    def __init__(self, axis: Axis, columns: int) -> None:
        self.taper = axis.taper.astype(axis.dtype)
        angles = axis.angles(axis.h, axis.w // 2 + 1)
        self.cosines = np.cos(angles).astype(axis.dtype)
        self.sines = np.sin(angles[:, 1 : (axis.w - 1) // 2 + 1]).astype(axis.dtype, order="C")

    def scratch(self, ld: int, m: int) -> tuple[Array, ...]:
        dtype, (u, n_even), n_odd = self.taper.dtype, self.cosines.shape, self.sines.shape[1]
        return aligned((n_even, CHUNK), dtype), aligned((n_odd, CHUNK), dtype), aligned((2, u, 2 * ld), dtype)

    def __call__(self, source: Source, out: Array, scratch: tuple[Array, ...]) -> None:
        even, odd, products = scratch
        kernels.transform_windows_products_block(
            *source, self.taper, self.cosines, self.sines, even, odd, products, out
        )


class FFTWindows(WindowTransform):
    """Fourier transforms of a vector of columns at once."""

    constants = (1.6, 4.5, 25.0, 6.0, 0.13)

    @classmethod
    def terms(cls, axis: Axis, columns: int) -> tuple[float, ...] | None:
        if FFT.radices_of(axis.w) is None:
            return None
        numbers = -(-columns // VECTOR_LANES) * axis.w
        return numbers * FFT.stages(axis.w), numbers * max(0, axis.w - LONG) / axis.w, *_stores(axis, columns)

    def __init__(self, axis: Axis, columns: int) -> None:
        self.taper = axis.taper.astype(axis.dtype)
        self.fft = FFT(axis.w, axis.dtype)

    def scratch(self, ld: int, m: int) -> tuple[Array, ...]:
        return (aligned(4 * VECTOR_LANES * len(self.taper), self.taper.dtype),)

    def __call__(self, source: Source, out: Array, scratch: tuple[Array, ...]) -> None:
        tables = self.fft.radices, self.fft.frequencies, self.fft.twiddles
        kernels.transform_windows_fft_block(*source, self.taper, *tables, scratch[0], out)


class SlidingWindows(WindowTransform):
    """Sums that neighbouring windows share, and a taper that mixes neighbouring frequencies."""

    constants = (2.75, 0.8, 3.7, 14.0, 6.8, 0.2)

    @classmethod
    def terms(cls, axis: Axis, columns: int) -> tuple[float, ...] | None:
        if axis.cosines is None:
            return None
        n, down = len(axis.cosines), cls._down(axis, columns)
        sums = -(-columns // VECTOR_LANES) * (axis.h + n)
        # The rows of two blocks, or of one and the windows that reach into the next, shared by the windows of a tile.
        rows = sums * (axis.w + (down - 1) * axis.step) / (2 * down)
        return rows, rows * (axis.w > 2 * LONG), sums * n, *_stores(axis, columns)

    @staticmethod
    def _down(axis: Axis, columns: int) -> int:
        """Windows that start in one block of w rows, unless a tile of them would be too large."""
        window_bytes = (2 * axis.h + 1) * columns * axis.dtype.itemsize
        return min(-(-axis.w // axis.step), max(1, SLIDING_TILE_BYTES // window_bytes))

    def __init__(self, axis: Axis, columns: int) -> None:
        assert axis.cosines is not None
        self.axis = axis
        self.down = self._down(axis, columns)
        angles = axis.angles(axis.h + len(axis.cosines) - 1, axis.w)
        self.cosines, self.sines = np.cos(angles).astype(axis.dtype), np.sin(angles).astype(axis.dtype)

    def mixing(self, m: int) -> Array:
        """How the frequencies of window 0..m - 1 of a tile mix, (m, 1 + 2 T): see src/sliding.h."""
        a = self.axis.cosines
        assert a is not None
        mixing = np.full((m, 2 * len(a) - 1), a[0])
        turn = 2 * np.pi / self.axis.w * (np.arange(m)[:, None] * self.axis.step * np.arange(1, len(a)) % self.axis.w)
        mixing[:, 1::2], mixing[:, 2::2] = a[1:] / 2 * np.cos(turn), a[1:] / 2 * np.sin(turn)
        return mixing.astype(self.axis.dtype)

    def scratch(self, ld: int, m: int) -> tuple[Array, ...]:
        mixing = self.mixing(m)
        pairs = (m - 1) * self.axis.step + self.axis.w + 2 * mixing.size
        return mixing, aligned(2 * VECTOR_LANES * pairs, self.axis.dtype)

    def __call__(self, source: Source, out: Array, scratch: tuple[Array, ...]) -> None:
        mixing, vectors = scratch
        kernels.transform_windows_sliding_block(*source, self.cosines, self.sines, mixing[: len(out)], vectors, out)


Transform = TypeVar("Transform", RowTransform, WindowTransform)

ROWS: tuple[type[RowTransform], ...] = (ProductRows, FFTRows)
WINDOWS: tuple[type[WindowTransform], ...] = (ProductWindows, FFTWindows, SlidingWindows)


def _stores(axis: Axis, columns: int) -> tuple[float, float, float]:
    """What the features of a window cost, however they are made: vectors, or number by number where they are narrow."""
    ky = 2 * axis.h + 1
    return 1, ky * -(-columns // VECTOR_LANES), ky * columns * (columns < VECTOR_LANES)


def cost(way: type[Transform], *geometry: Any) -> float | None:
    """Nanoseconds a piece or a window of one core with AVX-512, by the model; None if it cannot be done this way."""
    terms = way.terms(*geometry)
    return None if terms is None else math.fsum(a * b for a, b in zip(way.constants, terms, strict=True))


class NoWayError(ValueError):
    """None of the ways can transform this axis; products always can."""


def fastest(ways: Iterable[type[Transform]], axis: Axis, *geometry: int) -> Transform:
    """The way of least cost, made for an axis."""
    costs = {way: cost(way, axis, *geometry) for way in ways}
    possible = {way: found for way, found in costs.items() if found is not None}
    if not possible:
        raise NoWayError(f"no way to transform windows of {axis.w} px among {[way.__name__ for way in costs]}")
    return min(possible, key=lambda way: possible[way])(axis, *geometry)
