"""Kernels of abundances: see src/abundances.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

ENUMERATE_MOST: int
WORK_ROWS: int
INDEX_ROWS: int

def products_block(X: NDArray[_Floating], E: NDArray[_Floating], scale: float, B: NDArray[_Floating]) -> None: ...
def enumerate_block(
    B: NDArray[_Floating],
    offset: NDArray[np.float64],
    scale: NDArray[np.float64],
    sum_to_one: bool,
    maps: NDArray[np.float64],
    members: NDArray[np.float64],
    out: NDArray[_Floating],
) -> None: ...
def active_set_block(
    B: NDArray[_Floating],
    offset: NDArray[np.float64],
    scale: NDArray[np.float64],
    c: NDArray[np.float64],
    G: NDArray[np.float64],
    max_iter: int,
    L: NDArray[np.float64],
    work: NDArray[np.float64],
    index: NDArray[np.intp],
    out: NDArray[_Floating],
) -> int: ...
