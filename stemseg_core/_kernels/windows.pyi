from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)

def fold_along_x_block(
    image: NDArray[Float], taper: NDArray[Float], step: int, even: NDArray[Float], odd: NDArray[Float]
) -> None: ...
def fold_along_y_block(
    rows: NDArray[Float], first: int, taper: NDArray[Float], even: NDArray[Float], odd: NDArray[Float]
) -> None: ...
def power_block(
    even: NDArray[Float], odd: NDArray[Float], shift: NDArray[Float], uniform: NDArray[Float], out: NDArray[Float]
) -> None: ...
def scale_block(out: NDArray[Float], scale: str, gain: float, weight: float, zero: int) -> None: ...
