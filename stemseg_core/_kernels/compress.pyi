"""Kernels of `compress`; see src/compress.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", np.float32, np.float64)

ROWS: int
LANES: int

def sum_block(X: NDArray[F], squares: NDArray[np.float64], sums: NDArray[np.float64]) -> None: ...
def center_block(
    X: NDArray[F], mean: NDArray[F], Y: NDArray[F], squares: NDArray[np.float64], sums: NDArray[np.float64]
) -> None: ...
def project_block(
    X: NDArray[F],
    mean: NDArray[F],
    V: NDArray[F],
    A: NDArray[np.float64],
    squares: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None: ...
def scatter_block(
    X: NDArray[F],
    mean: NDArray[F],
    V: NDArray[F],
    A: NDArray[np.float64],
    At: NDArray[F],
    Z: NDArray[F],
    squares: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None: ...
