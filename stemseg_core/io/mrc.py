"""What the header of an MRC file says that RosettaSciIO does not heed: the sign of bytes, the order of bytes, the size.

Source: MRC2014, https://www.ccpem.ac.uk/mrc_format/mrc2014.php; IMOD's flags, https://bio3d.colorado.edu/imod.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stemseg_core.io.signals import ImageReadError

#: Other suffixes under which MRC files of tomography and microscopes go, where they have the stamp.
MRC_SUFFIXES = ("mrcs", "st", "rec", "map")
#: Bytes of the header, before the extended one. A fact of the format.
HEADER = 1024
#: Bytes of a value, by the mode.
BYTES = {0: 1, 1: 2, 2: 4, 3: 4, 4: 8, 6: 2, 12: 2}
#: IMOD's stamp, "IMOD" as a number; bit 0 of the flags behind it says that bytes have a sign.
IMOD = 1146047817
#: The first version whose bytes have a sign.
MRC2014 = 20140


class Header(NamedTuple):
    """Fields of the header: how many values there are, of what mode, and what tells the sign of bytes."""

    nx: int
    ny: int
    nz: int
    mode: int
    smallest: float
    largest: float
    extended: int
    version: int
    stamp: int
    flags: int
    big: bool


def is_mrc(path: Path) -> bool:
    """Whether a file has the stamp of MRC."""
    with path.open("rb") as stream:
        return stream.read(HEADER)[208:211] == b"MAP"


def check_mrc(path: Path) -> None:
    """Refuse a file that is shorter than its header promises, or whose numbers have their large ends first."""
    header, size = _header(path), path.stat().st_size
    if header.big:
        raise ImageReadError(
            f"{path.name}: expected an MRC file of little-endian numbers, these are big-endian; "
            "read it with the package mrcfile and save it again"
        )
    values = header.nx * header.ny * header.nz
    promised = HEADER + header.extended + values * BYTES.get(header.mode, 0)
    if promised > size:
        raise ImageReadError(
            f"{path.name}: expected {promised} bytes by its header ({header.nz} x {header.ny} x {header.nx} values), "
            f"the file has {size}"
        )


def mrc_bytes(path: Path, found: list[dict[str, Any]]) -> None:
    """Bytes get their sign, in place."""
    for one in found:
        if one["data"].dtype == np.uint8 and _are_signed(_header(path)):
            one["data"] = one["data"].view(np.int8)


def _are_signed(header: Header) -> bool:
    """Whether bytes have a sign: by IMOD's flag, by values that only one of the two can have, by the version."""
    if header.stamp == IMOD:
        return bool(header.flags & 1)
    return header.smallest < 0 or (header.version >= MRC2014 and header.largest <= np.iinfo(np.int8).max)


def _header(path: Path) -> Header:
    with path.open("rb") as stream:
        text = stream.read(HEADER)
    if len(text) < HEADER:
        raise ImageReadError(f"{path.name}: expected the {HEADER} bytes of an MRC header, the file has {len(text)}")
    nx, ny, nz, mode = struct.unpack_from("<4I", text)
    smallest, largest = struct.unpack_from("<2f", text, 76)
    (extended,), (version,) = struct.unpack_from("<I", text, 92), struct.unpack_from("<i", text, 108)
    stamp, flags = struct.unpack_from("<2i", text, 152)
    big = text[208:214] == b"MAP \x11\x11"
    return Header(nx, ny, nz, mode, smallest, largest, extended, version, stamp, flags, big)
