"""Kernels of the window features: see src/windows.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

WIDEST_BYTES: int
WIDEST_LANES: int
MAX_TERMS: int

def transform_windows_products_block(
    rows: NDArray[_Floating],
    first: int,
    step: int,
    shift: NDArray[_Floating],
    taper_spectrum: NDArray[_Floating],
    reach: int,
    hx: int,
    roots: bool,
    factor: float,
    zero: float,
    taper: NDArray[_Floating],
    cosines: NDArray[_Floating],
    sines: NDArray[_Floating],
    even: NDArray[_Floating],
    odd: NDArray[_Floating],
    products: NDArray[_Floating],
    out: NDArray[_Floating],
) -> None: ...
def fft_windows_scratch(w: int, itemsize: int) -> int: ...
def transform_windows_fft_block(
    rows: NDArray[_Floating],
    first: int,
    step: int,
    shift: NDArray[_Floating],
    taper_spectrum: NDArray[_Floating],
    reach: int,
    hx: int,
    roots: bool,
    factor: float,
    zero: float,
    taper: NDArray[_Floating],
    radices: NDArray[np.int32],
    frequencies: NDArray[np.int32],
    twiddles: NDArray[_Floating],
    vectors: NDArray[_Floating],
    out: NDArray[_Floating],
) -> None: ...
def sliding_scratch(m: int, step: int, w: int, terms: int, itemsize: int) -> int: ...
def transform_windows_sliding_block(
    rows: NDArray[_Floating],
    first: int,
    step: int,
    shift: NDArray[_Floating],
    taper_spectrum: NDArray[_Floating],
    reach: int,
    hx: int,
    roots: bool,
    factor: float,
    zero: float,
    cosines: NDArray[_Floating],
    sines: NDArray[_Floating],
    mixing: NDArray[_Floating],
    vectors: NDArray[_Floating],
    out: NDArray[_Floating],
) -> None: ...
def finish_block(out: NDArray[_Floating], scale: str, gain: float, weight: float, zero: int) -> None: ...
