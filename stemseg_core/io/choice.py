"""Which data set of a file is meant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from stemseg_core.io.signals import ImageReadError, Signal


def choose_signal(path: Path, signals: Sequence[Signal], index: int | None) -> Signal:
    """The signal `read_image` takes: number `index`, or the first of those with the largest image."""
    images = [s for s in signals if s.n_frames]
    found = ", ".join(f"{s.index}: {' x '.join(map(str, s.shape)) or 'a single number'} {s.dtype}" for s in signals)
    if index is not None:
        chosen = next((s for s in images if s.index == index), None)
        if chosen is None:
            raise ImageReadError(f"{path.name}: expected signal {index} to be a 2-D image, the file holds ({found})")
        return chosen
    if not images:
        raise ImageReadError(f"{path.name}: expected a 2-D image (y, x), the file holds none ({found or 'no data'})")
    return max(images, key=lambda s: (math.prod(s.frame_shape), s.n_frames == 1, -s.index))
