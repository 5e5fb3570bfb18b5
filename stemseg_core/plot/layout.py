"""Panels of a figure: how many inches each takes, empty axes there, and scale bars."""

from __future__ import annotations

import io
from math import ceil, floor, log, log10
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Size of letters in points. Twice as much: titles and legends run into each other.
FONT = 10
#: Inches for a letter of a sentence, and for a line of them. Twice as much: shorter lines, and more white.
LETTER = 0.085
LINE = 0.2
#: Inches between panels. Twice as much: more white.
GAP = 0.15
#: Inches for the line of text above each panel. Twice as much: more white above it.
TITLE = 0.28
#: Inches for a colour bar and its numbers. Twice as much: smaller panels.
BAR_COLUMN = 0.75
#: Inches for one entry of the legend. Twice as much: a smaller picture beside it.
LEGEND = 1.9
#: Inches for the title of a phase: an entry of the legend without its swatch. Twice as much: panels lie farther apart.
TITLED = 1.35
#: Shortest side in inches of a panel that has its scale bar inside. Twice as much: bars are below most panels.
BAR_INSIDE = 1.2
#: Inches for a scale bar below a panel. Twice as much: more white.
BAR_BELOW = 0.3
#: Dots per inch. Twice as many: four times the pixels, and the time to compress them.
DPI = 150


class Box(NamedTuple):
    """A panel, in inches from the upper left corner of the figure."""

    x: float
    y: float
    width: float
    height: float

    def beside(self) -> Box:
        """Where its colour bar goes."""
        return Box(self.x + self.width + 0.08, self.y, 0.12, self.height)


def room_below(width: float, height: float) -> float:
    """Inches for the scale bar below a panel of that size; none if the bar is inside."""
    return BAR_BELOW if min(width, height) < BAR_INSIDE else 0.0


def arrange(
    n: int,
    aspect: float,
    *,
    width: float,
    largest: float,
    right: float = 0.0,
    columns: int | None = None,
    titled: float = TITLED,
) -> tuple[list[Box], float, float]:
    """Boxes for `n` panels of one aspect (width over height), and the width and height they take, in inches.

    Panels are as large as `width` allows, but no side is longer than `largest`, or twice that along a strip. Unless
    `columns` is given, there are as many as make the whole most like a slide. `right` is room beside each panel,
    `titled` that of a title; below small ones there is room for a scale bar.
    """
    longest = 2 * largest if max(aspect, 1 / aspect) > 2 else largest

    def size(columns: int) -> tuple[float, float]:
        wide = max(0.3, min(width / columns - GAP - right, longest, longest * aspect))
        return wide, wide / aspect

    def step(columns: int) -> tuple[float, float]:
        wide, high = size(columns)
        return max(wide, titled) + GAP + right, high + TITLE + GAP + room_below(wide, high)

    def unlike(columns: int) -> float:
        (wide, high), rows = step(columns), ceil(n / columns)
        return abs(log(columns * wide / (rows * high) / 1.6)) + 0.25 * (columns * rows - n)

    columns = columns or min(range(1, n + 1), key=unlike)
    (wide, high), (step_x, step_y) = size(columns), step(columns)
    left = (step_x - right - wide) / 2
    boxes = [Box(left + i % columns * step_x, TITLE + i // columns * step_y, wide, high) for i in range(n)]
    return boxes, columns * step_x, ceil(n / columns) * step_y


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, made without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def figure_of(ax: Axes) -> Figure:
    """The figure of `ax`, also from within a subfigure."""
    figure: Figure = ax.figure.figure
    return figure


def add_axes(figure: Figure, box: Box, title: str = "", color: str | None = None) -> Axes:
    """Empty axes in `box`, in a frame of `color` if there is one."""
    width, height = figure.get_size_inches()
    ax = figure.add_axes((box.x / width, 1 - (box.y + box.height) / height, box.width / width, box.height / height))
    ax.set_title(title, fontsize=FONT, pad=4)
    for spine in ax.spines.values():
        spine.set_visible(color is not None)
        spine.set(linewidth=3, edgecolor=color or "none")
    return ax


def hide_ticks(ax: Axes) -> None:
    """No ticks, and no frame but a coloured one."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(spine.get_linewidth() >= 3)


def scale_bar_length(width: float) -> float:
    """The longest of 1, 2, 5 times a power of ten that is at most 0.3 of `width`."""
    longest = 0.3 * width * (1 + 1e-9)
    power = 10.0 ** floor(log10(longest))
    factor = max(f for f in (1, 2, 5) if f * power <= longest)
    return float(f"{factor * power:.6g}")


def scale_bar(ax: Axes, units: str) -> None:
    """Draw a bar of round length: in the lower left corner on a dark ground, or below axes that are small."""
    from matplotlib.offsetbox import AnchoredOffsetbox, AuxTransformBox, HPacker, TextArea, VPacker
    from matplotlib.patches import Rectangle
    from matplotlib.transforms import blended_transform_factory

    figure = figure_of(ax)
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    length = scale_bar_length(min(right - left, 2 * (bottom - top)))  # short enough to leave a strip to be seen
    below = room_below(ax.bbox.width / figure.dpi, ax.bbox.height / figure.dpi) > 0
    color = "black" if below else "white"
    # Length in the units of the picture, thickness in inches.
    bar = AuxTransformBox(blended_transform_factory(ax.transData, figure.dpi_scale_trans))
    bar.add_artist(Rectangle((0, 0), length, 0.05, facecolor=color, edgecolor="none", gid="scale bar"))
    label = TextArea(f"{length:g} {units}", textprops={"color": color, "size": FONT})
    if below:
        beside = HPacker(children=[bar, label], align="center", pad=0, sep=5)
        under: dict[str, Any] = {"bbox_to_anchor": (0.0, 0.0), "bbox_transform": ax.transAxes}
        anchored = AnchoredOffsetbox("upper left", child=beside, pad=0, borderpad=0.4, frameon=False, **under)
    else:
        above = VPacker(children=[label, bar], align="center", pad=0, sep=3)
        anchored = AnchoredOffsetbox("lower left", child=above, pad=0.4, borderpad=0.5)
        anchored.patch.set(facecolor="black", edgecolor="none", alpha=0.55)
    ax.add_artist(anchored)
    hide_ticks(ax)


class Picture(NamedTuple):
    """A figure as a file of the kind PNG, and its width in inches."""

    png: bytes
    width: float


def draw_picture(figure: Figure) -> Picture:
    """The figure, drawn. Noise hardly compresses: level 3 makes files as small as 6 does, in half the time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", pil_kwargs={"compress_level": 3})
    return Picture(buffer.getvalue(), figure.get_figwidth())
