"""`unmix`: a spectral cube or a 4D scan to its components and where they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.cubes.cube import Cube, checked_mask, moved
from stemseg_core.cubes.data import Data, prepared
from stemseg_core.cubes.methods import METHODS, Factors, Task, method_of
from stemseg_core.cubes.parameters import AUTO, Parameters
from stemseg_core.cubes.unmixing import Unmixing
from stemseg_core.rows.blocks import stored
from stemseg_core.rows.pixels import box_of
from stemseg_core.rows.sources import BLOCK_BYTES, ClippedRows, Numbered, Rows
from stemseg_core.stages.count_splitting import SAMPLE_VALUES as COUNTED_VALUES
from stemseg_core.stages.count_splitting import OverdispersedError, split_counts
from stemseg_core.stages.eigenvalue_criteria import SingularValues, scree
from stemseg_core.stages.estimates import ComponentEstimate
from stemseg_core.stages.svd import SVD
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.system.types import Array, Partial
from stemseg_core.system.versions import versions

#: Most components that "auto" finds. Twice as many: more time, and a longer curve.
MOST_COMPONENTS = 16
#: Values (pixels times channels) of the sample that the number of components is found in, where the noise is not that
#: of counts. Twice as many: twice the time.
SAMPLE_VALUES = 4_000_000
#: Pixels of that sample, at least. Twice as many: more memory where channels are many.
LEAST_SAMPLE = 500


@shared_docs
def unmix(
    cube: Any,
    n_components: int | str,
    *,
    method: Any = "nmf",
    signal_axes: int | None = None,
    noise: Any = "auto",
    mask: Any = None,
    signal_mask: Any = None,
    signal_range: Any = None,
    axes: Any = None,
    bin: Any = None,
    invalid: str = "raise",
    faults: str = "exclude",
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    max_memory: MemoryLimit = None,
    progress: Progress | None = None,
) -> Unmixing:
    """Unmix a spectral cube (.., y, x, E), or a scan of patterns (.., y, x, ky, kx), into components and their maps.

    Parameters
    ----------
    cube : array-like of shape (map, signal)
        An array, a memory map, or an HDF5, zarr or Dask array, of which blocks are read; real numbers. Or what knows
        its axes: a signal of HyperSpy, a sidpy.Dataset, an xarray.DataArray, or a `Cube`, as
        `stemseg_core.io.open_cube` gives it.
    n_components : int or "auto"
        "auto" finds the number, up to 16.
    method : str or estimator, default="nmf"
        "nmf": amounts of spectra that only add up, values below 0 being taken as 0. "nfindr", "vca", "spa", "atgp": the
        purest pixels, and shares of them. "svd", "ica": directions of any sign. "kmeans": clusters and their mean
        spectra. Or an estimator of scikit-learn's kind.
    signal_axes : {{1, 2}}, optional
        How many of the last axes are the signal: 1 for spectra, 2 for patterns. Default: 1, or what the cube says.
    noise : {{"auto", "poisson"}}, None or array, default="auto"
        "poisson": values are counts, weighed so that the noise of each has the same variance (see `Weights`); results
        are in counts again. An array of variances, of the shape of the cube or of its signal. "auto": "poisson" for few
        whole numbers, which a note says.
    mask : array-like of bool of shape (map), optional
        True: left out.
    signal_mask : array-like of bool of shape (signal), optional
        True: left out.
    signal_range : (float, float), optional
        From, to, in units of the signal's axis; of patterns the distance from the origin of both axes, or from their
        middle if they have none.
    axes : sequence of Axis or dict, optional
        Name, offset, scale and units of each axis of the cube.
    bin : int or tuple of int, optional
        How many neighbours to sum along each axis of the cube. `mask` and `signal_mask` are of the binned cube.
    invalid : {{"raise", "exclude"}}, default="raise"
        Whether pixels with NaN or infinity are refused or left out.
    faults : {{"exclude", "keep"}}, default="exclude"
        Whether hot channels, and pixels whose spectrum has a spike, are left out; a note says which.
    {random_state}
    {execution}

    Returns
    -------
    Unmixing

    Raises
    ------
    ParameterError
        If a parameter is not as described.
    ValueError
        If the cube holds NaN or infinity, or nothing.
    MemoryError
        If more than `max_memory` would be needed.

    Notes
    -----
    Cost: two passes over the cube for the survey and the weights, those of the method, and one for the residual.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import unmix
    >>> rng = np.random.default_rng(0)
    >>> shares = rng.dirichlet(np.ones(2), (20, 30))
    >>> counts = rng.poisson(shares @ rng.random((2, 50)) * 40)
    >>> result = unmix(counts, 2)
    >>> result
    Unmixing(2 components by nmf; map 20 x 30, signal 50)
    >>> result.notes
    ('values are whole numbers, few on average: weighed as counts',)
    """
    execution = Execution.of(n_jobs, max_memory, progress, "unmix")
    asked = Parameters(
        n_components=n_components, method=method, signal_axes=signal_axes, noise=noise, mask=mask,
        signal_mask=signal_mask, signal_range=signal_range, axes=axes, bin=bin, invalid=invalid, faults=faults,
        random_state=random_state,
    ).checked()  # fmt: skip
    seed = asked.seed
    given = Cube.of(cube, signal_axes, axes, bin)
    said: tuple[str, ...] = ()
    if signal_range is not None:
        given = given.within(signal_range)
        if given.n_signal_axes == 2 and not given.has_origin:
            said = ("axes of the patterns have no origin: distances are from their middle",)
    given = given.without(checked_mask(signal_mask, "signal_mask", given.signal_shape))
    if not given.channels.any():
        raise ParameterError("`signal_mask` leaves no channel", signal_mask=signal_mask)
    kept = ~checked_mask(mask, "mask", given.map_shape).ravel()
    _require(given, n_components, method, noise, execution)
    with one_blas_thread():
        data = prepared(given, kept, noise, execution, invalid=invalid, exclude=faults == "exclude")
        estimate, found = _estimate(data, seed, execution) if n_components == AUTO else (None, ())
        k = int(n_components) if estimate is None else estimate.n_components
        if k > min(data.rows.shape):
            n, d = data.rows.shape
            raise ParameterError(
                f"`n_components` must be at most {min(n, d)}, the smaller of {n} pixels and {d} channels; got {k}",
                n_components=k,
            )
        way, rows, notes = method_of(method), data.rows, (*said, *data.notes, *found)
        if way.positive and data.n_negative:
            rows = ClippedRows(rows)
            notes = (*notes, f"{data.n_negative} values below 0 were taken as 0")
        factors = _ordered(way.find(k, Task(rows, data.weights, seed, execution)), method)
        left = _left(data.rows, factors, execution)
    params = replace(asked, n_components=k, signal_axes=given.n_signal_axes, bin=given.bins).to_dict()
    return _assembled(replace(data, notes=notes), factors, left, estimate, params)


def _require(cube: Cube, n_components: Any, method: Any, noise: Any, execution: Execution) -> None:
    """Refuse what would need more memory than there may be, before the cube is read."""
    rows = cube.rows()
    n, d = rows.shape
    k = min(MOST_COMPONENTS if n_components == AUTO else int(n_components), n, d)
    of_rows = 64 + 20 * k  # bytes: sums, weights, labels and residuals of a pixel; its maps, in several stages
    of_columns = 80 + 24 * k  # means, deviations, weights; the components
    blocks = 4 * execution.n_threads * max(BLOCK_BYTES, d * rows.dtype.itemsize)
    own = n * of_rows + cube.channels.size * of_columns + blocks + rows.buffer_bytes
    variances = 0 if noise is None or isinstance(noise, str) else 9 * np.size(noise)  # as float64, and compared with 0
    at_work = method_of(method).memory(k, rows, execution)
    if n_components == AUTO:
        at_work = max(at_work, estimate_bytes(k, rows, execution))
    execution.require(
        own + variances + at_work,
        f"unmix of {n} pixels by {d} channels",
        "bin the cube, take fewer channels or components",
    )


def estimate_bytes(k: int, rows: Rows, execution: Execution) -> float:
    """Predicted memory of what finds the number of components."""
    sample = Numbered(rows.sample(COUNTED_VALUES // rows.shape[1]))
    return float(execution.configure(SVD(min(k + 1, *sample.shape))).predicted_bytes(*sample.shape, rows.dtype))


def _estimate(data: Data, seed: int, execution: Execution) -> tuple[ComponentEstimate, tuple[str, ...]]:
    """How many components there are, of counts by their halves, else by "scree"; and what should be known of it."""
    notes: tuple[str, ...] = ()
    if data.counts:
        try:
            estimate = split_counts(data.rows, MOST_COMPONENTS, seed, execution)
        except OverdispersedError as error:
            notes = (f"number of components by scree: {error}",)
        else:
            return estimate, _at_the_limit(estimate)
    rows = Task(data.rows, data.weights, seed, execution).weighed()[0]
    sample = Numbered(rows.sample(max(LEAST_SAMPLE, SAMPLE_VALUES // rows.shape[1])))
    execution.require(4 * 8 * sample.shape[0] * sample.shape[1], "the number of components", "give it, or bin the cube")
    curve = scree(SingularValues(stored(sample, execution), MOST_COMPONENTS, seed))
    estimate = ComponentEstimate(curve.n_components, "scree", {"scree": curve})
    return estimate, (*notes, *_at_the_limit(estimate))


def _at_the_limit(estimate: ComponentEstimate) -> tuple[str, ...]:
    if estimate.n_components < MOST_COMPONENTS:
        return ()
    return (
        f"{MOST_COMPONENTS} components or more: noise of neighbours may be alike, as after smoothing; better give it",
    )


def _ordered(factors: Factors, method: Any) -> Factors:
    """Components by their share, the largest first; those of the SVD are in order."""
    if method == "svd":
        return factors
    sums = np.abs(factors.maps).sum(axis=0, dtype=np.float64) * np.abs(factors.components).sum(axis=1, dtype=np.float64)
    if factors.labels is not None:
        sums = factors.maps.sum(axis=0, dtype=np.float64)
    order = np.argsort(-sums, kind="stable")
    labels = None if factors.labels is None else np.argsort(order).astype(np.int32)[factors.labels]
    return Factors(factors.maps[:, order], factors.components[order], factors.offset, labels)


@dataclass(frozen=True, eq=False)
class _Left:
    """What the components leave: of each pixel (n,), of each channel (d,), and of the whole variance."""

    of_rows: NDArray[np.float32]
    of_columns: NDArray[np.float64]
    explained: float


def _left(rows: Rows, factors: Factors, execution: Execution) -> _Left:
    n, d = rows.shape
    relative = np.empty(n, np.float32)
    offset = np.zeros(d, rows.dtype) if factors.offset is None else factors.offset.astype(rows.dtype)
    state = factors.components.astype(rows.dtype), offset
    maps = factors.maps.astype(rows.dtype, copy=False)
    left, sums, squares = execution.run(_left_block, rows, *state, along=(maps,), out=(relative,), stage="residual")
    variance = float((squares - sums**2 / n).sum())
    return _Left(relative, np.sqrt(left / n), 1 - float(left.sum()) / variance if variance > 0 else 0.0)


def _left_block(block: Array, maps: Array, components: Array, offset: Array) -> tuple[Partial, Partial]:
    left = block - maps @ components
    left -= offset
    length = np.sqrt(np.einsum("ij,ij->i", block, block))
    relative = np.sqrt(np.einsum("ij,ij->i", left, left))
    np.divide(relative, length, out=relative, where=length > 0)
    ones = np.ones(len(block), block.dtype)
    left *= left
    columns = ones @ left
    np.multiply(block, block, out=left)
    return (relative,), tuple(sums.astype(np.float64) for sums in (columns, ones @ block, ones @ left))


def _assembled(
    data: Data, factors: Factors, left: _Left, estimate: ComponentEstimate | None, params: dict[str, Any]
) -> Unmixing:
    """Maps and signals on the axes of the cube."""
    cube = data.cube
    box = box_of(cube.channels)
    m = cube.n_signal_axes

    def as_map(values: NDArray[Any], fill: Any, dtype: Any) -> NDArray[Any]:
        out = np.full((data.kept.size, *values.shape[1:]), fill, dtype)
        out[data.kept] = values
        return out.reshape(*cube.map_shape, *values.shape[1:])

    def as_signal(values: NDArray[Any]) -> NDArray[Any]:
        out = np.full((*values.shape[:-1], *cube.signal_shape), np.nan, np.result_type(values.dtype, np.float32))
        out[..., cube.channels] = values
        return np.ascontiguousarray(out[(slice(None),) * (out.ndim - m) + box])

    shares = np.moveaxis(as_map(factors.maps, np.nan, np.float32), -1, 0)
    labels = factors.labels
    if (
        labels is None
        and isinstance(params["method"], str)
        and params["method"] in METHODS
        and METHODS[params["method"]].shares
    ):
        labels = np.argmax(factors.maps * factors.components.sum(axis=1), axis=1)
    axes = (*cube.axes[:-m], *(moved(a, s.start) for a, s in zip(cube.axes[-m:], box, strict=True)))
    return Unmixing(
        components=as_signal(factors.components),
        abundances=np.ascontiguousarray(shares),
        residual=as_map(left.of_rows, np.nan, np.float32),
        residual_spectrum=as_signal(left.of_columns.astype(np.float32)),
        axes=axes,
        explained_variance=left.explained,
        labels=None if labels is None else as_map(labels, -1, np.int32),
        offset=None if factors.offset is None else as_signal(factors.offset),
        n_signal_axes=m,
        estimate=estimate,
        notes=data.notes,
        params=params,
        versions=versions(),
    )
