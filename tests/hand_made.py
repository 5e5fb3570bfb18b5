"""Results to draw: one that no method has made, of which every number is known; and a small one that is segmented."""

import numpy as np

from stemseg_core import datasets, segment
from stemseg_core.phases.segmentation import Segmentation

PARAMS = {
    "n_phases": 2,
    "method": "kmeans",
    "window": [64, 96],
    "step": [16, 24],
    "taper": ["kaiser", 8.0],
    "detrend": "constant",
    "smooth": 12.0,
    "whiten": True,
    "random_state": 7,
}


def build(**changes):
    """A segmentation of 48 x 64 px with two phases, some attributes changed."""
    rng = np.random.default_rng(0)
    labels = np.zeros((48, 64), np.int32)
    labels[:, 40:] = 1
    grid = np.stack(np.meshgrid(np.arange(5) * 8 + 7.5, np.arange(7) * 8 + 7.5, indexing="ij"), axis=-1)
    coarse = labels[grid[..., 0].astype(int), grid[..., 1].astype(int)]
    attributes = {
        "image": rng.uniform(0, 9, labels.shape),
        "labels": coarse,
        "label_image": labels,
        "abundances": np.stack([coarse == 0, coarse == 1]).astype(np.float32),
        "components": rng.uniform(0, 1, (2, 7, 7)).astype(np.float32),
        "fractions": np.array([0.625, 0.375]),
        "confidence": np.full(coarse.shape, 0.75, np.float32),
        "residual": np.full(coarse.shape, 0.25, np.float32),
        "centers": grid.reshape(-1, 2),
        "ky": np.arange(-3, 4) / 16,
        "kx": np.arange(-3, 4) / 16,
        "pixel_size": (0.5, 0.25),
        "params": PARAMS,
        "versions": {"numpy": "9.9.9", "blas": "openblas <x>"},
    }
    return Segmentation(**attributes | changes)


def segmented():
    """Two phases, windows of 32 px every 8 px, pixels that are not square, and an excluded corner."""
    image, _ = datasets.two_phase((128, 160), random_state=1)
    mask = np.zeros(image.shape, bool)
    mask[:40, :50] = True
    return segment(image, 2, window=32, step=8, mask=mask, pixel_size=(0.02, 0.03))
