"""The number of phases of an image, and whether they are separated more than by chance; `places` of windows."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stemseg_core import (
    ComponentEstimate,
    Curve,
    PhaseWarning,
    Segmentation,
    Separation,
    WindowFFT,
    datasets,
    estimate_n_components,
    plot,
    segment,
)
from stemseg_core.command.cli import main
from stemseg_core.phases.scores import PhaseMap, Problem
from stemseg_core.phases.separability import Witnesses, estimate_n_phases
from stemseg_core.plot.curves import CRITERIA
from stemseg_core.plot.report import write_report
from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def grid_of(ny, nx, included=None):
    return Grid(np.ones((ny, nx), bool) if included is None else included, (64, 64), (8, 8))


def fields(rng, ny, nx, r=8, sigma=3):
    """Smooth Gaussian scores (r, ny, nx) of unit variance."""
    planes = gaussian_filter(rng.standard_normal((r, ny, nx)), (0, sigma, sigma))
    return planes / planes.std(axis=(1, 2), keepdims=True)


# ---------------------------------------------------------------------------------------------------------------- maps


def count(scores, grid):
    return estimate_n_phases(Witnesses.of(scores, grid, 12.0), Execution(2)).n_components


def separation(planes, labels, included=None):
    """Of phases (ny, nx) on a map of scores (r, ny, nx)."""
    included = np.ones(labels.shape, bool) if included is None else included
    witnesses = Witnesses.of(planes[:, included].T, grid_of(*labels.shape, included), 12.0)
    return witnesses.separation_of(labels[included], labels.max() + 1)


@pytest.mark.parametrize("k", [2, 3, 4])
def test_regions_are_counted(rng, k):
    planes = fields(rng, 40, 80)
    planes[:k] += 8 * gaussian_filter((np.arange(80) * k // 80 == np.arange(k)[:, None]).astype(float), (0, 2))[:, None]
    assert count(planes.reshape(8, -1).T, grid_of(40, 80)) == k


def test_a_ramp_and_correlated_noise_are_one_phase(rng):
    y, x = np.mgrid[:50, :50] / 50
    for ramp in (0, 3 * x, 10 * (x + y), 10 * np.sin(2 * x)):
        planes = fields(rng, 50, 50)
        planes[0] += ramp
        assert count(planes.reshape(8, -1).T, grid_of(50, 50)) == 1


def test_windows_on_a_boundary_are_no_phase(rng):
    # A strip of mixed windows, of spectra of its own, between two phases.
    planes = 0.2 * fields(rng, 50, 50)
    x = np.arange(50)
    planes[0] += np.where(x < 25, -4, 4)
    planes[1] += 6 * (abs(x - 24.5) < 3)
    assert count(planes.reshape(8, -1).T, grid_of(50, 50)) == 2


@pytest.mark.parametrize(("off", "is_phase"), [(1.0, False), (12.0, True)])
def test_a_band_that_looks_like_a_mixture_of_its_neighbours_is_no_phase(rng, off, is_phase):
    # Two windows wide, so that it has a core.
    planes = 0.2 * fields(rng, 60, 60)
    x = np.arange(60)
    band = abs(x - 29.5) < 8
    labels = np.broadcast_to(np.where(band, 1, np.where(x < 30, 0, 2)), (60, 60))
    planes[0] += gaussian_filter(np.where(band, 0.0, np.where(x < 30, -4.0, 4.0)), 2)
    planes[1] += gaussian_filter(off * band, 2)
    assert separation(planes, labels).exists == is_phase


def test_excluded_windows_and_dense_grids(rng):
    planes = fields(rng, 150, 150, sigma=6)
    planes[0, :, 75:] += 8
    included = np.ones((150, 150), bool)
    included[:, 140:] = included[40:80, 60:90] = False
    scores = planes[:, included].T
    assert count(scores, grid_of(150, 150, included)) == 2
    assert count(np.zeros_like(scores), grid_of(150, 150, included)) == 1


def test_separation_is_the_step_over_the_scatter(rng):
    planes = rng.standard_normal((3, 100, 100)) * np.array([2, 1, 5])[:, None, None]
    planes[0, :, 50:] += 12
    labels = np.broadcast_to(np.arange(100) // 50, (100, 100))
    assert separation(planes, labels).value == pytest.approx(6, rel=0.05)


def test_one_score(rng):
    planes = rng.standard_normal((1, 100, 100))
    planes[0, :, 50:] += 6
    labels = np.broadcast_to(np.arange(100) // 50, (100, 100))
    assert separation(planes, labels).value == pytest.approx(6, rel=0.05)


def test_what_changes_gradually_makes_no_step(rng):
    planes = fields(rng, 60, 60)
    planes[0] += 30 * np.arange(60) / 60
    labels = np.broadcast_to(np.arange(60) // 30, (60, 60))
    assert separation(planes, labels).value < 2
    planes[1, :, 30:] += 9
    assert separation(planes, labels).exists


@pytest.mark.parametrize(("side", "step"), [(64, 8), (32, 4)])
def test_a_wide_step_counts_by_what_changes_over_the_width_of_a_sharp_one(rng, side, step):
    grid, labels = Grid(np.ones((60, 120), bool), (64, side), (8, step)), np.arange(7200) % 120 // 60
    noise = rng.standard_normal((3, 60, 120))
    sharp = 0.25 * np.hypot(side, 5 * 12) / step  # smoothing over 12 px included
    found = []
    for width in (0.0, 1.0, 2.0, 3.0):
        planes = noise.copy()
        planes[0] += 24 * gaussian_filter((np.arange(120) >= 60).astype(float), width * sharp, mode="nearest")
        found.append(Witnesses.of(planes.reshape(3, -1).T, grid, 12.0).separation_of(labels, 2).value)
    assert found[0] == pytest.approx(24, rel=0.05)
    # A wide step is also incomplete where cores begin.
    assert found[1] > 0.7 * found[0]
    assert np.nan_to_num(found[2]) < 0.45 * found[1]
    assert np.isnan(found[3])  # more than chance, but gradual: not to be told


def test_small_maps_must_be_separated_better(rng):
    labels = np.broadcast_to(np.arange(100) // 50, (100, 100))
    planes = rng.standard_normal((3, 100, 100))
    small, large = separation(planes[:, :40, 30:70], labels[:40, 30:70]), separation(planes, labels)
    assert small.chance > 1.15 * large.chance
    planes += 2 * labels
    assert separation(planes[:, :15, 30:70], labels[:15, 30:70]).exists is False
    assert np.isnan(separation(planes[:, :15, 30:70], labels[:15, 30:70]).value)  # too few windows to call it chance


def test_what_is_excluded_around_a_map_is_no_part_of_it(rng):
    planes = np.zeros((8, 90, 90))
    planes[:, 20:60, 20:60] = fields(rng, 40, 40)
    labels = np.broadcast_to(np.arange(90) // 40, (90, 90)) % 2
    included = np.zeros((90, 90), bool)
    included[20:60, 20:60] = True
    alone = separation(planes[:, 20:60, 20:60], labels[20:60, 20:60])
    masked = separation(planes, labels, included)
    assert masked.chance == pytest.approx(alone.chance)


def test_many_specks_are_no_core(rng):
    noise = 0.2 * fields(rng, 80, 80)
    labels = np.zeros((80, 80), int)
    for y in range(6, 70, 16):
        for x in range(6, 70, 16):
            labels[y : y + 9, x : x + 9] = 1
    assert np.isnan(separation(noise + 9 * labels, labels).value)
    labels[50:] = 1
    assert separation(noise + 9 * labels, labels).exists


def test_a_phase_without_windows_or_core_has_no_separation(rng):
    planes = fields(rng, 40, 40)
    labels = np.zeros((40, 40), int)
    labels[:, 20:] = 2
    assert np.isnan(separation(planes, labels).value)
    labels[3:5, 3:5] = 1
    assert np.isnan(separation(planes, labels).value)


# -------------------------------------------------------------------------------------------------------------- images


@pytest.mark.parametrize("dose", [2, 40])
def test_one_crystal_is_one_phase(dose):
    image, _ = datasets.single_phase((320, 320), angle=10, dose=dose, thickness_ramp=0.5, drift=12, contamination=0.3)
    assert segment(image, "auto").params["n_phases"] == 1


@pytest.mark.parametrize("k", [2, 3, 4])
def test_grains_of_a_polycrystal_are_counted(k):
    image, _ = datasets.polycrystal((448, 448), k, k, dose=10, random_state=k)
    assert segment(image, "auto").params["n_phases"] == k


def test_faint_differences_and_vacuum():
    assert segment(datasets.superlattice((448, 448))[0], "auto").params["n_phases"] == 2
    assert segment(datasets.crystal_amorphous_vacuum((512, 512))[0], "auto").params["n_phases"] == 3


@pytest.fixture(scope="module")
def found():
    image, _ = datasets.two_phase((256, 320))
    return image, segment(image, "auto")


def test_found_number_gives_the_same_map_as_that_number(found):
    image, result = found
    given = segment(image, 2)
    assert given.estimate is None
    assert given.params == result.params
    np.testing.assert_array_equal(given.label_image, result.label_image)
    np.testing.assert_array_equal(given.abundances, result.abundances)


def test_threads_do_not_change_the_estimate(found):
    image, result = found
    assert segment(image, "auto", n_jobs=1).estimate.to_dict() == result.estimate.to_dict()


@pytest.mark.parametrize("method", ["nfindr", "nmf", "ica"])
def test_every_method_takes_auto_and_one(found, method):
    image, _ = found
    result = segment(image, "auto", method=method)
    assert result.params["n_phases"] == 2
    assert result.separation.exists
    assert result.separation == segment(image, 2, method=method).separation
    one = segment(image, 1, method=method)
    assert (one.label_image == 0).all()
    assert (one.abundances == 1).all()
    assert one.separation is None
    assert one.verdict is None


def test_estimate_survives_saving(found, tmp_path):
    result = found[1]
    result.save(tmp_path / "s.npz")
    again = Segmentation.load(tmp_path / "s.npz").estimate
    assert isinstance(again, ComponentEstimate)
    assert again.to_dict() == result.estimate.to_dict()
    curve, expected = again.curves["separation"], result.estimate.curves["separation"]
    np.testing.assert_array_equal(curve.value, expected.value)
    np.testing.assert_array_equal(curve.null, expected.null)
    assert curve.k.dtype == expected.k.dtype
    json.dumps(result.to_dict()["estimate"], allow_nan=False)


def test_report_and_panel(found, tmp_path):
    image, result = found
    for s, shown in ((result, True), (segment(image, 1), False), (segment(image[:, :150], "auto"), True)):
        write_report(s, tmp_path / "r.html")
        assert ("How many phases" in (tmp_path / "r.html").read_text()) == shown
        assert s.plot().axes
    figure = plot.estimate(result.estimate)
    (ax,) = figure.axes
    assert ax.get_title() == "separation: 2"
    assert any(list(line.get_xdata()) == [2, 2] for line in ax.lines)


def test_command_finds_the_number(found, tmp_path, capsys):
    np.save(tmp_path / "image.npy", found[0])
    assert main(["segment", str(tmp_path / "image.npy"), "-o", str(tmp_path / "out"), "--phases", "auto"]) == 0
    assert "2 phases from" in (printed := capsys.readouterr().out)
    assert "the number of phases was found" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["parameters"]["n_phases"] == 2
    assert ComponentEstimate.from_dict(summary["n_phases_estimate"]).n_components == 2
    assert "How many phases" in (tmp_path / "out" / "report.html").read_text()


def test_panel_of_all_criteria():
    matrix = WindowFFT(64, 16).matrix(datasets.two_phase((256, 320))[0])
    found = estimate_n_components(matrix)
    assert (found.method, found.n_components) == ("separation", 2)
    axes = plot.estimate(found).axes
    titles = [ax.get_title() for ax in axes]
    assert len(titles) == len(found.curves)
    for ax, (name, curve) in zip(axes, found.curves.items(), strict=True):
        counted, null = CRITERIA[name]
        assert ax.get_xlabel() == f"number of {counted}"
        compared = curve.null is not None and bool(np.isfinite(curve.null).any())
        assert [t.get_text() for t in ax.get_legend().get_texts()] == ["measured", "taken"] + [null] * compared
    assert "separation: 2, decides" in titles


@pytest.mark.parametrize(
    ("n_phases", "options", "message"),
    [("many", {}, "n_phases must be"), ("auto", {"method": datasets}, "object with fit|own number")],
)
def test_wrong_numbers_of_phases(n_phases, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        segment(np.zeros((128, 128)), n_phases, **options)


def test_few_windows():
    assert segment(datasets.single_phase((72, 72))[0], "auto").params["n_phases"] == 1


# ------------------------------------------------------------------------------------------- phases against chance


@pytest.mark.parametrize("method", ["nfindr", "nmf", "ica"])
@pytest.mark.parametrize("dose", [None, 8])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")
def test_one_phase_cut_in_two_by_other_methods_is_not_told_from_chance(method, dose, rng):
    image = rng.standard_normal((384, 384)) if dose is None else datasets.single_phase((384, 384), dose=dose)[0]
    result = segment(image, 2, method=method)
    assert not result.separation.exists  # where phases are specks, there is no separation
    assert " chance" in result.verdict


@pytest.mark.parametrize("dose", [None, 8])
def test_one_phase_cut_in_two_is_no_better_separated_than_chance(dose, rng):
    image = rng.standard_normal((384, 384)) if dose is None else datasets.single_phase((384, 384), dose=dose)[0]
    with pytest.warns(PhaseWarning, match="the 2 phases are no better separated than chance"):
        result = segment(image, 2)
    assert result.separation.by_chance
    assert result.separation.n_phases == 2


@pytest.mark.parametrize("method", ["kmeans", "nfindr", "nmf", "ica"])
def test_true_phases_are_better_separated_than_chance(found, method):
    image, _ = found
    result = segment(image, 2, method=method)
    assert result.separation.value > 1.3 * result.separation.chance
    assert result.doubts == ()


def test_threads_do_not_change_the_separation(found):
    image, result = found
    assert segment(image, 2, n_jobs=1).separation == result.separation


def test_the_verdict_is_one_sentence_everywhere(tmp_path, capsys):
    image = datasets.single_phase((256, 256), dose=8)[0]
    np.save(tmp_path / "image.npy", image)
    assert main(["segment", str(tmp_path / "image.npy"), "-o", str(tmp_path / "out"), "--phases", "2"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    result = Segmentation.load(tmp_path / "out" / "segmentation.npz")
    assert result.verdict.startswith("the 2 phases are no better separated than chance: ")
    assert result.verdict in told
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["verdict"] == result.verdict
    assert result.verdict in (tmp_path / "out" / "report.html").read_text()
    legend = plot.overlay(result).legends[0].get_texts()
    assert result.verdict in [text.get_text().replace("\n", " ") for text in legend]


def test_why_one_phase_was_found():
    result = segment(datasets.single_phase((320, 320), dose=20)[0], "auto")
    assert np.isnan(result.confidence).all()
    assert result.verdict.startswith("1 phase: ")


def test_a_number_whose_finished_map_fails_is_lowered():
    asked = []

    def find(k):
        asked.append(k)
        separation = Separation(k, 9.0 if k == 2 else 3.0, 5.0) if k > 1 else None
        return PhaseMap(np.ones((4, k), np.float32), partition=True, separation=separation)

    curve = Curve(4, np.arange(1, 5), np.array([np.nan, 9, 8, 7.0]), np.full(4, 5.0))
    problem = Problem(spectra=None, grid=None, parameters=None, execution=None)
    found = problem.settled(ComponentEstimate(4, "separation", {"separation": curve}), find)
    assert asked == [4, 3, 2]
    assert found.estimate.n_components == found.estimate.curves["separation"].n_components == 2
    np.testing.assert_array_equal(found.estimate.curves["separation"].value[1:], [9, 3, 3])
