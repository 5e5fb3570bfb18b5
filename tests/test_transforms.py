"""Transforms of windows against their NumPy twins at every level, against each other, and their costs; axes."""

from importlib import import_module

import numpy as np
import pytest
import scipy.fft
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import get_window

import stemseg_core as ss
from stemseg_core import _kernels
from stemseg_core.windows import images, transforms
from stemseg_core.windows.axes import FFT, Axis
from stemseg_core.windows.transforms import FFTRows, FFTWindows, ProductRows, ProductWindows, SlidingWindows

LEVELS = _kernels.available_levels()
FACTORS = [n for n in range(4, 130) if FFT.radices_of(n)]


def axis_of(w, zoom=1, step=1, dtype=np.float32, taper=None):
    taper = np.random.default_rng(w).random(w) if taper is None else np.asarray(taper, float)
    return Axis(taper, (w - 1) // (2 * zoom), step, np.dtype(dtype))


def close(got, want, dtype):
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1, np.abs(want).max()))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", transforms.ROW_TRANSFORMS)
@settings(max_examples=25)
@given(data=st.data())
def test_row_kernels_match_their_twins(reference, level, dtype, way, data):
    lengths = st.integers(1, 70) if way is ProductRows else st.sampled_from(FACTORS).map(lambda n: 2 * n)
    axis = axis_of(data.draw(lengths, "window"), data.draw(st.integers(1, 5), "zoom"), dtype=dtype)
    axis = Axis(axis.taper, axis.h, data.draw(st.integers(1, 30), "step"), axis.dtype)
    n, height = data.draw(st.integers(1, 5), "pieces"), data.draw(st.integers(1, 40), "rows")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    image = rng.standard_normal((height, (n - 1) * axis.step + axis.w)).astype(dtype)
    image.setflags(write=False)
    transform, first, columns = way(axis), data.draw(st.integers(0, 3), "first"), n * (axis.h + 1)
    results, scratch = [], None
    for module in (import_module(f"stemseg_core._kernels.strips_{level}"), reference("strips")):
        rows = np.full((2, first + height, -(-columns // 16) * 16 + 16), np.nan, dtype)
        sums = np.full((first + height, n), np.nan)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transforms, "strip_kernels", module)
            scratch = scratch or transform.scratch(image.shape[1], n)  # as large as this level needs
            transform(image, first, rows, sums, scratch)
        assert np.isnan(rows[:, :first]).all()
        assert np.isnan(sums[:first]).all()
        results.append((rows[:, first:, :columns], sums[first:]))
    close(results[0][0], results[1][0], dtype)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=0, atol=1e-4 if dtype == np.float32 else 1e-11)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", transforms.WINDOW_TRANSFORMS)
@settings(max_examples=25)
@given(data=st.data())
def test_window_kernels_match_their_twins(reference, level, dtype, way, data):
    w = data.draw(st.sampled_from(FACTORS) if way is FFTWindows else st.integers(1, 70), "window")
    taper = None
    if way is SlidingWindows or data.draw(st.booleans(), "cosines"):
        taper = get_window(
            data.draw(st.sampled_from(["hann", "hamming", "blackman", "nuttall", "flattop", "boxcar"])), w
        )
    h, step = (w - 1) // (2 * data.draw(st.integers(1, 5), "zoom")), data.draw(st.integers(1, 30), "step")
    axis = Axis(axis_of(w, taper=taper).taper, h, step, np.dtype(dtype))
    assume(transforms.cost(way, axis, 1) is not None)  # the axis may be too short for the cosines
    hx = data.draw(st.integers(0, 40), "hx")
    m, n = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 4)), "windows")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), "seed"))
    first = data.draw(st.integers(0, 3), "first")
    ld = -(-n * (hx + 1) // 16) * 16 + 16
    rows = rng.standard_normal((2, first + (m - 1) * step + w, ld)).astype(dtype)
    shift = rng.standard_normal((m, n)).astype(dtype)
    taper_spectrum = np.zeros((2, 2 * h + 1, hx + 16), dtype)
    spectrum = np.outer(axis.taper_spectrum, rng.standard_normal(hx + 1) + 1j * rng.standard_normal(hx + 1))
    taper_spectrum[:, :, : hx + 1] = spectrum.real, spectrum.imag
    for array in (rows, shift, taper_spectrum):
        array.setflags(write=False)
    transform, d = way(axis, hx + 1), ((2 * h + 1) * (2 * hx + 1) + 1) // 2
    for roots in (False, True):
        results, scratch = [], None
        for module in (import_module(f"stemseg_core._kernels.windows_{level}"), reference("windows")):
            # Windows are stored in vectors: what is around them must stay as it is.
            frame = np.full((m + 2, n + 2, d), np.nan, dtype)
            out = frame[1:-1, 1:-1]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(transforms, "window_kernels", module)
                scratch = scratch or transform.scratch(ld, m)  # as large as this level needs
                source = transforms.Source(rows, first, step, shift, taper_spectrum, axis.reach, hx, roots, 1.5, 0.7)
                transform(source, out, scratch)
            results.append(out.copy())
            out[:] = np.nan
            assert np.isnan(frame).all()
        # A fourth root turns a rounding error of the power into its root.
        close(*((result**4 if roots else result) for result in results), dtype)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", transforms.WINDOW_TRANSFORMS)
def test_every_feature_is_stored_in_its_place(level, dtype, way, monkeypatch):
    """Vectors overlap where a window stores ky < 0: for every number of columns around whole vectors.

    The amplitude of each column is its number, so that a feature that is not overwritten in time has a wrong value.
    """
    kernels = import_module(f"stemseg_core._kernels.windows_{level}")
    monkeypatch.setattr(transforms, "window_kernels", kernels)
    w = 12
    axis = Axis(np.ones(w), 5, 3, np.dtype(dtype))
    ky = np.arange(-5, 6)
    # Of each row only the first pixel is not zero: all ky have the modulus of the column.
    for hx in (*range(20), *range(29, 36)):
        columns = 1 + np.arange(hx + 1.0)
        rows = np.zeros((2, w, -(-2 * (hx + 1) // 16) * 16 + 16), dtype)
        rows[0, 0, : 2 * (hx + 1)] = np.tile(columns, 2)
        transform = way(axis, hx + 1)
        frame = np.full((1, 4, 11 * (hx + 1) - 5), -1, dtype)
        spectrum = np.zeros((2, 11, hx + 16), dtype)
        source = transforms.Source(rows, 0, 3, np.zeros((1, 2), dtype), spectrum, 0, hx, False, 1.0, 1.0)
        transform(source, frame[:, 1:3], transform.scratch(rows.shape[2], 1))
        want = np.broadcast_to(columns**2, (11, hx + 1))[(np.arange(hx + 1) > 0) | (ky[:, None] >= 0)]
        for window in frame[0, 1:3]:
            np.testing.assert_allclose(window, want, rtol=1e-5)
        assert (frame[0, [0, 3]] == -1).all()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", ["abs", "log1p"])
def test_finish_kernel_matches_its_twin(reference, level, dtype, scale):
    power = np.random.default_rng(0).random((3, 4, 37)).astype(dtype) ** 6 * 1e3
    power[0, 0, 0] = 0
    found = [power.copy(), power.copy()]
    import_module(f"stemseg_core._kernels.windows_{level}").finish_block(found[0], scale, 2.0, 1.5, 7)
    reference("windows").finish_block(found[1], scale, 2.0, 1.5, 7)
    np.testing.assert_allclose(*found, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_buffer_kernels_match_their_twins(reference, level, dtype):
    rng = np.random.default_rng(0)
    rows, sums = rng.random((2, 50, 48)).astype(dtype), rng.random((50, 3)) + 100
    results = []
    for module in (import_module(f"stemseg_core._kernels.strips_{level}"), reference("strips")):
        means, r, s = np.empty((4, 3), dtype), rows.copy(), sums.copy()
        module.window_means_block(s, 5, 7, 20, 11, np.empty((50, 3)), means)
        for start, count in ((9, 30), (45, 5), (3, 0)):
            module.move_rows_block(r, s, start, count)
        results.append((means, r, s))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-6 if dtype == np.float32 else 1e-13)
    for got, want in zip(results[0][1:], results[1][1:], strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("level", LEVELS)
def test_fourth_root_over_the_whole_range(level):
    """The window of one pixel has one feature, the root of its modulus: any number can be put in."""
    kernels = import_module(f"stemseg_core._kernels.windows_{level}")
    modulus = np.r_[0, np.logspace(-18, 18, 4001)].astype(np.float32)
    rows = np.zeros((2, len(modulus), 32), np.float32)
    rows[0, :, 0] = modulus
    out = np.empty((len(modulus), 1, 1), np.float32)
    axis = axis_of(1, taper=[1.0])
    way, zeros = ProductWindows(axis, 1), np.zeros((len(modulus), 1), np.float32)
    source = (rows, 0, 1, zeros, np.zeros((2, 1, 16), np.float32), 0, 0, True, 1.0, 1.0)
    kernels.transform_windows_products_block(
        *source, way.taper, way.cosines, way.sines, *way.scratch(32, len(out)), out
    )
    np.testing.assert_allclose(out[:, 0, 0], np.sqrt(modulus.astype(float)), rtol=3e-7)


def matrix_by(monkeypatch, rows, windows, image, *parameters, **options):
    """The window matrix that one way along each axis makes, or None if it cannot."""
    with monkeypatch.context() as patch:
        patch.setattr(transforms, "ROW_TRANSFORMS", (rows,))
        patch.setattr(transforms, "WINDOW_TRANSFORMS", (windows,))
        try:
            return ss.WindowFFT(*parameters, **options).matrix(image)
        except transforms.NoTransformError:
            return None


@pytest.mark.parametrize(
    ("window", "step", "taper", "zoom"),
    [
        (64, 8, "hann", 2),
        (64, 1, "hann", 2),
        (32, 3, "hamming", 1),
        (36, 2, "flattop", 1),
        (100, 9, "blackman", 3),
        (128, 40, None, 2),
        ((60, 64), (7, 3), ("tukey", 0.3), 2),
        ((81, 24), (11, 5), "hann", 1),
        (40, 2, ("general_hamming", 0.0), 2),
        (40, 2, ("general_hamming", 0.02), 2),
        ((10, 200), (3, 31), "hann", 4),
    ],
)
def test_all_ways_give_the_same_features(monkeypatch, reference, window, step, taper, zoom):
    """Also as exact as a float32 FFT, on an image with a bright part, a dark part and a high background."""
    (wy, wx), (sy, sx) = np.broadcast_to(window, 2), np.broadcast_to(step, 2)
    height, width = wy + 90, wx + min(90, 40 * sx)
    y, x = np.mgrid[:height, :width]
    rng = np.random.default_rng(0)
    image = rng.poisson(np.where(y < height / 2, 3e4, 30) * (1 + 0.5 * np.cos(0.7 * x) + x / width)) + 1e4
    image = image.astype(np.float32)
    want = reference("windows").features(image, window, step, taper, zoom=zoom, scale="abs")
    tapers = (np.ones(w) if taper is None else get_window(taper, w) for w in (wy, wx))
    windows = sliding_window_view(image, (wy, wx))[::sy, ::sx].reshape(-1, wy, wx)
    tapered = (windows - windows.mean(axis=(1, 2), keepdims=True)) * np.outer(*tapers).astype(np.float32)
    planes = np.abs(scipy.fft.fftshift(scipy.fft.fft2(tapered), axes=(1, 2)))
    hy, hx = want.shape[1] // 2, want.shape[2] // 2
    fft_error = np.abs(planes[:, wy // 2 - hy : wy // 2 + hy + 1, wx // 2 - hx : wx // 2 + hx + 1] - want).max()
    tried = 0
    for rows in transforms.ROW_TRANSFORMS:
        for windows in transforms.WINDOW_TRANSFORMS:
            matrix = matrix_by(monkeypatch, rows, windows, image, window, step, taper=taper, zoom=zoom, scale="abs")
            if matrix is not None:
                tried += 1
                assert type(matrix.plan.along_x) is rows
                assert type(matrix.plan.along_y) is windows
                assert np.abs(matrix.to_image(np.asarray(matrix)) - want).max() <= 1.5 * fft_error
                assert np.array_equal(matrix.rows(3, 50), matrix.to_array(n_jobs=3)[3:50])
    assert tried >= 2


def test_dark_windows_keep_no_rounding_of_bright_ones(monkeypatch):
    """A sum from which the rows that leave are subtracted would: here the error is that of the window's own pixels."""
    rng = np.random.default_rng(1)
    image = rng.random((260, 64)).astype(np.float32)
    image[:120] *= 1e6
    image -= image.mean(dtype=float)
    for windows in transforms.WINDOW_TRANSFORMS:
        matrix = matrix_by(monkeypatch, FFTRows, windows, image, 64, 1, scale="abs", detrend=None)
        exact = ss.WindowFFT(64, 1, scale="abs", detrend=None, dtype="float64").matrix(image)
        got, want = matrix.rows(130, 197).astype(float), exact.rows(130, 197)
        assert np.abs(got - want).max() <= 1e-6 * np.linalg.norm(want, axis=1).max()


def test_cosine_tapers_are_found():
    for name, terms in (("boxcar", 1), ("hann", 2), ("hamming", 2), ("blackman", 3), ("nuttall", 4), ("flattop", 5)):
        found = axis_of(64, taper=get_window(name, 64)).cosines
        assert len(found) == terms
        j = 2 * np.pi * np.arange(64) / 64
        np.testing.assert_allclose(
            sum(a * np.cos(t * j) for t, a in enumerate(found)), get_window(name, 64), atol=1e-12
        )
    assert axis_of(64, taper=get_window(("tukey", 0.5), 64)).cosines is None
    assert axis_of(64, taper=np.sin(2 * np.pi * np.arange(64) / 64)).cosines is None
    assert axis_of(64, taper=get_window(("general_hamming", 0.0), 64)).cosines is None  # of mean zero
    assert axis_of(6, taper=get_window("flattop", 6)).cosines is None


@given(n=st.integers(1, 5000))
def test_radices_multiply_up(n):
    radices = FFT.radices_of(n)
    rest = n
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    assert (radices is None) == (rest > 1 or n < 6)
    if radices:
        assert np.prod(radices) == n
        assert radices[-1] == 4 or n % 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", [1, 2, 5])
@pytest.mark.parametrize("window", [16, 64, 100, 256, 500])
def test_tiles_are_small(window, step, dtype):
    """Blocks of one strip and of bounded size, however many windows sliding sums would like to have."""
    for zoom in (1, 2, 4):
        matrix = ss.WindowFFT(window, step, zoom=zoom, dtype=dtype).matrix(np.zeros((1100, 600), np.float32))
        window_bytes = matrix.shape[1] * matrix.dtype.itemsize
        size = np.prod(matrix.tile_shape) * window_bytes
        assert size <= max(transforms.SLIDING_TILE_BYTES, window_bytes)


def test_image_rows_between_windows_are_left_out(monkeypatch):
    """Where steps are larger than a window."""
    taken, pixels = [], images.Frames.pixels

    def counted(frames, frame, rows, *rest):
        taken.append(rows.stop - rows.start)
        return pixels(frames, frame, rows, *rest)

    image = np.random.default_rng(0).random((900, 200))
    close = ss.WindowFFT(16, (100, 16)).matrix(image)
    expected = np.asarray(ss.WindowFFT(16, (4, 16)).matrix(image)).reshape(222, 12, -1)[::25]
    monkeypatch.setattr(images.Frames, "pixels", counted)
    got = close.to_array().reshape(expected.shape)
    assert sum(taken) <= close.grid_shape[0] * (16 + transforms.window_kernels.WIDEST_LANES)
    np.testing.assert_allclose(got, expected, atol=1e-5)


@settings(max_examples=200)
@given(
    w=st.integers(2, 600),
    zoom=st.integers(1, 8),
    step=st.integers(1, 100),
    columns=st.integers(1, 300),
    taper=st.sampled_from(["hann", "blackman", ("tukey", 0.5)]),
)
def test_the_cheapest_possible_way_is_taken(w, zoom, step, columns, taper):
    axis = axis_of(w, zoom, step, taper=get_window(taper, w))
    for ways, geometry in ((transforms.ROW_TRANSFORMS, ()), (transforms.WINDOW_TRANSFORMS, (columns,))):
        costs = {way: transforms.cost(way, axis, *geometry) for way in ways}
        assert all(cost is None or cost > 0 for cost in costs.values())
        chosen = type(transforms.fastest(ways, axis, *geometry))
        assert costs[chosen] == min(cost for cost in costs.values() if cost is not None)


@pytest.mark.parametrize(
    ("w", "step", "taper", "rows", "windows"),
    [
        (64, 1, "hann", FFTRows, SlidingWindows),
        (64, 8, "hann", FFTRows, FFTWindows),
        (64, 1, ("tukey", 0.5), FFTRows, FFTWindows),
        (61, 8, ("tukey", 0.5), ProductRows, ProductWindows),
        (256, 64, "hamming", FFTRows, FFTWindows),
        (16, 4, "hann", FFTRows, ProductWindows),
    ],
)
def test_which_way_is_taken(w, step, taper, rows, windows):
    """What bench/transforms.py finds to be the fastest by far."""
    axis = axis_of(w, 2, step, taper=get_window(taper, w))
    assert type(transforms.fastest(transforms.ROW_TRANSFORMS, axis)) is rows
    assert type(transforms.fastest(transforms.WINDOW_TRANSFORMS, axis, axis.h + 1)) is windows
