"""What the command `stemseg` may be given: its commands, their options, and the types of their values."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from stemseg_core.command.job import RefusedError
from stemseg_core.command.option_names import OPTIONS, Size, parse_size
from stemseg_core.phases.methods import AUTO, METHODS
from stemseg_core.system.memory import memory_limit
from stemseg_core.system.versions import VERSION
from stemseg_core.windows.windows import SCALES

COMMANDS = ("segment", "info", "demo")

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


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The words of a command line, or RefusedError with what is wrong with them."""
    words = sys.argv[1:] if argv is None else list(argv)
    first = words[0] if words and not words[0].startswith("-") else ""
    if first and first not in COMMANDS and (Path(first).suffix or Path(first).exists()):
        raise RefusedError(
            f"expected a command, got the file {words[0]}; did you mean 'stemseg segment {words[0]} ...'?"
        )
    return parser().parse_args(words)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = Parser(
        prog="stemseg",
        description="Segment an atomic-resolution STEM image into its phases.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"stemseg {VERSION}")
    commands = whole.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_segment(commands)
    info = commands.add_parser(
        "info",
        help="say what a file holds",
        description="List the data sets of a file, the one that 'segment' takes (*), and the window that suits it.",
    )
    info.add_argument("image", metavar="IMAGE", type=Path)
    info.add_argument("--json", action="store_true", help="print JSON")
    demo = commands.add_parser(
        "demo",
        help="segment a simulated image and compare with its truth",
        description="Simulate a polycrystal, segment it like any image, and print the share of pixels that is right.",
    )
    demo.add_argument(
        "-o", "--output", metavar="OUT", type=Path, default=Path("stemseg_demo"), help="default: %(default)s"
    )
    demo.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    return whole


def _add_segment(commands: Any) -> None:
    p = commands.add_parser(
        "segment",
        help="segment an image into phases",
        description="Segment an image into phases by its local lattice.",
        epilog=f"{WRITTEN}\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

    def add(group: Any, parameter: str, **about: Any) -> None:
        group.add_argument(OPTIONS[parameter], dest=parameter, **about)

    p.add_argument("image", metavar="IMAGE", type=Path, help=".dm3, .dm4, .emd, .ser, .hspy, .tif, .png, .npy, ...")
    p.add_argument("-o", "--output", metavar="OUT", type=_folder, required=True, help="folder for the results")
    group = p.add_argument_group("phases")
    add(group, "n_phases", metavar="N", type=_phases, default=2, help="number of phases, or 'auto' (default: 2)")
    add(group, "method", choices=METHODS, help="how windows become phases (default: kmeans)")
    group = p.add_argument_group("windows (in pixels, or a length such as 2nm, 20A; 64x96 is height x width)")
    add(
        group,
        "window",
        metavar="SIZE",
        type=_size,
        help="side of the windows, each of which has an entry in the maps (default: from the strongest period)",
    )
    add(
        group,
        "windows",
        metavar="SIZES",
        type=lambda text: [_size(part) for part in text.split(",")],
        help="sizes used together by kmeans, such as 48,64,128; the maps are of --window, which must be one of them, "
        "or else of the largest but one (default: two, one and three quarters of --window)",
    )
    add(
        group, "step", metavar="SIZE", type=_size, help="from one window to the next (default: an eighth of the window)"
    )
    add(
        group,
        "taper",
        metavar="NAME",
        type=_taper,
        help="hann, hamming, ...; 'kaiser,8' with a parameter (default: hann)",
    )
    add(
        group,
        "zoom",
        metavar="N",
        type=_whole(1),
        help="keep the central 1/N of the frequencies, up to 0.5/N cycles per pixel: with 2, reflections of lattice "
        "planes less than 4 pixels apart are not seen, with 1 all are (default: 2)",
    )
    add(group, "scale", choices=SCALES, help="of the spectrum's modulus (default: sqrt)")
    group = p.add_argument_group("what is compared")
    add(group, "k_min", metavar="N", type=_number, help="ignore less than N cycles a window (default: 3)")
    add(
        group,
        "k_max",
        metavar="K",
        type=_number,
        help="ignore frequencies above, in 1/nm, or in cycles per pixel without a calibration: 12.5 for details of "
        "0.08 nm (default: none, what --zoom keeps)",
    )
    add(
        group,
        "rotation_invariant",
        action="store_const",
        const=True,
        help="grains of one material are one phase, however they are turned (default: orientations are phases)",
    )
    add(
        group, "normalize", metavar="P", type=_number, help="divide spectra by their norm to the power P (default: 0.5)"
    )
    add(group, "rank", metavar="N", type=_whole(1), help="scores kept of each spectrum (default: 32)")
    add(
        group,
        "smooth",
        metavar="PX",
        type=_number,
        help="Gaussian mean over neighbouring windows, in pixels (default: 12)",
    )
    add(
        group,
        "whiten",
        action="store_const",
        const=True,
        help="make noise equal in all scores, for faint differences (default: as it is)",
    )
    group = p.add_argument_group("maps")
    add(
        group,
        "regularize",
        metavar="PX",
        type=_number,
        help="make boundaries short: patches of a smaller radius, in pixels, are given up (default: 0, none)",
    )
    add(
        group,
        "min_area",
        metavar="PX",
        type=_whole(0),
        help="regions of fewer pixels go to the phases around them (default: 0, none)",
    )
    group = p.add_argument_group("image")
    add(
        group,
        "signal",
        metavar="N",
        type=_whole(0),
        help="which data set, as 'stemseg info' numbers them (default: the one with the largest image)",
    )
    add(group, "frame", metavar="N", type=_frame, help="which image of a stack, from 0, or 'mean' (default: 0)")
    add(group, "pixel_size", metavar="SIZE", type=_size, help="such as 0.02nm (default: what the file says)")
    add(
        group,
        "mask",
        metavar="FILE",
        type=Path,
        help="image of the same shape; pixels that are not 0 are excluded (default: none)",
    )
    add(group, "invalid", choices=("raise", "exclude"), help="what to do with NaN and Inf (default: raise)")
    group = p.add_argument_group("run")
    add(group, "random_state", metavar="N", type=_whole(0), help="seed of the random starts (default: 0)")
    add(group, "n_jobs", metavar="N", type=int, help="threads, on which the result does not depend (default: all CPUs)")
    add(group, "max_memory", metavar="SIZE", type=_memory, help="such as 4GB (default: a share of what is free)")
    group.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    group.add_argument("--json", action="store_true", help="print summary.json instead of the summary")


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


def _size(text: str) -> Size:
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
