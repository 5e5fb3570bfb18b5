"""Kernels of NMF: see src/nmf.pyx."""

from typing import Any

from numpy.typing import NDArray

LANES: int
ROWS: int

def hals_block(B: NDArray[Any], G: NDArray[Any], n_sweeps: int, Z: NDArray[Any]) -> None: ...
def sweep_block(
    X: NDArray[Any],
    V: NDArray[Any],
    G: NDArray[Any],
    n_sweeps: int,
    W: NDArray[Any],
    A: NDArray[Any],
    B: NDArray[Any],
    Wt: NDArray[Any],
    out: NDArray[Any],
    WtX: NDArray[Any],
    WtW: NDArray[Any],
) -> None: ...
def residual_block(X: NDArray[Any], W: NDArray[Any], H: NDArray[Any], out: NDArray[Any]) -> None: ...
