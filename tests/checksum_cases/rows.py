"""Results on rows: estimators, abundances, the number of components, however the rows are stored."""

import tempfile
from pathlib import Path

import h5py
import numpy as np

import stemseg_core as s
from checksum_cases.common import cases, fitted, image, many_blocks, same_for_threads, table, virtual

# --- Estimators ------------------------------------------------------------------------------------------------------

DTYPES = ("float32", "float64")
#: Data by the way that principal components of it are found.
SVD_DATA = {
    "small": lambda dtype: table(dtype=dtype),
    "few rows": lambda dtype: table(60, 200, dtype=dtype),
    "iterated Gram matrix": lambda dtype: table(900, 850, dtype=dtype),
    "float64 products": lambda dtype: table(fall=1e-3, noise=1e-7, dtype=dtype),
}


@cases("svd/{}/{}", SVD_DATA, DTYPES)
def svd(data, dtype):
    X = SVD_DATA[data](dtype)
    found = fitted(s.SVD(4), X, "transform", "fit_transform"), fitted(s.SVD(3, center=False), X, "transform")
    return found, s.SVD(4).fit(X).inverse_transform(X[:5, :4])


@cases("svd/block Krylov")
def svd_krylov():
    """Both sides above the largest Gram matrix that is made."""
    return fitted(s.SVD(3), table(2100, 2020), "transform")


@cases("svd/falling spectrum")
def svd_falling():
    """A Gram matrix that costs more than a few steps of the iteration."""
    return fitted(s.SVD(3), table(6300, 900, noise=1e-3), "transform")


@cases("compress/{}", DTYPES)
def compress(dtype):
    X = table(dtype=dtype)
    return s.compress(X, 6), s.compress(X, 5, center=False), s.compress(X, 2, tol=0.02), s.compress(X, 100)


@cases("compress/sample")
def compress_sample():
    """More rows than are looked at for the basis."""
    return s.compress(s.WindowFFT(56, (1, 1), zoom=1).matrix(image()), 8), s.compress(table(6000, 1900, noise=0.5), 8)


ENDMEMBERS = {"nfindr": s.NFINDR, "vca": s.VCA, "spa": s.SPA, "atgp": s.ATGP}


@cases("{}/{}", ENDMEMBERS, DTYPES)
def endmembers(name, dtype):
    found = [fitted(ENDMEMBERS[name](k), table(k=k, dtype=dtype), "transform") for k in (1, 2, 4, 8)]
    return found, fitted(ENDMEMBERS[name](3, n_neighbors=5), table(dtype=dtype), "transform")


@cases("nfindr/starts")
def nfindr_starts():
    options = ({"init": "vca"}, {"init": "atgp"}, {"n_init": 2, "random_state": 7}, {"max_iter": 1})
    return [fitted(s.NFINDR(k, **more), table(k=8)) for k in (4, 7) for more in options]


@cases("nmf/{}/{}", DTYPES, ("auto", "nfindr", "spa", "kmeans", "nndsvda", "random", "given"))
def nmf(dtype, init):
    found = []
    for k in (2, 4, 9):
        X = table(k=k, dtype=dtype)
        start = X[:: len(X) // k][:k] if init == "given" else init
        found.append(fitted(s.NMF(k, init=start, random_state=k), X, "transform", "fit_transform"))
    return found, s.NMF(2).fit(X).inverse_transform(X[:5, :2])


@cases("nmf/options")
def nmf_options():
    """All features without compression, more starts, an end before convergence, many passes."""
    X = table(800, 150, k=5, noise=1.0)
    models = s.NMF(3, n_init=3), s.NMF(3, tol=1e-6), s.NMF(5, max_iter=2), s.NMF(16)
    found = [fitted(s.NMF(3), table(d=12)), fitted(s.NMF(3), table(40, 300)), fitted(s.NMF(4), table(k=2, noise=0))]
    return found, [fitted(model, X) for model in models]


@cases("ica/{}", DTYPES)
def ica(dtype):
    X = table(dtype=dtype)
    found = [fitted(s.ICA(3, fun=fun, random_state=2), X, "transform") for fun in ("logcosh", "exp", "cube")]
    return found, s.ICA(3).fit(X).inverse_transform(X[:5, :3])


@cases("mnf/{}", DTYPES)
def mnf(dtype):
    X = table(dtype=dtype)
    given = s.MNF(3, noise=np.diag(np.linspace(1, 2, X.shape[1])))
    found = [fitted(model, X, "transform") for model in (s.MNF(1), s.MNF(8), given)]
    return found, s.MNF(3).fit(X).inverse_transform(X[:5, :3])


#: Shapes: rows that are clustered as they are, or by their scores, and so many that threads take them in large blocks.
KMEANS_DATA = {"narrow": (900, 20), "wide": (900, 200), "many rows": (14000, 40)}


@cases("kmeans/{}/{}", KMEANS_DATA, DTYPES)
def kmeans(data, dtype):
    X = table(*KMEANS_DATA[data], noise=0.5, dtype=dtype)
    n_init = 2 if data == "many rows" else 10
    models = [s.KMeans(k, n_init=n_init, random_state=k) for k in (2, 5, 40)]
    if data == "many rows":
        return [fitted(model, X, "predict") for model in models[:2]]
    models += [s.KMeans(4, init="random", n_init=3, tol=0), s.KMeans(3, init=X[:3]), s.KMeans(6, n_init=1, max_iter=2)]
    return [fitted(model, X, "predict", "transform", "score") for model in models]


@cases("kmeans/options")
def kmeans_options():
    """Generators of random numbers, clusters that become empty, near ties, rows of another type in `predict`."""
    X = table(900, 100, noise=1.0)
    generators = np.random.RandomState(3), np.random.default_rng(3)
    found = [fitted(s.KMeans(4, n_init=3, random_state=generator), X) for generator in generators]
    far = np.vstack([X[:3], np.full((3, 100), 1e3, np.float32)])
    found += [fitted(s.KMeans(6, init=far), X), fitted(s.KMeans(5), np.repeat(X[:8], 40, axis=0) + np.float32(1e4))]
    return (
        found,
        s.KMeans(4).fit(X).predict(X.astype("float64")),
        fitted(s.KMeans(4, n_init=2), virtual()),
    )


@cases("abundances/{}/{}", ("fcls", "nnls", "scls", "ucls"), DTYPES)
def abundances(constraint, dtype):
    found = []
    for k in (2, 5, 8, 12, 20):
        X = table(k=k, dtype=dtype)
        alike = X[:k] * 1e-4 + X[k]
        found += [s.abundances(X, E, constraint=constraint) for E in (X[:k], alike, X[:k] + 1000, table(k, 90, 3))]
    return found, s.abundances(table(d=3, dtype=dtype), table(6, 3), constraint=constraint)


# --- Storage of rows, threads ----------------------------------------------------------------------------------------

#: Every stage on rows.
STAGES = {
    "svd": lambda X, n=None: fitted(s.SVD(3, n_jobs=n), X, "transform"),
    "compress": lambda X, n=None: s.compress(X, 5, n_jobs=n),
    "nfindr": lambda X, n=None: fitted(s.NFINDR(3, n_neighbors=4, n_jobs=n), X, "transform"),
    "vca": lambda X, n=None: fitted(s.VCA(3, n_jobs=n), X, "transform"),
    "spa": lambda X, n=None: fitted(s.SPA(3, n_jobs=n), X, "transform"),
    "atgp": lambda X, n=None: fitted(s.ATGP(3, n_jobs=n), X, "transform"),
    "nmf": lambda X, n=None: fitted(s.NMF(3, n_jobs=n), X, "transform"),
    "kmeans": lambda X, n=None: fitted(s.KMeans(3, n_init=3, n_jobs=n), X, "predict", "transform"),
    "ica": lambda X, n=None: fitted(s.ICA(2, n_jobs=n), X, "transform"),
    "abundances": lambda X, n=None: s.abundances(X, table(4, np.shape(X)[1]), n_jobs=n),
    "n_components": lambda X, n=None: s.estimate_n_components(X, method="silhouette", max_components=3, n_jobs=n),
}
LAYOUTS = {
    "column order": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2, ::-1],
    "big endian": lambda X: X.astype(">f4"),
    "big endian float64": lambda X: X.astype(">f8"),
    "uint16": lambda X: (1000 * X).astype(np.uint16),
    "list": lambda X: X[:60].tolist(),
}


@cases("rows/{}", LAYOUTS)
def layouts(name):
    X = LAYOUTS[name](table(900, 70))
    return {stage: run(X) for stage, run in STAGES.items()}


@cases("rows/{}", ("memory map", "HDF5"))
def files_of_rows(kind):
    X = table(900, 70)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        if kind == "HDF5":
            with h5py.File(path, "w") as file:
                rows = file.create_dataset("x", data=X, chunks=(77, 20))
                return {stage: run(rows) for stage, run in STAGES.items()}
        X.tofile(path)
        rows = np.memmap(path, np.float32, "r", shape=X.shape)
        return {stage: run(rows) for stage, run in STAGES.items()}


@cases("rows/windows")
def rows_of_windows():
    return {stage: run(virtual()) for stage, run in STAGES.items()}


@cases("threads/{}", STAGES)
def threads_of_stage(name):
    return same_for_threads(lambda n: STAGES[name](many_blocks(), n))


@cases("rows/many")
def many_rows():
    X = table(17000, 130)
    return {stage: run(X) for stage, run in STAGES.items()}


# --- Number of components --------------------------------------------------------------------------------------------

METHODS = ("auto", "scree", "hfc", "nwhfc", "elbow", "residual", "stability", "silhouette", "gap")


@cases("n_components/{}", METHODS)
def n_components(method):
    options = {"method": method, "max_components": 4}
    found = s.estimate_n_components(table(400, 60), random_state=1, **options)
    if method in ("auto", "gap", "stability"):  # which take their time
        return found
    others = table(400, 60, dtype="float64"), virtual()
    return found, [s.estimate_n_components(X, **options) for X in others]


@cases("n_components/separation")
def n_components_separation():
    """Which decides among all of them for the windows of one image."""
    return s.estimate_n_components(virtual(), method="separation", max_components=3)
