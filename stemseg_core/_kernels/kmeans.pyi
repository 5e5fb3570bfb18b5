"""Kernels of k-means: see src/kmeans.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

LANES: int
TILE_ROWS: int
DISTANCE_LANES: int

def assign_block(
    X: NDArray[_Floating],
    origin: NDArray[_Floating],
    centers: NDArray[np.float64],
    columns: NDArray[_Floating],
    half_norms: NDArray[np.float64],
    moves: NDArray[np.float64],
    products: NDArray[_Floating],
    touched: NDArray[np.intp],
    labels: NDArray[np.int32],
    gaps: NDArray[_Floating],
) -> tuple[float, int]: ...
def accumulate_block(
    X: NDArray[_Floating],
    origin: NDArray[_Floating],
    old: NDArray[np.int32],
    new: NDArray[np.int32],
    sums: NDArray[np.float64],
    counts: NDArray[np.int64],
) -> None: ...
def distances_block(X: NDArray[_Floating], columns: NDArray[np.float64], out: NDArray[np.float64]) -> None: ...
def own_distances_block(
    X: NDArray[_Floating], centers: NDArray[np.float64], labels: NDArray[np.int32], out: NDArray[np.float64]
) -> None: ...
