"""What the benchmarks run on: a simulated image with counting noise, and the features of its windows."""

import numpy as np

from stemseg_core import WindowFFT, datasets


def scene(size: int) -> np.ndarray:
    """Grains of a crystal in six orientations with counting noise, float32."""
    return datasets.polycrystal((size, size), n_grains=24, n_orientations=6, dose=20, random_state=0)[0]


def features(quick: bool, window: int = 64, step: int = 8, size: int = 2048) -> np.ndarray:
    """Features of all windows as an array, float32; few and short ones for a quick run."""
    return WindowFFT(16, 4).transform(scene(96)) if quick else WindowFFT(window, step).transform(scene(size))


def wide_features(quick: bool) -> np.ndarray:
    """1,089 features of all windows: the low frequencies along y of the whole spectrum."""
    X = WindowFFT(16, 4, zoom=1).transform(scene(96)) if quick else WindowFFT(64, 8, zoom=1).transform(scene(2048))
    d = min(1089, X.shape[1])
    first = (X.shape[1] - d) // 2
    return np.ascontiguousarray(X[:, first : first + d])


def job(X: np.ndarray) -> str:
    return f"{X.shape[0]} x {X.shape[1]} {X.dtype}"
