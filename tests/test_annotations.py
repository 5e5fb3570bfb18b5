"""Scale bars and text in pictures: what is found, what is not, and what `segment` makes of it."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.ndimage import gaussian_filter

from stemseg_core import Segmentation, datasets, segment
from stemseg_core.system.errors import ParameterError
from stemseg_core.windows.annotations import find_annotations

GLYPHS = {
    "2": ("11110", "00001", "00001", "01110", "10000", "10000", "11111"),
    "n": ("00000", "00000", "10110", "11001", "10001", "10001", "10001"),
    "m": ("00000", "00000", "11010", "10101", "10101", "10101", "10101"),
    "H": ("10001", "10001", "10001", "11111", "10001", "10001", "10001"),
    "A": ("01110", "10001", "10001", "11111", "10001", "10001", "10001"),
    "D": ("11110", "10001", "10001", "10001", "10001", "10001", "11110"),
    "F": ("11111", "10000", "10000", "11110", "10000", "10000", "10000"),
}


def picture(seed=0, **imaging):
    """Two grains in 8 bits, not saturated."""
    image, truth = datasets.two_phase((320, 320), random_state=seed, **imaging)
    image = (image - image.min()) / np.ptp(image)
    return (20 + 200 * image).astype(np.uint8), truth


def write(image, text, top, left, size=2):
    for i, letter in enumerate(text):
        glyph = np.array([[int(c) for c in row] for row in GLYPHS[letter]], bool).repeat(size, 0).repeat(size, 1)
        x = left + 6 * size * i
        image[top : top + 7 * size, x : x + 5 * size][glyph] = 255


def with_scale_bar():
    image, truth = picture()
    image[290:296, 20:120] = 255
    write(image, "2nm", 268, 50)
    return image, truth


def find(image, mask=None):
    pixels = image if mask is None else image[~mask]
    return find_annotations(image, (pixels.min(), pixels.max()), mask)


def test_scale_bar():
    image, _ = with_scale_bar()
    found = find(image)
    assert [tuple(box) for box in found.boxes] == [(268, 20, 296, 120)]
    assert found.mask[image == 255].all()
    assert found.mask.sum() < 3 * (image == 255).sum()
    assert "y 268 to 295, x 20 to 119" in found.words


def test_scale_bar_of_jpeg():
    image, _ = with_scale_bar()
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    noisy = np.clip(image.astype(int) + noise, 0, 255).astype(np.uint8)
    assert find(noisy).mask[image == 255].all()


def test_black_on_white_and_any_unit():
    image, _ = with_scale_bar()
    found = find(image * np.float32(0.37) - 11)
    assert_array_equal(found.mask, find(image).mask)
    assert_array_equal(find(255 - image).mask, found.mask)


def test_text_alone():
    image, _ = picture()
    write(image, "HAADF", 10, 12)
    found = find(image)
    assert len(found.boxes) == 1
    assert found.mask[image == 255].all()


def test_legend():
    image, _ = picture()
    image[260:310, 200:310] = 0
    image[298:302, 210:300] = 255
    write(image, "2nm", 270, 230)
    found = find(image)
    assert [tuple(box) for box in found.boxes] == [(260, 200, 310, 310)]
    assert found.mask[260:310, 200:310].all()


def test_nothing_under_a_mask():
    image, _ = with_scale_bar()
    mask = np.zeros(image.shape, bool)
    mask[260:300, 10:130] = True
    assert find(image, mask) is None


@pytest.mark.parametrize("share", [0.5, 5, 20, 50])
@pytest.mark.parametrize("sides", [(1, 0), (0, 1), (1, 1)])
def test_saturated_atoms_are_none(share, sides):
    for crystal, angle in ((datasets.SRTIO3, 0), (datasets.SILICON, 90), (datasets.COPPER, 17)):
        image, _ = datasets.single_phase((256, 256), crystal=crystal, angle=angle, jitter=0)
        low, high = (np.percentile(image, q) for q in (share * sides[0], 100 - share * sides[1]))
        stretched = (image - low) / max(1.0, high - low) * 255
        assert find(np.clip(stretched, 0, 255).astype(np.uint8)) is None


def test_hot_pixels_vacuum_and_holes_are_none():
    image, _ = picture()
    y, x = np.mgrid[:320, :320]
    particle = np.where(np.hypot(y - 150, x - 170) < 90, image, 0).astype(np.uint8)
    assert find(particle) is None
    particle.flat[np.random.default_rng(0).integers(0, image.size, 50)] = 255
    assert find(particle) is None
    image[:, 250:] = 0  # vacuum up to the edge
    assert find(image) is None
    hole = (np.hypot(y - 150, x - 120) < 60).astype(float)
    rim = np.abs(gaussian_filter(hole, 2) - 0.5) < 0.2
    image[hole > 0], image[rim] = 0, 255
    assert find(image) is None


def test_constant_and_empty():
    assert find(np.full((64, 64), 3.0)) is None
    assert find_annotations(np.full((64, 64), np.nan), (0, 0), np.ones((64, 64), bool)) is None


def test_segment_leaves_it_out(tmp_path):
    image, truth = with_scale_bar()
    result = segment(image, 2, window=32)
    assert (result.labels < 0).any()
    assert (result.label_image >= 0).all()  # what is under it has the phase around it
    assert "y 268 to 295" in result.notes[0]
    assert result.params["annotations"] == "exclude"
    right = (result.label_image == truth).mean()
    assert max(right, 1 - right) > 0.95
    result.save(tmp_path / "map.npz")
    assert Segmentation.load(tmp_path / "map.npz").notes == result.notes


def test_segment_keeps_it_when_asked():
    image, _ = with_scale_bar()
    result = segment(image, 2, window=32, annotations="keep")
    assert result.notes == ()
    assert (result.labels >= 0).all()


def test_segment_respects_the_mask_beside_it():
    image, _ = with_scale_bar()
    mask = np.zeros(image.shape, bool)
    mask[:40, :40] = True
    result = segment(image, 2, window=32, mask=mask)
    assert_array_equal(result.label_image < 0, mask)
    assert result.notes


def test_segment_keeps_it_where_nothing_would_be_left():
    image, _ = with_scale_bar()
    small = np.ascontiguousarray(image[250:310, 10:130])
    result = segment(small, 2, window=24)
    assert "is kept" in result.notes[0]
    assert (result.labels >= 0).all()


def test_refused():
    with pytest.raises(ValueError, match=r"annotations must be one of \('exclude', 'keep'\), got 'drop'"):
        segment(np.zeros((64, 64)), 2, annotations="drop")


def test_nothing_beside_a_scale_bar_is_refused():
    image = np.zeros((256, 256), np.uint8)
    image[230:236, 20:120] = 255
    with pytest.raises(ParameterError, match="image is 0 in every pixel"):
        segment(image, 2)
