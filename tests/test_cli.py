"""The command (also extras): what it prints, what it refuses and how, and that it leaves nothing half done."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from stemseg_core.command import segment_job
from stemseg_core.command.cli import main
from stemseg_core.command.segment_job import RESULTS
from stemseg_core.command.truth import accuracy
from stemseg_core.command.words import trust_in_words
from stemseg_core.io import write_tiff
from stemseg_core.stages.estimates import Separation


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


# --- the demo -----------------------------------------------------------------------------------------------------


def test_demo(tmp_path, capsys):
    assert command("demo", "-o", tmp_path / "out") == 0
    printed, _ = capsys.readouterr()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([*RESULTS, "image.tif", "truth.tif"])
    share = float(printed.split("known truth: ")[1].split(" %")[0])
    assert share > 90


# --- refusals ------------------------------------------------------------------------------------------------------


def test_limits_that_leave_nothing(path, tmp_path, capsys):
    assert "--k-min 3 with --k-max 0.5 leaves none" in refused(
        capsys, "segment", path, "-o", tmp_path / "out", "--k-max", 0.5
    )
    assert "--min-area" in refused(capsys, "segment", path, "-o", tmp_path / "out", "--min-area", "2.5")


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
        ("--max-memory 1kB", "--max-memory is 1 kB; segment a part"),
        ("--frame last", "--frame"),
        ("--signal 4", "expected --signal 4"),
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
    assert "is the file itself" in refused(capsys, "segment", path.with_name("labels.tif"), "-o", path.parent)


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


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_nothing(path, tmp_path, number):
    code = (
        "import time, sys; from stemseg_core.command import cli, segment_job\n"
        "def slow(*a, **k): print('started', flush=True); time.sleep(30)\n"
        "segment_job.segment = slow\n"
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


def test_info_refuses(tmp_path, capsys):
    (tmp_path / "a.dm4").write_bytes(b"x" * 100)
    assert "a.dm4: expected a DigitalMicrograph file" in refused(capsys, "info", tmp_path / "a.dm4")


# --- small things --------------------------------------------------------------------------------------------------


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

    monkeypatch.setattr(segment_job, "segment", segment)
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


@pytest.mark.parametrize("words", [("segment", "a.npy", "--phases", 2), ("demo",)])
def test_a_folder_has_a_name(words, capsys):
    assert "expected the name of a folder" in refused(capsys, *words, "-o", "")


@pytest.mark.parametrize(
    ("separation", "fractions", "words"),
    [
        (None, [0.6, 0.4], "does not say that they exist"),
        ({"n_phases": 2, "value": 3.0, "chance": 5.0}, [0.6, 0.4], "does not say that they exist"),
        ({"n_phases": 2, "value": 9.0, "chance": 5.0}, [1.0, 0.0], "does not say that they exist"),
        ({"n_phases": 2, "value": 9.0, "chance": 5.0}, [0.6, 0.4], "better separated than chance: 9.0"),
        ({"n_phases": 2, "value": None, "chance": None}, [0.6, 0.4], "does not say that they exist"),
    ],
)
def test_what_the_summary_says_of_trust(separation, fractions, words):
    summary = {"confidence_mean": 0.5, "separation": separation, "fractions": fractions, "verdict": None}
    if separation is not None:
        summary["verdict"] = f"the 2 phases are {Separation.from_dict(separation).words}"
    lines = trust_in_words(summary)
    assert words in "\n".join(lines)
    assert "mean confidence 0.50" in lines[-1]
