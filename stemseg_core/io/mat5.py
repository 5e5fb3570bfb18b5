"""MATLAB's .mat files of version 5 to 7, read element by element: every size is checked against what there is.

SciPy's reader ends the process where a number of a type is wrong, and reads the whole of an array to describe it.

Source: MathWorks, MAT-File Format, "Level 5 MAT-File Format". Tests: tests/test_mat.py.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

#: Bytes of the header of a file. A fact of the format.
HEADER = 128
#: Types of numbers by their numbers in the format; those of elements that hold others; and of texts and dimensions.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, COMPRESSED = 14, 15
#: MATLAB's classes of arrays: of numbers, and others by name.
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
OTHERS = {1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 16: "function", 17: "object"}
STRUCT = 2
#: Bytes of a compressed array that are unpacked to describe it: its name and sizes are among the first. Twice as many:
#: longer names are understood, and describing many arrays takes longer.
HEAD = 1 << 16
#: Most structures within another. Twice as many: deeper ones are looked into.
DEEPEST = 8


@dataclass(frozen=True)
class Variable:
    """An array of a file, or what is none.

    Attributes
    ----------
    path : str
        Its name, after those of the structures that it is in.
    kind : str
        "numbers", or the class of what is no array of them.
    shape : tuple of int
    dtype, stored : str
        NumPy's types of its values and of how they are stored, in the byte order of the file.
    place : tuple of int
        Where the element lies in the file that it is in: first byte and size.
    start : int
        Where its values begin: in the file, or in what is unpacked of that element.
    compressed : bool
    complex : bool
        Whether imaginary parts follow.
    """

    path: str
    kind: str
    shape: tuple[int, ...] = ()
    dtype: str = ""
    stored: str = ""
    place: tuple[int, int] = (0, 0)
    start: int = 0
    compressed: bool = False
    complex: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of its values as they are stored."""
        return math.prod(self.shape) * np.dtype(self.stored).itemsize if self.stored else 0


@dataclass(frozen=True)
class _Source:
    """What is parsed: the beginning of an element, unpacked, or all of it; and where the element lies in its file."""

    content: bytes
    order: str
    place: tuple[int, int]
    compressed: bool


def is_version_5(path: Path) -> bool:
    """Whether a file has a header of version 5 to 7."""
    with path.open("rb") as stream:
        head = stream.read(HEADER)
    return len(head) == HEADER and head[126:] in (b"IM", b"MI")


def variables(path: Path, largest_structure: int) -> list[Variable]:
    """Arrays of a file, and those in structures of at most so many bytes.

    Raises
    ------
    ValueError
        If an element is not as the format has it, or longer than what it is in.
    """
    found: list[Variable] = []
    total = path.stat().st_size
    with path.open("rb") as stream:
        order = "<" if stream.read(HEADER)[126:] == b"IM" else ">"
        at = HEADER
        while at + 8 <= total:
            stream.seek(at)
            kind, start, size, following = _element(stream.read(8), 0, order)
            place, at = (at + start, size), at + (start + size if kind == COMPRESSED else following)
            if place[0] + size > total:
                raise ValueError(f"an element of {size} bytes is longer than the file")
            if kind in (MATRIX, COMPRESSED):
                try:
                    found += _described(stream, place, order, kind == COMPRESSED, largest_structure)
                except ValueError as error:  # one damaged array does not sink the others
                    found.append(Variable(f"array {len(found)}", f"damaged array ({error})"))
    return found


def _described(
    stream: BinaryIO, place: tuple[int, int], order: str, compressed: bool, largest_structure: int
) -> list[Variable]:
    """The array of one element of a file, or those in a structure."""
    stream.seek(place[0])
    content, first, length = stream.read(min(place[1], HEAD)), 0, place[1]
    if compressed:
        content = _unpacked(content, HEAD)
        kind, first, length, _ = _element(content, 0, order)
        if kind != MATRIX:
            return []
    if _class(content, first, order) == STRUCT and length <= largest_structure:
        stream.seek(place[0])
        content = stream.read(place[1])
        content = _unpacked(content, first + length) if compressed else content
    return list(_matrix(_Source(content, order, place, compressed), first, length))


def values(path: Path, variable: Variable) -> NDArray[Any]:
    """Values of an array, (...) in MATLAB's order of axes: a memory map of those that lie in the file as they are."""
    with path.open("rb") as stream:
        order = "<" if stream.read(HEADER)[126:] == b"IM" else ">"
        stored = np.dtype(order + variable.stored)
        if not variable.compressed and not variable.complex:
            found: NDArray[Any] = np.memmap(path, stored, "r", variable.start, variable.shape, "F")
        else:
            stream.seek(variable.place[0])
            content = stream.read(variable.place[1])
            if variable.compressed:
                # of complex numbers, a second part with a header before it
                content, start = _unpacked(content, variable.start + 2 * variable.nbytes + 64), variable.start
            else:
                start = variable.start - variable.place[0]
            found = _array(content, start, stored, variable.shape)
            if variable.complex:
                _, start, size, _ = _element(content, start + found.nbytes + -found.nbytes % 8, order)
                if size != found.nbytes:
                    raise ValueError("imaginary parts are not as many as real ones")
                both = np.empty(variable.shape, complex)
                both.real, both.imag = found, _array(content, start, stored, variable.shape)
                return both
    wanted = np.dtype(variable.dtype)
    return found if found.dtype.newbyteorder("=") == wanted else found.astype(wanted)


def _array(content: bytes, start: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(content, dtype, math.prod(shape), start).reshape(shape, order="F")


def _unpacked(packed: bytes, most: int) -> bytes:
    """The beginning of what is compressed."""
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error as error:
        raise ValueError(f"a compressed element cannot be unpacked ({error})") from None


def _element(content: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Type of an element, first byte and size of what it holds, and where the next begins."""
    if at + 8 > len(content):
        raise ValueError("an element is cut off")
    kind, size = struct.unpack_from(order + "II", content, at)
    if kind >> 16:  # a small one: size and type share four bytes
        return kind & 0xFFFF, at + 4, kind >> 16, at + 8
    return kind, at + 8, size, at + 8 + size + -size % 8


def _class(content: bytes, at: int, order: str) -> int:
    """MATLAB's class of the matrix that begins there."""
    _, start, size, _ = _element(content, at, order)
    return struct.unpack_from(order + "I", content, start)[0] & 0xFF if size == 8 and start + 8 <= len(content) else 0


def _matrix(source: _Source, at: int, length: int, path: str = "", depth: int = 0) -> Iterator[Variable]:
    """The array of a matrix of `length` bytes from `at` on, or those in a structure."""
    content, order, end = source.content, source.order, at + length
    _, start, size, at = _element(content, at, order)
    if size != 8 or start + 8 > len(content):
        raise ValueError("a matrix has no flags")
    flags = struct.unpack_from(order + "I", content, start)[0]
    kind, start, size, at = _element(content, at, order)
    if kind != 5 or size % 4 or not 8 <= size <= 128 or start + size > len(content):
        raise ValueError("a matrix has no sizes")
    shape = tuple(int(n) for n in np.frombuffer(content, order + "i4", size // 4, start))
    _, start, size, at = _element(content, at, order)
    name = content[start : start + size].decode("latin-1").rstrip("\x00")
    path = "/".join(part for part in (path, name) if part)
    if not path:  # data of MATLAB's own, for its objects
        return
    if min(shape) < 0:
        raise ValueError(f"a size of {path} is negative")
    number = flags & 0xFF
    if number == STRUCT and math.prod(shape) == 1 and end <= len(content) and depth < DEEPEST:
        yield from _fields(source, at, end, path, depth)
    elif number not in CLASSES:
        if depth == 0:
            yield Variable(path, OTHERS.get(number, "unknown class"))
    elif math.prod(shape):
        kind, start, size, _ = _element(content, at, order)
        stored = NUMBERS.get(kind, "")
        if not stored or size != math.prod(shape) * np.dtype(stored).itemsize or start + size > end:
            raise ValueError(f"{path} promises other than {size} bytes of values")
        dtype = "?" if flags & 0x200 else CLASSES[number]
        start += 0 if source.compressed else source.place[0]
        complex_ = bool(flags & 0x800)
        yield Variable(path, "numbers", shape, dtype, stored, source.place, start, source.compressed, complex_)


def _fields(source: _Source, at: int, end: int, path: str, depth: int) -> Iterator[Variable]:
    """Arrays in the fields of a structure of one element."""
    content, order = source.content, source.order
    _, start, size, at = _element(content, at, order)
    if size != 4:
        raise ValueError(f"{path} has no length of its names")
    width = struct.unpack_from(order + "i", content, start)[0]
    _, start, size, at = _element(content, at, order)
    if not 0 < width <= 256 or size % width or start + size > end:
        raise ValueError(f"{path} has no names of fields")
    names = [
        bytes(content[i : i + width]).split(b"\x00")[0].decode("latin-1") for i in range(start, start + size, width)
    ]
    for name in names:
        kind, start, size, at = _element(content, at, order)
        if kind != MATRIX or start + size > end:
            raise ValueError(f"{path}/{name} is no matrix")
        if size:
            yield from _matrix(source, start, size, f"{path}/{name}", depth + 1)
