"""segment(): every method against the truth, conventions of the maps, exclusions, degenerate images."""

import itertools
import json

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import AgglomerativeClustering, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

from stemseg_core import WindowFFT, datasets, segment
from stemseg_core.phases.methods import METHODS

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


# Parameters.


def test_numpy_numbers_as_parameters(two_phase, tmp_path):
    image = two_phase[0]
    result = segment(
        image, np.int64(2), window=np.array([48, 40]), step=np.int32(8), zoom=np.int64(2), k_min=np.float32(3),
        normalize=np.float32(0.5), rank=np.int64(16), smooth=np.float64(12), whiten=np.bool_(True),
        random_state=np.int64(0), pixel_size=np.array([0.1, 0.2]),
    )  # fmt: skip
    result.save(tmp_path / "result.npz")
    check_conventions(result, image, 2)


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


def test_params_give_the_same_again(two_phase):
    """Also where pixels are not square, and windows and periods are square in length."""
    first = segment(two_phase[0], 2, pixel_size=(0.02, 0.03))
    again = segment(two_phase[0], **first.params)
    np.testing.assert_array_equal(again.abundances, first.abundances)
    assert (again.params, again.period, again.doubts) == (first.params, first.period, first.doubts)


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
    # Intensity corrects such maps, and then labels are not those of the memberships alone.
    check_conventions(segment(image, 2, method=method, window=16, contrast="off"), image, 2)


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
