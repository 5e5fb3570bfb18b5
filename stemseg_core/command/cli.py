"""The command ``stemseg``: segment an image file, say what a file holds, try it all on a simulated image."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from stemseg_core.command.info import describe
from stemseg_core.command.job import RESULTS, Job, plural, times
from stemseg_core.command.options import OPTIONS, RefusedError
from stemseg_core.command.parser import parse
from stemseg_core.io import ImageReadError, write_tiff
from stemseg_core.io.choice import CUBES, UNMIX, WORDS
from stemseg_core.io.kinds import IMAGES
from stemseg_core.lattices.lattice import Lattice
from stemseg_core.phases.segmentation import Segmentation
from stemseg_core.stages.estimates import Separation
from stemseg_core.system.extras import MissingExtraError, require_extra
from stemseg_core.system.threads import Progress

#: Packages without which no result could be written.
NEEDED = ("matplotlib", "tifffile")


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
    given = {name: value for name, value in vars(arguments).items() if name in OPTIONS and value is not None}
    job = Job.read(arguments.image, given.pop("signal", None), given.pop("frame", None))
    if "pixel_size" in given:
        job.calibrate(given.pop("pixel_size"))
    for name in ("window", "step"):
        if name in given:
            given[name] = job.in_pixels(given[name], OPTIONS[name].option)
    if "windows" in given:
        given["windows"] = [job.in_pixels(size, OPTIONS["windows"].option) for size in given["windows"]]
    if "mask" in given:
        given["mask"] = job.read_mask(given["mask"])
    job.check_output(arguments.output)
    result = _run(job, given.pop("n_phases"), given, arguments.quiet)
    job.look_for_a_lattice(result.period, decided=not given.keys() & {"window", "windows"})
    _tell_warnings(job)
    with _progress(arguments.quiet) as progress:
        summary = job.write(result, arguments.output, progress=progress)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    elif not arguments.quiet:
        print(_summary_in_words(summary))


def _run(job: Job, n_phases: int | str, options: dict[str, Any], quiet: bool) -> Segmentation:
    with _progress(quiet) as progress:
        return job.segment(n_phases, options, progress)


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


def _summary_in_words(summary: dict[str, Any]) -> str:
    image, windows = summary["input"], summary["windows"]
    lines = [
        f"{image['file']}: {times(image['shape'])} {image['dtype']}, {_calibration_in_words(summary['calibration'])}"
    ]
    lines += [f"note: {note}" for note in image["notes"]]
    lines.append(
        f"{plural(len(summary['fractions']), 'phase')} from {times(windows['grid'])} windows of "
        f"{times(windows['window'])} px{_nm(windows['window_nm'])}, step {times(windows['step'])} px"
        f"{_nm(windows['step_nm'])}"
    )
    others = [times(size) for size in summary["parameters"]["windows"] or () if list(size) != windows["window"]]
    if others:
        lines[-1] += f", with windows of {' and '.join(others)} px"
    if summary["n_phases_estimate"] is not None:
        lines[-1] += "; the number of phases was found"
    for i, (share, found) in enumerate(zip(summary["fractions"], summary["lattices"], strict=True), start=1):
        lines.append(
            f"  phase {i}: {100 * share:5.1f} %, {Lattice.from_dict(found).words if found else 'no lattice seen'}"
        )
    lines += _trust_in_words(summary)
    lines.append(f"in {summary['output']}: {', '.join(summary['files'])}")
    return "\n".join(lines)


def _trust_in_words(summary: dict[str, Any]) -> list[str]:
    """How far to trust the map, beside what was warned of."""
    separation = summary["separation"] and Separation.from_dict(summary["separation"])
    warned = len(summary["fractions"]) > 1 and separation is not None and separation.by_chance
    lines = [] if summary["verdict"] is None or warned else [summary["verdict"]]
    if summary["confidence_mean"] is None:
        return lines
    confidence = f"mean confidence {summary['confidence_mean']:.2f}"
    if separation is None or not separation.exists or min(summary["fractions"]) == 0:
        return [*lines, f"{confidence}: it compares the phases, and does not say that they exist"]
    return [*lines, f"{confidence} (99 % of simulated windows at 0.5 are right)"]


def _nm(sizes: Sequence[float] | None) -> str:
    return "" if not sizes else f" ({' x '.join(f'{n:.3g}' for n in sizes)} nm)"


def _calibration_in_words(calibration: dict[str, Any]) -> str:
    if calibration["pixel_size"] is None:
        return "not calibrated (give --pixel-size)"
    y, x = calibration["pixel_size"]
    return f"{y:.4g}{'' if math.isclose(x, y, rel_tol=1e-4) else f' x {x:.4g}'} {calibration['units']} a pixel"


def _info(arguments: argparse.Namespace) -> None:
    found = describe(arguments.image)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['file']}: {found['format']}, {plural(len(found['signals']), 'data set')}")
    for s in found["signals"]:
        kind, size = WORDS.get(s["kind"], s["kind"]), f"{times(s['shape'])} " if s["shape"] else ""
        print(f"{'*' if s['taken'] else ' '} {s['index']}: {size}{s['dtype']}, {kind}, {s['title']!r}")
        lines = [", ".join(s["axes"])] if s["axes"] else []
        if s["kind"] in IMAGES:
            lines.append(_calibration_in_words(s))
        if s["range"]:
            lines.append(f"intensity {s['range'][0]:.6g} to {s['range'][1]:.6g}")
        if s["not_finite"]:
            lines.append(f"{s['not_finite']} pixels are not finite: 'segment' needs --invalid exclude")
        for line in [*lines, *s["notes"]]:
            print(f"     {line}")
    taken = next((s for s in found["signals"] if s["taken"]), None)
    star = f"* ({taken['title']})" if taken and len(found["signals"]) > 1 else "*"
    if taken is None:
        print("no 2-D image in it: nothing that 'stemseg segment' could take")
    elif taken["window"] is None:
        print(f"'stemseg segment' takes {star}")
    else:
        window, period = taken["window"], taken["period"]
        reason = f", as the longest period is {_in_words(period)}" if period else ""
        print(f"'stemseg segment' takes {star}, by default with a window of {_in_words(window)}{reason}")
        if period and taken["strongest"] != period:
            print(f"lattice planes {_in_words(taken['strongest'])} apart show most")
    cubes = [str(s["index"]) for s in found["signals"] if s["kind"] in CUBES]
    if cubes:
        print(f"{', '.join(cubes)}: {UNMIX}")


def _in_words(length: dict[str, Any]) -> str:
    """``64 px (1.28 nm)``; both axes where they differ."""
    pixels, nm = (_once(length[unit]) for unit in ("px", "nm"))
    return f"{' x '.join(f'{n:.3g}' for n in pixels)} px{_nm(nm)}"


def _once(sizes: Sequence[float] | None) -> Sequence[float]:
    """Sizes of both axes, or the one that they share."""
    return (sizes or ())[: 1 if sizes and math.isclose(*sizes, rel_tol=1e-4) else 2]


def _demo(arguments: argparse.Namespace) -> None:
    require_extra(*NEEDED)
    from stemseg_core import datasets

    n_phases, pixel_size = 3, 0.015
    image, truth = datasets.polycrystal((512, 512), 6, n_phases, pixel_size=pixel_size, random_state=0)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("image.tif", "truth.tif")}
        write_tiff(files["image.tif"], image, (pixel_size, pixel_size))
        write_tiff(files["truth.tif"], truth + 1, (pixel_size, pixel_size))
        job = Job.read(files["image.tif"])
        job.check_output(arguments.output, (*RESULTS, *files))
        result = _run(job, n_phases, {}, arguments.quiet)
        _tell_warnings(job)
        with _progress(arguments.quiet) as progress:
            summary = job.write(result, arguments.output, files, progress)
    if not arguments.quiet:
        print(_summary_in_words(summary))
        print(f"accuracy against the known truth: {100 * accuracy(result.label_image, truth):.1f} % of the pixels")


def accuracy(labels: NDArray[Any], truth: NDArray[Any]) -> float:
    """Share of the pixels whose label is right, phases paired with those of the truth in the best way."""
    from scipy.optimize import linear_sum_assignment

    together = np.zeros((int(labels.max()) + 1, int(truth.max()) + 1), np.int64)
    counted = labels >= 0
    np.add.at(together, (labels[counted], truth[counted]), 1)
    rows, columns = linear_sum_assignment(together, maximize=True)
    return float(together[rows, columns].sum() / labels.size)


COMMANDS = {"segment": _segment, "info": _info, "demo": _demo}
