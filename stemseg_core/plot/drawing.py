"""What the panels of pictures show: image, phases, patterns and maps of a `Segmentation`, in its own units."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.plot.layout import FONT, Box, add_axes, hide_ticks, scale_bar
from stemseg_core.plot.marks import draw_marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stemseg_core.phases.segmentation import Segmentation

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
#: Letters in a line of the legend, at most. Twice as many: a legend that leaves less room for the maps.
LEGEND_LETTERS = 21
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


def draw_image(ax: Axes, s: Segmentation) -> None:
    """Draw the image in grey, from its 0.5th to its 99.7th percentile; excluded pixels in another grey."""
    from matplotlib import colormaps

    image, (low, high) = np.ma.masked_invalid(s.image), gray_range(s)
    gray = colormaps["gray"].with_extremes(bad=EXCLUDED)
    ax.imshow(image, cmap=gray, vmin=low, vmax=max(high, low + 1e-12), extent=_extent(s), aspect="equal")


def gray_range(s: Segmentation) -> tuple[float, float]:
    """What is black and what is white in the image."""
    image = s.image[:: ceil(s.image.shape[0] / 1000), :: ceil(s.image.shape[1] / 1000)]
    some = image[np.isfinite(image)]
    low, high = np.percentile(some, (0.5, 99.7)) if some.size else (0.0, 1.0)
    return float(low), float(high)


def draw_overlay(ax: Axes, s: Segmentation, alpha: float, *, bar: bool = True) -> None:
    """Draw the phases in colour over the image, with their boundaries, and a scale bar if asked for."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    draw_image(ax, s)
    labels, stride = _shown_labels(s)
    height, width = labels.shape
    py, px = (stride * size for size in s.pixel_size or (1.0, 1.0))
    colors = [to_rgba(color, alpha) for color in phase_colors(len(s.components))]
    colors += [to_rgba(EXCLUDED, 0.85), to_rgba(STRIPES, 0.85)]
    period = max(12, max(height, width) // 40)
    striped = (np.arange(height)[:, None] + np.arange(width)) % period < period // 4
    tint = np.rint(255 * np.array(colors)).astype(np.uint8)[np.where(labels >= 0, labels, len(s.components) + striped)]
    ax.imshow(tint, extent=(0, width * px, height * py, 0), aspect="equal", interpolation="nearest")
    edges = label_edges(labels) * (px, py)
    for color, width in (("black", 2.4), ("white", 1.2)):
        ax.add_collection(
            LineCollection(list(edges), colors=color, linewidths=width, capstyle="projecting"), autolim=False
        )
    _draw_outermost(ax, s)
    left, right, bottom, top = _extent(s)
    ax.set(xlim=(left, right), ylim=(bottom, top))
    hide_ticks(ax)
    if bar:
        scale_bar(ax, units_of(s))


def _draw_outermost(ax: Axes, s: Segmentation) -> None:
    """A line through the centres of the outermost windows, dashed in black and white."""
    from matplotlib.patches import Rectangle

    size = s.pixel_size or (1.0, 1.0)
    # Pixel i covers i to i + 1, so that its centre is at i + 1/2.
    (top, left), (bottom, right) = ((s.centers[i] + 0.5) * size for i in (0, -1))
    for color, dashes in OUTERMOST:
        line: dict[str, Any] = {"edgecolor": color, "linestyle": dashes, "linewidth": 1.1, "zorder": 2.5}
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, **line))


def draw_components(figure: Figure, s: Segmentation, boxes: Sequence[Box]) -> None:
    """Draw the pattern of a phase in each box; of fewer boxes than phases, those of the first."""
    titles, colors = titles_of(s), phase_colors(len(s.components))
    py, px = s.pixel_size or (1.0, 1.0)
    ky, kx = s.ky / py, s.kx / px
    dy, dx = (_spacing(k) / 2 for k in (ky, kx))
    extent = (kx[0] - dx, kx[-1] + dx, ky[-1] + dy, ky[0] - dy)
    for phase, (pattern, box, title, color) in enumerate(zip(s.components, boxes, titles, colors, strict=False)):
        ax = add_axes(figure, box, title, color)
        shown, low, high = seen(s, pattern)
        ax.imshow(shown, cmap="magma", vmin=low, vmax=max(high, low + 1e-12), extent=extent, interpolation="nearest")
        draw_marks(ax, s, phase)
        if title is titles[0]:
            scale_bar(ax, f"{units_of(s)}$^{{-1}}$")
        else:
            hide_ticks(ax)


def seen(s: Segmentation, patterns: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Patterns (.., y, x), or their right halves, as they are shown: roots of strong ones; and what is dark and bright.

    That is the 1st and the 99.8th percentile without the centre, and what the taper smears around it, which would
    outshine everything else.
    """
    shown = np.sqrt(np.maximum(patterns, 0)) if s.params.get("scale") in ("abs", "power") else patterns
    y, x = s.ky / _spacing(s.ky), s.kx / _spacing(s.kx)
    outside = np.hypot(y[:, None], x[-shown.shape[-1] :]) >= 2.5
    some = shown[..., outside]
    some = some[np.isfinite(some)]
    low, high = np.percentile(some, (1, 99.8)) if some.size else (0.0, 1.0)
    return shown, float(low), float(high)


def draw_confidence(figure: Figure, s: Segmentation, box: Box) -> None:
    """Draw the map of confidence with its colour bar; of one phase, a remark."""
    if len(s.components) == 1:
        ax = add_axes(figure, box, "confidence")
        hide_ticks(ax)
        ax.text(0.5, 0.5, "one phase:\nnothing to tell it from", ha="center", va="center", transform=ax.transAxes)
        return
    shown = draw_map(add_axes(figure, box, "confidence"), s, s.confidence, "viridis")
    color_bar(figure, shown, box.beside())


def draw_map(ax: Axes, s: Segmentation, values: NDArray[Any], cmap: str, *, high: float = 1.0) -> Any:
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


def color_bar(figure: Figure, shown: Any, box: Box, label: str = "") -> None:
    """Draw the colour bar of a map that `draw_map` returned."""
    bar = figure.colorbar(shown, cax=add_axes(figure, box))
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=FONT - 1, length=2)
    bar.ax.locator_params(nbins=max(1, min(5, int(box.height / 0.3))))
    bar.set_label(label, fontsize=FONT - 1)


def _shown_labels(s: Segmentation) -> tuple[NDArray[np.int32], int]:
    """Labels of every m-th pixel along both axes, and m; still more than any picture shows."""
    stride = max(1, max(s.label_image.shape) // SHOWN_PIXELS)
    return s.label_image[::stride, ::stride], stride


def label_edges(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Pixel edges between different labels, as segments (n, 2, 2) of (x, y) in pixels."""
    y, x = np.nonzero(labels[:, 1:] != labels[:, :-1])
    upright = np.stack([np.column_stack([x + 1, y]), np.column_stack([x + 1, y + 1])], axis=1)
    y, x = np.nonzero(labels[1:] != labels[:-1])
    level = np.stack([np.column_stack([x, y + 1]), np.column_stack([x + 1, y + 1])], axis=1)
    return np.concatenate([upright, level]).astype(float)


def legend_handles(s: Segmentation) -> list[Any]:
    """What the legend of phases shows: each with its share, and remarks."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colors = phase_colors(len(s.components))
    handles: list[Any] = [Patch(facecolor=c, label=t) for c, t in zip(colors, titles_of(s), strict=True)]
    if len(handles) > MAX_LEGEND_ENTRIES:
        handles[MAX_LEGEND_ENTRIES:] = [
            Line2D([], [], linestyle="none", label=f"and {len(handles) - MAX_LEGEND_ENTRIES} more")
        ]
    if (s.label_image < 0).any():
        handles.append(Patch(facecolor=EXCLUDED, edgecolor=STRIPES, hatch="////", linewidth=0, label="excluded"))
    handles.append(Line2D([], [], color="black", linestyle=(0, (2, 2)), linewidth=1.1, label="extrapolated outside"))
    if s.separation is not None and s.verdict is not None and not s.separation.exists:
        handles.append(Line2D([], [], linestyle="none", label=fill(s.verdict, LEGEND_LETTERS)))
    return handles


def titles_of(s: Segmentation) -> list[str]:
    """Number and share of each phase."""
    return [f"phase {i + 1}:  {share}" for i, share in enumerate(percentages(s.fractions))]


def _spacing(values: NDArray[Any]) -> float:
    return float(values[1] - values[0]) if len(values) > 1 else 1.0


def _covered(s: Segmentation, axis: int, n: int, stride: int) -> tuple[float, float]:
    """From where to where n windows, each `stride` steps from the last, stand for the image; one stands for all."""
    first = s.window[axis] / 2  # pixel i covers i to i + 1
    step = stride * s.step[axis]
    half = (step if n > 1 else min(s.image.shape)) / 2
    size = (s.pixel_size or (1.0, 1.0))[axis]
    return (first - half) * size, (first + (n - 1) * step + half) * size


def units_of(s: Segmentation) -> str:
    """Unit of length in pictures: pixels, if the image is not calibrated."""
    return "px" if s.pixel_size is None else s.units


def _extent(s: Segmentation) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the image."""
    height, width = s.image.shape
    py, px = s.pixel_size or (1.0, 1.0)
    return 0.0, width * px, height * py, 0.0


def aspect_of(s: Segmentation) -> float:
    """Width of the image over its height, as lengths."""
    _, width, height, _ = _extent(s)
    return width / height


def pattern_aspect_of(s: Segmentation) -> float:
    """Width of a pattern over its height, as frequencies."""
    py, px = s.pixel_size or (1.0, 1.0)
    return (len(s.kx) * _spacing(s.kx) / px) / (len(s.ky) * _spacing(s.ky) / py)


def picture_size(s: Segmentation, widest: float, highest: float) -> tuple[float, float]:
    """The largest size in inches with the image's aspect; strips are made longer to be an inch wide, up to a limit."""
    width = min(widest, highest * aspect_of(s))
    height = width / aspect_of(s)
    larger = max(1.0, min(1 / min(width, height), MAX_STRIP / max(width, height)))
    return larger * width, larger * height
