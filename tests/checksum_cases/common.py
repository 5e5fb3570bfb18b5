"""Names of results, their checksums, and the data that they are made of."""

import hashlib
from functools import cache, partial
from itertools import product

import numpy as np

import stemseg_core as s

#: Name of a result and what computes it.
CASES = {}


def cases(name, *choices):
    """Register a function as one result for each combination of the choices, which are its arguments."""

    def register(function):
        for values in product(*choices):
            CASES[name.format(*values)] = partial(function, *values)
        return function

    return register


# --- Sums ------------------------------------------------------------------------------------------------------------


def digest(value):
    """SHA-256 of types, shapes and bytes of everything in `value`."""
    total = hashlib.sha256()
    for piece in pieces(value):
        total.update(piece)
        total.update(b"\n")
    return total.hexdigest()


def pieces(value):
    """Everything in `value` as bytes, dictionaries by sorted keys."""
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield str(key).encode()
            yield from pieces(value[key])
    elif isinstance(value, list | tuple):
        yield f"{type(value).__name__} of {len(value)}".encode()
        for part in value:
            yield from pieces(part)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.hasobject:
            yield from pieces(array.tolist())
        else:
            yield f"{type(value).__name__} {array.dtype.str} {array.shape}".encode()
            yield array.tobytes()
    elif isinstance(value, str | int | float | None):
        yield f"{type(value).__name__} {value!r}".encode()
    elif isinstance(value, s.ComponentEstimate):
        yield from pieces(value.to_dict())
    elif isinstance(value, s.Compressed):
        yield from pieces(vars(value) | {"errors": (value.residual_error, value.energy_error)})
    elif isinstance(value, s.Segmentation):
        yield from pieces(told(value))
    else:
        raise TypeError(f"no checksum of {type(value).__name__}")


def told(segmentation):
    """All of a segmentation but the versions of libraries, which may be others tomorrow."""
    found = segmentation.to_dict()
    del found["versions"]
    found["doubts"], found["verdict"] = segmentation.doubts, segmentation.verdict
    found["axes"], found["words"] = segmentation.frequency_axes, repr(segmentation)
    return found


def fitted(model, X, *methods):
    """What a fit to X left in the model, and what its methods then say of X."""
    model.fit(X)
    found = {name: value for name, value in vars(model).items() if name.endswith("_") and not name.startswith("_")}
    return found | {name: getattr(model, name)(X) for name in methods} | {"names": model.get_feature_names_out()}


def same_for_threads(function):
    """The value of a function of `n_jobs`, which must have the same bits for 1, 2 and 3."""
    found = [function(n) for n in (1, 2, 3)]
    assert len({digest(value) for value in found}) == 1, "other bits for another number of threads"
    return found[0]


# --- Data ------------------------------------------------------------------------------------------------------------


@cache
def table(n=700, d=90, k=4, dtype="float32", noise=0.05, fall=1.0):
    """Non-negative rows, mixtures of k patterns and noise; `fall` is that of the amounts. Made without BLAS."""
    rng = np.random.default_rng(n + d + k)
    amounts = rng.dirichlet(np.full(k, 0.4), n) * fall ** np.arange(k)
    X = np.einsum("nk,kd->nd", amounts, rng.gamma(0.6, size=(k, d))) + noise * rng.random((n, d))
    return X.astype(dtype)


@cache
def image(shape=(144, 160)):
    """Counts of two lattices, and of an amorphous corner."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    where = (x + y) / sum(shape)
    lattices = [np.cos(0.7 * x) + np.cos(0.7 * y), np.cos(0.6 * x + 0.4 * y) + np.cos(0.4 * x - 0.6 * y)]
    counts = 10 + 4 * np.select([where < 0.45, where < 0.75], lattices, 0.0)
    return np.random.default_rng(5).poisson(counts).astype(np.float32)


@cache
def hole(shape=(144, 160)):
    """A mask of some pixels near the upper left corner."""
    mask = np.zeros(shape, bool)
    mask[20:40, 30:44] = True
    return mask


@cache
def virtual():
    return s.WindowFFT(24, 4).matrix(image())


@cache
def many_blocks():
    """Windows in so many blocks that threads share them, and that sums over several of them are merged."""
    return s.WindowFFT(48, 1).matrix(image())
