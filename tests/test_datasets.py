"""Simulated images (datasets, microscope): what is in them is what the truth says."""

from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from stemseg_core import datasets
from stemseg_core.datasets.microscope import Canvas, Imaging
from stemseg_core.system.errors import ParameterError

MAKERS = {
    "single_phase": (datasets.single_phase, {0}),
    "two_phase": (datasets.two_phase, {0, 1}),
    "superlattice": (datasets.superlattice, {0, 1}),
    "polycrystal": (datasets.polycrystal, {0, 1, 2, 3}),
    "crystal_amorphous_vacuum": (datasets.crystal_amorphous_vacuum, {0, 1, 2}),
    "inclined_interface": (datasets.inclined_interface, None),
}
STILL = {"drift": 0.0, "jitter": 0.0}


def turned(crystal, order, angle):
    """Frequency in cycles per pixel of the reflection `order` (my, mx) of a crystal turned by `angle` degrees."""
    ky, kx = np.array(order) / crystal.cell * datasets.PIXEL_SIZE
    sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    return ky * cosine + kx * sine, kx * cosine - ky * sine


def strength(image, inside, frequency):
    """Amplitude of the image at a frequency, in the pixels of `inside` (eroded, tapered), relative to their mean."""
    weight = ndimage.gaussian_filter(ndimage.binary_erosion(inside, iterations=24).astype(float), 8)
    weight /= weight.sum()
    y, x = np.indices(image.shape)
    mean = (image * weight).sum()
    wave = np.exp(-2j * np.pi * (frequency[0] * y + frequency[1] * x))
    return abs(((image - mean) * weight * wave).sum()) / mean


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("shape", [(256, 256), (150, 333), (301, 128)])
def test_shapes_types_and_labels(name, shape):
    make, expected = MAKERS[name]
    image, truth = make(shape)
    assert image.shape == truth.shape == shape
    assert image.dtype == np.float32
    assert np.isfinite(image).all()
    if expected is None:
        assert truth.dtype == np.float32
        assert truth.min() == 0
        assert truth.max() == 1
    else:
        assert truth.dtype == np.uint8
        assert set(np.unique(truth)) == expected


@pytest.mark.parametrize("name", MAKERS)
def test_the_seed_decides(name):
    make = partial(MAKERS[name][0], (96, 128))
    image, truth = make(random_state=3)
    again, same_truth = make(random_state=3)
    other, _ = make(random_state=4)
    np.testing.assert_array_equal(image, again)
    np.testing.assert_array_equal(truth, same_truth)
    assert not np.array_equal(image, other)
    assert not np.array_equal(make(random_state=None)[0], make(random_state=None)[0])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dose", [1.5, 40])
def test_dose_is_the_mean_count_over_the_specimen(name, dose):
    image, truth = MAKERS[name][0]((256, 256), dose=dose, read_noise=0.5)
    specimen = truth != 2 if name == "crystal_amorphous_vacuum" else np.ones(truth.shape, bool)
    assert image[specimen].mean() == pytest.approx(dose, rel=0.02)


def test_dose_does_not_change_the_specimen():
    bright, truth = datasets.two_phase((128, 128), dose=1e6, read_noise=0)
    dark, same = datasets.two_phase((128, 128), dose=10, read_noise=0)
    np.testing.assert_array_equal(truth, same)
    np.testing.assert_array_equal(dark, np.rint(dark))
    # Poisson: the counts' variance is their mean.
    expected = bright / 1e5
    assert np.mean((dark - expected) ** 2 / expected) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("angle", [30.0, 17.0])
def test_each_phase_has_its_own_lattice(angle):
    image, labels = datasets.two_phase((400, 400), angle=angle, **STILL)
    for phase, own, others in ((0, 0.0, angle), (1, angle, 0.0)):
        for order in ((1, 1), (2, 0), (0, 2)):
            at = partial(strength, image, labels == phase)
            assert at(turned(datasets.SRTIO3, order, own)) > 10 * at(turned(datasets.SRTIO3, order, others))


def test_superlattice_spots_only_in_the_superlattice():
    image, labels = datasets.superlattice((400, 400), **STILL)
    spot = turned(datasets.SR2TIO4, (0, 4), 0.0)
    shared = turned(datasets.SR2TIO4, (1, 3), 0.0)
    assert strength(image, labels == 1, spot) > 5 * strength(image, labels == 0, spot)
    assert strength(image, labels == 1, spot) < strength(image, labels == 1, shared)


def test_polycrystal_orientations():
    image, labels = datasets.polycrystal((512, 512), 6, 3, misorientation=20.0, **STILL)
    for phase in range(3):
        found = [strength(image, labels == phase, turned(datasets.COPPER, (0, 1), 20.0 * o)) for o in range(3)]
        assert np.argmax(found) == phase
        assert sorted(found)[-1] > 3 * sorted(found)[-2]


def test_pixel_size_scales_the_lattice():
    image, _ = datasets.single_phase((256, 256), crystal=datasets.GOLD, pixel_size=0.02, **STILL)
    spectrum = np.abs(np.fft.rfft2(image - image.mean()))
    row, col = np.unravel_index(spectrum.argmax(), spectrum.shape)
    assert np.hypot(np.fft.fftfreq(256)[row], col / 256) == pytest.approx(0.02 / datasets.GOLD.cell[0], abs=1 / 256)


def test_lattices_have_their_symmetry():
    """Silicon's forbidden reflections are absent, graphene is six-fold."""

    def structure_factor(crystal, order):
        y, x, weight = np.array(crystal.atoms).T
        return abs((weight * np.exp(2j * np.pi * (order[0] * y + order[1] * x))).sum())

    assert structure_factor(datasets.SILICON, (0, 2)) < 1e-9 < structure_factor(datasets.SILICON, (1, 1))
    first = [np.hypot(*turned(datasets.GRAPHENE, order, 0.0)) for order in ((1, 1), (0, 2))]
    np.testing.assert_allclose(first[0], first[1])
    factors = [structure_factor(datasets.GRAPHENE, order) for order in ((1, 1), (0, 2))]
    np.testing.assert_allclose(factors[0], factors[1])


def test_columns_fill_the_extent():
    for angle in (0, 33, 90, 211):
        columns = datasets.SRTIO3.columns((5.0, 9.0), angle, origin=(2.0, -1.0))
        density = columns[:, 2].sum() / 45
        assert density == pytest.approx(datasets.SRTIO3.density, rel=0.03)
        assert columns[:, :2].min() >= 0
        assert (columns[:, :2] < (5, 9)).all()
        assert len(np.unique(np.round(columns[:, :2], 6), axis=0)) == len(columns)


def test_render_is_the_sum_of_probes():
    imaging = Imaging(thickness_ramp=0, contamination=0)
    canvas = Canvas((40, 60), imaging, 0)
    rng = np.random.default_rng(1)
    columns = np.column_stack([rng.uniform(40, 80, 20), rng.uniform(40, 100, 20), rng.uniform(1, 3, 20)])
    density = canvas.crystals([columns], [np.ones(canvas.shape)])
    found = canvas.render(density, np.ones(canvas.shape, bool))
    y, x = np.indices(canvas.shape)
    expected = np.zeros(canvas.shape)
    for cy, cx, weight in columns:
        r2 = (y - cy) ** 2 + (x - cx) ** 2
        for sigma, part in ((imaging.probe, 1 - imaging.tail), (imaging.tail_width, imaging.tail)):
            s2 = (sigma / imaging.pixel_size) ** 2
            expected += weight * part * np.exp(-r2 / (2 * s2)) / (2 * np.pi * s2)
    np.testing.assert_allclose(found, expected, atol=2e-3 * expected.max())


def test_no_columns_of_two_grains_on_top_of_each_other():
    canvas = Canvas((200, 200), Imaging(), 0)
    left = canvas.x < 100
    columns = [canvas.columns(datasets.SRTIO3, angle) for angle in (0.0, 40.0)]
    masks = [left & (canvas.y > -999), ~left & (canvas.y > -999)]
    both, thinned = canvas.crystals(columns, masks, drop_overlapping=False), canvas.crystals(columns, masks)
    taken = both - thinned
    assert taken.sum() > 0
    assert taken[:, np.abs(canvas.x[0] - 100) > 12].sum() < 1e-6 * both.sum()


def test_truth_is_distorted_with_the_image():
    """With a large drift the image is dark exactly where the labels say vacuum."""
    clean = {
        "contamination": 0.0,
        "dose": 500.0,
        "probe": 0.02,
        "tail": 0.0,
        "background": 0.0,
        "amorphous_density": 1e5,
    }
    image, labels = datasets.crystal_amorphous_vacuum((256, 256), drift=60, jitter=2, random_state=2, **clean)
    bright = ndimage.median_filter(image, 3) > 100
    assert (bright == (labels != 2))[labels > 0].mean() > 0.98
    _, still = datasets.crystal_amorphous_vacuum((256, 256), random_state=2, **clean, **STILL)
    assert (bright == (still != 2))[still > 0].mean() < 0.95


def test_vacuum_holds_the_background_only():
    image, labels = datasets.crystal_amorphous_vacuum((256, 256), dose=100, background=0.05)
    assert image[ndimage.binary_erosion(labels == 2, iterations=30)].mean() == pytest.approx(5, rel=0.1)


def test_amorphous_intensity():
    image, labels = datasets.crystal_amorphous_vacuum(amorphous=0.5, contamination=0, thickness_ramp=0, background=0)
    crystal, amorphous = (image[ndimage.binary_erosion(labels == i, iterations=24)].mean() for i in (0, 1))
    assert amorphous / crystal == pytest.approx(0.5, rel=0.1)


def test_inclined_abundance_follows_the_lattice():
    image, share = datasets.inclined_interface((400, 400), **STILL)
    spots = [turned(datasets.SRTIO3, (1, 1), angle) for angle in (0.0, 30.0)]
    for low, high in ((-0.01, 0.1), (0.3, 0.7), (0.9, 1.01)):
        a, b = (strength(image, (share > low) & (share < high), spot) for spot in spots)
        assert b / (a + b) == pytest.approx((max(low, 0) + min(high, 1)) / 2, abs=0.15)
    assert (np.diff(share, axis=1) >= 0).all()


def test_neighbours_differ():
    failures = 0
    for seed in range(20):
        canvas = Canvas((100, 100), Imaging(), seed)
        grains = datasets._voronoi(canvas, 12)
        orientation = datasets._orient(grains, 5, canvas.rng)
        assert set(orientation) == set(range(5))
        for a, b in ((grains[1:], grains[:-1]), (grains[:, 1:], grains[:, :-1])):
            failures += ((a != b) & (orientation[a] == orientation[b])).any()
    assert failures == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(datasets.two_phase, (100, 100), doze=3), "unexpected keyword 'doze'.*dose, read_noise"),
        (partial(datasets.two_phase, (100, 100), dose=0), "dose must be positive and finite, got 0"),
        (partial(datasets.two_phase, (100, 100), drift=-1.0), "drift must be finite and not negative, got -1"),
        (partial(datasets.two_phase, (100, 100), tail=1.0), "tail must be from 0"),
        (partial(datasets.two_phase, (100, 100), pixel_size=0.1), "make pixel_size smaller"),
        (partial(datasets.two_phase, (0, 100)), r"shape must be \(height, width\)"),
        (partial(datasets.two_phase, 100), r"shape must be \(height, width\)"),
        (partial(datasets.polycrystal, n_grains=3, n_orientations=4), r"from 1 to n_grains \(3\)"),
        (partial(datasets.inclined_interface, overlap=0), "overlap must be a share"),
    ],
)
def test_errors_say_what_to_change(make, message):
    with pytest.raises(ParameterError, match=message):
        make()
