"""segment(): every method against the truth, conventions of the maps, inputs, exclusions, reproducibility, refusals."""

import itertools
import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import DBSCAN, AgglomerativeClustering, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from stemseg_core import Segmentation, Stopped, WindowFFT, datasets, segment
from stemseg_core.phases import clusters
from stemseg_core.phases.methods import METHODS
from stemseg_core.rows import sources
from stemseg_core.system import execution, memory

SHAPE = (192, 232)
OPTIONS = {"window": (48, 40), "step": (6, 8)}


class Parts(TransformerMixin, BaseEstimator):
    """A transformer to non-negative weights: distances along the first principal direction from its two ends."""

    def fit(self, X, y=None):
        self.pca_ = PCA(1, svd_solver="full").fit(X)
        self.ends_ = self.pca_.transform(X).min(), self.pca_.transform(X).max()
        return self

    def transform(self, X):
        position = self.pca_.transform(X)[:, 0]
        return np.stack([position - self.ends_[0], self.ends_[1] - position], axis=1).clip(0)


@pytest.fixture(scope="module")
def two_phase():
    return datasets.two_phase(SHAPE, position=0.4)  # not in the middle: which phase is the larger is sure


@pytest.fixture(scope="module")
def plain(two_phase):
    return segment(two_phase[0], 2, **OPTIONS)


def agreement(a, b):
    """Share of equal pixels, under the best of all namings of the phases of `b`."""
    a, b = np.asarray(a, int), np.asarray(b, int)
    names = [i for i in np.union1d(a, b) if i >= 0]
    best = 0
    for order in itertools.permutations(names):
        renamed = np.full(max(names) + 2, -1)
        renamed[names] = order
        best = max(best, (a == renamed[b]).mean())
    return best


def same(a, b):
    for name, value in a.to_dict().items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, b.to_dict()[name], err_msg=name)
    assert a.params == b.params


def check_conventions(result, image, k):
    """Everything that holds for every result."""
    ny, nx = result.labels.shape
    assert result.label_image.shape == image.shape
    assert result.label_image.dtype == result.labels.dtype == np.int32
    assert result.abundances.shape == (k, ny, nx)
    assert {result.abundances.dtype, result.components.dtype, result.confidence.dtype} == {np.dtype(np.float32)}
    included = result.labels >= 0
    np.testing.assert_array_equal(included, np.isfinite(result.abundances).all(axis=0))
    for values in (result.abundances[:, ~included], result.confidence[~included], result.residual[~included]):
        assert np.isnan(values).all()
    shares = result.abundances[:, included]
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(result.labels[included], shares.argmax(axis=0))
    ranked = np.sort(shares, axis=0)
    np.testing.assert_array_equal(result.confidence[included], ranked[-1] - ranked[-2] if k > 1 else np.nan)
    counts = np.bincount(result.label_image[result.label_image >= 0], minlength=k)
    assert len(counts) == k
    np.testing.assert_allclose(result.fractions, counts / counts.sum())
    assert result.fractions.sum() == pytest.approx(1)
    assert (np.diff(counts) <= 0).all()
    assert np.isfinite(result.components).all()
    assert result.components.min() >= 0
    np.testing.assert_allclose(result.components, result.components[:, ::-1, ::-1])
    assert np.nanmin(result.residual) >= 0
    assert result.components.shape == (k, len(result.ky), len(result.kx))
    assert json.loads(json.dumps(result.params)).keys() == result.params.keys()


# The truth.


@pytest.mark.parametrize("method", METHODS)
def test_methods_find_two_phases(two_phase, method):
    image, truth = two_phase
    result = segment(image, 2, method=method, **OPTIONS)
    check_conventions(result, image, 2)
    assert agreement(truth, result.label_image) > 0.93
    assert np.nanmedian(result.residual) < 0.5
    assert result.params["method"] == method


@pytest.mark.parametrize(
    "method",
    [
        GaussianMixture(2, covariance_type="diag", random_state=0),
        AgglomerativeClustering(2),
        MiniBatchKMeans(2, n_init=3, random_state=0),
        Parts(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_estimators_find_two_phases(two_phase, method):
    image, truth = two_phase
    result = segment(image, 2, method=method, **OPTIONS)
    check_conventions(result, image, 2)
    assert agreement(truth, result.label_image) > 0.9
    assert not [name for name in vars(method) if name.endswith("_")], "the estimator given was fitted, not a clone"
    assert type(method).__name__ in result.params["method"]


@pytest.mark.parametrize("method", METHODS)
def test_methods_find_three_grains(method):
    image, truth = datasets.polycrystal((256, 224), n_grains=3, n_orientations=3, random_state=1)
    k = int(truth.max()) + 1
    result = segment(image, k, method=method, window=48, step=8)
    check_conventions(result, image, k)
    assert adjusted_rand_score(truth.ravel(), result.label_image.ravel()) > 0.5


def test_label_image_is_finer_than_the_grid(two_phase):
    image, truth = two_phase
    result = segment(image, 2, window=48, step=16)
    nearest = np.clip(np.rint((np.indices(SHAPE).transpose(1, 2, 0) - 23.5) / 16), 0, np.array(result.labels.shape) - 1)
    blocky = result.labels[tuple(nearest.astype(int).transpose(2, 0, 1))]
    assert agreement(truth, result.label_image) >= agreement(truth, blocky)


def test_largest_phase_is_0_and_the_numbers_do_not_depend_on_the_seed(two_phase):
    image, _ = two_phase
    results = [segment(image, 2, **OPTIONS, random_state=seed) for seed in (0, 1, 17)]
    for result in results:
        assert (result.label_image == results[0].label_image).mean() > 0.99


def test_components_are_the_mean_spectra_of_the_phases(two_phase, plain):
    rows = WindowFFT(**OPTIONS).matrix(two_phase[0])
    spectra = rows.to_image(np.asarray(rows))
    for phase in (0, 1):
        mean = spectra[plain.labels.ravel() == phase].mean(axis=0)
        np.testing.assert_allclose(plain.components[phase], mean, rtol=1e-3, atol=1e-4 * mean.max())


def test_residual_is_what_the_components_leave(two_phase, plain):
    rows = WindowFFT(**OPTIONS).matrix(two_phase[0])
    spectra = rows.to_image(np.asarray(rows)).reshape(rows.shape[0], -1)
    rebuilt = plain.abundances.reshape(2, -1).T @ plain.components.reshape(2, -1)
    expected = np.linalg.norm(spectra - rebuilt, axis=1) / np.linalg.norm(spectra, axis=1)
    np.testing.assert_allclose(plain.residual.ravel(), expected, rtol=1e-3)


def test_axes_and_centers(two_phase, plain):
    rows = WindowFFT(**OPTIONS).matrix(two_phase[0])
    np.testing.assert_array_equal(plain.ky, rows.ky)
    np.testing.assert_array_equal(plain.kx, rows.kx)
    np.testing.assert_array_equal(plain.centers, rows.centers)
    assert plain.labels.shape == rows.grid_shape


# The same answer.


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


# Exclusions.


@pytest.mark.parametrize("method", [*METHODS, GaussianMixture(2, random_state=0)], ids=str)
@pytest.mark.parametrize("how", ["mask", "nan", "masked array", "both"])
def test_excluded_pixels(two_phase, method, how):
    image, truth = two_phase[0].copy(), two_phase[1]
    bad = np.zeros(SHAPE, bool)
    bad[60:70, 100:120] = bad[-3:, 30:40] = True
    if how == "mask":
        image[bad] = 1e9  # what is masked has no say
        result = segment(image, 2, method=method, mask=bad, **OPTIONS)
    elif how == "nan":
        image[bad] = np.nan
        result = segment(image, 2, method=method, invalid="exclude", **OPTIONS)
    elif how == "masked array":
        result = segment(np.ma.masked_array(image, mask=bad), 2, method=method, **OPTIONS)
    else:
        image[60:70, 100:120] = np.inf
        result = segment(
            image, 2, method=method, mask=np.tri(*SHAPE, k=-180, dtype=bool) | bad, invalid="exclude", **OPTIONS
        )
        bad |= np.tri(*SHAPE, k=-180, dtype=bool)
    check_conventions(result, image, 2)
    touched = [
        [bad[y : y + 48, x : x + 40].any() for x in range(0, SHAPE[1] - 39, 8)] for y in range(0, SHAPE[0] - 47, 6)
    ]
    np.testing.assert_array_equal(result.labels == -1, touched)
    assert (result.label_image[bad] == -1).all()
    known = result.label_image >= 0
    assert agreement(truth[known], result.label_image[known]) > 0.9


def test_pixels_that_no_window_is_near_are_unknown(two_phase):
    mask = np.zeros(SHAPE, bool)
    mask[96:] = True
    result = segment(two_phase[0], 2, mask=mask, **OPTIONS)
    assert (result.label_image[96:] == -1).all()
    assert (result.label_image[:72] >= 0).all()  # centre of the last windows above the mask


def test_non_finite_pixels_are_refused_by_default(two_phase):
    image = two_phase[0].copy()
    image[12, 88] = image[13, 1] = np.nan
    with pytest.raises(ValueError, match=r"2 NaN, first at \(12, 88\)"):
        segment(image, 2)


def test_nothing_left(two_phase):
    with pytest.raises(ValueError, match="no window is left"):
        segment(two_phase[0], 2, mask=np.ones(SHAPE, bool))


# Parameters.


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


def test_numpy_numbers_as_parameters(two_phase, tmp_path):
    image = two_phase[0]
    result = segment(
        image, np.int64(2), window=np.array([48, 40]), step=np.int32(8), zoom=np.int64(2), k_min=np.float32(3),
        normalize=np.float32(0.5), rank=np.int64(16), smooth=np.float64(12), whiten=np.bool_(True),
        random_state=np.int64(0), pixel_size=np.array([0.1, 0.2]),
    )  # fmt: skip
    result.save(tmp_path / "result.npz")
    check_conventions(result, image, 2)


def test_no_seed_draws_one_and_records_it(two_phase):
    image = two_phase[0]
    first, second = (segment(image, 2, random_state=None, **OPTIONS) for _ in range(2))
    assert first.params["random_state"] != second.params["random_state"]
    same(first, segment(image, **first.params))


def test_default_step_is_an_eighth_of_the_window(two_phase):
    assert segment(two_phase[0], 2, window=(48, 64)).params["step"] == (6, 8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, None), (0.02, (0.02, 0.02)), ((0.02, 0.03), (0.02, 0.03)), (np.float32(0.5), (0.5, 0.5))],
)
def test_pixel_size(two_phase, plain, size, expected):
    result = segment(two_phase[0], 2, pixel_size=size, units="A", **OPTIONS)
    assert result.pixel_size == expected
    assert result.units == "A"
    np.testing.assert_array_equal(result.label_image, plain.label_image)
    y, x = expected or (1, 1)
    np.testing.assert_allclose(result.frequency_axes[0], result.ky / y)
    np.testing.assert_allclose(result.frequency_axes[1], result.kx / x)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_phases": 0}, ValueError, "n_phases must be a whole number, at least 1; got 0"),
        ({"n_phases": 2.0}, ValueError, "n_phases must be a whole number"),
        ({"n_phases": True}, ValueError, "n_phases must be a whole number"),
        ({"n_phases": "3"}, ValueError, "n_phases must be a whole number"),
        ({"n_phases": 10**6}, ValueError, "n_phases=1000000 needs as many windows"),
        ({"rank": 0}, ValueError, "rank must be a whole number"),
        ({"method": "k-means"}, ValueError, "method must be one of"),
        ({"method": 3}, TypeError, "method must be one of"),
        ({"window": 0}, ValueError, "window must be a whole number"),
        ({"window": 2.5}, ValueError, "window must be a whole number"),
        ({"window": 1000}, ValueError, "larger than the image"),
        ({"step": 0}, ValueError, "step must be a whole number"),
        ({"taper": "hamn"}, ValueError, "taper must be"),
        ({"detrend": "linear"}, ValueError, "detrend must be"),
        ({"zoom": 0}, ValueError, "zoom must be"),
        ({"scale": "cube"}, ValueError, "scale must be"),
        ({"invalid": "ignore"}, ValueError, "invalid must be"),
        ({"k_min": -1}, ValueError, "k_min must be"),
        ({"normalize": 1.5}, ValueError, "normalize must be"),
        ({"smooth": -1}, ValueError, "smooth must be"),
        ({"smooth": np.nan}, ValueError, "smooth must be"),
        ({"smooth": "a"}, ValueError, "smooth must be"),
        ({"k_max": 0}, ValueError, "k_max must be a positive number or None, got 0"),
        ({"k_max": np.inf}, ValueError, "k_max must be"),
        ({"k_max": "1"}, ValueError, "k_max must be"),
        ({"k_max": 7}, ValueError, "k_max=7 cycles per pixel is above every frequency of an image.*give pixel_size"),
        ({"k_max": 0.02}, ValueError, "k_min=3 with k_max=0.02 leaves none of the frequencies"),
        ({"k_max": 0.02, "method": "nmf"}, ValueError, "k_min=3 with k_max=0.02 leaves none of the frequencies"),
        ({"k_max": 1, "pixel_size": 0.02}, ValueError, "k_min=3 with k_max=1 leaves none of the frequencies"),
        ({"k_max": 0.02, "window": 64}, ValueError, "a window of 64 x 64 px keeps"),
        ({"k_max": 0.02, "windows": [40, 60]}, ValueError, "a window of 40 x 40 px keeps"),
        ({"k_max": 0.02}, ValueError, "that the window chosen for the image keeps"),
        ({"k_max": 0.4}, ValueError, "k_max=0.4 cycles per pixel is above all that zoom=2 keeps.*0.25.*or zoom=1"),
        ({"k_max": 15, "pixel_size": (0.02, 0.04)}, ValueError, "up to 12.5 and 6.25 along.*14 between.*or zoom=1"),
        ({"k_max": 10, "pixel_size": 0.02, "zoom": 4}, ValueError, "keeps, which is up to 6.25 along.*or zoom=3"),
        ({"k_max": 40, "pixel_size": 0.02}, ValueError, "above every frequency of an image.*give a smaller one"),
        ({"k_max": 0.08, "pixel_size": 0.02}, ValueError, "k_max is a frequency: for details of 0.08 nm give 12.5"),
        ({"k_max": 80, "pixel_size": 20, "units": "pm"}, ValueError, "for details of 80 pm give 0.0125"),
        ({"window": "2nm"}, ValueError, r"got '2nm'; a length has round\(length / pixel_size\) pixels"),
        ({"rotation_invariant": 1}, TypeError, "rotation_invariant must be True or False, got 1"),
        ({"regularize": -1}, ValueError, "regularize must be a number from 0"),
        ({"regularize": np.inf}, ValueError, "regularize must be a number from 0"),
        ({"regularize": True}, ValueError, "regularize must be a number from 0"),
        ({"min_area": 2.5}, ValueError, "min_area must be a whole number from 0"),
        ({"min_area": -1}, ValueError, "min_area must be a whole number from 0"),
        ({"min_area": SHAPE[0] * SHAPE[1] + 1}, ValueError, "min_area must be at most the area of the image"),
        ({"pixel_size": 0}, ValueError, "pixel_size must be"),
        ({"pixel_size": (1, 2, 3)}, ValueError, "pixel_size must be"),
        ({"pixel_size": np.nan}, ValueError, "pixel_size must be"),
        ({"mask": np.zeros((3, 3), bool)}, ValueError, "mask must have the shape of the image"),
        ({"mask": np.zeros(SHAPE, int)}, TypeError, "mask must be bool"),
        ({"n_jobs": 0}, ValueError, "n_jobs must be"),
        ({"max_memory": "much"}, ValueError, "max_memory must be"),
    ],
    ids=repr,
)
def test_refused_before_any_work(two_phase, options, error, message):
    calls = []
    with pytest.raises(error, match=message):
        segment(two_phase[0], **({"n_phases": 2, "progress": lambda *call: calls.append(call)} | options))
    assert not calls


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((4, 64, 64)), ValueError, "image must be 2-D.*one image of a stack at a time"),
        (np.zeros(64), ValueError, "image must be 2-D"),
        (np.zeros((64, 64), complex), TypeError, "image is complex"),
        (np.zeros((64, 64), "U3"), TypeError, "image must be numeric"),
        (np.zeros((0, 64)), ValueError, "image is empty"),
        ("a.npy", TypeError, r"image must be an array of pixels, got the name 'a.npy'; read .*read_image\('a.npy'\)"),
        (Path("a.npy"), TypeError, "image must be an array of pixels, got the name 'a.npy'"),
        (np.zeros((8, 9)), ValueError, "image of 8 x 9 px is too small: k_min=3 leaves none"),
    ],
)
def test_images_that_are_refused(image, error, message):
    with pytest.raises(error, match=message):
        segment(image, 2)


@pytest.mark.parametrize("method", METHODS)
def test_too_little_memory_is_refused_before_any_work(two_phase, method):
    calls = []
    with pytest.raises(MemoryError, match="max_memory is 1 kB"):
        segment(two_phase[0], 2, method=method, max_memory="1 kB", progress=lambda *call: calls.append(call), **OPTIONS)
    assert not calls


DENSE = {"window": 32, "step": 1}


@pytest.fixture(scope="module")
def dense():
    image, _ = datasets.two_phase((288, 304), position=0.4)
    mask = np.zeros(image.shape, bool)
    mask[100:120, 200:230] = True
    return image, mask


@pytest.fixture
def fourths(monkeypatch):
    """Scratch, and the windows that restarts of k-means are run on, in proportion to the image as with large ones."""
    for module, name in ((sources, "BLOCK_BYTES"), (execution, "TASK_BYTES"), (clusters, "START_ROWS")):
        monkeypatch.setattr(module, name, getattr(module, name) // 4)


@pytest.mark.parametrize(
    ("options", "masked"),
    [
        ({}, False),
        ({}, True),
        ({"rank": 3, "n_phases": 12}, False),
        ({"whiten": True, "n_jobs": 1}, False),
        ({"method": "nfindr"}, False),
        ({"method": "atgp"}, True),
        ({"method": "atgp", "n_phases": 8, "rank": 10, "n_jobs": 1}, False),
        ({"method": "ica"}, True),
        ({"rotation_invariant": True}, False),
        ({"rotation_invariant": True, "method": "ica", "n_jobs": 1}, False),
        ({"regularize": 0.5, "min_area": 100}, True),
    ],
)
@pytest.mark.usefixtures("fourths")
@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")
def test_predicted_memory_is_what_is_used(dense, options, masked, monkeypatch):
    image, mask = dense
    predicted = []
    require = memory.require_memory
    monkeypatch.setattr(memory, "require_memory", lambda n, *rest: [predicted.append(n), require(n, *rest)])
    options = {"n_phases": 4, "n_jobs": 2, "mask": mask if masked else None, **DENSE, **options}
    with pytest.raises(MemoryError, match=r"segmenting \d+ windows needs .* take a larger step or a smaller rank"):
        segment(image, max_memory="1 MB", **options)
    tracemalloc.start()
    try:
        segment(image, max_memory=predicted[0] * 1.001, **options)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.5 * predicted[0] < used < 1.1 * predicted[0]  # scratch is predicted for the largest of windows


def test_dense_grids_start_from_fewer_windows(dense, monkeypatch):
    image = dense[0][:200, :300]
    plain = segment(image, 3, **DENSE)
    monkeypatch.setattr(clusters, "START_ROWS", 300)
    assert (plain.label_image == segment(image, 3, **DENSE).label_image).mean() > 0.999


def test_stopped_while_scores_are_smoothed(two_phase):
    with pytest.raises(Stopped, match="smooth stopped by the progress callback at 4 of 48"):
        segment(two_phase[0], 2, progress=lambda *call: call[2] != "smooth", **OPTIONS)


def test_estimator_with_labels_out_of_range(two_phase):
    for method in (DBSCAN(eps=1e-9), AgglomerativeClustering(3)):
        with pytest.raises(ValueError, match=re.escape(f"{type(method).__name__}") + ".*for n_phases=2"):
            segment(two_phase[0], 2, method=method, **OPTIONS)


def test_estimator_with_too_many_weights(two_phase):
    with pytest.raises(ValueError, match="n_phases=2 weights each; got shape"):
        segment(two_phase[0], 2, method=PCA(3), **OPTIONS)


@pytest.mark.parametrize("method", METHODS)
def test_progress_and_stopping(two_phase, plain, method):
    calls = []
    segment(two_phase[0], 2, method=method, progress=lambda *call: calls.append(call), **OPTIONS)
    assert all(0 < done <= total and isinstance(stage, str) and stage for done, total, stage in calls)
    assert [call[2] for call in calls if call[0] == call[1]][-2:] == ["components", "residual"]
    for stop_at in {1, len(calls) // 2, len(calls)}:
        countdown = iter(range(stop_at - 1, -1, -1))  # False at the call number stop_at
        with pytest.raises(Stopped):
            segment(two_phase[0], 2, method=method, progress=lambda *_, left=countdown: next(left) > 0, **OPTIONS)
        assert next(countdown, None) is None


# Degenerate images.


@pytest.mark.parametrize("method", METHODS)
def test_one_phase(two_phase, method):
    result = segment(two_phase[0], 1, method=method, **OPTIONS)
    check_conventions(result, two_phase[0], 1)
    assert (result.label_image == 0).all()
    assert result.fractions.tolist() == [1]
    assert np.isnan(result.confidence).all()
    assert result.separation is None
    assert result.doubts == ()


@pytest.mark.parametrize("value", [0, 7, 1e-30, 1e30, -5])
def test_constant_image(value):
    image = np.full((64, 72), value, np.float32)
    mask = np.zeros(image.shape, bool)
    mask[:5] = True
    with pytest.raises(ValueError, match="in every pixel: there is no lattice"):
        segment(image, 2, window=16)
    image[2, 3] = value + 1
    with pytest.raises(ValueError, match="in every pixel: there is no lattice"):
        segment(image, "auto", window=16, mask=mask)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")
def test_two_constant_halves(method):
    image = np.zeros((96, 112), np.uint8)
    image[:, 56:] = 200
    check_conventions(segment(image, 2, method=method, window=16), image, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")
def test_noise_free_halves(method):
    y, x = np.mgrid[:128, :144]
    truth = x >= 72
    image = np.where(truth, np.cos(0.9 * x), np.cos(0.8 * y))
    result = segment(image, 2, method=method, window=32, smooth=0)
    check_conventions(result, image, 2)
    assert agreement(truth, result.label_image) > 0.93


@pytest.mark.parametrize(
    ("method", "shape"),  # two windows have one independent direction: not enough for two sources
    [(m, shape) for m in METHODS for shape in [(33, 32), (32, 40), (34, 34)] if (m, shape) != ("ica", (33, 32))],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_image_barely_larger_than_the_window(two_phase, method, shape):
    image = two_phase[0][: shape[0], : shape[1]]
    result = segment(image, 2, method=method, window=32, step=1)
    check_conventions(result, image, 2)
    assert (result.label_image >= 0).all()


@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")
def test_as_many_phases_as_windows(two_phase):
    image = two_phase[0][:34, :33]
    result = segment(image, 6, window=32, step=1, smooth=0)
    check_conventions(result, image, 6)


def test_more_phases_than_windows(two_phase):
    image = two_phase[0][:34, :33]
    with pytest.raises(ValueError, match="n_phases=7 needs as many windows, the image has 6"):
        segment(image, 7, window=32, step=1)


def test_one_window():
    image = np.random.default_rng(0).random((32, 32))
    result = segment(image, 1, window=32)
    check_conventions(result, image, 1)


@pytest.mark.parametrize("scale", ["abs", "sqrt", "log1p", "power"])
@pytest.mark.parametrize("factor", [1e-6, 1e8])
def test_pixels_of_any_unit_at_any_scale(two_phase, scale, factor):
    result = segment(two_phase[0].astype(float) * factor, 2, scale=scale, **OPTIONS)
    assert np.isfinite(result.residual).all()
    if scale != "log1p" or factor > 1:  # log1p of little is nothing but linear
        assert agreement(two_phase[1], result.label_image) > 0.9


def test_a_window_far_beyond_the_image_takes_no_memory():
    with pytest.raises(ValueError, match="larger than the image"):
        segment(np.eye(64), 2, window=10**6)
