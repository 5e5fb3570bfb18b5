"""Maps from Zernike moments of the patches around atoms, by motif-learn: a peer of the study of maps.

Patches around the local maxima of the image, four periods wide, as Zernike moments of length 1; principal components of
them, k-means; a pixel has the label of the nearest maximum. The period is the one that motif-learn finds; maxima are .8
of it apart at least. This is the way of its notebooks, with a fixed number of clusters; width and distance were chosen
on three pictures of boundaries. It runs where motif-learn (0.1.2) is installed.

J. Dan et al., "Learning motifs and their hierarchies in atomic resolution microscopy", Science Advances 8 (2022)
eabk1005, doi:10.1126/sciadv.abk1005.
"""

from importlib.util import find_spec

import numpy as np
from scipy.spatial import KDTree
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

Array = np.ndarray

#: Whether motif-learn is there.
INSTALLED = find_spec("mtflearn") is not None
#: Side of a patch in pixels where no period is found.
PATCH = 32


def zernike(image: Array, k: int, *, n_max: int = 10, n_components: int = 8) -> Array:
    """Label of each pixel of an image, 0 to k - 1."""
    from mtflearn.features import KeyPoints, ZPs, estimate_patch_size, local_max  # noqa: PLC0415

    image = np.asarray(image, np.float64)
    np.random.seed(0)  # noqa: NPY002 - it draws windows from the global generator
    period = estimate_patch_size(image) or PATCH / 2
    size = max(4 * round(period), 2 * n_max) + 1
    points = KeyPoints(local_max(image, min_distance=0.8 * period), image, size)
    patches = points.extract_patches(size)
    patches = patches - patches.mean(axis=(1, 2), keepdims=True)
    moments = np.asarray(ZPs(n_max=n_max, size=size).fit_transform(patches).data)
    moments = moments / np.maximum(np.linalg.norm(moments, axis=1, keepdims=True), np.finfo(float).tiny)
    scores = PCA(min(n_components, *moments.shape), random_state=0).fit_transform(moments)
    labels = KMeans(k, n_init=10, random_state=0).fit_predict(scores)
    pixels = np.indices(image.shape)[::-1].reshape(2, -1).T  # motif-learn's points are (x, y)
    return labels[KDTree(points.pts).query(pixels)[1]].reshape(image.shape)
