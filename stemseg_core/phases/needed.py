"""Memory that `segment` needs, predicted before work starts."""

from __future__ import annotations

from stemseg_core.phases.contrast import contrast_bytes
from stemseg_core.phases.methods import OneSize
from stemseg_core.phases.multiscale import Multiscale
from stemseg_core.phases.parameters import Parameters
from stemseg_core.phases.regions import without_small_regions_bytes
from stemseg_core.phases.regularize import regularized_bytes
from stemseg_core.rows import sources

#: Blocks of rows that a thread holds beside what it works on: transforms of image rows, products, sums. A prediction
#: alone depends on it; twice as many: images are refused that would fit.
SCRATCH_BLOCKS = 8


def needed_bytes(windows: OneSize | Multiscale, parameters: Parameters, n_threads: int) -> float:
    """Memory that `segment` holds at once beside the image: while phases are found, or when the maps are made."""
    matrix, k = windows.maps, parameters.most_phases
    n, n_grid, n_pixels = matrix.shape[0], matrix.included.size, matrix.image.size
    finding = windows.predicted_bytes(k, parameters.rank, n_threads)
    if parameters.regularize:
        finding = max(finding, regularized_bytes(n_grid, k))
    finding += parameters.frequencies().moments_bytes(windows.largest.half_plane, matrix.dtype)
    # Labels of the pixels, twice while they are put in order, of a masked image with what finds the nearest pixels;
    # memberships twice while they are put in order, then with labels, confidence, residual and centres.
    placing = 4.0 * n_pixels * (2 if matrix.mask is None else 5) + n * 4 * k
    if parameters.min_area > 1:
        placing = max(placing, without_small_regions_bytes(n_pixels) + n * 4 * k)
    if parameters.contrast != "off":
        alone = parameters.contrast == "only"
        placing = max(placing, contrast_bytes(n_pixels, matrix.window, n, k, n_threads, alone=alone) + n * 4 * k)
    describing = 4 * n_pixels + n_grid * (8 * k + 28)
    return max(finding, placing, describing) + n_threads * SCRATCH_BLOCKS * sources.BLOCK_BYTES
