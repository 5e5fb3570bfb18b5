"""Pictures of a `Segmentation`: fit for a talk, drawn without pyplot and without touching any global state.

Every function returns a `matplotlib.figure.Figure`, which notebooks show by themselves and ``savefig`` writes. Phases
are numbered from 1 in pictures, as in the files the command writes: phase 1 is label 0, the one with most pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.plot.curves import draw_curve
from stemseg_core.plot.layout import (
    BAR_COLUMN,
    FONT,
    GAP,
    LEGEND,
    TITLE,
    TITLED,
    Box,
    add_axes,
    arrange,
    figure_of,
    hide_ticks,
    new_figure,
    room_below,
    scale_bar,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stemseg_core.phases.segmentation import Segmentation
    from stemseg_core.stages.estimates import ComponentEstimate

#: Okabe and Ito's colours without black, told apart with any colour vision (https://jfly.uni-koeln.de/color/).
OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7", "#0072B2", "#F0E442")
#: The line through the centres of the outermost windows, dashes of two colours: seen on dark and on light.
OUTERMOST = (("white", "-"), ("black", (0, (5, 5))))
#: Colour of areas that belong to no phase.
EXCLUDED = "#9A9A9A"
#: Colour of the stripes on them.
STRIPES = "#5A5A5A"

#: Length of a strip in inches, at most. Twice as much: strips are an inch wide up to an aspect of 20.
MAX_STRIP = 10.0
#: Phases that the legend names at most. Twice as many: pictures that are mostly legend.
MAX_LEGEND_ENTRIES = 20
#: Windows along an axis that a map is drawn from, at least: of m times as many, every m-th is. Twice as many: four
#: times the time, for details smaller than a dot.
SHOWN_WINDOWS = 512
#: Pixels along an axis that labels are drawn from, at least: of m times as many, every m-th is. Twice as many: four
#: times the time, for details smaller than a dot.
SHOWN_PIXELS = 2048


def phase_colors(k: int) -> list[str]:
    """A colour for each of `k` phases: Okabe-Ito up to 7, then matplotlib's tab20, then as many hues as needed."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if k <= len(OKABE_ITO):
        return list(OKABE_ITO[:k])
    if k <= 20:
        # Strong hues before their pale twins; the two greys last.
        order = [0, 2, 4, 6, 8, 10, 12, 16, 18, 1, 3, 5, 7, 9, 11, 13, 17, 19, 14, 15]
        return [to_hex(colormaps["tab20"](i)) for i in order[:k]]
    return [to_hex(colormaps["turbo"](i)) for i in np.linspace(0.03, 0.97, k)]


def percentages(fractions: NDArray[np.float64]) -> list[str]:
    """Fractions as percent with one decimal, rounded so that they sum to what the fractions do (largest remainders)."""
    tenths = 1000 * np.nan_to_num(np.asarray(fractions, float))
    rounded = np.floor(tenths + 1e-9)
    missing = round(float(tenths.sum() - rounded.sum()))
    rounded[np.argsort(rounded - tenths, kind="stable")[:missing]] += 1
    return [f"{t / 10:.1f} %" for t in rounded]


# ------------------------------------------------------------------------------------------------------------ pictures


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
    handles = _legend_handles(segmentation)
    style: dict[str, Any] = {"handles": handles, "frameon": False, "fontsize": FONT, "borderaxespad": 0}
    style |= {"handlelength": 1.2, "handleheight": 1.2, "labelspacing": 0.6}
    if ax is not None:
        _draw_overlay(ax, segmentation, alpha)
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1), **style)
        return figure_of(ax)
    width, height = _picture_size(segmentation, widest=8.0, highest=6.0)
    room = room_below(width, height)
    if width > 1.6 * height:  # a strip: the legend goes below, in as many columns as fit
        columns = max(1, min(len(handles), int(width / LEGEND)))
        legend = 0.15 + 0.25 * ceil(len(handles) / columns)
        figure = new_figure(width, height + room + legend)
        ax = add_axes(figure, Box(0, 0, width, height))
        figure.legend(loc="lower center", ncols=columns, columnspacing=1.5, **style)
    else:
        figure = new_figure(width + GAP + LEGEND, max(height + room, 0.3 * len(handles)))
        ax = add_axes(figure, Box(0, 0, width, height))
        left = (width + GAP) / figure.get_figwidth()
        figure.legend(loc="upper left", bbox_to_anchor=(left, 0.99), **style)
    _draw_overlay(ax, segmentation, alpha)
    return figure


def components(segmentation: Segmentation) -> Figure:
    """The pattern of each phase over spatial frequency, in the frame of its colour, zero frequency in the middle.

    Brightness runs over the pattern's own range without the centre, which would outshine everything else.
    """
    k = len(segmentation.components)
    boxes, width, height = arrange(k, _pattern_aspect(segmentation), width=8.0, largest=2.6)
    figure = new_figure(width, height)
    _draw_components(figure, segmentation, boxes)
    return figure


def abundances(segmentation: Segmentation) -> Figure:
    """The membership map of each phase, 0 to 1, in the frame of the image."""
    k = len(segmentation.abundances)
    boxes, width, height = arrange(k, _aspect(segmentation), width=8.0 - BAR_COLUMN, largest=3.2)
    figure = new_figure(width + BAR_COLUMN, height)
    titles = _titles(segmentation)
    for i, (box, color) in enumerate(zip(boxes, phase_colors(k), strict=True)):
        ax = add_axes(figure, box, titles[i], color)
        shown = _draw_map(ax, segmentation, segmentation.abundances[i], "viridis")
        if i == 0:
            scale_bar(ax, _units(segmentation))
    tall = min(height - TITLE - GAP, 3.0)
    _color_bar(figure, shown, Box(width + GAP, TITLE, 0.14, tall), "membership" if tall > 1 else "")
    return figure


def maps(segmentation: Segmentation) -> Figure:
    """Two maps of how far to trust the phases: confidence, 0 to 1, and residual; of one phase the residual alone."""
    one = len(segmentation.components) == 1
    boxes, width, height = arrange(2 - one, _aspect(segmentation), width=8.0, largest=3.4, right=BAR_COLUMN)
    figure = new_figure(width, height)
    if not one:
        _draw_confidence(figure, segmentation, boxes[0])
    residual = segmentation.residual
    top = float(np.nanpercentile(residual, 99.5)) if np.isfinite(residual).any() else 1.0
    shown = _draw_map(add_axes(figure, boxes[-1], "residual"), segmentation, residual, "magma", high=top or 1.0)
    _color_bar(figure, shown, boxes[-1].beside())
    scale_bar(figure.axes[0], _units(segmentation))
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
    """Everything at one glance: image, phases, confidence (if there are several), and the pattern of each below."""
    k = len(segmentation.components)
    aspect = _aspect(segmentation)
    above, width, height = arrange(3, aspect, width=10.0, largest=3.2, columns=3 if aspect < 2.2 else 1)
    width = max(width, min(k, 6) * (TITLED + GAP))
    below, _, more = arrange(k, _pattern_aspect(segmentation), width=width, largest=2.2, columns=min(k, 6))
    figure = new_figure(width + BAR_COLUMN, height + GAP + more)
    ax = add_axes(figure, above[0], "image")
    _draw_image(ax, segmentation)
    scale_bar(ax, _units(segmentation))
    _draw_overlay(add_axes(figure, above[1], "phases"), segmentation, alpha=0.5, bar=False)
    _draw_confidence(figure, segmentation, above[2])
    _draw_components(figure, segmentation, [b._replace(y=b.y + height + GAP) for b in below])
    return figure


#: The pictures of one segmentation, by the names of their files.
PICTURES: dict[str, Callable[[Segmentation], Figure]] = {
    "overlay": overlay,
    "components": components,
    "abundances": abundances,
    "maps": maps,
}


# -------------------------------------------------------------------------------------------------------- what is drawn


def _draw_image(ax: Axes, s: Segmentation) -> None:
    from matplotlib import colormaps

    image = np.ma.masked_invalid(s.image)
    some = image[:: ceil(image.shape[0] / 1000), :: ceil(image.shape[1] / 1000)].compressed()
    low, high = np.percentile(some, (0.5, 99.7)) if some.size else (0.0, 1.0)
    gray = colormaps["gray"].with_extremes(bad=EXCLUDED)
    ax.imshow(image, cmap=gray, vmin=low, vmax=max(high, low + 1e-12), extent=_extent(s), aspect="equal")


def _draw_overlay(ax: Axes, s: Segmentation, alpha: float, *, bar: bool = True) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    _draw_image(ax, s)
    labels, stride = _shown_labels(s)
    height, width = labels.shape
    py, px = (stride * size for size in s.pixel_size or (1.0, 1.0))
    colors = [to_rgba(color, alpha) for color in phase_colors(len(s.components))]
    colors += [to_rgba(EXCLUDED, 0.85), to_rgba(STRIPES, 0.85)]
    period = max(12, max(height, width) // 40)
    striped = (np.arange(height)[:, None] + np.arange(width)) % period < period // 4
    tint = np.rint(255 * np.array(colors)).astype(np.uint8)[np.where(labels >= 0, labels, len(s.components) + striped)]
    ax.imshow(tint, extent=(0, width * px, height * py, 0), aspect="equal", interpolation="nearest")
    edges = _boundaries(labels) * (px, py)
    for color, width in (("black", 2.4), ("white", 1.2)):
        ax.add_collection(
            LineCollection(list(edges), colors=color, linewidths=width, capstyle="projecting"), autolim=False
        )
    _draw_outermost(ax, s)
    left, right, bottom, top = _extent(s)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    hide_ticks(ax)
    if bar:
        scale_bar(ax, _units(s))


def _draw_outermost(ax: Axes, s: Segmentation) -> None:
    """A line through the centres of the outermost windows, dashed in black and white."""
    from matplotlib.patches import Rectangle

    size = s.pixel_size or (1.0, 1.0)
    # Pixel i covers i to i + 1, so that its centre is at i + 1/2.
    (top, left), (bottom, right) = ((s.centers[i] + 0.5) * size for i in (0, -1))
    for color, dashes in OUTERMOST:
        line: dict[str, Any] = {"edgecolor": color, "linestyle": dashes, "linewidth": 1.1, "zorder": 2.5}
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **line))


def _draw_components(figure: Figure, s: Segmentation, boxes: Sequence[Box]) -> None:
    titles, colors = _titles(s), phase_colors(len(s.components))
    py, px = s.pixel_size or (1.0, 1.0)
    ky, kx = s.ky / py, s.kx / px
    dy, dx = (_spacing(k) / 2 for k in (ky, kx))
    extent = (kx[0] - dx, kx[-1] + dx, ky[-1] + dy, ky[0] - dy)
    # The centre and what the taper smears around it.
    center = np.hypot(*np.meshgrid(ky / (2 * dy), kx / (2 * dx), indexing="ij")) < 2.5
    for pattern, box, title, color in zip(s.components, boxes, titles, colors, strict=False):
        ax = add_axes(figure, box, title, color)
        shown = np.sqrt(np.maximum(pattern, 0)) if s.params.get("scale") in ("abs", "power") else pattern
        outside = shown[~center & np.isfinite(shown)]
        low, high = np.percentile(outside, (1, 99.8)) if outside.size else (0.0, 1.0)
        ax.imshow(shown, cmap="magma", vmin=low, vmax=max(high, low + 1e-12), extent=extent, interpolation="nearest")
        if title is titles[0]:
            scale_bar(ax, f"{_units(s)}$^{{-1}}$")
        else:
            hide_ticks(ax)


def _draw_confidence(figure: Figure, s: Segmentation, box: Box) -> None:
    if len(s.components) == 1:
        ax = add_axes(figure, box, "confidence")
        hide_ticks(ax)
        ax.text(0.5, 0.5, "one phase:\nnothing to tell it from", ha="center", va="center", transform=ax.transAxes)
        return
    shown = _draw_map(add_axes(figure, box, "confidence"), s, s.confidence, "viridis")
    _color_bar(figure, shown, box.beside())


def _draw_map(ax: Axes, s: Segmentation, values: NDArray[Any], cmap: str, *, high: float = 1.0) -> Any:
    """A map of the window grid, 0 to `high`, at its place in the image; grey where there is no window.

    Of dense maps every other, third, ... window is drawn, which is still more than the picture shows.
    """
    from matplotlib import colormaps

    ax.set_facecolor("#DDDDDD")
    stride = max(1, max(values.shape) // SHOWN_WINDOWS)
    values = values[::stride, ::stride]
    (top, bottom), (left, right) = (_covered(s, axis, values.shape[axis], stride) for axis in (0, 1))
    extent = (left, right, bottom, top)
    colors = colormaps[cmap].with_extremes(bad=EXCLUDED)
    shown = ax.imshow(np.ma.masked_invalid(values), cmap=colors, vmin=0, vmax=high, extent=extent, aspect="equal")
    left, right, bottom, top = _extent(s)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    hide_ticks(ax)
    return shown


def _color_bar(figure: Figure, shown: Any, box: Box, label: str = "") -> None:
    bar = figure.colorbar(shown, cax=add_axes(figure, box))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=FONT - 1, length=2)
    bar.ax.locator_params(nbins=max(1, min(5, int(box.height / 0.3))))
    bar.set_label(label, fontsize=FONT - 1)


def _shown_labels(s: Segmentation) -> tuple[NDArray[np.int32], int]:
    """Labels of every m-th pixel along both axes, and m; still more than any picture shows."""
    stride = max(1, max(s.label_image.shape) // SHOWN_PIXELS)
    return s.label_image[::stride, ::stride], stride


def _boundaries(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Pixel edges between different labels, as segments (n, 2, 2) of (x, y) in pixels."""
    y, x = np.nonzero(labels[:, 1:] != labels[:, :-1])
    upright = np.stack([np.column_stack([x + 1, y]), np.column_stack([x + 1, y + 1])], axis=1)
    y, x = np.nonzero(labels[1:] != labels[:-1])
    level = np.stack([np.column_stack([x, y + 1]), np.column_stack([x + 1, y + 1])], axis=1)
    return np.concatenate([upright, level]).astype(float)


def _legend_handles(s: Segmentation) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colors = phase_colors(len(s.components))
    handles: list[Any] = [Patch(facecolor=c, label=t) for c, t in zip(colors, _titles(s), strict=True)]
    if len(handles) > MAX_LEGEND_ENTRIES:
        handles[MAX_LEGEND_ENTRIES:] = [
            Line2D([], [], linestyle="none", label=f"and {len(handles) - MAX_LEGEND_ENTRIES} more")
        ]
    if (s.label_image < 0).any():
        handles.append(Patch(facecolor=EXCLUDED, edgecolor=STRIPES, hatch="////", linewidth=0, label="excluded"))
    handles.append(Line2D([], [], color="black", linestyle=(0, (2, 2)), linewidth=1.1, label="extrapolated outside"))
    if s.by_chance:
        handles.append(Line2D([], [], linestyle="none", label="not told from chance"))
    return handles


def _titles(s: Segmentation) -> list[str]:
    return [f"phase {i + 1}:  {share}" for i, share in enumerate(percentages(s.fractions))]


# ----------------------------------------------------------------------------------------- geometry of a segmentation


def _spacing(values: NDArray[Any]) -> float:
    return float(values[1] - values[0]) if len(values) > 1 else 1.0


def _covered(s: Segmentation, axis: int, n: int, stride: int) -> tuple[float, float]:
    """From where to where n windows, each `stride` steps from the last, stand for the image; one stands for all."""
    first = s.window[axis] / 2  # pixel i covers i to i + 1
    step = stride * s.step[axis]
    half = (step if n > 1 else min(s.image.shape)) / 2
    size = (s.pixel_size or (1.0, 1.0))[axis]
    return (first - half) * size, (first + (n - 1) * step + half) * size


def _units(s: Segmentation) -> str:
    return "px" if s.pixel_size is None else s.units


def _extent(s: Segmentation) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the image."""
    height, width = s.image.shape
    py, px = s.pixel_size or (1.0, 1.0)
    return 0.0, width * px, height * py, 0.0


def _aspect(s: Segmentation) -> float:
    _, width, height, _ = _extent(s)
    return width / height


def _pattern_aspect(s: Segmentation) -> float:
    py, px = s.pixel_size or (1.0, 1.0)
    return (len(s.kx) * _spacing(s.kx) / px) / (len(s.ky) * _spacing(s.ky) / py)


def _picture_size(s: Segmentation, widest: float, highest: float) -> tuple[float, float]:
    """The largest size in inches with the image's aspect; strips are made longer to be an inch wide, up to a limit."""
    width = min(widest, highest * _aspect(s))
    height = width / _aspect(s)
    larger = max(1.0, min(1 / min(width, height), MAX_STRIP / max(width, height)))
    return larger * width, larger * height
