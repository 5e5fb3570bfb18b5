"""The benchmarks run, and measure contenders that find the same."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stemseg_core import datasets

BENCH = Path(__file__).parent.parent / "bench"


def run(script, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    environment["STEMSEG_BENCH_PYCROSCOPY"] = ""
    command = [sys.executable, BENCH / script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


STAGES = ("windows", "svd", "nfindr", "abundances", "nmf", "ica", "kmeans")


@pytest.fixture(scope="module")
def all_stages():
    return run("all.py", "--quick", *STAGES)


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_quick_run_prints_a_table_for_each_race(stage, all_stages):
    printed = re.search(rf"^=== {stage}$(.*)^=== {stage}: \d+ s$", all_stages.stdout, re.MULTILINE | re.DOTALL)[1]
    rulers = re.findall(r"^-+  [- ]+$", printed, re.MULTILINE)
    ours = re.findall(r"^-+  [- ]+\nstemseg-core.* 1(?: .*)?$", printed, re.MULTILINE)
    assert len(ours) == len(rulers) >= 2, all_stages.stderr
    assert printed.count("GF/s") == 1


@pytest.mark.long
def test_quick_run_of_the_study_of_maps():
    done = run("quality.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^default +0\.9\d\d", done.stdout, re.MULTILINE)
    assert re.search(r"^local symmetry, Wang 2021 +0\.\d\d\d +0\.\d\d\d$", done.stdout, re.MULTILINE)
    settings = "128 px|Blackman|power|up to 0.15 .*|regularised .*|no region .*|whatever .*"
    assert len(re.findall(rf"^(?:{settings}) +-?0\.\d\d\d +-?0\.\d\d\d$", done.stdout, re.MULTILINE)) == 14
    assert re.search(r"^nmf, power +0\.9\d\d, 0\.\d\d$", done.stdout, re.MULTILINE)
    assert re.search(r"^0\.8 to 1\.0( +\d+\.\d%){3}$", done.stdout, re.MULTILINE)
    assert re.search(r"^all( +\d+\.\d%){2} +0\.\d\d\d$", done.stdout, re.MULTILINE)


def test_local_symmetry_is_the_correlation_of_patches(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    local_symmetry = importlib.import_module("local_symmetry")
    image = np.random.default_rng(0).random((60, 70)).astype(np.float32)
    found, y, x = local_symmetry.descriptors(image, patch=9, reach=8, n_shifts=30, stride=4)
    shifts = local_symmetry.even_shifts(8, 30)
    assert found.shape == (len(y), len(x), len(shifts))
    assert 20 < len(shifts) <= 30
    assert (0, 0) not in shifts

    def patch(row, column):
        return image[int(row) - 4 : int(row) + 5, int(column) - 4 : int(column) + 5].ravel()

    for i, j in ((0, 0), (3, 5), (len(y) - 1, len(x) - 1)):
        wanted = [np.corrcoef(patch(y[i], x[j]), patch(y[i] + dy, x[j] + dx))[0, 1] for dy, dx in shifts]
        np.testing.assert_allclose(found[i, j], wanted, atol=1e-9)
    assert not local_symmetry.descriptors(np.ones((60, 70)), 9, 8, 30, 4)[0].any()


def test_calibration_error(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    error = importlib.import_module("quality").calibration_error
    membership = np.repeat([0.55, 0.95], 1000)
    right = np.concatenate([np.arange(1000) < 550, np.arange(1000) < 950])
    assert error(membership, right) == pytest.approx(0, abs=1e-12)
    assert error(membership, np.ones(2000)) == pytest.approx(0.25)


@pytest.mark.long
def test_quick_run_of_the_study_of_endmembers():
    done = run("endmembers.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^1.0% moved by 100 .*  0\.\d\d\d$", done.stdout, re.MULTILINE)
    assert re.search(r"^5 hot pixels +0\.[89]", done.stdout, re.MULTILINE)


@pytest.mark.long
def test_quick_run_of_the_dense_job():
    done = run("dense.py", "--quick")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^stemseg-core, .* \d+ MB +-?\d\.\d{3}$", done.stdout, re.MULTILINE)) == 2


@pytest.mark.long
def test_all_runs_each_stage(all_stages):
    assert all_stages.returncode == 0, all_stages.stderr
    assert tuple(re.findall(r"^=== (\w+): \d+ s$", all_stages.stdout, re.MULTILINE)) == STAGES
    assert all_stages.stdout.count("GF/s") == len(STAGES)
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


@pytest.mark.long
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


def test_baseline_tells_two_lattices_apart(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    baseline = importlib.import_module("baseline").baseline
    image, truth = datasets.two_phase((320, 320), crystals=(datasets.COPPER,) * 2, random_state=3)
    right = [(baseline(image, 2, standardized=standardized) == truth).mean() for standardized in (False, True)]
    assert max(max(share, 1 - share) for share in right) > 0.95


def test_nearest_centre(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    nearest = importlib.import_module("baseline").nearest
    labels = nearest(np.array([[0, 1], [2, 3]]), np.array([1.5, 5.5]), np.array([2.0, 4.0]), (8, 7))
    np.testing.assert_array_equal(labels[:, 0], [0, 0, 0, 0, 2, 2, 2, 2])
    np.testing.assert_array_equal(labels[0], [0, 0, 0, 0, 1, 1, 1])


def test_real_images_are_those_with_a_truth(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCH)
    real_images = importlib.import_module("real_images").real_images
    monkeypatch.delenv("STEMSEG_DATA", raising=False)
    assert real_images() == {}
    monkeypatch.setenv("STEMSEG_DATA", str(tmp_path))
    assert real_images() == {}
    (tmp_path / "real" / "truth").mkdir(parents=True)
    np.save(tmp_path / "real" / "a.npy", np.arange(12.0).reshape(3, 4))
    np.savez(tmp_path / "real" / "truth" / "a.npz", labels=np.eye(3, 4, dtype=int))
    records = {"a": {"file": "a.npy", "phases": 2, "kind": "grains", "truth": True}, "b": {"file": "b", "truth": False}}
    (tmp_path / "real" / "images.json").write_text(json.dumps(records))
    found = real_images()
    assert list(found) == ["a"]
    kind, image, truth = found["a"]
    assert (kind, image.shape, truth.sum()) == ("grains", (3, 4), 3)


def test_of_several_ways_the_best_counts_and_failures_are_none(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    quality = importlib.import_module("quality")
    truth = np.repeat([0, 1], 50).reshape(10, 10)

    def fails(image, k):
        raise ValueError

    right, wrong = (lambda image, k: truth), (lambda image, k: truth.T % 2)
    assert quality.score((wrong, right), truth, truth)[0] == 1
    assert np.isnan(quality.score_or_none(fails, truth, truth))
