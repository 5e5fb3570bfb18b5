"""Makes docs/formats.md, the table of formats, by reading files: python docs/formats.py FOLDER... .

Take folders with as many real files as there are; what is made by tests is read as well. Files that nobody reads are
not counted, so that a row says what was seen.
"""

import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

from microscope_files import corpus  # noqa: E402
from small_files import BYTES, HDF5  # noqa: E402

from stemseg_core.io import ImageReadError, read_signals  # noqa: E402
from stemseg_core.io.choice import WORDS  # noqa: E402
from stemseg_core.io.rosetta import PLUGINS, Plugin, specifications  # noqa: E402

HEAD = """# Formats

Made by `docs/formats.py`, which read every file that is counted here. What each kind is for: images, stacks and colours
for `stemseg segment`; a spectrum or a pattern for each pixel for `stemseg unmix`, one channel or pattern of them by
`--frame` for `segment` as well. Which format a file of HDF5 is of is told by what it holds; one array in a container is
named by its path, `file.h5::/group/data`.

| format | suffixes | read as | calibrated | in pieces | files tested |
| --- | --- | --- | --- | --- | --- |
"""
#: Kinds in the order in which they are named.
ORDER = ("image", "colour", "stack", "pattern", "cube", "scan", "spectra")
PLURALS = {"image": "images", "colour": "colours", "stack": "stacks", "pattern": "patterns"} | {
    "cube": WORDS["cube"],
    "scan": WORDS["scan"],
    "spectra": "spectra",
}


class Row:
    """What was seen of one format."""

    def __init__(self):
        self.suffixes, self.kinds, self.files, self.calibrated = set(), Counter(), [], set()


def look(paths):
    """Rows by format."""
    rows = defaultdict(Row)
    for path in paths:
        try:
            name, signals = read_signals(path)
        except (ImageReadError, MemoryError):
            continue
        row = rows[name]
        row.suffixes.add(path.suffix.lower())
        row.files.append(path.name)
        row.kinds.update(s.kind for s in signals if s.kind in ORDER)
        known = {axis.kind for s in signals for axis in s.axes} - {"none", "pixel", "unknown"}
        row.calibrated |= known | ({"length"} if any(s.pixel_size for s in signals) else set())
    return rows


def files_of(folders):
    """Files, and folders of zarr, that may be read."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            inside = any(parent.suffix in (".zspy", ".zarr") for parent in path.parents)
            if not inside and (path.is_file() or path.suffix in (".zspy", ".zarr")):
                yield path


def line(name, row):
    """A row of the table."""
    lazy = PLUGINS.get(name, Plugin()).lazy
    pieces = "no" if lazy is False or name == "picture" else "yes" if lazy is True else "if not compressed"
    kinds = ", ".join(PLURALS[kind] for kind in ORDER if row.kinds[kind]) or "-"
    example = min(row.files, key=lambda file: (len(file), file))
    cells = (name, " ".join(sorted(row.suffixes)), kinds, ", ".join(sorted(row.calibrated)) or "-", pieces)
    return f"| {' | '.join(cells)} | {len(row.files)}, such as `{example}` |"


def table(folders):
    """The page."""
    with tempfile.TemporaryDirectory() as folder:
        corpus(Path(folder))
        for name, write in (BYTES | HDF5).items():
            write(Path(folder) / name)
        rows = look(files_of([*folders, Path(folder)]))
    lines = [line(name, rows[name]) for name in sorted(rows, key=str.lower)]
    shadowed = {"EMD", "HSPY", "ZSPY", "Image", "TIFF", "numpy", "USID"}  # read without RosettaSciIO
    untested = sorted({s["name"] for s in specifications()} - rows.keys() - shadowed)
    rest = f"\nAlso read by RosettaSciIO, but no file of it was at hand: {', '.join(untested)}.\n" if untested else ""
    return HEAD + "\n".join(lines) + "\n" + rest


if __name__ == "__main__":
    (HERE / "formats.md").write_text(table([Path(folder) for folder in sys.argv[1:]]), encoding="utf-8")
