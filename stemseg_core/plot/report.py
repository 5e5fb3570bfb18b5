"""The whole of a `Segmentation` on one page of HTML that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import base64
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
from stemseg_core.plot.instructions import instructions, words_of
from stemseg_core.plot.layout import Picture, draw_picture
from stemseg_core.system.files import atomic

if TYPE_CHECKING:
    from stemseg_core.phases.segmentation import Segmentation

#: The picture of the segmentation that has this name in `plot.PICTURES`.
Drawn = Callable[[str], Picture]

CONFIDENCE = (
    "Confidence is the largest membership of a window minus the next largest: 1 where the window is clearly of one "
    "phase, 0 where two phases share it equally, as on a boundary. It is on the cautious side: on simulated images of "
    "ten kinds 75 % of the windows below 0.2 had the right phase, 96 % of those from 0.2 to 0.4, 99 % of those from "
    "0.4 to 0.6, and nearly all above. It compares the phases with each other, and does not say whether they exist."
)
NOT_CHECKED = "Whether the phases exist was not checked, as it is for the method kmeans."
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

SEPARATION = (
    "Separation is how far the two nearest phases are apart, over the scatter along the line between them. The largest "
    "number of phases that are nearly the best separated is taken, or one if random maps without phases are separated "
    "as well. There is no separation where a phase nowhere fills a window."
)

STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff; max-width: 62rem; margin: 2rem auto;
       padding: 0 1rem }
h1 { font-size: 1.7rem; margin: 0 }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem }
p { max-width: 46rem }
.facts, figcaption { color: #595959; max-width: 46rem }
.facts { margin: .2rem 0 1.5rem }
figure { margin: 0 0 1rem }
img { max-width: 100%; height: auto }
table { border-collapse: collapse }
th, td { padding: .25rem 1.6rem .25rem 0; border-bottom: 1px solid #ddd; text-align: left; vertical-align: bottom;
         overflow-wrap: anywhere }
.n { text-align: right; font-variant-numeric: tabular-nums }
.swatch { display: inline-block; width: 1em; height: 1em; vertical-align: -.12em; margin-right: .5em;
          print-color-adjust: exact; -webkit-print-color-adjust: exact }
pre { background: #f5f5f5; padding: .7rem 1rem; white-space: pre-wrap; font-size: .88rem }
.columns { display: flex; flex-wrap: wrap; gap: 0 4rem }
@media print {
  body { margin: 0; max-width: none; font-size: 11pt }
  figure, table, pre { break-inside: avoid }
  h2 { break-after: avoid }
  img { max-height: 20cm; width: auto }
}
"""


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
    title = title or (f"Phases of {Path(source).name}" if source else "Phases")
    page = _page(segmentation, title, source, reading, pictures or {})
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _page(
    s: Segmentation, title: str, source: str | None, reading: Sequence[str], pictures: Mapping[str, Picture]
) -> str:
    def drawn(name: str) -> Picture:
        return pictures.get(name) or draw_picture(plot.PICTURES[name](s))

    shares = ", ".join(f"phase {i + 1} {share}" for i, share in enumerate(plot.percentages(s.fractions)))
    k = len(s.components)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="facts">{escape(_facts(s, source))}</p>',
        _figure(
            drawn("overlay"),
            f"The image with its phases in colour: {shares}.",
            f"The phases over the image. {OUTERMOST}",
        ),
        _table(_phase_header(s), _phase_rows(s), numbers=True),
        "<p>Phases are numbered by size; in <code>Segmentation.labels</code> phase 1 is 0, and excluded areas are -1. "
        "Fractions are of the area that is not excluded.</p>",
        "<h2>Patterns</h2>",
        _figure(
            drawn("components"),
            f"The pattern of each of the {k} phases over spatial frequency.",
            "What the local spectrum of each phase looks like; zero frequency is in the middle.",
        ),
        *(_memberships(s, drawn) if k > 1 else ()),
        *_number_of_phases(s),
        *_trust(s, drawn),
        "<h2>How to get it again</h2>",
        instructions(s, source, reading),
        '<div class="columns"><section><h2>Parameters</h2>',
        _table(("parameter", "value"), [(escape(name), escape(text)) for name, text in _parameters(s)]),
        "</section><section><h2>Versions</h2>",
        _table(("of", "version"), [(escape(name), escape(str(v))) for name, v in s.versions.items()]),
        "</section></div>",
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n" + "\n".join(parts) + "\n</main>\n</body>\n</html>\n"
    )


def _memberships(s: Segmentation, drawn: Drawn) -> list[str]:
    return [
        "<h2>Membership</h2>",
        _figure(
            drawn("abundances"),
            f"Maps of the membership in each of the {len(s.components)} phases.",
            f"Membership of each window in each phase, 0 to 1. {FRAME}",
        ),
    ]


def _trust(s: Segmentation, drawn: Drawn) -> list[str]:
    """What speaks for and against the map."""
    k, words = len(s.components), [f"<p><strong>Warning:</strong> {escape(doubt)}.</p>" for doubt in s.doubts]
    if k > 1 and s.separation is not None and not s.by_chance and s.fractions.min() > 0:
        words.append(f"<p>The {k} phases are {escape(s.separation.words)}.</p>")
    if k > 1 and s.separation is None:
        words.append(f"<p>{NOT_CHECKED}</p>")
    maps = "" if k == 1 else f"confidence (mean {_mean(s.confidence)}) and "
    return [
        "<h2>How far to trust it</h2>",
        *words,
        f"<p>{CONFIDENCE if k > 1 else NO_CONFIDENCE}</p><p>{RESIDUAL}</p>",
        _figure(
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
    reason = [] if s.reason_for_one is None else [f"<p><strong>{escape(s.reason_for_one)}.</strong></p>"]
    return [
        "<h2>How many phases</h2>",
        *reason,
        f"<p>{SEPARATION}</p>",
        _figure(draw_picture(plot.estimate(s.estimate)), f"Separation for each number of phases; {found} was taken."),
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


def _phase_header(s: Segmentation) -> tuple[str, ...]:
    area = "area / pixels" if s.pixel_size is None else f"area / {escape(s.units)}<sup>2</sup>"
    return "phase", "fraction", area, "mean confidence"


def _phase_rows(s: Segmentation) -> list[tuple[str, ...]]:
    py, px = s.pixel_size or (1.0, 1.0)
    areas = [np.count_nonzero(s.label_image == i) * py * px for i in range(len(s.fractions))]
    # As many decimals for all as give the largest four digits; pixels have none.
    decimals = 0 if s.pixel_size is None else max(0, 3 - floor(log10(max(areas)))) if any(areas) else 0
    rows: list[tuple[str, ...]] = []
    for i, (share, color) in enumerate(zip(plot.percentages(s.fractions), plot.phase_colors(len(areas)), strict=True)):
        swatch = f'<span class="swatch" style="background:{color}"></span>{i + 1}'
        rows.append((swatch, share, f"{areas[i]:.{decimals}f}", _mean(s.confidence[s.labels == i])))
    return rows


def _parameters(s: Segmentation) -> list[tuple[str, str]]:
    """Names and values, as text; a number of phases that was found says so."""
    found = {} if s.estimate is None else {"n_phases": f"{s.params.get('n_phases')}, found by {AUTO}"}
    return [(name, found.get(name, words_of(value))) for name, value in s.params.items()]


def _mean(values: Any) -> str:
    values = values[np.isfinite(values)]
    return f"{values.mean():.2f}" if values.size else "-"


def _figure(picture: Picture, description: str, caption: str = "") -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    width = round(picture.width * 96)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" alt="{escape(description)}">{below}</figure>'
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """A table of cells that are HTML already; `numbers`: all but the first column are to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        right = ' class="n"' if numbers else ""
        return "<tr>" + "".join(f"<{tag}{right if i else ''}>{c}</{tag}>" for i, c in enumerate(cells)) + "</tr>"

    body = "\n".join(line("td", row) for row in rows)
    return f"<table>\n<thead>{line('th', header)}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
