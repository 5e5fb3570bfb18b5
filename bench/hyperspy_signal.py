"""Rows as a signal of HyperSpy, for the benchmarks in which it takes part."""

from typing import Any

import numpy as np


def signal(X: np.ndarray) -> Any:
    """The rows of X along one navigation axis; HyperSpy then hands them to scikit-learn or decomposes them itself."""
    import hyperspy.api as hs  # noqa: PLC0415 (only where it is installed)

    hs.set_log_level("ERROR")
    hs.preferences.General.show_progressbar = False
    return hs.signals.Signal1D(X)
