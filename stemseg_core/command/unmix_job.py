"""The job of `stemseg unmix`: a cube is read piece by piece, unmixed, and its results put into a folder."""

from __future__ import annotations

import contextlib
import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from stemseg_core.calibration.axes import Axis
from stemseg_core.calibration.units import parse_unit
from stemseg_core.command.job import SUMMARY, Job, Results, Steps
from stemseg_core.command.options import UNMIX, RefusedError
from stemseg_core.command.values import Range
from stemseg_core.cubes.cube import Cube
from stemseg_core.cubes.unmix import MOST_COMPONENTS, unmix
from stemseg_core.cubes.unmixing import Unmixing
from stemseg_core.io import ImageReadError, write_tiff
from stemseg_core.io.cubes import CubeFile, open_cube
from stemseg_core.io.msa import write_msa
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.threads import Progress

#: Names of the files that are written of some cubes and methods alone.
VARIABLE = r"labels\.tif|components\.csv|component_\d+\.msa"


@dataclass(kw_only=True)
class UnmixJob(Job):
    """A cube on its way from its file to its results."""

    options = UNMIX

    file: CubeFile
    cube: Cube

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, signal: int | None = None) -> Iterator[Self]:
        """Open the cube; ImageReadError if that cannot be done."""
        start = time.perf_counter()
        with contextlib.ExitStack() as opened:
            try:
                file = opened.enter_context(open_cube(path, signal))
            except ImageReadError as error:
                raise ImageReadError(UNMIX.spelled(error)) from error
            job: Self = cls.of(path, file=file, cube=file.cube, notes=list(file.notes))
            job.read_with("signal", signal)
            job.seconds["read"] = time.perf_counter() - start
            yield job

    def bin(self, bins: int | tuple[int, ...]) -> None:
        """Sum so many neighbours along the axes."""
        try:
            self.cube = self.cube.binned(bins)
        except ParameterError as error:
            raise RefusedError(f"{self.path.name}: {UNMIX.spelled(error)}") from error

    def in_units(self, given: Range) -> tuple[float, float]:
        """From, to in the units of the signal's axis."""
        low, high, units = given
        asked, axis = parse_unit(units), self.cube.axes[-1]
        own = parse_unit(axis.units)
        if asked.kind == "none":
            return low, high
        if asked.kind != own.kind:
            wanted = f"a range in {axis.units}" if axis.units else "numbers of channels, without a unit"
            raise RefusedError(
                f"--range: expected {wanted}, by the axis of {self.path.name}, {str(axis)!r}; "
                f"got {low:g}:{high:g}{units}"
            )
        factor = asked.factor / own.factor
        return low * factor, high * factor

    def unmix(self, n_components: int | str, options: Mapping[str, Any], progress: Progress | None = None) -> Unmixing:
        """Unmix the cube; what `unmix` refuses is refused with the name of the file."""
        with self.computing("unmix"):
            return unmix(self.cube, n_components, progress=progress, **options)

    @staticmethod
    def possible(n_components: int | str) -> list[str]:
        """Files that may be written."""
        n = n_components if isinstance(n_components, int) else MOST_COMPONENTS
        return [*_names(range(n), spectra=True, labels=True)]

    def write(
        self,
        result: Unmixing,
        output: Path,
        extra: Mapping[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Put the results, and copies of the `extra` files, into `output`; returns the summary."""
        spectra, labels = result.n_signal_axes == 1, result.labels is not None
        results = Results(
            _names(range(len(result.components)), spectra=spectra, labels=labels),
            partial(_arrays, result, self.path.stem),
            partial(_pictures, result, self.source, self.reading),
            VARIABLE,
        )
        return self.put(output, results, self._about(result), extra=extra, progress=progress)

    def _about(self, result: Unmixing) -> dict[str, Any]:
        """What the summary says of the result."""
        finite = result.residual[np.isfinite(result.residual)]
        return {
            "input": {
                "file": self.source,
                "sha256": self.sha256,
                "format": self.file.format,
                "signal": self.file.signal,
                "title": self.file.title,
                "map": list(self.cube.map_shape),
                "signal_shape": list(self.cube.signal_shape),
                "dtype": str(self.cube.array.dtype),
                "notes": self.notes,
                "read_with": self.reading,
            },
            "axes": [vars(axis).copy() for axis in result.axes],
            "shares": [float(share) for share in result.totals],
            "explained_variance": float(result.explained_variance),
            "residual_mean": float(finite.mean(dtype=np.float64)) if finite.size else None,
            "excluded_pixels": int(result.residual.size - finite.size),
            "notes": [UNMIX.in_text(note) for note in result.notes],
            "n_components_estimate": None if result.estimate is None else result.estimate.to_dict(),
            "parameters": result.params,
            "versions": result.versions,
        }


def _names(components: range, *, spectra: bool, labels: bool) -> list[str]:
    """Files of the folder of results, in the order in which they are put there."""
    of_spectra = ["components.csv", *(f"component_{i + 1}.msa" for i in components)] if spectra else []
    of_labels = ["labels.tif"] if labels else []
    pictures, arrays = ["components.png", "abundances.png"], ["abundances.tif", *of_labels, *of_spectra]
    return [*pictures, *arrays, "report.html", "unmixing.npz", SUMMARY]


def _arrays(result: Unmixing, title: str, folder: Path) -> Steps:
    """What writes the files that are for programs."""
    planes = result.residual.shape[-2:] if result.residual.ndim > 1 else (1, *result.residual.shape)
    steps: Steps = [
        partial(_write_maps, result, folder / "abundances.tif", result.abundances.reshape(-1, *planes)),
        partial(result.save, folder / "unmixing.npz"),
    ]
    if result.labels is not None:
        labels = (result.labels + 1).reshape(-1, *planes)
        steps.append(partial(_write_maps, result, folder / "labels.tif", labels[0] if len(labels) == 1 else labels))
    if result.n_signal_axes == 1:
        steps.append(partial(_write_table, result, folder / "components.csv"))
        (axis,) = result.signal_axes
        steps += [
            partial(write_msa, folder / f"component_{i}.msa", spectrum, axis, f"{title}, component {i}")
            for i, spectrum in enumerate(result.components, start=1)
        ]
    return steps


def _write_maps(result: Unmixing, path: Path, maps: Any) -> None:
    """Maps as TIFF, with their scale where both axes are lengths."""
    axes = result.map_axes[-2:]
    if len(axes) == 2 and all(axis.kind == "length" for axis in axes):
        y, x = (_in_nm(axis) for axis in axes)
        write_tiff(path, maps, (abs(y.scale), abs(x.scale)), "nm", origin=(y.offset, x.offset))
    else:
        write_tiff(path, maps)


def _in_nm(axis: Axis) -> Axis:
    factor = parse_unit(axis.units).factor
    return Axis(axis.name, axis.offset * factor, axis.scale * factor, "nm")


def _write_table(result: Unmixing, path: Path) -> None:
    """Spectra as columns beside their axis, with the mean that they are about, if they are."""
    (axis,) = result.signal_axes
    places = axis.offset + axis.scale * np.arange(result.components.shape[1])
    columns = {f"{axis.name or 'channel'}{f' ({axis.units})' if axis.units else ''}": places}
    columns |= {f"component {i}": spectrum for i, spectrum in enumerate(result.components, start=1)}
    columns |= {} if result.offset is None else {"mean": result.offset}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(["" if np.isnan(value) else f"{value:.9g}" for value in row])


def _pictures(result: Unmixing, source: str, reading: list[str], folder: Path) -> Steps:
    """What writes the files that are for people."""
    from stemseg_core.plot.layout import Picture, draw_picture
    from stemseg_core.plot.unmixing import PICTURES
    from stemseg_core.plot.unmixing_report import write_report

    pictures: dict[str, Picture] = {}

    def write_picture(name: str) -> None:
        pictures[name] = picture = draw_picture(PICTURES[name](result))
        (folder / f"{name}.png").write_bytes(picture.png)

    return [
        partial(write_picture, "components"),
        partial(write_picture, "abundances"),
        lambda: write_report(result, folder / "report.html", source=source, reading=reading, pictures=pictures),
    ]
