"""The whole of a `Segmentation` on one page of HTML: no network, no other file, and complete without its script."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from math import floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stemseg_core import plot
from stemseg_core.phases.scores import AUTO
from stemseg_core.plot import explorer
from stemseg_core.plot.cards import card
from stemseg_core.plot.drawing import aspect_of
from stemseg_core.plot.instructions import instructions, words_of
from stemseg_core.plot.layout import Picture, draw_picture
from stemseg_core.plot.markup import choice, figure, installed, page, table
from stemseg_core.system.files import atomic, readable

if TYPE_CHECKING:
    from stemseg_core.phases.segmentation import Segmentation

#: The picture of the segmentation that has this name in `plot.PICTURES`.
Drawn = Callable[[str], Picture]

#: Width of an image over its height from which on the rest stands below the map. Twice as much: wide maps are small.
WIDE = 2.0
#: Of a table, as HTML.
Cells = Sequence[str]

CONFIDENCE = (
    "Confidence is the largest membership of a window minus the next largest: 1 where the window is clearly of one "
    "phase, 0 where two phases share it equally, as on a boundary. It is on the cautious side: on simulated images of "
    "ten kinds 75 % of the windows below 0.2 had the right phase, 96 % of those from 0.2 to 0.4, 99 % of those from "
    "0.4 to 0.6, and nearly all above. It compares the phases with each other, and does not say whether they exist."
)
NO_CONFIDENCE = "There is one phase, and no confidence: that compares a phase with others."
RESIDUAL = (
    "Residual is the length of what the model leaves of a window's spectrum relative to that of the spectrum: low "
    "where the phases describe the window, high where it holds something else."
)

OUTERMOST = (
    "No window is centred within half a window of the edges. There, outside the dashed line through the centres of the "
    "outermost windows, and within half a window of what is excluded, pixels have the phase of the nearest windows."
)
FRAME = (
    "The light grey frame is the half of the outermost windows that lies outside of their centres: maps of windows end "
    "there."
)

KEYS = (
    "Point at the map to ask for a window; a click holds it, and Esc lets go. Once the map is in focus, arrow keys go "
    "from window to window, Home, End, Page Up and Page Down to the last, 1 to 9 show one phase, and 0 all."
)

PATTERNS = (
    "What the local spectrum of each phase looks like; zero frequency is in the middle, and brightness runs over each "
    "pattern's own range. Rings are around the strongest reflections of the lattice, which is measured in the image: "
    "a and b are its shortest vectors, gamma is the angle between them, and a is turned by that much, clockwise, from "
    "the horizontal. Spacings are those of the strongest reflections. In brackets are uncertainties of the last "
    "digits, from the scatter within the phase; errors of the calibration, and what distorts the whole scan, are not "
    "in them."
)

SEPARATION = (
    "Separation is the step from one phase to the other over the scatter about it, of the two nearest phases. The "
    "largest number of phases that are better separated than chance is taken; after two numbers in a row that fail, no "
    "larger ones are tried. There is no separation where a phase nowhere fills a window, or is a boundary."
)


def write_report(
    segmentation: Segmentation,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    source: str | None = None,
    reading: Sequence[str] = (),
    pictures: Mapping[str, Picture] | None = None,
) -> None:
    """Write a page with the phases, their patterns and maps, how far to trust them, and how to get them again.

    The page appears at `path` complete or not at all.

    Parameters
    ----------
    segmentation : Segmentation
    path : str or path-like
        Of the HTML file; replaced if it is there.
    title : str, optional
        By default "Phases of" the source, or "Phases".
    source : str, optional
        Name of the image's file, for title and instructions.
    reading : sequence of str, optional
        Options of the command that decided what was read, such as ``("--frame", "2")``.
    pictures : mapping of str to Picture, optional
        By their names in `stemseg_core.plot.PICTURES`; others are drawn.
    """
    source = None if source is None else readable(source)
    title = title or (f"Phases of {Path(source).name}" if source else "Phases")
    page = _page(segmentation, title, source, reading, pictures or {})
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _page(
    s: Segmentation, title: str, source: str | None, reading: Sequence[str], pictures: Mapping[str, Picture]
) -> str:
    def drawn(name: str) -> Picture:
        return pictures.get(name) or draw_picture(plot.PICTURES[name](s))

    data = explorer.data_of(s)
    parts = [
        f'<header>\n<h1>{escape(title)}</h1>\n<p class="facts">{escape(_facts(s, source))}</p>',
        *(f'<p class="facts">{escape(note[0].upper() + note[1:])}.</p>' for note in s.notes),
        *_verdict(s),
        "</header>",
        *_map(s, data),
        *_patterns(s),
        *(_memberships(s, drawn) if len(s.components) > 1 else ()),
        *_number_of_phases(s),
        *_trust(s, drawn),
        "<h2>How to get it again</h2>",
        instructions(s, source, reading),
        '<div class="columns"><section><h2>Parameters</h2>',
        table(("parameter", "value"), [(escape(name), escape(text)) for name, text in _parameters(s)]),
        "</section><section><h2>Versions</h2>",
        table(("of", "version"), [(escape(name), escape(str(v))) for name, v in s.versions.items()]),
        "</section></div>",
    ]
    script = installed("ask.js") + installed("report.js")
    return page(title, installed("report.css") + explorer.rules(s), script, data, parts)


def _verdict(s: Segmentation) -> list[str]:
    """What speaks against the phases: before they are seen."""
    return [f'<p class="verdict"><strong>Warning:</strong> {escape(doubt)}.</p>' for doubt in s.doubts]


def _map(s: Segmentation, data: dict[str, Any]) -> list[str]:
    """The phases over the image; beside it who is who, how to look at it, and what is under the pointer."""
    shares = ", ".join(f"phase {i + 1} {share}" for i, share in enumerate(plot.percentages(s.fractions)))
    header, rows, total = _phase_table(s)
    return [
        f'<section class="explorer{" wide" if aspect_of(s) > WIDE else ""}" aria-label="Phases">',
        explorer.phase_map(s, f"The image with its phases in colour: {shares}."),
        '<div class="side">',
        table(header, rows, total=total if len(rows) > 1 else None, name="phases"),
        explorer.controls(s),
        explorer.window_panel(s, data),
        "</div>\n</section>",
        f'<p class="facts asks" id="keys">{KEYS}</p>',
        f'<p class="facts">{OUTERMOST} Phases are numbered by size; in <code>Segmentation.labels</code> phase 1 is 0, '
        "and excluded areas are -1. Fractions are of the area that is not excluded.</p>",
    ]


def _patterns(s: Segmentation) -> list[str]:
    """A card for each phase: its pattern, and what it says."""
    _, rows, _ = _phase_table(s)
    area = f" {escape(s.units)}<sup>2</sup>" if s.pixel_size else " pixels"
    cards = [card(s, i, row[1], row[2] + area) for i, row in enumerate(rows)]
    return [
        "<h2>Patterns</h2>",
        f"<p>{PATTERNS}</p>",
        f'<div class="cards">{"".join(cards)}</div>',
    ]


def _memberships(s: Segmentation, drawn: Drawn) -> list[str]:
    return [
        "<h2>Membership</h2>",
        figure(
            drawn("abundances"),
            f"Maps of the membership in each of the {len(s.components)} phases.",
            f"Membership of each window in each phase, 0 to 1. {FRAME}",
        ),
    ]


def _trust(s: Segmentation, drawn: Drawn) -> list[str]:
    """What speaks for and against the map."""
    k, words = len(s.components), list[str]()
    if k > 1 and s.verdict is not None and not s.by_chance:
        words.append(f"<p>{escape(s.verdict[0].upper() + s.verdict[1:])}.</p>")
    maps = "" if k == 1 else f"confidence (mean {_mean(s.confidence)}) and "
    return [
        "<h2>How far to trust it</h2>",
        *words,
        f"<p>{CONFIDENCE if k > 1 else NO_CONFIDENCE}</p><p>{RESIDUAL}</p>",
        figure(
            drawn("maps"),
            f"Map of {maps}residual (mean {_mean(s.residual)}).",
            f"{'Residual' if k == 1 else 'Confidence and residual'} of each window. {FRAME}",
        ),
    ]


def _number_of_phases(s: Segmentation) -> list[str]:
    """How the number of phases was found, if it was."""
    if s.estimate is None:
        return []
    found = s.estimate.n_components
    reason = [f"<p><strong>{escape(s.verdict)}.</strong></p>"] if found == 1 and s.verdict else []
    return [
        "<h2>How many phases</h2>",
        *reason,
        f"<p>{SEPARATION}</p>",
        figure(draw_picture(plot.estimate(s.estimate)), f"Separation for each number of phases; {found} was taken."),
    ]


def _facts(s: Segmentation, source: str | None) -> str:
    height, width = s.image.shape
    facts = [source] if source else []
    facts.append(f"{height} x {width} pixels (height x width)")
    if s.pixel_size is None:
        facts.append("not calibrated")
    else:
        py, px = s.pixel_size
        facts.append(f"{height * py:.4g} x {width * px:.4g} {s.units}")
        facts.append(f"{py:.4g} {s.units} a pixel" if px == py else f"{py:.4g} x {px:.4g} {s.units} a pixel")
    facts.append(f"{s.labels.shape[0]} x {s.labels.shape[1]} windows")
    facts.append(datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return " · ".join(facts)


def _phase_table(s: Segmentation) -> tuple[Cells, Sequence[Cells], Cells]:
    """Header, a row for each phase, and one for all, of cells that are HTML."""
    k, (py, px) = len(s.components), s.pixel_size or (1.0, 1.0)
    areas = [np.count_nonzero(s.label_image == i) * py * px for i in range(k)]
    # As many decimals for all as give the largest four digits; pixels have none.
    decimals = 0 if s.pixel_size is None else max(0, 3 - floor(log10(max(areas)))) if any(areas) else 0
    names = [choice(str(i + 1), f'<span class="swatch p{i + 1}"></span>{i + 1}') for i in range(k)]
    shares, sure = plot.percentages(s.fractions), [_mean(s.confidence[s.labels == i]) for i in range(k)]
    unit = "pixels" if s.pixel_size is None else f"{escape(s.units)}<sup>2</sup>"
    rows = [(*row[:2], f"{row[2]:.{decimals}f}", row[3]) for row in zip(names, shares, areas, sure, strict=True)]
    everything = plot.percentages(np.array([s.fractions.sum()]))[0], f"{sum(areas):.{decimals}f}", _mean(s.confidence)
    header = "phase", "fraction", f"area / {unit}", "mean confidence"
    return header, rows, (choice("all", "all", checked=True), *everything)


def _parameters(s: Segmentation) -> list[tuple[str, str]]:
    """Names and values, as text; a number of phases that was found says so."""
    found = {} if s.estimate is None else {"n_phases": f"{s.params.get('n_phases')}, found by {AUTO}"}
    return [(name, found.get(name, words_of(value))) for name, value in s.params.items()]


def _mean(values: Any) -> str:
    values = values[np.isfinite(values)]
    return f"{values.mean():.2f}" if values.size else "-"
