"""`stemseg info`: what a file holds, and the window that suits it."""

import json
import re

import numpy as np
import pytest

from stemseg_core.command.cli import main
from stemseg_core.command.info import no_lattice


def command(*arguments):
    return main([str(a) for a in arguments])


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
    assert "by default with a window of 32 px (0.64 nm), as the longest period is " in printed


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
    assert re.search(r"as the longest period is 2[34].* px\nlattice planes (?:7\.\d+|8) px apart show most\n$", printed)


def test_info_of_few_cells(tmp_path, capsys):
    y, x = np.mgrid[:128, :128]
    np.save(tmp_path / "a.npy", np.cos(2 * np.pi * x / 30) + np.cos(2 * np.pi * y / 30) + np.cos(2 * np.pi * x / 7.5))
    assert command("info", tmp_path / "a.npy") == 0
    assert "holds few cells" not in capsys.readouterr().out
    np.save(tmp_path / "a.npy", np.load(tmp_path / "a.npy")[:, :110])
    assert command("info", tmp_path / "a.npy") == 0
    assert "holds few cells" in capsys.readouterr().out


def test_info_of_a_file_without_an_image(tmp_path, capsys):
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4, 5)))
    assert command("info", tmp_path / "a.npy") == 0
    printed = capsys.readouterr().out
    assert "2 x 3 x 4 x 5 float64, a pattern for each pixel" in printed
    assert "'stemseg unmix' takes 0: patterns of 4 x 5 at 2 x 3 places" in printed
    assert "nothing that 'stemseg segment' could take" in printed


def test_info_of_several_data_sets(tmp_path, capsys):
    x = np.cos(np.arange(64) * 2 * np.pi / 8) * np.ones((64, 1))
    np.savez(tmp_path / "a.npz", Fe=x, HAADF=x, scan=np.ones((2, 3, 4, 5)))
    assert command("info", tmp_path / "a.npz") == 0
    printed = capsys.readouterr().out
    assert "'stemseg segment' takes * (HAADF), by default" in printed
    assert printed.endswith("'stemseg unmix' takes 2: patterns of 4 x 5 at 2 x 3 places\n")
    assert command("segment", tmp_path / "a.npz", "-o", tmp_path / "out", "--phases", "1") == 0
    printed = capsys.readouterr().out
    assert "note: taken: signal 1, 'HAADF'; others there are: 0: Fe, 2: scan" in printed


def test_no_lattice():
    assert no_lattice(17.0, None) is None
    assert no_lattice(17.0, (0.02, 0.03)) is None
    assert "no period" in no_lattice(None, (0.02, 0.02))
    assert "6 nm are too large" in no_lattice(17.0, (0.02, 6.0))
