"""Lattices of phases (lattice, measure, pairs, reflections, basis, turn): simulated ones of known cells."""

import json
from math import cos, hypot, pi, radians, sin, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemseg_core import Lattice, datasets
from stemseg_core.lattices.basis import lattice_of, reduced
from stemseg_core.lattices.lattice import uncertain
from stemseg_core.lattices.measure import cell_again, described, find_cell, lattice_in
from stemseg_core.lattices.pairs import Pairs
from stemseg_core.lattices.properties import Phases
from stemseg_core.lattices.reflections import find_peaks
from stemseg_core.lattices.turn import local_turn

WINDOW = (48, 48)


def vectors(a, b, gamma, angle):
    """Rows a and b, (y, x); angles in degrees from x towards y, that is clockwise on the screen."""
    return np.array(
        [
            (a * sin(radians(angle)), a * cos(radians(angle))),
            (b * sin(radians(angle + gamma)), b * cos(radians(angle + gamma))),
        ]
    )


def crystal(shape, cell, pixel=(1.0, 1.0), *, absent=lambda h, k: False, weak=lambda h, k: 1.0, blur=0.2):
    """Waves of all reflections of a cell up to 3 in h and k, with a mean of 1; `blur` in units of the shorter side."""
    y, x = (n * size for n, size in zip(np.ogrid[: shape[0], : shape[1]], pixel, strict=True))
    reciprocal = np.linalg.inv(cell).T
    image = np.ones(shape)
    width = blur * min(np.hypot(*cell.T))
    for h in range(-3, 4):
        for k in range(-3, 4):
            if (h or k) and not absent(h, k):
                g = np.array([h, k]) @ reciprocal
                amplitude = 0.4 * weak(h, k) * np.exp(-2 * (pi * width) ** 2 * (g @ g))
                image = image + amplitude * np.cos(2 * pi * (g[0] * y + g[1] * x) + h - 2 * k)
    return image


def exposed(image, dose, seed=0):
    return np.random.default_rng(seed).poisson(dose * np.maximum(image, 0)).astype(np.float32)


def everywhere(image):
    return np.ones(image.shape, bool)


# Cells that are known.


@pytest.mark.parametrize(
    ("a", "b", "gamma", "angle"),
    [
        (13.0, 13.0, 90, 12),
        (12.0, 12.0, 120, 7),
        (11.0, 17.0, 90, -35),
        (12.0, 15.0, 103, 64),
        (12.0, 30.0, 90, 85),
        (14.3, 14.3, 97, -80),
    ],
    ids=["square", "hexagonal", "rectangular", "oblique", "long", "rhombic"],
)
@pytest.mark.parametrize("dose", [60, 3])
def test_cells(a, b, gamma, angle, dose):
    image = exposed(crystal((300, 340), vectors(a, b, gamma, angle)), dose, seed=5)
    found = lattice_in(image, everywhere(image), WINDOW)
    assert found.units == "px"
    assert found.a == pytest.approx(a, rel=2e-3)
    assert found.b == pytest.approx(b, rel=2e-3)
    assert found.gamma == pytest.approx(gamma, abs=0.2)
    if a == b:  # of vectors of the same length that nearest to x
        turns = [angle, angle + gamma] + [angle + 60] * (gamma == 120)
        angle = min(((t + 90) % 180 - 90 for t in turns), key=abs)
    assert found.angle == pytest.approx(angle, abs=0.1)
    for name in ("a", "b", "gamma", "angle"):
        assert 0 < getattr(found, f"{name}_uncertainty") < 0.01 * a


def test_pixels_that_are_not_square():
    pixel = (0.02, 0.031)
    cell = vectors(0.39, 0.55, 98, 25)
    image = exposed(crystal((420, 300), cell, pixel), 30)
    found = lattice_in(image, everywhere(image), (60, 38), pixel, "A")
    assert (found.a, found.b) == pytest.approx((0.39, 0.55), rel=2e-3)
    assert (found.gamma, found.angle) == pytest.approx((98, 25), abs=0.2)
    assert found.units == "A"


def test_spacings():
    cell = vectors(12.0, 15.0, 103, 20)
    reciprocal = np.linalg.inv(cell).T
    image = exposed(crystal((300, 300), cell), 60)
    found = lattice_in(image, everywhere(image), WINDOW)
    assert [s.power for s in found.spacings] == sorted((s.power for s in found.spacings), reverse=True)
    assert len(found.spacings) > 5
    assert any(s.order == 2 for s in found.spacings)
    for s in found.spacings:
        h, k = s.indices
        g = np.array([h, k]) @ reciprocal
        near = 6 * s.d_uncertainty / s.d**2 + 1e-4
        found_g = np.array([s.ky, s.kx])
        assert min(np.abs(g - found_g).max(), np.abs(g + found_g).max()) < near
        assert s.d == pytest.approx(1 / hypot(*g), abs=6 * s.d_uncertainty + 1e-4)
        assert s.order == np.gcd(h, k)


def test_a_superlattice_counts():
    """A doubled cell, by reflections of a tenth of the amplitude of the others."""
    cell = vectors(12.0, 24.0, 90, 15)
    image = exposed(crystal((360, 360), cell, weak=lambda h, k: 0.1 if k % 2 else 1.0), 60)
    found = lattice_in(image, everywhere(image), WINDOW)
    assert (found.a, found.b) == pytest.approx((12, 24), rel=2e-3)
    image = exposed(crystal((360, 360), cell, absent=lambda h, k: k % 2), 60)
    found = lattice_in(image, everywhere(image), WINDOW)
    assert (found.a, found.b) == pytest.approx((12, 12), rel=2e-3)


def test_a_centred_lattice_has_its_primitive_cell():
    cell = vectors(14.0, 22.0, 90, 10)
    image = exposed(crystal((360, 360), cell, absent=lambda h, k: (h + k) % 2), 60)
    found = lattice_in(image, everywhere(image), WINDOW)
    half = sqrt(14**2 + 22**2) / 2
    assert (found.a, found.b) == pytest.approx((half, half), rel=2e-3)
    assert found.a * found.b * sin(radians(found.gamma)) == pytest.approx(14 * 22 / 2, rel=4e-3)


# Uncertainties.


@pytest.mark.parametrize(("dose", "size"), [(20, 256), (2, 320)])
def test_uncertainties_hold(dose, size):
    """Over seeds, errors in units of the uncertainty are about 1, with displaced columns and a scan that jitters."""
    errors = []
    for seed in range(12):
        image, _ = datasets.single_phase(
            (size, size), crystal=datasets.COPPER, angle=20, pixel_size=0.02, dose=dose, drift=0, random_state=seed
        )
        found = lattice_in(image, everywhere(image), WINDOW, (0.02, 0.02))
        mean = (found.a + found.b) / 2  # which is the shorter one is chance
        errors.append(
            (
                (mean - 0.2556) / hypot(found.a_uncertainty, found.b_uncertainty) * 2,
                (found.angle - 20) / found.angle_uncertainty,
            )
        )
        assert abs(found.a - 0.2556) < 4 * found.a_uncertainty + 0.001 * 0.2556
    spread = np.sqrt(np.mean(np.square(errors), axis=0))
    assert np.all(spread < 2)
    assert np.all(spread > 0.2)


def test_uncertainty_holds_the_strain_of_parts():
    """Where one half of a region is strained, the mean lattice is less certain."""
    cells = [vectors(13.0 * s, 13.0, 90, 0) for s in (1, 1.01)]
    even = exposed(crystal((320, 320), cells[0]), 60)
    strained = exposed(np.concatenate([crystal((320, 160), c) for c in cells], axis=1), 60)
    first, second = (lattice_in(image, everywhere(image), WINDOW) for image in (even, strained))
    assert max(second.a_uncertainty, second.b_uncertainty) > 5 * max(first.a_uncertainty, first.b_uncertainty)


# No lattice.


def smooth_noise(shape, seed, dose=None):
    rng = np.random.default_rng(seed)
    noise = np.fft.fft2(rng.standard_normal(shape))
    k = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1]))
    noise = np.fft.ifft2(noise * np.exp(-(((k - 0.07) / 0.03) ** 2))).real  # a ring, as of amorphous material
    return 1 + 0.3 * noise / noise.std()


@pytest.mark.parametrize("seed", range(4))
def test_noise_has_none(seed):
    rng = np.random.default_rng(seed)
    for image in (
        rng.poisson(3, (256, 256)),
        rng.integers(0, 2, (256, 256)),
        smooth_noise((300, 260), seed),
        np.full((256, 256), 7.0),
        np.cumsum(rng.standard_normal((256, 256)), axis=0),
    ):
        assert lattice_in(image, everywhere(image), WINDOW) is None


def test_stripes_have_none():
    """What is periodic in one direction only has no lattice."""
    y, x = np.ogrid[:256, :256]
    image = exposed(1 + 0.3 * np.cos(2 * pi * (y / 11 + x / 20)) + 0.2 * np.cos(4 * pi * (y / 11 + x / 20)), 60)
    assert lattice_in(image, everywhere(image), WINDOW) is None


@pytest.mark.parametrize("seed", range(3))
def test_lines_of_the_scan_have_none(seed):
    """Rows that differ in brightness, with a hum along them: all windows on the same rows see the same."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((320, 320)) + 2 * rng.standard_normal((320, 1)) + 0.5 * np.sin(0.9 * np.arange(320))
    for image in (rows, rows.T):
        assert lattice_in(image, everywhere(image), (64, 64)) is None


def test_a_small_region_has_none():
    image = exposed(crystal((300, 300), vectors(13.0, 13.0, 90, 0)), 60)
    region = np.zeros(image.shape, bool)
    assert lattice_in(image, region, WINDOW) is None
    region[100:140, 100:140] = True
    assert lattice_in(image, region, WINDOW) is None


def test_phases_of_an_image():
    image, truth = datasets.crystal_amorphous_vacuum((512, 512), drift=0)
    result = Phases(image, truth.astype(np.int32), 3, (64, 64), (0.015, 0.015), "nm", turned=False)
    lattices = result.lattices(result.cells())
    assert [found is not None for found in lattices] == [True, False, False]
    half = hypot(0.384, 0.5431) / 2  # centred by the dumbbells
    assert (lattices[0].a, lattices[0].b) == pytest.approx((half, half), rel=5e-3)


def test_what_is_not_of_the_phase_does_not_count():
    """Neither a neighbour nor pixels that are NaN."""
    left, right = (exposed(crystal((320, 360), vectors(13.0, 13.0, 90, t)), 20) for t in (0, 25))
    labels = np.zeros((320, 360), np.int32)
    labels[:, 180:] = 1
    image = np.where(labels == 0, left, right).astype(float)
    image[40:50, 60:70] = np.nan
    phases = Phases(image, labels, 2, WINDOW, None, "nm", turned=False)
    first, second = phases.lattices(phases.cells())
    assert (first.a, first.angle) == pytest.approx((13, 0), abs=0.1)
    assert (second.a, second.angle) == pytest.approx((13, 25), abs=0.1)


# Bases.


@given(st.lists(st.integers(-4, 4), min_size=4, max_size=4), st.floats(1.0, 3.0), st.floats(60, 120))
def test_a_reduced_basis_is_of_the_same_lattice(numbers, ratio, gamma):
    change = np.array(numbers).reshape(2, 2)
    if round(abs(np.linalg.det(change))) != 1:
        change = np.array([[2, 3], [1, 2]])
    short = reduced(change @ vectors(1.0, ratio, gamma, 33))
    a, b = np.hypot(*short.T)
    assert a <= b * (1 + 1e-9)
    cosine = short[0] @ short[1] / (a * b)
    assert cosine * (b / a) >= -0.5 - 1e-6 or cosine >= -0.5 - 1e-6
    assert cosine <= 1e-9
    assert a * b * sqrt(1 - cosine**2) == pytest.approx(ratio * sin(radians(gamma)), rel=1e-6)


def test_a_lattice_needs_most_of_the_power_and_two_directions():
    basis = np.array([[5.0, 1.0], [-1.0, 6.0]])
    indices = np.array([(1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2)])
    stray = np.array([[3.3, 2.2]])
    points = np.concatenate([indices @ basis, stray])
    found, numbers, explained = lattice_of(points, np.array([1, 1, 0.5, 0.5, 0.3, 0.3, 0.2]))
    assert abs(np.linalg.det(found)) == pytest.approx(abs(np.linalg.det(basis)))
    assert explained.tolist() == [True] * 6 + [False]
    assert numbers[:6] @ found == pytest.approx(points[:6])
    assert lattice_of(points[[0, 4]], np.ones(2)) is None
    assert lattice_of(points[:0], np.ones(0)) is None


# How it is given.


def test_uncertain():
    assert uncertain(0.39052, 0.00031) == "0.3905(3)"
    assert uncertain(0.39052, 0.00012) == "0.39052(12)"
    assert uncertain(12.31, 0.097) == "12.31(10)"
    assert uncertain(104.2, 13.0) == "104(13)"
    assert uncertain(1.5, 0.0) == "1.5"
    assert uncertain(-0.04, 0.3) == "0.0(3)"
    assert uncertain(-0.4, 3.0) == "0(3)"


def test_a_lattice_measured_again():
    """In a part of its phase that is turned, and not where there is none."""
    cell = vectors(13.0, 16.0, 95, 10)
    whole = exposed(crystal((320, 320), cell), 60)
    found = find_cell(whole, everywhere(whole), WINDOW)
    turned = exposed(crystal((160, 160), vectors(13.0, 16.0, 95, 12)), 60)
    again = cell_again(turned, everywhere(turned), found)
    assert described(again, None, "nm").angle == pytest.approx(12, abs=0.1)
    noise = exposed(np.ones((160, 160)), 60)
    assert cell_again(noise, everywhere(noise), found) is None
    assert cell_again(turned[:20], everywhere(turned[:20]), found) is None


@pytest.mark.parametrize("size", [84, 100, 130])
def test_a_small_region_without_the_lattice_has_not_got_it(size):
    """Few pairs of windows agree by chance: a single one always does."""
    whole = exposed(crystal((320, 320), vectors(13.0, 16.0, 95, 10)), 60)
    found = find_cell(whole, everywhere(whole), WINDOW)
    noise = [exposed(np.ones((size, size)), 20, seed) for seed in range(20)]
    assert not any(cell_again(image, everywhere(image), found) for image in noise)
    grain = exposed(crystal((size, size), vectors(13.0, 16.0, 95, 11)), 60)
    assert (cell_again(grain, everywhere(grain), found) is None) == (size < 2 * found.sides[0])


def test_an_uncertainty_that_is_not_known():
    """Of a region that has no parts; JSON has no NaN."""
    found = find_cell(crystal((320, 320), vectors(13.0, 16.0, 95, 10)), np.ones((320, 320), bool), WINDOW)
    one = found._replace(reciprocal=found.reciprocal[:2], frequencies=found.frequencies[:2])
    lattice = described(one, None, "nm")
    assert (lattice.a, lattice.angle) == pytest.approx((13, 10), abs=0.1)
    assert np.isnan([lattice.a_uncertainty, lattice.angle_uncertainty, lattice.spacings[0].d_uncertainty]).all()
    assert lattice.words == "a = 13(?), b = 16(?) px, gamma 95(?)°, turned 10(?)°"
    values = json.loads(json.dumps(lattice.to_dict(), allow_nan=False))
    assert values["a_uncertainty"] is None
    assert repr(Lattice.from_dict(values).to_dict()) == repr(lattice.to_dict())


def test_a_narrow_band_of_cells_is_thinned():
    """Every second, third, ... of one row of cells, wherever the row is."""
    image = exposed(crystal((180, 900), vectors(13.0, 13.0, 90, 0)), 60)
    for top in range(0, 40, 10):
        region = np.zeros(image.shape, bool)
        region[top : top + 112] = True
        pairs = Pairs.within(image, region, WINDOW, most_pixels=20 * 3 * WINDOW[0] * WINDOW[1])
        assert 5 < len(pairs.starts) <= 20


def test_materials_have_the_lattice_of_a_grain():
    """Where grains of one phase are turned, its lattice is that of the largest."""
    cells = [vectors(13.0, 13.0, 90, t) for t in (0, 30)]
    image = exposed(np.concatenate([crystal((320, 260), cells[0]), crystal((320, 200), cells[1])], axis=1), 60)
    labels = np.zeros(image.shape, np.int32)
    labels[:, 255:265] = -1
    phases = Phases(image, labels, 1, WINDOW, None, "nm", turned=True)
    cells = phases.cells()
    (found,) = phases.lattices(cells)
    assert (found.a, found.angle) == pytest.approx((13, 0), abs=0.1)
    regions = phases.regions(cells)
    assert [round(region.lattice.angle) for region in regions] == [0, 30]


def test_pairs_and_peaks():
    """The phase step of a wave between the windows of a pair is its frequency times the lag."""
    y, x = np.ogrid[:200, :200]
    g = np.array([0.071, 0.043])
    image = np.cos(2 * pi * (g[0] * y + g[1] * x))
    pairs = Pairs.within(image, everywhere(image), (40, 40))
    assert pairs.n.all()
    first, below, right = np.moveaxis(pairs.coefficients(g[np.newaxis]), 1, 0)
    for axis, mate in enumerate((below, right)):
        there = pairs.mates[axis]
        steps = np.angle(mate[there] * first[there].conj() * np.exp(-2j * pi * g[axis] * pairs.lag[axis]))
        assert np.abs(steps).max() < 1e-3
    assert find_peaks(pairs).frequencies[0] == pytest.approx(g, abs=1e-4)
    assert Pairs.within(image, everywhere(image), (201, 40)) is None


def test_no_pairs_in_a_narrow_region():
    """As wide as a window across, but nowhere does one lie in it; nor has it a turn there."""
    image = crystal((200, 200), vectors(13.0, 13.0, 90, 0))
    y, x = np.ogrid[:200, :200]
    band = np.abs(y - x) < 8
    assert Pairs.within(image, band, (40, 40)) is None
    cell = find_cell(image, everywhere(image), WINDOW)
    assert np.isnan(local_turn(image, band, cell, np.array([(100.0, 100.0)]), None)).all()


def test_the_local_turn_where_a_row_is_the_strongest(monkeypatch):
    """Reflections of one row do not tell a turn; the strongest beside it does."""
    whole, turned = (exposed(crystal((320, 320), vectors(17.0, 13.0, 95, t)), 60) for t in (10, 11))
    found = find_cell(whole, everywhere(whole), WINDOW)
    (h, k), first = found.indices.T, found.indices[0]
    row = h * first[1] == k * first[0]
    assert row.sum() > 1
    order = np.argsort(~row, kind="stable")
    monkeypatch.setattr("stemseg_core.lattices.turn.MOST_FOLLOWED", int(row.sum()))
    for chosen, expected in ((order, 1.0), (np.flatnonzero(row), np.nan)):
        some = found._replace(indices=found.indices[chosen], weights=found.weights[:, chosen])
        turn = local_turn(turned, everywhere(turned), some, np.array([(160.0, 160.0), (180.0, 140.0)]), None)
        np.testing.assert_allclose(turn, expected, atol=0.1)


def test_the_local_turn():
    """Two halves of a phase, 2 degrees apart, relative to their mean; NaN where there is no lattice."""
    halves = [crystal((320, 200), vectors(13.0, 16.0, 95, t), (1.0, 0.8)) for t in (9, 11)]
    image = exposed(np.concatenate([*halves, np.ones((320, 120))], axis=1), 20)
    labels = np.zeros(image.shape, np.int32)
    labels[:, 400:] = 1
    phases = Phases(image, labels, 2, WINDOW, (1.0, 0.8), "nm", turned=False)
    centers = np.stack(np.meshgrid(np.arange(60, 280, 20), np.arange(60, 480, 20), indexing="ij"), axis=-1)
    turn = phases.turn(phases.cells(), centers.reshape(-1, 2).astype(float)).reshape(centers.shape[:2])
    x = centers[0, :, 1]
    left, right, beyond = (turn[:, (x > start) & (x < stop)] for start, stop in ((50, 145), (255, 350), (400, 500)))
    assert np.isnan(beyond).all()
    assert np.isfinite(left).all()
    assert np.isfinite(right).all()
    assert right.mean() - left.mean() == pytest.approx(2, abs=0.1)
    assert abs(right.mean() + left.mean()) < 0.5
    assert max(left.std(), right.std()) < 0.15
