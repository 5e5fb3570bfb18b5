"""The sizes of the windows of `segment`: those that are asked for, or that suit the image, and their steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stemseg_core.system.errors import ParameterError
from stemseg_core.windows.images import pair

#: (y, x) in pixels.
Size = tuple[int, int]


def window_sizes(window: Any, windows: Any, suited: Size) -> list[Size]:
    """The sizes of windows that are asked for: that of the maps, then others; the one that suits if none is."""
    if windows is None:
        return [suited if window is None else pair("window", window)]
    if not isinstance(windows, Sequence | np.ndarray) or isinstance(windows, str) or not len(windows):
        raise ParameterError(f"`windows` must be a sequence of window sizes, got {windows!r}", windows=windows)
    sizes = largest_first({pair("windows", size) for size in windows})
    maps = sizes[min(1, len(sizes) - 1)] if window is None else pair("window", window)
    if maps not in sizes:
        raise ParameterError(
            "`window=`, the one of the maps, must be one of `windows=`", window=window, windows=windows
        )
    return [maps, *(size for size in sizes if size != maps)]


def largest_first(sizes: set[Size]) -> list[Size]:
    """By falling area."""
    return sorted(sizes, key=lambda size: (-size[0] * size[1], size))


def step_of(window: Size, step: Any) -> Size:
    """`step`, or an eighth of the window."""
    return (max(1, window[0] // 8), max(1, window[1] // 8)) if step is None else pair("step", step)


def coarser(step: Size, window: Size, parts: int) -> Size:
    """`step`, or one of `parts` in a side of the window if that is larger."""
    return max(step[0], window[0] // parts), max(step[1], window[1] // parts)


def sizes_around(window: Size, shape: tuple[int, ...]) -> list[Size]:
    """Sizes of windows: that of the maps, that for the lattices, and a smaller one for the boundaries."""
    (y, x), (height, width) = window, shape[-2:]
    large = max(y, min(2 * y, height // 2)), max(x, min(2 * x, width // 2))
    return [window, large, (3 * y // 4, 3 * x // 4)]
