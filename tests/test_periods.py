"""The longest period of an image, and the window that suits it."""

import tracemalloc
from functools import partial

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from stemseg_core import PhaseWarning, datasets, segment
from stemseg_core.system.execution import Execution
from stemseg_core.windows import periods
from stemseg_core.windows.images import Frames
from stemseg_core.windows.periods import pixels_along, suited_window, window_of

longest_period = partial(periods.longest_period, execution=Execution(2))
periods_of = partial(periods.periods_of, execution=Execution(2))

Y, X = np.mgrid[:400, :360]


def lattice(period, angle=0.3, sharpness=1):
    """Square lattice of columns of a width that makes many orders if `sharpness` is high."""
    u, v = X * np.cos(angle) + Y * np.sin(angle), Y * np.cos(angle) - X * np.sin(angle)
    return np.exp(sharpness * (np.cos(2 * np.pi * u / period) + np.cos(2 * np.pi * v / period)))


@pytest.mark.parametrize("period", [5.5, 9, 17.2, 24, 40])
@pytest.mark.parametrize("sharpness", [0.3, 3])
def test_period_of_a_lattice(period, sharpness):
    assert longest_period(lattice(period, sharpness=sharpness)) == pytest.approx(period, rel=0.1)


def test_noise_and_dose():
    rng = np.random.default_rng(0)
    clean = lattice(17.2, sharpness=0.7)
    for dose in (100, 1.5):
        image = rng.poisson(clean / clean.mean() * dose)
        assert longest_period(image) == pytest.approx(17.2, rel=0.1)


def test_the_lowest_order_is_the_period():
    """A second order that is stronger than the first does not halve the period."""
    image = 0.6 * np.cos(2 * np.pi * X / 20) + np.cos(2 * np.pi * X / 10)
    assert longest_period(image) == pytest.approx(20, rel=0.05)
    assert periods_of(image).strongest == pytest.approx(10, rel=0.05)
    assert periods_of(lattice(17.2)).strongest == pytest.approx(17.2, rel=0.05)


@pytest.mark.parametrize("dose", [100, 5])
@pytest.mark.parametrize("turn", [0, 0.4, 1.1])
def test_weak_superlattices_are_seen_in_all_directions(turn, dose):
    """Spots of a few percent beside the strongest, in a direction in which the lattice has none below it."""
    u, v = X * np.cos(turn) + Y * np.sin(turn), Y * np.cos(turn) - X * np.sin(turn)
    clean = 3 + np.cos(2 * np.pi * (u + v) / 10) + np.cos(2 * np.pi * (u - v) / 10) + 0.2 * np.cos(2 * np.pi * v / 25)
    found = periods_of(np.random.default_rng(0).poisson(clean / clean.mean() * dose))
    assert found.period == pytest.approx(25, rel=0.1)
    assert found.strongest == pytest.approx(10 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("cell", [75, 110])
def test_cells_larger_than_the_usual_windows(cell):
    """A motif of sites of a lattice, whose cell is several times a period of the sites."""
    y, x = np.mgrid[:768, :700]
    motif = np.zeros((cell, cell))
    motif[:: cell // 5, :: cell // 5] = np.random.default_rng(0).uniform(10, 20, (5, 5))
    tiled = gaussian_filter(np.tile(motif, (12, 12)), 2, mode="wrap")[: y.shape[0], : x.shape[1]]
    assert longest_period(tiled) == pytest.approx(cell, rel=0.12)


@pytest.mark.parametrize("seed", range(3))
def test_edges_and_slow_changes_are_no_periods(seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:640, :640]
    smooth = gaussian_filter(rng.standard_normal(y.shape), 40)
    grains = np.where(x > 300 + 40 * rng.standard_normal(), 1.5, 1) + 0.3 * smooth / smooth.std()
    image = grains * (2 + np.cos(2 * np.pi * x / 12) + np.cos(2 * np.pi * y / 12))
    assert longest_period(rng.poisson(20 * np.maximum(image, 0))) == pytest.approx(12, rel=0.05)


@pytest.mark.parametrize("dose", [60, 2])
@pytest.mark.parametrize("pixel_size", [0.0125, 0.02])
def test_spots_of_many_grains_fill_rings(dose, pixel_size):
    image, _ = datasets.polycrystal((640, 640), 40, 40, random_state=5, dose=dose, pixel_size=pixel_size)
    assert longest_period(image) == pytest.approx(0.2556 / pixel_size, rel=0.1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", [1, 2, 4])
@pytest.mark.parametrize("side", [300, 600])
def test_amorphous_material_has_no_ring(seed, sigma, side):
    rng = np.random.default_rng(seed)
    speckle = gaussian_filter(rng.standard_normal((side, side)), sigma)
    assert longest_period(speckle) is None
    counts = rng.poisson(np.maximum(0, 3 + 3 * speckle / speckle.std()))
    assert longest_period(counts) is None


@pytest.mark.parametrize("side", range(12, 26))
def test_small_images(side):
    y, x = np.mgrid[:side, :side]
    for period in (3.2, side / 4):
        image = np.cos(2 * np.pi * x / period) + np.cos(2 * np.pi * y / period)
        assert longest_period(image) in (None, pytest.approx(period, rel=0.15))


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_period(seed):
    assert longest_period(np.random.default_rng(seed).standard_normal((400, 400))) is None


def test_no_period_in_nothing():
    assert longest_period(np.ones((100, 100))) is None
    for side in (1, 5, 8, 11, 12):
        assert longest_period(np.ones((side, 200))) is None
    assert longest_period(np.full((100, 100), np.nan)) is None


def test_excluded_pixels_do_not_matter():
    image = lattice(17.2)
    image.flat[np.random.default_rng(0).integers(image.size, size=72)] = np.nan
    mask = np.zeros(image.shape, bool)
    mask[100:140] = True
    image[mask] = 1e6
    assert longest_period(image, mask) == pytest.approx(17.2, rel=0.1)


def test_of_large_images_a_bounded_part_is_looked_at():
    image = np.broadcast_to(np.cos(2 * np.pi * np.arange(2**14) / 17).astype(np.float32), (2**14, 2**14))
    tracemalloc.start()
    try:
        assert longest_period(image) == pytest.approx(17, rel=0.1)
        assert tracemalloc.get_traced_memory()[1] < 300e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("corner", [np.s_[:90, :130], np.s_[-100:, 200:], np.s_[:, :]])
def test_windows_of_large_images_lie_where_there_are_pixels(corner, monkeypatch):
    monkeypatch.setattr(periods, "SIDE", 128)
    monkeypatch.setattr(periods, "MOST_PIXELS", X.size - 1)
    monkeypatch.setattr(periods, "MOST_WINDOWS", 4)
    image, mask = np.random.default_rng(0).standard_normal(X.shape), np.ones(X.shape, bool)
    image[corner], mask[corner] = lattice(12)[corner], False
    assert longest_period(image, mask) == pytest.approx(12, rel=0.1)
    assert longest_period(image, np.ones_like(mask)) is None
    assert longest_period(image.T, mask.T) == longest_period(image, mask)


def test_scale_and_dtype_do_not_matter():
    image = lattice(17.2)
    expected = longest_period(image)
    for other in (image * 1e12, image * 1e-12, (image * 100).astype(np.uint16), image.astype(">f4")):
        assert longest_period(other) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("period", "shape", "window"),
    [
        (17, (1024, 1024), 64),
        (None, (1024, 1024), 64),
        (4.4, (1024, 1024), 32),
        (24, (1024, 1024), 80),
        (100, (1024, 1024), 152),
        (300, (1024, 1024), 192),
        (50, (512, 512), 80),
        (100, (512, 512), 128),
        (17, (160, 900), 40),
        (17, (224, 1312), 56),
        (17, (320, 320), 40),
        (27, (512, 512), 64),
        (17, (10, 10), 4),
    ],
)
def test_suited_window(period, shape, window):
    assert suited_window(period, shape) == (window, window)
    assert suited_window(period, shape, (0.02, 0.0201)) == (window, window)


@pytest.mark.parametrize(
    ("shape", "pixel_size", "window"),
    [
        ((1024, 1024), (0.02, 0.04), (90, 46)),
        ((1024, 1024), (0.08, 0.02), (32, 128)),
        ((512, 512), (0.01, 0.1), (126, 12)),
        ((128, 2048), (2, 1), (32, 64)),
    ],
)
def test_suited_window_is_square_in_length(shape, pixel_size, window):
    assert suited_window(17, shape, pixel_size) == window
    assert suited_window(17, shape[::-1], pixel_size[::-1]) == window[::-1]


@pytest.mark.parametrize("ratio", [2, 3])
def test_period_of_pixels_that_are_not_square(ratio):
    image = lattice(17.2)[:, ::ratio]
    period = longest_period(image, pixel_size=(0.01, 0.01 * ratio))
    assert pixels_along(period, (0.01, 0.01 * ratio)) == pytest.approx((17.2, 17.2 / ratio), rel=0.1)
    turned = longest_period(image.T, pixel_size=(0.01 * ratio, 0.01))
    assert turned == pytest.approx(period, rel=0.02)


def test_segment_takes_a_window_square_in_length():
    image = datasets.two_phase((512, 512))[0][:, ::2]
    result = segment(image, 2, pixel_size=(0.02, 0.04))
    y, x = result.params["window"]
    assert y % 2 == x % 2 == 0
    assert y == pytest.approx(2 * x, abs=2)
    assert window_of(Frames.survey(image), pixel_size=(0.02, 0.04), execution=Execution())[0] == (y, x)


def test_segment_takes_it():
    image, _ = datasets.two_phase((320, 320))
    result = segment(image, 2)
    window, period = window_of(Frames.survey(image), execution=Execution())
    assert (window, period) == (suited_window(longest_period(image), image.shape), longest_period(image))
    assert result.params["window"] == window
    side = window[0]
    assert result.params["windows"] == ((2 * side,) * 2, (side,) * 2, (3 * side // 4,) * 2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(300, 320), (2100, 2050)])
def test_surveyed_frames_have_the_period_of_their_pixels(shape, masked):
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.cos(2 * np.pi * x / 13) + np.cos(2 * np.pi * y / 13)
    mask = np.zeros(shape, bool)
    mask[50:60] = masked
    window, period = window_of(Frames.survey(image, mask), execution=Execution(2))
    assert period == longest_period(image, mask)
    assert window == suited_window(period, shape)


@pytest.mark.parametrize("constant", [0, 1 / 3, 5])
def test_windows_without_contrast_have_no_say(constant):
    image = np.random.default_rng(1).standard_normal((512, 512)).astype(np.float32)
    image[:, 256:] = constant
    assert longest_period(image) is None


def test_windows_that_are_no_pixel_wide():
    assert longest_period(np.random.default_rng(0).random((400, 12_000)), pixel_size=(1, 1000)) is None


@pytest.mark.parametrize("scale", [1e-30, 1e15, 1e300])
def test_the_scale_of_the_pixels_does_not_matter(scale):
    image = np.sin(2 * np.pi * X / 10) + np.sin(2 * np.pi * Y / 10)
    assert longest_period(scale * image) == pytest.approx(longest_period(image))


def test_a_window_smaller_than_a_cell_is_said():
    y, x = np.mgrid[:256, :256]
    image = np.cos(2 * np.pi * x / 30) + np.where(x < 128, np.cos(2 * np.pi * y / 15), np.cos(2 * np.pi * x / 10))
    image += np.random.default_rng(0).standard_normal(image.shape)
    said = "smaller than the longest period of the image, 2[5-9]|3. px"
    with pytest.warns(PhaseWarning, match=f"the window of 24 x 24 px is {said}"):
        result = segment(image, 2, window=24)
    assert result.period == pytest.approx(30, rel=0.1)
    assert not any("smaller" in doubt for doubt in segment(image, 2).doubts)
    by_intensity = segment(image + 20 * (x < 128), 2, window=24, contrast="only")  # no window is looked at
    assert by_intensity.period > 24
    assert by_intensity.doubts == ()


@pytest.mark.parametrize("n", [200, 700, 2049])
@pytest.mark.parametrize(("dtype", "masked"), [(np.uint8, False), (np.float64, True)])
def test_memory_is_at_most_what_was_predicted(n, dtype, masked, peak_bytes, monkeypatch):
    monkeypatch.setattr(periods, "MOST_PIXELS", 2**20)  # of a larger image windows are copied
    monkeypatch.setattr(periods, "MOST_WINDOWS", 64)
    monkeypatch.setattr(periods, "MOST_LARGE_WINDOWS", 4)
    image = (100 + 50 * np.sin(2 * np.pi * np.arange(n) / 12) * np.ones((n, 1))).astype(dtype)
    mask = np.zeros(image.shape, bool)
    mask[0, 0] = True
    frames = Frames.survey(image, mask if masked else None)
    predicted = periods.period_bytes(frames)
    peak = peak_bytes(lambda: periods.window_of(frames, execution=Execution()))
    assert predicted / 3 < peak < predicted
