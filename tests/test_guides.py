"""CONTRIBUTING.md, docs/ and README.md against the code: files that are named exist, what is public is listed."""

import re
from pathlib import Path

import stemseg_core
from stemseg_core.command.parser import SEGMENTED
from stemseg_core.command.segment_job import RESULTS

ROOT = Path(__file__).parents[1]


def named_files():
    """Paths in backticks, of files and folders."""
    text = re.sub(r"```.*?```", "", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    return set(re.findall(r"`([\w./]+/[\w.]*|\w+\.(?:py|pyx|pxi|h|md|rst))`", text))


def exists(name):
    """Whether there is such a path in the tree, its first folders left out or not."""
    return any(ROOT.glob(name)) or any((ROOT / folder).glob(f"**/{name}") for folder in ("stemseg_core", "tests"))


def test_files_that_contributors_are_sent_to_exist():
    found = named_files()
    assert len(found) > 40
    assert not [name for name in sorted(found) if not exists(name)]


def test_every_result_of_the_command_is_described():
    assert re.findall(r"^  (\w+\.\w+) ", SEGMENTED, flags=re.MULTILINE) == list(RESULTS)
    assert re.findall(r"^\| `(\w+\.\w+)` \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE) == list(RESULTS)
    page = (ROOT / "docs/command.rst").read_text()
    assert re.findall(r"^``(\w+\.\w+)``$", page, flags=re.MULTILINE) == list(RESULTS)


def test_the_reference_has_all_public_names():
    listed = set(re.findall(r"^(?:   |\.\. data:: )(\w+)$", (ROOT / "docs/api.rst").read_text(), flags=re.MULTILINE))
    assert set(stemseg_core.__all__) - listed == {"datasets"}  # whose functions are listed one by one
