from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)

def transform_rows_block(
    image: NDArray[Float],
    taper: NDArray[Float],
    step: int,
    cosines: NDArray[Float],
    minus_sines: NDArray[Float],
    turned: NDArray[Float],
    even: NDArray[Float],
    odd: NDArray[Float],
    rows: NDArray[Float],
    sums: NDArray[np.float64],
) -> None: ...
def transform_windows_block(
    rows: NDArray[Float],
    first: int,
    step: int,
    taper: NDArray[Float],
    cosines: NDArray[Float],
    sines: NDArray[Float],
    shift: NDArray[Float],
    uniform: NDArray[Float],
    even: NDArray[Float],
    odd: NDArray[Float],
    products: NDArray[Float],
    out: NDArray[Float],
) -> None: ...
def scale_block(out: NDArray[Float], scale: str, gain: float, weight: float, zero: int) -> None: ...
