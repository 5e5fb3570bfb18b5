"""The plain way from an image to a map: what anybody writes in ten lines of scikit-learn.

Square roots of the moduli of the Fourier transform of windows, principal components of them, k-means; a pixel has the
label of the nearest window. The windows are those that `segment` chooses, so that the two differ in what follows.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stemseg_core import WindowFFT
from stemseg_core.phases.window_sizes import step_of
from stemseg_core.system.execution import Execution
from stemseg_core.windows.images import Frames
from stemseg_core.windows.periods import window_of

Array = np.ndarray


def baseline(image: Array, k: int, *, standardized: bool = False, rank: int = 32) -> Array:
    """Label of each pixel of an image, 0 to k - 1; `standardized`: each frequency has variance 1."""
    window, _ = window_of(Frames.survey(image), execution=Execution.of(None))
    matrix = WindowFFT(window, step_of(window, None)).matrix(image)
    scaler = [StandardScaler()] if standardized else []
    scores = make_pipeline(*scaler, PCA(rank, random_state=0)).fit_transform(np.asarray(matrix))
    labels = KMeans(k, n_init=10, random_state=0).fit_predict(scores).reshape(matrix.grid_shape[-2:])
    centers = matrix.centers.reshape(*labels.shape, 2)
    return nearest(labels, centers[:, 0, 0], centers[0, :, 1], image.shape)


def nearest(labels: Array, y: Array, x: Array, shape: tuple[int, ...]) -> Array:
    """Labels of the pixels of an image from those on a grid of centres."""
    rows, columns = (
        np.abs(np.arange(n)[:, np.newaxis] - axis).argmin(axis=1) for n, axis in zip(shape, (y, x), strict=True)
    )
    return labels[np.ix_(rows, columns)]
