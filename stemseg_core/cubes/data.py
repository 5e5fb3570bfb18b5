"""What of a cube is unmixed: without what is masked, no number, hot or hit; and the weights of its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.cubes.cube import Cube
from stemseg_core.cubes.faults import hot_channels, spiky_rows
from stemseg_core.cubes.survey import Survey
from stemseg_core.rows.sources import MaskedRows, Rows
from stemseg_core.rows.weights import Weights
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution


@dataclass(frozen=True, eq=False)
class Data:
    """What is unmixed.

    Attributes
    ----------
    cube : Cube
        With the channels that are used.
    kept : ndarray of bool of shape (pixels,)
        Which pixels.
    rows : Rows
        These pixels by these channels.
    weights : Weights or None
        Of their noise; None if nothing is known of it.
    n_negative : int
        Values below 0.
    counts : bool
        Whether values are counts, in whole numbers.
    notes : tuple of str
        What was guessed or left out.
    """

    cube: Cube
    kept: NDArray[np.bool_]
    rows: Rows
    weights: Weights | None
    n_negative: int
    counts: bool
    notes: tuple[str, ...]


def prepared(
    cube: Cube, kept: NDArray[np.bool_], noise: Any, execution: Execution, *, invalid: str, exclude: bool
) -> Data:
    """The rows that are unmixed: without what is masked, no number, hot or hit."""
    if not kept.any():
        raise ParameterError("`mask` leaves no pixel", mask=kept)
    notes: list[str] = list(cube.notes)
    rows = _some(cube.rows(), kept)
    survey = Survey.of(rows, cube.array.dtype, execution)
    if not survey.finite.all():
        n = int(np.count_nonzero(~survey.finite))
        first = np.unravel_index(np.flatnonzero(kept)[~survey.finite][0], cube.map_shape)
        where = f"{n} pixels hold NaN or infinity, the first at {tuple(map(int, first))}"
        if invalid == "raise" or n == len(survey.finite):
            raise ValueError(f"cube: {where}; take invalid='exclude' to leave them out, or a mask")
        notes.append(f"{where}: left out")
        kept = _less(kept, ~survey.finite)
    if exclude:
        cube, kept, found = _without_faults(cube, kept, survey, execution)
        notes += found
    rows = _some(cube.rows(), kept)
    weights, counts, said = _weights((cube, kept, rows), survey, noise, execution)
    return Data(cube, kept, rows, weights, survey.n_negative, counts, (*notes, *said))


def _without_faults(
    cube: Cube, kept: NDArray[np.bool_], survey: Survey, execution: Execution
) -> tuple[Cube, NDArray[np.bool_], list[str]]:
    notes = []
    hot = hot_channels(_some(cube.rows(), kept), survey, cube.channels, execution)
    if hot.any():
        survey = survey.of_columns(~hot[cube.channels])
        cube = cube.without(hot)
        notes.append(f"{_count(hot, 'channel')} far above all neighbours: left out as hot")
    hit = np.zeros(len(kept), bool)
    hit[np.flatnonzero(kept)] = spiky_rows(_some(cube.rows(), kept), survey, cube.channels, execution)
    if hit.any() and not hit[kept].all():
        kept = kept & ~hit
        what = "spectrum" if cube.n_signal_axes == 1 else "pattern"
        notes.append(f"{_count(hit.reshape(cube.map_shape), 'pixel')} with a spike in the {what}: left out")
    return cube, kept, notes


def _weights(
    used: tuple[Cube, NDArray[np.bool_], Rows], survey: Survey, noise: Any, execution: Execution
) -> tuple[Weights | None, bool, list[str]]:
    """Weights of the noise, whether values are counts, and what was guessed."""
    cube, kept, rows = used
    if noise is None:
        return None, False, []
    if isinstance(noise, str):
        if noise not in ("auto", "poisson"):
            raise ParameterError(f"`noise` must be 'auto', 'poisson', None or variances, got {noise!r}", noise=noise)
        if noise == "auto" and not survey.counts:
            return None, False, []
        if survey.n_negative:
            raise ParameterError(
                f"`noise=` is that of counts, but {survey.n_negative} values are below 0; take None, or variances",
                noise=noise,
            )
        said = ["values are whole numbers, few on average: weighed as counts"] if noise == "auto" else []
        if rows.shape == (len(survey.sums), len(survey.mean)):  # nothing was left out since
            weights = Weights.of_sums(survey.sums, survey.mean * len(survey.sums), counts=True)
        else:
            weights = Weights.of(rows, execution, counts=True)
        return weights, survey.whole, said
    variances = np.asarray(noise, np.float64)
    shape = (*cube.map_shape, *cube.signal_shape)
    if variances.shape not in (cube.signal_shape, shape) or not np.all(variances >= 0):
        raise ParameterError(
            f"`noise` must be variances, none below 0, of the shape of the cube {shape} "
            f"or of its signal {cube.signal_shape}; got shape {variances.shape}",
            noise=noise,
        )
    full = Cube.of(np.broadcast_to(variances, shape), cube.n_signal_axes)
    return Weights.of(_some(full.without(~cube.channels).rows(), kept), execution), False, []


def _some(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    return rows if kept.all() else MaskedRows(rows, kept)


def _less(kept: NDArray[np.bool_], dropped: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`kept` without those of its own that are dropped."""
    less = kept.copy()
    less[np.flatnonzero(kept)[dropped]] = False
    return less


def _count(found: NDArray[np.bool_], noun: str) -> str:
    """How many, and where the first are: "3 channels (17, 40, 41)"."""
    places = [tuple(map(int, place)) for place in np.argwhere(found)[:5]]
    listed = ", ".join(str(place[0]) if len(place) == 1 else str(place) for place in places)
    n = int(np.count_nonzero(found))
    return f"{n} {noun}{'s' * (n != 1)} ({listed}{', ...' * (n > 5)})"
