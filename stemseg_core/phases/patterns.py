"""What the phases look like: their spectra, and what these leave of each window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.spectra import row_norms
from stemseg_core.rows.sources import Rows
from stemseg_core.rows.transitional import run
from stemseg_core.stages.compress import CANCELLED
from stemseg_core.system.threads import Progress


def patterns(
    rows: Rows,
    memberships: NDArray[np.float32],
    labels: NDArray[np.int32] | None,
    n_jobs: int | None,
    progress: Progress | None,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Spectrum of each phase (k, d) in the chosen scale, and how much of each window's spectrum they leave out (n,).

    The spectra are those that, mixed by the memberships, are nearest to the windows' spectra in least squares; for a
    partition by `labels` (n,) that is the mean over each phase. No spectrum is negative.
    """
    options: dict[str, Any] = {"n_jobs": n_jobs, "progress": progress}
    along, k = (memberships if labels is None else labels,), memberships.shape[1]
    gram, sums = run(_weighted_sums, rows, k, along=along, stage="components", **options)
    components = np.maximum(np.linalg.lstsq(gram, sums, rcond=None)[0], 0).astype(rows.dtype)
    residual = np.empty(len(memberships), np.float32)
    exact = components.astype(np.float64)
    options |= {"along": (memberships,), "out": (residual,), "stage": "residual"}
    run(_residual_block, rows, components, exact @ exact.T, **options)
    return components, residual


def _weighted_sums(block: NDArray[Any], shares: NDArray[Any], k: int) -> tuple[None, tuple[NDArray[Any], NDArray[Any]]]:
    weights = np.eye(k, dtype=np.float32)[shares] if shares.ndim == 1 else shares
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
