"""Jobs: what reaches segment(), what is written, and that nothing is left half done."""

import csv
import errno
import hashlib
import json
import os
import shutil
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

import stemseg_core
from stemseg_core import Lattice
from stemseg_core.command import job, segment_job
from stemseg_core.command.cli import main
from stemseg_core.command.segment_job import RESULTS
from stemseg_core.command.truth import accuracy
from stemseg_core.phases.segment import Segmentation
from stemseg_core.system.threads import Stopped

PIXEL = 0.02


def stop():
    raise ValueError("enough")


def command(*arguments):
    return main([str(a) for a in arguments])


def remaining(folder):
    return sorted(p.name for p in folder.rglob("*"))


# --- the whole way -------------------------------------------------------------------------------------------------


def test_segment_writes_all_results(path, tmp_path, simulated, capsys):
    out = tmp_path / "deep" / "out"
    assert command("segment", path, "-o", out, "--phases", 2, "--window", "1.28nm", "--step", 8) == 0
    printed, err = capsys.readouterr()
    assert err == ""  # no progress bar in a pipe
    assert sorted(p.name for p in out.iterdir()) == sorted(RESULTS)
    assert remaining(tmp_path / "deep") == sorted(["out", *RESULTS])
    for words in (
        "image.tif: 192 x 256 float32, 0.02 nm a pixel",
        "64 x 64 px (1.28 x 1.28 nm)",
        "with windows of 96 x 128 and 48 x 48 px",
        "phase 2:",
        str(out),
    ):
        assert words in printed
    labels = tifffile.imread(out / "labels.tif")
    assert labels.dtype == np.uint8
    assert labels.shape == (192, 256)
    assert accuracy(labels.astype(int) - 1, simulated[1]) > 0.9
    result = Segmentation.load(out / "segmentation.npz")
    np.testing.assert_array_equal(result.label_image + 1, labels)
    with tifffile.TiffFile(out / "abundances.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), result.abundances)
        assert tiff.imagej_metadata["unit"] == "nm"
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert denominator / numerator == pytest.approx(8 * PIXEL)
        assert -tiff.imagej_metadata["xorigin"] * 8 == pytest.approx(31.5, rel=1e-4)
    for name in ("overlay.png", "components.png"):
        with Picture.open(out / name) as picture:
            assert min(picture.size) > 200
    assert "image.tif" in (out / "report.html").read_text(encoding="utf-8")


def test_options_of_frequencies_and_maps(path, tmp_path):
    options = ["--k-max", 9, "--rotation-invariant", "--regularize", 8, "--min-area", 200]
    assert command("segment", path, "-o", tmp_path / "out", "--window", 48, *options, "--quiet") == 0
    params = json.loads((tmp_path / "out" / "summary.json").read_text())["parameters"]
    expected = {"k_max": 9, "rotation_invariant": True, "regularize": 8, "min_area": 200}
    assert {name: params[name] for name in expected} == expected
    assert params["pixel_size"] == pytest.approx([PIXEL, PIXEL])


def test_summary(path, tmp_path, capsys):
    assert command("segment", path, "-o", tmp_path / "out", "--window", 32, "--seed", 3, "--json") == 0
    printed, err = capsys.readouterr()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert json.loads(printed) == summary
    assert err == ""
    assert summary["input"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert summary["input"]["file"] == "image.tif"
    assert summary["calibration"]["source"] == "file"
    np.testing.assert_allclose(summary["calibration"]["pixel_size"], PIXEL)
    assert summary["windows"]["window"] == [32, 32]
    assert summary["windows"]["step"] == [4, 4]
    assert sum(summary["fractions"]) == pytest.approx(1)
    assert 0 < summary["confidence_mean"] <= 1
    assert summary["parameters"]["random_state"] == 3
    assert summary["versions"]
    assert summary["stemseg_core"] == stemseg_core.__version__
    assert set(summary["files"]) == set(RESULTS)
    assert set(summary["seconds"]) == {"read", "segment", "lattices", "write"}


def test_lattices_and_regions(path, tmp_path, capsys):
    """They are in the summary, on the terminal, and in a table, as in Python."""
    assert command("segment", path, "-o", tmp_path / "out", "--window", 48) == 0
    printed, _ = capsys.readouterr()
    result = Segmentation.load(tmp_path / "out" / "segmentation.npz")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [found and Lattice.from_dict(found) for found in summary["lattices"]] == list(result.lattices)
    assert any(result.lattices)
    lines = [line for line in printed.splitlines() if line.startswith("  phase ")]
    assert len(lines) == len(result.lattices)
    for line, lattice in zip(lines, result.lattices, strict=True):
        assert line.endswith("no lattice seen" if lattice is None else f" %, {lattice.words}")
    with (tmp_path / "out" / "regions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["pixels"]) for row in rows] == [region.n_pixels for region in result.regions]


def test_results_replace_results_and_nothing_else(path, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "labels.tif").write_text("old")
    assert command("segment", path, "-o", out, "--window", 32, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert (out / "notes.txt").read_text() == "mine"
    assert tifffile.imread(out / "labels.tif").shape == (192, 256)
    assert sorted(p.name for p in out.iterdir()) == sorted([*RESULTS, "notes.txt"])


def test_masked_pixels_are_0_in_the_labels(path, tmp_path):
    mask = np.zeros((192, 256), np.uint8)
    mask[:, :60] = 255
    Picture.fromarray(mask).save(tmp_path / "mask.png")
    assert (
        command("segment", path, "-o", tmp_path / "out", "--window", 32, "--mask", tmp_path / "mask.png", "--quiet")
        == 0
    )
    labels = tifffile.imread(tmp_path / "out" / "labels.tif")
    assert (labels[:, :40] == 0).all()
    assert (labels[:, 100:] > 0).all()
    assert "--mask mask.png" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["input"]["read_with"] == ["--mask", "mask.png"]


# --- what reaches segment() ----------------------------------------------------------------------------------------


def test_options_in_pixels_and_lengths(path, tmp_path, stub):
    calls = stub(stop)
    words = "--phases 3 --method nmf --window 0.64x0.8nm --step 1.6A --taper kaiser,8 --zoom 1 --scale log1p --seed 7"
    command(
        "segment",
        path,
        "-o",
        tmp_path / "out",
        *words.split(),
        "--jobs",
        1,
        "--max-memory",
        "4GB",
        "--invalid",
        "exclude",
    )
    (options,) = calls
    np.testing.assert_allclose(options.pop("pixel_size"), (PIXEL, PIXEL))
    assert options == {
        "n_phases": 3,
        "method": "nmf",
        "window": (32, 40),
        "step": 8,
        "taper": ("kaiser", 8.0),
        "zoom": 1,
        "scale": "log1p",
        "random_state": 7,
        "n_jobs": 1,
        "max_memory": "4GB",
        "invalid": "exclude",
        "units": "nm",
        "progress": None,
    }


def test_what_is_not_given_is_left_to_segment(path, tmp_path, stub):
    calls = stub(stop)
    command("segment", path, "-o", tmp_path / "out")
    assert set(calls[0]) == {"n_phases", "pixel_size", "units", "progress"}


def test_pixel_size_overrides_the_file(path, tmp_path, stub):
    calls = stub(stop)
    command("segment", path, "-o", tmp_path / "out", "--pixel-size", "0.4x0.5A", "--window", "4nm")
    np.testing.assert_allclose(calls[0]["pixel_size"], (0.04, 0.05))
    assert calls[0]["window"] == (100, 80)
    assert command("segment", path, "-o", tmp_path / "out", "--pixel-size", "1m") == 2


# --- writing -------------------------------------------------------------------------------------------------------


def test_interrupted_or_failing_while_writing(path, tmp_path, capsys, monkeypatch):
    for error, status in ((KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "No space left on device"), 2)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("stemseg_core.plot.report.write_report", fail)
        assert command("segment", path, "-o", tmp_path / "out", "--window", 32) == status
        assert capsys.readouterr().err.count("\n") == 1
        assert remaining(tmp_path) == ["image.tif", "in"]


@pytest.mark.parametrize("at", [0, 1, 4])
def test_interrupted_while_results_are_moved(path, tmp_path, capsys, monkeypatch, at):
    """None of them are there, or all; and which is said."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "labels.tif").write_text("old")
    replace, moved = job.Path.replace, []

    def interrupted(self, target):
        if target.parent == out:
            if len(moved) == at:
                moved.append(None)
                raise KeyboardInterrupt
            moved.append(self)
        return replace(self, target)

    monkeypatch.setattr(job.Path, "replace", interrupted)
    assert command("segment", path, "-o", out, "--window", 32, "--quiet") == 130
    err = " ".join(capsys.readouterr().err.split())
    if at == 0:
        assert err == "stemseg: interrupted: nothing was written"
        assert remaining(out) == ["labels.tif"]
    else:
        assert err == f"stemseg: interrupted: all results had been written to {out}"
        assert sorted(p.name for p in out.iterdir()) == sorted(RESULTS)
        assert tifffile.imread(out / "labels.tif").shape == (192, 256)
    assert not list(tmp_path.glob(".stemseg-*"))


def test_writing_reports_progress_and_can_be_stopped(path, tmp_path):
    done = segment_job.SegmentJob.read(path)
    result = done.segment(2, {"window": 32})
    calls = []
    done.write(result, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert calls == [(i, 7, "write") for i in range(1, 8)]
    with pytest.raises(Stopped, match="write stopped by the progress callback at 1 of 7"):
        done.write(result, tmp_path / "other", progress=lambda *_: False)
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob(".stemseg-*"))


def test_a_map_is_not_lost_where_lattices_fail(path, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise np.linalg.LinAlgError("SVD did not\nconverge")

    monkeypatch.setattr("stemseg_core.lattices.properties.find_cell", fail)
    out = tmp_path / "out"
    assert command("segment", path, "-o", out, "--window", 32) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(RESULTS)
    printed, err = capsys.readouterr()
    said = "lattices could not be measured, all other results are complete (LinAlgError: SVD did not converge)"
    assert err == f"stemseg: warning: {said}\n"
    assert "no lattice seen" in printed
    summary = json.loads((out / "summary.json").read_text())
    assert summary["warnings"] == [said]
    assert summary["lattices"] == [None, None]
    assert f"L{said[1:]}." in (out / "report.html").read_text(encoding="utf-8")
    assert Segmentation.load(out / "segmentation.npz").notes == (said,)
    monkeypatch.setenv("STEMSEG_DEBUG", "1")
    with pytest.raises(np.linalg.LinAlgError):
        command("segment", path, "-o", tmp_path / "other", "--window", 32)


def test_warnings_are_lines_and_are_kept(path, tmp_path, capsys, monkeypatch):
    segment = segment_job.segment

    def warn(*arguments, **options):
        warnings.warn("did not converge", stacklevel=1)
        return segment(*arguments, **options)

    monkeypatch.setattr(segment_job, "segment", warn)
    assert command("segment", path, "-o", tmp_path / "out", "--window", 32, "--quiet") == 0
    assert capsys.readouterr() == ("", "stemseg: warning: did not converge\n")
    assert "did not converge" in json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]


def test_a_data_set_in_a_file(tmp_path, capsys):
    values = np.random.default_rng(0).random((64, 64))
    np.savez(tmp_path / "a.npz", image=values, other=np.ones((99, 99)))
    read = segment_job.SegmentJob.read(tmp_path / "a.npz::image")
    np.testing.assert_array_equal(read.image.data, values)
    assert (read.path, read.source) == (tmp_path / "a.npz", "a.npz::/image")
    assert read.sha256 == hashlib.sha256((tmp_path / "a.npz").read_bytes()).hexdigest()
    assert command("info", f"{tmp_path / 'a.npz'}::image") == 0
    printed = capsys.readouterr().out
    assert "a.npz::/image: NumPy, 1 data set" in printed
    assert "64 x 64 float64" in printed
    assert read.read_mask(tmp_path / "a.npz::image", values.shape).all()
    assert read.reading == ["--mask", "a.npz::/image"]


def test_a_diffraction_pattern_is_called_that(tmp_path):
    about = {"imagej": True, "resolution": (50, 50), "metadata": {"unit": "1/nm"}}
    tifffile.imwrite(tmp_path / "a.tif", np.ones((32, 32), np.uint8), **about)
    assert "a diffraction pattern by its axes" in segment_job.SegmentJob.read(tmp_path / "a.tif").warnings[0]


def test_names_of_files_that_are_no_text(path, tmp_path, capsys):
    odd = tmp_path / os.fsdecode(b"\xff\xe9chantillon.tif")
    shutil.copy(path, odd)
    out = tmp_path / os.fsdecode(b"r\xe9sultat")
    assert command("segment", odd, "-o", out, "--phases", 2, "--json") == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["input"]["file"] == "\ufffd\ufffdchantillon.tif"
    assert "\ufffd\ufffdchantillon.tif" in (out / "report.html").read_text(encoding="utf-8")
    assert command("info", odd, "--json") == 0
    json.loads(capsys.readouterr().out.partition("\n{")[0] or "{}")
