"""Kernels of NMF: see src/nmf.pyx."""

from typing import Any

from numpy.typing import NDArray

def hals_block(B: NDArray[Any], G: NDArray[Any], n_sweeps: int, Z: NDArray[Any]) -> None: ...
def residual_block(
    X: NDArray[Any], W: NDArray[Any], H: NDArray[Any], scratch: NDArray[Any], out: NDArray[Any]
) -> None: ...
