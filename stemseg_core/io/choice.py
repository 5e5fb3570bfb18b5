"""Which data set of a file is meant: the largest image, of those of one size that of a detector, as it was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from stemseg_core.io.kinds import IMAGES
from stemseg_core.io.signals import ImageReadError, Signal

#: Words of titles of detectors, the best for a lattice first: each word is a rank.
DETECTORS = (r"haadf", r"m?l?aadf|adf|df\d*|dark.?field", r"a?bf\d*|bright.?field|stem|se\d?|bse|tem|survey|navigator")
#: Titles of maps made from spectra or of other images: elements and lines, differences, transforms, previews.
DERIVED = (
    r"(?:[A-Z][a-z]?)(?:[ _-]?(?:[KLM]\d?|[KLM]a|[KLM]\u03b1|K-?alpha|EELS|EDS|EDX))?(?: map)?"
    r"|(?i:.*\b(?:fft|power spectrum|i?d?dpc|com|difference|diff|preview|thumbnail|mask|labels?|composite|overlay)\b.*)"
    r"|[A-D] ?- ?[A-D]"
)
#: What a command of ours makes of data that are no image.
UNMIX = "'stemseg unmix' takes it"
#: Kinds of data sets that it takes.
CUBES = ("cube", "scan")
#: Data sets in words, by kind.
WORDS = {
    "cube": "a spectrum for each pixel",
    "scan": "a pattern for each pixel",
    "pattern": "a diffraction pattern",
    "spectra": "spectra",
    "other": "no image",
}


def choose_signal(path: Path, signals: Sequence[Signal], index: int | None, frame: object = None) -> Signal:
    """The signal that `read_image` takes.

    Parameters
    ----------
    path : Path
        For messages.
    signals : sequence of Signal
    index : int or None
        Of the signal that is asked for; None for the image that is meant.
    frame : object
        Whatever a user gave: with it, a channel of a cube or a pattern of a scan is an image, too.

    Raises
    ------
    ImageReadError
        If there is none; the message says what there is, and which command takes it.
    """
    if index is not None:
        chosen = next((s for s in signals if s.index == index), None)
        if chosen is None or not chosen.n_frames:
            raise ImageReadError(
                f"{path.name}: expected `signal=` to be an image, it holds {in_words(signals)}", signal=index
            )
        candidates = [chosen]
    else:
        candidates = [s for s in signals if s.n_frames]
    usable = [s for s in candidates if s.kind in IMAGES] or [s for s in candidates if s.kind == "pattern"]
    if not usable and frame is not None:
        usable = candidates
    if usable:
        return max(usable, key=_rank)
    if candidates:
        cube = max(candidates, key=lambda s: math.prod(s.shape))
        what = f"signal {cube.index} ({cube.title}, {_sizes(cube)}) is {WORDS[cube.kind]}"
        raise ImageReadError(
            f"{path.name}: expected an image, {what}: {UNMIX}; `frame` takes one of its "
            f"{'channels' if cube.kind == 'cube' else 'patterns'} as an image",
            frame=frame,
        )
    raise ImageReadError(f"{path.name}: expected a 2-D image (y, x), it holds none: {in_words(signals)}")


def others(chosen: Signal, signals: Sequence[Signal]) -> str | None:
    """A note on what was taken, where there was a choice."""
    rest = [s for s in signals if s.index != chosen.index and s.n_frames]
    if not rest:
        return None
    alike = any(s.title == chosen.title for s in rest)  # then titles do not tell
    words = [f"{s.index}: {s.title}" + (f" ({_sizes(s)} {s.dtype})" if alike else "") for s in rest[:5]]
    listed = ", ".join(words) + (", ..." if len(rest) > 5 else "")
    return f"taken: signal {chosen.index}, {chosen.title!r}; others there are: {listed}"


def in_words(signals: Sequence[Signal]) -> str:
    """What a file holds, for messages."""
    found = [f"{s.index}: {_sizes(s)} {s.dtype}{_what(s)}" for s in signals]
    return ("; ".join(found[:5]) or "no data") + ("; ..." if len(found) > 5 else "")


def _what(signal: Signal) -> str:
    """What a data set is, if it is no image."""
    if signal.dtype.startswith("complex"):
        return ", no image: segment its modulus or its phase"
    return f", {WORDS[signal.kind]}" if signal.kind in WORDS else ""


def _rank(signal: Signal) -> tuple[object, ...]:
    """Larger for what is meant rather: see the module's first line, and `DETECTORS`."""
    return (
        signal.kind != "pattern",
        math.prod(signal.frame_shape),
        -_role(signal.title),
        signal.kind != "colour",
        signal.dtype not in ("uint8", "int8", "bool"),  # others are what was measured
        signal.pixel_size is not None,
        signal.kind == "image",
        -signal.index,
    )


def _role(title: str) -> int:
    """Smaller for images of detectors, the largest for what was made of spectra or of other images."""
    if re.fullmatch(DERIVED, title.strip()):
        return len(DETECTORS) + 1
    found = (i for i, words in enumerate(DETECTORS) if re.search(rf"(?<![a-z])(?:{words})(?![a-z])", title.lower()))
    return next(found, len(DETECTORS))


def _sizes(signal: Signal) -> str:
    return " x ".join(map(str, signal.shape)) or "a single number"
