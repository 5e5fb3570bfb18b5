"""Transforms of windows along one axis, and which of them is the fastest.

Along x, image rows are transformed once for all windows of a column strip: by `ProductRows` or `FFTRows`. Along y,
every window is transformed from these rows: by `ProductWindows`, `FFTWindows` or `SlidingWindows`. All of them give the
same features, to rounding; `fastest` chooses by a model of their costs, whose constants bench/transforms.py measured.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from stemseg_core._kernels import strips as strip_kernels
from stemseg_core._kernels import windows as window_kernels
from stemseg_core.system.types import Array
from stemseg_core.windows.axes import FFT, Axis

#: Pieces of image rows that are multiplied at once: a factor is used often while it is in the first-level cache. Twice
#: as many: pieces may push the factor out of that cache.
BATCH = 32
#: Columns along y that are folded and multiplied at once. Twice as many: they outgrow the first-level cache.
CHUNK = 64
#: Length in numbers from which transforms outgrow the first-level cache; part of the model of costs.
LONG = 128
#: Most bytes of the features of a tile of sliding sums, unless one window has more. Twice as many: fewer rows are
#: summed twice, but tiles outgrow the second-level cache.
SLIDING_TILE_BYTES = 4 << 20


def aligned(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Zeros that start at a multiple of the longest vector: a vector across two cache lines is loaded in two.

    Zeros, since lanes that nobody needs are computed too, and numbers below the smallest normal one take 100 cycles;
    memory whose lanes are all needed may be as it comes.
    """
    dtype = np.dtype(dtype)
    size = int(np.prod(shape))
    raw = np.zeros(size * dtype.itemsize + window_kernels.WIDEST_BYTES, np.uint8)
    start = -raw.ctypes.data % window_kernels.WIDEST_BYTES
    return raw[start : start + size * dtype.itemsize].view(dtype).reshape(shape)


class RowTransform(ABC):
    """Transforms of the pieces of image rows.

    The cost is the sum of the `terms` times their `constants`, in nanoseconds.
    """

    constants: ClassVar[tuple[float, ...]]

    @classmethod
    @abstractmethod
    def terms(cls, axis: Axis) -> tuple[float, ...] | None:
        """Terms of the cost of a piece; None if this axis is beyond it."""

    @abstractmethod
    def __init__(self, axis: Axis) -> None: ...

    @abstractmethod
    def scratch(self, width: int, n: int) -> tuple[Array, ...]:
        """Scratch memory of one thread, for n pieces of image rows of some width."""

    @abstractmethod
    def __call__(self, pixels: Array, first: int, rows: Array, sums: Array, scratch: tuple[Array, ...]) -> None:
        """From pixels (y, width) to rows (2, .., n (h + 1) and room for a vector), sums (.., n), from row `first`."""


class Source(NamedTuple):
    """First arguments of all kernels along y; see `transform_windows_products_block` in src/windows.pyx."""

    rows: Array
    first: int
    step: int
    shift: Array
    taper_spectrum: Array
    reach: int
    hx: int
    roots: bool
    factor: float
    zero: float


class WindowTransform(ABC):
    """Transforms of the windows of a tile, from the transforms of its image rows.

    The cost is the sum of the `terms` times their `constants`, in nanoseconds. A tile should have `down` windows one
    below the other, or a multiple of them.
    """

    constants: ClassVar[tuple[float, ...]]
    down: int = 1

    @classmethod
    @abstractmethod
    def terms(cls, axis: Axis, columns: int) -> tuple[float, ...] | None:
        """Terms of the cost of a window of `columns` (hx + 1); None if this axis is beyond it."""

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
        angles = np.pad(
            axis.angles(axis.h, axis.w // 2 + 1), ((0, -(axis.h + 1) % window_kernels.WIDEST_LANES), (0, 0))
        ).T
        self.cosines = np.cos(angles).astype(axis.dtype, order="C")
        self.minus_sines = -np.sin(angles[1 : (axis.w - 1) // 2 + 1]).astype(axis.dtype, order="C")
        spectrum = axis.taper_spectrum[axis.h :]
        self.taper_spectrum = np.stack([spectrum.real, spectrum.imag]).astype(axis.dtype)

    def scratch(self, width: int, n: int) -> tuple[Array, ...]:
        dtype, pieces = self.taper.dtype, -(-BATCH // n) * n
        return (
            np.empty(width + 1 + len(self.taper), dtype),
            np.empty((pieces, len(self.cosines)), dtype),
            np.empty((pieces, len(self.minus_sines)), dtype),
            np.empty((2, pieces, self.h + 1), dtype),
        )

    def __call__(self, pixels: Array, first: int, rows: Array, sums: Array, scratch: tuple[Array, ...]) -> None:
        tables = self.cosines, self.minus_sines, self.taper_spectrum
        mirror, even, odd, products = scratch
        strip_kernels.transform_rows_products_block(
            pixels, self.taper, self.step, *tables, mirror, even, odd, products, first, rows, sums
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
        axis = self.axis
        n_vectors, n_totals = strip_kernels.fft_rows_scratch(width, axis.w, axis.h, axis.dtype.itemsize)
        return aligned(n_vectors, axis.dtype), np.empty(n_totals)

    def __call__(self, pixels: Array, first: int, rows: Array, sums: Array, scratch: tuple[Array, ...]) -> None:
        tables = self.fft.radices, self.fft.frequencies, self.fft.twiddles, self.turns
        vectors, totals = scratch
        strip_kernels.transform_rows_fft_block(
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
        window_kernels.transform_windows_products_block(
            *source, self.taper, self.cosines, self.sines, even, odd, products, out
        )


class FFTWindows(WindowTransform):
    """Fourier transforms of a vector of columns at once."""

    constants = (1.6, 4.5, 25.0, 6.0, 0.13)

    @classmethod
    def terms(cls, axis: Axis, columns: int) -> tuple[float, ...] | None:
        if FFT.radices_of(axis.w) is None:
            return None
        numbers = -(-columns // window_kernels.WIDEST_LANES) * axis.w
        return numbers * FFT.stages(axis.w), numbers * max(0, axis.w - LONG) / axis.w, *_stores(axis, columns)

    def __init__(self, axis: Axis, columns: int) -> None:
        self.taper = axis.taper.astype(axis.dtype)
        self.fft = FFT(axis.w, axis.dtype)

    def scratch(self, ld: int, m: int) -> tuple[Array, ...]:
        size = window_kernels.fft_windows_scratch(len(self.taper), self.taper.dtype.itemsize)
        return (aligned(size, self.taper.dtype),)

    def __call__(self, source: Source, out: Array, scratch: tuple[Array, ...]) -> None:
        tables = self.fft.radices, self.fft.frequencies, self.fft.twiddles
        window_kernels.transform_windows_fft_block(*source, self.taper, *tables, scratch[0], out)


class SlidingWindows(WindowTransform):
    """Sums that neighbouring windows share, and a taper that mixes neighbouring frequencies."""

    constants = (2.75, 0.8, 3.7, 14.0, 6.8, 0.2)

    @classmethod
    def terms(cls, axis: Axis, columns: int) -> tuple[float, ...] | None:
        if axis.cosines is None:
            return None
        n, down = len(axis.cosines), cls._down(axis, columns)
        sums = -(-columns // window_kernels.WIDEST_LANES) * (axis.h + n)
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
        axis, terms = self.axis, mixing.shape[1] // 2
        size = window_kernels.sliding_scratch(m, axis.step, axis.w, terms, axis.dtype.itemsize)
        return mixing, aligned(size, axis.dtype)

    def __call__(self, source: Source, out: Array, scratch: tuple[Array, ...]) -> None:
        mixing, vectors = scratch
        window_kernels.transform_windows_sliding_block(
            *source, self.cosines, self.sines, mixing[: len(out)], vectors, out
        )


Transform = TypeVar("Transform", RowTransform, WindowTransform)

ROW_TRANSFORMS: tuple[type[RowTransform], ...] = (ProductRows, FFTRows)
WINDOW_TRANSFORMS: tuple[type[WindowTransform], ...] = (ProductWindows, FFTWindows, SlidingWindows)


def _stores(axis: Axis, columns: int) -> tuple[float, float, float]:
    """Terms of the cost of storing the features of a window: one, vectors, and numbers where columns fill no vector."""
    ky = 2 * axis.h + 1
    return 1, ky * -(-columns // window_kernels.WIDEST_LANES), ky * columns * (columns < window_kernels.WIDEST_LANES)


def cost(kind: type[Transform], *geometry: Any) -> float | None:
    """Nanoseconds a piece or a window on one core with AVX-512, by the model; None if the axis is beyond it."""
    terms = kind.terms(*geometry)
    return None if terms is None else math.fsum(a * b for a, b in zip(kind.constants, terms, strict=True))


class NoTransformError(ValueError):
    """The axis is beyond all transforms that may be chosen; `ProductRows` and `ProductWindows` take any."""


def fastest(kinds: Iterable[type[Transform]], axis: Axis, *geometry: int) -> Transform:
    """The transform of least cost, made for an axis."""
    costs = {kind: cost(kind, axis, *geometry) for kind in kinds}
    possible = {kind: found for kind, found in costs.items() if found is not None}
    if not possible:
        raise NoTransformError(f"no transform of windows of {axis.w} px among {[kind.__name__ for kind in costs]}")
    return min(possible, key=lambda kind: possible[kind])(axis, *geometry)
