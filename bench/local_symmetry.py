"""Maps from local symmetry descriptors, as published: the study of maps sets them beside those from Fourier transforms.

The descriptor of a pixel is the list of Pearson correlations between the patch around it and the patches that lie N
given shifts away: those that are translations of the lattice there correlate. The shifts are spread evenly over a
square. Descriptors on a coarse grid of pixels are reduced by PCA and grouped by k-means; a pixel in between gets the
label of the nearest one. Written from the description in

N. Wang, C. Freysoldt, S. Zhang, C. H. Liebscher, J. Neugebauer, "Segmentation of Static and Dynamic Atomic-Resolution
Microscopy Data Sets with Unsupervised Machine Learning Using Local Symmetry Descriptors", Microscopy and Microanalysis
27 (2021) 1454-1464, doi:10.1017/S1431927621012770.
"""

import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

Array = np.ndarray


def descriptors(image: Array, patch: int, reach: int, n_shifts: int, stride: int) -> tuple[Array, Array, Array]:
    """Correlations of patches with shifted ones.

    Parameters
    ----------
    image : ndarray of shape (y, x)
    patch : int
        Side of the patches, in pixels.
    reach : int
        Largest shift along each axis, in pixels.
    n_shifts : int
        At most so many shifts are taken, from the finest even grid that has no more.
    stride : int
        From one patch to the next, in pixels.

    Returns
    -------
    correlations : ndarray of shape (ny, nx, N)
        -1 to 1; 0 where a patch has no contrast.
    y, x : ndarray of shape (ny,), (nx,)
        Centres of the patches, in pixels: all shifted patches lie within the image.

    Notes
    -----
    All correlations with one shift are box sums of the product of the image and the shifted image, from cumulative
    sums: time N times the pixels, whatever the patch.
    """
    image = np.asarray(image, np.float64) - np.mean(image, dtype=np.float64)
    height, width = (n - 2 * reach for n in image.shape)
    sums, scatter = box_sums(image, patch, 1), box_sums(image**2, patch, 1)
    scatter = np.maximum(scatter - sums**2 / patch**2, 0)
    flat = 1e-12 * scatter.max()
    n_y, n_x = height - patch + 1, width - patch + 1

    def at(values: Array, dy: int, dx: int) -> Array:
        """Those of the patches, moved by a shift."""
        y, x = reach + dy, reach + dx
        return values[y : y + n_y : stride, x : x + n_x : stride]

    inner = image[reach : reach + height, reach : reach + width]
    correlations = []
    for dy, dx in even_shifts(reach, n_shifts):
        moved = image[reach + dy : reach + dy + height, reach + dx : reach + dx + width]
        product = box_sums(inner * moved, patch, stride) - at(sums, 0, 0) * at(sums, dy, dx) / patch**2
        norms = at(scatter, 0, 0) * at(scatter, dy, dx)
        correlations.append(product / np.sqrt(np.where(norms > flat**2, norms, np.inf)))
    y, x = (reach + (patch - 1) / 2 + np.arange(0, n, stride) for n in (n_y, n_x))
    return np.stack(correlations, axis=-1), y, x


def even_shifts(reach: int, most: int) -> list[tuple[int, int]]:
    """At most so many shifts (y, x) but zero, up to `reach` pixels along each axis: the finest even grid of them."""
    step = next(step for step in range(1, reach + 2) if (2 * (reach // step) + 1) ** 2 - 1 <= most)
    axis = np.arange(-(reach // step), reach // step + 1) * step
    return [(int(dy), int(dx)) for dy in axis for dx in axis if dy or dx]


def box_sums(values: Array, side: int, stride: int) -> Array:
    """Sums over all squares of that side, every `stride` pixels along both axes."""
    for axis in (0, 1):
        before = np.insert(np.cumsum(values, axis=axis), 0, 0, axis=axis)
        before = np.moveaxis(before, axis, 0)
        values = np.moveaxis(before[side::stride] - before[:-side:stride], 0, axis)
    return values


def local_symmetry(
    image: Array,
    k: int,
    *,
    patch: int = 41,
    reach: int = 21,
    n_shifts: int = 100,
    stride: int = 5,
    n_components: int = 5,
) -> Array:
    """Label of each pixel of an image, 0 to k - 1.

    By default the numbers of the authors' examples; shifts up to 30 or 40 pixels, larger patches and more shifts were
    not better on images of seeds that the study does not use.
    """
    found, y, x = descriptors(image, patch, reach, n_shifts, stride)
    scores = PCA(n_components, random_state=0).fit_transform(found.reshape(-1, found.shape[-1]))
    labels = KMeans(k, n_init=10, random_state=0).fit_predict(scores).reshape(found.shape[:2])
    nearest_y, nearest_x = (
        np.abs(np.arange(n)[:, np.newaxis] - axis).argmin(axis=1) for n, axis in zip(image.shape, (y, x), strict=True)
    )
    return labels[np.ix_(nearest_y, nearest_x)]
