"""Fuzzing of the parsers of files and units by atheris, by hand: ``python tests/fuzz.py units -max_total_time=600``.

The first argument says what is fuzzed: ``units``, or the name of a file of `small_files`; others are libFuzzer's. Needs
``pip install atheris``. What is found goes into `tests/test_damaged.py` or `tests/test_units.py` as a case.
"""

import math
import os
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["stemseg_core.io"]):
    from stemseg_core.calibration.units import parse_unit
    from stemseg_core.io import ImageReadError, read_image, read_signals

from small_files import BYTES


def fuzz_units(data: bytes) -> None:
    """Nothing raises, and every factor is a number."""
    for text in (data, data.decode("utf-8", "surrogateescape")):
        unit = parse_unit(text)
        assert 0 < unit.factor < math.inf


def file_fuzzer(name: str, folder: Path):
    """Reads what is given as a file of that name: it is read, or refused in words."""
    path = folder / name

    def fuzz(data: bytes) -> None:
        path.write_bytes(data)
        try:
            read_signals(path)
            read_image(path)
        except (ImageReadError, MemoryError) as error:
            assert name in str(error)  # noqa: PT017

    return fuzz


def main() -> None:
    """Start with the small files as the corpus."""
    what, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        if what == "units":
            for i, text in enumerate(("nm", "1/nm", "[n_m^-1]", "\\u00B5m", "keV", "10 A per px", "(mrad)**-1")):
                (corpus / str(i)).write_text(text)
            target = fuzz_units
        else:
            BYTES[what](corpus / what)
            target = file_fuzzer(what, Path(folder))
        # libFuzzer is told where it begins; it ends the process
        atheris.Setup([sys.argv[0], *options, os.fspath(corpus)], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
