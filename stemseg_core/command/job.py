"""One job of the command: an image file is read, segmented, and its results put into a folder, all or none."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import LARGEST_PIXEL_NM, SMALLEST_PIXEL_NM
from stemseg_core.command.info import in_nm, no_lattice, too_coarse
from stemseg_core.command.options import OPTIONS, RefusedError, in_options, spelled
from stemseg_core.command.values import Size
from stemseg_core.io import Image, ImageReadError, read_image, write_tiff
from stemseg_core.io.readers import located, name_of
from stemseg_core.lattices.properties import write_regions
from stemseg_core.phases.segment import segment
from stemseg_core.phases.segmentation import Segmentation
from stemseg_core.system.execution import Execution
from stemseg_core.system.files import readable
from stemseg_core.system.memory import MemoryLimit, require_memory
from stemseg_core.system.threads import Progress
from stemseg_core.system.versions import VERSION

#: Files of the folder of results, written by `_arrays`, `_pictures` and `Job.write`; put into it in this order.
RESULTS = (
    "overlay.png",
    "components.png",
    "labels.tif",
    "abundances.tif",
    "regions.csv",
    "report.html",
    "segmentation.npz",
    "summary.json",
)


@dataclass
class Job:
    """An image on its way from its file to its results."""

    path: Path
    image: Image
    sha256: str | None
    calibration: str
    notes: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    reading: list[str] = field(default_factory=list)  # options of the command that decided what was read
    source: str = ""  # its name, with the data set that was asked for

    @classmethod
    def read(cls, path: Path, signal: int | None = None, frame: int | tuple[int, ...] | str | None = None) -> Job:
        """Read the image; ImageReadError if that cannot be done."""
        start = time.perf_counter()
        try:
            image = read_image(path, signal, frame)
        except ImageReadError as error:
            raise ImageReadError(spelled(error)) from error
        file, _ = located(path)
        job = cls(file, image, _sha256(file), "none" if image.pixel_size is None else "file", list(image.notes))
        job.source = name_of(path)
        if any(s.index == image.signal and s.kind == "pattern" for s in image.signals):
            job.warnings.append("a diffraction pattern by its axes: what is found in it are no phases of a specimen")
        job.seconds["read"] = time.perf_counter() - start
        for name, value in (("signal", signal), ("frame", frame)):
            if value is not None:
                written = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                job.reading += [OPTIONS[name].option, written]
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

    def read_mask(self, path: Path) -> NDArray[np.bool_]:
        """Pixels to exclude: those of the image in `path` that are not 0."""
        mask: NDArray[np.bool_] = read_image(path).data != 0
        if mask.shape != self.image.data.shape:
            raise RefusedError(
                f"--mask: expected the shape {times(self.image.data.shape)} of {self.path.name}, "
                f"{name_of(path)} has {times(mask.shape)}"
            )
        self.reading += ["--mask", name_of(path)]
        return mask

    def segment(
        self, n_phases: int | str, options: Mapping[str, Any], progress: Progress | None = None
    ) -> Segmentation:
        """Segment the image and measure its lattices; what `segment` refuses is refused with the name of the file."""
        image = self.image
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                result = segment(
                    image.data, n_phases, pixel_size=image.pixel_size, units=image.units, progress=progress, **options
                )
            except (ValueError, MemoryError) as error:
                raise RefusedError(f"{self.path.name}: {spelled(error)}") from error
        self.warnings += [spelled(warning.message) for warning in caught]
        self.notes += map(in_options, result.notes)
        self.seconds["segment"] = time.perf_counter() - start
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

    def check_output(self, output: Path, names: tuple[str, ...] = RESULTS) -> None:
        """Refuse a folder that could not take the results, before the work is done rather than after."""
        home = _nearest_folder(output)
        if output.exists() and not output.is_dir():
            raise RefusedError(f"--output: expected a folder, {output} is a file")
        if not os.access(home, os.W_OK | os.X_OK):
            raise RefusedError(f"--output: no permission to write in {home}")
        for name in names:
            if (output / name).is_dir():
                raise RefusedError(
                    f"--output: {output / name} is a folder, and the result of that name could not be written"
                )
            if (output / name).exists() and (output / name).samefile(self.path):
                raise RefusedError(f"--output: {name} in {output} is the image itself; choose another folder")

    def write(
        self,
        result: Segmentation,
        output: Path,
        extra: Mapping[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Put the results, and copies of the `extra` files, into `output`; returns the summary.

        They are written in a temporary folder beside it and moved when complete, the summary last.
        """
        extra = extra or {}
        start = time.perf_counter()
        stage = _nearest_folder(output) / f".stemseg-{secrets.token_hex(8)}"
        stage.mkdir()
        try:
            # Arrays are compressed while pictures are drawn; matplotlib is for one thread.
            other = ThreadPoolExecutor(1)
            try:
                arrays = [other.submit(step) for step in _arrays(result, stage)]
                execution = Execution(progress=progress)
                steps = [*_pictures(result, stage, self.source, self.reading), *(step.result for step in arrays)]
                for done, step in enumerate(steps, start=1):
                    step()
                    execution.report(done, len(steps), "write")
            finally:
                other.shutdown(cancel_futures=True)
            with (stage / "regions.csv").open("w", encoding="utf-8", newline="") as file:
                write_regions(file, result.regions)
            for name, source in extra.items():
                shutil.copyfile(source, stage / name)
            self.seconds["write"] = time.perf_counter() - start
            summary = self._summary(result, output, [*RESULTS, *extra])
            (stage / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            _move(stage, output, [*extra, *RESULTS])
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        return summary

    def _summary(self, result: Segmentation, output: Path, files: list[str]) -> dict[str, Any]:
        image = self.image
        window, step = result.window, result.step
        return {
            "stemseg_core": VERSION,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
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
            "warnings": self.warnings,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "output": readable(output),
            "files": files,
        }


def plural(n: int, what: str) -> str:
    """``1 phase``, ``2 phases``."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def times(sizes: Sequence[int]) -> str:
    """Sizes as in ``512 x 512``."""
    return " x ".join(map(str, sizes))


def _nearest_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists: on the same disk as `path` will be."""
    path = path.absolute()
    return path if path.is_dir() else next(folder for folder in path.parents if folder.is_dir())


def _arrays(result: Segmentation, folder: Path) -> list[Callable[[], object]]:
    """What writes the files that are for programs."""
    py, px = result.pixel_size or (1.0, 1.0)
    units = result.units if result.pixel_size else "pixel"
    (step_y, step_x), (first_y, first_x) = result.step, result.centers[0].tolist()
    distances, origin = (step_y * py, step_x * px), (first_y * py, first_x * px)
    return [
        lambda: write_tiff(folder / "labels.tif", result.label_image + 1, result.pixel_size, result.units),
        lambda: write_tiff(folder / "abundances.tif", result.abundances, distances, units, origin=origin),
        lambda: result.save(folder / "segmentation.npz"),
    ]


def _pictures(result: Segmentation, folder: Path, source: str, reading: list[str]) -> list[Callable[[], object]]:
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


def _move(stage: Path, output: Path, names: list[str]) -> None:
    """The finished folder becomes `output`, or its files replace those there: none of them, or all if interrupted."""
    for name in names:
        with (stage / name).open("rb+") as written:
            os.fsync(written.fileno())
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        _put(stage, output, names)
    except KeyboardInterrupt:
        if all((stage / name).exists() for name in names):
            raise
        _put(stage, output, names)
        raise KeyboardInterrupt(f"all results had been written to {output}") from None


def _put(stage: Path, output: Path, names: list[str]) -> None:
    """Move what is still in `stage`."""
    if not output.exists():
        stage.rename(output)
        return
    for name in names:
        if (stage / name).exists():
            (stage / name).replace(output / name)


def _sha256(path: Path) -> str | None:
    """Checksum of a file; None for a format that is a folder."""
    if path.is_dir():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _mean(values: NDArray[Any]) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean(dtype=np.float64)) if finite.size else None
