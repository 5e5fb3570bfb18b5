"""Kernel of Gram matrices: see src/gram.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

ROWS: int
PADDING: int

def gram_block(
    X: NDArray[_Floating],
    mean: NDArray[_Floating],
    panels: NDArray[_Floating],
    G: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> float: ...
