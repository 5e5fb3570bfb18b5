"""Kernels of the image rows of a strip of windows: see src/strips.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

def move_rows_block(rows: NDArray[_Floating], sums: NDArray[np.float64], start: int, count: int) -> None: ...
def window_means_block(
    sums: NDArray[np.float64],
    first: int,
    step: int,
    wy: int,
    wx: int,
    totals: NDArray[np.float64],
    means: NDArray[_Floating],
) -> None: ...
def transform_rows_products_block(
    image: NDArray[_Floating],
    taper: NDArray[_Floating],
    step: int,
    cosines: NDArray[_Floating],
    minus_sines: NDArray[_Floating],
    taper_spectrum: NDArray[_Floating],
    mirror: NDArray[_Floating],
    even: NDArray[_Floating],
    odd: NDArray[_Floating],
    products: NDArray[_Floating],
    first: int,
    rows: NDArray[_Floating],
    sums: NDArray[np.float64],
) -> None: ...
def fft_rows_scratch(width: int, w: int, h: int, itemsize: int) -> tuple[int, int]: ...
def transform_rows_fft_block(
    image: NDArray[_Floating],
    halved: NDArray[_Floating],
    step: int,
    radices: NDArray[np.int32],
    frequencies: NDArray[np.int32],
    twiddles: NDArray[_Floating],
    turns: NDArray[_Floating],
    vectors: NDArray[_Floating],
    totals: NDArray[np.float64],
    first: int,
    rows: NDArray[_Floating],
    sums: NDArray[np.float64],
) -> None: ...
