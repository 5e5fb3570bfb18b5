"""What a report can be asked: the map in layers, and the numbers and patterns of its windows for the script.

The layers are pictures: without a script they lie over each other as in the picture of phases. Numbers go beside them,
since browsers may change what a script reads back from a picture.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stemseg_core import plot
from stemseg_core.phases.parameters import TABLE
from stemseg_core.plot import markup
from stemseg_core.plot.drawing import (
    EXCLUDED,
    SHOWN_PIXELS,
    STRIPES,
    gray_range,
    seen,
    units_of,
)
from stemseg_core.plot.markup import bar_length, bars, data_uri, gray_png, indexed_png
from stemseg_core.windows.windows import WindowFFT

if TYPE_CHECKING:
    from stemseg_core.phases.segmentation import Segmentation

#: Pixels along an axis that a report shows at most, of image and map. Twice as many: up to four times the file.
MAP_PIXELS = 1024
#: Bytes of what is stored of windows, patterns above all, before they are compressed: if all do not fit, those of every
#: m-th window along both axes are kept. Twice as many: a file that is up to 2.7 MB larger.
WINDOW_BYTES = 2_000_000
#: Edges between pixels of different phases that are drawn as lines, at most; of maps of specks colours are enough.
#: Twice as many: up to 0.4 MB more, and a page that scrolls less smoothly.
MAX_EDGES = 100_000
#: Opacity of the colours at first, in percent, as in the picture of phases. Twice as much: the image is not seen.
OPACITY = 50
#: What stands for no number where others are percent, 0 to 254.
NO_NUMBER = 255


class Windows(NamedTuple):
    """What is kept of every m-th window along both axes, (my, mx, ..), all uint8.

    Attributes
    ----------
    stride : int
        m.
    numbers : ndarray of shape (my, mx, k + 2)
        Memberships, confidence and residual in percent; `NO_NUMBER` where there is none.
    patterns : ndarray of shape (my, mx, 2 hy + 1, hx + 1), or None
        Brightness of the right half of each pattern, on one scale; None if the frequencies are not those of windows of
        this image.
    """

    stride: int
    numbers: NDArray[np.uint8]
    patterns: NDArray[np.uint8] | None


def windows_of(s: Segmentation) -> Windows:
    """The windows of a report: all, or as many as `WINDOW_BYTES` hold."""
    (ny, nx), half = s.labels.shape, (len(s.ky), len(s.kx) // 2 + 1)
    each = half[0] * half[1] + len(s.components) + 2
    most = max(1, WINDOW_BYTES // each)
    stride = next(m for m in range(1, max(ny, nx) + 1) if ceil(ny / m) * ceil(nx / m) <= most)
    some = np.s_[::stride, ::stride]
    numbers = np.stack([*(plane[some] for plane in s.abundances), s.confidence[some], s.residual[some]], axis=-1)
    percent = np.clip(np.rint(100 * np.nan_to_num(numbers)), 0, NO_NUMBER - 1)
    percent[~np.isfinite(numbers) | (s.labels[some] < 0)[..., np.newaxis]] = NO_NUMBER
    return Windows(stride, percent.astype(np.uint8), _patterns(s, stride))


def _patterns(s: Segmentation, stride: int) -> NDArray[np.uint8] | None:
    """Patterns of every m-th window, brightness from the 1st to the 99.8th percentile of all but their centres."""
    given = {name: s.params.get(name, TABLE[name].default) for name in ("taper", "detrend", "zoom", "scale")}
    given["taper"] = tuple(given["taper"]) if isinstance(given["taper"], list) else given["taper"]
    matrix = WindowFFT(s.window, [stride * step for step in s.step], invalid="exclude", **given).matrix(s.image)
    included = s.labels[::stride, ::stride] >= 0
    if (len(matrix.ky), len(matrix.kx), *matrix.included.shape) != (len(s.ky), len(s.kx), *included.shape):
        return None
    kept = matrix.to_image(np.asarray(matrix))[..., len(s.kx) // 2 :][included[matrix.included]]
    shown, low, high = seen(s, kept)
    patterns = np.zeros((*included.shape, *kept.shape[1:]), np.uint8)
    patterns[included & matrix.included] = brightness(shown, low, high)
    return patterns


def brightness(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Values from `low` to `high` as 0 to 255; those beyond, infinite ones too, are cut off, NaN is 0."""
    scaled = np.subtract(values, low, dtype=np.float64) * (255 / max(high - low, 1e-12))
    return np.rint(np.nan_to_num(np.clip(scaled, 0, 255))).astype(np.uint8)


def data_of(s: Segmentation) -> dict[str, Any]:
    """What the script reads: sizes, units, colours of patterns, and one compressed run of bytes.

    The bytes are phases of pixels plus one (uint16, little-endian), then `Windows.numbers`, then `Windows.patterns`.
    """
    windows, labels = windows_of(s), shown_labels(s)
    arrays = [(labels + 1).astype("<u2"), windows.numbers]
    arrays += [] if windows.patterns is None else [windows.patterns]
    packed = zlib.compress(b"".join(array.tobytes() for array in arrays))
    return {
        "image": s.image.shape,
        "labels": labels.shape,
        "pixel": s.pixel_size or (1, 1),
        "units": units_of(s),
        "calibrated": s.pixel_size is not None,
        "phases": len(s.components),
        "grid": windows.numbers.shape[:2],
        "first": s.centers[0].tolist(),
        "step": [windows.stride * step for step in s.step],
        "window": s.window,
        "pattern": None if windows.patterns is None else windows.patterns.shape[2:],
        "colors": base64.b64encode(magma()[:, :3].tobytes()).decode("ascii"),
        "bytes": base64.b64encode(packed).decode("ascii"),
    }


def shown_labels(s: Segmentation) -> NDArray[np.int32]:
    """Labels of the pixels that are shown."""
    y, x = ((np.arange(n) + 0.5) * (size / n) for n, size in zip(_shown(s), s.image.shape, strict=True))
    labels: NDArray[np.int32] = s.label_image[np.ix_(y.astype(int), x.astype(int))]
    return labels


def _shown(s: Segmentation) -> tuple[int, int]:
    """Pixels (y, x) that are shown: those of the image, if there are not too many."""
    smaller = min(1.0, MAP_PIXELS / max(s.image.shape))
    y, x = (max(1, round(smaller * n)) for n in s.image.shape)
    return y, x


def magma() -> NDArray[np.uint8]:
    """Colours of patterns, (256, 4)."""
    from matplotlib import colormaps

    colors: NDArray[np.uint8] = colormaps["magma"](np.arange(256), bytes=True)
    return colors


def rules(s: Segmentation) -> str:
    """Style that depends on the segmentation: its colours, and the shapes and scale bars of map and patterns."""
    return markup.rules({".explorer": map_sides(s), ".pattern": pattern_sides(s)}, plot.phase_colors(len(s.components)))


def map_sides(s: Segmentation) -> tuple[float, float]:
    """Height and width of the image, as lengths."""
    (height, width), (py, px) = s.image.shape, s.pixel_size or (1.0, 1.0)
    return height * py, width * px


def pattern_sides(s: Segmentation) -> tuple[float, float]:
    """Height and width of a pattern, as frequencies."""
    y, x = (float(np.ptp(k) + abs(k[1] - k[0])) if len(k) > 1 else 1.0 for k in s.frequency_axes)
    return y, x


def _map_bar(s: Segmentation) -> str:
    """A scale bar of the map; how long it is on the page, `rules` say."""
    return f'<span class="scale">{bar_length(*map_sides(s)):g} {escape(units_of(s))}</span>'


def pattern_bar(s: Segmentation) -> str:
    """A scale bar of a pattern."""
    return f'<span class="scale">{bar_length(*pattern_sides(s)):g} {escape(units_of(s))}<sup>-1</sup></span>'


def phase_map(s: Segmentation, description: str) -> str:
    """The image, a layer of colour for each phase, boundaries, and a scale bar."""
    labels, colors = shown_labels(s), plot.phase_colors(len(s.components))
    height, width = s.image.shape
    layers = [_layer(labels == i, color, f'data-phase="{i + 1}"') for i, color in enumerate(colors)]
    return "\n".join(
        [
            f'<div class="map" id="map" role="img" aria-label="{escape(description)}">',
            f'<img class="image" src="{data_uri(gray_png(_gray(s)))}" alt="">',
            f'<div class="colours">{"".join(layers)}</div>',
            _excluded(labels),
            f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">',
            _boundaries(s, labels),
            *_outermost(s),
            '<g id="marker" visibility="hidden"><rect class="dark"/><rect class="light"/></g>',
            "</svg>",
            _map_bar(s),
            "</div>",
        ]
    )


def _gray(s: Segmentation) -> NDArray[np.uint8]:
    """The image as it is shown, (y, x)."""
    from PIL import Image

    stride = max(1, max(s.image.shape) // SHOWN_PIXELS)
    image = s.image[::stride, ::stride]
    gray = brightness(image, *gray_range(s))
    gray[~np.isfinite(image)] = _rgb(EXCLUDED)[0]
    smaller = Image.fromarray(gray).resize(_shown(s)[::-1], Image.Resampling.BOX)
    return np.asarray(smaller)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _layer(where: NDArray[np.bool_], color: str, attributes: str) -> str:
    palette = np.array([(0, 0, 0, 0), (*_rgb(color), 255)], np.uint8)
    return f'<img {attributes} src="{data_uri(indexed_png(where.astype(np.uint8), palette))}" alt="">'


def _excluded(labels: NDArray[np.int32]) -> str:
    """Stripes where there is no phase, if there is such a place."""
    if (labels >= 0).all():
        return ""
    height, width = labels.shape
    period = max(12, max(height, width) // 40)
    striped = (np.arange(height)[:, None] + np.arange(width)) % period < period // 4
    palette = np.array([(0, 0, 0, 0), *((*_rgb(color), 217) for color in (EXCLUDED, STRIPES))], np.uint8)
    png = indexed_png(np.where(labels < 0, 1 + striped, 0).astype(np.uint8), palette)
    return f'<img class="excluded" src="{data_uri(png)}" alt="">'


def _boundaries(s: Segmentation, labels: NDArray[np.int32]) -> str:
    """Lines between phases, white on black, in one path for each pair of phases."""
    (height, width), (rows, columns) = s.image.shape, labels.shape
    paths: dict[tuple[int, int], list[str]] = {}
    if sum(np.count_nonzero(np.diff(labels, axis=axis)) for axis in (0, 1)) <= MAX_EDGES:
        for y, x, length, pair in _runs(labels):
            paths.setdefault(pair, []).append(f"M{x} {y}h{length}")
        for x, y, length, pair in _runs(labels.T):
            paths.setdefault(pair, []).append(f"M{x} {y}v{length}")
    drawn = "".join(
        f'<path data-phases="{i + 1} {j + 1}" d="{"".join(lines)}"/>' for (i, j), lines in sorted(paths.items())
    )
    return (
        f'<defs><g id="boundaries" transform="scale({width / columns:.8g} {height / rows:.8g})">{drawn}</g></defs>'
        '<use class="dark" href="#boundaries"/><use class="light" href="#boundaries"/>'
    )


def _runs(labels: NDArray[np.int32]) -> Iterator[tuple[int, int, int, tuple[int, int]]]:
    """Edges between each row and the next: row, first column, length, and the two phases, of as long runs as there are.

    Numbers of phases are those of labels, the lower first.
    """
    low, high = np.minimum(labels[:-1], labels[1:]), np.maximum(labels[:-1], labels[1:])
    pairs = np.zeros((low.shape[0], low.shape[1] + 1), np.int64)  # a column without edges ends the runs of a row
    pairs[:, :-1] = np.where(low == high, 0, (low + 1) * (int(labels.max(initial=0)) + 2) + high + 1)
    along = pairs.ravel()
    ends = np.flatnonzero(np.diff(along, prepend=0))
    for start, stop in pairwise(ends.tolist()):
        if along[start]:
            row, column = divmod(start, pairs.shape[1])
            yield row + 1, column, stop - start, (int(low[row, column]), int(high[row, column]))


def _outermost(s: Segmentation) -> list[str]:
    """The line through the centres of the outermost windows, black dashes on white."""
    # Pixel i covers i to i + 1, so that its centre is at i + 1/2.
    (top, left), (bottom, right) = (s.centers[i] + 0.5 for i in (0, -1))
    place = f'x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}"'
    return [f'<rect class="outermost {color}" {place}/>' for color in ("light", "dark")]


def controls(s: Segmentation) -> str:
    """How strong the colours are."""
    return (
        '<p class="asks control"><label for="opacity">Colours</label>'
        f'<input type="range" id="opacity" min="0" max="100" step="5" value="{OPACITY}">'
        f'<output for="opacity">{OPACITY} %</output></p>'
    )


def window_panel(s: Segmentation, data: dict[str, Any]) -> str:
    """Where the script writes what is known of a window."""
    patterns = (
        f'<div class="pair"><figure><div class="pattern"><canvas width="{len(s.kx)}" height="{len(s.ky)}"></canvas>'
        f"{pattern_bar(s)}</div><figcaption>this window</figcaption></figure>"
        '<figure><div class="pattern" id="of-phase"></div><figcaption id="which"></figcaption></figure></div>'
    )
    scale = "Brightness is on one scale for all windows; the mean of a phase has its own range."
    notes = [scale] if data["pattern"] else []
    m = data["step"][0] // s.step[0]
    notes += [f"To stay small, the page holds one window of every {m} x {m}."] if m > 1 else []
    return (
        '<section class="asks" id="window" aria-label="Window"><h2>Window <span id="held"></span></h2>'
        '<p id="where"></p><p id="phase"></p>'
        f'<ul class="memberships" aria-label="memberships">{bars(len(s.components))}</ul><p id="sure"></p>'
        f'{patterns if data["pattern"] else ""}<p class="facts">{" ".join(notes)}</p>'
        '<p id="said" role="status"></p></section>'
    )
