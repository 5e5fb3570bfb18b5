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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

import stemseg_core
from stemseg_core.curves import Separation
from stemseg_core.extras import MissingExtraError, require_extra
from stemseg_core.io import ImageReadError, write_tiff
from stemseg_core.job import RESULTS, Job, RefusedError, describe, parse_size, times
from stemseg_core.memory import memory_limit
from stemseg_core.phases import AUTO, METHODS
from stemseg_core.segmentation import Segmentation
from stemseg_core.threads import Progress
from stemseg_core.windows import SCALES

#: Packages without which no result could be written.
NEEDED = ("matplotlib", "tifffile")

EXAMPLES = """\
examples:
  stemseg info image.dm4                                 what the file holds, and the window that suits it
  stemseg segment image.dm4 -o result --phases 3         three phases, everything else by default
  stemseg segment image.dm4 -o result --phases auto      as many phases as are told apart
  stemseg segment image.dm4 -o result --phases 3 --window 2nm --step 0.5nm
  stemseg segment image.png -o result --phases 2 --pixel-size 0.2A --window 64x96
  stemseg segment stack.tif -o result --frame 4 --method nmf --json > summary.json
  stemseg demo                                           a simulated image with known truth
"""

WRITTEN = """\
written to OUT:
  overlay.png       the phases over the image, with scale bar and shares
  components.png    the pattern of each phase over spatial frequency
  labels.tif        phase of each pixel, 1, 2, ... in order of size, 0 = excluded; opens in ImageJ with its scale
  abundances.tif    membership of each window in each phase, 0 to 1, a stack with the map's scale and origin
  report.html       all of it on one page
  segmentation.npz  the whole result, for stemseg_core.Segmentation.load
  summary.json      shares, parameters, versions, calibration, the image's checksum
Earlier results in OUT are replaced when all new ones are complete; other files there are left alone.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but bad use is one line."""

    def error(self, message: str) -> NoReturn:
        raise RefusedError(f"{message}; see '{self.prog} --help'")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 internal error, 2 bad use or input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with _terminated_like_interrupted():
            arguments = parser().parse_args(argv)
            arguments.command(arguments)
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _say(130, "interrupted: nothing was written")
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
        signal.signal(signal.SIGTERM, before)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = Parser(
        prog="stemseg",
        description="Segment an atomic-resolution STEM image into its phases.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"stemseg {stemseg_core.__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_segment(commands)
    info = commands.add_parser(
        "info",
        help="say what a file holds",
        description="List the data sets of a file, the one that 'segment' takes (*), and the window that suits it.",
    )
    info.add_argument("image", metavar="IMAGE", type=Path)
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(command=_info)
    demo = commands.add_parser(
        "demo",
        help="segment a simulated image and compare with its truth",
        description="Simulate a polycrystal, segment it like any image, and print the share of pixels that is right.",
    )
    demo.add_argument(
        "-o", "--output", metavar="OUT", type=Path, default=Path("stemseg_demo"), help="default: %(default)s"
    )
    demo.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    demo.set_defaults(command=_demo)
    return whole


def _add_segment(commands: Any) -> None:
    p = commands.add_parser(
        "segment",
        help="segment an image into phases",
        description="Segment an image into phases by its local lattice.",
        epilog=f"{WRITTEN}\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("image", metavar="IMAGE", type=Path, help=".dm3, .dm4, .emd, .ser, .hspy, .tif, .png, .npy, ...")
    p.add_argument("-o", "--output", metavar="OUT", type=_folder, required=True, help="folder for the results")
    p.add_argument("--phases", metavar="N", type=_phases, default=2, help="number of phases, or 'auto' (default: 2)")
    p.add_argument("--method", choices=METHODS, help="default: kmeans")
    window = p.add_argument_group("windows (in pixels, or a length such as 2nm, 20A; 64x96 is height x width)")
    window.add_argument(
        "--window", metavar="SIZE", type=_size, help="side of the sliding window (default: from the strongest period)"
    )
    window.add_argument(
        "--windows",
        metavar="SIZES",
        type=lambda text: [_size(part) for part in text.split(",")],
        help="sizes used together by kmeans, such as 48,64,128 (default: two, one and three quarters of --window)",
    )
    window.add_argument(
        "--step", metavar="SIZE", type=_size, help="from one window to the next (default: an eighth of the window)"
    )
    window.add_argument(
        "--taper", metavar="NAME", type=_taper, help="hann (default), hamming, ...; 'kaiser,8' with a parameter"
    )
    window.add_argument("--zoom", metavar="N", type=_whole(1), help="keep the central 1/N of the frequencies")
    window.add_argument("--scale", choices=SCALES, help="of the spectrum's modulus (default: sqrt)")
    scores = p.add_argument_group("what is compared")
    scores.add_argument("--k-min", metavar="N", type=_number, help="ignore less than N cycles a window (default: 3)")
    scores.add_argument(
        "--k-max",
        metavar="K",
        type=_number,
        help="ignore frequencies above, in 1/nm, or in cycles per pixel without a calibration (default: none)",
    )
    scores.add_argument(
        "--rotation-invariant",
        action="store_const",
        const=True,
        help="grains of one material are one phase, however they are turned",
    )
    scores.add_argument(
        "--normalize", metavar="P", type=_number, help="divide spectra by their norm to the power P (default: 0.5)"
    )
    scores.add_argument("--rank", metavar="N", type=_whole(1), help="scores kept of each spectrum (default: 32)")
    scores.add_argument(
        "--smooth", metavar="PX", type=_number, help="Gaussian mean over neighbouring windows, in pixels (default: 12)"
    )
    scores.add_argument(
        "--whiten", action="store_const", const=True, help="make noise equal in all scores, for faint differences"
    )
    maps = p.add_argument_group("maps")
    maps.add_argument(
        "--regularize",
        metavar="PX",
        type=_number,
        help="make boundaries short: patches of a smaller radius, in pixels, are given up (default: 0, none)",
    )
    maps.add_argument(
        "--min-area",
        metavar="PX",
        type=_whole(0),
        help="regions of fewer pixels go to the phases around them (default: 0, none)",
    )
    source = p.add_argument_group("image")
    source.add_argument("--signal", metavar="N", type=_whole(0), help="which data set, as 'stemseg info' numbers them")
    source.add_argument(
        "--frame", metavar="N", type=_frame, help="which image of a stack, from 0, or 'mean' (default: 0)"
    )
    source.add_argument(
        "--pixel-size", metavar="SIZE", type=_size, help="such as 0.02nm, in place of what the file says"
    )
    source.add_argument(
        "--mask", metavar="FILE", type=Path, help="image of the same shape; pixels that are not 0 are excluded"
    )
    source.add_argument("--invalid", choices=("raise", "exclude"), help="what to do with NaN and Inf (default: raise)")
    run = p.add_argument_group("run")
    run.add_argument("--seed", metavar="N", type=_whole(0), help="of the random starts (default: 0)")
    run.add_argument(
        "--jobs", metavar="N", type=int, help="threads (default: all CPUs); the result does not depend on it"
    )
    run.add_argument(
        "--max-memory", metavar="SIZE", type=_memory, help="such as 4GB (default: a share of what is free)"
    )
    run.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    run.add_argument("--json", action="store_true", help="print summary.json instead of the summary")
    p.set_defaults(command=_segment)


def _whole(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected a whole number, at least {least}, got {text!r}")
        return int(text)

    return number


def _phases(text: str) -> int | str:
    if text == AUTO:
        return AUTO
    try:
        return _whole(1)(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or {AUTO!r}") from None


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a folder, got an empty text")
    return Path(text)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number, at least 0, got {text!r}")
    return number


def _size(text: str) -> tuple[tuple[float, float], str]:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _taper(text: str) -> str | tuple[str | float, ...]:
    name, *parameters = text.split(",")
    try:
        return (name, *map(float, parameters)) if parameters else name
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a name, or name,number such as 'kaiser,8', got {text!r}") from None


def _frame(text: str) -> int | str:
    return "mean" if text == "mean" else _whole(0)(text)


def _memory(text: str) -> str:
    try:
        memory_limit(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a size such as 4GB or 500MB, got {text!r}") from None
    return text


def _segment(arguments: argparse.Namespace) -> None:
    require_extra(*NEEDED)
    job = Job.read(arguments.image, arguments.signal, arguments.frame)
    if arguments.pixel_size is not None:
        job.calibrate(arguments.pixel_size)
    options: dict[str, Any] = {
        "method": arguments.method,
        "window": arguments.window and job.in_pixels(arguments.window, "--window"),
        "windows": arguments.windows and [job.in_pixels(size, "--windows") for size in arguments.windows],
        "step": arguments.step and job.in_pixels(arguments.step, "--step"),
        "taper": arguments.taper,
        "zoom": arguments.zoom,
        "scale": arguments.scale,
        "k_min": arguments.k_min,
        "k_max": arguments.k_max,
        "rotation_invariant": arguments.rotation_invariant,
        "normalize": arguments.normalize,
        "rank": arguments.rank,
        "smooth": arguments.smooth,
        "whiten": arguments.whiten,
        "regularize": arguments.regularize,
        "min_area": arguments.min_area,
        "mask": None if arguments.mask is None else job.read_mask(arguments.mask),
        "invalid": arguments.invalid,
        "random_state": arguments.seed,
        "n_jobs": arguments.jobs,
        "max_memory": arguments.max_memory,
    }
    given = {name: value for name, value in options.items() if value is not None}
    job.check_output(arguments.output)
    if arguments.window is None and arguments.windows is None:
        job.note_lattice()
    result = _run(job, arguments.phases, given, arguments.quiet)
    with _progress(arguments.quiet) as progress:
        summary = job.write(result, arguments.output, progress=progress)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    elif not arguments.quiet:
        print(_summary_in_words(summary))


def _run(job: Job, n_phases: int | str, options: dict[str, Any], quiet: bool) -> Segmentation:
    with _progress(quiet) as progress:
        result = job.segment(n_phases, options, progress)
    for warning in job.warnings:
        _say(0, f"warning: {warning}")
    return result


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
        f"{len(summary['fractions'])} phase(s) from {times(windows['grid'])} windows of {times(windows['window'])} px"
        f"{_nm(windows['window_nm'])}, step {times(windows['step'])} px{_nm(windows['step_nm'])}"
    )
    if summary["n_phases_estimate"] is not None:
        lines[-1] += "; their number was found"
    lines += [f"  phase {i + 1}: {100 * share:5.1f} %" for i, share in enumerate(summary["fractions"])]
    if summary["reason_for_one"] is not None:
        lines.append(summary["reason_for_one"])
    elif summary["separation"] is not None:
        lines.append(f"the phases are {Separation.from_dict(summary['separation']).words}")
    if summary["confidence_mean"] is not None:
        lines.append(
            f"mean confidence {summary['confidence_mean']:.2f} (in simulated images, 98 % of windows at 0.5 are right)"
        )
    lines.append(f"in {summary['output']}: {', '.join(summary['files'])}")
    return "\n".join(lines)


def _nm(sizes: Sequence[float] | None) -> str:
    return "" if sizes is None else f" ({' x '.join(f'{n:.3g}' for n in sizes)} nm)"


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
    print(f"{found['file']}: {found['format']}, {len(found['signals'])} data set(s)")
    for s in found["signals"]:
        kind = "no image" if s["kind"] == "other" else s["kind"]
        print(f"{'*' if s['taken'] else ' '} {s['index']}: {times(s['shape'])} {s['dtype']}, {kind}, {s['title']!r}")
        lines = [", ".join(s["axes"])] if s["axes"] else []
        if s["frames"]:
            lines.append(_calibration_in_words(s))
        if s["range"]:
            lines.append(f"intensity {s['range'][0]:.6g} to {s['range'][1]:.6g}")
        if s["not_finite"]:
            lines.append(f"{s['not_finite']} pixels are not finite: 'segment' needs --invalid exclude")
        for line in [*lines, *s["notes"]]:
            print(f"     {line}")
    taken = next((s for s in found["signals"] if s["taken"]), None)
    if taken is None:
        print("no 2-D image in it: nothing that 'stemseg segment' could take")
    elif taken["window"] is None:
        print("'stemseg segment' takes *")
    else:
        window, period = taken["window"], taken["period"]
        reason = f", as the strongest period is {_in_words(period)}" if period else ""
        print(f"'stemseg segment' takes *, by default with a window of {_in_words(window)}{reason}")


def _in_words(length: dict[str, Any]) -> str:
    """``64`` pixels, and what that is in nm; both axes where they differ."""
    nm = length["nm"] and length["nm"][: 1 if math.isclose(*length["nm"], rel_tol=1e-4) else 2]
    return f"{length['px']:.3g} px{_nm(nm)}"


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
