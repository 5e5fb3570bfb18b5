"""The command ``stemseg``: segment an image, unmix a cube, say what a file holds, try it all on simulated data."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from stemseg_core.command.info import describe
from stemseg_core.command.job import Job
from stemseg_core.command.options import SEGMENT, UNMIX, RefusedError
from stemseg_core.command.parser import parse
from stemseg_core.command.segment_job import RESULTS, SegmentJob
from stemseg_core.command.truth import accuracy, errors
from stemseg_core.command.unmix_job import UnmixJob
from stemseg_core.command.words import info_in_words, segmentation_in_words, unmixing_in_words
from stemseg_core.cubes.cube import Cube
from stemseg_core.io import ImageReadError, write_tiff
from stemseg_core.system.extras import MissingExtraError, require_extra
from stemseg_core.system.threads import Progress

#: Packages without which no result could be written.
NEEDED = ("matplotlib", "tifffile")


#: Simulated cubes by their names in `stemseg demo --cube`: the function of `stemseg_core.datasets`, and the method that
#: suits them. Losses of all materials lie on one background, which NMF cannot tell from them.
SIMULATED = {"edx": ("edx_cube", "nmf"), "eels": ("eels_cube", "atgp"), "4d": ("scan_4d", "nmf")}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 internal error, 2 bad use or input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _terminated_like_interrupted():
            arguments = parse(argv, COMMANDS)
            COMMANDS[arguments.command](arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as interrupt:
        return _say(130, f"interrupted: {str(interrupt) or 'nothing was written'}")
    except Exception as error:
        if os.environ.get("STEMSEG_DEBUG"):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        if isinstance(error, RefusedError | ImageReadError | MissingExtraError | MemoryError):
            return _say(2, f"error: {error}")
        if isinstance(error, OSError):
            return _say(2, f"error: the results could not be written ({reason})")
        return _say(1, f"internal error: {reason}; please report it, with the traceback that STEMSEG_DEBUG=1 gives")
    return 0


def _say(status: int, message: str) -> int:
    print(f"stemseg: {' '.join(message.split())}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM (a batch system's time limit) cleans up as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread: whoever called us there has its own ways
        yield
        return
    try:
        yield
    finally:
        # None: it was set by a program that Python runs in, and cannot be put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _segment(arguments: argparse.Namespace) -> None:
    require_extra(*NEEDED)
    given = {name: value for name, value in vars(arguments).items() if name in SEGMENT}
    job = SegmentJob.read(arguments.image, given.pop("signal", None), given.pop("frame", None))
    if "pixel_size" in given:
        job.calibrate(given.pop("pixel_size"))
    for name in ("window", "step"):
        if name in given:
            given[name] = job.in_pixels(given[name], SEGMENT[name].option)
    if "windows" in given:
        given["windows"] = [job.in_pixels(size, SEGMENT["windows"].option) for size in given["windows"]]
    if "mask" in given:
        given["mask"] = job.read_mask(given["mask"], job.image.data.shape)
    job.check_output(arguments.output, RESULTS)
    with _progress(arguments.quiet) as progress:
        result = job.segment(given.pop("n_phases"), given, progress)
    job.look_for_a_lattice(result.period, decided=not given.keys() & {"window", "windows"})
    _finish(job, result, arguments, segmentation_in_words)


def _unmix(arguments: argparse.Namespace) -> None:
    require_extra(*NEEDED)
    given = {name: value for name, value in vars(arguments).items() if name in UNMIX}
    with UnmixJob.open(arguments.image, given.pop("signal", None)) as job:
        if "bin" in given:
            job.bin(given.pop("bin"))
        if "signal_range" in given:
            given["signal_range"] = job.in_units(given["signal_range"])
        if "mask" in given:
            given["mask"] = job.read_mask(given["mask"], job.cube.map_shape)
        job.check_output(arguments.output, job.possible(given["n_components"]))
        with _progress(arguments.quiet) as progress:
            result = job.unmix(given.pop("n_components"), given, progress)
    _finish(job, result, arguments, unmixing_in_words)


def _finish(job: Any, result: Any, arguments: argparse.Namespace, in_words: Callable[[dict[str, Any]], str]) -> None:
    """Write the results, and say what they are."""
    _tell_warnings(job)
    with _progress(arguments.quiet) as progress:
        summary = job.write(result, arguments.output, progress=progress)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    elif not arguments.quiet:
        print(in_words(summary))


def _tell_warnings(job: Job) -> None:
    for warning in job.warnings:
        _say(0, f"warning: {warning}")


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Progress | None]:
    """A callback that draws a bar on a terminal, else None."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        yield None
        return
    with tqdm(leave=False, file=sys.stderr, bar_format="{desc:<14.14} {bar} {percentage:3.0f}%") as bar:

        def progress(done: int, total: int, stage: str) -> None:
            if bar.desc != f"{stage}: " or bar.total != total or done < bar.n:
                bar.reset(total)
                bar.set_description(stage, refresh=False)
            bar.update(done - bar.n)

        yield progress


def _info(arguments: argparse.Namespace) -> None:
    found = describe(arguments.image)
    print(json.dumps(found, indent=2) if arguments.json else info_in_words(found))


def _demo(arguments: argparse.Namespace) -> None:
    require_extra(*NEEDED)
    with tempfile.TemporaryDirectory() as folder:
        made = _demo_cube if arguments.cube else _demo_image
        made(arguments, Path(folder))


def _demo_image(arguments: argparse.Namespace, folder: Path) -> None:
    from stemseg_core import datasets

    n_phases, pixel_size = 3, 0.015
    image, truth = datasets.polycrystal((512, 512), 6, n_phases, pixel_size=pixel_size, random_state=0)
    files = {name: folder / name for name in ("image.tif", "truth.tif")}
    write_tiff(files["image.tif"], image, (pixel_size, pixel_size))
    write_tiff(files["truth.tif"], truth + 1, (pixel_size, pixel_size))
    job = SegmentJob.read(files["image.tif"])
    job.check_output(arguments.output, (*RESULTS, *files))
    with _progress(arguments.quiet) as progress:
        result = job.segment(n_phases, {}, progress)
    _tell_warnings(job)
    with _progress(arguments.quiet) as progress:
        summary = job.write(result, arguments.output, files, progress)
    if not arguments.quiet:
        print(segmentation_in_words(summary))
        print(f"accuracy against the known truth: {100 * accuracy(result.label_image, truth):.1f} % of the pixels")


def _demo_cube(arguments: argparse.Namespace, folder: Path) -> None:
    from stemseg_core import datasets

    function, method = SIMULATED[arguments.cube]
    cube, axes, shares, components = getattr(datasets, function)()
    files = {name: folder / name for name in ("cube.npy", "truth.npz")}
    np.save(files["cube.npy"], cube)
    np.savez_compressed(files["truth.npz"], shares=shares, components=components)
    with UnmixJob.open(files["cube.npy"]) as job:
        job.cube = Cube.of(cube, cube.ndim - 2, axes)
        job.notes.clear()  # axes of a plain array are guessed
        job.check_output(arguments.output, (*job.possible(len(shares)), *files))
        with _progress(arguments.quiet) as progress:
            result = job.unmix(len(shares), {"method": method}, progress)
    _tell_warnings(job)
    with _progress(arguments.quiet) as progress:
        summary = job.write(result, arguments.output, files, progress)
    if not arguments.quiet:
        found = errors(result, components, shares)
        print(unmixing_in_words(summary))
        print(
            f"against the known truth: spectral angle {found.angle:.1f} degrees, "
            f"error of the shares {found.shares:.3f} (root mean square)"
        )


COMMANDS = {"segment": _segment, "unmix": _unmix, "info": _info, "demo": _demo}
