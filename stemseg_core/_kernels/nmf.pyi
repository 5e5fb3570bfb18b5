"""Kernels of NMF: see src/nmf.pyx."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Floating = TypeVar("_Floating", np.float32, np.float64)

LANES: int
ROWS: int

def hals_block(B: NDArray[_Floating], G: NDArray[_Floating], n_sweeps: int, Z: NDArray[_Floating]) -> None: ...
def sweep_block(
    X: NDArray[_Floating],
    V: NDArray[np.float64],
    G: NDArray[np.float64],
    n_sweeps: int,
    W: NDArray[np.float64],
    A: NDArray[np.float64],
    B: NDArray[np.float64],
    Wt: NDArray[np.float64],
    out: NDArray[np.float64],
    WtX: NDArray[np.float64],
    WtW: NDArray[np.float64],
) -> None: ...
def residual_block(
    X: NDArray[_Floating], W: NDArray[_Floating], H: NDArray[np.float64], out: NDArray[np.float64]
) -> None: ...
