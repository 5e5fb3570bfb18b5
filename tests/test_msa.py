"""EMSA/MAS: what is written is what another program reads."""

import numpy as np
import pytest

from stemseg_core.calibration.axes import Axis
from stemseg_core.io.msa import write_msa

msa = pytest.importorskip("rsciio.msa")


def read(path):
    (signal,) = msa.file_reader(str(path))
    return signal


@pytest.mark.parametrize("size", [1, 7, 2048])
def test_values_and_axis_come_back(tmp_path, size):
    values = np.random.default_rng(0).normal(0, 1, size) * 10.0 ** np.random.default_rng(1).integers(-9, 9, size)
    write_msa(tmp_path / "a.msa", values, Axis("Energy loss", 450.5, 0.25, "eV"), "component 1")
    signal = read(tmp_path / "a.msa")
    np.testing.assert_allclose(signal["data"], values, rtol=1e-8)  # small ones too
    (axis,) = signal["axes"]
    assert (axis["offset"], axis["scale"], axis["units"], axis["size"]) == (450.5, 0.25, "eV", size)
    assert signal["metadata"]["General"]["title"] == "component 1"


def test_channels_left_out_are_zeros_and_said(tmp_path):
    write_msa(tmp_path / "a.msa", np.array([1, np.nan, 3], np.float32), Axis("E"))
    assert read(tmp_path / "a.msa")["data"].tolist() == [1, 0, 3]
    assert "channels left out, written as 0: 1" in (tmp_path / "a.msa").read_text()


def test_lines_are_those_of_the_format(tmp_path):
    write_msa(tmp_path / "a.msa", np.arange(3.0), Axis("Energie verlöre", units="\u00b5m"), "x" * 200)
    raw = (tmp_path / "a.msa").read_bytes()
    lines = raw.decode("ascii").split("\r\n")
    assert lines[0] == "#FORMAT      : EMSA/MAS Spectral Data File"
    assert lines[-2:] == ["#ENDOFDATA   : ", ""]
    assert max(map(len, lines)) <= 80
    assert b"\n" not in raw.replace(b"\r\n", b"")
