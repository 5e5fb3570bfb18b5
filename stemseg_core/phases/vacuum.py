"""Parts of an image without noise, such as dark vacuum: faint noise is added, in which what is no signal drowns.

Without noise a window in vacuum shows nothing but the faint tail that the taper leaves of a crystal at its edge. Roots
and normalisation lift it to the level of the crystal: the map of a particle swells, and the tails make phases of their
own. In noise they drown, and its scatter is what distances between phases are measured by.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.system.execution import Execution
from stemseg_core.windows.images import Frames

#: Standard deviation of the noise, in that of the pixels of windows with contrast. Twice as much: thin edges drown;
#: half: tails of crystals in vacuum are sooner taken for phases.
FAINT = 0.05
#: Rows of pixels that noise is added to at once. Twice as many: twice the scratch memory.
STRIP_ROWS = 64


def with_faint_noise(frames: Frames, window: tuple[int, int], seed: int, execution: Execution) -> Frames:
    """An image of which no part is without noise: the same, or a copy with faint noise where a part is quieter.

    The contrast is the deviation of pixels from the mean of their tile, as large as a window, which half of all such
    power is in tiles above. It does not depend on how small the part of the image is that has contrast.

    Notes
    -----
    Cost: a pass over the pixels, and 15 ns a pixel for noise. Memory: a copy of the image of `noisy_bytes`.
    """
    power = np.sort(_powers_of_tiles(frames, window))
    total = power.cumsum()
    if not len(total) or not 0 < total[-1] < np.inf:
        return frames
    noise = FAINT * float(np.sqrt(power[np.searchsorted(total, total[-1] / 2)]))
    if np.sqrt(power[0]) >= noise:
        return frames
    image = frames.image
    size = noisy_bytes(frames)
    execution.require(size, "a copy of the image with faint noise", "segment a part of the image")
    noisy = np.empty(image.shape, _noisy_type(image.dtype))
    rng = np.random.default_rng(seed)
    scale = noisy.dtype.type(noise * frames.gain)
    for start in range(0, image.shape[1], STRIP_ROWS):
        strip = np.s_[:, start : start + STRIP_ROWS]
        np.multiply(rng.standard_normal(noisy[strip].shape, np.float32), scale, out=noisy[strip])
        noisy[strip] += image[strip]
    return replace(frames, image=noisy)


def noisy_bytes(frames: Frames) -> int:
    """Memory of the copy that `with_faint_noise` makes."""
    return frames.image.size * _noisy_type(frames.image.dtype).itemsize


def _noisy_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.result_type(dtype, np.float32)


def _powers_of_tiles(frames: Frames, window: tuple[int, int]) -> NDArray[np.float64]:
    """Variance of the pixels, in squares of the gain, of the tiles of an image that have no excluded pixel."""
    (wy, wx), (height, width) = window, frames.image.shape[1:]
    n = width // wx
    powers = [np.empty(0)]
    for y in range(0, height - wy + 1, wy):
        tiles = frames.pixels(0, slice(y, y + wy), slice(0, n * wx), np.dtype(np.float64)).reshape(wy, n, wx)
        power = tiles.var(axis=(0, 2))
        if frames.mask is not None:
            power = power[~frames.mask[0, y : y + wy, : n * wx].reshape(wy, n, wx).any(axis=(0, 2))]
        powers.append(power)
    return np.concatenate(powers)
