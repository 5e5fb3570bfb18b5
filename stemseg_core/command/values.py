"""Values of options of the command: from the words of a command line."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from stemseg_core.calibration.units import parse_unit
from stemseg_core.phases.scores import AUTO
from stemseg_core.rows.parameters import Parameter
from stemseg_core.system.memory import memory_limit

#: (y, x) and their unit, "px" or "nm".
Size = tuple[tuple[float, float], str]
#: From, to, and their unit as it was given, "" if none was.
Range = tuple[float, float, str]

_NUMBER = r"(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)"
#: A size with or without a unit, and two of them with an x between.
_ONE = re.compile(rf"\s*{_NUMBER}\s*\*?\s*([^\d\s].*)?", re.IGNORECASE)
_TWO = re.compile(rf"\s*{_NUMBER}\s*([^\d\s.x*\u00d7].*?)??\s*[x*\u00d7]\s*{_NUMBER}\s*([^\d\s].*)?", re.IGNORECASE)
#: A number with or without a unit, of any sign.
_SIGNED = re.compile(rf"\s*([-+]?(?:{_NUMBER[1:-1]}))\s*((?:1/)?[^\d\s].*)?", re.IGNORECASE)


def parse_size(text: str) -> Size:
    """``"64"``, ``"3nm"``, ``"0.2x0.3A"``, ``"20 pm/px"`` as ((y, x), unit): any length in "nm", the others in "px"."""
    if two := _TWO.fullmatch(text):
        y, y_unit, x, x_unit = two.groups()
    elif one := _ONE.fullmatch(text):
        y, x_unit = one.groups()
        x, y_unit = y, x_unit
    else:
        raise _no_size(text)
    sizes, units = [float(y), float(x)], [parse_unit(y_unit or x_unit), parse_unit(x_unit)]
    if 0 in sizes:
        raise argparse.ArgumentTypeError(f"expected a size larger than 0, got {text!r}")
    kinds = {unit.kind for unit in units}
    if kinds <= {"none", "pixel"}:
        unit = "px"
    elif kinds == {"length"}:
        sizes, unit = [size * unit.factor for size, unit in zip(sizes, units, strict=True)], "nm"
    else:
        raise _no_size(text)
    if not all(0 < size < math.inf for size in sizes):
        raise _no_size(text)
    return (sizes[0], sizes[1]), unit


def _no_size(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(
        f"expected a size such as 64, 64x96, 3nm or 0.2A (px or any length), got {text!r}"
    )


def parse_sizes(text: str) -> list[Size]:
    """Sizes with commas between them."""
    return [parse_size(part) for part in text.split(",")]


def whole(least: int) -> Callable[[str], int]:
    """What reads whole numbers from `least` on."""

    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, at least {least}, got {text!r}")
        return int(text)

    return number


def parse_number(text: str) -> float:
    """A number from 0 on."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number, at least 0, got {text!r}")
    return number


def parse_phases(text: str) -> int | str:
    """How many phases, or `AUTO`."""
    if text == AUTO:
        return AUTO
    try:
        return whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or {AUTO!r}") from None


def parse_taper(text: str) -> str | tuple[str | float, ...]:
    """A name, or a name and its parameters."""
    name, *parameters = text.split(",")
    try:
        return (name, *map(float, parameters)) if parameters else name
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a name, or name,number such as 'kaiser,8', got {text!r}") from None


def parse_frame(text: str) -> int | tuple[int, ...] | str:
    """The number of an image, one for each axis of a stack of several, or "mean"."""
    if text == "mean":
        return text
    numbers = tuple(map(whole(0), text.split(",")))
    return numbers if len(numbers) > 1 else numbers[0]


def parse_range(text: str) -> Range:
    """``"450:720eV"``, ``"0.2keV:8keV"``, ``"5:30"``."""
    low, colon, high = text.partition(":")
    ends = [_SIGNED.fullmatch(part) for part in (low, high)]
    if not colon or ends[0] is None or ends[1] is None:
        raise _no_range(text)
    (first, first_unit), (last, last_unit) = (end.groups(default="") for end in ends if end)
    unit, other = parse_unit(last_unit), parse_unit(first_unit or last_unit)
    if unit.kind == "unknown" or unit.kind != other.kind:
        raise _no_range(text)
    start, stop = float(first) * other.factor / unit.factor, float(last)
    if not -math.inf < start < stop < math.inf:
        raise _no_range(text)
    return start, stop, last_unit.strip()


def _no_range(text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"expected from:to and a unit, such as 450:720eV, the lower first; got {text!r}")


def parse_bins(text: str) -> int | tuple[int, ...]:
    """A whole number, or several with commas between them."""
    numbers = tuple(map(whole(1), text.split(",")))
    return numbers if len(numbers) > 1 else numbers[0]


def parse_folder(text: str) -> Path:
    """The name of a folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, got an empty text")
    return Path(text)


def parse_memory(text: str) -> str:
    """A size of memory."""
    try:
        memory_limit(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a size such as 4GB or 500MB, got {text!r}") from None
    return text


#: What reads the values of each kind of parameter that is no choice and no switch.
READERS: dict[str, Callable[[str], object]] = {
    "number": parse_number,
    "frequency": parse_number,
    "size": parse_size,
    "length": parse_size,
    "sizes": parse_sizes,
    "file": Path,
    "phases": parse_phases,
    "taper": parse_taper,
    "frame": parse_frame,
    "range": parse_range,
    "bins": parse_bins,
    "seed": whole(0),
    "jobs": int,
    "memory": parse_memory,
}


def reader(parameter: Parameter) -> Callable[[str], object]:
    """What reads the values of a parameter."""
    return whole(int(parameter.low)) if parameter.kind == "whole" else READERS[parameter.kind]
