"""The command: what it prints, what it writes, what it refuses and how, and that it leaves nothing half done."""

import argparse
import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

import stemseg_core
from stemseg_core import KMeans, datasets
from stemseg_core.command import job
from stemseg_core.command.cli import _trust_in_words, accuracy, main
from stemseg_core.command.info import no_lattice
from stemseg_core.command.job import RESULTS
from stemseg_core.command.options import OPTIONS, in_options, spelled
from stemseg_core.command.parser import parser
from stemseg_core.command.values import parse_size
from stemseg_core.io import write_tiff
from stemseg_core.phases.segment import Segmentation
from stemseg_core.system.errors import OutOfMemoryError, ParameterError
from stemseg_core.system.threads import Stopped

PIXEL = 0.02


@pytest.fixture(scope="module")
def simulated():
    return datasets.two_phase((192, 256), angle=30, pixel_size=PIXEL, random_state=1)


@pytest.fixture
def path(tmp_path, simulated):
    """A calibrated image in a folder of its own."""
    (tmp_path / "in").mkdir()
    write_tiff(tmp_path / "in" / "image.tif", simulated[0], (PIXEL, PIXEL))
    return tmp_path / "in" / "image.tif"


@pytest.fixture
def stub(monkeypatch):
    """Puts a function in the place of `segment`; returns the calls made of it."""

    def put(action):
        calls = []

        def segment(image, n_phases, **options):
            calls.append(options | {"n_phases": n_phases})
            return action()

        monkeypatch.setattr(job, "segment", segment)
        return calls

    return put


def stop():
    raise ValueError("enough")


def command(*arguments):
    return main([str(a) for a in arguments])


def refused(capsys, *arguments):
    """The one line of a refusal."""
    assert command(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("stemseg: error: ")
    assert err.count("\n") == 1
    return err


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


def test_limits_that_leave_nothing(path, tmp_path, capsys):
    assert "--k-min 3 with --k-max 0.5 leaves none" in refused(
        capsys, "segment", path, "-o", tmp_path / "out", "--k-max", 0.5
    )
    assert "--min-area" in refused(capsys, "segment", path, "-o", tmp_path / "out", "--min-area", "2.5")


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
    assert set(summary["seconds"]) == {"read", "segment", "write"}


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


def test_demo(tmp_path, capsys):
    assert command("demo", "-o", tmp_path / "out") == 0
    printed, _ = capsys.readouterr()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*RESULTS, "image.tif", "truth.tif"])
    share = float(printed.split("known truth: ")[1].split(" %")[0])
    assert share > 90


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


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ("--window 3foo", "--window: expected a size such as 64"),
        ("--window 0", "--window: expected a size larger than 0, got '0'"),
        ("--pixel-size 0nm", "--pixel-size: expected a size larger than 0, got '0nm'"),
        ("--window -5", "--window"),
        ("--window 1e400", "--window"),
        ("--window 10.5", "expected whole pixels"),
        ("--phases many", "--phases: expected a whole number, at least 1, got 'many'; or 'auto'"),
        ("--phases 0", "at least 1"),
        ("--seed -1", "--seed"),
        ("--method pca", "--method: invalid choice: 'pca'"),
        ("--max-memory much", "expected a size such as 4GB"),
        ("--pixel-size 0.02", "expected a length with its unit, such as 0.02nm or 0.02A; the unit is missing"),
        ("--pixel-size 0.02x0.03", "such as 0.02x0.03nm or"),
        ("--taper kaiser,x", "--taper"),
        ("--frame 9", "image.tif: --frame must be"),
        ("--jobs 0", "image.tif: --jobs must be a positive number"),
        ("--normalize 2", "image.tif: --normalize must be a number from 0 to 1"),
        ("--k-min 200", "image.tif: --k-min 200 leaves none of the frequencies"),
        ("--k-max 20", "--k-max 20 cycles per nm is above all that --zoom 2 keeps"),
        ("--k-max 20", "or --zoom 1"),
        ("--k-max 0.08", "--k-max is a frequency: for details of 0.08 nm give 12.5"),
        ("--windows 48,64 --window 32x40", "--window 32x40, the one of the maps, must be one of --windows 48,64"),
        ("--windows 48,64 --method nmf", "--windows must be left out with --method nmf"),
        ("--max-memory 1kB", "--max-memory is 1 kB; take a larger step"),
        ("--frame last", "--frame"),
        ("--signal 4", "expected signal 4"),
        ("--mask gone.png", "gone.png"),
        ("--bogus", "--bogus"),
    ],
)
def test_bad_use(path, tmp_path, capsys, words, match):
    assert match in refused(capsys, "segment", path, "-o", tmp_path / "out", *words.split())
    assert remaining(tmp_path) == ["image.tif", "in"]


def test_no_command(capsys):
    assert "COMMAND" in refused(capsys)
    assert "invalid choice: 'segmnt'" in refused(capsys, "segmnt", "image.png")


def test_a_file_in_place_of_the_command(path, tmp_path, capsys, monkeypatch):
    assert "did you mean 'stemseg segment gone.png ...'?" in refused(capsys, "gone.png", "-o", "out")
    path.rename(tmp_path / "image")
    monkeypatch.chdir(tmp_path)
    assert "did you mean 'stemseg segment image ...'?" in refused(capsys, "image")


@pytest.mark.parametrize("side", [3, 8, 11, 20])
def test_a_tiny_image_is_too_small(tmp_path, capsys, side):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((side, 50)))
    line = refused(capsys, "segment", tmp_path / "a.npy", "-o", tmp_path / "out")
    assert f"a.npy: image of {side} x 50 px is too small" in line


def test_pixels_too_large_for_a_lattice_are_warned_of(tmp_path, capsys):
    write_tiff(tmp_path / "a.tif", np.random.default_rng(0).random((96, 96)), (0.5, 0.5))
    for words in ((), ("--window", 32, "--quiet")):
        assert command("segment", tmp_path / "a.tif", "-o", tmp_path / "out", *words) == 0
        assert capsys.readouterr().err == (
            "stemseg: warning: pixels of 0.5 nm are too large to show a lattice; "
            "what is found is not told apart by lattices\n"
        )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert len(summary["warnings"]) == len(summary["input"]["notes"]) == 1


def test_a_length_needs_a_calibration(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.ones((64, 64)))
    line = refused(capsys, "segment", tmp_path / "a.npy", "-o", tmp_path / "out", "--window", "3nm")
    assert "a.npy" in line
    assert "--pixel-size 0.02nm" in line


@pytest.mark.parametrize("error", [ValueError("window 64 is larger than the image"), MemoryError("needs 9 GB")])
def test_what_segment_refuses_is_refused_with_the_files_name(path, tmp_path, capsys, stub, error):
    def fail():
        raise error

    stub(fail)
    assert refused(capsys, "segment", path, "-o", tmp_path / "out") == f"stemseg: error: image.tif: {error}\n"
    assert remaining(tmp_path) == ["image.tif", "in"]


def test_mask_of_another_shape(path, tmp_path, capsys):
    np.save(tmp_path / "mask.npy", np.zeros((5, 6)))
    line = refused(capsys, "segment", path, "-o", tmp_path / "out", "--mask", tmp_path / "mask.npy")
    assert "expected the shape 192 x 256 of image.tif, mask.npy has 5 x 6" in line


def test_outputs_that_cannot_be(path, tmp_path, capsys, stub):
    stub(stop)
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(capsys, "segment", path, "-o", tmp_path / "file")
    (tmp_path / "out" / "labels.tif").mkdir(parents=True)
    assert "labels.tif is a folder" in refused(capsys, "segment", path, "-o", tmp_path / "out")
    path.rename(path.with_name("labels.tif"))
    assert "is the image itself" in refused(capsys, "segment", path.with_name("labels.tif"), "-o", path.parent)


def test_internal_error(path, tmp_path, capsys, stub, monkeypatch):
    def fail():
        raise KeyError("oops")

    stub(fail)
    assert command("segment", path, "-o", tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "KeyError: 'oops'" in err
    assert "STEMSEG_DEBUG=1" in err
    monkeypatch.setenv("STEMSEG_DEBUG", "1")
    with pytest.raises(KeyError):
        command("segment", path, "-o", tmp_path / "out")


def test_interrupted(path, tmp_path, capsys, stub):
    def interrupt():
        raise KeyboardInterrupt

    stub(interrupt)
    assert command("segment", path, "-o", tmp_path / "out") == 130
    assert capsys.readouterr().err == "stemseg: interrupted: nothing was written\n"
    assert remaining(tmp_path) == ["image.tif", "in"]


def test_interrupted_or_failing_while_writing(path, tmp_path, capsys, monkeypatch):
    for error, status in ((KeyboardInterrupt(), 130), (OSError(errno.ENOSPC, "No space left on device"), 2)):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr("stemseg_core.plot.report.write_report", fail)
        assert command("segment", path, "-o", tmp_path / "out", "--window", 32) == status
        assert capsys.readouterr().err.count("\n") == 1
        assert remaining(tmp_path) == ["image.tif", "in"]


def test_writing_reports_progress_and_can_be_stopped(path, tmp_path):
    done = job.Job.read(path)
    result = done.segment(2, {"window": 32})
    calls = []
    done.write(result, tmp_path / "out", progress=lambda *call: calls.append(call))
    assert calls == [(i, 6, "write") for i in range(1, 7)]
    with pytest.raises(Stopped, match="write stopped by the progress callback at 1 of 6"):
        done.write(result, tmp_path / "other", progress=lambda *_: False)
    assert not (tmp_path / "other").exists()
    assert not list(tmp_path.glob(".stemseg-*"))


def test_warnings_are_lines_and_are_kept(path, tmp_path, capsys, monkeypatch):
    segment = job.segment

    def warn(*arguments, **options):
        warnings.warn("did not converge", stacklevel=1)
        return segment(*arguments, **options)

    monkeypatch.setattr(job, "segment", warn)
    assert command("segment", path, "-o", tmp_path / "out", "--window", 32, "--quiet") == 0
    assert capsys.readouterr() == ("", "stemseg: warning: did not converge\n")
    assert "did not converge" in json.loads((tmp_path / "out" / "summary.json").read_text())["warnings"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_nothing(path, tmp_path, number):
    code = (
        "import time, sys; from stemseg_core.command import cli, job\n"
        "def slow(*a, **k): print('started', flush=True); time.sleep(30)\n"
        "job.segment = slow\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    words = [sys.executable, "-P", "-c", code, "segment", str(path), "-o", str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "started\n"
        time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "stemseg: interrupted: nothing was written\n")
    assert remaining(tmp_path) == ["image.tif", "in"]


# --- info ----------------------------------------------------------------------------------------------------------


def test_info(path, capsys, simulated):
    assert command("info", path) == 0
    printed = capsys.readouterr().out
    low, high = simulated[0].min(), simulated[0].max()
    for words in (
        "image.tif: TIFF, 1 data set\n",
        "* 0: 192 x 256 float32, image",
        "0.02 nm a pixel",
        f"intensity {low:.6g} to {high:.6g}",
    ):
        assert words in printed
    assert "by default with a window of 24 px (0.48 nm), as the strongest period is " in printed


def test_info_json(tmp_path, capsys):
    data = np.ones((40, 50))
    data[3, 4] = np.nan
    np.savez(tmp_path / "a.npz", line=np.ones(7), image=data, stack=np.zeros((3, 8, 8)))
    assert command("info", tmp_path / "a.npz", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [s["taken"] for s in found["signals"]] == [False, True, False]
    assert [s["range"] for s in found["signals"]] == [None, [1, 1], [0, 0]]
    assert [s["not_finite"] for s in found["signals"]] == [0, 1, 0]
    assert [s["window"] for s in found["signals"]] == [None, {"px": [10, 10], "nm": None}, None]
    assert found["signals"][1]["period"] is None
    assert any("no period stands out" in note for note in found["signals"][1]["notes"])


def test_info_names_the_window_that_segment_takes(path, tmp_path, capsys):
    assert command("info", path, "--json") == 0
    (signal,) = json.loads(capsys.readouterr().out)["signals"]
    assert command("segment", path, "-o", tmp_path / "out", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"]["window"] == signal["window"]["px"]
    assert summary["windows"]["window_nm"] == pytest.approx(signal["window"]["nm"])
    assert 6 < signal["period"]["px"][0] < 24
    assert not signal["notes"]
    assert not summary["input"]["notes"]


def test_info_of_a_very_small_image(tmp_path, capsys):
    np.save(tmp_path / "thin.npy", np.ones((2, 50)))
    assert command("info", tmp_path / "thin.npy") == 0
    assert capsys.readouterr().out.endswith("'stemseg segment' takes *\n")


def test_info_of_a_superlattice(tmp_path, capsys):
    x = np.arange(256)
    np.save(tmp_path / "a.npy", np.tile(0.6 * np.cos(2 * np.pi * x / 24) + np.cos(2 * np.pi * x / 8), (256, 1)))
    assert command("info", tmp_path / "a.npy") == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"as the strongest period is 2[34].* px\n.* of order 3 shows most, which is (?:7\.\d+|8) px\n$", printed
    )


def test_info_of_a_file_without_an_image(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4, 5)))
    assert command("info", tmp_path / "a.npy") == 0
    printed = capsys.readouterr().out
    assert "2 x 3 x 4 x 5 float64, no image" in printed
    assert "nothing that 'stemseg segment' could take" in printed


def test_info_refuses(tmp_path, capsys):
    (tmp_path / "a.dm4").write_bytes(b"x" * 100)
    assert "a.dm4: expected a DigitalMicrograph file" in refused(capsys, "info", tmp_path / "a.dm4")


# --- small things --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64", ((64, 64), "px")),
        ("64px", ((64, 64), "px")),
        ("64x96", ((64, 96), "px")),
        ("3nm", ((3, 3), "nm")),
        ("2 x 3.5 nm", ((2, 3.5), "nm")),
        ("0.2A", ((0.02, 0.02), "nm")),
        ("20pm", ((0.02, 0.02), "nm")),
        (".5um", ((500, 500), "nm")),
        ("1e-3 µm", ((1, 1), "nm")),
    ],
)
def test_parse_size(text, size):
    (y, x), unit = parse_size(text)
    assert ((pytest.approx(y), pytest.approx(x)), unit) == size


@pytest.mark.parametrize("text", ["", "nm", "x", "3 parsec", "-3", "1/nm", "3nmx4nm", "nan", "inf", "1.2.3", "64x"])
def test_parse_size_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a size such as"):
        parse_size(text)


@pytest.mark.parametrize("text", ["0", "0.0nm", "0x3A", "5x0"])
def test_no_size_is_zero(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"expected a size larger than 0, got '{text}'"):
        parse_size(text)


def test_help_states_every_default():
    """As the table of parameters has it, where it is a number or a text."""
    (commands,) = (a for a in parser()._actions if a.dest == "command")
    actions = {a.dest: a for a in commands.choices["segment"]._actions if a.option_strings}
    assert actions.keys() - {"help", "output", "quiet", "json"} == OPTIONS.keys()
    for name, parameter in OPTIONS.items():
        assert actions[name].option_strings == [parameter.option]
        assert "`" not in actions[name].help
        stated = actions[name].help.split("(default: ")[1]
        if type(parameter.default) in (int, float, str):
            assert stated.removesuffix(")").split(",")[0] == str(parameter.default)
        else:
            assert len(stated) > 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            ParameterError("`k_min=` with `k_max=0.5` leaves none", k_min=3, k_max=0.5),
            "--k-min 3 with --k-max 0.5 leaves none",
        ),
        (
            ParameterError("`image` has NaN; pass `invalid=`", image=3, invalid="exclude"),
            "image has NaN; pass --invalid exclude",
        ),
        (ParameterError("`n_jobs` must be a whole number", n_jobs=0.5), "--jobs must be a whole number"),
        (
            OutOfMemoryError("`max_memory` is 1 kB; take a larger step", max_memory=1000),
            "--max-memory is 1 kB; take a larger step",
        ),
        (
            ParameterError("`window=` is not of `windows=`", window=(8, 9), windows=[8, (9, 9)]),
            "--window 8x9 is not of --windows 8,9x9",
        ),
        (
            ParameterError("`rotation_invariant=`; `n_phases=`", rotation_invariant=True, n_phases="auto"),
            "--rotation-invariant; --phases auto",
        ),
        (ParameterError("`method=`", method=KMeans(3)), "--method KMeans(n_clusters=3)"),
        (ParameterError("`detrend=`; my_k_max and zoom=2", detrend=3), "detrend=3; my_k_max and zoom=2"),
        (ValueError("window=3 is `k_min`"), "window=3 is `k_min`"),
    ],
)
def test_errors_in_options(message, expected):
    assert spelled(message) == expected


def test_texts_in_options():
    assert (
        in_options("at most `k_max`, or `n_jobs` of it; not `nothing`")
        == "at most --k-max, or --jobs of it; not nothing"
    )


def test_no_lattice():
    assert no_lattice(17.0, None) is None
    assert no_lattice(17.0, (0.02, 0.03)) is None
    assert "no period" in no_lattice(None, (0.02, 0.02))
    assert "6 nm are too large" in no_lattice(17.0, (0.02, 6.0))


def test_accuracy_does_not_depend_on_the_numbering():
    truth = np.array([[0, 0, 1], [2, 2, 1]])
    assert accuracy(np.array([[2, 2, 0], [1, 1, 0]]), truth) == 1
    assert accuracy(np.array([[2, 2, 0], [1, -1, 1]]), truth) == pytest.approx(4 / 6)


def test_version_and_help_import_nothing_heavy():
    code = (
        "import sys\nfrom stemseg_core.command.cli import main\n"
        "for words in ('--version', '--help', 'segment --help'):\n"
        "    print('===')\n"
        "    try:\n        main(words.split())\n    except SystemExit as end:\n        assert end.code == 0\n"
        "    heavy = {'matplotlib', 'rsciio', 'tifffile', 'PIL', 'tqdm', 'h5py', 'dask'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ["stemseg" in printed for printed in done.stdout.split("===\n")] == [False, True, True, True]


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_closed_pipe_is_no_error(path):
    code = "import sys; from stemseg_core.command.cli import main; sys.stdin.readline(); sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-P", "-c", code, "info", str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, text=True, **pipes) as process:
        process.stdout.close()
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


def test_terminal_shows_a_bar(path, tmp_path, monkeypatch, capsys):
    shown = []

    def segment(*_, progress, **__):
        for done in range(5):
            progress(done, 4, "windows")
        progress(1, 2, "kmeans")
        shown.append(True)
        raise ValueError("enough")

    monkeypatch.setattr(job, "segment", segment)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert command("segment", path, "-o", tmp_path / "out") == 2
    assert shown == [True]
    assert "windows" in capsys.readouterr().err


def test_missing_packages_are_said_with_their_extra(path, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for call in (("segment", path, "-o", tmp_path / "out"), ("demo", "-o", tmp_path / "out")):
        assert command(*call) == 2
        assert 'needs the package matplotlib: pip install "stemseg-core[cli]"' in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_line_begins_with_a_command_or_an_option(capsys):
    assert "did you mean" not in refused(capsys, "--x=a.b")
    assert "did you mean" not in refused(capsys, "")


@pytest.mark.parametrize(
    ("separation", "fractions", "words"),
    [
        (None, [0.6, 0.4], "whether the phases exist was not checked"),
        ({"n_phases": 2, "value": 3.0, "chance": 5.0}, [0.6, 0.4], "does not say that they exist"),
        ({"n_phases": 2, "value": 9.0, "chance": 5.0}, [1.0, 0.0], "does not say that they exist"),
        ({"n_phases": 2, "value": 9.0, "chance": 5.0}, [0.6, 0.4], "better separated than chance: 9.0"),
        ({"n_phases": 2, "value": None, "chance": None}, [0.6, 0.4], "not to be told from chance"),
    ],
)
def test_what_the_summary_says_of_trust(separation, fractions, words):
    summary = {"confidence_mean": 0.5, "separation": separation, "fractions": fractions, "reason_for_one": None}
    lines = _trust_in_words(summary)
    assert words in "\n".join(lines)
    assert "mean confidence 0.50" in lines[-1]
