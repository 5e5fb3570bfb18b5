"""segment(): the same answer on any threads and layout, after gain, turns and mirrors, and from its `params`."""

import numpy as np
import pytest

from stemseg_core import Segmentation, datasets, segment
from stemseg_core.phases.methods import METHODS

SHAPE = (192, 232)
OPTIONS = {"window": (48, 40), "step": (6, 8)}


@pytest.fixture(scope="module")
def two_phase():
    return datasets.two_phase(SHAPE, position=0.4)  # not in the middle: which phase is the larger is sure


@pytest.fixture(scope="module")
def plain(two_phase):
    return segment(two_phase[0], 2, **OPTIONS)


def same(a, b):
    for name, value in a.to_dict().items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, b.to_dict()[name], err_msg=name)
    assert a.params == b.params


@pytest.mark.parametrize("method", METHODS)
def test_same_bits_for_any_number_of_threads(two_phase, method):
    one, two, three = (segment(two_phase[0], 2, method=method, **OPTIONS, n_jobs=n) for n in (1, 2, 3))
    same(one, two)
    same(one, three)


@pytest.mark.parametrize("layout", ["F", "read-only", "strided", "memmap", "list", "byte-swapped", "masked"])
def test_any_layout(two_phase, plain, layout, tmp_path):
    image = two_phase[0].copy()
    if layout == "F":
        given = np.asfortranarray(image)
    elif layout == "strided":
        given = np.repeat(image, 2, axis=1)[:, ::2]
    elif layout == "memmap":
        np.save(tmp_path / "image.npy", image)
        given = np.load(tmp_path / "image.npy", mmap_mode="r")
    elif layout == "list":
        given = image.astype(float).tolist()
    elif layout == "byte-swapped":
        given = image.astype(">f4")
    elif layout == "masked":
        given = np.ma.masked_array(image, mask=np.zeros(SHAPE, bool))
    else:
        given = image
        given.setflags(write=False)
    result = segment(given, 2, **OPTIONS)
    np.testing.assert_array_equal(result.label_image, plain.label_image)
    np.testing.assert_array_equal(result.image, image)


@pytest.mark.parametrize("dtype", ["u2", "i4", "f8", "f2"])
def test_any_dtype(two_phase, plain, dtype):
    image = two_phase[0].astype(dtype)
    result = segment(image, 2, **OPTIONS)
    assert (result.label_image == plain.label_image).mean() > 0.998
    assert result.image.dtype == dtype


@pytest.mark.parametrize("method", METHODS)
def test_nothing_given_is_changed(two_phase, method):
    image, mask = two_phase[0].copy(), np.zeros(SHAPE, bool)
    image[3, 4] = np.nan
    mask[100:, :9] = True
    before = image.copy(), mask.copy()
    segment(image, 2, method=method, mask=mask, invalid="exclude", **OPTIONS)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(mask, before[1])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [lambda x: x * 1e-6, lambda x: x * 1e6, lambda x: x + 1e4, lambda x: 3 * x - 50])
def test_gain_and_offset_do_not_matter(two_phase, method, change):
    image = two_phase[0].astype(np.float64)
    before, after = segment(image, 2, method=method, **OPTIONS), segment(change(image), 2, method=method, **OPTIONS)
    assert (before.label_image == after.label_image).mean() > 0.998


@pytest.mark.parametrize("method", METHODS)
def test_transposed_image_gives_the_transposed_map(two_phase, method):
    image = two_phase[0]
    across = segment(image, 2, method=method, window=(48, 40), step=(6, 8), pixel_size=(0.02, 0.03))
    down = segment(image.T, 2, method=method, window=(40, 48), step=(8, 6), pixel_size=(0.03, 0.02))
    assert (across.label_image == down.label_image.T).mean() > 0.99
    assert (across.labels == down.labels.T).mean() > 0.98
    centers = down.centers.reshape(*down.labels.shape, 2)
    np.testing.assert_array_equal(across.centers, centers.transpose(1, 0, 2)[..., ::-1].reshape(-1, 2))
    for a, b in zip(across.frequency_axes, down.frequency_axes[::-1], strict=True):
        np.testing.assert_array_equal(a, b)
    difference = across.components - down.components.transpose(0, 2, 1)
    assert np.linalg.norm(difference) < 0.05 * np.linalg.norm(across.components)


@pytest.mark.parametrize("method", METHODS)
def test_mirrored_image_gives_the_mirrored_map(two_phase, method):
    image = two_phase[0]  # windows of 48 and 40 at steps of 6 and 8 reach its last row and column exactly
    up, down = segment(image, 2, method=method, **OPTIONS), segment(image[::-1, ::-1], 2, method=method, **OPTIONS)
    assert (up.label_image == down.label_image[::-1, ::-1]).mean() > 0.99


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")
def test_params_reproduce_the_result(two_phase, method):
    image = two_phase[0]
    options = {
        "taper": ("kaiser", 8.6),
        "zoom": 3,
        "scale": "abs",
        "k_min": 2,
        "rank": 9,
        "smooth": 5,
        "normalize": 0.3,
        "k_max": 0.12,
        "rotation_invariant": True,
        "regularize": 9,
        "min_area": 700,
    }
    first = segment(image, 2, method=method, window=(40, 48), step=9, random_state=3, **options)
    same(first, segment(image, **first.params))
    assert "image" not in first.params
    assert first.params["random_state"] == 3
    assert first.params["step"] == (9, 9)


def test_params_reproduce_the_result_after_a_file(two_phase, tmp_path):
    first = segment(two_phase[0], 2, taper=("kaiser", 8.6), **OPTIONS)
    first.save(tmp_path / "first.npz")
    loaded = Segmentation.load(tmp_path / "first.npz")
    assert loaded.params == first.params
    again = segment(loaded.image, **loaded.params)
    np.testing.assert_array_equal(again.label_image, first.label_image)


def test_no_seed_draws_one_and_records_it(two_phase):
    image = two_phase[0]
    first, second = (segment(image, 2, random_state=None, **OPTIONS) for _ in range(2))
    assert first.params["random_state"] != second.params["random_state"]
    same(first, segment(image, **first.params))
