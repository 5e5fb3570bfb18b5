"""Checks of images, masks and (y, x) parameters, and the survey of all pixels."""

import numpy as np
import pytest

from stemseg_core import datasets, segment
from stemseg_core.io import read_image
from stemseg_core.windows.images import Frames, check_image, first_bad_pixels, pair


@pytest.mark.parametrize(
    ("value", "expected"),
    [(3, (3, 3)), ((3, 4), (3, 4)), ([3, 4], (3, 4)), (np.uint8(3), (3, 3)), (np.array([3, 4]), (3, 4))],
)
def test_pair(value, expected):
    got = pair("window", value)
    assert got == expected
    assert all(type(v) is int for v in got)


@pytest.mark.parametrize(
    "value", [0, -1, (3, 0), 2.0, 2.5, (1, 2, 3), [], [[1, 2]], "3", None, True, (True, 2.0), np.nan, (3, (4, 5))]
)
def test_no_pair(value):
    with pytest.raises(ValueError, match=r"window must be a whole number of pixels >= 1, or a \(y, x\) pair"):
        pair("window", value)


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", ">u2", "i8", "f2", "f4", ">f8"])
@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_images_are_taken_as_they_are(dtype, shape):
    image = np.ones(shape, dtype)[::-1]
    got, mask = check_image(image, None)
    assert np.shares_memory(got, image)
    assert got.dtype == dtype
    assert mask is None


def test_lists_are_images():
    got, _ = check_image([[1, 2], [3, 4]], [[True, False], [False, False]])
    assert got.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.ones((3, 3), complex), TypeError, "image is complex"),
        (np.full((3, 3), "a"), TypeError, "image must be numeric"),
        (np.full((3, 3), None), TypeError, "image must be numeric"),
        (np.ones(3), ValueError, r"image must be 2-D \(y, x\) or a 3-D stack"),
        (np.ones((1, 1, 1, 1)), ValueError, "4-D"),
        (3.0, ValueError, "0-D"),
        (np.ones((0, 3)), ValueError, "image is empty"),
        (np.ones((2, 3, 0)), ValueError, "image is empty"),
    ],
)
def test_images_that_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        check_image(image, None)


def test_masks_are_joined():
    image = np.ma.masked_array(np.ones((2, 3, 4)), mask=False)
    image[0, 1, 2] = np.ma.masked
    given = np.zeros((3, 4), bool)
    given[0, 0] = True
    array, mask = check_image(image, given)
    assert not isinstance(array, np.ma.MaskedArray)
    assert np.argwhere(mask).tolist() == [[0, 0, 0], [0, 1, 2], [1, 0, 0]]
    assert given.sum() == 1
    assert image.mask.sum() == 1


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.zeros((3, 4), int), TypeError, r"mask must be bool \(True: excluded\), got dtype int64"),
        (np.zeros((4, 3), bool), ValueError, r"mask must have the shape of the image, \(3, 4\), got \(4, 3\)"),
        (np.zeros((1, 3, 4), bool), ValueError, "mask must have the shape"),
        (True, ValueError, "mask must have the shape"),
    ],
)
def test_masks_that_are_refused(mask, error, message):
    with pytest.raises(error, match=message):
        check_image(np.ones((3, 4)), mask)


def test_first_bad_pixels():
    frame = np.ones((20, 100))
    frame[12, 88], frame[13, 2], frame[3, 4] = np.nan, np.nan, -np.inf
    assert first_bad_pixels(frame, ~np.isfinite(frame)) == "2 NaN, first at (12, 88) and 1 infinity, first at (3, 4)"
    bad = np.zeros(frame.shape, bool)
    assert first_bad_pixels(frame, bad) == ""
    bad[13, 2] = True
    assert first_bad_pixels(frame, bad) == "1 NaN, first at (13, 2)"


def test_what_read_image_returns_is_told_from_pixels(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(64))
    with pytest.raises(TypeError, match=r"pass image\.data"):
        segment(read_image(tmp_path / "a.npy"), 2)


def test_survey_keeps_the_image_and_finds_its_extremes():
    image = np.random.default_rng(0).integers(3, 200, (2, 30, 40)).astype(np.uint16)
    frames = Frames.survey(image)
    assert np.shares_memory(frames.image, image)
    assert frames.stack == (2,)
    assert frames.mask is None
    assert frames.extremes == tuple((frame.min(), frame.max()) for frame in image)
    np.testing.assert_array_equal(frames.offset, [np.float32(frame.mean()) for frame in image])
    assert frames.gain / 2 < np.abs(image - frames.offset[:, None, None]).max() <= frames.gain
    assert Frames.survey(image[0]).stack == ()


def test_survey_leaves_out_what_is_excluded():
    image = np.arange(1200.0).reshape(30, 40)
    image[3, 4], image[5] = np.inf, -1e9
    mask = np.zeros(image.shape, bool)
    mask[5] = True
    with pytest.raises(ValueError, match=r"1 infinity, first at \(3, 4\)"):
        Frames.survey(image, mask)
    frames = Frames.survey(image, mask, "exclude")
    assert frames.extremes == ((0, 1199),)
    assert frames.mask.sum() == 41
    assert mask.sum() == 40
    np.testing.assert_allclose(frames.offset, image[~frames.mask[0]].mean())
    pixels = frames.pixels(0, slice(2, 7), slice(3, 9), np.dtype(np.float32))
    expected = np.where(frames.mask[0], 0, (image - frames.offset[0]) / frames.gain)[2:7, 3:9]
    np.testing.assert_allclose(pixels, expected, rtol=1e-6)
    assert Frames.survey(image, np.ones_like(mask)).extremes == ((0, 0),)


def test_survey_excludes_in_every_frame_and_leaves_the_mask_alone():
    image = np.ones((3, 30, 40))
    image[0, 1, 2] = image[2, 3, 4] = np.nan
    mask = np.zeros(image.shape, bool)
    mask[1, 5, 6] = True
    for given, excluded in ((None, 2), (mask, 3), (mask[1], 5)):
        frames = Frames.survey(image, given, "exclude")
        assert frames.mask.sum() == excluded
        assert frames.mask[0, 1, 2]
        assert frames.mask[2, 3, 4]
    assert mask.sum() == 1


def test_survey_refuses_unknown_ways():
    with pytest.raises(ValueError, match="invalid must be one of"):
        Frames.survey(np.ones((3, 3)), None, "fill")


def test_segment_surveys_the_pixels_once_for_windows_of_all_sizes(monkeypatch):
    survey, surveyed = Frames.survey.__func__, []

    def counted(cls, image, *args):
        surveyed.append(np.shape(image))
        return survey(cls, image, *args)

    monkeypatch.setattr(Frames, "survey", classmethod(counted))
    image, _ = datasets.two_phase((256, 256))
    assert len(segment(image, 2).params["windows"]) == 3
    assert surveyed == [(256, 256)]
