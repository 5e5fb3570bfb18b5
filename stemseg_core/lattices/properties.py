"""Lattices of the phases of a map, and a table of its regions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan, pi, sqrt
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from stemseg_core.lattices.lattice import Lattice
from stemseg_core.lattices.measure import Cell, cell_again, described, find_cell, lattice_bytes, least_area
from stemseg_core.lattices.turn import local_turn
from stemseg_core.system.memory import require_memory
from stemseg_core.system.threads import one_blas_thread
from stemseg_core.system.types import Array

#: Pixels that touch by an edge or by a corner are of one region, as in scikit-image.
TOUCHING = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Region:
    """Pixels of one phase that touch each other, by edges or corners. Lengths are in `units`, as in scikit-image's
    ``regionprops`` with the pixel size as its ``spacing``.

    Attributes
    ----------
    phase : int
        Label of the phase.
    n_pixels : int
    area : float
        In units squared.
    centroid : (float, float)
        Mean (y, x) of the centres of its pixels; the centre of the first pixel of the image is at (0, 0).
    equivalent_diameter : float
        Of a circle of this area.
    box : (int, int, int, int)
        First row and column in pixels, and those behind the last.
    units : str
        "px" if the image is not calibrated.
    lattice : Lattice or None
        Its own lattice; None where it is too small to measure one, or has none.

    Examples
    --------
    >>> from stemseg_core import datasets, segment
    >>> image, truth = datasets.two_phase((256, 256))
    >>> region = segment(image, 2, pixel_size=datasets.PIXEL_SIZE).regions[0]
    >>> region.phase, region.units, region.area == region.n_pixels * datasets.PIXEL_SIZE**2
    (0, 'nm', True)
    """

    phase: int
    n_pixels: int
    area: float
    centroid: tuple[float, float]
    equivalent_diameter: float
    box: tuple[int, int, int, int]
    units: str
    lattice: Lattice | None


@dataclass(frozen=True, eq=False)
class Phases:
    """An image and the map of its phases: what lattices are measured in.

    Attributes
    ----------
    image : ndarray of shape (y, x)
    labels : ndarray of shape (y, x), int
        Phase of each pixel; -1: excluded.
    n_phases : int
    window : (int, int)
        Windows of the map, (y, x) in pixels.
    pixel_size : (float, float) or None
    units : str
    turned : bool
        Regions of one phase are turned against each other; its lattice is that of its largest region that has one.
    """

    image: Array
    labels: NDArray[np.int32]
    n_phases: int
    window: tuple[int, int]
    pixel_size: tuple[float, float] | None
    units: str
    turned: bool

    @property
    def predicted_bytes(self) -> float:
        """Memory of what is measured here, beside the image and the map."""
        return lattice_bytes(self.image.size, self.window)

    def cells(self) -> tuple[Cell | None, ...]:
        """The lattice of each phase as a fit; MemoryError if that needs more than a share of what is free."""
        size = f"{self.image.shape[0]} x {self.image.shape[1]} px"
        require_memory(self.predicted_bytes, None, f"measuring lattices in {size}", "segment a part of the image")
        with one_blas_thread():
            return tuple(self._cell(phase) for phase in range(self.n_phases))

    def lattices(self, cells: Sequence[Cell | None]) -> tuple[Lattice | None, ...]:
        """The lattice of each phase in units of length."""
        return tuple(self._described(cell) for cell in cells)

    def regions(self, cells: Sequence[Cell | None]) -> tuple[Region, ...]:
        """All regions, those of the first phase first, the largest of each first; of equals that with the first pixel.

        Cost: some 50 ns a pixel and phase, and what the lattices of large regions take.
        """
        with one_blas_thread():
            return tuple(region for phase in range(self.n_phases) for region in self._regions(phase, cells[phase]))

    def turn(self, cells: Sequence[Cell | None], centers: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turn (n,) of the lattice at places (n, 2) in pixels, relative to that of the phase; see `local_turn`."""
        y, x = np.rint(centers).astype(int).T
        labels = self.labels[y, x]
        turn = np.full(len(centers), np.nan, np.float32)
        with one_blas_thread():
            for phase, cell in enumerate(cells):
                own = labels == phase
                if cell is not None and own.any():
                    turn[own] = local_turn(self.image, self._usable(phase), cell, centers[own], self.pixel_size)
        return turn

    def _usable(self, phase: int) -> NDArray[np.bool_]:
        usable: NDArray[np.bool_] = (self.labels == phase) & np.isfinite(self.image)
        return usable

    def _cell(self, phase: int) -> Cell | None:
        usable = self._usable(phase)
        if not self.turned:
            return find_cell(self.image, usable, self.window)
        numbers, n = label(usable, TOUCHING)
        areas = np.bincount(numbers.ravel(), minlength=n + 1)[1:]
        order = np.argsort(-areas, kind="stable")
        order = order[areas[order] >= least_area(self.window)] + 1
        boxes = find_objects(numbers)
        found = (find_cell(self.image[boxes[i - 1]], numbers[boxes[i - 1]] == i, self.window) for i in order.tolist())
        return next((cell for cell in found if cell is not None), None)

    def _described(self, cell: Cell | None) -> Lattice | None:
        return None if cell is None else described(cell, self.pixel_size, self.units)

    def _regions(self, phase: int, cell: Cell | None) -> list[Region]:
        numbers, n = label(self.labels == phase, TOUCHING)
        areas = np.bincount(numbers.ravel(), minlength=n + 1)[1:]
        boxes = find_objects(numbers)
        size = np.array(self.pixel_size or (1.0, 1.0))
        found = []
        for i in np.argsort(-areas, kind="stable").tolist():
            box, n_pixels = boxes[i], int(areas[i])
            own = numbers[box] == i + 1
            first = np.array([part.start for part in box])
            centroid = (np.argwhere(own).mean(axis=0) + first) * size
            area = n_pixels * float(size.prod())
            found.append(
                Region(
                    phase=phase,
                    n_pixels=n_pixels,
                    area=area,
                    centroid=(float(centroid[0]), float(centroid[1])),
                    equivalent_diameter=sqrt(4 * area / pi),
                    box=(box[0].start, box[1].start, box[0].stop, box[1].stop),
                    units=self.units if self.pixel_size is not None else "px",
                    lattice=self._described(self._cell_of_region(box, own, cell, whole=n == 1)),
                )
            )
        return found

    def _cell_of_region(
        self, box: tuple[slice, ...], own: NDArray[np.bool_], cell: Cell | None, *, whole: bool
    ) -> Cell | None:
        """Lattice of one region of a phase: that of the phase where it is all of it."""
        if cell is None or whole:
            return cell
        if np.count_nonzero(own) < least_area(self.window if self.turned else cell.sides):
            return None
        image = self.image[box]
        usable = own & np.isfinite(image)
        return find_cell(image, usable, self.window) if self.turned else cell_again(image, usable, cell)


def write_regions(file: TextIO, regions: Sequence[Region]) -> None:
    """Write regions as a table of comma-separated values; phases are numbered from 1, as in all files.

    A cell is empty where a region has no lattice of its own, and where an uncertainty is not known.
    """
    units = regions[0].units if regions else "px"
    lengths = ("centroid_y", "centroid_x", "equivalent_diameter")
    header = ["region", "phase", "pixels", f"area_{units}2", *(f"{name}_{units}" for name in lengths)]
    header += ["top_px", "left_px", "bottom_px", "right_px"]
    for name, unit in (("a", units), ("b", units), ("gamma", "degrees"), ("angle", "degrees")):
        header += [f"{name}_{unit}", f"{name}_uncertainty_{unit}"]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for count, region in enumerate(regions, start=1):
        numbers = (region.area, *region.centroid, region.equivalent_diameter)
        row: list[Any] = [count, region.phase + 1, region.n_pixels, *(f"{value:.7g}" for value in numbers)]
        row += region.box
        for name in ("a", "b", "gamma", "angle"):
            for value in (name, f"{name}_uncertainty"):
                number = nan if region.lattice is None else getattr(region.lattice, value)
                row.append("" if isnan(number) else f"{number:.7g}")
        writer.writerow(row)
