"""From an image to the map of its phases."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.blocks import BLOCK_BYTES, Rows, run
from stemseg_core.compress import CANCELLED
from stemseg_core.estimator import check_seed, check_whole
from stemseg_core.kept import keep
from stemseg_core.maps import Grid, first_and_lead, order_by_size
from stemseg_core.memory import require_memory, spare_memory
from stemseg_core.phases import AUTO, MAX_PHASES, METHODS, Settings, find_phases, phases_bytes
from stemseg_core.scales import Scales, step_of, window_sizes
from stemseg_core.segmentation import Segmentation
from stemseg_core.spectra import Spectra, row_norms
from stemseg_core.threads import Progress, effective_n_jobs, one_blas_thread
from stemseg_core.versions import versions
from stemseg_core.windows import WindowFFT, WindowMatrix


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
    normalize: float = 0.5,
    rank: int = 32,
    smooth: float = 12,
    whiten: bool = False,
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
    method : {"kmeans", "nfindr", "nmf", "ica"} or estimator, default="kmeans"
        How windows become memberships of phases:

        - "kmeans": clusters of lattices or of spectra, whichever make the surest map, boundaries from small windows;
          the best partition.
        - "nfindr": the purest windows are endmembers, memberships the non-negative shares that mix them.
        - "nmf": non-negative parts of the spectra and their shares, for phases that overlap in projection.
        - "ica": clusters of independent sources of the scores.
        - a scikit-learn estimator: a clusterer (`labels_` after `fit`), or a transformer to non-negative weights; it
          is cloned and fitted to the scores, (n, rank), which have both signs.
    window : int or (int, int), optional
        Side, in pixels, (y, x), of the windows that the maps have an entry for. Chosen from the strongest period of the
        image if not given, see Notes; ``params`` tells.
    windows : sequence of int or (int, int), optional
        For the default method: windows of all these sizes are used together. In the largest the phases are told apart;
        the others place the boundaries. The `window` of the maps is one of them, by default the largest but one.
        Default: twice the `window`, the window, and three quarters of it.
    step, taper, detrend, zoom, scale, invalid
        Of the spectra, see `WindowFFT`; `step` is by default an eighth of the window.
    k_min : float, default=3
        Frequencies below so many cycles a window are ignored: thickness, contamination and the zero beam's skirt.
    normalize : float, default=0.5
        Spectra are divided by their norm to this power; 0: amplitude counts in full, 1: not at all. The default method
        groups the large windows without their amplitudes, and uses this for the small ones.
    rank : int, default=32
        Scores kept of each spectrum.
    smooth : float, default=12
        Standard deviation, in pixels, of the Gaussian mean over neighbouring windows; 0: none.
    whiten : bool, default=False
        Scale the scores so that their noise, seen in the differences of neighbours, is equal in all directions. It
        brings out faint differences at low dose, and gradual ones such as drift and tilt as well. Not for "nfindr".
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
    128, but no larger than that 64 of them cover the image. The large windows have steps of a sixteenth of them, or
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
        raise ValueError(f"windows is for method='kmeans', others use one size; got method={method!r}: give window")
    _check(k_min=k_min, normalize=normalize, smooth=smooth, whiten=whiten, units=units, progress=progress)
    check_seed(random_state, or_none=True)
    calibration = _pixel_size(pixel_size)
    if random_state is None:
        random_state = int(np.random.SeedSequence().generate_state(1)[0])
    features = WindowFFT(step=step, taper=taper, detrend=detrend, zoom=zoom, scale=scale, invalid=invalid)
    sizes = window_sizes(image, mask, window, windows, n_jobs)
    scales = Scales(sizes, features, image, mask, k_min=k_min) if method == "kmeans" else None
    features.set_params(window=sizes[0], step=step_of(sizes[0], step))
    used = {name: value for name, value in features.get_params().items() if name not in _SETTINGS} | {
        "n_phases": n_phases,
        "method": method if isinstance(method, str) else repr(method),
        "windows": tuple(scales.sizes) if scales else None,
        "k_min": k_min,
        "normalize": normalize,
        "rank": rank,
        "smooth": smooth,
        "whiten": whiten,
        "random_state": random_state,
    }
    params = {name: value.item() if isinstance(value, np.generic) else value for name, value in used.items()}
    matrix = scales.maps if scales else features.matrix(image, mask)
    most = MAX_PHASES if n_phases == AUTO else int(n_phases)
    if n_phases != AUTO and matrix.shape[0] < most:
        raise ValueError(
            f"n_phases={n_phases} needs as many windows, the image has {matrix.shape[0]}; take a smaller step or window"
        )
    n_threads = effective_n_jobs(n_jobs)
    job = (most, rank, n_threads)
    finding = scales.needed_bytes(*job) if scales else phases_bytes(matrix, method, *job)
    needed = _needed_memory(matrix, finding, most, n_threads)
    require_memory(needed, max_memory, f"segmenting {matrix.shape[0]} windows", "take a larger step or a smaller rank")
    # NMF, which passes over the spectra many times, keeps them itself.
    rows = matrix if method == "nmf" else keep(matrix, spare_memory(needed, max_memory))
    spectra = Spectra(matrix, k_min, normalize, rows)
    grid = Grid.of(matrix)
    settings = Settings(rank, smooth, bool(whiten), random_state, n_jobs, max_memory, progress)
    with one_blas_thread():
        find = scales.find_phases if scales else partial(find_phases, method)
        memberships, partition, estimate = find(spectra, grid, n_phases, settings)
        label_image = grid.label_image(memberships, matrix.image.shape[-2:], n_jobs=n_jobs)
        k = memberships.shape[1]
        order = order_by_size(label_image, k)
        label_image = np.append(np.argsort(order), -1).astype(np.int32)[label_image]
        if matrix.mask is not None:
            label_image[matrix.mask[0]] = -1
        memberships = memberships[:, order]
        components, residual = _components(rows, memberships, partition, n_jobs, progress)
    planes = grid.to_planes(memberships)
    del memberships
    labels, confidence = first_and_lead(planes)
    labels[~matrix.included] = -1
    counted = np.array([np.count_nonzero(label_image == phase) for phase in range(k)])
    return Segmentation(
        image=matrix.image[0],
        labels=labels,
        label_image=label_image,
        abundances=planes,
        components=matrix.to_image(components),
        fractions=counted / max(1, counted.sum()),
        confidence=confidence,
        residual=grid.to_map(residual),
        centers=grid.centers(),
        ky=matrix.ky,
        kx=matrix.kx,
        pixel_size=calibration,
        units=units,
        params=params | {"n_phases": k},
        versions=versions(),
        estimate=estimate,
    )


#: Blocks of rows that a thread holds beside what it works on: transforms of image rows, products, sums.
SCRATCH_BLOCKS = 8
#: Parameters of `WindowFFT` that do not decide the result.
_SETTINGS = ("dtype", "n_jobs", "max_memory", "progress")


def _check_phases(image: ArrayLike, n_phases: Any, method: Any, rank: Any) -> None:
    """Refuse wrong images, numbers of phases and methods before any work."""
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
    if isinstance(method, str) and method == "nfindr" and n_phases > rank + 1:
        raise ValueError(f"method='nfindr' finds at most rank + 1 = {rank + 1} phases, got n_phases={n_phases}")
    if isinstance(method, str) and method == "ica" and n_phases > rank:
        raise ValueError(f"method='ica' finds at most rank = {rank} phases, got n_phases={n_phases}")
    if not isinstance(method, str) and not hasattr(method, "fit"):
        raise TypeError(f"method must be one of {METHODS} or an object with fit(), got {type(method).__name__}")


def _check(
    *, k_min: object, normalize: object, smooth: object, whiten: object, units: object, progress: object
) -> None:
    """Refuse other wrong parameters before any work."""
    for name, number, high in (("k_min", k_min, np.inf), ("normalize", normalize, 1), ("smooth", smooth, np.inf)):
        if not isinstance(number, Real) or not 0 <= float(number) <= high:
            raise ValueError(f"{name} must be a number from 0 to {high}, got {number!r}")
    if not isinstance(whiten, bool | np.bool_):
        raise TypeError(f"whiten must be True or False, got {whiten!r}")
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


def _needed_memory(matrix: WindowMatrix, finding: float, n_phases: int, n_threads: int) -> float:
    """Bytes that `segment` holds at once beside the image: while phases are found, or when the maps are made."""
    n_grid, n_pixels = matrix.included.size, matrix.image.size
    # Labels of the pixels, twice while they are put in order, of a masked image with what finds the nearest pixels;
    # memberships twice while they are put in order, then with labels, confidence, residual and centres.
    ordered = 4 * n_pixels * (2 if matrix.mask is None else 5) + matrix.shape[0] * 4 * n_phases
    maps = 4 * n_pixels + n_grid * (4 * n_phases + max(4 + 4 * n_phases, 28))
    return max(finding, ordered, maps) + n_threads * SCRATCH_BLOCKS * BLOCK_BYTES


def _components(
    rows: Rows,
    memberships: NDArray[np.float32],
    partition: bool,
    n_jobs: int | None,
    progress: Progress | None,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Spectrum of each phase (k, d) in the chosen scale, and how much of each window's spectrum they leave out (n,).

    The spectra are those that, mixed by the memberships, are nearest to the windows' spectra in least squares; for a
    partition that is the mean over each phase. No spectrum is negative.
    """
    options: dict[str, Any] = {"n_jobs": n_jobs, "progress": progress}
    gram, sums = run(_weighted_sums, rows, partition, along=(memberships,), stage="components", **options)
    components = np.maximum(np.linalg.lstsq(gram, sums, rcond=None)[0], 0).astype(rows.dtype)
    residual = np.empty(len(memberships), np.float32)
    exact = components.astype(np.float64)
    options |= {"along": (memberships,), "out": (residual,), "stage": "residual"}
    run(_residual_block, rows, components, exact @ exact.T, **options)
    return components, residual


def _weighted_sums(
    block: NDArray[Any], memberships: NDArray[Any], partition: bool
) -> tuple[None, tuple[NDArray[Any], NDArray[Any]]]:
    k = memberships.shape[1]
    weights = np.eye(k, dtype=memberships.dtype)[memberships.argmax(axis=1)] if partition else memberships
    weights64 = weights.astype(np.float64)
    return None, (weights64.T @ weights64, (weights.T @ block).astype(np.float64))


def _residual_block(
    block: NDArray[Any], memberships: NDArray[Any], components: NDArray[Any], gram: NDArray[np.float64]
) -> tuple[tuple[NDArray[Any]], None]:
    """|x - a C| / |x| of rows x, with |x - a C|^2 = |x|^2 - 2 a (C x) + a C C^T a^T where that does not cancel."""
    norms = row_norms(block)
    squares = norms**2
    a = memberships.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        left = squares + np.einsum("ij,ij->i", a, a @ gram - 2 * (block @ components.T))
        direct = ~((left >= CANCELLED * squares) & (left < np.inf))
        left = np.sqrt(np.maximum(left, 0))
    if direct.any():
        left[direct] = row_norms(block[direct] - memberships[direct].astype(block.dtype) @ components)
    return (left / np.where(norms > 0, norms, 1),), None
