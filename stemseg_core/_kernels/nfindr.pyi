"""Kernel of N-FINDR: see src/nfindr.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

ROWS: int

def extremes_block(
    Z: NDArray[_Floating],
    W: NDArray[np.float64],
    tile: NDArray[np.float64],
    best: NDArray[np.float64],
    row: NDArray[np.intp],
) -> None: ...
