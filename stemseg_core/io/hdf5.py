"""HDF5, the container of many formats: which of them a file is of is told by what it holds, not by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from stemseg_core.io.containers import hdf5_container
from stemseg_core.io.hyperspy import hyperspy_signals, is_hyperspy
from stemseg_core.io.ncem import is_ncem, ncem_signals
from stemseg_core.io.reading import reading
from stemseg_core.io.rosetta import plugin_signals, specification
from stemseg_core.io.signals import ImageReadError, Signal
from stemseg_core.io.velox import is_velox, velox_signals

#: What every HDF5 file begins with; files with a block of the user's have it later, and are told by their name.
SIGNATURE = b"\x89HDF\r\n\x1a\n"


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
        return stream.read(len(SIGNATURE)) == SIGNATURE


def hdf5_signals(path: Path) -> tuple[str, tuple[Signal, ...]]:
    """Name of the dialect and signals of an HDF5 file.

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
        return dialect.name, tuple(dialect.signals(path))


def _rosetta(name: str) -> Callable[[Path], list[Signal]]:
    """Signals by the reader of RosettaSciIO of that name."""
    return lambda path: plugin_signals(specification(name), path)


def _tofwerk(path: Path) -> list[Signal]:
    """Images of the ion beam, the sum of all spectra, and the peaks, where the file has them ready."""
    with hdf5_container(path)() as file:
        held = {"fib_images": "FIBImages", "sum_spectrum": "FullSpectra", "nominal_peak_data": "PeakData/PeakData"}
        wanted = [name for name, group in held.items() if group in file]
    return plugin_signals(specification("Tofwerk"), path, signal=wanted)


def _hyperspy(path: Path) -> list[Signal]:
    return hyperspy_signals(hdf5_container(path), path.stem)


def _is_nexus(file: Any) -> bool:
    return bool(file.visititems(lambda _, item: "NX_class" in item.attrs or None))


def _is_arina(file: Any) -> bool:
    return "entry/data" in file and any(name.startswith("data_") for name in file["entry/data"])


def _is_topspin(file: Any) -> bool:
    named = [*file, *(name for group in file.values() if hasattr(group, "keys") for name in group)]
    return "Metadata" in named and any([len(part) for part in name.split("-")] == [8, 4, 4, 4, 12] for name in named)


#: By what they hold; the first that fits is taken.
DIALECTS = (
    Dialect("Velox EMD", is_velox, velox_signals),
    Dialect("HSPY", is_hyperspy, _hyperspy),
    Dialect("Delmic", lambda file: any(name.startswith("Acquisition") for name in file), _rosetta("Delmic")),
    Dialect("Tofwerk", lambda file: "FullSpectra" in file or "FIBImages" in file, _tofwerk),
    Dialect("Topspin", _is_topspin, _rosetta("Topspin")),
    Dialect("Arina", _is_arina, _rosetta("Arina")),
    Dialect("EMD", is_ncem, ncem_signals),
    Dialect("NeXus", _is_nexus, _rosetta("NeXus")),
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
