r"""Units of axes, understood rather than matched: what kind of quantity a text such as "1/nm" or "[n_m^-1]" measures.

The grammar is that of the field's files: SI prefixes before symbols and names, products, quotients and powers in any of
their spellings (``1/nm``, ``nm^-1``, ``nm**-1``, ``nm-1``, ``nm⁻¹``), NCEM's underscore (``n_m``), ImageJ's
``\u00B5m``, both micro signs, all spellings of the angstrom. Exact spellings come first, since case tells milli from
mega; what they do not cover is read without regard to case where one meaning is left (``NM``, ``KeV``).
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from dataclasses import dataclass
from typing import TypeAlias

#: Powers of length, angle, energy, time and pixel.
Powers: TypeAlias = tuple[int, ...]
LENGTH, ANGLE, ENERGY, TIME, PIXEL = ((0,) * i + (1,) + (0,) * (4 - i) for i in range(5))
NONE: Powers = (0,) * 5
#: Factor to the working unit, and powers.
Meaning: TypeAlias = tuple[float, Powers]

#: Kinds of quantities by their powers, and the unit that this package works in.
KINDS: dict[Powers, tuple[str, str]] = {
    NONE: ("none", ""),
    LENGTH: ("length", "nm"),
    tuple(-n for n in LENGTH): ("reciprocal length", "1/nm"),
    ANGLE: ("angle", "mrad"),
    ENERGY: ("energy", "eV"),
    TIME: ("time", "s"),
    PIXEL: ("pixel", "px"),
    tuple(-n for n in PIXEL): ("pixel", "1/px"),
}

PREFIXES = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "c": 1e-2, "d": 0.1, "": 1.0}
LARGE_PREFIXES = {"k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
PREFIX_NAMES = {"femto": "f", "pico": "p", "nano": "n", "micro": "u", "milli": "m", "centi": "c", "deci": "d"} | {
    "kilo": "k",
    "mega": "M",
    "giga": "G",
    "tera": "T",
    "peta": "P",
}

#: Symbols and names that take prefixes: (their spellings, working units in one of them, powers).
PREFIXED: tuple[tuple[tuple[str, ...], float, Powers], ...] = (
    (("m", "meter", "meters", "metre", "metres"), 1e9, LENGTH),
    (("rad", "radian", "radians"), 1e3, ANGLE),
    (("eV", "electronvolt", "electronvolts", "electron_volt", "electron_volts"), 1.0, ENERGY),
    (("s", "sec", "second", "seconds"), 1.0, TIME),
)
#: Those that take none.
PLAIN: tuple[tuple[tuple[str, ...], float, Powers], ...] = (
    (
        ("\u00c5", "A", "\u00e5", "a", "ang", "angstrom", "angstroms", "\u00e5ngstr\u00f6m", "angstr\u00f6m"),
        0.1,
        LENGTH,
    ),
    (("angstroem", "\u00e5ngstr\u00f6ms", "\u00e5ngstrom"), 0.1, LENGTH),
    (("micron", "microns"), 1e3, LENGTH),
    (("inch", "inches", "in"), 2.54e7, LENGTH),
    (("deg", "degree", "degrees", "\u00b0"), 1e3 * math.pi / 180, ANGLE),
    (("min", "minute", "minutes"), 60.0, TIME),
    (("h", "hr", "hour", "hours"), 3600.0, TIME),
    (("px", "pix", "pixel", "pixels", "voxel", "voxels"), 1.0, PIXEL),
)
#: Texts with which files say that they have no unit.
NOTHING = (
    "",
    "none",
    "null",
    "<undefined>",
    "undefined",
    "unknown",
    "unitless",
    "dimensionless",
    "generic",
    "-",
    "_",
    "n/a",
)

#: Characters that mean the same, once compatible forms are one (NFKC: the micro sign is mu, superscripts are digits).
SAME = str.maketrans({"\u03bc": "u", "\u2212": "-", "\u00b7": "*", "\u22c5": "*", "\u00d7": "*", "\u2215": "/"})
#: UTF-8 that was read as Latin-1 or Windows-1252: micro sign, mu, angstrom, degree.
MISREAD = {"\u00c2\u00b5": "u", "\u00ce\u00bc": "u", "\u00c3\u2026": "\u00c5", "\u00c3\u0085": "\u00c5"} | {
    "\u00c2\u00b0": "\u00b0"
}
#: Most characters of a text that is looked at; twice as many: more rubbish is parsed before it is not understood.
LONGEST = 80

#: Characters one by one: RosettaSciIO's EMD has every unit so, as in "[e_V]".
SPELLED = re.compile(r"[^_](?:_[^_])+")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)(?![^\W\d_])|(?P<word>[^\W\d]+|\u00b0)|"
    r"(?P<power>\*\*|\^)|(?P<sign>[-+])|(?P<other>[*/()]))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Unit:
    """What a text says about the unit of an axis.

    Attributes
    ----------
    text : str
        As it came.
    kind : str
        "length", "reciprocal length", "angle", "energy", "time", "pixel", "none" (no unit is given), or "unknown".
    factor : float
        `symbol` in one of this unit: 0.1 for an angstrom. 1 where the kind is "unknown" or "none".
    symbol : str
        The unit that this package works in for such quantities: nm, 1/nm, mrad, eV, s, px; `text` if it is not
        understood.
    """

    text: str
    kind: str
    factor: float
    symbol: str


def parse_unit(text: object) -> Unit:
    r"""What a text says about the unit of an axis; nothing raises, what is not understood is "unknown".

    Parameters
    ----------
    text : str, bytes or other
        None and what is no text at all count as no unit.

    Returns
    -------
    Unit

    Examples
    --------
    >>> from stemseg_core.calibration.units import parse_unit
    >>> parse_unit("[n_m^-1]").kind, parse_unit("\u00c5").factor, parse_unit("furlong").kind
    ('reciprocal length', 0.1, 'unknown')
    """
    if isinstance(text, bytes):
        text = _decoded(text)
    if not isinstance(text, str):
        return Unit("", "none", 1.0, "")
    text = text.strip("\x00 \t\r\n")
    plain = _plain(text)
    if plain.lower() in NOTHING:
        return Unit(text, "none", 1.0, "")
    try:
        factor, powers = _Parser(plain).product()
    except (ValueError, OverflowError, ZeroDivisionError):
        return Unit(text, "unknown", 1.0, text)
    if powers[-1] == -1 and any(powers[:-1]):  # per pixel, which every scale is
        powers = (*powers[:-1], 0)
    if powers not in KINDS or not 0 < factor < math.inf or (powers == NONE and factor != 1):
        return Unit(text, "unknown", 1.0, text)
    kind, symbol = KINDS[powers]
    return Unit(text, kind, factor, symbol)


def nanometres(text: object) -> float | None:
    """How many nm the unit that a text names is long; None if it is no length."""
    unit = parse_unit(text)
    return unit.factor if unit.kind == "length" else None


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _plain(text: str) -> str:
    """The text in few characters: one for each that means the same, without brackets around it."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), text)
    for wrong, right in MISREAD.items():
        text = text.replace(wrong, right)
    text = unicodedata.normalize("NFKC", text).translate(SAME).strip()
    while len(text) > 1 and (text[0], text[-1]) in (("[", "]"), ("(", ")")) and text[-1] not in text[1:-1]:
        text = text[1:-1].strip()
    return text.replace("_", "") if SPELLED.fullmatch(text) else text


def _spellings() -> tuple[dict[str, Meaning], dict[str, Meaning]]:
    """Meanings of words as they are spelled, and of words in small letters where only one is left."""
    exact: dict[str, Meaning] = {}
    folded: dict[str, set[Meaning]] = {}
    prefixes = PREFIXES | LARGE_PREFIXES
    long = {name: prefixes[short] for name, short in PREFIX_NAMES.items()}
    for spellings, factor, powers in PREFIXED:
        for (prefix, size), spelling in itertools.product((prefixes | long).items(), spellings):
            # NCEM writes n_m
            for word in {prefix + spelling, f"{prefix}_{spelling}" if prefix else spelling}:
                exact[word] = meaning = (factor * size, powers)
                # No microscope measures megametres, megaseconds or megaradians; electrons do have MeV.
                if prefix not in LARGE_PREFIXES or prefix == "k" or powers == ENERGY:
                    folded.setdefault(word.lower(), set()).add(meaning)
    for spellings, factor, powers in PLAIN:
        for word in spellings:
            exact[word] = (factor, powers)
            folded[word.lower()] = {(factor, powers)}
    return exact, {word: next(iter(meanings)) for word, meanings in folded.items() if len(meanings) == 1}


EXACT, FOLDED = _spellings()


def _meaning(word: str) -> Meaning:
    """Factor and powers of a word, or of a product with underscores; ValueError if it is not understood."""
    found = EXACT.get(word) or FOLDED.get(word.lower())
    if found:
        return found
    parts = [part for part in word.split("_") if part]
    if len(parts) < 2:
        if len(parts) == 1 and parts[0] != word:
            return _meaning(parts[0])
        raise ValueError(word)
    factors, powers = zip(*map(_meaning, parts), strict=True)
    return math.prod(factors), tuple(map(sum, zip(*powers, strict=True)))


class _Parser:
    """Products of units by descent: ``product = factor ((* | / | per | nothing) factor)*``."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise ValueError("too long for a unit")
        self.tokens: list[tuple[str, str]] = []
        end = 0
        while end < len(text):
            found = _TOKEN.match(text, end)
            if found is None or found.lastgroup is None:
                raise ValueError(text)
            self.tokens.append((found.lastgroup, found[found.lastgroup]))
            end = found.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.at += 1
        return token

    def product(self, closing: str = "") -> Meaning:
        factor, powers = self.power()
        while self.peek()[1] != closing:
            sign = 1
            if self.peek()[1] in ("*", "/") or self.peek()[1].lower() == "per":
                sign = 1 if self.take()[1] == "*" else -1
            more, other = self.power()
            factor *= more**sign
            powers = tuple(n + sign * m for n, m in zip(powers, other, strict=True))
        self.take()
        return factor, powers

    def power(self) -> Meaning:
        kind, text = self.take()
        if kind == "number":
            factor, powers = float(text), NONE
        elif kind == "word":
            factor, powers = _meaning(text)
        elif text == "(":
            factor, powers = self.product(")")
        else:
            raise ValueError(text)
        n = self.exponent(after_word=kind == "word")
        return factor**n, tuple(n * m for m in powers)

    def exponent(self, after_word: bool) -> int:
        """A whole number after ``^`` or ``**``, or after a word alone: ``nm-1``."""
        marked = self.peek()[0] == "power"
        if marked:
            self.take()
        elif not after_word or self.peek()[0] not in ("sign", "number"):
            return 1
        sign = -1 if self.peek() == ("sign", "-") else 1
        if self.peek()[0] == "sign":
            self.take()
        kind, text = self.take()
        if marked and text == "(":
            inner = self.exponent_in_brackets()
            return sign * inner
        if kind != "number" or not text.isascii() or not text.isdigit() or len(text) > 2:
            raise ValueError(text)
        return sign * int(text)

    def exponent_in_brackets(self) -> int:
        sign = -1 if self.peek() == ("sign", "-") else 1
        if self.peek()[0] == "sign":
            self.take()
        number, closing = self.take(), self.take()
        if number[0] != "number" or not number[1].isdigit() or closing[1] != ")" or len(number[1]) > 2:
            raise ValueError(number[1])
        return sign * int(number[1])
