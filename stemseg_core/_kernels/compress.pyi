"""Kernels of `compress`; see src/compress.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)

def center_block(
    X: NDArray[F], mean: NDArray[F], Y: NDArray[F], squares: NDArray[np.float64], sums: NDArray[np.float64]
) -> None: ...
