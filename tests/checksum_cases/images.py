"""Results on images: features of windows, segmentations, pictures of them, simulated images."""

import tempfile
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Picture
from sklearn.cluster import AgglomerativeClustering
from sklearn.decomposition import MiniBatchNMF
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

import stemseg_core as s
from checksum_cases.common import cases, hole, image, same_for_threads, table
from stemseg_core import datasets, plot

# --- Windows ---------------------------------------------------------------------------------------------------------


def told(matrix):
    """All that a matrix of windows says of itself, and its rows."""
    names = ("shape", "dtype", "grid_shape", "included", "ky", "kx", "centers")
    found = {name: getattr(matrix, name) for name in names} | {"rows": np.asarray(matrix), "words": repr(matrix)}
    return found | {"dtype": str(matrix.dtype)}


def windows(*sizes, pixels=None, mask=None, **options):
    return told(s.WindowFFT(*sizes, **options).matrix(image() if pixels is None else pixels, mask))


SIZES = {"49": 49, "64": 64, "48x80": (48, 80), "61": 61, "25": 25, "128": 128}
TAPERS = {"boxcar": "boxcar", "flattop": "flattop", "kaiser": ("kaiser", 8.0), "none": None}


@cases("windows/scale {}", ("sqrt", "abs", "log1p", "power"))
def scales(scale):
    return [windows(48, 8, scale=scale, dtype=dtype, zoom=zoom) for dtype in ("float32", "float64") for zoom in (1, 2)]


@cases("windows/size {}", SIZES)
def sizes(name):
    """Small steps, whose windows share sums, and large ones."""
    steps = (1, 8, (3, 7), None)
    return [windows(SIZES[name], step, dtype=dtype) for step in steps for dtype in ("float32", "float64")]


@cases("windows/taper {}", TAPERS)
def tapers(name):
    return [windows(size, step, taper=TAPERS[name]) for size, step in ((48, 4), (49, 12))]


@cases("windows/options")
def window_options():
    options = ({"detrend": None}, {"zoom": 1}, {"zoom": 3}, {"zoom": 8}, {"detrend": None, "taper": None, "zoom": 1})
    found = [windows(size, step, **more) for more in options for size, step in ((48, 4), (61, 16), (20, 30))]
    return found, windows(96, 48, pixels=image((400, 300))), windows(256, 16, pixels=image((400, 300)))


@cases("windows/excluded")
def excluded_windows():
    """Masks, masked arrays, pixels that are not finite."""
    broken = image().copy()
    broken[100:103, 90] = np.nan
    broken[5, 140] = np.inf
    found = windows(32, 4, mask=hole()), windows(32, 4, pixels=np.ma.array(image(), mask=hole()))
    more = [
        windows(32, step, pixels=broken, mask=mask, invalid="exclude") for step in (1, 7) for mask in (None, hole())
    ]
    return found, more


@cases("windows/stack")
def stack():
    frames = np.stack([image(), image()[::-1], 3 * image() + 100])
    masks = np.stack([hole(), ~hole() & False, hole()[::-1]])
    return [windows(32, 6, pixels=frames, mask=mask) for mask in (None, hole(), masks)]


IMAGE_DTYPES = ("uint8", "uint16", "int32", "float32", "float64", "float16", ">u2", ">f4", "bool")


@cases("windows/pixels {}", IMAGE_DTYPES)
def pixel_types(dtype):
    pixels = (image() > 10).astype(bool) if dtype == "bool" else image().astype(dtype)
    arrays = pixels, np.asfortranarray(pixels), np.repeat(pixels, 2, axis=1)[::-1, ::2]
    return [windows(32, 8, pixels=array, dtype=out) for array in arrays for out in ("float32", "float64")]


@cases("windows/parts")
def parts_of_windows():
    """Rows in pieces, planes of features, and `transform`, for any number of threads."""
    matrix = s.WindowFFT(32, 3).matrix(image(), hole())
    pieces = [matrix.rows(*ends) for ends in ((0, 1), (5, 900), (1000, None), (-7, -2))]
    planes = matrix.to_image(matrix.rows(3, 6)), matrix.to_image(np.arange(matrix.shape[1]))
    whole = [same_for_threads(lambda n, w=w: s.WindowFFT(w, 2, n_jobs=n).transform(image(), hole())) for w in (32, 45)]
    return pieces, planes, whole, matrix.from_image(planes[0])


# --- Segmentations ---------------------------------------------------------------------------------------------------

#: Options of `segment` by the name of the result.
SEGMENTS = {
    "default": {},
    "four phases": {"n_phases": 4, "step": 6},
    "one phase": {"n_phases": 1, "step": 6},
    "window": {"window": 32, "step": 4},
    "window of two sides": {"window": (32, 48), "step": (5, 6)},
    "windows": {"windows": [24, (32, 40), 64], "window": 24, "step": 6},
    "one of windows": {"windows": [40], "step": 5},
    "whiten": {"whiten": True, "step": 6},
    "rotation invariant": {"rotation_invariant": True, "window": 32, "step": 6},
    "rotation invariant, nmf": {"rotation_invariant": True, "method": "nmf", "pixel_size": (0.02, 0.03)},
    "regularize": {"regularize": 8, "step": 6},
    "min_area": {"n_phases": 5, "smooth": 0, "min_area": 400, "window": 32, "step": 6},
    "regularize and min_area, ica": {"regularize": 4, "min_area": 300, "method": "ica"},
    "k_min and k_max": {"k_min": 2, "k_max": 8.5, "pixel_size": 0.02, "step": 6},
    "k_max in pixels, zoom 1": {"k_max": 0.3, "zoom": 1, "window": 32, "step": 8},
    "mask": {"mask": hole(), "step": 6},
    "normalize 0": {"normalize": 0, "step": 6},
    "normalize 1": {"normalize": 1, "step": 6},
    "log1p": {"scale": "log1p", "window": 32, "step": 8, "taper": "hamming"},
    "power, no detrend": {"scale": "power", "detrend": None, "window": 32, "step": 8},
    "seed 7": {"random_state": 7, "step": 6},
    "rank and smooth": {"rank": 8, "smooth": 0, "step": 6},
    "auto": {"n_phases": "auto", "window": 32, "step": 9},
    "auto, nfindr": {"n_phases": "auto", "method": "nfindr", "window": 32, "step": 9},
    "auto, nmf": {"n_phases": "auto", "method": "nmf", "window": 32, "step": 9, "mask": hole()},
    "clusterer": {"method": AgglomerativeClustering(3), "window": 32, "step": 8},
    "transformer": {
        "method": make_pipeline(MinMaxScaler(clip=True), MiniBatchNMF(3, init="nndsvda", random_state=0)),
        "window": 32,
        "step": 8,
    },
}
METHODS = ("nfindr", "vca", "spa", "atgp", "nmf", "ica")


def segmented(pixels=None, n_phases=3, **options):
    return s.segment(image() if pixels is None else pixels, n_phases, **options)


@cases("segment/{}", SEGMENTS)
def segment(name):
    return segmented(**SEGMENTS[name])


@cases("segment/method {}", METHODS)
def methods(method):
    return segmented(method=method, window=32, step=4), segmented(method=method, n_phases=2, step=7, mask=hole())


@cases("segment/excluded")
def segment_excluded():
    broken = image().copy()
    broken[100:103, 90] = np.nan
    return [segmented(broken, invalid="exclude", step=8, method=method) for method in ("kmeans", "nfindr")]


@cases("segment/pixels")
def segment_pixels():
    return [segmented(image().astype(dtype), windows=[32], step=8) for dtype in ("uint8", ">u2", "float64")]


@cases("segment/one lattice")
def segment_one():
    """Phases that are none, a number of phases that is one."""
    pixels = datasets.single_phase((160, 160))[0]
    return [segmented(pixels, k, window=32, step=12) for k in ("auto", 2)]


@cases("segment/dense grid")
def segment_dense():
    """So many windows that the restarts of k-means take some of them."""
    return segmented(image((348, 352)), windows=[32], step=1)


@cases("segment/threads {}", ("kmeans", "nmf", "nfindr"))
def segment_threads(name):
    return same_for_threads(lambda n: segmented(n_jobs=n, method=name, window=40, step=8, regularize=3))


@cases("segment/saved")
def saved():
    with tempfile.TemporaryDirectory() as folder:
        segmentation(2).save(Path(folder) / "s.npz")
        return s.Segmentation.load(Path(folder) / "s.npz")


# --- Pictures --------------------------------------------------------------------------------------------------------


@cache
def segmentation(k):
    if k == 2:
        return segmented(n_phases=2, window=32, step=8, pixel_size=0.02, mask=hole())
    return segmented(n_phases="auto", window=(32, 40), step=8, method="nfindr")


def drawn(figure):
    """Pixels of a figure."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    with Picture.open(buffer) as picture:
        return np.asarray(picture)


@cases("plot/{}", ("overlay", "components", "abundances", "maps", "plot"))
def pictures(name):
    return [drawn(getattr(plot, name)(segmentation(k))) for k in (2, 3)]


@cases("plot/others")
def other_pictures():
    estimate = s.estimate_n_components(table(), method="scree")
    colors = [plot.phase_colors(k) for k in (3, 12, 25)]
    return drawn(plot.estimate(estimate)), drawn(plot.estimate(segmentation(3).estimate)), colors


# --- Simulated images ------------------------------------------------------------------------------------------------

#: Generators with some of their options.
DATASETS = {
    "single_phase": {"crystal": datasets.GOLD, "angle": 7.0},
    "two_phase": {"crystals": (datasets.SILICON, datasets.SRTIO3), "position": 0.4, "roughness": 0.6},
    "superlattice": {"position": 0.6},
    "polycrystal": {"n_grains": 5, "n_orientations": 3, "misorientation": 11.0},
    "crystal_amorphous_vacuum": {"amorphous": 0.5, "positions": (0.3, 0.6)},
    "inclined_interface": {"overlap": 0.7, "crystals": (datasets.GRAPHENE, datasets.COPPER)},
}


@cases("datasets/{}", DATASETS)
def simulated(name):
    generate, imaging = getattr(datasets, name), {"dose": 10, "pixel_size": 0.02, "drift": 3.0, "jitter": 0.0}
    return generate((96, 120)), generate((130, 90), random_state=3, **DATASETS[name], **imaging)


@cases("datasets/crystals")
def crystals():
    names = ("COPPER", "GOLD", "GRAPHENE", "SILICON", "SR2TIO4", "SRTIO3")
    return {name: repr(getattr(datasets, name)) for name in names} | {"imaging": repr(datasets.Imaging())}
