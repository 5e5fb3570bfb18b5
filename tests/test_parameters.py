"""Parameters of segment(): their table, and what some do: frequencies, orientations, short boundaries, regions."""

import inspect
import re

import numpy as np
import pytest
from scipy.ndimage import label, rotate
from sklearn.metrics import adjusted_rand_score

from stemseg_core import KMeans, PhaseWarning, WindowFFT, datasets, segment
from stemseg_core.command.options import SEGMENT as COMMAND_OPTIONS
from stemseg_core.phases.methods import METHODS as ALL_METHODS
from stemseg_core.phases.parameters import TABLE, Parameters
from stemseg_core.system.errors import ParameterError, ParameterTypeError

METHODS = ("kmeans", "nfindr", "nmf", "ica")
OPTIONS = {"window": 48, "step": 8}
ALL = {"k_max": 0.2, "rotation_invariant": True, "regularize": 10, "min_area": 300}


@pytest.fixture(scope="module")
def two_phase():
    return datasets.two_phase((192, 232), position=0.4, dose=20)


@pytest.fixture(scope="module")
def noisy():
    """Little dose and no smoothing: specks everywhere."""
    image, truth = datasets.superlattice((320, 320), dose=4, random_state=3)
    return image, truth, {"method": KMeans(2, random_state=0), "window": 64, "step": 8, "smooth": 0}


@pytest.fixture(scope="module")
def grains():
    """Six grains of two materials, each turned otherwise, in tiles: image, material, grain."""
    angles = [[0, 20, 50], [65, 35, 10]]
    crystals = [
        [datasets.SRTIO3, datasets.COPPER, datasets.SRTIO3],
        [datasets.COPPER, datasets.SRTIO3, datasets.COPPER],
    ]
    tiles = [
        [
            datasets.single_phase((160, 160), crystal=c, angle=a, dose=20, random_state=i)[0]
            for i, (a, c) in enumerate(zip(*row, strict=True))
        ]
        for row in zip(angles, crystals, strict=True)
    ]
    number = np.arange(6).reshape(2, 3)
    to_pixels = np.ones((160, 160), int)
    return np.block(tiles), np.kron(number % 2, to_pixels), np.kron(number, to_pixels)


def index(truth, result):
    return adjusted_rand_score(truth.ravel(), result.label_image.ravel())


def same(a, b):
    for name in ("labels", "label_image", "abundances", "components", "confidence", "residual"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("masked", [False, True])
def test_all_options_with_any_method_and_any_number_of_threads(two_phase, method, masked):
    image, _ = two_phase
    mask = np.zeros(image.shape, bool)
    mask[:50, -50:] = masked
    one, three = (segment(image, 2, method=method, mask=mask, n_jobs=n, **ALL, **OPTIONS) for n in (1, 3))
    same(one, three)
    shares = one.abundances[:, one.labels >= 0]
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    assert (one.label_image[mask] == -1).all()
    counts = np.bincount(one.label_image[one.label_image >= 0], minlength=2)
    np.testing.assert_allclose(one.fractions, counts / counts.sum())
    assert counts[0] >= counts[1]
    assert {name: one.params[name] for name in ALL} == ALL


# The table.


def test_signature_docstring_command_and_table_are_one():
    signature = dict(list(inspect.signature(segment).parameters.items())[1:])
    assert list(signature) == list(TABLE)
    described = segment.__doc__.split("Parameters\n    ----------\n")[1].split("    Returns\n")[0]
    lines = re.findall(r"(?m)^    (\w+(?:, \w+)*)(?: : (.+))?$", described)
    documented = {name: kind for names, kind in lines for name in names.split(", ")}
    assert set(documented) == {"image", *TABLE}
    for name, parameter in TABLE.items():
        default = signature[name].default
        if default is inspect.Parameter.empty:
            assert name == "n_phases"
            continue
        assert default == parameter.default
        assert type(default) is type(parameter.default)
        if documented[name] and default is not None:
            shown = f'"{default}"' if isinstance(default, str) else default
            assert documented[name].endswith(f", default={shown}")
        elif documented[name]:
            assert documented[name].endswith("optional")
    assert set(COMMAND_OPTIONS) - {"signal", "frame"} == {name for name, row in TABLE.items() if row.group}
    assert len({row.option for row in COMMAND_OPTIONS.values()}) == len(COMMAND_OPTIONS)


def test_every_method_is_documented():
    described = segment.__doc__.split("method : {")[1].split("}")[0]
    assert described.split(", ") == [f'"{name}"' for name in ALL_METHODS]


def test_checked_parameters():
    assert Parameters(n_phases=2, pixel_size=0.5).checked().pixel_size == (0.5, 0.5)
    for random_state in (None, np.random.RandomState(0), np.random.default_rng(0)):
        assert isinstance(Parameters(n_phases=2, random_state=random_state).checked().random_state, int)
    assert Parameters(n_phases=2, random_state=7).checked().random_state == 7


@pytest.mark.parametrize(
    ("parameters", "name", "value"),
    [
        ({"smooth": -1}, "smooth", -1),
        ({"normalize": 1.5}, "normalize", 1.5),
        ({"min_area": 2.5}, "min_area", 2.5),
        ({"rank": 0}, "rank", 0),
        ({"zoom": 0}, "zoom", 0),
        ({"n_phases": 0}, "n_phases", 0),
        ({"n_phases": "many"}, "n_phases", "many"),
        ({"n_phases": "auto", "method": KMeans(2)}, "n_phases", "auto"),
        ({"method": "k-means"}, "method", "k-means"),
        ({"method": "atgp", "n_phases": 33}, "method", "atgp"),
        ({"method": "spa", "n_phases": 34}, "method", "spa"),
        ({"method": "nmf", "windows": [32]}, "windows", [32]),
        ({"pixel_size": -1}, "pixel_size", -1),
        ({"k_max": 7}, "k_max", 7),
        ({"random_state": -1}, "random_state", -1),
    ],
    ids=repr,
)
def test_errors_know_their_parameter(parameters, name, value):
    with pytest.raises(ParameterError) as raised:
        Parameters(**({"n_phases": 2} | parameters)).checked()
    assert (raised.value.name, raised.value.value) == (name, value)


@pytest.mark.parametrize("parameters", [{"whiten": 1}, {"units": 3}, {"method": 3}])
def test_wrong_types_are_type_errors(parameters):
    with pytest.raises(ParameterTypeError, match=next(iter(parameters))):
        Parameters(n_phases=2, **parameters).checked()


def test_what_is_recorded():
    """All that decides the result, the pixel size only where it does, and nothing that is no number or text."""
    recorded = Parameters(n_phases=np.int64(2), smooth=np.float32(3), pixel_size=(1.0, 1.01)).to_dict()
    assert set(recorded) == set(TABLE) - {"mask", "units", "pixel_size", "n_jobs", "max_memory", "progress"}
    assert type(recorded["n_phases"]) is int
    assert type(recorded["smooth"]) is float
    assert Parameters(n_phases=2, k_max=0.1, pixel_size=(1.0, 2.0)).to_dict()["pixel_size"] == (1.0, 2.0)
    assert Parameters(n_phases=2, pixel_size=(1.0, 2.0)).to_dict()["pixel_size"] == (1.0, 2.0)
    assert Parameters(n_phases=2, method=KMeans(3)).to_dict()["method"] == "KMeans(n_clusters=3)"


# k_max.


def test_noise_beyond_the_limit_does_not_matter(two_phase):
    image, truth = two_phase
    y, x = np.indices(image.shape)
    disturbed = image + 200 * np.cos(2 * np.pi * 0.22 * x) * (y > 96)  # a line of 0.22 cycles per pixel in one half
    assert adjusted_rand_score(truth.ravel(), segment(disturbed, 2, **OPTIONS).label_image.ravel()) < 0.5
    assert index(truth, segment(disturbed, 2, k_max=0.15, **OPTIONS)) > 0.85
    calibrated = segment(disturbed, 2, k_max=7.5, pixel_size=0.02, **OPTIONS)
    same(calibrated, segment(disturbed, 2, k_max=0.15, **OPTIONS))
    assert np.abs(calibrated.components[:, :, [0, -1]]).max() > 0  # patterns are whole
    same(calibrated, segment(disturbed, **calibrated.params))


def test_pixels_that_are_not_square():
    """The limit is a circle in physical frequency."""
    image, _ = datasets.two_phase((192, 232))
    y = np.arange(192)[:, np.newaxis]
    line = np.where(np.arange(232) > 110, 300 * np.cos(2 * np.pi * 0.2 * y), 0)
    # 0.2 cycles per pixel along y are 5 per nm, of which a limit of 6 takes note and one of 4.5 does not.
    assert index(np.arange(232) * np.ones((192, 1)) > 110, segment(
        image + line, 2, k_max=6, pixel_size=(0.04, 0.02), **OPTIONS)) > 0.8  # fmt: skip
    same(
        segment(image + line, 2, k_max=4.5, pixel_size=(0.04, 0.02), n_jobs=1, **OPTIONS),
        segment(image + line, 2, k_max=45, pixel_size=(0.004, 0.002), n_jobs=2, **OPTIONS),
    )


# rotation_invariant.


def test_materials_and_not_orientations(grains):
    image, material, _ = grains
    turned = segment(image, 2, rotation_invariant=True)
    assert index(material, turned) > 0.75
    assert index(material, segment(image, 2)) < 0.3
    assert turned.params["rotation_invariant"] is True
    assert turned.components.shape[1:] == (len(turned.ky), len(turned.kx))


@pytest.mark.parametrize("method", ["ica", KMeans(2, random_state=0)], ids=str)
def test_materials_by_other_methods(grains, method):
    image, material, _ = grains
    assert index(material, segment(image, 2, method=method, rotation_invariant=True)) > 0.4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("angle", [0, 25])
def test_a_material_and_another_at_any_angle(method, angle):
    crystals = datasets.SRTIO3, datasets.COPPER
    image, truth = datasets.two_phase((288, 288), crystals=crystals, angle=angle, dose=20)
    assert index(truth, segment(image, 2, method=method, rotation_invariant=True, **OPTIONS)) > 0.75


@pytest.mark.parametrize("dose", [60, pytest.param(8, marks=pytest.mark.long)])
def test_one_material_in_many_orientations_is_one_phase(dose):
    image, _ = datasets.polycrystal((448, 448), 8, 5, dose=dose, random_state=1)
    assert len(segment(image, "auto").fractions) > 1
    assert len(segment(image, "auto", rotation_invariant=True).fractions) == 1


@pytest.mark.parametrize("angle", [90, 33])
def test_a_turned_image_gives_the_turned_map(grains, angle):
    image, _, _ = grains
    square = image[:, 80:400]
    before = segment(square, 2, rotation_invariant=True).label_image
    turned = rotate(square, angle, reshape=False, order=3, mode="reflect")
    after = segment(turned, 2, rotation_invariant=True).label_image
    expected = rotate(before, angle, reshape=False, order=0, cval=-1)
    y, x = np.mgrid[-159.5:160, -159.5:160]
    inside = np.hypot(y, x) < 150
    assert adjusted_rand_score(expected[inside], after[inside]) > 0.7


def test_physical_rings(two_phase):
    """Pixels that are not square are said to be: the result is that of the same ratio in any unit."""
    image, _ = two_phase
    first, second = (
        segment(image, 2, rotation_invariant=True, pixel_size=size, **OPTIONS) for size in ((0.02, 0.03), (0.04, 0.06))
    )
    same(first, second)
    assert first.params["pixel_size"] == (0.02, 0.03)
    square = segment(image, 2, rotation_invariant=True, pixel_size=0.02, **OPTIONS)
    assert not np.array_equal(square.abundances, first.abundances)


# regularize and min_area.


def test_short_boundaries_help_where_there_is_noise(noisy):
    image, truth, options = noisy
    plain, short = segment(image, 2, **options), segment(image, 2, regularize=16, **options)
    assert index(truth, short) > index(truth, plain) + 0.05
    np.testing.assert_array_equal(short.labels, short.abundances.argmax(axis=0))
    ranked = np.sort(short.abundances, axis=0)
    np.testing.assert_allclose(short.confidence, ranked[-1] - ranked[-2], atol=1e-6)
    assert n_regions(short) < n_regions(plain) / 2


def n_regions(result):
    return sum(label(result.label_image == phase)[1] for phase in range(len(result.fractions)))


def test_small_regions_go(noisy):
    image, _, options = noisy
    plain, cleaned = segment(image, 2, **options), segment(image, 2, min_area=1500, **options)
    for phase in (0, 1):
        regions, n = label(cleaned.label_image == phase)
        assert n == 0 or np.bincount(regions.ravel())[1:].min() >= 1500
    assert n_regions(cleaned) < n_regions(plain)
    swapped = (plain.label_image == cleaned.label_image).mean() < 0.5
    known = plain.abundances[::-1] if swapped else plain.abundances
    np.testing.assert_array_equal(cleaned.abundances, known)  # what was found stays on record
    y, x = cleaned.centers.astype(int).T
    at_centers, own = cleaned.label_image[y, x], cleaned.abundances.argmax(axis=0).ravel()
    moved = cleaned.labels.ravel() != own
    assert moved.any()
    np.testing.assert_array_equal(cleaned.labels.ravel()[moved], at_centers[moved])
    np.testing.assert_allclose(cleaned.fractions, np.bincount(cleaned.label_image.ravel(), minlength=2) / image.size)


def test_components_are_those_of_the_labels_that_are_left(noisy):
    image, _, options = noisy
    result = segment(image, 2, min_area=1500, **options)
    rows = WindowFFT(64, 8).matrix(image)
    spectra = rows.to_image(np.asarray(rows))
    for phase in (0, 1):
        mean = spectra[result.labels.ravel() == phase].mean(axis=0)
        np.testing.assert_allclose(result.components[phase], mean, rtol=1e-3, atol=1e-4 * mean.max())


def test_no_region_is_large_enough(two_phase):
    image, _ = two_phase
    with pytest.warns(PhaseWarning, match="1 of the 2 phases has fewer than .* pixels.* 1 of them none at all"):
        result = segment(image, 2, min_area=image.size, **OPTIONS)
    assert (result.label_image == 0).all()
    assert result.fractions.tolist() == [1, 0]
    assert np.isfinite(result.components).all()


def test_masked_pixels_do_not_count_for_the_order_of_phases(two_phase):
    image, _ = two_phase
    mask = np.zeros(image.shape, bool)
    mask[:, 150:] = True  # of the larger phase, most
    result = segment(image, 2, mask=mask, **OPTIONS)
    assert result.fractions[0] > result.fractions[1]
    assert (result.label_image[:, :50] == 0).all()


def test_narrow_limits_with_small_windows():
    y, x = np.mgrid[:96, :112]
    image = np.where(x < 56, np.cos(1.2 * y), np.cos(1.2 * x))
    result = segment(image, 2, window=24, rotation_invariant=True, k_max=0.21)
    assert np.isfinite(result.abundances).all()
