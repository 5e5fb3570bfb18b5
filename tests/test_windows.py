"""Window features against numpy.fft, inputs, masks, pieces and refusals: windows, matrix, plan, tiles."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import stemseg_core as ss
from stemseg_core.rows import sources
from stemseg_core.system.errors import ParameterError
from stemseg_core.windows import plan


def image_of(shape, seed=0, dtype=np.float32):
    return (np.random.default_rng(seed).random(shape) * 1000).astype(dtype)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_features_are_those_of_numpy_fft(reference, data):
    window = data.draw(st.tuples(st.integers(2, 36), st.integers(2, 36)), "window")
    step = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)), "step")
    extra = data.draw(st.tuples(st.integers(0, 30), st.integers(0, 30)), "extra")
    options = {
        "taper": data.draw(st.sampled_from(["hann", "hamming", ("tukey", 0.3), ("exponential", None, 4.0), None])),
        "detrend": data.draw(st.sampled_from(["constant", None])),
        "zoom": data.draw(st.integers(1, 4)),
        "scale": data.draw(st.sampled_from(["abs", "sqrt", "log1p", "power"])),
    }
    image = image_of(tuple(w + e for w, e in zip(window, extra, strict=True)), dtype=np.float64)
    want = reference("windows").features(image, window, step, **options)
    # Of a window of a few pixels, nothing but rounding may be left when the mean is taken off: errors are relative to
    # what there was before.
    size = reference("windows").features(image, window, step, **{**options, "detrend": None}).max()
    for dtype, tolerance in (("float64", 1e-7), ("float32", 2e-3)):
        matrix = ss.WindowFFT(window, step, dtype=dtype, **options).matrix(image)
        features = np.asarray(matrix)
        assert features.dtype == dtype
        # A square root turns a rounding error of the transform, relative to the largest modulus, into its root.
        np.testing.assert_allclose(matrix.to_image(features), want, atol=tolerance * size)
        np.testing.assert_allclose(
            np.linalg.norm(features.astype(float), axis=1),
            np.linalg.norm(want.reshape(len(want), -1), axis=1),
            rtol=2e-3,
            atol=tolerance * size,
        )


@pytest.mark.parametrize(("window", "step"), [(64, 8), (63, 1), (256, 40), ((24, 100), (3, 17))])
def test_float32_is_as_exact_as_a_float32_fft(reference, window, step):
    rng = np.random.default_rng(3)
    image = rng.poisson(3000, (300, 100 if step == 1 else 310)).astype(np.float32)  # errors of sliding sums add up down
    want = reference("windows").features(image, window, step, scale="abs")
    matrix = ss.WindowFFT(window, step, scale="abs").matrix(image)
    error = np.abs(matrix.to_image(np.asarray(matrix)) - want).max()
    assert error <= 4e-7 * np.linalg.norm(want, axis=(1, 2)).max()


@pytest.fixture(scope="module")
def small_tiles():
    """Many tiles and strips in small images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", 3000)
        patch.setattr(plan, "STRIP_COLUMNS", 20)
        yield


@pytest.mark.usefixtures("small_tiles")
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 400), max_size=5), masked=st.booleans(), stacked=st.booleans())
def test_rows_have_the_same_bits_in_any_pieces(cuts, masked, stacked):
    image = image_of((2, 90, 120) if stacked else (90, 220))
    mask = np.zeros(image.shape[-2:], bool)
    mask[30:33, 50] = masked
    matrix = ss.WindowFFT(20, (5, 7)).matrix(image, mask=mask)
    assert matrix.n_blocks > 10
    whole = matrix.to_array(n_jobs=1)
    assert np.array_equal(whole, matrix.to_array(n_jobs=3))
    cuts = [0, *sorted(min(c, len(whole)) for c in cuts), len(whole)]
    pieces = [matrix.rows(a, b) for a, b in pairwise(cuts)]
    assert np.array_equal(np.concatenate(pieces), whole)
    out = np.empty((3, whole.shape[1]), np.float32)
    assert matrix.rows(1, 4, out=out) is out
    assert np.array_equal(out, whole[1:4])


def test_many_tiles_and_strips_make_one_matrix(reference):
    image = image_of((60, 300))
    matrix = ss.WindowFFT(16, 1, zoom=1).matrix(image)
    assert matrix.n_blocks > 6
    want = reference("windows").features(image, 16, 1, zoom=1)
    got = matrix.to_image(np.asarray(matrix))
    np.testing.assert_allclose(got, want, atol=1e-4 * want.max())
    rows = np.concatenate([matrix.index(i) for i in range(matrix.n_blocks)])
    assert np.array_equal(np.sort(rows), np.arange(len(want)))


@pytest.mark.parametrize("dtype", [bool, "u1", "i1", "u2", ">u2", "i4", "u8", "f2", "f4", ">f4", "f8", ">f8", "g"])
def test_every_real_dtype_and_layout(dtype):
    base = np.random.default_rng(1).integers(0, 2 if dtype is bool else 100, (60, 70))
    want = ss.WindowFFT(24, 6).transform(base.astype(np.float64))
    image = base.astype(dtype)
    read_only = image.copy()
    read_only.setflags(write=False)
    layouts = (image, np.asfortranarray(image), np.repeat(image, 2, axis=1)[:, ::2], image[::-1][::-1], read_only)
    for layout in layouts:
        before = layout.copy()
        np.testing.assert_allclose(ss.WindowFFT(24, 6).transform(layout), want, rtol=1e-4, atol=1e-3)
        assert np.array_equal(layout, before)


def test_memmap_list_and_stack(tmp_path):
    image = image_of((2, 60, 70))
    np.save(tmp_path / "stack.npy", image)
    want = ss.WindowFFT(24, 6).transform(image)
    assert np.array_equal(ss.WindowFFT(24, 6).transform(np.load(tmp_path / "stack.npy", mmap_mode="r")), want)
    np.testing.assert_allclose(ss.WindowFFT(24, 6).transform(image.tolist()), want, rtol=1e-4, atol=1e-4)
    single = [ss.WindowFFT(24, 6).transform(frame) for frame in image]
    np.testing.assert_allclose(want, np.concatenate(single), rtol=1e-4, atol=1e-3)
    assert ss.WindowFFT(24, 6).matrix(image).grid_shape == (2, 7, 8)


@pytest.mark.parametrize("scale", ["abs", "sqrt", "log1p", "power"])
@pytest.mark.parametrize("factor", [1e-12, 1e12])
def test_pixels_of_any_unit(reference, scale, factor):
    image = image_of((40, 50), dtype=np.float64) * factor
    want = reference("windows").features(image, 16, 8, scale=scale)
    matrix = ss.WindowFFT(16, 8, scale=scale).matrix(image)
    np.testing.assert_allclose(matrix.to_image(np.asarray(matrix)), want, atol=1e-4 * want.max())


def test_constant_image_and_high_background(reference):
    assert not ss.WindowFFT(16, 8).transform(np.full((40, 50), 7.0)).any()
    image = image_of((40, 50)).astype(np.float64)
    want = reference("windows").features(image, 16, 8, scale="abs")
    for offset in (0, 1e6):
        matrix = ss.WindowFFT(16, 8, scale="abs").matrix((image + offset).astype(np.float32))
        np.testing.assert_allclose(matrix.to_image(np.asarray(matrix)), want, atol=2e-3 * want.max())


def test_masks_exclude_the_windows_they_touch():
    image = image_of((90, 110))
    mask = np.zeros(image.shape, bool)
    mask[40:44, 60] = True
    whole, matrix = ss.WindowFFT(24, 6).matrix(image), ss.WindowFFT(24, 6).matrix(image, mask=mask)
    touched = np.array([[mask[y : y + 24, x : x + 24].any() for x in range(0, 87, 6)] for y in range(0, 67, 6)])
    assert np.array_equal(matrix.included, ~touched)
    assert matrix.shape[0] == (~touched).sum()
    np.testing.assert_allclose(np.asarray(matrix), np.asarray(whole)[~touched.ravel()], rtol=1e-4, atol=1e-3)
    assert np.array_equal(matrix.centers, whole.centers[~touched.ravel()])
    bad = np.where(mask, np.nan, image)
    np.testing.assert_array_equal(np.asarray(ss.WindowFFT(24, 6, invalid="exclude").matrix(bad)), np.asarray(matrix))
    np.testing.assert_array_equal(np.asarray(ss.WindowFFT(24, 6).matrix(bad, mask=mask)), np.asarray(matrix))
    np.testing.assert_array_equal(
        np.asarray(ss.WindowFFT(24, 6).matrix(np.ma.array(image, mask=mask))), np.asarray(matrix)
    )
    assert np.isnan(bad[mask]).all()
    assert mask.sum() == 4


def test_whole_tiles_without_a_window_are_left_out():
    image, mask = image_of((200, 300)), np.zeros((200, 300), bool)
    mask[:, 100:] = True
    matrix = ss.WindowFFT(16, 2).matrix(image, mask=mask)
    want = ss.WindowFFT(16, 2).matrix(image[:, :100])
    np.testing.assert_allclose(np.asarray(matrix), np.asarray(want), rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(matrix.rows(100, 200), np.asarray(matrix)[100:200])


def test_axes_and_centers():
    y, x = np.mgrid[:90, :110]
    matrix = ss.WindowFFT((24, 30), (6, 5), scale="abs", zoom=1).matrix(np.cos(2 * np.pi * (5 * x / 30 + 3 * y / 24)))
    np.testing.assert_allclose(matrix.centers[:2], [(11.5, 14.5), (11.5, 19.5)])
    pattern = matrix.to_image(np.asarray(matrix))[7]
    i, j = np.unravel_index(pattern.argmax(), pattern.shape)
    assert abs(matrix.ky[i]) == pytest.approx(3 / 24)
    assert matrix.kx[j] / matrix.ky[i] == pytest.approx((5 / 30) / (3 / 24))
    np.testing.assert_array_equal(pattern, pattern[::-1, ::-1])


def test_matrix_pickles_and_describes_itself():
    matrix = ss.WindowFFT(24, 6).matrix(image_of((60, 70)))
    assert repr(matrix) == "WindowMatrix(56 x 61 float32: 7 x 8 windows of 24 x 24 px, step 6 x 6 px)"
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(matrix))), np.asarray(matrix))
    assert np.asarray(matrix, dtype=np.float64).dtype == np.float64


GOOD = np.ones((64, 80), np.float32)
BAD = np.where(np.arange(80) == 40, np.nan, GOOD)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ss.WindowFFT(100).transform(GOOD),
            ValueError,
            "window 100 x 100 px is larger than the image, 64 x 80",
        ),
        (lambda: ss.WindowFFT(16).transform(BAD), ValueError, r"64 NaN, first at \(0, 40\)"),
        (lambda: ss.WindowFFT(16).transform(np.array([GOOD, BAD])), ValueError, "of frame 1"),
        (lambda: ss.WindowFFT(16).transform(GOOD / 0.0), ValueError, r"5120 infinity, first at \(0, 0\)"),
        (lambda: ss.WindowFFT(16, 0).transform(GOOD), ValueError, "step must be"),
        (lambda: ss.WindowFFT(16.5).transform(GOOD), ValueError, "window must be"),
        (lambda: ss.WindowFFT((8, 8, 8)).transform(GOOD), ValueError, "window must be"),
        (lambda: ss.WindowFFT(16, taper="hanming").transform(GOOD), ValueError, "taper must be"),
        (lambda: ss.WindowFFT(16, zoom=0).transform(GOOD), ValueError, "zoom must be"),
        (lambda: ss.WindowFFT(16, zoom=1.5).transform(GOOD), ValueError, "zoom must be"),
        (lambda: ss.WindowFFT(16, scale="amp").transform(GOOD), ValueError, "scale must be one of"),
        (lambda: ss.WindowFFT(16, detrend="linear").transform(GOOD), ValueError, "detrend must be one of"),
        (lambda: ss.WindowFFT(16, invalid="fill").transform(GOOD), ValueError, "invalid must be one of"),
        (lambda: ss.WindowFFT(16, dtype="int32").transform(GOOD), ValueError, "dtype must be"),
        (lambda: ss.WindowFFT(16).transform(GOOD * 1j), TypeError, "complex"),
        (lambda: ss.WindowFFT(16).transform(GOOD.astype(str)), TypeError, "numeric"),
        (lambda: ss.WindowFFT(16).transform(GOOD[0]), ValueError, "must be 2-D"),
        (lambda: ss.WindowFFT(16).transform(GOOD[:0]), ValueError, "empty"),
        (lambda: ss.WindowFFT(16).transform(GOOD, mask=GOOD), TypeError, "mask must be bool"),
        (lambda: ss.WindowFFT(16).transform(GOOD, mask=GOOD[1:] > 0), ValueError, "mask must have the shape"),
        (lambda: ss.WindowFFT(16).transform(GOOD, mask=GOOD > 0), ValueError, "no window is left"),
        (lambda: ss.WindowFFT(16, max_memory=1000).transform(GOOD), MemoryError, "max_memory is 1 kB"),
        (lambda: ss.WindowFFT(16).matrix(GOOD).to_image(np.ones(3)), ValueError, "features on its last axis"),
        (lambda: ss.WindowFFT(16).matrix(GOOD).rows(0, 2, out=np.ones((1, 1))), ValueError, "out must have shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_refusals_say_what_and_how_to_mend(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", ["abs", "sqrt", "log1p", "power"])
def test_features_are_finite_or_refused(scale, dtype):
    image = 2 * np.random.default_rng(0).random((40, 40)) - 1
    windows = ss.WindowFFT(16, scale=scale, dtype=dtype)
    for size in 10.0 ** np.arange(-300, 309, 19):
        try:
            matrix = windows.matrix(image * size)
        except ParameterError:
            assert size > {"abs": 1e30, "log1p": 1e30, "sqrt": 1e60, "power": 1e15}[scale]
        else:
            assert np.isfinite(np.asarray(matrix)).all(), size
    with pytest.raises(ValueError, match="may overflow"):
        windows.matrix(np.copysign(1.7e308, image))


def test_stopping_by_progress():
    seen = []
    settings_ = ss.WindowFFT(16, 1, progress=lambda *args: seen.append(args) or len(seen) < 2)
    with pytest.raises(ss.Stopped, match="WindowFFT stopped"):
        settings_.transform(image_of((150, 200)))
    assert len(seen) == 2
    assert seen[0][2] == "WindowFFT"


def test_the_same_bits_however_an_image_is_stored():
    image = image_of((300, 310), seed=2)
    want = ss.WindowFFT(32, 8).transform(image)
    for stored in (np.asfortranarray(image), image.astype(">f4"), np.repeat(image, 2, axis=1)[:, ::2]):
        assert np.array_equal(ss.WindowFFT(32, 8).transform(stored), want)


def test_the_largest_float32_pixels():
    image = (2 * np.random.default_rng(0).random((40, 40)) - 1).astype(np.float32)
    features = ss.WindowFFT(16, 8, scale="abs", dtype="float64")
    want = features.transform(image.astype(np.float64))
    large = features.transform(image * np.float32(3e38))
    np.testing.assert_allclose(large / 3e38, want, rtol=1e-4, atol=1e-4 * want.max())
