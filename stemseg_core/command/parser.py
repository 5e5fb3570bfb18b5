"""What the command `stemseg` may be given: its commands, their options, and the types of their values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from stemseg_core.command.options import OPTIONS, RefusedError, in_options
from stemseg_core.command.values import parse_folder, reader
from stemseg_core.phases.parameters import COMPARED, IMAGE, MAPS, PHASES, RUN, WINDOWS, Parameter
from stemseg_core.system.versions import VERSION

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
  regions.csv       a line for each region: phase, area, place, size, its own lattice
  report.html       all of it on one page
  segmentation.npz  the whole result, for stemseg_core.Segmentation.load
  summary.json      shares, lattices, parameters, versions, calibration, the image's checksum
Earlier results in OUT are replaced when all new ones are complete; other files there are left alone.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but bad use is one line."""

    def error(self, message: str) -> NoReturn:
        raise RefusedError(f"{message}; see '{self.prog} --help'")


def parse(argv: Sequence[str] | None, commands: Collection[str]) -> argparse.Namespace:
    """The words of a command line, which starts with a command; RefusedError with what is wrong with them."""
    words = sys.argv[1:] if argv is None else list(argv)
    first = words[0] if words and not words[0].startswith("-") else ""
    if first and first not in commands and (Path(first).suffix or Path(first).exists()):
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
        "-o", "--output", metavar="OUT", type=parse_folder, default=Path("stemseg_demo"), help="default: %(default)s"
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

    p.add_argument("image", metavar="IMAGE", type=Path, help=".dm3, .dm4, .emd, .ser, .hspy, .tif, .png, .npy, ...")
    p.add_argument("-o", "--output", metavar="OUT", type=parse_folder, required=True, help="folder for the results")
    groups = {name: p.add_argument_group(name) for name in (PHASES, WINDOWS, COMPARED, MAPS, IMAGE, RUN)}
    for name, group in groups.items():
        for parameter in OPTIONS.values():
            if parameter.group == name:
                _add(group, parameter)
    groups[RUN].add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    groups[RUN].add_argument("--json", action="store_true", help="print summary.json instead of the summary")


def _add(group: Any, parameter: Parameter) -> None:
    """The option of a parameter, under its heading."""
    about: dict[str, Any]
    if parameter.kind == "switch":
        about = {"action": "store_const", "const": True}
    elif parameter.kind == "choice":
        about = {"choices": parameter.choices}
    else:
        about = {"metavar": parameter.symbol, "type": reader(parameter)}
    default = parameter.default if parameter.command_default is None else parameter.command_default
    stated = [] if default is None or parameter.kind == "switch" else [str(default)]
    stated += [parameter.by_default] if parameter.by_default else []
    text = in_options(f"{parameter.meaning} (default: {', '.join(stated)})")
    group.add_argument(parameter.option, dest=parameter.name, default=parameter.command_default, help=text, **about)
