"""From an image to the map of its phases."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.phases.frequencies import Frequencies, check_k_max, check_windows
from stemseg_core.phases.memberships import margin, order_by_size
from stemseg_core.phases.methods import AUTO, MAX_PHASES, METHODS, Settings, find_phases, phases_bytes
from stemseg_core.phases.multiscale import Scales, step_of, window_sizes
from stemseg_core.phases.patterns import patterns
from stemseg_core.phases.regions import without_small_regions, without_small_regions_bytes
from stemseg_core.phases.regularize import regularized, regularized_bytes
from stemseg_core.phases.segmentation import PhaseWarning, Segmentation
from stemseg_core.phases.spectra import Spectra
from stemseg_core.rows.base import check_whole
from stemseg_core.rows.sources import BLOCK_BYTES, cached
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import require_memory, spare_memory
from stemseg_core.system.random import check_random_state
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.versions import versions
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.images import Frames, refuse_names
from stemseg_core.windows.matrix import WindowMatrix
from stemseg_core.windows.windows import WindowFFT


def segment(
    image: ArrayLike,
    n_phases: int | str,
    *,
    method: Any = "kmeans",
    window: int | Sequence[int] | None = None,
    windows: Sequence[int | Sequence[int]] | None = None,
    step: int | Sequence[int] | None = None,
    taper: str | tuple[Any, ...] | float | None = "hann",
    detrend: str | None = "constant",
    zoom: int = 2,
    scale: str = "sqrt",
    k_min: float = 3,
    k_max: float | None = None,
    rotation_invariant: bool = False,
    normalize: float = 0.5,
    rank: int = 32,
    smooth: float = 12,
    whiten: bool = False,
    regularize: float = 0,
    min_area: int = 0,
    mask: ArrayLike | None = None,
    invalid: str = "raise",
    pixel_size: float | Sequence[float] | None = None,
    units: str = "nm",
    random_state: int | None = 0,
    n_jobs: int | None = None,
    max_memory: int | str | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment an atomic-resolution image into phases by their local lattices.

    The modulus of the Fourier transform in a sliding window is the spectrum of the lattice there. Windows are grouped,
    large ones by their lattices, whatever the thickness, or by spectra, smaller ones by spectra; what is learnt from
    those deep in a phase tells the phases apart in small windows, which place the boundaries. Spectra are compared
    without their lowest frequencies, compressed to scores, and smoothed over neighbouring windows.

    Parameters
    ----------
    image : array-like of shape (y, x)
        Any real dtype; never changed.
    n_phases : int or "auto"
        Number of phases, k. "auto": 1 to 10, as many as are told apart; `Segmentation.estimate` says by what, and
        ``params["n_phases"]`` is what was found. Not with an estimator as `method`.
    method : {"kmeans", "nfindr", "vca", "spa", "atgp", "nmf", "ica"} or estimator, default="kmeans"
        How windows become memberships of phases:

        - "kmeans": clusters of lattices or of spectra, whichever make the surest map, boundaries from small windows;
          the best partition.
        - "nfindr": the purest windows are endmembers, memberships the non-negative shares that mix them; what is
          found only in places as thin as a window is taken for a defect, and is no endmember.
        - "vca", "spa", "atgp": the same with endmembers by `VCA`, `SPA` or `ATGP`.
        - "nmf": non-negative parts of the spectra and their shares, for phases that overlap in projection; learnt
          without what "nfindr" takes for defects.
        - "ica": clusters of independent sources of the scores.
        - a scikit-learn estimator: a clusterer (`labels_` after `fit`), or a transformer to non-negative weights; it
          is cloned and fitted to the scores, (n, rank), which have both signs.
    window : int or (int, int), optional
        Side, in pixels, (y, x), of the windows that the maps have an entry for. Chosen from the strongest period of the
        image if not given, square in length by `pixel_size`, see Notes; ``params`` tells. A length of 2 nm is
        ``round(2 / pixel_size)`` pixels.
    windows : sequence of int or (int, int), optional
        For the default method: windows of all these sizes are used together. In the largest the phases are told apart;
        the others place the boundaries. The `window` of the maps is one of them, by default the largest but one.
        Default: twice the `window`, the window, and three quarters of it.
    step, taper, detrend, zoom, scale, invalid
        Of the spectra, see `WindowFFT`; `step` is by default an eighth of the window. With the default ``zoom=2``
        frequencies along the axes end at 0.25 cycles per pixel; ``zoom=1`` keeps all, for lattice planes less than 4
        pixels apart.
    k_min : float, default=3
        Frequencies below so many cycles a window are ignored: thickness, contamination and the zero beam's skirt.
    k_max : float, optional
        Frequencies above are ignored: the information limit, beyond which there is noise alone. In cycles per unit of
        length, as on `Segmentation.frequency_axes`: 1/nm if `pixel_size` is in nm, per pixel if there is none. A limit
        above all that `zoom` keeps is refused.
    rotation_invariant : bool, default=False
        Compare lattices however they are turned: grains of one material are one phase. Else orientations are phases.
    normalize : float, default=0.5
        Spectra are divided by their norm to this power; 0: amplitude counts in full, 1: not at all. The default method
        groups the large windows without their amplitudes, and uses this for the small ones.
    rank : int, default=32
        Scores kept of each spectrum.
    smooth : float, default=12
        Standard deviation, in pixels, of the Gaussian mean over neighbouring windows; 0: none.
    whiten : bool, default=False
        Scale the scores so that their noise, seen in the differences of neighbours, is equal in all directions. It
        brings out faint differences at low dose, and gradual ones such as drift and tilt as well. Not for endmembers,
        and not for NMF.
    regularize : float, default=0
        Make the boundaries of the memberships short: round patches of sure windows whose radius in pixels is smaller
        are given up, ragged boundaries straightened (total variation, see `stemseg_core.phases.regularize`); 0: none.
    min_area : int, default=0
        Regions of `label_image` with fewer pixels go to the phases around them; 0: none. Pixels of a region hang
        together by their edges. Memberships stay as they are.
    mask : array-like of bool of shape (y, x), optional
        True: excluded pixels.
    pixel_size : float or (float, float), optional
        Size of a pixel, (y, x), in `units`.
    units : str, default="nm"
        Unit of length.
    random_state : int or None, default=0
        Seed; None draws one, which is recorded in ``params``.
    n_jobs, max_memory, progress
        Threads, memory limit, ``progress(done, total, stage)``, see `WindowFFT`.

    Returns
    -------
    Segmentation

    Raises
    ------
    TypeError, ValueError
        If the image or a parameter is not as described.
    MemoryError
        If more than `max_memory` would be needed.
    Stopped
        If `progress` returned False.

    Notes
    -----
    The window is 64 px for a lattice of 17 px period and grows with the root of it, in multiples of 8 px from 32 to
    128, but no larger than that 64 of them cover the image. Of pixels that are not square it has as many as make it
    square in length, and cover the same area. The large windows have steps of a sixteenth of them, or
    `step` if that is larger.

    Power spectra add up where windows are averaged; only the mean over neighbours is divided by its length, so that
    neither thickness nor dose makes a phase. Phases without a lattice, or too small for large windows, show in the
    spectra of large windows, or of those of the maps. Of the three ways to group windows the one with the largest mean
    confidence is taken. What changes from one window to the next, such as disorder at an interface, or a step of
    intensity, does not tell phases apart. Between phases there are windows that hold some of both: thin rims whose
    spectra are as well explained as a mixture of the phases beside them are given to these.

    The number of phases, where it is to be found: smoothed scores of the windows of the maps are clustered for k = 2 to
    10, and the largest k is taken whose clusters are nearly the best separated, windows on boundaries left out; if they
    are no better separated than those of random maps with the spectra of these scores, it is 1. A phase that nowhere
    fills a window is not counted, and a gradual change counts as phases only if it ends in places that are alike.

    With `rotation_invariant`, a spectrum is compared by the moduli of the angular Fourier coefficients of its rings,
    orders 0, 2, ... 12 (`stemseg_core.phases.frequencies`); patterns and residuals are those of the spectra themselves.

    Cost: three passes over the virtual matrix of spectra of each size, plus work on the scores. Memory: 4 bytes times
    rank a window and a quarter more for the default method, checked against `max_memory` before work starts; the image,
    and some 200 MB of interpreter and libraries, are not counted. Memory that is left keeps rows for the later passes.
    On dense grids of large windows the restarts of k-means are run on every m-th window along both axes, some 100,000
    or more, and the best is iterated on all of them.

    Examples
    --------
    >>> from stemseg_core import datasets, segment
    >>> image, truth = datasets.two_phase((256, 256))
    >>> result = segment(image, 2, pixel_size=datasets.PIXEL_SIZE)
    >>> agreement = (result.label_image == truth).mean()
    >>> bool(max(agreement, 1 - agreement) > 0.95)
    True
    """
    _check_phases(image, n_phases, method, rank)
    if windows is not None and method != "kmeans":
        raise ValueError(
            f"windows must be left out with method={method!r}, which uses one size of windows; give window instead"
        )
    _check_numbers(k_min=k_min, normalize=normalize, smooth=smooth, regularize=regularize, min_area=min_area)
    _check_others(whiten=whiten, rotation_invariant=rotation_invariant, units=units, progress=progress)
    check_random_state(random_state)
    calibration = _pixel_size(pixel_size)
    check_k_max(k_max, zoom, calibration, units)
    if random_state is None:
        random_state = int(np.random.SeedSequence().generate_state(1)[0])
    features = WindowFFT(step=step, taper=taper, detrend=detrend, zoom=zoom, scale=scale, invalid=invalid)
    execution = Execution.of(n_jobs, max_memory, progress)
    frames = Frames.survey(image, mask, invalid)
    sizes = window_sizes(frames, window, windows, pixel_size=calibration, execution=execution)
    frequencies = Frequencies(k_min, k_max, calibration or (1.0, 1.0), bool(rotation_invariant))
    check_windows(sizes, frequencies, zoom, np.shape(image), units, chosen=window is None and windows is None)
    scales = Scales(sizes, features, frames, frequencies=frequencies) if method == "kmeans" else None
    features.set_params(window=sizes[0], step=step_of(sizes[0], step))
    used = {name: value for name, value in features.get_params().items() if name not in _SETTINGS} | {
        "n_phases": n_phases,
        "method": method if isinstance(method, str) else repr(method),
        "windows": tuple(scales.sizes) if scales else None,
        "k_min": k_min,
        "k_max": k_max,
        "rotation_invariant": rotation_invariant,
        "normalize": normalize,
        "rank": rank,
        "smooth": smooth,
        "whiten": whiten,
        "regularize": regularize,
        "min_area": min_area,
        "random_state": random_state,
    }
    if calibration and (k_max is not None or rotation_invariant):
        used["pixel_size"] = calibration  # of which the result does not depend otherwise
    params = {name: value.item() if isinstance(value, np.generic) else value for name, value in used.items()}
    matrix = scales.maps if scales else features.matrix_of(frames)
    _check_pixels(frames, min_area)
    most = MAX_PHASES if n_phases == AUTO else int(n_phases)
    if n_phases != AUTO and matrix.shape[0] < most:
        raise ValueError(
            f"n_phases={n_phases} needs as many windows, the image has {matrix.shape[0]}; take a smaller step or window"
        )
    if scales:
        finding = scales.needed_bytes(most, rank, execution.n_threads)
    else:
        n_features = frequencies.n_features(matrix.half_plane)
        finding = phases_bytes(matrix, n_features, method, most, rank=rank, n_threads=execution.n_threads)
    if regularize:
        finding = max(finding, regularized_bytes(matrix.included.size, most))
    finding += frequencies.moments_bytes((scales.large if scales else matrix).half_plane, matrix.dtype)
    needed = _needed_memory(matrix, finding, most, execution.n_threads, regions=min_area > 1)
    require_memory(needed, max_memory, f"segmenting {matrix.shape[0]} windows", "take a larger step or a smaller rank")
    # NMF, which passes over the spectra many times, keeps them itself.
    rows = matrix if method == "nmf" else cached(matrix, spare_memory(needed, max_memory))
    spectra = Spectra(rows, matrix.half_plane, frequencies, normalize)
    grid = Grid.of(matrix)
    settings = Settings(rank, smooth, bool(whiten), random_state, n_jobs, max_memory, progress)
    with one_blas_thread():
        memberships, partition, estimate, separation = (
            scales.find_phases(spectra, grid, n_phases, settings)
            if scales
            else find_phases(method, spectra, grid, n_phases, settings)
        )
        memberships = regularized(memberships, grid, regularize, execution)
        memberships, labels, label_image = _place(memberships, matrix, min_area, n_jobs)
        components, residual = patterns(rows, memberships, labels if partition else None, execution)
    planes = grid.to_planes(memberships)
    del memberships
    result = Segmentation(
        image=matrix.image[0],
        labels=grid.to_map(labels, fill=-1),
        label_image=label_image,
        abundances=planes,
        components=matrix.to_image(components),
        fractions=_shares_of(label_image, len(planes)),
        confidence=margin(planes),
        residual=grid.to_map(residual),
        centers=grid.centers(),
        ky=matrix.ky,
        kx=matrix.kx,
        pixel_size=calibration,
        units=units,
        params=params | {"n_phases": len(planes)},
        versions=versions(),
        estimate=estimate,
        separation=separation,
    )
    return _with_warnings(result)


#: Blocks of rows that a thread holds beside what it works on: transforms of image rows, products, sums.
SCRATCH_BLOCKS = 8
#: Parameters of `WindowFFT` that do not decide the result.
_SETTINGS = ("dtype", "n_jobs", "max_memory", "progress")


def _shares_of(label_image: NDArray[np.int32], k: int) -> NDArray[np.float64]:
    """Of the pixels that are not excluded, the share of each phase."""
    counted = np.array([np.count_nonzero(label_image == phase) for phase in range(k)])
    return counted / max(1, counted.sum())


def _with_warnings(result: Segmentation) -> Segmentation:
    """The result, once its doubts are told to the caller of `segment`."""
    for doubt in result.doubts:
        warnings.warn(doubt, PhaseWarning, stacklevel=3)
    return result


def _check_phases(image: ArrayLike, n_phases: Any, method: Any, rank: Any) -> None:
    """Refuse wrong images, numbers of phases and methods before any work."""
    refuse_names(image)
    if np.ndim(image) != 2:
        raise ValueError(f"image must be 2-D (y, x), got {np.ndim(image)}-D; segment one image of a stack at a time")
    check_whole(rank=rank)
    if isinstance(n_phases, str):
        if n_phases != AUTO:
            raise ValueError(f"n_phases must be a whole number, at least 1, or {AUTO!r}; got {n_phases!r}")
        if not isinstance(method, str):
            raise ValueError(f"n_phases={AUTO!r} needs one of the methods {METHODS}: an estimator has its own number")
        n_phases = 1
    check_whole(n_phases=n_phases)
    if isinstance(method, str) and method not in METHODS:
        raise ValueError(f"method must be one of {METHODS} or a scikit-learn estimator, got {method!r}")
    if isinstance(method, str) and method in ("nfindr", "vca", "spa") and n_phases > rank + 1:
        raise ValueError(f"method={method!r} finds at most rank + 1 = {rank + 1} phases, got n_phases={n_phases}")
    if isinstance(method, str) and method in ("atgp", "ica") and n_phases > rank:
        raise ValueError(f"method={method!r} finds at most rank = {rank} phases, got n_phases={n_phases}")
    if not isinstance(method, str) and not hasattr(method, "fit"):
        raise TypeError(f"method must be one of {METHODS} or an object with fit(), got {type(method).__name__}")


def _check_numbers(**parameters: object) -> None:
    """Refuse other wrong numbers before any work."""
    for name, number in parameters.items():
        high = {"normalize": 1, "regularize": 1e6, "min_area": 1e15}.get(name, np.inf)
        whole = name == "min_area"
        wanted, kind = ("whole number", Integral) if whole else ("number", Real)
        if isinstance(number, bool) or not isinstance(number, kind) or not 0 <= float(number) <= high:
            raise ValueError(f"{name} must be a {wanted} from 0 to {high:g}, got {number!r}")


def _check_pixels(frames: Frames, min_area: int) -> None:
    """Refuse an image without a lattice, and regions that it has no room for."""
    height, width = frames.image.shape[1:]
    if min_area > frames.image.size:
        raise ValueError(
            f"min_area must be at most the area of the image, {height} x {width} = {frames.image.size} pixels; "
            f"got {min_area}"
        )
    low, high = frames.extremes[0]
    if low == high:
        raise ValueError(f"image is {low} in every pixel: there is no lattice to see; leave such images out")


def _check_others(*, whiten: object, rotation_invariant: object, units: object, progress: object) -> None:
    for name, switch in (("whiten", whiten), ("rotation_invariant", rotation_invariant)):
        if not isinstance(switch, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {switch!r}")
    if not isinstance(units, str):
        raise TypeError(f"units must be the name of a unit of length, got {units!r}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a function of (done, total, stage), got {progress!r}")


def _pixel_size(value: float | Sequence[float] | None) -> tuple[float, float] | None:
    if value is None:
        return None
    try:
        sizes = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        sizes = np.empty(0)
    if sizes.shape not in ((), (2,)) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"pixel_size must be a positive number, or a (y, x) pair of them; got {value!r}")
    y, x = np.broadcast_to(sizes, 2)
    return float(y), float(x)


def _place(
    memberships: NDArray[np.float32], matrix: WindowMatrix, min_area: int, n_jobs: int | None
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]:
    """Memberships (n, k), the largest phase first; phases of the windows (n,); and of the pixels (y, x)."""
    grid = Grid.of(matrix)
    label_image = grid.label_image(memberships, matrix.image.shape[-2:], Execution.of(n_jobs))
    if matrix.mask is not None:
        label_image[matrix.mask[0]] = -1
    found = without_small_regions(label_image, min_area)
    moved = None if found is label_image else grid.at_centers(found != label_image)[grid.included]
    order = order_by_size(found, memberships.shape[1])
    label_image = np.append(np.argsort(order), -1).astype(np.int32)[found]
    del found
    memberships = memberships[:, order]
    labels = memberships.argmax(axis=1).astype(np.int32)
    if moved is not None:
        labels[moved] = grid.at_centers(label_image)[grid.included][moved]
    return memberships, labels, label_image


def _needed_memory(matrix: WindowMatrix, finding: float, n_phases: int, n_threads: int, *, regions: bool) -> float:
    """Bytes that `segment` holds at once beside the image: while phases are found, or when the maps are made."""
    n_grid, n_pixels = matrix.included.size, matrix.image.size
    # Labels of the pixels, twice while they are put in order, of a masked image with what finds the nearest pixels;
    # memberships twice while they are put in order, then with labels, confidence, residual and centres.
    ordered = 4 * n_pixels * (2 if matrix.mask is None else 5) + matrix.shape[0] * 4 * n_phases
    maps = 4 * n_pixels + n_grid * (4 * n_phases + max(12 + 4 * n_phases, 28))
    if regions:
        ordered = max(ordered, without_small_regions_bytes(n_pixels) + matrix.shape[0] * 4 * n_phases)
    return max(finding, ordered, maps) + n_threads * SCRATCH_BLOCKS * BLOCK_BYTES
