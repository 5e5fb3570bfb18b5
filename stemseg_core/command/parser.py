"""What the command `stemseg` may be given: its commands, their options, and the types of their values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from stemseg_core.command.options import SEGMENT, UNMIX, Options, RefusedError
from stemseg_core.command.values import parse_folder, reader
from stemseg_core.rows.parameters import RUN, Parameter
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

UNMIX_EXAMPLES = """\
examples:
  stemseg unmix edx.bcf -o result                        as many components as the noise leaves, by nmf
  stemseg unmix eels.dm4 -o result -n 3 --range 450:720eV
  stemseg unmix edx.emd -o result -n 4 --poisson --bin 2,2,1 --method nfindr
  stemseg unmix scan.mib -o result -n 3 --method kmeans --range 5:30mrad --max-memory 2GB
  stemseg demo --cube                                    a simulated cube with known truth
"""

SEGMENTED = """\
written to OUT:
  overlay.png       the phases over the image, with scale bar and shares
  components.png    the pattern of each phase over spatial frequency
  labels.tif        phase of each pixel, 1, 2, ... in order of size, 0 = excluded; opens in ImageJ with its scale
  abundances.tif    membership of each window in each phase, 0 to 1, a stack with the map's scale and origin
  regions.csv       a line for each region: phase, area, place, size, its own lattice
  report.html       all of it on one page
  segmentation.npz  the whole result, for stemseg_core.Segmentation.load
  summary.json      shares, lattices, parameters, versions, calibration, the image's checksum
"""
UNMIXED = """\
written to OUT:
  components.png    the spectra of the components over the calibrated axis, or their patterns
  abundances.png    the map of each component, with scale bar
  abundances.tif    the same as numbers, a stack; opens in ImageJ with its scale
  labels.tif        the largest component of each pixel, 1, 2, ..., 0 = left out; not of svd and ica
  components.csv    a line for each channel: its place on the axis, and the value of each component; of spectra
  component_1.msa   ... each spectrum as EMSA/MAS, for DigitalMicrograph, HyperSpy and others; of spectra
  report.html       all of it on one page
  unmixing.npz      the whole result, for stemseg_core.Unmixing.load
  summary.json      shares, axes, notes, parameters, versions, the file's checksum
"""
REPLACED = "Earlier results in OUT are replaced when all new ones are complete; other files there are left alone.\n"


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
        description="Segment STEM images into their phases, unmix spectral cubes and 4D scans into components.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=f"stemseg {VERSION}")
    commands = whole.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    _add_segment(commands)
    _add_unmix(commands)
    info = commands.add_parser(
        "info",
        help="say what a file holds",
        description="List the data sets of a file, which of them 'segment' (*) and 'unmix' take, and the window that "
        "suits an image.",
    )
    info.add_argument("image", metavar="IMAGE", type=Path)
    info.add_argument("--json", action="store_true", help="print JSON")
    demo = commands.add_parser(
        "demo",
        help="segment a simulated image, or unmix a simulated cube, and compare with its truth",
        description="Simulate a polycrystal, segment it like any image, and print the share of pixels that is right. "
        "Or simulate a cube or a scan, unmix it, and print how far spectra and shares are from the truth.",
    )
    demo.add_argument(
        "--cube", nargs="?", const="edx", choices=("edx", "eels", "4d"), help="unmix a cube of that kind (edx)"
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
        epilog=f"{SEGMENTED}{REPLACED}\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("image", metavar="IMAGE", type=Path, help=".dm3, .dm4, .emd, .ser, .hspy, .tif, .png, .npy, ...")
    _add_job(p, SEGMENT)


def _add_unmix(commands: Any) -> None:
    p = commands.add_parser(
        "unmix",
        help="unmix a spectral cube or a 4D scan into components",
        description="Unmix a spectral cube or a 4D scan into spectra or patterns and their maps.",
        epilog=f"{UNMIXED}{REPLACED}\n{UNMIX_EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("image", metavar="FILE", type=Path, help=".dm4, .emd, .bcf, .hspy, .h5, .mib, .blo, .npy, ...")
    _add_job(p, UNMIX)


def _add_job(p: argparse.ArgumentParser, options: Options) -> None:
    """What both commands have: options under their headings, those of parameters that are not given do not appear."""
    p.add_argument("-o", "--output", metavar="OUT", type=parse_folder, required=True, help="folder for the results")
    groups: dict[str, Any] = {}
    for parameter in options.values():
        if parameter.group not in groups:
            groups[parameter.group] = p.add_argument_group(parameter.group)
        _add(groups[parameter.group], parameter, options)
    groups[RUN].add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    groups[RUN].add_argument("--json", action="store_true", help="print summary.json instead of the summary")


def _add(group: Any, parameter: Parameter, options: Options) -> None:
    """The option of a parameter, under its heading."""
    default = parameter.default if parameter.command_default is None else parameter.command_default
    stated = [] if default is None or parameter.kind == "switch" or parameter.flags else [str(default)]
    stated += [parameter.by_default] if parameter.by_default else []
    text = options.in_text(f"{parameter.meaning} (default: {', '.join(stated)})")
    absent = argparse.SUPPRESS if parameter.command_default is None else parameter.command_default
    common: dict[str, Any] = {"dest": parameter.name, "default": absent}
    if parameter.flags:
        either = group.add_mutually_exclusive_group()
        for flag, (value, meaning) in parameter.flags.items():
            either.add_argument(flag, action="store_const", const=value, help=options.in_text(meaning), **common)
        return
    about: dict[str, Any]
    if parameter.kind == "switch":
        about = {"action": "store_const", "const": True}
    elif parameter.kind == "choice":
        about = {"choices": parameter.choices}
    else:
        about = {"metavar": parameter.symbol, "type": reader(parameter)}
    names = [parameter.short] * bool(parameter.short) + [parameter.option]
    group.add_argument(*names, help=text, **common, **about)
