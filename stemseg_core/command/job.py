"""What all jobs of the command have in common: a file is read, and results are put into a folder, all or none."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from stemseg_core.command.options import Options, RefusedError
from stemseg_core.command.words import times
from stemseg_core.io import read_image
from stemseg_core.io.readers import located, name_of
from stemseg_core.system.execution import Execution
from stemseg_core.system.files import readable
from stemseg_core.system.threads import Progress
from stemseg_core.system.versions import VERSION

#: Written last: where it is, all others are.
SUMMARY = "summary.json"
#: What writes files into a folder.
Steps: TypeAlias = list[Callable[[], object]]


class Results(NamedTuple):
    """What is written into a folder.

    Attributes
    ----------
    names : sequence of str
        Of the files, in the order in which they are put there; the last is `SUMMARY`.
    arrays : callable
        ``arrays(folder)`` gives the steps that write files for programs, in a thread of their own.
    pictures : callable
        ``pictures(folder)`` gives those that write files for people: matplotlib is for one thread.
    variable : str
        Names, as a regular expression, of files that a job of this kind may or may not write: those of an earlier one
        that are not replaced are removed.
    """

    names: Sequence[str]
    arrays: Callable[[Path], Steps]
    pictures: Callable[[Path], Steps]
    variable: str = ""


@dataclass(kw_only=True)
class Job:
    """A file on its way to its results."""

    options: ClassVar[Options]

    path: Path
    source: str  # its name, with the data set that was asked for
    sha256: str | None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reading: list[str] = field(default_factory=list)  # options of the command that decided what was read
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, **more: Any) -> Any:
        """A job of the file that is meant by `path`."""
        file, _ = located(path)
        return cls(path=file, source=name_of(path), sha256=sha256_of(file), **more)

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Seconds of a stage."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = time.perf_counter() - start

    @contextlib.contextmanager
    def computing(self, stage: str) -> Iterator[None]:
        """Whatever is refused is refused with the name of the file; warnings are kept."""
        with self.timed(stage), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                yield
            except (ValueError, MemoryError) as error:
                raise RefusedError(f"{self.path.name}: {self.options.spelled(error)}") from error
        self.warnings += [self.options.spelled(warning.message) for warning in caught]

    def read_with(self, name: str, value: Any) -> None:
        """Note the option of a parameter that decided what was read, unless it was not given."""
        if value is not None:
            self.reading += [self.options[name].option, ",".join(map(str, np.atleast_1d(value)))]

    def read_mask(self, path: Path, shape: Sequence[int]) -> NDArray[np.bool_]:
        """Pixels to exclude: those of the image in `path` that are not 0; axes of one pixel may be there or not."""
        mask: NDArray[np.bool_] = read_image(path).data != 0
        if [n for n in mask.shape if n > 1] != [n for n in shape if n > 1]:
            raise RefusedError(
                f"--mask: expected the shape {times(shape)} of {self.path.name}, "
                f"{name_of(path)} has {times(mask.shape)}"
            )
        self.reading += ["--mask", name_of(path)]
        return mask.reshape(shape)

    def check_output(self, output: Path, names: Iterable[str]) -> None:
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
                raise RefusedError(f"--output: {name} in {output} is the file itself; choose another folder")

    def put(
        self,
        output: Path,
        results: Results,
        about: Mapping[str, Any],
        *,
        extra: Mapping[str, Path] | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Put the results, and copies of the `extra` files, into `output`; returns the summary, which is `about` them.

        They are written in a temporary folder beside it and moved when complete, the summary last.
        """
        extra = extra or {}
        names = [*extra, *results.names]
        stage = _nearest_folder(output) / f".stemseg-{secrets.token_hex(8)}"
        stage.mkdir()
        try:
            with self.timed("write"):
                _carry_out(results.arrays(stage), results.pictures(stage), progress)
                for name, source in extra.items():
                    shutil.copyfile(source, stage / name)
            summary = {
                "stemseg_core": VERSION,
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                **about,
                "warnings": self.warnings,
                "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
                "output": readable(output),
                "files": [*results.names, *extra],
            }
            (stage / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
            _move(stage, output, names, _left_over(output, results.variable, names))
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        return summary


def _carry_out(arrays: Steps, pictures: Steps, progress: Progress | None) -> None:
    """Arrays are compressed while pictures are drawn."""
    other = ThreadPoolExecutor(1)
    try:
        compressed = [other.submit(step) for step in arrays]
        execution = Execution(progress=progress)
        steps = [*pictures, *(step.result for step in compressed)]
        for done, step in enumerate(steps, start=1):
            step()
            execution.report(done, len(steps), "write")
    finally:
        other.shutdown(cancel_futures=True)


def _left_over(output: Path, variable: str, names: Sequence[str]) -> list[str]:
    """Files that an earlier job has put into a folder, by its summary, and that are not replaced."""
    try:
        earlier = json.loads((output / SUMMARY).read_text(encoding="utf-8"))["files"]
        return [name for name in earlier if name not in names and re.fullmatch(variable, name)]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _nearest_folder(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists: on the same disk as `path` will be."""
    path = path.absolute()
    return path if path.is_dir() else next(folder for folder in path.parents if folder.is_dir())


def _move(stage: Path, output: Path, names: Sequence[str], earlier: Sequence[str]) -> None:
    """The finished folder becomes `output`, or its files replace those there and `earlier` ones: none of them, or all
    if interrupted.
    """
    for name in names:
        with (stage / name).open("rb+") as written:
            os.fsync(written.fileno())
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        _put(stage, output, names, earlier)
    except KeyboardInterrupt:
        if all((stage / name).exists() for name in names):
            raise
        _put(stage, output, names, earlier)
        raise KeyboardInterrupt(f"all results had been written to {output}") from None


def _put(stage: Path, output: Path, names: Sequence[str], earlier: Sequence[str]) -> None:
    """Move what is still in `stage`."""
    if not output.exists():
        stage.rename(output)
        return
    for name in names:
        if (stage / name).exists():
            (stage / name).replace(output / name)
    for name in earlier:
        (output / name).unlink(missing_ok=True)


def sha256_of(path: Path) -> str | None:
    """Checksum of a file; None for a format that is a folder."""
    if path.is_dir():
        return None
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
