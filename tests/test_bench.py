"""The benchmarks run, and measure contenders that find the same."""

import os
import re
import shutil
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


@pytest.mark.parametrize("stage", ["windows", "svd", "nfindr", "abundances", "nmf", "ica", "kmeans"])
def test_quick_run_prints_a_table_for_each_race(stage):
    done = run(f"{stage}.py", "--quick")
    assert done.returncode == 0, done.stderr
    rulers = re.findall(r"^-+  [- ]+$", done.stdout, re.MULTILINE)
    ours = re.findall(r"^-+  [- ]+\nstemseg-core.* 1(?: .*)?$", done.stdout, re.MULTILINE)
    assert len(ours) == len(rulers) >= 2
    assert "GF/s" in done.stdout


def test_quick_run_of_the_study_of_maps():
    done = run("quality.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^default +0\.9\d\d", done.stdout, re.MULTILINE)
    assert "What confidence is worth" in done.stdout


def test_quick_run_of_the_study_of_endmembers():
    done = run("endmembers.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1.0% moved by 100 .*  0\.\d\d\d$", done.stdout, re.MULTILINE)
    assert re.search(r"^5 hot pixels +0\.[89]", done.stdout, re.MULTILINE)


def test_quick_run_of_the_dense_job():
    done = run("dense.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^stemseg-core, .* \d+ MB +-?\d\.\d{3}$", done.stdout, re.MULTILINE)) == 2


def test_all_runs_each_stage():
    done = run("all.py", "--quick", "svd", "abundances")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^=== (\w+): \d+ s$", done.stdout, re.MULTILINE) == ["svd", "abundances"]
    assert done.stdout.count("GF/s") == 2
    refused = run("all.py", "svds")
    assert refused.returncode == 2
    assert "no benchmark of svds" in refused.stderr


def test_all_goes_on_when_one_fails(tmp_path):
    shutil.copy(BENCH / "all.py", tmp_path)
    for stage, code in (("svd", "raise SystemExit(3)"), ("nmf", "print('ran')")):
        (tmp_path / f"{stage}.py").write_text(code)
    done = run(tmp_path / "all.py", "svd", "nmf")
    assert done.returncode == 1
    assert "ran\n" in done.stdout
    assert done.stdout.endswith("Did not run to the end: svd\n")


def test_all_names_every_stage_with_a_page():
    page = (BENCH.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    marked = re.findall(r"^<!-- python bench/(\w+)\.py --write -->$", page, re.MULTILINE)
    assert f"of {', '.join(marked)} (default" in " ".join(run("all.py", "--help").stdout.split())


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
