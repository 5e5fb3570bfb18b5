"""`stemseg unmix` and its jobs: what reaches unmix(), what is written; segment_job, unmix_job, words, truth."""

import csv
import json

import numpy as np
import pytest
import tifffile

import stemseg_core
from stemseg_core import datasets, unmix
from stemseg_core.calibration.axes import Axis
from stemseg_core.command import unmix_job
from stemseg_core.command.cli import main
from stemseg_core.command.truth import errors
from stemseg_core.command.unmix_job import UnmixJob
from stemseg_core.cubes.cube import Cube
from stemseg_core.cubes.unmixing import Unmixing

NAMES = ["components.png", "abundances.png", "abundances.tif", "labels.tif", "components.csv", "component_1.msa"]
NAMES += ["component_2.msa", "report.html", "unmixing.npz", "summary.json"]
AXES = (Axis("y", 0, 2.0, "nm"), Axis("x", 0, 3.0, "nm"), Axis("Energy", 100.0, 20.0, "eV"))


def command(*words):
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(2), (9, 12))
    return rng.poisson(shares @ (rng.random((2, 60)) * 20)).astype(np.uint16)


@pytest.fixture
def path(counts, tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "cube.npy", counts)
    return tmp_path / "in" / "cube.npy"


@pytest.fixture
def calibrated(monkeypatch):
    """Every cube that is opened has axes."""
    opened = unmix_job.open_cube

    class Opened:
        def __init__(self, *arguments):
            self.inner = opened(*arguments)

        def __enter__(self):
            file = self.inner.__enter__()
            object.__setattr__(file, "cube", Cube.of(file.cube, axes=AXES))
            return file

        def __exit__(self, *error):
            return self.inner.__exit__(*error)

    monkeypatch.setattr(unmix_job, "open_cube", Opened)


@pytest.fixture
def stub(monkeypatch):
    calls = []

    def stopped(cube, n_components, **options):
        calls.append(options | {"n_components": n_components, "cube": cube})
        raise ValueError("enough")

    monkeypatch.setattr(unmix_job, "unmix", stopped)
    return calls


def refused(capsys, *words):
    assert command(*words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_writes_all_results(path, counts, tmp_path, calibrated, capsys):
    out = tmp_path / "deep" / "out"
    assert command("unmix", path, "-o", out, "-n", 2) == 0
    printed, err = capsys.readouterr()
    assert err == ""
    assert sorted(p.name for p in out.iterdir()) == sorted(NAMES)
    for words in ("cube.npy: 9 x 12 x 60 uint16; y: 2 nm", "note: values are whole numbers", "component 2:", str(out)):
        assert words in printed
    result = Unmixing.load(out / "unmixing.npz")
    expected = unmix(Cube.of(counts, axes=AXES), 2)
    np.testing.assert_array_equal(result.abundances, expected.abundances)
    with tifffile.TiffFile(out / "abundances.tif") as tiff:
        np.testing.assert_array_equal(tiff.asarray(), result.abundances)
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert denominator / numerator == pytest.approx(3)
    np.testing.assert_array_equal(tifffile.imread(out / "labels.tif"), result.labels + 1)
    with (out / "components.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["Energy (eV)", "component 1", "component 2"]
    table = np.array(rows, float)
    np.testing.assert_allclose(table[:, 0], 100 + 20 * np.arange(60))
    np.testing.assert_allclose(table[:, 1:].T, result.components, rtol=1e-6)
    summary = json.loads((out / "summary.json").read_text())
    assert [axis["name"] for axis in summary["axes"]] == ["y", "x", "Energy"]
    assert summary["axes"][2] == {"name": "Energy", "offset": 100, "scale": 20, "units": "eV"}
    assert sum(summary["shares"]) == pytest.approx(1)
    assert summary["stemseg_core"] == stemseg_core.__version__
    assert summary["files"] == NAMES


def test_json(path, tmp_path, capsys):
    assert command("unmix", path, "-o", tmp_path / "out", "-n", 2, "--method", "svd", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert not (tmp_path / "out" / "labels.tif").exists()


def test_files_of_an_earlier_run_do_not_stay(path, tmp_path):
    """A map of labels, or a spectrum, beside results that it is not of would mislead; other files are left alone."""
    out = tmp_path / "out"
    assert command("unmix", path, "-o", out, "-n", 2, "--quiet") == 0
    for name in ("component_9.msa", "overlay.png"):
        (out / name).write_text("mine")
    assert command("unmix", path, "-o", out, "-n", 1, "--method", "svd", "--quiet") == 0
    left = {p.name for p in out.iterdir()}
    assert not left & {"labels.tif", "component_2.msa"}
    assert {"component_9.msa", "overlay.png", "component_1.msa"} <= left


def test_options_reach_unmix(path, tmp_path, stub, calibrated):
    mask = np.zeros((9, 6), np.uint8)
    mask[0] = 1
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    words = "--range 0.3:1keV --bin 1,2,3 --poisson --seed 7 --jobs 1 --max-memory 4GB --invalid exclude --faults keep"
    command("unmix", path, "-o", tmp_path / "out", "--method", "vca", "--mask", tmp_path / "mask.tif", *words.split())
    (options,) = stub
    assert options.pop("cube").map_shape == (9, 6)
    np.testing.assert_array_equal(options.pop("mask"), mask == 1)
    assert options.pop("signal_range") == pytest.approx((300, 1000))
    assert options == {
        "n_components": "auto", "method": "vca", "noise": "poisson", "random_state": 7, "n_jobs": 1,
        "max_memory": "4GB", "invalid": "exclude", "faults": "keep", "progress": None,
    }  # fmt: skip


def test_what_is_not_given_is_left_to_unmix(path, tmp_path, stub):
    command("unmix", path, "-o", tmp_path / "out", "--no-weights")
    command("unmix", path, "-o", tmp_path / "out", "-n", 3)
    assert [set(call) for call in stub] == [
        {"cube", "n_components", "progress", "noise"},
        {"cube", "n_components", "progress"},
    ]
    assert stub[0]["noise"] is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--range 10:20eV", "--range: expected numbers of channels, without a unit"),
        ("--range 20:10", "from:to"),
        ("--range 3", "from:to"),
        ("--range 500:600", "--range 500:600 holds no channel"),
        ("--bin 40", "--bin must be a whole number"),
        ("--bin 0", "at least 1"),
        ("-n 0", "at least 1"),
        ("-n 99", "--components must be at most 60"),
        ("--poisson --no-weights", "not allowed with"),
        ("--signal 3", "--signal"),
    ],
)
def test_refusals(path, tmp_path, capsys, words, expected):
    assert expected in refused(capsys, "unmix", path, "-o", tmp_path / "out", *words.split())
    assert not (tmp_path / "out").exists()


def test_a_range_of_another_kind_is_refused(path, tmp_path, capsys, calibrated):
    assert "expected a range in eV" in refused(capsys, "unmix", path, "-o", tmp_path / "out", "--range", "1:2nm")


def test_outputs_are_refused_before_work(path, tmp_path, capsys, stub):
    for name in ("unmixing.npz", "component_2.msa", "labels.tif"):
        (tmp_path / name / name).mkdir(parents=True)
        assert f"{name} is a folder" in refused(capsys, "unmix", path, "-o", tmp_path / name, "-n", 2)
    assert not stub
    np.save(tmp_path / "image.npy", np.ones((20, 20)))
    assert "image.npy" in refused(capsys, "unmix", tmp_path / "image.npy", "-o", tmp_path / "out")


def test_masks_of_another_shape(path, tmp_path, capsys):
    tifffile.imwrite(tmp_path / "mask.tif", np.zeros((3, 3), np.uint8))
    err = refused(capsys, "unmix", path, "-o", tmp_path / "out", "--mask", tmp_path / "mask.tif")
    assert "--mask: expected the shape 9 x 12 of cube.npy, mask.tif has 3 x 3" in err


def test_info_names_the_command(path, capsys):
    assert command("info", path) == 0
    assert "'stemseg unmix' takes" in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(12, 60), (2, 9, 6, 60)])
def test_lines_and_stacks_of_maps(counts, tmp_path, shape):
    job = UnmixJob(path=tmp_path / "a.npy", source="a.npy", sha256=None, file=None, cube=None)
    result = unmix(counts[:, :, :].reshape(-1, 60)[: np.prod(shape[:-1])].reshape(shape), 2)
    results = unmix_job._arrays(result, "a", tmp_path)
    for step in results:
        step()
    maps = tifffile.imread(tmp_path / "abundances.tif")
    assert maps.size == result.abundances.size
    assert job.possible(3)[-1] == "summary.json"


@pytest.mark.parametrize("kind", ["edx", "4d"])
def test_demo(tmp_path, capsys, monkeypatch, kind):
    small = {"edx": lambda: datasets.edx_cube((24, 24), channels=256), "4d": lambda: datasets.scan_4d((12, 14))}
    name = {"edx": "edx_cube", "4d": "scan_4d"}[kind]
    made = small[kind]()
    monkeypatch.setattr(datasets, name, lambda: made)
    assert command("demo", "--cube", kind, "-o", tmp_path / "out") == 0
    assert "against the known truth: spectral angle" in capsys.readouterr().out
    assert {"cube.npy", "truth.npz", "report.html"} <= {p.name for p in (tmp_path / "out").iterdir()}


def test_errors_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    components, shares = rng.random((3, 40)), np.moveaxis(rng.dirichlet(np.ones(3), (8, 9)), -1, 0)
    components /= components.sum(axis=1, keepdims=True)
    order = [2, 0, 1]
    found = Unmixing(
        components=5 * components[order], abundances=(shares[order] / 5).astype(np.float32), residual=np.zeros((8, 9)),
        residual_spectrum=np.zeros(40), axes=(Axis("y"), Axis("x"), Axis("E")), explained_variance=1.0,
    )  # fmt: skip
    angle, error = errors(found, components, shares)
    assert angle < 1e-4
    assert error < 1e-6
    assert errors(found, components, np.roll(shares, 1, axis=1)).shares > 0.1
