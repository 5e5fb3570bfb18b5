"""Pictures of a `Segmentation`: fit for a talk, drawn without pyplot and without touching any global state.

Every function returns a `matplotlib.figure.Figure`, which notebooks show by themselves and ``savefig`` writes. Phases
are numbered from 1 in pictures, as in the files the command writes: phase 1 is label 0, the one with most pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from stemseg_core.plot.curves import draw_curve
from stemseg_core.plot.drawing import (
    OKABE_ITO,
    aspect_of,
    color_bar,
    draw_components,
    draw_confidence,
    draw_image,
    draw_map,
    draw_overlay,
    legend_handles,
    pattern_aspect_of,
    percentages,
    phase_colors,
    picture_size,
    titles_of,
    units_of,
)
from stemseg_core.plot.layout import (
    BAR_COLUMN,
    FONT,
    GAP,
    LEGEND,
    LETTER,
    LINE,
    TITLE,
    TITLED,
    Box,
    add_axes,
    arrange,
    figure_of,
    new_figure,
    room_below,
    scale_bar,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stemseg_core.phases.segmentation import Segmentation
    from stemseg_core.stages.estimates import ComponentEstimate

__all__ = [
    "OKABE_ITO",
    "PICTURES",
    "abundances",
    "components",
    "estimate",
    "maps",
    "overlay",
    "percentages",
    "phase_colors",
    "plot",
]


def overlay(segmentation: Segmentation, *, ax: Axes | None = None, alpha: float = 0.5) -> Figure:
    """The phases in colour over the image, with their boundaries, shares and a scale bar.

    A dashed line goes through the centres of the outermost windows. Outside of it, half a window wide, phases are those
    of the nearest windows.

    Parameters
    ----------
    segmentation : Segmentation
    ax : matplotlib Axes, optional
        Drawn there, with the legend beside it. Default: in a figure of its own.
    alpha : float, default=0.5
        Opacity of the colours, 0 to 1.

    Returns
    -------
    matplotlib.figure.Figure
    """
    handles = legend_handles(segmentation)
    further = sum(handle.get_label().count("\n") for handle in handles)  # lines beside one for each
    style: dict[str, Any] = {"handles": handles, "frameon": False, "fontsize": FONT, "borderaxespad": 0}
    style |= {"handlelength": 1.2, "handleheight": 1.2, "labelspacing": 0.6}
    if ax is not None:
        draw_overlay(ax, segmentation, alpha)
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), **style)
        return figure_of(ax)
    width, height = picture_size(segmentation, widest=8.0, highest=6.0)
    room = room_below(width, height)
    if width > 1.6 * height:  # a strip: the legend goes below, in as many columns as fit
        columns = max(1, min(len(handles), int(width / LEGEND)))
        legend = 0.15 + 0.25 * ceil(len(handles) / columns) + 0.2 * further
        figure = new_figure(width, height + room + legend)
        ax = add_axes(figure, Box(0, 0, width, height))
        figure.legend(loc="lower center", ncols=columns, columnspacing=1.5, **style)
    else:
        figure = new_figure(width + GAP + LEGEND, max(height + room, 0.3 * len(handles) + 0.2 * further))
        ax = add_axes(figure, Box(0, 0, width, height))
        left = (width + GAP) / figure.get_figwidth()
        figure.legend(loc="upper left", bbox_to_anchor=(left, 0.99), **style)
    draw_overlay(ax, segmentation, alpha)
    return figure


def components(segmentation: Segmentation) -> Figure:
    """The pattern of each phase over spatial frequency, in the frame of its colour, zero frequency in the middle.

    Rings mark the reflections of the lattice of the phase, with the strongest spacings beside them.
    Brightness runs over the pattern's own range without the centre, which would outshine everything else.
    """
    k = len(segmentation.components)
    boxes, width, height = arrange(k, pattern_aspect_of(segmentation), width=8.0, largest=2.6)
    figure = new_figure(width, height)
    draw_components(figure, segmentation, boxes)
    return figure


def abundances(segmentation: Segmentation) -> Figure:
    """The membership map of each phase, 0 to 1, in the frame of the image."""
    k = len(segmentation.abundances)
    boxes, width, height = arrange(k, aspect_of(segmentation), width=8.0 - BAR_COLUMN, largest=3.2)
    figure = new_figure(width + BAR_COLUMN, height)
    titles = titles_of(segmentation)
    for i, (box, color) in enumerate(zip(boxes, phase_colors(k), strict=True)):
        ax = add_axes(figure, box, titles[i], color)
        shown = draw_map(ax, segmentation, segmentation.abundances[i], "viridis")
        if i == 0:
            scale_bar(ax, units_of(segmentation))
    tall = min(height - TITLE - GAP, 3.0)
    color_bar(figure, shown, Box(width + GAP, TITLE, 0.14, tall), "membership" if tall > 1 else "")
    return figure


def maps(segmentation: Segmentation) -> Figure:
    """Two maps of how far to trust the phases: confidence, 0 to 1, and residual; of one phase the residual alone."""
    one = len(segmentation.components) == 1
    boxes, width, height = arrange(2 - one, aspect_of(segmentation), width=8.0, largest=3.4, right=BAR_COLUMN)
    figure = new_figure(width, height)
    if not one:
        draw_confidence(figure, segmentation, boxes[0])
    residual = segmentation.residual
    top = float(np.nanpercentile(residual, 99.5)) if np.isfinite(residual).any() else 1.0
    shown = draw_map(add_axes(figure, boxes[-1], "residual"), segmentation, residual, "magma", high=top or 1.0)
    color_bar(figure, shown, boxes[-1].beside())
    scale_bar(figure.axes[0], units_of(segmentation))
    return figure


def estimate(found: ComponentEstimate) -> Figure:
    """How the number of components was chosen: a panel for each criterion, with the choice and what it is against.

    Parameters
    ----------
    found : ComponentEstimate
        Of `estimate_n_components`, or `Segmentation.estimate`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    n = len(found.curves)
    columns = min(n, 3)
    width, height, left, below = 3.0, 1.9, 0.65, 0.45
    figure = new_figure(columns * (width + left + GAP), ceil(n / columns) * (TITLE + height + below + GAP))
    for i, (name, curve) in enumerate(found.curves.items()):
        x = left + i % columns * (width + left + GAP)
        y = TITLE + i // columns * (TITLE + height + below + GAP)
        mark = ", decides" if n > 1 and name == found.method else ""
        ax = add_axes(figure, Box(x, y, width, height), f"{name}: {curve.n_components}{mark}", "#595959")
        draw_curve(ax, name, curve, value=OKABE_ITO[5], taken=OKABE_ITO[3])
    return figure


def plot(segmentation: Segmentation) -> Figure:
    """Everything at one glance: image, phases, confidence (if there are several), the pattern of each, the verdict."""
    k = len(segmentation.components)
    aspect = aspect_of(segmentation)
    above, width, height = arrange(3, aspect, width=10.0, largest=3.2, columns=3 if aspect < 2.2 else 1)
    width = max(width, min(k, 6) * (TITLED + GAP))
    below, _, more = arrange(k, pattern_aspect_of(segmentation), width=width, largest=2.2, columns=min(k, 6))
    verdict = fill(segmentation.verdict or "", int((width + BAR_COLUMN) / LETTER))
    foot = LINE * len(verdict.splitlines())
    figure = new_figure(width + BAR_COLUMN, height + GAP + more + foot)
    figure.text(0.5, foot / figure.get_figheight(), verdict, ha="center", va="top", fontsize=FONT)
    ax = add_axes(figure, above[0], "image")
    draw_image(ax, segmentation)
    scale_bar(ax, units_of(segmentation))
    draw_overlay(add_axes(figure, above[1], "phases"), segmentation, alpha=0.5, bar=False)
    draw_confidence(figure, segmentation, above[2])
    draw_components(figure, segmentation, [b._replace(y=b.y + height + GAP) for b in below])
    return figure


#: The pictures of one segmentation, by the names of their files.
PICTURES: dict[str, Callable[[Segmentation], Figure]] = {
    "overlay": overlay,
    "components": components,
    "abundances": abundances,
    "maps": maps,
}
