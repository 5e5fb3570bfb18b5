"""Simulated atomic-resolution HAADF-STEM images with pixel-exact truth, for demonstration, documentation and tests.

Each function for images returns electron counts (float32) and their truth. What specimen and microscope share (dose,
pixel size, probe, displacements, thickness, contamination, scan distortions) are the keywords of `Imaging`, and every
one of them takes all of these. The truth is distorted with the image. Time is about 0.1 s at 512 x 512 and 0.4 s at
1024 x 1024, memory about 20 times the image's.

`eels_cube`, `edx_cube` and `scan_4d` make spectral cubes and a scan of patterns, with what they are made of.

Examples
--------
>>> from stemseg_core import datasets
>>> image, labels = datasets.two_phase((256, 320), angle=20, dose=5, random_state=1)
>>> image.shape, image.dtype, labels.dtype
((256, 320), dtype('float32'), dtype('uint8'))
"""

from __future__ import annotations

from math import prod, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from stemseg_core.datasets.cubes import SimulatedCube, edx_cube, eels_cube, scan_4d
from stemseg_core.datasets.microscope import (
    COPPER,
    GOLD,
    GRAPHENE,
    PIXEL_SIZE,
    SILICON,
    SR2TIO4,
    SRTIO3,
    Canvas,
    Crystal,
    Image,
    Imaging,
    Seed,
)
from stemseg_core.system.errors import ParameterError, ParameterTypeError

__all__ = [
    "COPPER",
    "GOLD",
    "GRAPHENE",
    "PIXEL_SIZE",
    "SILICON",
    "SR2TIO4",
    "SRTIO3",
    "Crystal",
    "Imaging",
    "SimulatedCube",
    "crystal_amorphous_vacuum",
    "edx_cube",
    "eels_cube",
    "inclined_interface",
    "polycrystal",
    "scan_4d",
    "single_phase",
    "superlattice",
    "two_phase",
]

Labels: TypeAlias = NDArray[np.uint8]


def single_phase(
    shape: tuple[int, int] = (512, 512),
    *,
    crystal: Crystal = SRTIO3,
    angle: float = 0.0,
    random_state: Seed = 0,
    **imaging: float,
) -> tuple[Image, Labels]:
    """One crystal everywhere: the control, in which there is nothing to segment.

    Parameters
    ----------
    shape : (int, int), default=(512, 512)
        Height and width of the image in pixels.
    crystal : Crystal, default=SRTIO3
    angle : float, default=0.0
        Of the crystal, in degrees.
    random_state : int, Generator or None, default=0
        The same int gives the same image, None another one every time; a generator moves on.
    **imaging
        Keywords of `Imaging`: dose, pixel_size, probe, drift, ...

    Returns
    -------
    image : ndarray of shape `shape`, float32
        Electron counts.
    labels : ndarray of shape `shape`, uint8
        All 0.
    """
    canvas = _canvas(shape, random_state, imaging)
    density = canvas.crystals([canvas.columns(crystal, angle)], [np.ones(canvas.shape)])
    return canvas.expose(density), np.zeros(canvas.frame, np.uint8)


def two_phase(
    shape: tuple[int, int] = (512, 512),
    *,
    crystals: tuple[Crystal, Crystal] = (SRTIO3, SRTIO3),
    angle: float = 30.0,
    position: float = 0.5,
    roughness: float = 0.3,
    random_state: Seed = 0,
    **imaging: float,
) -> tuple[Image, Labels]:
    """Two crystals left and right of a wavy upright interface; by default SrTiO3 [001] turned by 30 degrees.

    Parameters
    ----------
    shape : (int, int), default=(512, 512)
        Height and width of the image in pixels.
    crystals : (Crystal, Crystal), default=(SRTIO3, SRTIO3)
        On the left, at 0 degrees, and on the right.
    angle : float, default=30.0
        Of the crystal on the right, in degrees.
    position : float, default=0.5
        Of the interface, as a share of the width.
    roughness : float, default=0.3
        Of the interface, root mean square in nm.
    random_state : int, Generator or None, default=0
        The same int gives the same image, None another one every time; a generator moves on.
    **imaging
        Keywords of `Imaging`: dose, pixel_size, probe, drift, ...

    Returns
    -------
    image : ndarray of shape `shape`, float32
        Electron counts.
    labels : ndarray of shape `shape`, uint8
        0 left of the interface, 1 right of it.
    """
    canvas = _canvas(shape, random_state, imaging)
    right = canvas.x > canvas.interface(position, roughness)
    columns = [canvas.columns(crystals[0], 0.0), canvas.columns(crystals[1], angle)]
    image = canvas.expose(canvas.crystals(columns, [~right, right]))
    return image, canvas.distort(right.astype(np.uint8), order=0)


def superlattice(
    shape: tuple[int, int] = (512, 512), *, position: float = 0.45, random_state: Seed = 0, **imaging: float
) -> tuple[Image, Labels]:
    """SrTiO3 [001] beside Sr2TiO4 [100] on nearly the same lattice: only weak superlattice spots tell them apart.

    Parameters
    ----------
    shape : (int, int), default=(512, 512)
        Height and width of the image in pixels.
    position : float, default=0.45
        Of the interface, as a share of the width.
    random_state : int, Generator or None, default=0
        The same int gives the same image, None another one every time; a generator moves on.
    **imaging
        Keywords of `Imaging`: dose, pixel_size, probe, drift, ...

    Returns
    -------
    image : ndarray of shape `shape`, float32
        Electron counts.
    labels : ndarray of shape `shape`, uint8
        0: SrTiO3, on the left. 1: Sr2TiO4.
    """
    return two_phase(
        shape, crystals=(SRTIO3, SR2TIO4), angle=0.0, position=position, random_state=random_state, **imaging
    )


def polycrystal(
    shape: tuple[int, int] = (512, 512),
    n_grains: int = 8,
    n_orientations: int = 4,
    *,
    crystal: Crystal = COPPER,
    misorientation: float | None = None,
    random_state: Seed = 0,
    **imaging: float,
) -> tuple[Image, Labels]:
    """Grains of one crystal in a few orientations; neighbours differ where there are orientations enough.

    Parameters
    ----------
    shape : (int, int), default=(512, 512)
        Height and width of the image in pixels.
    n_grains : int, default=8
        Number of Voronoi cells with wavy borders.
    n_orientations : int, default=4
        At most `n_grains` and 255; all of them occur.
    crystal : Crystal, default=COPPER
    misorientation : float, optional
        Between one orientation and the next, in degrees. Default: 90 / n_orientations, for a four-fold crystal.
    random_state : int, Generator or None, default=0
        The same int gives the same image, None another one every time; a generator moves on.
    **imaging
        Keywords of `Imaging`: dose, pixel_size, probe, drift, ...

    Returns
    -------
    image : ndarray of shape `shape`, float32
        Electron counts.
    labels : ndarray of shape `shape`, uint8
        Orientation: label i is turned by i times the misorientation.
    """
    if not 1 <= n_orientations <= min(n_grains, 255):
        raise ParameterError(
            f"`n_orientations` must be from 1 to `n_grains` ({n_grains}), at most 255; got {n_orientations}",
            n_orientations=n_orientations,
            n_grains=n_grains,
        )
    canvas = _canvas(shape, random_state, imaging)
    grains = _voronoi(canvas, n_grains)
    orientation = _orient(grains, n_orientations, canvas.rng)
    step = 90.0 / n_orientations if misorientation is None else misorientation
    columns = [canvas.columns(crystal, step * o) for o in orientation]
    image = canvas.expose(canvas.crystals(columns, [grains == g for g in range(n_grains)]))
    return image, canvas.distort(orientation[grains], order=0)


def crystal_amorphous_vacuum(
    shape: tuple[int, int] = (512, 512),
    *,
    crystal: Crystal = SILICON,
    angle: float = 12.0,
    amorphous: float = 0.7,
    positions: tuple[float, float] = (0.48, 0.78),
    roughness: float = 0.3,
    random_state: Seed = 0,
    **imaging: float,
) -> tuple[Image, Labels]:
    """A crystal, an amorphous layer on it, and vacuum, from left to right.

    Parameters
    ----------
    shape : (int, int), default=(512, 512)
        Height and width of the image in pixels.
    crystal : Crystal, default=SILICON
    angle : float, default=12.0
        Of the crystal, in degrees.
    amorphous : float, default=0.7
        Intensity of the amorphous layer relative to the crystal's.
    positions : (float, float), default=(0.48, 0.78)
        Of the two interfaces, as shares of the width.
    roughness : float, default=0.3
        Of the interfaces, root mean square in nm.
    random_state : int, Generator or None, default=0
        The same int gives the same image, None another one every time; a generator moves on.
    **imaging
        Keywords of `Imaging`: dose, pixel_size, probe, drift, ...

    Returns
    -------
    image : ndarray of shape `shape`, float32
        Electron counts.
    labels : ndarray of shape `shape`, uint8
        0: crystal. 1: amorphous. 2: vacuum.
    """
    canvas = _canvas(shape, random_state, imaging)
    surface, edge = (canvas.interface(position, roughness) for position in positions)
    region = ((canvas.x > surface).astype(np.uint8) + (canvas.x > np.maximum(surface, edge))).astype(np.uint8)
    density = canvas.crystals([canvas.columns(crystal, angle)], [region == 0])
    density += canvas.amorphous(region == 1, amorphous * crystal.density)
    return canvas.expose(density, region != 2), canvas.distort(region, order=0)


def inclined_interface(
    shape: tuple[int, int] = (512, 512),
    *,
    crystals: tuple[Crystal, Crystal] = (SRTIO3, SRTIO3),
    angle: float = 30.0,
    position: float = 0.5,
    overlap: float = 0.4,
    random_state: Seed = 0,
    **imaging: float,
) -> tuple[Image, Image]:
    """Two crystals on an inclined interface: where they overlap, the second's share of the thickness grows linearly.

    Parameters
    ----------
    shape : (int, int), default=(512, 512)
        Height and width of the image in pixels.
    crystals : (Crystal, Crystal), default=(SRTIO3, SRTIO3)
        A, at 0 degrees on the left, and B on the right.
    angle : float, default=30.0
        Of B, in degrees.
    position : float, default=0.5
        Of the middle of the overlap, as a share of the width.
    overlap : float, default=0.4
        Width of the overlap, as a share of the width of the image.
    random_state : int, Generator or None, default=0
        The same int gives the same image, None another one every time; a generator moves on.
    **imaging
        Keywords of `Imaging`: dose, pixel_size, probe, drift, ...

    Returns
    -------
    image : ndarray of shape `shape`, float32
        Electron counts.
    abundance : ndarray of shape `shape`, float32
        Share of B in the thickness, 0 to 1. Not labels: ``abundance > 0.5`` is the larger part.
    """
    if not 0 < overlap <= 1:
        raise ParameterError(
            f"`overlap` must be a share of the width, above 0 and at most 1, got {overlap!r}", overlap=overlap
        )
    canvas = _canvas(shape, random_state, imaging)
    middle = canvas.interface(position, roughness=0.0)
    share = np.clip((canvas.x - middle) / (overlap * canvas.frame[1]) + 0.5, 0, 1)
    columns = [canvas.columns(crystals[0], 0.0), canvas.columns(crystals[1], angle)]
    image = canvas.expose(canvas.crystals(columns, [1 - share, share], drop_overlapping=False))
    return image, np.clip(canvas.distort(share, order=1), 0, 1).astype(np.float32)


def _voronoi(canvas: Canvas, n_grains: int) -> NDArray[np.intp]:
    """Grain of each pixel of the canvas: cells of well-spread seeds inside the frame, with wavy borders."""
    frame = np.array(canvas.frame)
    seeds = canvas.rng.uniform(0.08, 0.92, (1, 2)) * frame
    for _ in range(n_grains - 1):  # of some candidates the one farthest from all seeds so far
        candidates = canvas.rng.uniform(0.08, 0.92, (32, 2)) * frame
        best = np.argmax(KDTree(seeds).query(candidates)[0])
        seeds = np.vstack([seeds, candidates[best]])
    y, x = (np.rint(seeds).astype(int) + canvas.margin).T
    unseeded = np.ones(canvas.shape, bool)
    unseeded[y, x] = False
    number = np.zeros(canvas.shape, np.intp)
    number[y, x] = np.arange(n_grains)
    row, col = ndimage.distance_transform_edt(unseeded, return_distances=False, return_indices=True)
    amplitude, scale = 0.01 * sqrt(prod(canvas.frame)), 0.03 * sqrt(prod(canvas.frame))
    dy, dx = (np.rint(amplitude * canvas.smooth_noise(canvas.shape, scale)).astype(int) for _ in range(2))
    y = np.clip(np.arange(canvas.shape[0])[:, None] + dy, 0, canvas.shape[0] - 1)
    x = np.clip(np.arange(canvas.shape[1]) + dx, 0, canvas.shape[1] - 1)
    cells: NDArray[np.intp] = number[row, col][y, x]
    return cells


def _orient(grains: NDArray[np.intp], n_orientations: int, rng: np.random.Generator) -> Labels:
    """An orientation for each grain: the one least used so far that no neighbour has, where there is one."""
    n_grains = int(grains.max()) + 1
    touching = np.zeros((n_grains, n_grains), bool)
    for a, b in ((grains[1:], grains[:-1]), (grains[:, 1:], grains[:, :-1])):
        touching[a, b] = touching[b, a] = True
    np.fill_diagonal(touching, False)
    orientation = np.full(n_grains, -1)
    near = np.zeros((n_grains, n_orientations), bool)  # whether a neighbour of the grain has the orientation
    for _ in range(n_grains):
        # The grain with least choice first (Brelaz, doi:10.1145/359094.359101); ties are broken at random.
        grain = np.argmax(np.where(orientation < 0, near.sum(axis=1) + rng.uniform(0, 0.5, n_grains), -1))
        used = np.bincount(orientation[orientation >= 0], minlength=n_orientations)
        orientation[grain] = np.argmin(n_grains * near[grain] + used + rng.uniform(0, 0.5, n_orientations))
        near[touching[grain], orientation[grain]] = True
    return orientation.astype(np.uint8)


def _canvas(shape: tuple[int, int], random_state: Seed, imaging: dict[str, float]) -> Canvas:
    known = Imaging.__dataclass_fields__
    for name, value in imaging.items():
        if name not in known:
            raise ParameterTypeError(
                f"unexpected keyword {name!r}; the imaging keywords are {', '.join(known)}", **{name: value}
            )
    return Canvas(shape, Imaging(**imaging), random_state)
