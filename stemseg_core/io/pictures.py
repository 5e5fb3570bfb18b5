"""Pictures that Pillow reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.signals import Signal

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm")


def picture_signals(path: Path) -> list[Signal]:
    """The signal of a picture, its frames in a stack."""
    from PIL import Image as Picture

    def frame(i: int) -> NDArray[Any]:
        with Picture.open(path) as picture:
            picture.seek(i)
            grey = picture.mode in ("1", "L", "I", "F") or picture.mode.startswith("I;")
            return np.array(picture if grey else picture.convert("RGB"))

    with Picture.open(path) as picture:
        width, height = picture.size
        frames = getattr(picture, "n_frames", 1)
        dtype = {"1": "bool", "I": "int32", "F": "float32"}.get(
            picture.mode, "uint16" if "16" in picture.mode else "uint8"
        )
        colour = picture.mode not in ("1", "L", "I", "F") and not picture.mode.startswith("I;")
    kind = "stack" if frames > 1 else "colour" if colour else "image"
    shape = (frames, height, width) if frames > 1 else (height, width)
    return [Signal(0, path.stem, shape, dtype, kind, frames, (height, width), frame)]
