"""The doors of all kernels: each call needs all the memory that it is given, writes nothing else, and refuses less."""

from importlib import import_module

import numpy as np
import pytest
from scipy.signal import get_window

from stemseg_core import _kernels
from stemseg_core.windows.axes import FFT, Axis
from stemseg_core.windows.transforms import SlidingWindows

M, D, K = 9, 20, 3  # rows, features and components of a block
DTYPES = [np.float32, np.float64]
#: Axes whose length a kernel takes from this argument alone: (kernel, argument, axis).
FREE = {
    ("gram_block", "X", 0),
    ("extremes_block", "Z", 0),
    ("own_distances_block", "centers", 0),
    ("distances_block", "out", 1),
    ("move_rows_block", "rows", 2),
    ("move_rows_block", "sums", 1),
    ("window_means_block", "means", 0),
    ("transform_rows_products_block", "image", 0),
    ("transform_rows_products_block", "sums", 1),
    ("transform_rows_fft_block", "sums", 1),
    ("transform_rows_fft_block", "image", 0),
    ("transform_rows_fft_block", "turns", 0),
    ("finish_block", "out", 0),
    ("finish_block", "out", 1),
}


def double(*shape):
    return np.zeros(shape)


def up(n, unit):
    return -(-n // unit) * unit


def of_compress(kernels, real):
    wide = kernels.LANES
    X, mean, V = real(M, D), real(D), real(D, wide)
    sums = {"squares": double(M), "sums": double(D)}
    yield "sum_block", {"X": X, **sums}
    yield "center_block", {"X": X, "mean": mean, "Y": real(M, D), **sums}
    yield "project_block", {"X": X, "mean": mean, "V": V, "A": double(up(M, kernels.TILE_ROWS), wide), **sums}
    scratch = {"A": double(kernels.ROWS, wide), "At": real(wide, kernels.ROWS)}
    yield "scatter_block", {"X": X, "mean": mean, "V": V, **scratch, "Z": real(wide, D), **sums}


def of_gram(kernels, real):
    panels = real(kernels.ROWS, D + kernels.PADDING)
    yield "gram_block", {"X": real(M, D), "mean": real(D), "panels": panels, "G": double(D, D), "sums": double(D)}


def of_nfindr(kernels, real):
    out = {"best": double(K), "row": np.zeros(K, np.intp)}
    yield "extremes_block", {"Z": real(M, D), "W": double(D, K), "tile": double(D, kernels.ROWS), **out}


def of_kmeans(kernels, real):
    X, origin, labels = real(M, D), real(D), np.zeros(M, np.int32)
    yield (
        "assign_block",
        {
            "X": X,
            "origin": origin,
            "centers": double(K, D),
            "columns": real(D, kernels.LANES),
            "half_norms": double(K),
            "moves": double(K),
            "products": real(kernels.TILE_ROWS, kernels.LANES),
            "touched": np.zeros(M, np.intp),
            "labels": labels,
            "gaps": real(M),
        },
    )
    sums = {"sums": double(K, D), "counts": np.zeros(K, np.int64)}
    yield "accumulate_block", {"X": X, "origin": origin, "old": labels - 1, "new": labels, **sums}
    yield "distances_block", {"X": X, "columns": double(D, kernels.DISTANCE_LANES), "out": double(M, K)}
    yield "own_distances_block", {"X": X, "centers": double(K, D), "labels": labels, "out": double(M)}


def of_nmf(kernels, real):
    wide = kernels.LANES
    yield "hals_block", {"B": real(K, M), "G": real(K, K), "n_sweeps": 1, "Z": real(K, M)}
    given = {"X": real(M, D), "V": double(D, wide), "G": double(K, K), "n_sweeps": 1, "W": double(M, K)}
    scratch = {"A": double(kernels.ROWS, wide), "B": double(wide, kernels.ROWS), "Wt": double(wide, kernels.ROWS)}
    yield "sweep_block", {**given, **scratch, "out": double(M, K), "WtX": double(wide, D), "WtW": double(K, K)}
    yield "residual_block", {"X": real(M, D), "W": real(M, K), "H": double(K, D), "out": double(D)}


def of_abundances(kernels, real):
    yield "products_block", {"X": real(M, D), "E": real(K, D), "scale": 1.0, "B": real(M, K)}
    given = {"B": real(M, K), "offset": double(K), "scale": double(K)}
    supports = {"sum_to_one": True, "maps": double(7, K, K + 1), "members": double(7, K)}
    yield "enumerate_block", {**given, **supports, "out": real(M, K)}
    scratch = {"work": double(kernels.WORK_ROWS, K), "index": np.zeros((kernels.INDEX_ROWS, K), np.intp)}
    problem = {"c": double(K), "G": np.eye(K), "max_iter": 5}
    yield "active_set_block", {**given, **problem, "L": double(K, K), **scratch, "out": real(M, K)}


def tables(fft):
    return {"radices": fft.radices, "frequencies": fft.frequencies, "twiddles": fft.twiddles}


def of_strips(kernels, real):
    w, h, step, n, ny, first = 12, 5, 4, 3, 20, 2
    width, lanes = (n - 1) * step + w, LANES_OF[kernels.__name__][real().dtype.itemsize]
    yield "move_rows_block", {"rows": real(2, 30, 40), "sums": double(30, n), "start": 10, "count": 20}
    yield (
        "window_means_block",
        {
            "sums": double(first + 3 * step + w, n),
            "first": first,
            "step": step,
            "wy": w,
            "wx": w,
            "totals": double(3 * step + w + 1, n),
            "means": real(4, n),
        },
    )
    yield (
        "transform_rows_products_block",
        {
            "image": real(ny, width),
            "taper": real(w),
            "step": step,
            "cosines": real(w // 2 + 1, up(h + 1, lanes)),
            "minus_sines": real((w - 1) // 2, up(h + 1, lanes)),
            "taper_spectrum": real(2, h + 1),
            "mirror": real(width + 1 + w),
            "even": real(n, w // 2 + 1),
            "odd": real(n, (w - 1) // 2),
            "products": real(2, n, h + 1),
            "first": first,
            "rows": real(2, first + ny, n * (h + 1)),
            "sums": double(first + ny, n),
        },
    )
    n_vectors, n_totals = kernels.fft_rows_scratch(width, w, h, real().dtype.itemsize)
    fft = tables(FFT(w // 2, real().dtype))
    yield (
        "transform_rows_fft_block",
        {
            "image": real(ny, width),
            "halved": real(2, w // 2),
            "step": step,
            **fft,
            "turns": real(h + 1, 2),
            "vectors": real(n_vectors),
            "totals": double(n_totals),
            "first": first,
            "rows": real(2, first + ny, (n - 1) * (h + 1) + up(h + 1, lanes)),
            "sums": double(first + ny, n),
        },
    )


def of_windows(kernels, real):
    w, hy, hx, m, n, step, first = 12, 5, 4, 3, 2, 4, 1
    dtype = real().dtype
    lanes = LANES_OF[kernels.__name__][dtype.itemsize]
    ld = (n - 1) * (hx + 1) + max(lanes, hx + 1)
    source = {
        "rows": real(2, first + (m - 1) * step + w, ld),
        "first": first,
        "step": step,
        "shift": real(m, n),
        "taper_spectrum": real(2, 2 * hy + 1, hx + lanes),
        "reach": 1,
        "hx": hx,
        "roots": True,
        "factor": 1.0,
        "zero": 1.0,
    }
    out = {"out": real(m, n, (2 * hy + 1) * (hx + 1) - hy)}
    yield (
        "transform_windows_products_block",
        {
            **source,
            "taper": real(w),
            "cosines": real(hy + 1, w // 2 + 1),
            "sines": real(hy + 1, (w - 1) // 2),
            "even": real(w // 2 + 1, lanes),
            "odd": real((w - 1) // 2, lanes),
            "products": real(2, hy + 1, 2 * ld),
            **out,
        },
    )
    vectors = {"vectors": real(kernels.fft_windows_scratch(w, dtype.itemsize))}
    yield "transform_windows_fft_block", {**source, "taper": real(w), **tables(FFT(w, dtype)), **vectors, **out}
    sliding = SlidingWindows(Axis(get_window("blackman", w), hy, step, dtype), hx + 1)
    vectors = {"vectors": real(kernels.sliding_scratch(m, step, w, 2, dtype.itemsize))}
    factors = {"cosines": sliding.cosines, "sines": sliding.sines, "mixing": sliding.mixing(m)}
    yield "transform_windows_sliding_block", {**source, **factors, **vectors, **out}
    d = out["out"].shape[2]
    yield "finish_block", {"out": real(m, n, d), "scale": "abs", "gain": 1.0, "weight": 1.0, "zero": d - 1}


STAGES = {name.removeprefix("of_"): value for name, value in dict(globals()).items() if name.startswith("of_")}
#: Numbers of a vector of a level, for float32 and float64.
LANES_OF = {
    f"stemseg_core._kernels.{stage}_{level}": {4: size // 4, 8: size // 8}
    for stage in _kernels.STAGES
    for level, size in {"baseline": 16, "v3": 32, "v4": 64}.items()
}


def calls():
    for stage, of_stage in STAGES.items():
        for level in _kernels.available_levels():
            module = import_module(f"stemseg_core._kernels.{stage}_{level}")
            for dtype in DTYPES:
                for kernel, arguments in of_stage(module, lambda *shape, dtype=dtype: np.zeros(shape, dtype)):
                    name = f"{module.__name__.rpartition('.')[2]}.{kernel}-{np.dtype(dtype)}"
                    yield pytest.param(getattr(module, kernel), arguments, id=name)


def in_guards(array):
    """A copy of an array amid a pattern, and that memory."""
    memory = np.full(array.nbytes + 256, 0xA5, np.uint8)
    copy = memory[128:-128].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy, memory


def refusal(kernel, arguments):
    try:
        return kernel(*arguments.values())
    except ValueError as error:
        return error


def test_every_kernel_is_called_here():
    for stage in _kernels.STAGES:
        called = {param.values[0].__name__ for param in calls() if f".{stage}_" in param.values[0].__module__}
        assert called == {name for name in vars(getattr(_kernels, stage)) if name.endswith("_block")}


@pytest.mark.parametrize(("kernel", "arguments"), list(calls()))
def test_kernels_write_nothing_outside_their_arguments(kernel, arguments):
    memories = []
    for name, value in arguments.items():
        if isinstance(value, np.ndarray):
            arguments[name], memory = in_guards(value)
            memories.append(memory)
    kernel(*arguments.values())
    for memory in memories:
        assert (memory[:128] == 0xA5).all()
        assert (memory[-128:] == 0xA5).all()


@pytest.mark.parametrize(("kernel", "arguments"), list(calls()))
def test_arguments_that_are_too_small_are_refused(kernel, arguments):
    for name, value in arguments.items():
        if not isinstance(value, np.ndarray):
            continue
        for axis in range(value.ndim):
            if (kernel.__name__, name, axis) in FREE:
                continue
            shape = tuple(size - (i == axis) for i, size in enumerate(value.shape))
            smaller = arguments | {name: np.zeros(shape, value.dtype)}
            assert "expected" in str(refusal(kernel, smaller)), f"{name} of shape {shape}"
