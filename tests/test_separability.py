"""The number of phases of an image, and whether they are separated more than by chance."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stemseg_core import (
    ComponentEstimate,
    PhaseWarning,
    Segmentation,
    WindowFFT,
    datasets,
    estimate_n_components,
    plot,
    segment,
)
from stemseg_core.command.cli import main
from stemseg_core.phases.separability import _nearest_pair, _surrogate, estimate_n_phases
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


@pytest.mark.parametrize("k", [2, 3, 4])
def test_regions_are_counted(rng, k):
    planes = fields(rng, 40, 60)
    planes[:k] += 8 * gaussian_filter((np.arange(60) * k // 60 == np.arange(k)[:, None]).astype(float), (0, 2))[:, None]
    assert estimate_n_phases(planes.reshape(8, -1).T, grid_of(40, 60), Execution(2)).n_components == k


def test_a_ramp_and_correlated_noise_are_one_phase(rng):
    y, x = np.mgrid[:50, :50] / 50
    for ramp in (0, 3 * x, 10 * (x + y), 10 * np.sin(2 * x)):
        planes = fields(rng, 50, 50)
        planes[0] += ramp
        assert estimate_n_phases(planes.reshape(8, -1).T, grid_of(50, 50), Execution(2)).n_components == 1


def test_windows_on_a_boundary_are_no_phase(rng):
    # A strip of mixed windows, of spectra of its own, between two phases.
    planes = 0.2 * fields(rng, 50, 50)
    x = np.arange(50)
    planes[0] += np.where(x < 25, -4, 4)
    planes[1] += 6 * (abs(x - 24.5) < 3)
    assert estimate_n_phases(planes.reshape(8, -1).T, grid_of(50, 50), Execution(2)).n_components == 2


def test_excluded_windows_and_dense_grids(rng):
    planes = fields(rng, 150, 150, sigma=6)
    planes[0, :, 75:] += 8
    included = np.ones((150, 150), bool)
    included[:, 140:] = included[40:80, 60:90] = False
    scores = planes[:, included].T
    assert estimate_n_phases(scores, grid_of(150, 150, included), Execution(2)).n_components == 2
    assert estimate_n_phases(np.zeros_like(scores), grid_of(150, 150, included), Execution(2)).n_components == 1


def test_separation_is_that_of_two_gaussians(rng):
    rows = rng.standard_normal((20_000, 3)) * [2, 1, 5]
    rows[10_000:, 0] += 12
    assert _nearest_pair(rows, np.repeat([0, 1], 10_000), 2) == pytest.approx(6, rel=0.02)


def test_surrogates_keep_variances_and_covariances_on_average(rng):
    planes = fields(rng, 40, 40, r=2, sigma=2)
    planes[1] = 0.6 * planes[0] + 0.8 * planes[1]
    rows = planes.reshape(2, -1).T
    included = np.ones((40, 40), bool)
    found = np.mean([np.cov(_surrogate(rows, included, rng).T) for _ in range(100)], axis=0)
    np.testing.assert_allclose(found, np.cov(rows.T), atol=0.15)


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
    assert segment(image, "auto", method=method).params["n_phases"] == 2
    one = segment(image, 1, method=method)
    assert (one.label_image == 0).all()
    assert (one.abundances == 1).all()


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


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("dose", [None, 8])
def test_one_phase_cut_up_is_no_better_separated_than_chance(k, dose, rng):
    image = rng.standard_normal((448, 448)) if dose is None else datasets.single_phase((448, 448), dose=dose)[0]
    with pytest.warns(PhaseWarning, match=f"the {k} phases are no better separated than chance"):
        result = segment(image, k)
    assert result.separation.by_chance
    assert result.separation.n_phases == k


def test_true_phases_are_better_separated_than_chance(found):
    image, _ = found
    result = segment(image, 2)
    assert result.separation.value > 1.3 * result.separation.chance
    assert result.doubts == ()


def test_threads_do_not_change_the_separation(found):
    image, result = found
    assert segment(image, 2, n_jobs=1).separation == result.separation


def test_why_one_phase_was_found():
    result = segment(datasets.single_phase((320, 320), dose=20)[0], "auto")
    assert np.isnan(result.confidence).all()
    assert result.reason_for_one.startswith("1 phase: ")


def test_separation_is_known_of_the_default_method_alone(found):
    image, _ = found
    assert segment(image, 2, method="nfindr").separation is None


@pytest.mark.parametrize("k", [2, 3])
def test_what_is_excluded_around_a_crystal_is_no_part_of_its_map(k):
    crystal, _ = datasets.single_phase((200, 200), dose=20)
    image, mask = np.zeros((600, 600), np.float32), np.ones((600, 600), bool)
    image[200:400, 180:380] = crystal
    mask[200:400, 180:380] = False
    alone = segment(crystal, k, window=48)
    masked = segment(image, k, window=48, mask=mask)
    assert np.isnan(alone.separation.chance)  # too few windows to judge by
    assert np.isnan(masked.separation.chance)
