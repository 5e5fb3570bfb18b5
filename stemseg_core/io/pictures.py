"""Pictures that Pillow reads.

Tests: tests/test_io.py.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.io.arrays import LARGEST_COMPRESSION
from stemseg_core.io.signals import ImageReadError, Signal

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".pgm", ".ppm")
#: Modes of Pillow with one value a pixel, and NumPy's types of them.
GREY = {"1": "bool", "L": "uint8", "I": "int32", "F": "float32"}
#: What is said of colours of which Pillow keeps the upper half of the bits.
HALVED = "16 bits a colour, of which 8 are read: convert it to TIFF to keep all"

_limit_of_pillow = threading.Lock()


def picture_signals(path: Path) -> list[Signal]:
    """The signal of a picture, its frames in a stack; palettes are looked up."""

    def frame(i: int) -> NDArray[Any]:
        with _opened(path) as picture:
            picture.seek(i)
            return np.array(picture if _is_grey(picture) else picture.convert("RGB"))

    with _opened(path) as picture:
        width, height = picture.size
        frames = getattr(picture, "n_frames", 1)
        dtype = GREY.get(picture.mode, "uint16" if "16" in picture.mode else "uint8")
        bits = 1 if picture.mode in ("1", "P") else 8
        if picture.format == "PNG" and width * height * bits / 8 > path.stat().st_size * LARGEST_COMPRESSION:
            raise ImageReadError(f"{path.name}: {height} x {width} pixels are more than the file can hold")
        colour = not _is_grey(picture)
        notes = _notes(path, colour)
    kind = "stack" if frames > 1 else "colour" if colour else "image"
    shape = (frames, height, width) if frames > 1 else (height, width)
    return [Signal(0, path.stem, shape, dtype, kind, frames, (height, width), frame, notes=notes)]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A picture of any size: whether it fits into memory is looked at before it is decoded, by those who ask for it."""
    from PIL import Image as Picture

    with _limit_of_pillow:
        largest, Picture.MAX_IMAGE_PIXELS = Picture.MAX_IMAGE_PIXELS, None
        try:
            picture = Picture.open(path)
        finally:
            Picture.MAX_IMAGE_PIXELS = largest
    with picture:
        yield picture


def _is_grey(picture: Any) -> bool:
    return picture.mode in GREY or picture.mode.startswith("I;")


def _notes(path: Path, colour: bool) -> tuple[str, ...]:
    """What Pillow does to values: it halves 16-bit colours, and stretches those of PGM and PPM to the whole range."""
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(b"\x89PNG"):
        return (HALVED,) if colour and head[24] == 16 else ()
    words = head.split()
    if words[:1] not in ([b"P5"], [b"P6"]) or len(words) < 4 or not words[3].isdigit():
        return ()
    largest = int(words[3])
    if colour and largest > 255:
        return (HALVED,)
    return () if largest in (255, 65535) else (f"its values, 0 to {largest}, are stretched to the whole range",)
