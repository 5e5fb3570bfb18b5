"""The simulated specimen and microscope behind `datasets`.

Imaging is taken as incoherent: each projected column of atoms is a blob of the probe's shape (a Gaussian core on a
wider tail), weighted by the sum of Z**1.7 over its atoms [1]_. The specimen is laid out on a canvas somewhat larger
than the frame; the scan then takes image and truth from it at the same distorted places, so that the labels are true
for every pixel of the image:

    crystal -> columns -> density -> render -> distort -> expose

Coordinates are (y, x) throughout, lengths in nm; angles are in degrees and turn x towards y (clockwise on the screen).

References
----------
.. [1] P. D. Nellist, S. J. Pennycook, "The principles and interpretation of annular dark-field Z-contrast imaging",
   Advances in Imaging and Electron Physics 113 (2000) 147-203, doi:10.1016/S1076-5670(00)80013-0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod, sqrt
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import KDTree

from stemseg_core.system.errors import ParameterError

#: Size of a pixel in nm, by default: 0.15 angstrom, usual at atomic resolution. Twice as much: twice the field of view,
#: at half as many pixels a period.
PIXEL_SIZE = 0.015

Floats: TypeAlias = NDArray[np.float64]
Image: TypeAlias = NDArray[np.float32]
Seed: TypeAlias = int | np.random.Generator | None


def _column(*atomic_numbers: int) -> float:
    """High-angle scattering of a column: sum of Z**1.7 over the atoms of one repeat along the beam."""
    return float(sum(z**1.7 for z in atomic_numbers))


@dataclass(frozen=True)
class Crystal:
    """A crystal in projection: a rectangular cell of atom columns.

    Attributes
    ----------
    cell : tuple of float
        Height and width (y, x) of the cell in nm.
    atoms : tuple of (y, x, weight)
        Columns of one cell: place as fractions of the cell, and scattering.
    """

    cell: tuple[float, float]
    atoms: tuple[tuple[float, float, float], ...]

    @property
    def density(self) -> float:
        """Scattering per nm^2."""
        return sum(atom[2] for atom in self.atoms) / prod(self.cell)

    def columns(
        self, extent: tuple[float, float], angle: float = 0.0, origin: tuple[float, float] = (0.0, 0.0)
    ) -> Floats:
        """Every column within `extent` (y, x) nm of the crystal turned by `angle` degrees about `origin` (y, x) nm.

        Returns
        -------
        ndarray of shape (n, 3)
            y and x in nm, scattering.
        """
        sine, cosine = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
        turn = np.array([[cosine, sine], [-sine, cosine]])
        height, width = extent
        corners = (np.array([(0, 0), (height, 0), (0, width), (height, width)]) - origin) @ turn / self.cell
        first, last = np.floor(corners.min(axis=0)).astype(int) - 1, np.ceil(corners.max(axis=0)).astype(int) + 1
        cells = np.mgrid[first[0] : last[0], first[1] : last[1]].reshape(2, -1).T
        atoms = np.array(self.atoms)
        places = ((cells[:, None] + atoms[:, :2]) * self.cell).reshape(-1, 2) @ turn.T + origin
        inside = ((places >= 0) & (places < extent)).all(axis=1)
        columns: Floats = np.column_stack([places, np.tile(atoms[:, 2], len(cells))])[inside]
        return columns


def _strontium_titanate() -> Crystal:
    sr, ti_o, o = _column(38), _column(22, 8), _column(8)
    return Crystal((0.3905, 0.3905), ((0, 0, sr), (0.5, 0.5, ti_o), (0, 0.5, o), (0.5, 0, o)))


def _ruddlesden_popper(z: float = 0.355) -> Crystal:
    """Blocks of one perovskite layer between SrO double layers at height `z`; c lies along x."""
    sr, ti_o, o = _column(38), _column(22, 8), _column(8)
    strontium = ((0, z, sr), (0, 1 - z, sr), (0.5, 0.5 - z, sr), (0.5, 0.5 + z, sr))
    return Crystal((0.388, 1.26), (*strontium, (0, 0, ti_o), (0.5, 0.5, ti_o), (0.5, 0, o), (0, 0.5, o)))


def _dumbbells() -> Crystal:
    si = _column(14)
    return Crystal((0.384, 0.5431), ((0, 0, si), (0, 0.25, si), (0.5, 0.5, si), (0.5, 0.75, si)))


def _honeycomb(bond: float = 0.142) -> Crystal:
    c = _column(6)
    return Crystal((sqrt(3) * bond, 3 * bond), ((0, 0, c), (0, 1 / 3, c), (0.5, 0.5, c), (0.5, 5 / 6, c)))


#: SrTiO3 along [001].
SRTIO3 = _strontium_titanate()
#: Sr2TiO4 along [100], c along x: nearly the square lattice of SrTiO3, plus superlattice spots.
SR2TIO4 = _ruddlesden_popper()
#: Copper, fcc, along [001]: a square lattice of half the lattice parameter's diagonal.
COPPER = Crystal((0.2556, 0.2556), ((0, 0, _column(29)),))
#: Gold, fcc, along [001].
GOLD = Crystal((0.2884, 0.2884), ((0, 0, _column(79)),))
#: Silicon along [110]: dumbbells.
SILICON = _dumbbells()
#: Graphene along [001]: honeycomb, six-fold.
GRAPHENE = _honeycomb()

# ------------------------------------------------------------------------------------------------------- microscope


@dataclass(frozen=True)
class Imaging:
    """Everything physical that all images share; each attribute is a keyword of every function of `datasets`.

    Attributes
    ----------
    dose : float, default=60.0
        Electrons that the detector counts in a pixel, mean over the specimen (vacuum left out).
    read_noise : float, default=1.0
        Standard deviation of the read-out in electrons; it makes some counts of a dark image negative, as in a
        microscope.
    background : float, default=0.02
        Share of `dose` that is counted everywhere, vacuum included.
    pixel_size : float, default=0.015
        In nm.
    probe : float, default=0.045
        Standard deviation of the probe's core in nm, at least 0.6 pixels (full width at half maximum: 2.35 times as
        much).
    tail : float, default=0.35
        Share of the electrons that are in the probe's tail.
    tail_width : float, default=0.12
        Standard deviation of the tail in nm.
    displacement : float, default=0.006
        Static displacement of the columns in nm, root mean square along each axis.
    separation : float, default=0.13
        Distance in nm. Of two columns of different grains that are closer than this, the weaker one is left out.
    thickness_ramp : float, default=0.15
        Relative difference in thickness between the two sides of the frame.
    contamination : float, default=0.15
        Intensity of an amorphous layer on the specimen, relative to the specimen's.
    amorphous_density : float, default=1000.0
        Atoms per nm^2 of amorphous material in projection; its speckle fades as one over the square root.
    jitter : float, default=0.35
        Displacement of scan lines along x in pixels, root mean square.
    drift : float, default=6.0
        Of the specimen during the scan in pixels, in a random direction.
    """

    dose: float = 60.0
    read_noise: float = 1.0
    background: float = 0.02
    pixel_size: float = PIXEL_SIZE
    probe: float = 0.045
    tail: float = 0.35
    tail_width: float = 0.12
    displacement: float = 0.006
    separation: float = 0.13
    thickness_ramp: float = 0.15
    contamination: float = 0.15
    amorphous_density: float = 1000.0
    jitter: float = 0.35
    drift: float = 6.0

    def __post_init__(self) -> None:
        for name in ("dose", "pixel_size", "probe", "tail_width", "amorphous_density"):
            if not 0 < getattr(self, name) < np.inf:
                self._refuse(name, "be positive and finite,")
        for name in ("read_noise", "displacement", "separation", "contamination", "jitter", "drift"):
            if not 0 <= getattr(self, name) < np.inf:
                self._refuse(name, "be finite and not negative,")
        for name in ("background", "tail", "thickness_ramp"):
            if not 0 <= getattr(self, name) < 1:
                self._refuse(name, "be from 0 up to, but not including, 1;")
        if self.probe < 0.6 * self.pixel_size:
            raise ParameterError(
                f"`probe` must be at least 0.6 pixels wide to be sampled, got {self.probe} nm at a `pixel_size` of "
                f"{self.pixel_size} nm; make `pixel_size` smaller",
                probe=self.probe,
                pixel_size=self.pixel_size,
            )

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        value = getattr(self, name)
        raise ParameterError(f"`{name}` must {wanted} got {value!r}", **{name: value})


class Canvas:
    """The specimen plane, somewhat larger than the frame, and the random numbers of one image.

    Parameters
    ----------
    frame : (int, int)
        Height and width of the image in pixels.
    imaging : Imaging
    random_state : int, Generator or None
    """

    def __init__(self, frame: tuple[int, int], imaging: Imaging, random_state: Seed) -> None:
        if np.shape(frame) != (2,) or min(frame) < 1:
            raise ParameterError(
                f"`shape` must be (height, width) in pixels, both at least 1, got {frame!r}", shape=frame
            )
        self.frame = (int(frame[0]), int(frame[1]))
        self.imaging = imaging
        self.rng = np.random.default_rng(random_state)
        self.margin = ceil(4 * imaging.tail_width / imaging.pixel_size + imaging.drift + 5 * imaging.jitter)
        self.shape = tuple(fft.next_fast_len(n + 2 * self.margin, real=True) for n in self.frame)
        #: Pixel coordinates of the frame's axes: y as a column, x as a row.
        self.y, self.x = (axis - self.margin for axis in np.ogrid[: self.shape[0], : self.shape[1]])

    # ---- geometry

    def smooth_noise(self, shape: Sequence[int], scale: float) -> Floats:
        """Periodic Gaussian noise of standard deviation 1, smooth over `scale` pixels."""
        spectrum = fft.rfftn(self.rng.standard_normal(shape))
        for axis, n in enumerate(shape):
            k = fft.rfftfreq(n) if axis == len(shape) - 1 else fft.fftfreq(n)
            spectrum *= np.expand_dims(_gaussian(k, scale), tuple(range(1, len(shape) - axis)))
        spectrum.flat[0] = 0
        noise: Floats = fft.irfftn(spectrum, s=tuple(shape))
        noise /= max(float(noise.std()), np.finfo(float).tiny)
        return noise

    def interface(self, position: float, roughness: float) -> Floats:
        """A wavy upright line: x in pixels, as a column with one entry for each y."""
        wave = self.smooth_noise(self.shape[:1], scale=max(self.frame) / 16)
        line: Floats = position * self.frame[1] + roughness / self.imaging.pixel_size * wave
        return line[:, None]

    def columns(self, crystal: Crystal, angle: float) -> Floats:
        """Columns of a crystal at a random place, displaced: y and x in pixels of the canvas, scattering."""
        pixel = self.imaging.pixel_size
        origin = self.rng.uniform(0, 1, 2) * crystal.cell
        columns = crystal.columns((self.shape[0] * pixel, self.shape[1] * pixel), angle, (origin[0], origin[1]))
        columns[:, :2] += self.rng.normal(0, self.imaging.displacement, (len(columns), 2))
        columns[:, :2] /= pixel
        return columns

    # ---- density of scattering, per pixel

    def crystals(
        self, columns: Sequence[Floats], shares: Sequence[NDArray[Any]], *, drop_overlapping: bool = True
    ) -> Floats:
        """Density of crystals, each with its share (0 to 1, for each pixel of the canvas) of the thickness.

        With `drop_overlapping`, of two columns of different crystals that are too close the weaker one is left out.
        """
        every = np.concatenate(columns)
        grain = np.repeat(np.arange(len(columns)), [len(c) for c in columns])
        for g, share in enumerate(shares):
            own = grain == g
            row, col = (np.clip(np.rint(every[own, axis]).astype(int), 0, self.shape[axis] - 1) for axis in (0, 1))
            every[own, 2] *= share[row, col]
        every, grain = every[every[:, 2] > 0], grain[every[:, 2] > 0]
        if drop_overlapping and len(every):
            distance = self.imaging.separation / self.imaging.pixel_size
            pairs = KDTree(every[:, :2]).query_pairs(distance, output_type="ndarray")
            pairs = pairs[grain[pairs[:, 0]] != grain[pairs[:, 1]]]
            weaker = np.argmin(every[pairs, 2], axis=1)
            every = np.delete(every, pairs[np.arange(len(pairs)), weaker], axis=0)
        return _deposit(every, self.shape)

    def amorphous(self, where: NDArray[Any], density: float) -> Floats:
        """Density of atoms at random places, `density` per nm^2 on average times `where` (0 to 1)."""
        atoms = self.imaging.amorphous_density * self.imaging.pixel_size**2
        scattering: Floats = self.rng.poisson(atoms, self.shape) * where * (density / self.imaging.amorphous_density)
        return scattering

    # ---- what the microscope does

    def render(self, density: Floats, specimen: NDArray[np.bool_]) -> Floats:
        """Intensity on the canvas: thickness and contamination, seen through the probe."""
        im = self.imaging
        mean = density[specimen].mean() / im.pixel_size**2 if specimen.any() else 0.0
        tilt = self.rng.choice([-1, 1]) * np.clip(self.x / self.frame[1] - 0.5, -0.5, 0.5)
        density = density * (1 + im.thickness_ramp * tilt)
        unevenness = 1 + 0.2 * np.tanh(self.smooth_noise(self.shape, max(self.frame) / 10))
        density += unevenness * self.amorphous(specimen, im.contamination * mean)
        # Depositing a column has widened it by a quarter of a pixel squared.
        core = sqrt((im.probe / im.pixel_size) ** 2 - 0.25)
        ky, kx = fft.fftfreq(self.shape[0])[:, None], fft.rfftfreq(self.shape[1])
        tail = im.tail_width / im.pixel_size
        probe = (1 - im.tail) * _gaussian(ky, core) * _gaussian(kx, core)
        probe += im.tail * _gaussian(ky, tail) * _gaussian(kx, tail)
        intensity: Floats = fft.irfft2(fft.rfft2(density) * probe, s=self.shape)
        return np.maximum(intensity, 0)

    @cached_property
    def scan(self) -> tuple[Floats, Floats]:
        """Where the scan really is, in pixels of the canvas, for each pixel of the frame: y a column, x an image."""
        height, width = self.frame
        time = np.linspace(-0.5, 0.5, height)[:, None]
        lines = self.rng.standard_normal(height) + self.smooth_noise((height,), 6)
        jitter = np.clip(self.imaging.jitter * lines / sqrt(2), -5 * self.imaging.jitter, 5 * self.imaging.jitter)
        direction = self.rng.uniform(0, 2 * np.pi)
        drift = self.imaging.drift * (time + 0.1 * np.sin(2 * np.pi * (time + self.rng.uniform())))
        y = self.margin + np.arange(height)[:, None] + drift * np.sin(direction)
        x = self.margin + np.arange(width) + drift * np.cos(direction) + jitter[:, None]
        return y, x

    def distort(self, values: NDArray[Any], order: int) -> NDArray[Any]:
        """`values` on the canvas as the scan takes them: by cubic splines (order 3), linear (1), nearest pixel (0)."""
        y, x = self.scan
        if order == 0:
            picked: NDArray[Any] = values[np.rint(y).astype(int), np.rint(x).astype(int)]
            return picked
        places = np.broadcast_arrays(y, x)
        scanned: NDArray[Any] = ndimage.map_coordinates(values, places, order=order, mode="grid-wrap")
        return scanned

    def expose(self, density: Floats, specimen: NDArray[np.bool_] | None = None) -> Image:
        """The image of `density`: render, distort, count electrons. `specimen` is False where there is vacuum."""
        im = self.imaging
        specimen = np.ones(self.shape, bool) if specimen is None else specimen
        signal = np.maximum(self.distort(self.render(density, specimen), order=3), 0)
        seen = self.distort(specimen, order=0)
        level = signal[seen].mean() if seen.any() else 0.0
        if level > 0:
            signal /= level
        counts = self.rng.poisson(im.dose * (im.background + (1 - im.background) * signal))
        image: Image = (counts + im.read_noise * self.rng.standard_normal(self.frame)).astype(np.float32)
        return image


def _gaussian(k: Floats, sigma: float) -> Floats:
    """Fourier transform of a Gaussian of standard deviation `sigma` pixels at `k` cycles per pixel."""
    return np.exp(-2 * (np.pi * sigma * k) ** 2)


def _deposit(columns: Floats, shape: Sequence[int]) -> Floats:
    """Put each column (y, x, weight) on its nearest 3 x 3 pixels with quadratic B-spline weights.

    Its centre of mass is exact and its variance is 1/4 along each axis wherever it falls between pixels, so that the
    probe can take that off.
    """
    nearest = np.rint(columns[:, :2])
    off = (columns[:, :2] - nearest).T
    splines = (0.5 * (0.5 - off) ** 2, 0.75 - off**2, 0.5 * (0.5 + off) ** 2)
    row, col = nearest.astype(int).T
    density = np.zeros(prod(shape))
    for dy, (wy, _) in zip((-1, 0, 1), splines, strict=True):
        for dx, (_, wx) in zip((-1, 0, 1), splines, strict=True):
            pixel = (row + dy) % shape[0] * shape[1] + (col + dx) % shape[1]
            density += np.bincount(pixel, columns[:, 2] * wy * wx, minlength=density.size)
    return density.reshape(shape)
