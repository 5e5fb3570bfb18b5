from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)

def move_rows_block(rows: NDArray[Float], sums: NDArray[np.float64], start: int, count: int) -> None: ...
def window_means_block(
    sums: NDArray[np.float64],
    first: int,
    step: int,
    wy: int,
    wx: int,
    totals: NDArray[np.float64],
    means: NDArray[Float],
) -> None: ...
def transform_rows_products_block(
    image: NDArray[Float],
    taper: NDArray[Float],
    step: int,
    cosines: NDArray[Float],
    minus_sines: NDArray[Float],
    uniform: NDArray[Float],
    turned: NDArray[Float],
    even: NDArray[Float],
    odd: NDArray[Float],
    products: NDArray[Float],
    first: int,
    rows: NDArray[Float],
    sums: NDArray[np.float64],
) -> None: ...
def transform_rows_fft_block(
    image: NDArray[Float],
    halved: NDArray[Float],
    step: int,
    radices: NDArray[np.int32],
    frequencies: NDArray[np.int32],
    twiddles: NDArray[Float],
    turns: NDArray[Float],
    vectors: NDArray[Float],
    totals: NDArray[np.float64],
    first: int,
    rows: NDArray[Float],
    sums: NDArray[np.float64],
) -> None: ...
def transform_windows_products_block(
    rows: NDArray[Float],
    first: int,
    step: int,
    shift: NDArray[Float],
    uniform: NDArray[Float],
    reach: int,
    hx: int,
    roots: bool,
    factor: float,
    zero: float,
    taper: NDArray[Float],
    cosines: NDArray[Float],
    sines: NDArray[Float],
    even: NDArray[Float],
    odd: NDArray[Float],
    products: NDArray[Float],
    out: NDArray[Float],
) -> None: ...
def transform_windows_fft_block(
    rows: NDArray[Float],
    first: int,
    step: int,
    shift: NDArray[Float],
    uniform: NDArray[Float],
    reach: int,
    hx: int,
    roots: bool,
    factor: float,
    zero: float,
    taper: NDArray[Float],
    radices: NDArray[np.int32],
    frequencies: NDArray[np.int32],
    twiddles: NDArray[Float],
    vectors: NDArray[Float],
    out: NDArray[Float],
) -> None: ...
def transform_windows_sliding_block(
    rows: NDArray[Float],
    first: int,
    step: int,
    shift: NDArray[Float],
    uniform: NDArray[Float],
    reach: int,
    hx: int,
    roots: bool,
    factor: float,
    zero: float,
    cosines: NDArray[Float],
    sines: NDArray[Float],
    mixing: NDArray[Float],
    vectors: NDArray[Float],
    out: NDArray[Float],
) -> None: ...
def finish_block(out: NDArray[Float], scale: str, gain: float, weight: float, zero: int) -> None: ...
