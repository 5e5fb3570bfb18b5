"""Options of the command that stand for parameters in Python: their names, their values, and errors that name them."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from typing import Any

from stemseg_core.io.signals import nanometres

#: (y, x) and their unit.
Size = tuple[tuple[float, float], str]

#: The option for each parameter of `stemseg_core.segment` and of `stemseg_core.io.read_image` that has one.
OPTIONS = {
    "n_phases": "--phases",
    "method": "--method",
    "window": "--window",
    "windows": "--windows",
    "step": "--step",
    "taper": "--taper",
    "zoom": "--zoom",
    "scale": "--scale",
    "k_min": "--k-min",
    "k_max": "--k-max",
    "rotation_invariant": "--rotation-invariant",
    "normalize": "--normalize",
    "rank": "--rank",
    "smooth": "--smooth",
    "whiten": "--whiten",
    "regularize": "--regularize",
    "min_area": "--min-area",
    "signal": "--signal",
    "frame": "--frame",
    "pixel_size": "--pixel-size",
    "mask": "--mask",
    "invalid": "--invalid",
    "random_state": "--seed",
    "n_jobs": "--jobs",
    "max_memory": "--max-memory",
}
#: Those that are an option without a value.
SWITCHES = ("rotation_invariant", "whiten")
#: Sizes, height and width.
SIZES = ("window", "step", "pixel_size")

_VALUE = r"'[^']*'|\([^()]*\)|\[(?:[^\[\]()]|\([^()]*\))*\]|[^\s,;:)]+"
_MENTION = re.compile(rf"\b({'|'.join(OPTIONS)})\b(?:=({_VALUE}))?( must\b)?")


def parse_size(text: str) -> Size:
    """``"64"``, ``"3nm"``, ``"64x96"``, ``"0.2x0.3A"`` as ((y, x), unit): "px" without a unit, any length in "nm"."""
    number = r"(\d+\.?\d*(?:e[-+]?\d+)?|\.\d+)"
    match = re.fullmatch(rf"\s*{number}(?:\s*[x*]\s*{number})?\s*([^\d\s.]*)\s*", text)
    sizes = [float(match[1]), float(match[2] or match[1])] if match else []
    if 0 in sizes:
        raise ValueError(f"expected a size larger than 0, got {text!r}")
    unit = match[3] if match else ""
    if unit.lower() not in ("", "px", "pixel", "pixels"):
        sizes = [length for size in sizes if (length := nanometres(size, unit))]
        unit = "nm"
    if len(sizes) != 2 or not all(size < math.inf for size in sizes):
        raise ValueError(f"expected a size such as 64, 64x96, 3nm or 0.2A (units px, nm, A, pm, um), got {text!r}")
    return (sizes[0], sizes[1]), "nm" if unit == "nm" else "px"


def option(parameter: str, value: Any) -> str:
    """The option with a value of the parameter, as on a command line, not quoted; empty for a switch that is off."""
    if parameter in SWITCHES:
        return OPTIONS[parameter] if value else ""
    if parameter == "windows":
        return f"{OPTIONS[parameter]} {','.join(joined(size, 'x') for size in value)}"
    return f"{OPTIONS[parameter]} {joined(value, 'x' if parameter in SIZES else ',')}"


def joined(value: Any, separator: str) -> str:
    """A value in words, the parts of a sequence with a separator between them."""
    return separator.join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def in_options(message: str) -> str:
    """An error of Python for those who gave options: ``k_min=3`` becomes ``--k-min 3``, and ``n_jobs`` ``--jobs``.

    Parameters whose names are words of English, such as ``window``, are meant where they have a value or "must be".
    """

    def named(match: re.Match[str]) -> str:
        parameter, value, must = match.groups()
        if value is not None:
            try:
                return option(parameter, ast.literal_eval(value)) + (must or "")
            except (ValueError, SyntaxError):
                return f"{OPTIONS[parameter]} {value}{must or ''}"
        return f"{OPTIONS[parameter]}{must or ''}" if must or "_" in parameter else parameter

    return _MENTION.sub(named, message)
