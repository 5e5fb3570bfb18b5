"""segment(): what is refused before any work, how much memory it says it needs, and how it is stopped."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import DBSCAN, AgglomerativeClustering
from sklearn.decomposition import PCA

from stemseg_core import Stopped, datasets, segment
from stemseg_core.phases import clusters
from stemseg_core.phases.methods import METHODS
from stemseg_core.rows import sources
from stemseg_core.system import execution, memory

SHAPE = (192, 232)
OPTIONS = {"window": (48, 40), "step": (6, 8)}


@pytest.fixture(scope="module")
def two_phase():
    return datasets.two_phase(SHAPE, position=0.4)  # not in the middle: which phase is the larger is sure


@pytest.fixture(scope="module")
def plain(two_phase):
    return segment(two_phase[0], 2, **OPTIONS)


def test_non_finite_pixels_are_refused_by_default(two_phase):
    image = two_phase[0].copy()
    image[12, 88] = image[13, 1] = np.nan
    with pytest.raises(ValueError, match=r"2 NaN, first at \(12, 88\)"):
        segment(image, 2)


def test_nothing_left(two_phase):
    with pytest.raises(ValueError, match="no window is left"):
        segment(two_phase[0], 2, mask=np.ones(SHAPE, bool))


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
        (np.eye(8, 9), ValueError, "image of 8 x 9 px is too small: k_min=3 leaves none"),
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
        ({}, True),
        ({"method": "nfindr"}, False),
        ({"method": "ica"}, True),
        ({"rotation_invariant": True}, False),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ({}, False),
                ({"rank": 3, "n_phases": 12}, False),
                ({"whiten": True, "n_jobs": 1}, False),
                ({"method": "atgp"}, True),
                ({"method": "atgp", "n_phases": 8, "rank": 10, "n_jobs": 1}, False),
                ({"rotation_invariant": True, "method": "ica", "n_jobs": 1}, False),
                ({"regularize": 0.5, "min_area": 100}, True),
            )
        ),
    ],
)
@pytest.mark.usefixtures("fourths")
@pytest.mark.filterwarnings("ignore::stemseg_core.PhaseWarning")
def test_predicted_memory_is_what_is_used(dense, options, masked, monkeypatch, peak_bytes):
    image, mask = dense
    predicted = []
    require = memory.require_memory
    monkeypatch.setattr(memory, "require_memory", lambda n, *rest: [predicted.append(n), require(n, *rest)])
    options = {"n_phases": 4, "n_jobs": 2, "mask": mask if masked else None, **DENSE, **options}
    with pytest.raises(MemoryError, match=r"segmenting \d+ windows needs .* take a larger step or a smaller rank"):
        segment(image, max_memory="12 MB", **options)
    needed = predicted[-1]
    used = peak_bytes(lambda: segment(image, max_memory=needed * 1.001, **options))
    assert 0.45 * needed < used < 1.1 * needed  # scratch is predicted for the largest of windows


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
