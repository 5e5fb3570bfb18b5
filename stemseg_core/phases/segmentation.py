"""The result of a segmentation: maps, patterns, calibration, and how they came about."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemseg_core.stages.estimates import ComponentEstimate, Separation
from stemseg_core.system.archives import as_tuple, load_archive, save_archive
from stemseg_core.system.errors import Message
from stemseg_core.system.extras import require_extra
from stemseg_core.windows.periods import pixels_along, smaller_than_a_cell

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stemseg_core.lattices.lattice import Lattice
    from stemseg_core.lattices.measure import Cell
    from stemseg_core.lattices.properties import Phases, Region

#: Version of the file format of `Segmentation.save`.
FORMAT = 1
#: Smallest phase, in areas of a window, that raises no doubts. Twice as much: true phases of half a window do.
MIN_PHASE_AREA = 0.25


class PhaseWarning(Message, UserWarning):
    """Some of the phases of a map may be none, see `Segmentation.doubts`."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Phases of one image. Grid arrays have one entry a window, (ny, nx); image arrays one a pixel, (y, x).

    Attributes
    ----------
    image : ndarray of shape (y, x)
        The image as it was given.
    labels : ndarray of shape (ny, nx), int32
        Phase of each window, that of its largest membership, or of its central pixel where intensity corrected this or
        it was part of a region below `min_area`; 0 is the phase with most pixels of `label_image`, ties by the first
        pixel; -1: excluded.
    label_image : ndarray of shape (y, x), int32
        Phase of each pixel: memberships interpolated linearly between window centres, held constant outside the
        outermost ones, then the largest; corrected by intensity, or found by it alone (`contrast`); without regions
        below `min_area`.
    abundances : ndarray of shape (k, ny, nx), float32
        Memberships of each window, regularised if that was asked for, summing to 1; NaN where excluded.
    components : ndarray of shape (k, 2 hy + 1, 2 hx + 1), float32
        Pattern of each phase over the frequencies `ky`, `kx`, centred, in the chosen scale.
    fractions : ndarray of shape (k,)
        Share of the pixels of `label_image` that are not excluded.
    confidence : ndarray of shape (ny, nx), float32
        Top membership minus the next, 0 to 1; NaN where excluded, and everywhere if there is but one phase.
    residual : ndarray of shape (ny, nx), float32
        ``|x - its reconstruction| / |x|`` of the window's spectrum x; NaN where excluded.
    centers : ndarray of shape (ny * nx, 2)
        Window centres in pixel coordinates (y, x), in grid order.
    ky, kx : ndarray of shape (2 hy + 1,), (2 hx + 1,)
        Frequency of each row and column of `components`, in cycles per pixel.
    pixel_size : tuple of float or None
        (y, x) size of a pixel in `units`; None if not calibrated.
    units : str
        Unit of `pixel_size`; the frequency unit is its inverse.
    params : dict
        Every parameter that decided the result, including the seed; JSON-able.
    versions : dict of str
        `stemseg_core.system.versions.versions` at the time.
    estimate : ComponentEstimate or None
        How the number of phases was found; None if it was given.
    separation : Separation or None
        How far apart the phases are, and how far apart those of a map without phases would be, before `regularize` and
        `min_area`; where the number was found to be one, those of the best map of more. None of one phase that was
        asked for.
    notes : tuple of str
        What was done, left out or given up without being asked.
    period : float or None
        Longest period of the lattices of the image, in pixels (of the geometric mean of both sizes, where they are not
        square); None if none was found.
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
    estimate: ComponentEstimate | None = None
    separation: Separation | None = None
    notes: tuple[str, ...] = ()
    period: float | None = None

    def __post_init__(self) -> None:
        ny, nx = self.labels.shape
        k = len(self.components)
        expected = {
            "abundances": (k, ny, nx),
            "confidence": (ny, nx),
            "residual": (ny, nx),
            "centers": (ny * nx, 2),
            "fractions": (k,),
            "label_image": self.image.shape,
            "components": (k, len(self.ky), len(self.kx)),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")

    def __repr__(self) -> str:
        shares = ", ".join(f"{100 * f:.1f} %" for f in self.fractions)
        (y, x), (ny, nx) = self.image.shape, self.labels.shape
        phases = "1 phase" if len(self.fractions) == 1 else f"{len(self.fractions)} phases"
        return f"Segmentation({phases}: {shares}; image {y} x {x}, {ny} x {nx} windows)"

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against the phases, in words: no better separated than chance, or hardly a pixel."""
        return tuple(map(str, phase_warnings(self)))

    @property
    def by_chance(self) -> bool:
        """Whether chance separates as many phases as well; not of one phase."""
        return len(self.fractions) > 1 and self.separation is not None and self.separation.by_chance

    @property
    def verdict(self) -> str | None:
        """Whether the phases exist, in one sentence: the one that the warning, the report and the command give.

        Of one phase that was found, why there are not more; None of one that was asked for.
        """
        k, separation = len(self.fractions), self.separation
        if k > 1:
            return None if separation is None else f"the {k} phases are {separation.words}"
        if self.estimate is None:
            return None
        if separation is None:
            return "1 phase: of no larger number would each fill a window somewhere"
        return f"1 phase: {separation.n_phases}, of larger numbers the best separated, are {separation.words}"

    @property
    def window(self) -> tuple[int, int]:
        """Sides of a window, (y, x) in pixels."""
        y, x = (round(2 * center + 1) for center in self.centers[0].tolist())  # the first window starts at pixel 0
        return y, x

    @property
    def step(self) -> tuple[int, int]:
        """From one window to the next, (y, x) in pixels; of one window along an axis what `params` say, or its side."""
        centers = self.centers.reshape(*self.labels.shape, 2)
        along = centers[:, 0, 0].tolist(), centers[0, :, 1].tolist()
        given = np.broadcast_to(self.params.get("step") or self.window, 2).tolist()
        y, x = (round(c[1] - c[0]) if len(c) > 1 else g for c, g in zip(along, given, strict=True))
        return y, x

    @property
    def frequency_axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`ky` and `kx` in cycles per unit of length (1/nm for nm), or per pixel if not calibrated."""
        y, x = self.pixel_size or (1.0, 1.0)
        return self.ky / y, self.kx / x

    @cached_property
    def lattices(self) -> tuple[Lattice | None, ...]:
        """The lattice of each phase, None for amorphous material and vacuum; measured in the image when asked for.

        None as well if the phase is periodic in one direction only, or nowhere deeper than a window. A phase that
        `rotation_invariant` found in several orientations has the lattice of its largest region.
        """
        return self._measured.lattices(self._cells)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Regions of the map, by phase and size, each with its place, its size and its own lattice if it is large."""
        return self._measured.regions(self._cells)

    @cached_property
    def turn(self) -> NDArray[np.float32]:
        """Turn (ny, nx) of the lattice at each window, in degrees clockwise from the lattice of its phase.

        NaN where no lattice is seen. It sees differences over a window or so; grains that are turned by more than some
        10 degrees against the mean of their phase are not told right.
        """
        return self._measured.turn(self._cells, self.centers).reshape(self.labels.shape)

    @property
    def _measured(self) -> Phases:
        from stemseg_core.lattices.properties import Phases

        return Phases(
            image=self.image.astype(np.float64) if self.image.dtype.hasobject else self.image,
            labels=self.label_image,
            n_phases=len(self.fractions),
            window=self.window,
            pixel_size=self.pixel_size,
            units=self.units,
            turned=bool(self.params.get("rotation_invariant")),
        )

    @cached_property
    def _cells(self) -> tuple[Cell | None, ...]:
        return self._measured.cells()

    @property
    def lattices_bytes(self) -> float:
        """Predicted memory of `lattices`, `regions` and `turn`, which raise MemoryError if too little is free."""
        return self._measured.predicted_bytes

    def without_lattices(self, note: str) -> Self:
        """The same where lattices could not be measured: none of any phase, and a note that says why."""
        other = replace(self, notes=(*self.notes, note))
        vars(other)["_cells"] = (None,) * len(self.fractions)  # where `cached_property` looks for them
        return other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, arrays as npz and the rest as JSON in it, without pickle.

        The file appears complete or not at all. Its name should end in ``.npz``.
        """
        rest = {name: value for name, value in self.to_dict().items() if name not in _ARRAYS}
        save_archive(path, FORMAT, {name: getattr(self, name) for name in _ARRAYS}, rest)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not one that `save` wrote.
        """

        def made(values: dict[str, Any]) -> Any:
            for name, kind in (("estimate", ComponentEstimate), ("separation", Separation)):
                if values.get(name) is not None:
                    values[name] = kind.from_dict(values[name])
            values["pixel_size"] = as_tuple(values["pixel_size"])
            values["notes"] = tuple(values.get("notes", ()))
            values["params"] = {name: as_tuple(value) for name, value in values["params"].items()}
            return cls(**values)

        loaded: Self = load_archive(path, FORMAT, "Segmentation", made)
        return loaded

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name: arrays as they are, the rest JSON-able."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        if self.estimate is not None:
            values["estimate"] = self.estimate.to_dict()
        if self.separation is not None:
            values["separation"] = self.separation.to_dict()
        return values

    def plot(self) -> Figure:
        """Overview: image, phases, patterns, confidence. Needs matplotlib."""
        require_extra("matplotlib")
        from stemseg_core.plot import plot

        return plot(self)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a self-contained html page; see `stemseg_core.plot.report.write_report`. Needs matplotlib."""
        require_extra("matplotlib")
        from stemseg_core.plot.report import write_report

        write_report(self, path)


def phase_warnings(segmentation: Segmentation) -> list[PhaseWarning]:
    """What speaks against the phases of a segmentation."""
    s, found = segmentation, []
    k = len(s.fractions)
    if s.by_chance:
        found.append(PhaseWarning(f"{s.verdict}; the image may have fewer, or one that changes gradually"))
    least = MIN_PHASE_AREA * float(np.prod(s.window))
    areas = s.fractions * np.count_nonzero(s.label_image >= 0)
    if k > 1 and (few := np.count_nonzero(areas < least)) and areas.any():
        empty = np.count_nonzero(areas == 0)
        none = f", {empty} of them none at all" if empty else ""
        have = "has" if few == 1 else "have"
        used = {name: value for name in ("regularize", "min_area") if (value := s.params.get(name))}
        less = " and ".join(f"`{name}={value:g}`" for name, value in used.items())
        found.append(
            PhaseWarning(
                f"{few} of the {k} phases {have} fewer than {least:.0f} pixels, a quarter of a window{none}: ask for "
                f"fewer phases{', or less than ' * bool(used)}{less}",
                **used,
            )
        )
    by_windows = s.params.get("contrast") != "only"
    if by_windows and k > 1 and s.period is not None and smaller_than_a_cell(s.window, s.period, s.pixel_size):
        (y, x), period = s.window, max(pixels_along(s.period, s.pixel_size))
        found.append(
            PhaseWarning(
                f"the window of {y} x {x} px is smaller than the longest period of the image, {period:.0f} px: unit "
                "cells may come out as phases; take a larger window, or an image of more cells",
                window=s.window,
            )
        )
    return found


_ARRAYS = (
    "image",
    "labels",
    "label_image",
    "abundances",
    "components",
    "fractions",
    "confidence",
    "residual",
    "centers",
    "ky",
    "kx",
)
