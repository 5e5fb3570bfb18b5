"""Simulated spectral cubes and a 4D scan with what they are made of.

Each value of a cube is drawn from the Poisson distribution about ``sum over k of shares[k] x components[k]``, times the
local thickness of EELS and EDX, which grows along y.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special
from scipy.spatial.distance import cdist

from stemseg_core.calibration.axes import Axis
from stemseg_core.datasets.elements import EDGES, LINES
from stemseg_core.datasets.microscope import Seed
from stemseg_core.datasets.signals import (
    EDX_SCALE_KEV,
    EELS_OFFSET_EV,
    EELS_SCALE_EV,
    Material,
    core_losses,
    pattern_of,
    plural,
    x_rays,
)
from stemseg_core.system.errors import ParameterError

#: Distance of neighbouring pixels, in nm; it only labels the axes.
STEP_NM = 1.0


class SimulatedCube(NamedTuple):
    """A cube and what it was made of.

    Attributes
    ----------
    cube : ndarray of shape (y, x, signal), uint16 or uint32; float32 with a gain
        Counts.
    axes : tuple of Axis
        Of each axis of `cube`.
    shares : ndarray of shape (k, y, x), float32
        Of each material or grain; they sum to 1.
    components : ndarray of shape (k, signal), float32
        Spectrum or pattern of each material at the mean thickness, in counts (times the gain).
    """

    cube: NDArray[Any]
    axes: tuple[Axis, ...]
    shares: NDArray[np.float32]
    components: NDArray[np.float32]


def eels_cube(
    shape: tuple[int, int] = (48, 48),
    materials: Sequence[Material] = ({"C": 1}, {"Ti": 1, "O": 2}, {"La": 1, "Mn": 1, "O": 3}),
    *,
    counts: float = 20_000.0,
    channels: int = 640,
    thickness: float = 0.5,
    ramp: float = 0.4,
    gain: float = 1.0,
    random_state: Seed = 0,
) -> SimulatedCube:
    """EELS spectrum image of layers: edges with white lines on a power law, broadened by plural scattering.

    Parameters
    ----------
    shape : (int, int), default=(48, 48)
        Pixels along y and x.
    materials : sequence of dict, default=carbon, TiO2 and LaMnO3
        Atoms by element, of `stemseg_core.datasets.elements.EDGES`; layers from left to right with wavy, soft borders.
    counts : float, default=20000.0
        Events of a spectrum at the mean thickness; every material gives as many.
    channels : int, default=640
        Of 1 eV, from 250 eV on.
    thickness : float, default=0.5
        Mean, in mean free paths. Twice as much: twice the plural losses, which smear the edges.
    ramp : float, default=0.4
        The thickness grows along y from 1 - ramp / 2 to 1 + ramp / 2 times the mean.
    gain : float, default=1.0
        Of the detector: what one event counts. If not 1, values are float32.
    random_state : int, Generator or None, default=0
        The same int gives the same cube, None another one every time; a generator moves on.

    Returns
    -------
    SimulatedCube
        ``cube, axes, shares, components``, a named tuple.

    Notes
    -----
    Plural losses depend on the thickness: spectra change a little along y, as real ones do.

    Examples
    --------
    >>> from stemseg_core import datasets
    >>> cube, axes, shares, spectra = datasets.eels_cube((8, 10))
    >>> cube.shape, shares.shape, spectra.shape, str(axes[2])
    ((8, 10, 640), (3, 8, 10), (3, 640), 'Energy loss: 1 eV')
    """
    _check(shape, counts=counts, thickness=thickness, gain=gain)
    _check_ramp(ramp)
    atoms = _checked_materials(materials, EDGES)
    rng = np.random.default_rng(random_state)
    energy = EELS_OFFSET_EV + EELS_SCALE_EV * np.arange(_whole("channels", channels))
    single = np.array([core_losses(energy, material) for material in atoms])
    single *= counts / plural(single, thickness).sum(axis=1, keepdims=True)
    relative = _ramp(shape[0], ramp)
    by_line = np.array([plural(single, thickness * t) for t in relative])  # (y, k, channels)
    shares = _layers(shape, len(atoms), rng)
    cube = _drawn(lambda y: relative[y] * shares[:, y].T @ by_line[y], (*shape, channels), rng)
    axes = (*_map_axes(), Axis("Energy loss", EELS_OFFSET_EV, EELS_SCALE_EV, "eV"))
    spectra = plural(single, thickness) * gain
    return SimulatedCube(
        cube if gain == 1 else (gain * cube).astype(np.float32), axes, shares, spectra.astype(np.float32)
    )


def edx_cube(
    shape: tuple[int, int] = (64, 64),
    materials: Sequence[Material] = ({"Si": 1, "O": 2}, {"Ti": 1, "O": 2}, {"Fe": 3, "Ni": 1}),
    *,
    counts: float = 30.0,
    channels: int = 512,
    ramp: float = 0.4,
    random_state: Seed = 0,
) -> SimulatedCube:
    """EDX map of particles in a matrix: characteristic lines on bremsstrahlung, with few counts a pixel.

    Parameters
    ----------
    shape : (int, int), default=(64, 64)
        Pixels along y and x.
    materials : sequence of dict, default=SiO2, TiO2 and Fe3Ni
        Atoms by element, of `stemseg_core.datasets.elements.LINES`: the matrix, then those of round particles.
    counts : float, default=30.0
        Events of a spectrum at the mean thickness; every material gives as many.
    channels : int, default=512
        Of 0.02 keV, from 0 on.
    ramp : float, default=0.4
        The thickness grows along y from 1 - ramp / 2 to 1 + ramp / 2 times the mean.
    random_state : int, Generator or None, default=0
        The same int gives the same cube, None another one every time; a generator moves on.

    Returns
    -------
    SimulatedCube
        ``cube, axes, shares, components``, a named tuple.

    Examples
    --------
    >>> from stemseg_core import datasets
    >>> cube, axes, shares, spectra = datasets.edx_cube((8, 10), counts=30)
    >>> cube.dtype, bool(20 < cube.sum(axis=2).mean() < 40), str(axes[2])
    (dtype('uint16'), True, 'Energy: 0.02 keV')
    """
    _check(shape, counts=counts)
    _check_ramp(ramp)
    atoms = _checked_materials(materials, LINES)
    rng = np.random.default_rng(random_state)
    energy = EDX_SCALE_KEV * np.arange(_whole("channels", channels))
    spectra = np.array([x_rays(energy, material) for material in atoms])
    spectra *= counts / spectra.sum(axis=1, keepdims=True)
    relative, shares = _ramp(shape[0], ramp), _particles(shape, len(atoms), rng)
    cube = _drawn(lambda y: relative[y] * shares[:, y].T @ spectra, (*shape, channels), rng)
    axes = (*_map_axes(), Axis("Energy", 0.0, EDX_SCALE_KEV, "keV"))
    return SimulatedCube(cube, axes, shares, spectra.astype(np.float32))


def scan_4d(
    shape: tuple[int, int] = (48, 48),
    detector: tuple[int, int] = (48, 48),
    n_patterns: int = 3,
    n_grains: int = 8,
    *,
    counts: float = 500.0,
    max_angle: float = 14.0,
    random_state: Seed = 0,
) -> SimulatedCube:
    """4D-STEM scan of grains: disks of copper along [001], [011] and [111], turned by different angles.

    Parameters
    ----------
    shape : (int, int), default=(48, 48)
        Pixels of the scan along y and x.
    detector : (int, int), default=(48, 48)
        Pixels of a pattern along ky and kx; the direct beam is in the middle.
    n_patterns : int, default=3
        Orientations; at most `n_grains`.
    n_grains : int, default=8
        Cells of the map, each of one orientation.
    counts : float, default=500.0
        Electrons of a pattern.
    max_angle : float, default=14.0
        Half the width of the detector along kx, in 1/nm.
    random_state : int, Generator or None, default=0
        The same int gives the same cube, None another one every time; a generator moves on.

    Returns
    -------
    SimulatedCube
        ``cube, axes, shares, components``, a named tuple; shares are 0 or 1.

    Examples
    --------
    >>> from stemseg_core import datasets
    >>> cube, axes, shares, patterns = datasets.scan_4d((6, 8), (32, 40))
    >>> cube.shape, patterns.shape, [axis.units for axis in axes]
    ((6, 8, 32, 40), (3, 32, 40), ['nm', 'nm', '1/nm', '1/nm'])
    """
    _check(shape, counts=counts, max_angle=max_angle)
    _check(detector, "detector")
    if not 1 <= _whole("n_patterns", n_patterns) <= _whole("n_grains", n_grains):
        raise ParameterError(
            f"`n_patterns` must be at most `n_grains` ({n_grains}), got {n_patterns}",
            n_patterns=n_patterns,
            n_grains=n_grains,
        )
    rng = np.random.default_rng(random_state)
    scale = 2 * max_angle / detector[1]
    axes = tuple(
        Axis(name, -(n - 1) / 2 * scale, scale, "1/nm") for name, n in zip(("ky", "kx"), detector, strict=True)
    )
    ky, kx = (axis.offset + axis.scale * np.arange(n) for axis, n in zip(axes, detector, strict=True))
    patterns = np.array([pattern_of(ky[:, np.newaxis], kx, i, n_patterns) for i in range(n_patterns)])
    patterns *= counts / patterns.sum(axis=(1, 2), keepdims=True)
    labels = _grains(shape, n_grains, rng) % n_patterns
    shares = (labels == np.arange(n_patterns)[:, np.newaxis, np.newaxis]).astype(np.float32)
    cube = _drawn(lambda y: patterns[labels[y]], (*shape, *detector), rng)
    return SimulatedCube(cube, (*_map_axes(), *axes), shares, patterns.astype(np.float32))


# Maps.


def _layers(shape: tuple[int, int], k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Shares (k, y, x) of upright layers of equal width, with wavy borders over which they mix."""
    x = (np.arange(shape[1]) + 0.5) / shape[1] * k
    y = np.arange(shape[0])[:, np.newaxis] / shape[0]
    below = [np.ones(shape)]
    for border in range(1, k):
        wave = 0.15 * np.sin(2 * np.pi * (y * rng.uniform(0.8, 1.6) + rng.random()))
        below.append(special.expit((x - border - wave) * 25))  # of the layers at the right of the border
    beyond = np.minimum.accumulate([*below, np.zeros(shape)], axis=0)
    return (beyond[:-1] - beyond[1:]).astype(np.float32)


def _particles(shape: tuple[int, int], k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Shares (k, y, x) of a matrix and of round particles of k - 1 materials, smooth at their edge."""
    shares = np.zeros((k, *shape))
    shares[0] = 1
    y, x = np.mgrid[: shape[0], : shape[1]]
    side = math.sqrt(shape[0] * shape[1] / max(1, k - 1))
    seeds = _spread(shape, 3 * (k - 1), rng)
    for i, (cy, cx) in enumerate(seeds):
        radius = side * rng.uniform(0.14, 0.22)
        disk = special.expit((radius - np.hypot(y - cy, x - cx)) / (0.12 * radius))
        shares *= 1 - disk
        shares[1 + i % (k - 1)] += disk
    return shares.astype(np.float32)


def _grains(shape: tuple[int, int], n_grains: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Number of the cell (y, x) of each pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    seeds = _spread(shape, n_grains, rng)
    wave = 0.04 * math.sqrt(shape[0] * shape[1])
    noise = [ndimage.gaussian_filter(rng.standard_normal(shape), 2 * wave, mode="wrap") for _ in range(2)]
    places = np.stack([y, x], axis=-1) + wave * np.stack([f / (f.std() or 1) for f in noise], axis=-1)
    cells: NDArray[np.intp] = cdist(places.reshape(-1, 2), seeds).argmin(axis=1).reshape(shape)
    return cells


def _spread(shape: tuple[int, int], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Places (n, 2) far from each other, and from the edge."""
    seeds = rng.uniform(0.15, 0.85, (min(n, 1), 2)) * shape
    for _ in range(n - 1):  # of some candidates the one farthest from all so far
        candidates = rng.uniform(0.1, 0.9, (32, 2)) * shape
        seeds = np.vstack([seeds, candidates[cdist(candidates, seeds).min(axis=1).argmax()]])
    return seeds


def _ramp(n: int, ramp: float) -> NDArray[np.float64]:
    return 1 + ramp * ((np.arange(n) + 0.5) / n - 0.5)


def _map_axes() -> tuple[Axis, Axis]:
    return Axis("y", 0.0, STEP_NM, "nm"), Axis("x", 0.0, STEP_NM, "nm")


def _drawn(expected: Callable[[int], Any], shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[Any]:
    """Counts about what `expected(y)` (x, signal) gives for each line, which is all that is in memory at a time."""
    lines = [rng.poisson(expected(y)).astype(np.uint32) for y in range(shape[0])]
    small = max(int(line.max()) for line in lines) <= np.iinfo(np.uint16).max
    return np.stack([line.astype(np.uint16 if small else np.uint32) for line in lines])


# Checks.


def _check(shape: Any, name: str = "shape", **positive: float) -> None:
    """Refuse a shape that is no pair of whole numbers, and parameters that are not above 0."""
    pair = shape if isinstance(shape, Sequence) else ()
    if len(pair) != 2 or not all(isinstance(n, int) and n >= 1 for n in pair):
        raise ParameterError(f"`{name}` must be two whole numbers from 1 on, got {shape!r}", **{name: shape})
    for parameter, value in positive.items():
        if not 0 < value < math.inf:
            raise ParameterError(f"`{parameter}` must be a number above 0, got {value!r}", **{parameter: value})


def _check_ramp(ramp: float) -> None:
    if not 0 <= ramp < 2:
        raise ParameterError(f"`ramp` must be from 0 to less than 2, got {ramp!r}", ramp=ramp)


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ParameterError(f"`{name}` must be a whole number, at least 1; got {value!r}", **{name: value})
    return value


def _checked_materials(materials: Sequence[Material], known: Mapping[str, Any]) -> list[Material]:
    """Materials in fractions of their atoms."""
    listed = list(materials)
    for material in listed:
        if not material or not all(v > 0 for v in dict(material).values()):
            raise ParameterError(
                f"`materials` must be dicts of atoms (above 0) by element, one is {material!r}", materials=materials
            )
        if strange := sorted(set(material) - set(known)):
            raise ParameterError(
                f"`materials` must be of the elements {', '.join(known)}; got {', '.join(map(str, strange))}",
                materials=materials,
            )
    if not listed:
        raise ParameterError("`materials` must be one or more, got none", materials=materials)
    return [{element: n / sum(m.values()) for element, n in m.items()} for m in listed]
