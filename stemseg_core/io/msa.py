"""A spectrum as EMSA/MAS (ISO 22029), the exchange format that programs of microscopes read."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Axis
from stemseg_core.system.files import atomic

#: Letters of a comment in one line, of 80 in all. A fact of the format.
LINE = 64


def write_msa(path: str | os.PathLike[str], values: NDArray[np.floating], axis: Axis, title: str = "") -> None:
    """Write a spectrum with its axis; the file appears complete or not at all.

    Parameters
    ----------
    path : str or path-like
    values : ndarray of shape (channels,)
        NaN, a channel that was left out, is written as 0, which a comment says: the format has nothing for it.
    axis : Axis
    title : str

    Notes
    -----
    R. F. Egerton et al., "EMSA/MAS standard file format for spectral data exchange", EMSA Bulletin 21 (1991) 35.
    """
    missing = np.flatnonzero(~np.isfinite(values))
    comment = f"channels left out, written as 0: {', '.join(map(str, missing))}" if missing.size else ""
    about = [
        ("FORMAT", "EMSA/MAS Spectral Data File"),
        ("VERSION", "1.0"),
        ("TITLE", _ascii(title)[:LINE]),
        ("DATE", ""),
        ("TIME", ""),
        ("OWNER", ""),
        ("NPOINTS", f"{len(values)}"),
        ("NCOLUMNS", "1"),
        ("XUNITS", _ascii(axis.units)),
        ("YUNITS", ""),
        ("DATATYPE", "Y"),
        ("XPERCHAN", f"{axis.scale:.12g}"),
        ("OFFSET", f"{axis.offset:.12g}"),
        ("XLABEL", _ascii(axis.name)),
        *(("COMMENT", comment[i : i + LINE]) for i in range(0, len(comment), LINE)),
        ("SPECTRUM", "Spectral Data Starts Here"),
    ]
    lines = [f"#{name:<12}: {value}" for name, value in about]
    lines += [f"{value:.9g}," for value in np.nan_to_num(np.asarray(values, np.float64), posinf=0, neginf=0)]
    lines += ["#ENDOFDATA   : ", ""]
    with atomic(path) as temporary:
        temporary.write_bytes("\r\n".join(lines).encode("ascii"))


def _ascii(text: str) -> str:
    """The text in the letters that the format has."""
    return text.encode("ascii", "replace").decode("ascii")
