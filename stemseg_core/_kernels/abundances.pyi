"""abundances kernels."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

def enumerate_block(
    B: NDArray[_Floating],
    offset: NDArray[np.float64],
    scale: NDArray[np.float64],
    c: NDArray[np.float64],
    G: NDArray[np.float64],
    sizes: NDArray[np.intp],
    members: NDArray[np.intp],
    L: NDArray[np.float64],
    y_c: NDArray[np.float64],
    w: NDArray[np.float64],
    h: NDArray[np.float64],
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
