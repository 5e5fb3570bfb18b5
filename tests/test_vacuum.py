"""Faint noise where an image has none, and particles in vacuum; and what is `needed` of memory."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from stemseg_core import segment
from stemseg_core.phases.vacuum import FAINT, noisy_bytes, with_faint_noise
from stemseg_core.system.execution import Execution
from stemseg_core.windows.images import Frames

ONE = Execution(1)
WINDOW = (32, 32)


def particle(seed, noise=0.0, shape=(256, 256), radius=75):
    """A particle with a square lattice on vacuum, with edges as thin as those of a lens."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    depth = radius - np.hypot(y - 128 - rng.uniform(-20, 20), x - 128 - rng.uniform(-20, 20))
    inside = depth > 0
    turn, period = rng.uniform(0, np.pi / 2), rng.uniform(10, 14)
    u, v = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
    lattice = (2 + np.cos(2 * np.pi * u / period) + np.cos(2 * np.pi * v / period)) / 4
    image = 200 * lattice * np.sqrt(np.clip(depth / radius, 0, 1)) + 0.01 * np.exp(np.minimum(depth, 0) / 20)
    return image + 200 * noise * rng.standard_normal(shape), inside.astype(int)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("eight_bit", [False, True])
@pytest.mark.parametrize("noise", [0, 0.05])
def test_a_particle_in_vacuum(seed, eight_bit, noise):
    image, truth = particle(seed, noise)
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8) if eight_bit else image.astype(np.float32)
    result = segment(image, 2)
    assert adjusted_rand_score(truth.ravel(), result.label_image.ravel()) > 0.8
    assert result.image is image or np.array_equal(result.image, image)


def test_noise_is_as_strong_as_said_whatever_the_unit():
    image, _ = particle(0)
    for unit in (1e-20, 1.0, 1e12):
        frames = Frames.survey(image * unit)
        noise = with_faint_noise(frames, WINDOW, 0, ONE).image - frames.image
        assert 0.5 < noise.std() / (FAINT * image[96:160, 96:160].std() * unit) < 1.5


def test_an_image_that_has_noise_everywhere_is_left_alone():
    frames = Frames.survey(np.random.default_rng(0).standard_normal((96, 96)))
    assert with_faint_noise(frames, WINDOW, 0, ONE) is frames


@pytest.mark.parametrize("image", [np.zeros((64, 64)), np.full((64, 64), 7, np.uint8), np.zeros((20, 20))])
def test_an_image_without_contrast_or_tiles_is_left_alone(image):
    frames = Frames.survey(image)
    assert with_faint_noise(frames, WINDOW, 0, ONE) is frames


def test_the_image_is_not_changed_and_a_seed_gives_the_same():
    image, _ = particle(0)
    before = image.copy()
    frames = Frames.survey(image)
    one, two, other = (with_faint_noise(frames, WINDOW, seed, ONE).image for seed in (3, 3, 4))
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


def test_excluded_pixels_are_not_looked_at():
    image = np.random.default_rng(0).standard_normal((96, 96))
    image[:40, :40] = 0
    mask = np.zeros(image.shape, bool)
    mask[:40, :40] = True
    frames = Frames.survey(image, mask)
    assert with_faint_noise(frames, WINDOW, 0, ONE) is frames
    assert with_faint_noise(Frames.survey(image), WINDOW, 0, ONE) is not frames


def test_a_copy_that_does_not_fit_is_refused():
    frames = Frames.survey(particle(0)[0])
    with pytest.raises(MemoryError, match="faint noise"):
        with_faint_noise(frames, WINDOW, 0, Execution.of(1, noisy_bytes(frames) - 1, None))
