"""From an image to the map of its phases: `segment`, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Phases of one image. Grid arrays have one entry a window, (ny, nx); image arrays one a pixel, (y, x).

    Attributes
    ----------
    image : ndarray of shape (y, x)
        The image as it was given.
    labels : ndarray of shape (ny, nx), int32
        Phase of each window; 0 is the phase with most pixels of `label_image`, ties by the first pixel; -1: excluded.
    label_image : ndarray of shape (y, x), int32
        Phase of each pixel: memberships interpolated linearly between window centres, held constant outside the
        outermost ones, then the largest.
    abundances : ndarray of shape (k, ny, nx), float32
        Memberships of each window, summing to 1; NaN where excluded.
    components : ndarray of shape (k, 2 hy + 1, 2 hx + 1), float32
        Pattern of each phase over the frequencies `ky`, `kx`, centred, in the chosen scale.
    fractions : ndarray of shape (k,)
        Share of the pixels of `label_image` that are not excluded.
    confidence : ndarray of shape (ny, nx), float32
        Top membership minus the next, 0 to 1; NaN where excluded.
    residual : ndarray of shape (ny, nx), float32
        ``|x - its reconstruction| / |x|`` of the window's spectrum x; NaN where excluded.
    centers : ndarray of shape (ny, nx, 2)
        Window centres in pixel coordinates (y, x).
    ky, kx : ndarray of shape (2 hy + 1,), (2 hx + 1,)
        Frequency of each row and column of `components`, in cycles per pixel.
    pixel_size : tuple of float or None
        (y, x) size of a pixel in `units`; None if not calibrated.
    units : str
        Unit of `pixel_size`; the frequency unit is its inverse.
    params : dict
        Every parameter that decided the result, including the seed; JSON-able.
    versions : dict of str
        `stemseg_core.versions.versions` at the time.
    """

    image: NDArray[Any]
    labels: NDArray[np.int32]
    label_image: NDArray[np.int32]
    abundances: NDArray[np.float32]
    components: NDArray[np.float32]
    fractions: NDArray[np.float64]
    confidence: NDArray[np.float32]
    residual: NDArray[np.float32]
    centers: NDArray[np.float64]
    ky: NDArray[np.float64]
    kx: NDArray[np.float64]
    pixel_size: tuple[float, float] | None = None
    units: str = "nm"
    params: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def segment(image: Any, n_phases: int, **options: Any) -> Segmentation:
    """To be written."""
    raise NotImplementedError
