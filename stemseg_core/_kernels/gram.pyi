"""Kernel of Gram matrices; see src/gram.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)

ROWS: int
PADDING: int

def gram_block(
    X: NDArray[F], mean: NDArray[F], panels: NDArray[F], G: NDArray[np.float64], sums: NDArray[np.float64]
) -> float: ...
