"""KMeans: scikit-learn, brute force, any input, degenerate rows, same bits, refusals."""

import itertools
import pickle
import threading
import warnings

import h5py
import numpy as np
import pytest
import sklearn.cluster
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import stemseg_core
from stemseg_core import KMeans, Stopped
from stemseg_core.rows.blocks import take_rows
from stemseg_core.rows.sources import Rows
from stemseg_core.stages import lloyd
from stemseg_core.stages.kmeans import same_clusters
from stemseg_core.stages.lloyd import Clustering
from stemseg_core.system.execution import Execution


def blobs(n=3000, d=20, k=5, spread=1.5, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((k, d))[rng.integers(0, k, n)] * spread + rng.standard_normal((n, d))).astype(dtype)


def squared(X, centers):
    return ((X[:, None].astype(np.float64) - centers[None].astype(np.float64)) ** 2).sum(axis=2)


def assert_fixpoint(model, X, rtol=1e-6):
    """Labels are the argmin of the float64 distances to the centres, and the inertia is theirs."""
    squares = squared(X, model.cluster_centers_)
    assert_array_equal(squares.argmin(axis=1), model.labels_)
    assert_allclose(model.inertia_, squares.min(axis=1).sum(), rtol=rtol)


def scikit_learn(X, k, **parameters):
    """scikit-learn's fit, on one thread: its threads wait actively for each other."""
    with threadpool_limits(1):
        return sklearn.cluster.KMeans(k, **parameters).fit(X)


class TileRows(Rows):
    """A row source whose blocks are interleaved rows, as tiles of a grid are."""

    def __init__(self, X, n_blocks=7):
        self.X, self.shape, self.dtype, self.n_blocks = X, X.shape, X.dtype, n_blocks

    def index(self, i):
        return np.arange(i, len(self.X), self.n_blocks)

    def reader(self):
        return lambda i: np.ascontiguousarray(self.X[self.index(i)])


@parametrize_with_checks([KMeans(3, n_init=2), KMeans(2, init="random")])
def test_scikit_learn_checks(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


@pytest.mark.parametrize("tol", [0, 1e-4, 1e-1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_start_as_scikit_learn_gives_the_same_answer(dtype, tol):
    X = blobs(d=30, spread=0.7, dtype=dtype)
    ours = KMeans(8, init=X[:8], tol=tol).fit(X)
    theirs = scikit_learn(X, 8, init=X[:8], n_init=1, tol=tol)
    assert ours.n_iter_ == theirs.n_iter_
    assert_array_equal(ours.labels_, theirs.labels_)
    assert_allclose(ours.inertia_, theirs.inertia_, rtol=1e-5 if dtype == np.float32 else 1e-12)
    assert_allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-5 if dtype == np.float32 else 1e-12)
    assert_array_equal(ours.predict(X), ours.labels_)
    assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-4)
    assert_allclose(ours.score(X), -ours.inertia_)
    assert_fixpoint(ours, X)


@pytest.mark.parametrize("d", [20, 200])
def test_best_of_ten_is_as_good_as_that_of_scikit_learn(d):
    for seed in range(10):
        X = blobs(1000, d, 6, spread=1.5 if d == 20 else 0.7, seed=seed)
        ours = KMeans(6, random_state=seed).fit(X)
        assert_fixpoint(ours, X)
        assert ours.inertia_ <= scikit_learn(X, 6, n_init=10, random_state=seed).inertia_ * (1 + 1e-5)


def test_brute_force_on_tiny_data():
    for seed in range(4):
        X = np.random.default_rng(seed).standard_normal((7, 2))
        best = min(
            sum(X[p == j].var(axis=0).sum() * (p == j).sum() for j in range(3))
            for p in np.array(list(itertools.product(range(3), repeat=7)))
            if len(set(p)) == 3
        )
        assert_allclose(KMeans(3, n_init=20).fit(X).inertia_, best)


@pytest.mark.parametrize("max_iter", [1, 2, 5, 300])
@pytest.mark.parametrize("d", [10, 100])
def test_labels_belong_to_the_centres_however_it_ended(d, max_iter):
    X = blobs(2000, d, spread=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(7, n_init=2, max_iter=max_iter, tol=0).fit(X)
    assert_fixpoint(model, X)
    assert model.n_iter_ <= max_iter
    if model.converged_:
        means = [X[model.labels_ == j].mean(axis=0, dtype=np.float64) for j in range(7)]
        assert_allclose(model.cluster_centers_, means, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 200),
    d=st.integers(1, 80),
    k=st.integers(1, 20),
    offset=st.sampled_from([0, 1, 1e3, 1e6]),
    scale=st.sampled_from([1e-6, 1, 1e6]),
    dtype=st.sampled_from([np.float32, np.float64]),
    order=st.sampled_from("CF"),
)
def test_any_data_ends_in_a_fixpoint(seed, n, d, k, offset, scale, dtype, order):
    rng = np.random.default_rng(seed)
    X = np.asarray((np.round(rng.standard_normal((n, d)), 1) + offset) * scale, dtype, order)
    X = X[rng.integers(0, n, n + k)]  # duplicates, and rows enough
    X.flags.writeable = False
    before = X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(k, n_init=2).fit(X)
    assert model.cluster_centers_.dtype == dtype
    assert np.isfinite(model.cluster_centers_).all()
    assert_fixpoint(model, X, rtol=1e-5)
    assert_array_equal(X, before)


def test_tight_clusters_far_from_the_origin():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 2000)
    X = (1e4 + 100 * rng.standard_normal((4, 90))[truth] + rng.standard_normal((2000, 90))).astype(np.float32)
    model = KMeans(4).fit(X)
    assert_fixpoint(model, X, rtol=1e-9)
    assert sklearn.metrics.adjusted_rand_score(truth, model.labels_) == 1


def test_permutation_and_scale_of_the_rows():
    X = blobs(1000, 12, 4, spread=4, dtype=np.float64)
    model = KMeans(4).fit(X)
    order = np.random.default_rng(1).permutation(len(X))
    permuted = KMeans(4).fit(X[order])
    assert sklearn.metrics.adjusted_rand_score(model.labels_[order], permuted.labels_) == 1
    assert_allclose(permuted.inertia_, model.inertia_)
    scaled = KMeans(4).fit(X * 2.0**-30)
    assert_array_equal(scaled.labels_, model.labels_)
    assert scaled.inertia_ == model.inertia_ * 2.0**-60


@pytest.mark.parametrize(("n", "d", "block_bytes"), [(3000, 10, 1 << 14), (3000, 150, 1 << 14), (9000, 120, 1 << 20)])
def test_same_bits_for_any_threads_and_storage(n, d, block_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr(stemseg_core.rows.sources, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(stemseg_core.system.execution, "TASK_BYTES", 1 << 20)
    X = blobs(n, d, spread=0.5)
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("x", data=X, chunks=(77, d))
        cases = [(X, n) for n in (1, 2, 3, 8)] + [(np.load(tmp_path / "x.npy", mmap_mode="r"), 2), (data, 2)]
        results = []
        for source, n_jobs in cases:
            model = KMeans(6, n_init=3, n_jobs=n_jobs).fit(source)
            arrays = model.cluster_centers_, model.labels_, np.float64(model.inertia_), model.transform(source)
            results.append(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays))
    assert len(set(results)) == 1


@pytest.mark.parametrize("d", [10, 150])
def test_row_source_of_tiles(d):
    X = blobs(500, d, spread=3)
    tiles, array = KMeans(5).fit(TileRows(X)), KMeans(5).fit(X)
    assert_fixpoint(tiles, X)
    assert sklearn.metrics.adjusted_rand_score(tiles.labels_, array.labels_) == 1
    assert_array_equal(take_rows(TileRows(X), np.array([17, 3, 400, 3])), X[[17, 3, 400, 3]])


def test_lost_directions_are_made_good():
    """Clusters apart only in directions that no compression to 32 keeps: restarts are ranked on all features."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 200)).astype(np.float32)
    X[:, :40] *= 10
    ours = KMeans(3, n_init=5).fit(X)
    theirs = scikit_learn(X, 3, n_init=5, random_state=0)
    assert_fixpoint(ours, X)
    assert ours.inertia_ <= theirs.inertia_ * 1.001


@pytest.mark.parametrize(("separation", "several"), [(0.0, True), (20.0, False)])
def test_restarts_that_may_be_the_best_are_made_exact(separation, several, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 120)) + separation * rng.standard_normal((3, 120))[rng.integers(0, 3, 3000)]
    exact = []

    def recorded(rows, *state, **limits):
        clustering = lloyd.lloyd(rows, *state, **limits)
        if rows.shape == X.shape:
            exact.append(clustering)
        return clustering

    monkeypatch.setattr("stemseg_core.stages.kmeans.lloyd", recorded)
    model = KMeans(3).fit(X)
    assert (len(exact) > 1) == several
    assert model.inertia_ == min(clustering.inertia for clustering in exact)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [([0, 0, 1, 1], [1, 1, 0, 0], True), ([0, 0, 1, 1], [0, 0, 0, 0], False), ([0, 0, 1, 1], [0, 1, 1, 1], False)],
)
def test_same_clusters(a, b, same):
    a, b = (Clustering(np.zeros((2, 1)), np.array(labels, np.int32), 0.0, 1, True) for labels in (a, b))
    assert same_clusters(a, b) == same_clusters(b, a) == same


def test_empty_clusters_continue_from_the_farthest_rows():
    X = np.array([[0.0], [1.0], [2.0], [10.0], [11.0], [30.0]])
    init = np.array([[1.0], [100.0], [200.0], [10.5]])
    model = KMeans(4, init=init, tol=0).fit(X)
    theirs = scikit_learn(X, 4, init=init, n_init=1, tol=0)
    assert_allclose(model.inertia_, theirs.inertia_)
    assert len(set(model.labels_)) == 4
    assert_fixpoint(model, X)


@pytest.mark.parametrize("init", ["k-means++", "random", "array"])
@pytest.mark.parametrize("value", [0.1, 3.0])
def test_fewer_distinct_rows_than_clusters(init, value):
    X = np.repeat([[value, 1.0], [1.0, value * 7]], 10, axis=0)
    init = np.ones((5, 2)) if init == "array" else init
    with pytest.warns(ConvergenceWarning, match=r"distinct clusters \(2\) found smaller than n_clusters \(5\)"):
        model = KMeans(5, init=init).fit(X)
    assert_fixpoint(model, X)
    assert model.inertia_ <= 1e-25


def test_max_iter_warns_and_says_so():
    with pytest.warns(ConvergenceWarning, match="max_iter=2"):
        model = KMeans(6, init=blobs()[:6], max_iter=2, tol=0).fit(blobs())
    assert not model.converged_
    assert model.n_iter_ == 2


def test_types_of_fit_and_predict_may_differ():
    X = blobs(500, 30)
    wide, narrow = KMeans(4).fit(X.astype(np.float64)), KMeans(4).fit(X)
    for model, data in ((wide, X), (narrow, X.astype(np.float64)), (narrow, np.round(X).astype(np.int16))):
        assert_array_equal(model.predict(data), squared(data, model.cluster_centers_).argmin(axis=1))
    assert narrow.transform(X).dtype == np.float32
    assert narrow.set_output(transform="pandas").transform(X).columns[1] == "kmeans1"
    assert_array_equal(pickle.loads(pickle.dumps(wide)).predict(X), wide.predict(X))


def test_random_state():
    X = blobs(300, 5, spread=0.2)
    a, b = (KMeans(8, n_init=1).fit(X).cluster_centers_ for _ in range(2))
    assert_array_equal(a, b)
    c = KMeans(8, n_init=1, random_state=1).fit(X).cluster_centers_
    assert not np.array_equal(a, c)
    for make in (np.random.RandomState, np.random.default_rng):
        one, two = (KMeans(8, n_init=1, random_state=make(3)).fit(X).cluster_centers_ for _ in range(2))
        assert_array_equal(one, two)
    none = {KMeans(8, n_init=1, random_state=None).fit(X).inertia_ for _ in range(8)}
    assert len(none) > 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 0}, "n_clusters must be a whole number, at least 1; got 0"),
        ({"n_clusters": 31}, "n_samples=30 should be >= n_clusters=31"),
        ({"n_init": 2.5}, "n_init must be"),
        ({"max_iter": True}, "max_iter must be"),
        ({"tol": -1}, "tol must be a number, at least 0; got -1"),
        ({"init": "best"}, "init must be 'k-means"),
        ({"init": np.zeros((2, 4))}, r"\(3, 4\); got \(2, 4\)"),
        ({"init": np.full((3, 4), np.nan)}, "init must be finite"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        KMeans(**{"n_clusters": 3, **parameters}).fit(blobs(30, 4))


@pytest.mark.parametrize("d", [5, 100])
@pytest.mark.parametrize("init", ["k-means++", "array"])
def test_bad_values_are_found(init, d):
    X = blobs(400, d)
    X[123, 4] = np.nan
    with pytest.raises(ValueError, match="row 123, feature 4"):
        KMeans(3, init=X[:3] if init == "array" else init).fit(X)
    with pytest.raises(ValueError, match="row 123, feature 4"):
        KMeans(3).fit(blobs(400, d)).predict(X)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_progress_stops_it_anywhere(n_jobs):
    X = blobs(2000, 100)
    calls = []
    KMeans(4, n_init=3, n_jobs=n_jobs, progress=lambda *call: calls.append(call)).fit(X)
    assert {"KMeans restarts", "KMeans"} <= {stage for *_, stage in calls}
    for stop in range(0, len(calls), max(1, len(calls) // 7)):
        countdown = iter(range(stop, -1, -1))
        model = KMeans(4, n_init=3, n_jobs=n_jobs, progress=lambda *_, left=countdown: next(left) > 0)
        with pytest.raises(Stopped):
            model.fit(X)
        assert not hasattr(model, "labels_")


def test_tasks_left_early_are_told():
    stop = threading.Event()
    with pytest.raises(Stopped, match="at 1 of 3"):
        Execution(2, progress=lambda *_: False).map(abs, [(1,), (2,), (3,)], stage="tasks", stop=stop)
    assert stop.is_set()


@pytest.mark.parametrize("init", ["k-means++", "array"])
@pytest.mark.parametrize("d", [10, 100])
@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 1e-20), (np.float64, 1e-160)])
def test_rows_too_small_to_square_are_refused(dtype, scale, d, init):
    X = (blobs(500, d, dtype=np.float64) * scale).astype(dtype)
    with pytest.raises(ValueError, match=f"values too small for {X.dtype}: their squares vanish; scale X up"):
        KMeans(3, init=X[:3] if init == "array" else init).fit(X)


@pytest.mark.parametrize(("d", "init"), [(5, "random"), (100, "k-means++"), (100, "array")])
def test_predicted_bytes_are_those_that_a_limit_is_compared_with(d, init):
    X = blobs(d=d)
    kmeans = KMeans(3, init=X[:3] if init == "array" else init, n_jobs=2)
    predicted = kmeans.predicted_bytes(*X.shape, X.dtype)
    kmeans.set_params(max_memory=predicted).fit(X)
    with pytest.raises(MemoryError, match="KMeans of 3000 rows needs"):
        kmeans.set_params(max_memory=predicted - 1).fit(X)
    with pytest.raises(MemoryError, match="max_memory is 1 kB"):
        kmeans.set_params(max_memory="1 kB").fit(X)
