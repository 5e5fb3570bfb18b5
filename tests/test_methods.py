"""The registry of methods, and how phases are found in windows of one size (also scores.py and clusters.py)."""

import numpy as np
import pytest

from stemseg_core import KMeans, datasets
from stemseg_core.phases import clusters
from stemseg_core.phases.clusters import by_kmeans, of_labels
from stemseg_core.phases.frequencies import Frequencies
from stemseg_core.phases.methods import METHODS, OneSize, method_of
from stemseg_core.phases.parameters import Parameters
from stemseg_core.phases.scores import Problem
from stemseg_core.phases.spectra import Spectra
from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.windows import WindowFFT

ONE_SIZE = [name for name, method in METHODS.items() if not method.of_several_sizes]


@pytest.fixture(scope="module")
def matrix():
    return WindowFFT(48, 12).matrix(datasets.two_phase((160, 192), position=0.4)[0])


def problem(matrix, **parameters):
    parameters = Parameters(**({"n_phases": 2, "rank": 5} | parameters))
    spectra = Spectra(matrix, matrix.half_plane, Frequencies(3), 0.5)
    return Problem(spectra, Grid.of(matrix), parameters, Execution())


def test_the_default_is_first_and_of_several_sizes():
    assert next(iter(METHODS)) == Parameters(n_phases=2).method
    assert METHODS["kmeans"].of_several_sizes
    assert list(METHODS)[1:] == ONE_SIZE


@pytest.mark.parametrize("name", [*ONE_SIZE, "estimator"])
def test_memberships_of_any_method(matrix, name):
    method = method_of(KMeans(2, random_state=0) if name == "estimator" else name)
    windows = OneSize(method, matrix, Frequencies(3))
    found = windows.find_phases(problem(matrix, method=name))
    assert found.memberships.shape == (len(matrix), 2)
    assert found.memberships.dtype == np.float32
    np.testing.assert_allclose(found.memberships.sum(axis=1), 1, rtol=1e-5)
    assert found.partition == (name in ("ica", "estimator"))
    assert found.estimate is None
    assert windows.predicted_bytes(2, 5, 1) > 4 * 5 * len(matrix)


def test_scores_that_are_counted_are_not_made_twice(matrix, monkeypatch):
    made = []
    scores = Problem.scores
    monkeypatch.setattr(Problem, "scores", lambda *a, **k: [made.append(k.get("center", True)), scores(*a, **k)][1])
    for method, expected in (("ica", [True]), ("atgp", [False])):
        made.clear()
        found = OneSize(METHODS[method], matrix, Frequencies(3)).find_phases(problem(matrix, n_phases="auto"))
        assert made == expected
        assert found.estimate.n_components == found.memberships.shape[1]


def test_noise_is_made_equal_where_it_is_asked_for(matrix):
    plain, white = (problem(matrix, smooth=0).scores(whiten=whiten) for whiten in (False, True))
    noise = [Grid.of(matrix).noise_covariance(scores) for scores in (plain, white)]
    np.testing.assert_allclose(noise[1], np.eye(5) * noise[1][0, 0], atol=1e-4 * noise[1][0, 0])
    assert not np.allclose(noise[0], np.eye(5) * noise[0][0, 0], rtol=0.1)


def test_clusters_are_sure_of_what_is_far_apart():
    rng = np.random.default_rng(0)
    grid = Grid(np.ones((20, 30), bool), (16, 16), (8, 8))
    labels = np.repeat([0, 1], 300)
    rows = (rng.standard_normal((600, 3)) + 20 * labels[:, np.newaxis]).astype(np.float32)
    clustered = by_kmeans(rows, grid, 2, 0, Execution())
    given = of_labels(rows, labels, 2, Execution())
    for found in (clustered, given):
        assert found.max(axis=1).min() > 0.99
    np.testing.assert_array_equal(given.argmax(axis=1), labels)
    assert (of_labels(rows, labels, 3, Execution())[:, 2] == 0).all()  # a cluster without rows


def test_restarts_on_dense_grids_are_run_on_fewer_windows(monkeypatch):
    rng = np.random.default_rng(0)
    grid = Grid(np.ones((40, 50), bool), (32, 32), (1, 1))
    rows = (rng.standard_normal((2000, 3)) + 5 * (np.arange(2000) % 50 > 25)[:, np.newaxis]).astype(np.float32)
    sizes = []
    fit = KMeans.fit
    monkeypatch.setattr(KMeans, "fit", lambda kmeans, X: [sizes.append(len(X)), fit(kmeans, X)][1])
    everywhere = by_kmeans(rows, grid, 2, 0, Execution())
    assert sizes == [2000]
    monkeypatch.setattr(clusters, "START_ROWS", 200)
    few = by_kmeans(rows, grid, 2, 0, Execution())
    assert 200 <= sizes[1] < 500
    assert sizes[2] == 2000
    agreement = (everywhere.argmax(axis=1) == few.argmax(axis=1)).mean()
    assert max(agreement, 1 - agreement) > 0.999
