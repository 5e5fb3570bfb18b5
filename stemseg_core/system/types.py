"""Types that annotations of every room name."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: An array whose type of number is not fixed: mostly float32 or float64, as the rows.
Array = NDArray[Any]
#: Which rows of a source a block holds: a slice, or an array of row numbers.
Index = slice | NDArray[np.intp]
#: What a block function returns to be merged over all blocks.
Partial = tuple[Any, ...]
