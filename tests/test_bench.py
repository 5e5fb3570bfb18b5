"""The benchmarks run, and measure contenders that find the same."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"


def run(script, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["STEMSEG_BENCH_PYCROSCOPY"] = ""
    command = [sys.executable, BENCH / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("script", ["windows.py", "svd.py"])
def test_quick_run_prints_a_table_for_each_race(script):
    done = run(script, "--quick")
    assert done.returncode == 0, done.stderr
    rulers = re.findall(r"^-+  [- ]+$", done.stdout, re.MULTILINE)
    ours = re.findall(r"^stemseg-core.* 1 .*$", done.stdout, re.MULTILINE)
    assert len(ours) == len(rulers) >= 2
    assert "GF/s" in done.stdout


def test_quick_run_of_all_ways_to_transform():
    done = run("transforms.py", "--quick", "--fit")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d choices: at worst \d+\.\d\d times the best", done.stdout, re.MULTILINE)
    assert len(re.findall(r"^\w+: \[.*\], model / measured", done.stdout, re.MULTILINE)) == 5


def test_quick_figures_are_not_written():
    document = BENCH.parent / "docs" / "benchmarks.md"
    before = document.read_bytes()
    done = run("svd.py", "--quick", "--write")
    assert done.returncode == 2
    assert "--quick measures nothing" in done.stderr
    assert document.read_bytes() == before
