from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]

PANEL_LANES: int
TILE_ROWS: int

def assign_block(
    X: Array,
    origin: Array,
    centers: Array,
    columns: Array,
    half_norms: Array,
    moves: Array,
    products: Array,
    touched: Array,
    labels: Array,
    gaps: Array,
) -> tuple[float, int]: ...
def accumulate_block(X: Array, origin: Array, old: Array, new: Array, sums: Array, counts: Array) -> None: ...
def distances_block(X: Array, columns: Array, out: Array) -> None: ...
def own_distances_block(X: Array, centers: Array, labels: Array, out: Array) -> None: ...
