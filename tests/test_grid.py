"""Maps on the grid of windows against scipy on full grids and against slow direct ways."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter

from stemseg_core.system.execution import Execution
from stemseg_core.windows.grid import Grid, whiten_noise


def grid_of(shape=(9, 12), excluded=(), window=(8, 6), step=(3, 2)):
    included = np.ones(shape, bool)
    for place in excluded:
        included[place] = False
    return Grid(included, window, step)


HOLES = [(slice(2, 5), slice(3, 6)), (0, 0), (-1, slice(4, 9))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_to_map(dtype):
    grid = grid_of(excluded=HOLES)
    n = grid.included.sum()
    for rows in (np.arange(n).astype(dtype), np.arange(3 * n).reshape(n, 3).astype(dtype)):
        full = grid.to_map(rows, -1)
        assert full.dtype == dtype
        np.testing.assert_array_equal(full[grid.included], rows)
        assert (full[~grid.included] == -1).all()


def test_excluded_is_nan_by_default():
    grid = grid_of(excluded=HOLES)
    np.testing.assert_array_equal(np.isnan(grid.to_map(np.ones(grid.included.sum()))), ~grid.included)


@pytest.mark.parametrize("sigma", [0.5, 4, 40])
def test_smooth_is_scipys_on_a_full_grid(sigma):
    grid = grid_of()
    rows = np.random.default_rng(0).standard_normal((108, 4))
    smooth = grid.smooth(rows.copy(), sigma, Execution())
    for column in range(4):
        expected = gaussian_filter(rows[:, column].reshape(9, 12), (sigma / 3, sigma / 2), mode="nearest")
        np.testing.assert_allclose(smooth[:, column], expected.ravel(), atol=1e-12)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_smooth_in_several_strips_and_groups_of_columns(n_threads):
    grid = grid_of((150, 141))
    rows = np.random.default_rng(0).standard_normal((150 * 141, 7)).astype(np.float32)
    smooth = grid.smooth(rows.copy(), 6, Execution(n_threads))
    np.testing.assert_array_equal(smooth, grid.smooth(rows.copy(), 6, Execution(2)))
    for column in range(7):
        expected = gaussian_filter(rows[:, column].reshape(150, 141).astype(float), (2, 3), mode="nearest")
        np.testing.assert_allclose(smooth[:, column], expected.ravel(), atol=1e-6)


@pytest.mark.parametrize("excluded", [[], HOLES])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_smooth_keeps_constants_and_dtype_in_place(excluded, dtype):
    grid = grid_of(excluded=excluded)
    rows = np.full((grid.included.sum(), 2), [3, -7], dtype)
    before = rows.copy()
    assert grid.smooth(rows, 5, Execution()) is rows
    np.testing.assert_allclose(rows, before, rtol=1e-5)
    assert rows.dtype == dtype
    np.testing.assert_array_equal(grid.smooth(rows, 0, Execution()), rows)


def test_smooth_leaves_out_excluded_windows():
    grid = grid_of(excluded=HOLES)
    values = np.random.default_rng(0).standard_normal((9, 12))
    sigma = 5
    got = grid.to_map(grid.smooth(values[grid.included][:, np.newaxis], sigma, Execution()))[..., 0]
    padded = np.pad(np.indices((9, 12)), ((0, 0), (60, 60), (60, 60)), mode="edge")  # "nearest", far beyond the filter
    y, x = np.mgrid[-60:69, -60:72]
    for at in ((0, 1), (3, 2), (8, 11), (5, 4), (7, 0)):
        weight = np.exp(-(((y - at[0]) * 3 / sigma) ** 2 + ((x - at[1]) * 2 / sigma) ** 2) / 2)
        weight[np.abs(y - at[0]) > int(4 * sigma / 3 + 0.5)] = 0
        weight[np.abs(x - at[1]) > int(4 * sigma / 2 + 0.5)] = 0
        weight *= grid.included[tuple(padded)]
        expected = (weight * values[tuple(padded)]).sum() / weight.sum()
        assert got[at] == pytest.approx(expected, rel=1e-9)


def test_smooth_takes_single_rows_and_columns():
    for shape in ((1, 12), (9, 1), (1, 1)):
        rows = np.random.default_rng(0).standard_normal((shape[0] * shape[1], 2))
        assert np.isfinite(grid_of(shape).smooth(rows, 4, Execution())).all()


@pytest.mark.parametrize("excluded", [[], [(slice(40, 90), slice(30, 60))]])
def test_noise_covariance_of_known_noise(excluded):
    grid = grid_of((150, 160), excluded)
    n = grid.included.sum()
    rng = np.random.default_rng(0)
    factor = np.array([[1.0, 0, 0], [0.5, 2, 0], [0, -1, 0.1]])
    y, x = np.nonzero(grid.included)
    slow = np.stack([np.sin(y / 50), 100 + x / 100, y * x / 1e5], axis=1)  # the specimen changes slowly
    covariance = grid.noise_covariance(slow + rng.standard_normal((n, 3)) @ factor.T)
    np.testing.assert_allclose(covariance, factor @ factor.T, atol=0.1)
    whitened = whiten_noise(rng.standard_normal((n, 3)) @ factor.T, covariance)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(3), atol=0.05)


def test_noise_covariance_counts_included_pairs_only():
    values = np.random.default_rng(0).standard_normal((9, 12, 2))
    grid = grid_of(excluded=HOLES)
    total, count = np.zeros((2, 2)), 0
    for y, x in itertools.product(range(9), range(12)):
        for to in ((y + 1, x), (y, x + 1)):
            if to[0] < 9 and to[1] < 12 and grid.included[y, x] and grid.included[to]:
                difference = values[to] - values[y, x]
                total += np.outer(difference, difference)
                count += 1
    np.testing.assert_allclose(grid.noise_covariance(values[grid.included]), total / count / 2)


def test_noise_covariance_without_neighbours():
    for shape in ((1, 1), (3, 1)):
        grid = grid_of(shape, [1] if shape == (3, 1) else [])
        np.testing.assert_array_equal(grid.noise_covariance(np.ones((grid.included.sum(), 2))), np.zeros((2, 2)))


def test_whiten_noise_degenerate():
    rows = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    np.testing.assert_array_equal(whiten_noise(rows, np.zeros((3, 3))), rows)
    whitened = whiten_noise(rows, np.diag([1.0, 1e-30, 0]))
    assert whitened.dtype == np.float32
    assert np.abs(whitened).max() < 1e4


@pytest.mark.parametrize("excluded", [[], HOLES])
def test_coarsened_rows_are_of_every_other_window_along_both_axes(excluded):
    grid = grid_of(excluded=excluded)
    rows = np.argwhere(grid.included)
    assert grid.coarsened_rows(rows, len(rows)) is rows
    coarse = grid.coarsened_rows(rows, len(rows) // 4)
    np.testing.assert_array_equal(coarse, rows[(rows % 2 == 1).all(axis=1)])
    grid = grid.coarsened(len(rows) // 4)
    np.testing.assert_array_equal(coarse // 2, np.argwhere(grid.included))
    assert grid.step == (6, 4)


@given(data=st.data())
def test_a_coarser_grid_lies_on_windows_of_the_grid_and_is_not_empty(data):
    shape = data.draw(st.sampled_from([(1, 100), (100, 1), (2, 100), (13, 17), (40, 41)]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    included = rng.random(shape) < data.draw(st.sampled_from([0.02, 0.9, 1]))
    included[:: data.draw(st.integers(1, 3))] = True  # some rows only
    included[data.draw(st.integers(2, 100)) :] = False
    grid = Grid(included, (8, 5), (3, 2), (4, 1))
    rows, n_rows = grid.centers()[included.ravel()], data.draw(st.integers(1, 30))
    coarse = grid.coarsened(n_rows)
    chosen = grid.coarsened_rows(rows, n_rows)
    np.testing.assert_array_equal(chosen, coarse.centers()[coarse.included.ravel()])
    assert len(chosen) >= max(1, min(n_rows, len(rows)) / 2)


def test_a_coarser_grid_has_the_map_of_the_grid():
    grid = grid_of((40, 40), window=(8, 6), step=(3, 2))
    shape = 39 * 3 + 8, 39 * 2 + 6
    above = 0.5 + (grid.centers() @ [0.5, 1] - 73.3) / 1000  # linear, as what is between the windows
    memberships = np.stack([above, 1 - above], axis=1).astype(np.float32)
    coarse = grid.coarsened(100)
    assert coarse.step == (12, 8)
    labels = coarse.label_image(grid.coarsened_rows(memberships, 100), shape, Execution())
    truth = np.add.outer(0.5 * np.arange(shape[0]), np.arange(shape[1])) < 73.3
    inside = np.s_[10:-16, 8:-11]  # between the outermost windows of the coarser grid
    np.testing.assert_array_equal(labels[inside], truth[inside])
    np.testing.assert_array_equal(coarse.at_centers(truth).ravel(), truth[*coarse.centers().astype(int).T])


@pytest.mark.parametrize("excluded", [[], HOLES])
def test_planes(excluded):
    grid = grid_of((150, 12), excluded)
    rows = np.random.default_rng(0).random((grid.included.sum(), 3))
    np.testing.assert_array_equal(grid.to_planes(rows), np.moveaxis(grid.to_map(rows), -1, 0))


def test_values_at_the_centers_of_windows():
    grid = grid_of((3, 4), window=(8, 5), step=(3, 2))
    y, x = grid.centers().astype(int).T
    pixels = np.arange(14 * 11).reshape(14, 11)
    np.testing.assert_array_equal(grid.at_centers(pixels).ravel(), pixels[y, x])


def test_centers():
    centers = grid_of((3, 4), window=(8, 5), step=(3, 2)).centers()
    assert centers.shape == (12, 2)
    assert centers[0].tolist() == [3.5, 2]
    assert centers[1].tolist() == [3.5, 4]
    assert centers[11].tolist() == [9.5, 8]


def slow_label_image(grid, memberships, shape):
    """By interpolation of each membership between the centres of included windows, excluded ones counting nothing.

    Where that gives nothing but a window covers the pixel, any label goes: -2.
    """
    centers = grid.centers().reshape(*grid.included.shape, 2)
    axes = [centers[:, 0, 0], centers[0, :, 1]]
    points = np.stack(
        [np.clip(p, a[0], a[-1]) for p, a in zip(np.mgrid[: shape[0], : shape[1]], axes, strict=True)], axis=-1
    )
    for axis in (0, 1):  # scipy wants two points along each axis
        if len(axes[axis]) == 1:
            axes[axis] = np.append(axes[axis], axes[axis] + 1)
    full = grid.to_map(memberships.astype(float), 0)
    full = np.pad(full, [(0, int(n == 1)) for n in full.shape[:2]] + [(0, 0)], mode="edge")
    values = RegularGridInterpolator(axes, full)(points)
    covered = np.zeros(shape, bool)
    for y, x in np.argwhere(grid.included) * grid.step + grid.first:
        covered[y : y + grid.window[0], x : x + grid.window[1]] = True
    labels = np.where(values.max(axis=-1) > 0, values.argmax(axis=-1), np.where(covered, -2, -1))
    return labels, np.sort(values, axis=-1)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_label_image_against_direct_interpolation(data):
    ny, nx = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    window = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    step = data.draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    rest = data.draw(st.integers(0, step[0] - 1)), data.draw(st.integers(0, step[1] - 1))
    first = data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    shape = tuple((n - 1) * s + w + r + f for n, s, w, r, f in zip((ny, nx), step, window, rest, first, strict=True))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    included = rng.random((ny, nx)) < data.draw(st.sampled_from([0.5, 0.9, 1]))
    included[rng.integers(ny), rng.integers(nx)] = True
    k = data.draw(st.integers(1, 4))
    grid = Grid(included, window, step, first)
    memberships = rng.dirichlet(np.ones(k), included.sum()).astype(np.float32)
    got = grid.label_image(memberships, shape, Execution(2))
    expected, ranked = slow_label_image(grid, memberships, shape)
    assert got.dtype == np.int32
    clear = np.ones(shape, bool) if k == 1 else (ranked[..., -1] - ranked[..., -2] > 1e-5)
    clear = (clear & (expected >= 0)) | (expected == -1)
    np.testing.assert_array_equal(got[clear], expected[clear])
    assert (got[expected == -2] >= 0).all()


def test_label_image_by_hand():
    grid = grid_of((1, 2), window=(1, 1), step=(1, 10))
    memberships = np.array([[1, 0], [0, 1]], np.float32)
    assert grid.label_image(memberships, (1, 12), Execution()).tolist() == [
        [0] * 6 + [1] * 6
    ]  # a tie is the first phase's
    grid = grid_of((1, 2), [(0, 1)], window=(3, 5), step=(1, 4))
    assert grid.label_image(np.ones((1, 1), np.float32), (3, 9), Execution()).tolist() == [[0] * 6 + [-1] * 3] * 3
