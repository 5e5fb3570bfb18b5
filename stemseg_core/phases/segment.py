"""From an image to the map of its phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.phases.contrast import NOTE, by_contrast, corrected
from stemseg_core.phases.frequencies import check_windows
from stemseg_core.phases.memberships import margin, order_by_size
from stemseg_core.phases.methods import OneSize, method_of
from stemseg_core.phases.multiscale import Multiscale
from stemseg_core.phases.needed import needed_bytes
from stemseg_core.phases.parameters import Parameters
from stemseg_core.phases.patterns import patterns
from stemseg_core.phases.pixels import Pixels, pixels_bytes
from stemseg_core.phases.regions import without_small_regions
from stemseg_core.phases.regularize import regularized
from stemseg_core.phases.scores import AUTO, PhaseMap, Problem
from stemseg_core.phases.segmentation import Segmentation, phase_warnings
from stemseg_core.phases.spectra import Spectra
from stemseg_core.phases.vacuum import noisy_bytes, with_faint_noise
from stemseg_core.phases.window_sizes import step_of, window_sizes
from stemseg_core.rows import sources
from stemseg_core.stages.compress import RANK
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError, warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState, as_seed
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.versions import versions
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.images import refuse_names
from stemseg_core.windows.periods import period_bytes, window_of


@shared_docs
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
    rank: int = RANK,
    smooth: float = 12,
    whiten: bool = False,
    regularize: float = 0,
    min_area: int = 0,
    mask: ArrayLike | None = None,
    annotations: str = "exclude",
    contrast: str = "auto",
    invalid: str = "raise",
    pixel_size: float | Sequence[float] | None = None,
    units: str = "nm",
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    max_memory: MemoryLimit = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Segment an atomic-resolution image into phases by their local lattices.

    The modulus of the Fourier transform in a sliding window is the spectrum of the lattice there. Large windows are
    grouped by their lattices, whatever the thickness, or by their spectra; smaller ones by their spectra. Windows deep
    in a phase then teach how to tell the phases apart in small windows, and these say where the boundaries are.
    Spectra are compared without their lowest frequencies, compressed to scores, and smoothed over neighbouring windows.

    Parameters
    ----------
    image : array-like of shape (y, x)
        Any real dtype; never changed.
    n_phases : int or "auto"
        Number of phases, k. "auto": the number, 1 to 10, is found; `Segmentation.estimate` says how, and
        ``params["n_phases"]`` is the number. Not with an estimator as `method`.
    method : {"kmeans", "nfindr", "vca", "spa", "atgp", "nmf", "ica"} or estimator, default="kmeans"
        How windows become memberships of phases:

        - "kmeans": clusters of lattices or of spectra, whichever make the surest map, boundaries from small windows;
          the best partition.
        - "nfindr": the purest windows are endmembers, and memberships are their abundances. A spectrum that is found
          only in spots or bands no wider than a window is taken for a defect, and is no endmember.
        - "vca", "spa", "atgp": the same with endmembers by `VCA`, `SPA` or `ATGP`.
        - "nmf": non-negative parts of the spectra and their abundances, for phases that overlap in projection; learnt
          without the windows that see what "nfindr" takes for a defect.
        - "ica": clusters of independent sources of the scores.
        - a scikit-learn estimator: a clusterer (`labels_` after `fit`), or a transformer to non-negative weights; it
          is cloned and fitted to the scores, (n, rank), which have both signs.
    window : int or (int, int), optional
        Side, in pixels, (y, x), of the windows that the maps have an entry for. Default: chosen from the longest
        period of the image, and square in length by `pixel_size`, see Notes; ``params`` has it. A length of 2 nm is
        ``round(2 / pixel_size)`` pixels.
    windows : sequence of int or (int, int), optional
        For the default method: windows of all these sizes are used together. In the largest the phases are told apart;
        the others find the boundaries. The `window` of the maps is one of them, by default the second largest.
        Default: twice the `window`, the window, and three quarters of it.
    step, taper, detrend, zoom, scale, invalid
        Of the spectra, see `WindowFFT`; `step` is by default an eighth of the window. With the default ``zoom=2``
        frequencies along the axes end at 0.25 cycles per pixel; ``zoom=1`` keeps all, for lattice planes less than 4
        pixels apart.
    k_min : float, default=3
        Frequencies below this number of cycles a window are ignored: thickness, contamination and the zero beam's
        skirt.
    k_max : float, optional
        Frequencies above it are ignored: the information limit, beyond which there is noise alone. In cycles per unit
        of length, as on `Segmentation.frequency_axes`: 1/nm if `pixel_size` is in nm, per pixel if there is none. A
        limit above all frequencies that `zoom` keeps is refused.
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
    annotations : {"exclude", "keep"}, default="exclude"
        Scale bars and text burnt into the pixels (`stemseg_core.windows.annotations`): no window sees them, pixels
        under them get the phase around them, and `Segmentation.notes` says where they are. "keep": not looked for.
    contrast : {"auto", "only", "off"}, default="auto"
        What intensity is used for. "auto": where two phases differ in it clearly, it corrects what windows have got
        grossly wrong, such as a particle that fills its window from outside; and if nothing is periodic, regions that
        are clearly of their own intensity or texture are the phases, as `Segmentation.notes` says. "only": phases are
        such regions, lattice or not. "off": none; phases are what windows see.
    pixel_size : float or (float, float), optional
        Size of a pixel, (y, x), in `units`.
    units : str, default="nm"
        Unit of length.
    random_state : int, RandomState, Generator or None, default=0
        Seed of what is drawn at random; ``params`` has it. None or a generator draws one.
    {execution}

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
    The default window is 64 px for a lattice of 17 px period: the longest that shows, that of a superlattice or of a
    cell with a motif. It grows with the square root of the period, in multiples of 8 px from 32 to 192, but at least 64
    windows cover the image side by side, unless they would hold less than one and a half periods. A window smaller than
    the period is warned of: cells may come out as phases. If pixels are not square, the window is square in length and
    covers the same area. Large windows have steps of a sixteenth of their side, or `step` if that is larger.

    Lattices are compared by power spectra, which add up where windows are averaged. Only the mean over neighbours is
    divided by its length, so that neither thickness nor dose makes a phase. Phases without a lattice show in the
    spectra of large windows, and phases that are too small for large windows in those of the windows of the maps. Of
    these three ways to group windows, the one with the largest mean confidence is taken. What changes from one window
    to the next, such as disorder at an interface or a step of intensity, does not tell phases apart. A window between
    two phases holds some of both. If its spectrum is explained as well by a mixture of the phases beside it as by a
    phase that is only a thin rim, it is given to the former.

    How the number of phases is found: maps are made for k = 2, 3, ..., up to 10, and the largest k is taken whose map
    passes the test that every map is judged by (`Segmentation.separation`); two numbers in a row that fail end the
    search. Windows on boundaries do not count. A phase that nowhere fills a window is not counted, nor is a band
    between two phases that looks like a mixture of them. What changes gradually, over more than the width of a window
    with its smoothing, is one phase. Maps by `contrast` are judged by the distance of the nearest two intensities, or
    textures, over their scatter, and the first number that fails ends their search.

    With `rotation_invariant`, a spectrum is compared by the moduli of the angular Fourier coefficients of its rings, of
    orders 0, 2, ... 12 (`stemseg_core.phases.frequencies`). Patterns and residuals are of the spectra themselves.

    Cost: three passes over the virtual matrix of spectra of each size, plus work on the scores. Memory: 4 bytes times
    `rank` a window, and a quarter more for the default method. It is compared with `max_memory` before work starts; the
    image, and some 200 MB of interpreter and libraries, are not counted. Memory that is left caches rows for the later
    passes. On dense grids of large windows the restarts of k-means are run on every m-th window along both axes, at
    least 100,000, and the best is iterated on all windows.

    Examples
    --------
    >>> from stemseg_core import datasets, segment
    >>> image, truth = datasets.two_phase((256, 256))
    >>> result = segment(image, 2, pixel_size=datasets.PIXEL_SIZE)
    >>> agreement = (result.label_image == truth).mean()
    >>> bool(max(agreement, 1 - agreement) > 0.95)
    True
    """
    parameters = Parameters(
        n_phases=n_phases,
        method=method,
        window=window,
        windows=windows,
        step=step,
        taper=taper,
        detrend=detrend,
        zoom=zoom,
        scale=scale,
        k_min=k_min,
        k_max=k_max,
        rotation_invariant=rotation_invariant,
        normalize=normalize,
        rank=rank,
        smooth=smooth,
        whiten=whiten,
        regularize=regularize,
        min_area=min_area,
        mask=mask,
        annotations=annotations,
        contrast=contrast,
        invalid=invalid,
        pixel_size=pixel_size,
        units=units,
        random_state=random_state,
    )
    result = _segment(image, parameters, Execution.of(n_jobs, max_memory, progress))
    for warning in phase_warnings(result):
        warn(warning)
    return result


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done with an image.

    Attributes
    ----------
    parameters : Parameters
        Checked, with the sizes and steps of the windows.
    windows : OneSize or Multiscale
        Windows over the image, in which phases are found.
    problem : Problem
        Spectra and grid of those that the maps have an entry for.
    pixels : Pixels
        Which are excluded, and notes.
    period : float or None
        Longest period of the image, in pixels.
    """

    parameters: Parameters
    windows: OneSize | Multiscale
    problem: Problem
    pixels: Pixels
    period: float | None


@dataclass(frozen=True, eq=False)
class Placed:
    """Where phases are, the largest first.

    Attributes
    ----------
    found : PhaseMap
        With the memberships of the phases in this order.
    labels : ndarray of shape (n,), int32
        Phase of each included window.
    label_image : ndarray of shape (y, x), int32
        Phase of each pixel; -1: excluded.
    """

    found: PhaseMap
    labels: NDArray[np.int32]
    label_image: NDArray[np.int32]


def _segment(image: ArrayLike, parameters: Parameters, execution: Execution) -> Segmentation:
    """`segment`, without its warnings."""
    refuse_names(image)
    if np.ndim(image) != 2:
        raise ParameterError(
            f"`image` must be 2-D (y, x), got {np.ndim(image)}-D; segment one image of a stack at a time",
            image=np.shape(image),
        )
    execution.require(pixels_bytes(np.size(image)), "looking at the pixels", "segment a part of the image")
    plan = _plan(image, parameters.checked(), execution)
    with one_blas_thread():
        found = by_contrast(plan.pixels.frames, plan.problem, plan.period) or plan.windows.find_phases(plan.problem)
        found = _regularised(found, plan)
        placed = _place(found, plan)
        del found  # the same memberships in another order
        return _described(plan, placed)


def _plan(image: ArrayLike, parameters: Parameters, execution: Execution) -> Plan:
    """Lay windows over the image; whatever is refused, memory included, is refused here."""
    features, frequencies, method = parameters.features(), parameters.frequencies(), method_of(parameters.method)
    pixels = Pixels.of(image, parameters)
    frames = pixels.frames
    window, windows = parameters.window, parameters.windows
    execution.require(period_bytes(frames), "looking for the period", "segment a part of the image")
    suited, period = window_of(frames, pixel_size=parameters.pixel_size, execution=execution)
    sizes = window_sizes(window, windows, suited)
    chosen = window is None and windows is None
    check_windows(sizes, frequencies, parameters.zoom, np.shape(image), parameters.units, chosen=chosen)
    size, step = sizes[0], step_of(sizes[0], parameters.step)
    features.set_params(window=size, step=step)
    seen = with_faint_noise(frames, size, as_seed(parameters.random_state), execution)
    laid: OneSize | Multiscale
    if method.of_several_sizes:
        laid = Multiscale.over(seen, sizes, features, frequencies)
    else:
        laid = OneSize(method, features.matrix_of(seen), frequencies)
    matrix = laid.maps
    n = matrix.shape[0]
    if parameters.n_phases != AUTO and n < int(parameters.n_phases):
        raise ParameterError(
            f"`n_phases=` needs as many windows, the image has {n}; take a smaller step or window",
            n_phases=parameters.n_phases,
        )
    needed = needed_bytes(laid, parameters, execution.n_threads) + (0 if seen is frames else noisy_bytes(frames))
    execution.require(needed, f"segmenting {n} windows", "take a larger step or a smaller rank")
    rows = matrix if method.keeps_rows else sources.cached(matrix, execution.spare(needed))
    spectra = Spectra(rows, matrix.half_plane, frequencies, parameters.normalize)
    problem = Problem(spectra, Grid.of(matrix), parameters, execution)
    return Plan(replace(parameters, window=size, step=step, windows=laid.sizes), laid, problem, pixels, period)


def _regularised(found: PhaseMap, plan: Plan) -> PhaseMap:
    """The same phases with short boundaries, if that is asked for."""
    grid, execution = plan.problem.grid, plan.problem.execution
    return replace(found, memberships=regularized(found.memberships, grid, plan.parameters.regularize, execution))


def _place(found: PhaseMap, plan: Plan) -> Placed:
    """Phases of the windows and of the pixels, without small regions."""
    matrix, grid, execution = plan.windows.maps, plan.problem.grid, plan.problem.execution
    memberships, parameters, label_image = found.memberships, plan.parameters, found.pixels
    if label_image is None or parameters.regularize:
        label_image = grid.label_image(memberships, matrix.image.shape[-2:], execution)
    plan.pixels.complete(label_image, matrix.window)
    cleaned = label_image
    if found.pixels is None and found.partition and parameters.contrast != "off":
        cleaned = corrected(label_image, plan.pixels.frames, grid, memberships.shape[1], execution)
    cleaned = without_small_regions(cleaned, parameters.min_area)
    moved = None if cleaned is label_image else grid.at_centers(cleaned != label_image)[grid.included]
    order = order_by_size(cleaned, memberships.shape[1])
    label_image = np.append(np.argsort(order), -1).astype(np.int32)[cleaned]
    del cleaned
    memberships = memberships[:, order]
    labels = memberships.argmax(axis=1).astype(np.int32)
    if moved is not None:
        labels[moved] = grid.at_centers(label_image)[grid.included][moved]
    return Placed(replace(found, memberships=memberships), labels, label_image)


def _described(plan: Plan, placed: Placed) -> Segmentation:
    """The result: what the phases look like, and all that is needed to make it again."""
    parameters, matrix, problem, found = plan.parameters, plan.windows.maps, plan.problem, placed.found
    grid, labels = problem.grid, placed.labels if found.partition else None
    components, residual = patterns(problem.spectra.rows, found.memberships, labels, problem.execution)
    planes = grid.to_planes(found.memberships)
    k = len(planes)
    sizes = np.array([np.count_nonzero(placed.label_image == phase) for phase in range(k)])
    return Segmentation(
        image=plan.pixels.frames.image[0],
        labels=grid.to_map(placed.labels, fill=-1),
        label_image=placed.label_image,
        abundances=planes,
        components=matrix.to_image(components),
        fractions=sizes / max(1, sizes.sum()),
        confidence=margin(planes),
        residual=grid.to_map(residual),
        centers=grid.centers(),
        ky=matrix.ky,
        kx=matrix.kx,
        pixel_size=parameters.pixel_size,
        units=parameters.units,
        params=replace(parameters, n_phases=k).to_dict(),
        versions=versions(),
        estimate=found.estimate,
        separation=found.separation,
        notes=plan.pixels.notes if found.pixels is None else (*plan.pixels.notes, NOTE),
        period=plan.period,
    )
