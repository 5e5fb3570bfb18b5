"""The same bits for any number of threads and any storage of the same rows."""

import hashlib
from itertools import pairwise

import h5py
import numpy as np
import pytest

from stemseg_core import ATGP, ICA, MNF, NFINDR, NMF, SPA, SVD, VCA, KMeans, WindowFFT, compress
from stemseg_core.rows import sources as row_sources
from stemseg_core.stages import compress as compress_module
from stemseg_core.stages import leading
from stemseg_core.system import execution
from stemseg_core.system.threads import _controller, one_blas_thread

STAGES = {
    "svd": lambda n: SVD(4, n_jobs=n),
    "mnf": lambda n: MNF(4, n_jobs=n),
    "nfindr": lambda n: NFINDR(3, n_init=3, n_jobs=n),
    "spa": lambda n: SPA(3, n_neighbors=4, n_jobs=n),
    "atgp": lambda n: ATGP(3, n_jobs=n),
    "vca": lambda n: VCA(3, n_init=3, n_jobs=n),
    "nmf": lambda n: NMF(3, n_jobs=n),
    "kmeans": lambda n: KMeans(4, n_init=3, n_jobs=n),
    "ica": lambda n: ICA(3, n_jobs=n),
    "compress": None,
}


@pytest.fixture(scope="module", autouse=True)
def many_blocks():
    """Small blocks and tasks, so that a little data is split as much as a lot of it would be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_sources, "BLOCK_BYTES", 1 << 15)
        patch.setattr(execution, "TASK_BYTES", 1 << 17)
        yield


@pytest.fixture(scope="module")
def matrix():
    y, x = np.mgrid[:160, :176]
    lattice = np.where(x + y < 160, np.cos(0.7 * x) + np.cos(0.7 * y), np.cos(0.5 * x + 0.4 * y))
    image = np.random.default_rng(5).poisson(10 + 3 * lattice).astype(np.float32)
    return WindowFFT(24, 4).matrix(image)


@pytest.fixture(scope="module")
def stored(matrix):
    return np.asarray(matrix)


def digest(stage, data, n_jobs=None):
    """Checksum of everything that a stage gives on `data`."""
    if stage == "compress":
        found = vars(compress(data, 6, n_jobs=n_jobs))
        found = [found[name] for name in sorted(found)]
    else:
        estimator = STAGES[stage](n_jobs).fit(data)
        fitted = {name: value for name, value in vars(estimator).items() if name.endswith("_")}
        found = [fitted[name] for name in sorted(fitted)] + [estimator.transform(data)]
    sums = hashlib.sha256()
    for value in found:
        if isinstance(value, np.ndarray | float | int):
            sums.update(np.ascontiguousarray(value).tobytes())
    return sums.hexdigest()


def test_there_are_many_blocks(matrix, stored):
    assert matrix.n_blocks > 3
    assert row_sources.ArrayRows(stored).n_blocks > 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stage", STAGES)
def test_threads(stage, dtype, stored):
    X = stored.astype(dtype)
    before = X.copy()
    assert len({digest(stage, X, n) for n in (1, 2, 3, 5)}) == 1
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("stage", STAGES)
def test_virtual_matrix(stage, matrix):
    assert len({digest(stage, matrix, n) for n in (1, 2, 3)}) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_storage(stage, stored, tmp_path):
    np.save(tmp_path / "x.npy", stored)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        sources = {
            "array": stored,
            "memmap": np.load(tmp_path / "x.npy", mmap_mode="r"),
            "HDF5": file.create_dataset("x", data=stored, chunks=(77, stored.shape[1])),
            "HDF5, other chunks": file.create_dataset("y", data=stored, chunks=(500, 7), compression="gzip"),
            "column order": np.asfortranarray(stored),
            "byte-swapped": stored.astype(">f4"),
        }
        found = {name: digest(stage, X, 2) for name, X in sources.items()}
    assert len(set(found.values())) == 1, found


@pytest.mark.parametrize("stage", STAGES)
def test_zarr(stage, stored, tmp_path):
    zarr = pytest.importorskip("zarr")
    found = {digest(stage, stored, 2)}
    for name, chunks in (("x", (77, stored.shape[1])), ("y", (500, 7))):
        data = zarr.open(str(tmp_path / name), mode="w", shape=stored.shape, chunks=chunks, dtype=stored.dtype)
        data[:] = stored
        found |= {digest(stage, data, n) for n in (1, 3)}
    assert len(found) == 1


@pytest.fixture(scope="module")
def wide():
    """Rows long enough to be compressed by every stage, and noise enough that passes over X still change a lot."""
    rng = np.random.default_rng(3)
    amounts, patterns = rng.dirichlet([0.3] * 5, 1200), rng.gamma(0.5, size=(5, 200))
    return (amounts @ patterns + rng.gamma(0.5, size=(1200, 200))).astype(np.float32)


POLISHED = {
    "nmf": lambda n: NMF(3, tol=1e-6, n_jobs=n),
    "kmeans": lambda n: KMeans(6, n_init=5, tol=0, n_jobs=n),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stage", POLISHED)
def test_passes_over_all_features_after_compressed_ones(stage, dtype, wide, tmp_path, monkeypatch):
    """The start is found on fewer features; what it gives is then iterated on X, in passes that must count."""
    monkeypatch.setitem(STAGES, stage, POLISHED[stage])
    X = wide.astype(dtype)
    assert row_sources.ArrayRows(X).n_blocks > 8
    model = POLISHED[stage](1)
    assert X.shape[1] > 2 * (model._reduced_features(X.shape[1]) if stage == "nmf" else model._rank)
    assert model.fit(X).n_iter_ >= 3
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        sources = [np.load(tmp_path / "x.npy", mmap_mode="r"), file.create_dataset("x", data=X, chunks=(77, 20))]
        found = {digest(stage, X, n) for n in (1, 2, 3, 8)} | {digest(stage, Y, 3) for Y in sources}
    assert len(found) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_threads_of_blas(stage, stored):
    found = set()
    for n in (1, 2):
        with _controller().limit(limits=n, user_api="blas"):
            found.add(digest(stage, stored, 2))
    with one_blas_thread():
        found.add(digest(stage, stored, 2))
    assert len(found) == 1


#: Limits at which a little data goes the ways of a lot of it: trees of Gram matrices, samples, iterations.
SMALL = {
    "gram trees": {(row_sources, "MIN_GROUPS"): 3},
    "block Lanczos": {(leading, "GRAM_SIDE"): 0, (row_sources, "PRODUCT_BYTES"): 1 << 16},
    "iterated Gram": {(leading, "DIRECT_SIDE"): 0},
    "basis of a sample": {
        (compress_module, "MIN_SAMPLE"): 200,
        (compress_module, "MAX_SAMPLE"): 300,
        (row_sources, "MIN_BLOCKS"): 3,
        (leading, "FIRST_ROWS"): 100,
    },
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("stage", ["svd", "nfindr", "spa", "ica", "compress"])
@pytest.mark.parametrize("limits", SMALL)
def test_ways_of_large_data(limits, stage, dtype, stored, tmp_path, monkeypatch):
    X = stored.astype(dtype)
    usual = digest(stage, X)
    for (module, name), value in SMALL[limits].items():
        monkeypatch.setattr(module, name, value)
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        sources = [np.load(tmp_path / "x.npy", mmap_mode="r"), file.create_dataset("x", data=X, chunks=(77, 20))]
        found = {digest(stage, X, n) for n in (1, 2, 3, 8)} | {digest(stage, Y, 3) for Y in sources}
    assert len(found) == 1
    if stage not in ("nfindr", "spa"):  # whose simplex, of rows of X, may well be the same
        assert usual not in found  # it was another way


@pytest.mark.parametrize("limits", ["gram trees", "block Lanczos"])
@pytest.mark.parametrize("stage", ["svd", "compress"])
def test_ways_of_large_windows(limits, stage, matrix, monkeypatch):
    for (module, name), value in SMALL[limits].items():
        monkeypatch.setattr(module, name, value)
    assert len({digest(stage, matrix, n) for n in (1, 2, 3, 8)}) == 1


@pytest.mark.parametrize("n_pieces", [1, 3, 10])
def test_rows_in_pieces(matrix, stored, n_pieces):
    cuts = np.linspace(0, len(stored), n_pieces + 1).astype(int)
    pieces = [matrix.rows(*cut) for cut in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), stored)


def test_virtual_and_stored_agree_to_rounding(matrix, stored):
    virtual, array = SVD(4).fit(matrix), SVD(4).fit(stored)
    np.testing.assert_allclose(virtual.singular_values_, array.singular_values_, rtol=1e-5)
    assert (KMeans(4).fit(matrix).labels_ == KMeans(4).fit(stored).labels_).mean() > 0.999
