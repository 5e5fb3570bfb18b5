"""Hot channels and spikes, `stemseg_core.cubes.faults`: planted ones are found, and narrow signals are none."""

import numpy as np
import pytest

from stemseg_core import datasets, unmix


def left_out(cube, **options):
    return [note for note in unmix(cube, 2, method="svd", n_jobs=1, **options).notes if "left out" in note]


@pytest.fixture(scope="module")
def grains():
    return datasets.scan_4d((16, 18), (24, 24), counts=300).cube


def test_hot_pixels_of_a_detector(grains):
    cube = grains.astype(np.uint32)
    cube[:, :, 3, 5] += 4000
    cube[:, :, 20, 2] = np.random.default_rng(0).integers(0, 9000, (16, 18))  # flickers
    assert left_out(cube, signal_axes=2) == ["2 channels ((3, 5), (20, 2)) far above all neighbours: left out as hot"]


def test_spikes_in_patterns(grains):
    cube = grains.copy()
    cube[4, 7, 10, 0] = 3000
    cube[9, 1, 23, 23] = 800
    assert left_out(cube, signal_axes=2) == ["2 pixels ((4, 7), (9, 1)) with a spike in the pattern: left out"]
    labels = unmix(cube, 3, method="kmeans", signal_axes=2).labels
    assert (labels == -1).sum() == 2


def test_neighbours_that_are_not_used_say_nothing(grains):
    cube = grains.copy()
    cube[4, 7, 10, 4] = 3000
    cube[4, 7, 10, 5] = 3000
    mask = np.zeros((24, 24), bool)
    mask[10, 5] = mask[2] = True
    assert left_out(cube, signal_axes=2, signal_mask=mask) == ["1 pixel ((4, 7)) with a spike in the pattern: left out"]


@pytest.mark.parametrize("where", ["a ramp", "one half", "a particle"])
@pytest.mark.parametrize("base", [0.05, 5])
def test_a_line_of_one_channel_is_of_the_specimen(where, base):
    amount = np.zeros((20, 20))
    if where == "a ramp":
        amount[:] = np.linspace(0.5, 1, 20)[:, np.newaxis]
    elif where == "one half":
        amount[:10] = 1
    else:
        amount[3:7, 3:7] = 1
    cube = np.full((20, 20, 60), float(base))
    cube[..., 30] += 1000 * amount
    assert not left_out(np.random.default_rng(0).poisson(cube))


def test_reflections_of_one_pixel_are_of_the_specimen():
    pattern = np.full((2, 15, 15), 0.1)
    pattern[0, 7, 12] = pattern[0, 7, 2] = pattern[1, 12, 7] = pattern[1, 2, 7] = 50
    grain = (np.arange(12)[:, np.newaxis] + np.arange(12) > 11).astype(int)
    assert not left_out(np.random.default_rng(0).poisson(pattern[grain]), signal_axes=2)


@pytest.mark.parametrize("make", [datasets.eels_cube, datasets.edx_cube])
@pytest.mark.parametrize("counts", [3, 300, 100_000])
def test_simulated_detectors_have_no_faults(make, counts):
    assert not left_out(make((16, 16), counts=counts).cube)


@pytest.mark.parametrize("counts", [3, 300, 100_000])
@pytest.mark.parametrize("side", [12, 32])
def test_nor_have_scans(counts, side):
    assert not left_out(datasets.scan_4d((16, 16), (side, side), counts=counts).cube, signal_axes=2)
