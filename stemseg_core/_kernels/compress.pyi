"""Kernels of `compress`: see src/compress.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

LANES: int
TILE_ROWS: int
ROWS: int

def sum_block(X: NDArray[_Floating], squares: NDArray[np.float64], sums: NDArray[np.float64]) -> None: ...
def center_block(
    X: NDArray[_Floating],
    mean: NDArray[_Floating],
    Y: NDArray[_Floating],
    squares: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None: ...
def project_block(
    X: NDArray[_Floating],
    mean: NDArray[_Floating],
    V: NDArray[_Floating],
    A: NDArray[np.float64],
    squares: NDArray[np.float64] | None,
    sums: NDArray[np.float64] | None,
) -> None: ...
def scatter_block(
    X: NDArray[_Floating],
    mean: NDArray[_Floating],
    V: NDArray[_Floating],
    A: NDArray[np.float64],
    At: NDArray[_Floating],
    Z: NDArray[_Floating],
    squares: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None: ...
