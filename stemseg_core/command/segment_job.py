"""The job of `stemseg segment`: an image is read, segmented, and its results put into a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import LARGEST_PIXEL_NM, SMALLEST_PIXEL_NM
from stemseg_core.command.info import in_nm, no_lattice, too_coarse
from stemseg_core.command.job import SUMMARY, Job, Results, Steps
from stemseg_core.command.options import SEGMENT, RefusedError
from stemseg_core.command.values import Size
from stemseg_core.io import Image, ImageReadError, read_image, write_tiff
from stemseg_core.lattices.properties import write_regions
from stemseg_core.phases.segment import segment
from stemseg_core.phases.segmentation import Segmentation
from stemseg_core.system.memory import MemoryLimit, require_memory
from stemseg_core.system.threads import Progress

#: Files of the folder of results, written by `_arrays` and `_pictures`; put into it in this order.
RESULTS = (
    "overlay.png",
    "components.png",
    "labels.tif",
    "abundances.tif",
    "regions.csv",
    "report.html",
    "segmentation.npz",
    SUMMARY,
)


@dataclass(kw_only=True)
class SegmentJob(Job):
    """An image on its way from its file to its results."""

    options = SEGMENT

    image: Image
    calibration: str

    @classmethod
    def read(cls, path: Path, signal: int | None = None, frame: int | tuple[int, ...] | str | None = None) -> Self:
        """Read the image; ImageReadError if that cannot be done."""
        start = time.perf_counter()
        try:
            image = read_image(path, signal, frame)
        except ImageReadError as error:
            raise ImageReadError(SEGMENT.spelled(error)) from error
        calibration = "none" if image.pixel_size is None else "file"
        job: Self = cls.of(path, image=image, calibration=calibration, notes=list(image.notes))
        if any(s.index == image.signal and s.kind == "pattern" for s in image.signals):
            job.warnings.append("a diffraction pattern by its axes: what is found in it are no phases of a specimen")
        job.read_with("signal", signal)
        job.read_with("frame", frame)
        job.seconds["read"] = time.perf_counter() - start
        return job

    def calibrate(self, size: Size) -> None:
        """Take `size` for the pixel size, whatever the file says."""
        pixel_size, unit = size
        y, x = pixel_size
        given = f"{y:.12g}" if x == y else f"{y:.12g}x{x:.12g}"
        if unit == "px":
            raise RefusedError(
                f"--pixel-size: expected a length with its unit, such as {given}nm or {given}A; the unit is missing"
            )
        if not all(SMALLEST_PIXEL_NM <= n <= LARGEST_PIXEL_NM for n in pixel_size):
            raise RefusedError(f"--pixel-size: expected the size of a pixel, such as 0.02nm; {given}{unit} is none")
        self.image = replace(self.image, pixel_size=pixel_size, units=unit)
        self.calibration = "--pixel-size"
        self.reading += ["--pixel-size", f"{given}{unit}"]

    def in_pixels(self, size: Size, option: str) -> int | tuple[int, int]:
        """`size` of a window or a step in whole pixels, one number if both axes agree."""
        (y, x), unit = size
        if unit == "px":
            if y % 1 or x % 1:
                raise RefusedError(f"{option}: expected whole pixels, or a length such as 2nm, got {y:g} x {x:g}")
        elif self.image.pixel_size is None:
            raise RefusedError(
                f"{option}: a length needs a calibration, and {self.path.name} has none; "
                "give the size of a pixel, such as --pixel-size 0.02nm, or the size in pixels"
            )
        else:
            y, x = y / self.image.pixel_size[0], x / self.image.pixel_size[1]
        height, width = max(1, round(y)), max(1, round(x))
        return height if height == width else (height, width)

    def look_for_a_lattice(self, period: float | None, *, decided: bool) -> None:
        """Warn of pixels that are too large for one, and note if none was found, where it decided on the window."""
        pixel_size = self.image.pixel_size
        doubt = too_coarse(pixel_size)
        if doubt:
            self.warnings.append(f"{doubt}; what is found is not told apart by lattices")
        elif decided:
            doubt = no_lattice(period, pixel_size)
        if doubt:
            self.notes.append(doubt)

    def segment(
        self, n_phases: int | str, options: Mapping[str, Any], progress: Progress | None = None
    ) -> Segmentation:
        """Segment the image and measure its lattices; what `segment` refuses is refused with the name of the file."""
        image = self.image
        with self.computing("segment"):
            result = segment(
                image.data, n_phases, pixel_size=image.pixel_size, units=image.units, progress=progress, **options
            )
        self.notes += map(SEGMENT.in_text, result.notes)
        return self._measured(result, options.get("max_memory"))

    def _measured(self, result: Segmentation, max_memory: MemoryLimit) -> Segmentation:
        """The result, whose lattices are measured once for all that is written; without them where that fails."""
        start = time.perf_counter()
        try:
            require_memory(result.lattices_bytes, max_memory, "measuring lattices", "segment a part of the image")
            _ = result.lattices, result.regions
        except Exception as error:  # whatever it is, the map is made and is not to be lost
            if os.environ.get("STEMSEG_DEBUG"):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            self.warnings.append(f"lattices could not be measured, all other results are complete ({reason})")
            result = result.without_lattices(self.warnings[-1])
        self.seconds["lattices"] = time.perf_counter() - start
        return result

    def write(
        self,
        result: Segmentation,
        output: Path,
        extra: Mapping[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Put the results, and copies of the `extra` files, into `output`; returns the summary."""
        arrays, pictures = partial(_arrays, result), partial(_pictures, result, self.source, self.reading)
        return self.put(output, Results(RESULTS, arrays, pictures), self._about(result), extra=extra, progress=progress)

    def _about(self, result: Segmentation) -> dict[str, Any]:
        image = self.image
        window, step = result.window, result.step
        return {
            "input": {
                "file": self.source,
                "sha256": self.sha256,
                "format": image.format,
                "signal": image.signal,
                "frame": image.frame,
                "title": image.title,
                "shape": list(image.data.shape),
                "dtype": str(image.data.dtype),
                "notes": self.notes,
                "read_with": self.reading,
            },
            "calibration": {
                "pixel_size": None if image.pixel_size is None else list(image.pixel_size),
                "units": None if image.pixel_size is None else image.units,
                "source": self.calibration,
            },
            "windows": {
                "grid": list(result.labels.shape),
                "window": list(window),
                "step": list(step),
                "window_nm": in_nm(window, image.pixel_size),
                "step_nm": in_nm(step, image.pixel_size),
            },
            "fractions": [float(share) for share in result.fractions],
            "lattices": [None if lattice is None else lattice.to_dict() for lattice in result.lattices],
            "n_phases_estimate": None if result.estimate is None else result.estimate.to_dict(),
            "separation": None if result.separation is None else result.separation.to_dict(),
            "verdict": result.verdict,
            "confidence_mean": _mean(result.confidence),
            "residual_mean": _mean(result.residual),
            "excluded_windows": int(np.count_nonzero(result.labels < 0)),
            "parameters": result.params,
            "versions": result.versions,
        }


def _arrays(result: Segmentation, folder: Path) -> Steps:
    """What writes the files that are for programs."""
    py, px = result.pixel_size or (1.0, 1.0)
    units = result.units if result.pixel_size else "pixel"
    (step_y, step_x), (first_y, first_x) = result.step, result.centers[0].tolist()
    distances, origin = (step_y * py, step_x * px), (first_y * py, first_x * px)
    return [
        lambda: write_tiff(folder / "labels.tif", result.label_image + 1, result.pixel_size, result.units),
        lambda: write_tiff(folder / "abundances.tif", result.abundances, distances, units, origin=origin),
        lambda: _write_regions(result, folder / "regions.csv"),
        lambda: result.save(folder / "segmentation.npz"),
    ]


def _write_regions(result: Segmentation, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        write_regions(file, result.regions)


def _pictures(result: Segmentation, source: str, reading: list[str], folder: Path) -> Steps:
    """What writes the files that are for people."""
    from stemseg_core.plot import PICTURES
    from stemseg_core.plot.layout import Picture, draw_picture
    from stemseg_core.plot.report import write_report

    pictures: dict[str, Picture] = {}

    def write_picture(name: str) -> None:
        pictures[name] = picture = draw_picture(PICTURES[name](result))
        (folder / f"{name}.png").write_bytes(picture.png)

    return [
        lambda: write_picture("overlay"),
        lambda: write_picture("components"),
        lambda: write_report(result, folder / "report.html", source=source, reading=reading, pictures=pictures),
    ]


def _mean(values: NDArray[Any]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else None
