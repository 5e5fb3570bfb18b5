"""The whole of an `Unmixing` on one page of HTML: no network, no other file, and complete without its script."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from stemseg_core import plot
from stemseg_core.calibration.axes import Axis
from stemseg_core.cubes.methods import METHODS
from stemseg_core.cubes.parameters import AUTO, TABLE
from stemseg_core.plot import unmixing_explorer as explorer
from stemseg_core.plot.instructions import both_ways, in_lines, literal, quoted, words_of
from stemseg_core.plot.layout import Picture, draw_picture
from stemseg_core.plot.markup import choice, figure, installed, page, table
from stemseg_core.plot.report import WIDE
from stemseg_core.plot.unmixing import PICTURES, is_signed, quantity_of
from stemseg_core.system.files import atomic, readable

if TYPE_CHECKING:
    from stemseg_core.cubes.unmixing import Unmixing

KEYS = (
    "Point at the map to ask for a pixel; a click holds it, and Esc lets go. Once the map is in focus, arrow keys go "
    "from pixel to pixel, Home, End, Page Up and Page Down to the last, 1 to 9 show one component, and 0 all."
)
QUANTITIES = {
    "amount": "Amounts say how many spectra of an average pixel there are of a component: they sum to about 1 where a "
    "pixel is as bright as the mean.",
    "share": "Shares of the components sum to 1 at every pixel.",
    "score": "Scores are of either sign: red is above 0 and blue below. Components are directions, no spectra of "
    "materials; both may be turned in sign.",
}
SHARES = "In per cent is the part of a component in the sum of the model, of scores in its sum of squares."
RESIDUAL = (
    "Residual is the length of what the components leave of a pixel's signal, relative to that of the signal: noise "
    "alone makes it large where counts are few. Structure in the map, or lines in the spectrum of the residual, show "
    "what the components do not explain."
)


def write_report(
    unmixing: Unmixing,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    source: str | None = None,
    reading: Sequence[str] = (),
    pictures: Mapping[str, Picture] | None = None,
) -> None:
    """Write a page with components, maps, how far to trust them, and how to get them again.

    The page appears at `path` complete or not at all.

    Parameters
    ----------
    unmixing : Unmixing
    path : str or path-like
        Of the HTML file; replaced if it is there.
    title : str, optional
        By default "Components of" the source, or "Components".
    source : str, optional
        Name of the cube's file, for title and instructions.
    reading : sequence of str, optional
        Options of the command that decided what was read, such as ``("--signal", "2")``.
    pictures : mapping of str to Picture, optional
        By their names in `stemseg_core.plot.unmixing.PICTURES`; others are drawn.
    """
    source = None if source is None else readable(source)
    title = title or (f"Components of {Path(source).name}" if source else "Components")
    known = pictures or {}

    def drawn(name: str) -> Picture:
        return known.get(name) or draw_picture(PICTURES[name](unmixing))

    html = _page(unmixing, title, source, reading, drawn)
    with atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _page(u: Unmixing, title: str, source: str | None, reading: Sequence[str], drawn: Callable[[str], Picture]) -> str:
    data = explorer.data_of(u)
    what = "spectrum" if u.n_signal_axes == 1 else "pattern"
    parts = [
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="facts">{escape(_facts(u, source))}</p>',
        *(f'<p class="facts">{escape(note[0].upper() + note[1:])}.</p>' for note in u.notes),
        "</header>",
        *_map(u, data),
        "<h2>Components</h2>",
        figure(drawn("components"), f"The {what} of each component.", _scale(u)),
        "<h2>Maps</h2>",
        figure(drawn("abundances"), f"Maps of the {len(u.components)} components.", QUANTITIES[quantity_of(u)]),
        *_number(u),
        "<h2>How far to trust it</h2>",
        f"<p>The components explain {100 * u.explained_variance:.1f} % of the variance.</p><p>{RESIDUAL}</p>",
        figure(drawn("residual"), "Residual of each pixel and of each channel."),
        "<h2>How to get it again</h2>",
        instructions(u, source, reading),
        '<div class="columns"><section><h2>Axes</h2>',
        table(("axis", "from", "step", "unit"), [_axis(axis) for axis in u.axes]),
        "</section><section><h2>Parameters</h2>",
        table(("parameter", "value"), [(escape(name), escape(words_of(v))) for name, v in u.params.items()]),
        "</section><section><h2>Versions</h2>",
        table(("of", "version"), [(escape(name), escape(str(v))) for name, v in u.versions.items()]),
        "</section></div>",
    ]
    style = installed("report.css") + explorer.rules(u)
    return page(title, style, installed("ask.js") + installed("unmixing.js"), data, parts)


def _facts(u: Unmixing, source: str | None) -> str:
    maps, signals = (" x ".join(map(str, a.shape)) for a in (u.residual, u.residual_spectrum))
    facts = [source] if source else []
    facts += [f"map of {maps} pixels", f"{'spectra' if u.n_signal_axes == 1 else 'patterns'} of {signals} channels"]
    facts += [str(axis) for axis in u.axes]
    facts += [f"by {u.params.get('method', 'unknown')}", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")]
    return " · ".join(facts)


def _scale(u: Unmixing) -> str:
    own = "Each has a scale of its own"
    if u.n_signal_axes == 1:
        return f"{own}, in the units of the data. Channels that were left out are gaps."
    return f"{own}; brightness is the square root of the intensity, where nothing is negative. Grey is left out."


def _map(u: Unmixing, data: dict[str, object]) -> list[str]:
    shares = plot.percentages(u.totals)
    signed = is_signed(u)
    names = [
        choice(str(i), f'<span class="swatch p{i}"></span>{i}', what="component", checked=signed and i == 1)
        for i in range(1, len(shares) + 1)
    ]
    rows = list(zip(names, shares, strict=True))
    total = None if signed else (choice("all", "all", what="component", checked=True), "100.0 %")
    listed = ", ".join(f"component {i} {share}" for i, share in enumerate(shares, start=1))
    return [
        f'<section class="explorer{" wide" if explorer.shown_frame(u).aspect > WIDE else ""}" aria-label="Components">',
        explorer.component_maps(u, f"Map of the components: {listed}."),
        '<div class="side">',
        table(("component", "share"), rows, total=total, name="phases"),
        explorer.pixel_panel(u, data),
        "</div>\n</section>",
        f'<p class="facts asks" id="keys">{KEYS}</p>',
        f'<p class="facts">{SHARES}{"" if signed else " In the map of all, colours are mixed by these parts."} '
        "Components are numbered by their part; in <code>Unmixing.components</code> the first is 0.</p>",
    ]


def _number(u: Unmixing) -> list[str]:
    """How the number of components was found, if it was."""
    if u.estimate is None:
        return []
    found = u.estimate.n_components
    return [
        "<h2>How many components</h2>",
        figure(draw_picture(plot.estimate(u.estimate)), f"Criterion for each number of components; {found} was taken."),
    ]


def _axis(axis: Axis) -> tuple[str, ...]:
    return escape(axis.name), f"{axis.offset:.6g}", f"{axis.scale:.6g}", escape(axis.units)


def instructions(u: Unmixing, source: str | None, reading: Sequence[str]) -> str:
    """HTML that says how to get it again, with every parameter that decided the result."""
    parts = both_ways(_snippet(u, source, reading), *_command(u, source or "FILE", reading))
    if u.estimate is not None:
        parts.append(
            f"<p>The number of components, {u.estimate.n_components}, was found: it was asked for as "
            f'<code>"{AUTO}"</code>, in a shell <code>{TABLE["n_components"].option} {AUTO}</code>.</p>'
        )
    return "\n".join(parts)


def _snippet(u: Unmixing, source: str | None, reading: Sequence[str]) -> str:
    """Python that opens the cube, if its file is known, and unmixes it again."""
    given = {name: repr(value) for name, value in u.params.items()}
    if u.params.get("method") not in METHODS:  # an estimator, in the words that make it
        given["method"] = str(u.params.get("method"))
    lines = ["from stemseg_core import unmix"]
    if u.params.get("noise") == "variances":
        given["noise"] = "variances"
        lines.append("# variances: of the values of the cube")
    if source is None:
        axes = f"axes={[vars(axis) for axis in u.axes]!r}" if not u.params.get("signal_range") else ""
        arguments = ["cube", *(f"{name}={value}" for name, value in given.items()), *([axes] if axes else [])]
        return "\n".join([*lines, "", "# cube: as an array", "unmixing = unmix(", *_indented(arguments, 4), ")"])
    read = dict(zip(reading[::2], reading[1::2], strict=True))
    chosen = [repr(source), *([f"signal={literal(read['--signal'])}"] if "--signal" in read else [])]
    names = "open_cube, read_image" if "--mask" in read else "open_cube"
    if "--mask" in read:
        given["mask"] = f"read_image({read['--mask']!r}).data != 0"
    arguments = ["file.cube", *(f"{name}={value}" for name, value in given.items())]
    lines += [f"from stemseg_core.io import {names}", "", f"with open_cube({', '.join(chosen)}) as file:"]
    return "\n".join([*lines, "    unmixing = unmix(", *_indented(arguments, 8), "    )"])


def _indented(arguments: Sequence[str], n: int) -> list[str]:
    return [f"{' ' * n}{argument}," for argument in arguments]


def _command(u: Unmixing, name: str, reading: Sequence[str]) -> tuple[str, list[str]]:
    """The command line, and the parameters that differ from their defaults but have no option."""
    parts = ["stemseg unmix", quote(name), "-o OUT"]
    parts += [f"{flag} {quote(value)}" for flag, value in zip(reading[::2], reading[1::2], strict=True)]
    beyond = []
    for key, value in u.params.items():
        parameter = TABLE.get(key)
        if parameter is None or not parameter.group or (key == "bin" and set(np.atleast_1d(value)) == {1}):
            continue
        if key == "signal_range":
            if value is not None:
                parts.append(quoted(f"{parameter.with_value(value)}{u.signal_axes[-1].units}").replace(" -", "=-", 1))
        elif (parameter.choices and value not in parameter.choices) or value == "variances":
            beyond.append(key)
        elif words := quoted(parameter.with_value(value)):
            parts.append(words)
    return in_lines(parts), beyond
