"""What the phases look like: their spectra, and what these leave of each window."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.spectra import row_norms
from stemseg_core.rows.sources import Rows
from stemseg_core.stages.compress import CANCELLED
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array, Partial


class Patterns(NamedTuple):
    """Spectra (k, d) of the phases, and the share (n,) of each window's spectrum that they leave out."""

    components: Array
    residual: NDArray[np.float32]


def patterns(
    rows: Rows, memberships: NDArray[np.float32], labels: NDArray[np.int32] | None, execution: Execution
) -> Patterns:
    """Spectrum of each phase in the chosen scale, and how much of each window's spectrum they leave out.

    The spectra are those that, mixed by the memberships (n, k), are nearest to the windows' spectra in least squares.
    For a partition by `labels` (n,) that is the mean over each phase. No spectrum is negative.
    """
    weights, k = memberships if labels is None else labels, memberships.shape[1]
    gram, sums = execution.run(_weighted_sums_block, rows, k, along=(weights,), stage="components")
    components = np.maximum(np.linalg.lstsq(gram, sums, rcond=None)[0], 0).astype(rows.dtype)
    residual = np.empty(len(memberships), np.float32)
    exact = components.astype(np.float64)
    state = (components, exact @ exact.T)
    execution.run(_residual_block, rows, *state, along=(memberships,), out=(residual,), stage="residual")
    return Patterns(components=components, residual=residual)


def _weighted_sums_block(block: Array, weights: Array, k: int) -> tuple[None, Partial]:
    """W'W and W'X of a block of rows X; `weights` W (m, k), or labels (m,) that stand for weights of 0 and 1."""
    W = np.eye(k, dtype=np.float32)[weights] if weights.ndim == 1 else weights
    W64 = W.astype(np.float64)
    return None, (W64.T @ W64, (W.T @ block).astype(np.float64))


def _residual_block(
    block: Array, memberships: Array, components: Array, gram: NDArray[np.float64]
) -> tuple[Partial, None]:
    """|x - a C| / |x| of rows x, with |x - a C|^2 = |x|^2 - 2 a (C x) + a C C' a' where that does not cancel."""
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
