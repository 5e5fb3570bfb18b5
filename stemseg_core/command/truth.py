"""How far what was found in simulated data is from what they were made of, for `stemseg demo`.

Tests: tests/test_unmix_command.py, tests/test_cli.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from stemseg_core.cubes.unmixing import Unmixing


def accuracy(labels: NDArray[Any], truth: NDArray[Any]) -> float:
    """Share of the pixels whose label is right, phases paired with those of the truth in the best way."""
    together = np.zeros((int(labels.max()) + 1, int(truth.max()) + 1), np.int64)
    counted = labels >= 0
    np.add.at(together, (labels[counted], truth[counted]), 1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(together[rows, columns].sum() / labels.size)


class Errors(NamedTuple):
    """Of components and maps that are paired with the true ones in the best way.

    Attributes
    ----------
    angle : float
        Mean angle between spectra or patterns, in degrees.
    shares : float
        Root of the mean square of the errors of the shares, 0 to 1.
    """

    angle: float
    shares: float


def errors(found: Unmixing, components: NDArray[Any], shares: NDArray[Any]) -> Errors:
    """Errors of an unmixing.

    Parameters
    ----------
    found : Unmixing
        With amounts or shares, of the whole map and signal.
    components : ndarray of shape (k, signal)
    shares : ndarray of shape (k, map)
    """
    k = len(found.components)
    ours, true = (np.nan_to_num(a.reshape(len(a), -1)).astype(float) for a in (found.components, components))
    lengths = np.linalg.norm(ours, axis=1)[:, np.newaxis] * np.linalg.norm(true, axis=1)
    angles = np.degrees(np.arccos(np.clip(ours @ true.T / np.where(lengths > 0, lengths, 1), -1, 1)))
    parts = found.abundances.reshape(k, -1) * ours.sum(axis=1)[:, np.newaxis]
    parts = parts / np.maximum(parts.sum(axis=0), 1e-12)
    squares = ((parts[:, np.newaxis] - shares.reshape(len(shares), -1)) ** 2).mean(axis=2)
    pairs = linear_sum_assignment(squares)
    return Errors(float(angles[pairs].mean()), float(np.sqrt(squares[pairs].mean())))
