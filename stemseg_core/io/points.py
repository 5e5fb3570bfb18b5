"""Axes from the coordinates of their points, as many formats store them.

Tests: tests/test_hdf5.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemseg_core.calibration.axes import Described, calibrated_axis

#: Share of the mean distance by which distances of points may differ before they are called uneven. Twice as much:
#: coordinates that drift by up to that are taken for even ones without a note.
UNEVEN = 0.01


def axis_of_points(name: str, points: Any, units: object) -> Described:
    """An axis whose points, or the first two of them, are listed; of uneven ones the mean distance, with a note.

    Parameters
    ----------
    name : str
    points : array_like of shape (n,)
        Coordinates, in `units`. What is not numbers, or fewer than two of them, is no calibration.
    units : str, bytes or None
    """
    values = np.asarray(points)
    if values.ndim != 1 or values.dtype.kind not in "iuf" or values.size < 2:
        return calibrated_axis(name)
    steps = np.diff(values.astype(float))
    axis, note = calibrated_axis(name, float(steps.mean()), units, float(values[0]))
    if axis.kind not in ("none", "pixel") and np.ptp(steps) > UNEVEN * abs(steps.mean()):
        note = note or "its points are uneven; their mean distance is taken"
    return axis, note
