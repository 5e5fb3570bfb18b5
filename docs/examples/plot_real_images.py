"""
Real images
===========

Five published images, segmented with nothing given but the number of phases, or not even that. They come with other
packages and are not part of this one: the folder that holds them is named by the environment variable
``STEMSEG_DATA``. Where an image is not there, a simulated one of its kind is shown in its place, and the line above the
picture says so.
"""

import os
from pathlib import Path

from stemseg_core import datasets, segment
from stemseg_core.io import read_image
from stemseg_core.plot import estimate

FOLDER = Path(os.environ.get("STEMSEG_DATA", "../../../shared/data")) / "stem"


def load(name, stand_in, pixel_size=None):
    """Image and pixel size in nm, of the file if it is there."""
    if not (FOLDER / name).exists():
        print(f"{name} is not here: a simulated image in its place")
        return stand_in()[0], datasets.PIXEL_SIZE
    read = read_image(FOLDER / name)
    print(f"{name}: {read.data.shape[1]} x {read.data.shape[0]} pixels")
    return read.data, read.pixel_size or pixel_size


# %%
# A grain boundary in gold (from AtomSegNet; its scale is not known). The columns are as bright on both sides: only the
# directions of the rows differ, by a few degrees. Confidence is low on the boundary alone.

image, pixel_size = load(
    "gold_grain_boundary_512.png", lambda: datasets.two_phase(angle=8, crystals=2 * [datasets.GOLD])
)
segment(image, 2, pixel_size=pixel_size).plot()

# %%
# Two grains of graphene in a single noisy frame (from AICrystallographer, 4 nm wide).


def graphene():
    """Two grains, at a tenth of the usual dose."""
    return datasets.two_phase(angle=18, crystals=2 * [datasets.GRAPHENE], dose=6)


image, pixel_size = load("graphene_grain_boundary_4nm.npy", graphene, 4 / 512)
segment(image, 2, pixel_size=pixel_size).plot()

# %%
# PbTiO3 on SrRuO3 (from TEMUL), calibrated: two perovskites of nearly the same lattice. Few windows fit side by side
# into the strip, and confidence is lower.

image, pixel_size = load("pto_sro_interface.hspy", lambda: datasets.superlattice((224, 1312)))
segment(image, 2, pixel_size=pixel_size).plot()

# %%
# A high-entropy alloy (from pySTEM): the matrix, straight lamellae of another stacking, their walls, and a lens of
# moiré fringes at the left.


def alloy():
    """Grains in four orientations not far apart."""
    return datasets.polycrystal((1024, 1024), 12, 4, misorientation=10)


image, pixel_size = load("high_entropy_alloy_1024.npy", alloy)
segment(image, 4, pixel_size=pixel_size).plot()

# %%
# BaTiO3 along [001] (from TEMUL), calibrated. It is one phase, and that is found if the number is not given: maps of
# more are no better separated than chance, the grey mark.

image, pixel_size = load("BTO_crystal_1.dm4", datasets.single_phase)
result = segment(image, "auto", pixel_size=pixel_size)
estimate(result.estimate)

# %%
result.plot()
