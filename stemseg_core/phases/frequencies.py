"""Which frequencies of a window are compared, and whether the directions they lie in count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real

import numpy as np
from numpy.typing import DTypeLike, NDArray

from stemseg_core.rows.base import check_whole
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.types import Array
from stemseg_core.windows.periods import SMALLEST
from stemseg_core.windows.plan import HalfPlane

#: Angular orders of a ring. Odd ones are zero, since spectra are even. With twice as many, lattices are told apart that
#: differ in angles below 15 degrees only, and noise counts more.
ORDERS = (0, 2, 4, 6, 8, 10, 12)
#: Half width of a ring in cycles a window. Rings overlap, since spots are two cycles wide. Twice as much: two close
#: spacings look like one.
REACH = 1.25
#: Highest order of a ring over its radius in cycles a window: spots, two cycles wide, show no higher ones. Twice as
#: much: inner rings have orders that hold noise alone.
ORDERS_PER_CYCLE = 2


@dataclass(frozen=True)
class Frequencies:
    """The frequencies that are compared.

    Attributes
    ----------
    k_min : float
        Those nearer to zero, in cycles a window, are ignored.
    k_max : float or None
        Those farther from zero, in cycles per unit of length, are ignored.
    pixel_size : (float, float)
        (y, x); (1, 1) makes the pixel the unit of length.
    rotation_invariant : bool
        Directions do not count: frequencies are kept within circles, and compared by their `AngularMoments`.
    """

    k_min: float
    k_max: float | None = None
    pixel_size: tuple[float, float] = (1.0, 1.0)
    rotation_invariant: bool = False

    def kept(self, half_plane: HalfPlane) -> NDArray[np.bool_]:
        """Which features (d,) of windows are compared.

        Raises
        ------
        ValueError
            If none are.
        """
        kept = self._within(half_plane)
        if not kept.any():
            raise self.nothing_left(f"a window of {half_plane.window[0]} x {half_plane.window[1]} px")
        return half_plane.from_image(kept)

    def nothing_left(self, window: str, remark: str = "") -> ParameterError:
        """The error if no frequency is within the limits; `window` is how it calls the window."""
        limits, cure = f"`k_min={self.k_min:g}`", "a smaller zoom or `k_min`"
        if self.k_max is not None:
            limits, cure = f"{limits} with `k_max={self.k_max:g}`", f"{cure}, or a larger `k_max`"
        return ParameterError(
            f"{limits} leaves none of the frequencies that {window} keeps; take a larger window, {cure}{remark}",
            k_min=self.k_min,
            k_max=self.k_max,
        )

    def leaves_some(self, half_plane: HalfPlane) -> bool:
        """Whether any feature is compared."""
        return bool(self._within(half_plane).any())

    def _within(self, half_plane: HalfPlane) -> NDArray[np.bool_]:
        """Which frequencies of the full plane are within the limits."""
        y, x = half_plane.ky[:, np.newaxis], half_plane.kx
        radius = np.hypot(y / self.pixel_size[0], x / self.pixel_size[1])
        if self.rotation_invariant:
            first, last = self.cycles(half_plane)
            return (radius >= first * self.bin_of(half_plane)) & (radius <= (last + 1e-9) * self.bin_of(half_plane))
        within: NDArray[np.bool_] = np.hypot(y * half_plane.window[0], x * half_plane.window[1]) >= self.k_min
        return within if self.k_max is None else within & (radius <= self.k_max)

    def bin_of(self, half_plane: HalfPlane) -> float:
        """One cycle a window along its shorter side, in cycles per unit of length: the distance between rings."""
        return max(1 / (w * size) for w, size in zip(half_plane.window, self.pixel_size, strict=True))

    def cycles(self, half_plane: HalfPlane) -> tuple[float, float]:
        """First and last radius that is compared if directions do not count, in units of `bin_of`.

        Circles beyond the last lie only in part in the plane of frequencies: what is seen of them changes with the
        direction of a lattice.
        """
        complete = min(half_plane.ky[-1] / self.pixel_size[0], half_plane.kx[-1] / self.pixel_size[1])
        last = complete if self.k_max is None else min(complete, self.k_max)
        return self.k_min, float(last / self.bin_of(half_plane))

    def columns(self, half_plane: HalfPlane) -> list[tuple[float, int]]:
        """Radius and order of each of the moments; if there is no room for a whole ring, of one in the middle."""
        first, last = self.cycles(half_plane)
        rings = np.arange(first + REACH, last - REACH + 1e-9)
        rings = rings if len(rings) else np.array([(first + last) / 2])
        return [(float(ring), order) for ring in rings for order in ORDERS if order <= ORDERS_PER_CYCLE * ring]

    def n_features(self, half_plane: HalfPlane) -> int:
        """How many numbers a window is compared by."""
        return len(self.columns(half_plane)) if self.rotation_invariant else half_plane.n_features

    def moments(self, half_plane: HalfPlane, dtype: DTypeLike) -> AngularMoments | None:
        """What replaces the features, of that type, if directions do not count; else None."""
        return AngularMoments(self, half_plane, dtype) if self.rotation_invariant else None

    def moments_bytes(self, half_plane: HalfPlane, dtype: DTypeLike) -> float:
        """Memory of `moments`."""
        if not self.rotation_invariant:
            return 0.0
        return 2.0 * len(self.columns(half_plane)) * half_plane.n_features * np.dtype(dtype).itemsize


def check_k_max(k_max: object, zoom: int, calibration: tuple[float, float] | None, units: str) -> None:
    """Refuse a limit above all frequencies of an image, or above those of them that `zoom` keeps."""
    check_whole(zoom=zoom)
    if k_max is None:
        return
    if isinstance(k_max, bool) or not isinstance(k_max, Real) or not 0 < float(k_max) < np.inf:
        raise ParameterError(f"`k_max` must be a positive number or None, got {k_max!r}", k_max=k_max)
    limit = float(k_max)
    values = {"k_max": limit, "zoom": zoom, "pixel_size": calibration}
    end_y, end_x = (0.5 / size for size in calibration or (1.0, 1.0))
    largest, unit = float(np.hypot(end_y, end_x)), "pixel" if calibration is None else units
    if limit > largest:
        cure = f"give `pixel_size`, by which `k_max` is in cycles per {units}"
        if calibration is not None:
            cure = f"give a smaller one{_as_a_length(limit, largest / zoom, units)}"
        raise ParameterError(
            f"`k_max={limit:g}` cycles per {unit} is above every frequency of an image, which are at most "
            f"{largest:.2g}; {cure}",
            **values,
        )
    if limit > largest / zoom:
        along = " and ".join(f"{end / zoom:.3g}" for end in dict.fromkeys((end_y, end_x)))
        raise ParameterError(
            f"`k_max={limit:g}` cycles per {unit} is above all that `zoom={zoom}` keeps, which is up to {along} along "
            f"the axes and {largest / zoom:.3g} between them; give a smaller one, or `zoom={int(largest / limit)}`",
            **values,
        )


def check_windows(
    sizes: Sequence[tuple[int, int]],
    frequencies: Frequencies,
    zoom: int,
    shape: tuple[int, ...],
    units: str,
    *,
    chosen: bool,
) -> None:
    """Refuse sizes of windows, given or chosen for the image, that leave no frequency to compare."""
    for size in sizes:
        if not chosen and (size[0] > shape[0] or size[1] > shape[1]):
            continue  # refused as such when windows are laid over the image
        half_plane = HalfPlane(size, zoom)
        if frequencies.leaves_some(half_plane):
            continue
        if chosen and max(size) < SMALLEST:
            raise ParameterError(
                f"`image` of {shape[0]} x {shape[1]} px is too small: `k_min={frequencies.k_min:g}` leaves none of the "
                "frequencies of windows of a quarter of it; take a larger image, or try a larger window with `zoom=1`",
                image=shape,
                k_min=frequencies.k_min,
                zoom=zoom,
            )
        windows = "the window chosen for the image" if chosen else f"a window of {size[0]} x {size[1]} px"
        remark = ""
        if frequencies.k_max is not None and replace(frequencies, k_max=1 / frequencies.k_max).leaves_some(half_plane):
            y, x = frequencies.pixel_size
            remark = _as_a_length(
                frequencies.k_max, float(np.hypot(half_plane.ky[-1] / y, half_plane.kx[-1] / x)), units
            )
        raise frequencies.nothing_left(windows, remark)


def _as_a_length(k_max: float, largest: float, units: str) -> str:
    """The cure if `k_max` makes sense as a length rather than as a frequency; nothing if it does not."""
    if 1 / k_max > largest:
        return ""
    return f"; `k_max` is a frequency: for details of {k_max:g} {units} give {1 / k_max:.4g}"


class AngularMoments:
    """Rings of a spectrum by the moduli of their angular Fourier coefficients: the same however it is turned.

    Of features x(k) on the half plane, at angles phi(k), ring r has the coefficients sum_k w_r(k) x(k) exp(i o phi(k))
    of even orders o. A turn of the spectrum changes their phases only. Rings are circles in physical frequency, one
    cycle a window apart; w_r is a squared cosine over the radius, which ends 1.25 cycles to either side. None reaches
    below `k_min` or beyond `k_max`: a sharp limit would cut spots on it differently for each direction. Coefficients
    are scaled such that noise of equal variance in all frequencies has equal variance in all of them.

    Notes
    -----
    The angles between the rings are lost. Cost: a product of the rows with a matrix of (d, 2 q); 2 us a window of 64
    px, 22 us of 128 px, on one thread.

    The expansion of patterns on circles is that of Y.-N. Hsu and H. H. Arsenault, Appl. Opt. 21 (1982) 4016-4019,
    doi:10.1364/AO.21.004016.
    """

    def __init__(self, frequencies: Frequencies, half_plane: HalfPlane, dtype: DTypeLike) -> None:
        y, x = np.meshgrid(
            half_plane.ky / frequencies.pixel_size[0], half_plane.kx / frequencies.pixel_size[1], indexing="ij"
        )
        kept = np.flatnonzero(frequencies.kept(half_plane))
        cycles = half_plane.from_image(np.hypot(y, x))[kept] / frequencies.bin_of(half_plane)
        angles = half_plane.from_image(np.arctan2(y, x))[kept]
        # The weights of features: all frequencies but zero stand for two.
        weights = np.where(cycles > 0, np.sqrt(2), 1)
        columns = frequencies.columns(half_plane)
        self.n = len(columns)
        self.to_both = np.zeros((half_plane.n_features, 2 * self.n), dtype)
        for column, (ring, order) in enumerate(columns):
            profile = np.cos(np.pi / 2 * np.clip((cycles - ring) / REACH, -1, 1)) ** 2 * weights
            # An order stands for its negative too.
            part = profile * np.exp(1j * order * angles) * (np.sqrt(2) if order else 1) / np.linalg.norm(profile)
            self.to_both[kept, column], self.to_both[kept, self.n + column] = part.real, part.imag

    def __call__(self, rows: Array) -> Array:
        """Moduli (n, q) for rows (n, d)."""
        both = rows @ self.to_both
        moduli: Array = np.hypot(both[:, : self.n], both[:, self.n :])
        return moduli
