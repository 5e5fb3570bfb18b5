"""Pictures of an `Unmixing`: spectra over their axis or patterns, and maps, each component in its colour.

Every function returns a `matplotlib.figure.Figure`, made without pyplot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Axis
from stemseg_core.plot.drawing import EXCLUDED, color_bar, percentages, phase_colors
from stemseg_core.plot.layout import (
    BAR_COLUMN,
    FONT,
    GAP,
    TITLE,
    Box,
    add_axes,
    arrange,
    hide_ticks,
    new_figure,
    scale_bar,
)
from stemseg_core.plot.scales import Frame, frame_of, label_of, places_of, shown_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from stemseg_core.cubes.unmixing import Unmixing

#: Inches of all spectra above each other, and of one at least and at most. Twice as much: pictures for a poster.
HIGH, LEAST_HIGH, MOST_HIGH = 6.2, 0.75, 2.4
#: Inches of the width of spectra. Twice as much: lines that are narrower than a dot become visible.
WIDE = 8.0
#: Inches for the name of a component beside profiles. Twice as much: a smaller picture beside it.
NAMED = 2.3
#: Inches for the title of a component. Twice as much: panels lie farther apart.
TITLED = 1.6
#: Inches for the label of a colour bar. Twice as much: more white.
BAR_LABEL = 0.2
#: Part of an axis about 0 in which a peak is that of no loss or no X-ray; twice as much: lines of light elements are in
#: it. And how many times all else it is cut from; twice as much: peaks of edges and lines stay small.
ZERO, CUT = 0.015, 5.0
#: Channels from which on lines of spectra are thin, and widths of both in points. Twice as many: noise looks solid.
MANY, THICK, THIN = 1500, 1.1, 0.7
#: Spectra in one column, at most. Twice as many: a picture that does not fit on a slide.
ROWS = 8
#: Inches at the left of spectra, for the numbers of their axis, and below, for those of the other one.
LEFT, BELOW = 0.75, 0.5
#: Pixels along an axis of a map that are drawn, at least. Twice as many: details that are smaller than a dot.
SHOWN = 1024
#: Percentile of the values of maps that is brightest. Nearer to 100: single bright pixels make the rest dark.
BRIGHT = 99.8


def components(unmixing: Unmixing) -> Figure:
    """The spectra of the components over their axis, one above the other, or their patterns with a scale bar.

    Each has its own scale; patterns are shown by the square root of their intensity where they have no negative values.
    """
    if unmixing.n_signal_axes == 1:
        names = _names_of_spectra(unmixing)
        columns = ceil(len(names) / ROWS)
        rows = ceil(len(names) / columns)
        figure = new_figure(columns * WIDE, spectra_height(rows))
        _draw_spectra(figure, unmixing, Box(0, 0, columns * WIDE, spectra_height(rows)), columns)
        return figure
    boxes, width, height = arranged(len(unmixing.components), pattern_frame(unmixing).aspect, width=8.0, largest=2.6)
    figure = new_figure(width, height)
    _draw_patterns(figure, unmixing, boxes)
    return figure


def abundances(unmixing: Unmixing) -> Figure:
    """The map of each component in the frame of its colour; of a line scan, its profiles.

    Amounts and shares have one scale for all maps, from 0 on; scores of either sign have one each, about 0.
    """
    if unmixing.residual.ndim == 1:
        figure = new_figure(WIDE + NAMED, 3.6)
        _draw_profiles(figure, unmixing, Box(LEFT, TITLE, WIDE - LEFT - GAP, 3.6 - TITLE - BELOW))
        return figure
    signed = is_signed(unmixing)
    right = BAR_COLUMN if signed else 0.0
    boxes, width, height = arranged(
        len(unmixing.components),
        map_frame(unmixing).aspect,
        width=8.0 - BAR_COLUMN - BAR_LABEL,
        largest=3.2,
        right=right,
    )
    figure = new_figure(width + (0 if signed else BAR_COLUMN + BAR_LABEL), height)
    shown = _draw_maps(figure, unmixing, boxes)
    if not signed:
        tall = min(height - TITLE - GAP, 3.0)
        what = quantity_of(unmixing)
        color_bar(figure, shown[0], Box(width + GAP, TITLE, 0.14, tall), what if tall > 1 else "")
    return figure


def residual(unmixing: Unmixing) -> Figure:
    """What the components leave: of each pixel, relative to its signal, and of each channel."""
    line, spectrum = unmixing.residual.ndim == 1, unmixing.n_signal_axes == 1
    aspects = [2.0 if line else map_frame(unmixing).aspect, 2.0 if spectrum else pattern_frame(unmixing).aspect]
    high = 2.4
    widths = [min(4.5, high * aspect) for aspect in aspects]
    heights = [width / aspect for width, aspect in zip(widths, aspects, strict=True)]
    left, below = LEFT if line else max(0.1, TITLED - widths[0]), BELOW
    boxes = [
        Box(left, TITLE, widths[0], heights[0]),
        Box(left + widths[0] + BAR_COLUMN + LEFT, TITLE, widths[1], heights[1]),
    ]
    figure = new_figure(boxes[1].x + widths[1] + BAR_COLUMN, TITLE + max(heights) + below)
    ax = add_axes(figure, boxes[0], "of each pixel, relative", "#595959" if line else None)
    if line:
        _draw_line(ax, *map_line(unmixing), unmixing.residual, "#595959")
    else:
        plane = as_plane(unmixing.residual)
        shown = _draw_plane(ax, map_frame(unmixing), plane, "magma", (0, bright(plane)))
        color_bar(figure, shown, boxes[0].beside())
        scale_bar(ax, map_frame(unmixing).units)
    ax = add_axes(figure, boxes[1], "of each channel, root mean square", "#595959" if spectrum else None)
    left_over = unmixing.residual_spectrum
    if spectrum:
        _draw_line(ax, *signal_line(unmixing), left_over, "#595959")
    else:
        shown = _draw_plane(ax, pattern_frame(unmixing), left_over, "magma", (0, bright(left_over)))
        color_bar(figure, shown, boxes[1].beside())
        scale_bar(ax, pattern_frame(unmixing).units)
    return figure


def plot(unmixing: Unmixing) -> Figure:
    """Everything at one glance: maps above, spectra or patterns below."""
    k, line = len(unmixing.components), unmixing.residual.ndim == 1
    signed = is_signed(unmixing)
    if line:
        boxes, width, height = [Box(LEFT, TITLE, WIDE - LEFT - GAP, 2.4)], WIDE + NAMED, TITLE + 2.4 + BELOW
    else:
        boxes, width, height = arranged(
            k, map_frame(unmixing).aspect, width=9.0, largest=2.4, columns=min(k, 4), right=BAR_COLUMN if signed else 0
        )
    if unmixing.n_signal_axes == 1:
        n = len(_names_of_spectra(unmixing))
        width, more = max(width, WIDE), spectra_height(n)
        below = [Box(0, height + GAP, width, more)]
    else:
        below, wide, more = arranged(k, pattern_frame(unmixing).aspect, width=9.0, largest=2.4, columns=min(k, 4))
        below, width = [box._replace(y=box.y + height + GAP) for box in below], max(width, wide)
    figure = new_figure(width, height + GAP + more)
    if line:
        _draw_profiles(figure, unmixing, boxes[0])
    else:
        _draw_maps(figure, unmixing, boxes)
    if unmixing.n_signal_axes == 1:
        _draw_spectra(figure, unmixing, below[0], 1)
    else:
        _draw_patterns(figure, unmixing, below)
    return figure


#: The pictures of one unmixing, by the names of their files.
PICTURES: dict[str, Callable[[Unmixing], Figure]] = {
    "components": components,
    "abundances": abundances,
    "residual": residual,
}


def arranged(n: int, aspect: float, **more: Any) -> tuple[list[Box], float, float]:
    """Boxes for panels with the titles of components."""
    return arrange(n, aspect, titled=TITLED, **more)


def titles_of(u: Unmixing) -> list[str]:
    """Number of each component, and its share of the whole."""
    return [f"component {i}:  {share}" for i, share in enumerate(percentages(u.totals), start=1)]


def is_signed(u: Unmixing) -> bool:
    """Whether maps are scores of either sign."""
    return bool(np.nanmin(u.abundances, initial=0) < 0)


def quantity_of(u: Unmixing) -> str:
    """What maps hold: an "amount" of which one is a pixel of average brightness, a "share", or a "score"."""
    if is_signed(u):
        return "score"
    sums = u.abundances.sum(axis=0)
    return "share" if np.allclose(sums[np.isfinite(sums)], 1, atol=1e-3) else "amount"


def map_frame(u: Unmixing) -> Frame:
    """Sides of a map of two axes or more; those before the last two are below each other."""
    return frame_of(u.map_axes[-2:], as_plane(u.residual).shape)


def pattern_frame(u: Unmixing) -> Frame:
    """Sides of a pattern."""
    return frame_of(u.signal_axes, u.residual_spectrum.shape)


def map_line(u: Unmixing) -> tuple[str, NDArray[np.float64]]:
    """Name and places of the pixels of a line scan."""
    return _line(u.map_axes[0], u.residual.size, "pixel")


def signal_line(u: Unmixing) -> tuple[str, NDArray[np.float64]]:
    """Name and places of the channels of spectra."""
    return _line(u.signal_axes[0], u.residual_spectrum.size, "channel")


def _line(axis: Axis, size: int, unnamed: str) -> tuple[str, NDArray[np.float64]]:
    shown = shown_axis(axis, size)
    return label_of(shown, unnamed), places_of(shown, size)


def as_plane(values: NDArray[Any]) -> NDArray[Any]:
    """A map (y, x), or one of more axes with its planes below each other."""
    return values.reshape(-1, values.shape[-1])


def spectra_height(n: int) -> float:
    """Inches that n spectra take above each other."""
    return n * (_high(n) + TITLE) + BELOW


def _high(n: int) -> float:
    return min(max(HIGH / n - TITLE, LEAST_HIGH), MOST_HIGH)


def _names_of_spectra(u: Unmixing) -> list[str]:
    return [*([] if u.offset is None else ["mean of all pixels"]), *titles_of(u)]


def _draw_spectra(figure: Figure, u: Unmixing, box: Box, columns: int) -> None:
    """Draw spectra above each other, each in its colour and on its own scale, over one axis."""
    names = _names_of_spectra(u)
    spectra = [*([] if u.offset is None else [u.offset]), *u.components]
    colors = [*([] if u.offset is None else ["#595959"]), *phase_colors(len(u.components))]
    rows = ceil(len(names) / columns)
    label, places = signal_line(u)
    wide, high = box.width / columns, _high(rows)
    for i, (name, spectrum, color) in enumerate(zip(names, spectra, colors, strict=True)):
        column, row = divmod(i, rows)
        place = Box(box.x + column * wide + LEFT, box.y + TITLE + row * (high + TITLE), wide - LEFT - 2 * GAP, high)
        ax = add_axes(figure, place)
        highest = _cut(places, spectrum)
        cut = f"   (the peak at 0 is cut, {np.nanmax(spectrum):.3g} high)" if highest else ""
        ax.set_title(name + cut, fontsize=FONT, y=1, pad=3)  # beside the power of ten at the axis, not above it
        last = row == rows - 1 or i == len(names) - 1
        _draw_line(ax, label if last else "", places, spectrum, color, fill=True)
        ax.tick_params(labelbottom=last)
        if highest:
            ax.set_ylim(top=highest)
    figure.text(
        (box.x + 0.12) / figure.get_figwidth(),
        1 - (box.y + TITLE + (rows * (high + TITLE) - TITLE) / 2) / figure.get_figheight(),
        "intensity",
        rotation=90,
        ha="center",
        va="center",
        fontsize=FONT,
    )


def _cut(places: NDArray[Any], spectrum: NDArray[Any]) -> float | None:
    """Where the scale of a spectrum ends, if its peak at 0 would make all else flat."""
    near = np.abs(places) <= ZERO * (places.max() - places.min())
    if not near.any() or near.all():
        return None
    peak, rest = (float(np.nanmax(part, initial=0)) for part in (spectrum[near], spectrum[~near]))
    return 1.15 * rest if peak > CUT * rest > 0 else None


def _draw_line(
    ax: Axes, label: str, places: NDArray[Any], values: NDArray[Any], color: str, *, fill: bool = False
) -> Any:
    """Draw a spectrum or a profile; returns its line, which is darker than the colour that fills it."""
    from matplotlib.colors import to_rgb

    dark = [0.75 * part for part in to_rgb(color)] if fill else color
    if fill:
        ax.fill_between(places, 0, values, color=color, alpha=0.35, linewidth=0)
    (line,) = ax.plot(places, values, color=dark, linewidth=THICK if len(places) < MANY else THIN)
    half = abs(places[1] - places[0]) / 2 if len(places) > 1 else 0.5
    ax.set_xlim(places.min() - half, places.max() + half)
    if np.nanmin(values, initial=0) >= 0:
        ax.set_ylim(bottom=0)
    else:
        ax.axhline(0, color="#999999", linewidth=0.8, zorder=0)
    for side in ("left", "bottom"):
        ax.spines[side].set(visible=True, linewidth=0.8, edgecolor="#333333")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.locator_params(axis="y", nbins=3)
    ax.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
    ax.yaxis.get_offset_text().set_fontsize(FONT - 2)
    ax.tick_params(labelsize=FONT - 1, length=3)
    ax.set_xlabel(label, fontsize=FONT)
    return line


def _draw_profiles(figure: Figure, u: Unmixing, box: Box) -> None:
    """Draw the abundances of a line scan, with a legend at the right."""
    ax = add_axes(figure, box)
    label, places = map_line(u)
    for profile, color, name in zip(u.abundances, phase_colors(len(u.components)), titles_of(u), strict=True):
        _draw_line(ax, label, places, profile, color).set(linewidth=2, label=name)
    low, high = (float(end(u.abundances, initial=0)) for end in (np.nanmin, np.nanmax))
    ax.set_ylim(1.05 * low, 1.05 * high or 1.0)
    ax.set_ylabel(quantity_of(u), fontsize=FONT)
    handles = [line for line in ax.lines if not str(line.get_label()).startswith("_")]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=FONT)


def _draw_patterns(figure: Figure, u: Unmixing, boxes: Sequence[Box]) -> None:
    """Draw the pattern of each component in the frame of its colour; those with negative values about 0."""
    frame, titles, colors = pattern_frame(u), titles_of(u), phase_colors(len(u.components))
    for pattern, box, title, color in zip(u.components, boxes, titles, colors, strict=False):
        ax = add_axes(figure, box, title, color)
        if np.nanmin(pattern, initial=0) < 0:
            high = bright(np.abs(pattern))
            _draw_plane(ax, frame, pattern, "RdBu_r", (-high, high))
        else:
            shown = np.sqrt(pattern)
            _draw_plane(ax, frame, shown, "magma", (0, bright(shown)))
        if title is titles[0]:
            scale_bar(ax, frame.units)


def _draw_maps(figure: Figure, u: Unmixing, boxes: Sequence[Box]) -> list[Any]:
    """Draw the map of each component; returns what a colour bar is of. Scores have theirs beside them."""
    frame, titles, colors, signed = map_frame(u), titles_of(u), phase_colors(len(u.components)), is_signed(u)
    high, shown = bright(u.abundances), []
    for values, box, title, color in zip(u.abundances, boxes, titles, colors, strict=True):
        ax = add_axes(figure, box, title, color)
        if signed:
            own = bright(np.abs(values))
            shown.append(_draw_plane(ax, frame, as_plane(values), "RdBu_r", (-own, own)))
            color_bar(figure, shown[-1], box.beside())
        else:
            shown.append(_draw_plane(ax, frame, as_plane(values), "viridis", (0, high)))
        if title is titles[0]:
            scale_bar(ax, frame.units)
    return shown


def _draw_plane(ax: Axes, frame: Frame, values: NDArray[Any], cmap: str, between: tuple[float, float]) -> Any:
    """Draw a map or a pattern in its frame; grey where there is no number."""
    from matplotlib import colormaps

    stride = max(1, max(values.shape) // SHOWN)
    shown = ax.imshow(
        np.ma.masked_invalid(values[::stride, ::stride]),
        cmap=colormaps[cmap].with_extremes(bad=EXCLUDED),
        vmin=between[0],
        vmax=between[1],
        extent=frame.extent,
        aspect="equal",
        interpolation="nearest",
    )
    hide_ticks(ax)
    return shown


def bright(values: NDArray[Any]) -> float:
    """What is brightest in maps of these values."""
    finite = values[np.isfinite(values)]
    return float(np.percentile(finite, BRIGHT)) or float(finite.max()) or 1.0 if finite.size else 1.0
