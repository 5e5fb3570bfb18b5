"""HDF5, the container of many formats: which of them a file is of is told by what it holds, not by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from stemseg_core.io.containers import hdf5_container, members
from stemseg_core.io.emdfile import emdfile_signals, is_emdfile
from stemseg_core.io.hyperspy import hyperspy_signals, is_hyperspy
from stemseg_core.io.mat import is_mat, mat73_signals
from stemseg_core.io.ncem import is_ncem, ncem_signals
from stemseg_core.io.nion import is_nion, nion_signals
from stemseg_core.io.plain import arrays_of, is_nsid, plain_signals
from stemseg_core.io.reading import reading
from stemseg_core.io.rosetta import plugin_signals, specification
from stemseg_core.io.signals import ImageReadError, Signal, named
from stemseg_core.io.usid import usid_paths, usid_signals
from stemseg_core.io.velox import is_velox, velox_signals

#: Suffixes of formats that are HDF5 and nothing else.
HDF5_SUFFIXES = (".h5", ".hdf5", ".he5", ".emd", ".de5", ".hspy", ".nxs", ".nhdf", ".app5", ".usid")
#: What every HDF5 file begins with, or has after a block of the user's, which MATLAB writes.
SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: Sizes of such blocks in bytes. Longer ones are not looked for.
USER_BLOCKS = (512, 1024, 2048, 4096)


class Dialect(NamedTuple):
    """A format in HDF5.

    Attributes
    ----------
    name : str
    recognises : callable
        Whether an open file is of it.
    signals : callable
        Its signals, from the path.
    """

    name: str
    recognises: Callable[[Any], bool]
    signals: Callable[[Path], list[Signal]]


def is_hdf5(path: Path) -> bool:
    """Whether a file is one of HDF5."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        for start in (0, *USER_BLOCKS):
            stream.seek(start)
            if stream.read(len(SIGNATURE)) == SIGNATURE:
                return True
    return False


def hdf5_signals(path: Path, inside: str | None = None) -> tuple[str, tuple[Signal, ...]]:
    """Name of the dialect and signals of an HDF5 file, or the one whose title, or path, is `inside`.

    Raises
    ------
    ImageReadError
        If no dialect fits; the message says what the file holds.
    """
    with reading(path, "an HDF5 file"):
        with hdf5_container(path)() as file:
            dialect = next((d for d in DIALECTS if d.recognises(file)), None)
            holds = "" if dialect else _contents(file)
        if dialect is None:
            raise ImageReadError(f"{path.name}: expected an HDF5 file of a known format; this one holds {holds}")
    with reading(path, f"a {dialect.name} file"):
        if inside is None:
            signals = tuple(dialect.signals(path))
            if not signals:
                with hdf5_container(path)() as file:
                    holds = _contents(file)
                raise ImageReadError(f"{path.name}: expected data sets of {dialect.name}, the file holds {holds}")
            return dialect.name, signals
        titles = () if dialect.signals is _plain else dialect.signals(path)
        if dialect.name == "MATLAB" or any(signal.title == inside for signal in titles):
            return dialect.name, (named(path, titles, inside),)
        return "HDF5", tuple(plain_signals(hdf5_container(path), path.name, inside))


def _rosetta(name: str) -> Callable[[Path], list[Signal]]:
    """Signals by the reader of RosettaSciIO of that name."""
    return lambda path: plugin_signals(specification(name), path)


def _tofwerk(path: Path) -> list[Signal]:
    """Images of the ion beam, the sum of all spectra, and the peaks, where the file has them ready."""
    with hdf5_container(path)() as file:
        held = {"fib_images": "FIBImages", "sum_spectrum": "FullSpectra", "nominal_peak_data": "PeakData/PeakData"}
        wanted = [name for name, group in held.items() if group in file]
    return plugin_signals(specification("Tofwerk"), path, signal=wanted)


def _plain(path: Path) -> list[Signal]:
    return plain_signals(hdf5_container(path), path.name)


def _hyperspy(path: Path) -> list[Signal]:
    return hyperspy_signals(hdf5_container(path), path.stem)


def _is_nexus(file: Any) -> bool:
    return bool(file.visititems(lambda _, item: "NX_class" in item.attrs or None))


def _is_arina(file: Any) -> bool:
    return "entry/data" in file and any(name.startswith("data_") for name in file["entry/data"])


def _is_topspin(file: Any) -> bool:
    named = [*file, *(name for group in members(file) if hasattr(group, "keys") for name in group)]
    return "Metadata" in named and any([len(part) for part in name.split("-")] == [8, 4, 4, 4, 12] for name in named)


#: By what they hold; the first that fits is taken.
DIALECTS = (
    Dialect("Velox EMD", is_velox, velox_signals),
    Dialect("HSPY", is_hyperspy, _hyperspy),
    Dialect("Delmic", lambda file: any(name.startswith("Acquisition") for name in file), _rosetta("Delmic")),
    Dialect("Tofwerk", lambda file: "FullSpectra" in file or "FIBImages" in file, _tofwerk),
    Dialect("Topspin", _is_topspin, _rosetta("Topspin")),
    Dialect("Arina", _is_arina, _rosetta("Arina")),
    Dialect("EMD 1.0", is_emdfile, lambda path: emdfile_signals(hdf5_container(path))),
    Dialect("EMD", is_ncem, ncem_signals),
    Dialect("Nion Swift", is_nion, lambda path: nion_signals(hdf5_container(path), path.stem)),
    Dialect("USID", lambda file: bool(usid_paths(file)), lambda path: usid_signals(hdf5_container(path))),
    Dialect("MATLAB", is_mat, mat73_signals),
    Dialect("NSID", is_nsid, _plain),
    Dialect("NeXus", _is_nexus, _rosetta("NeXus")),
    Dialect("HDF5", lambda file: bool(arrays_of(file)), _plain),
)


def _contents(file: Any) -> str:
    """Arrays of a file in words, the largest first."""
    found: list[tuple[int, str]] = []

    def look(name: str, item: Any) -> None:
        if hasattr(item, "shape") and item.size:
            found.append((item.size, f"{name} ({' x '.join(map(str, item.shape)) or 'a single value'} {item.dtype})"))

    file.visititems(look)
    words = [text for _, text in sorted(found, key=lambda one: -one[0])]
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "") if words else "no arrays"
