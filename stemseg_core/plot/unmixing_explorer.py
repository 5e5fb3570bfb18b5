"""What the report of an `Unmixing` can be asked: a map of each component and one of all, and numbers for the script.

Tests: tests/test_unmixing_report.py.
"""

from __future__ import annotations

import base64
import zlib
from html import escape
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.plot import markup
from stemseg_core.plot.drawing import EXCLUDED, phase_colors
from stemseg_core.plot.explorer import MAP_PIXELS, brightness, magma
from stemseg_core.plot.markup import bar_length, bars, colour_png, data_uri
from stemseg_core.plot.scales import Frame, shown_axis
from stemseg_core.plot.unmixing import as_plane, bright, is_signed, map_frame, pattern_frame, quantity_of, signal_line

if TYPE_CHECKING:
    from stemseg_core.cubes.unmixing import Unmixing

#: Bytes of the numbers of pixels, before they are compressed: if all do not fit, those of every m-th pixel along both
#: axes are kept. Twice as many: a file that is up to 2.7 MB larger.
PIXEL_BYTES = 2_000_000
#: Channels of a spectrum, and pixels along a side of a pattern, that are kept: of more, neighbours are averaged. Twice
#: as many: details smaller than a dot of the page.
CHANNELS, SIDE = 1024, 96
#: Width over height of the strip that shows a line scan. Twice as much: a thin line.
STRIP = 8.0
#: What stands for no number where others are 0 to 65534.
NO_NUMBER = 65535


def shown_frame(u: Unmixing) -> Frame:
    """Sides of the map of the report; a line scan is a strip."""
    if u.residual.ndim > 1:
        return map_frame(u)
    axis = shown_axis(u.map_axes[0], u.residual.size)
    length = abs(axis.scale) * u.residual.size
    return Frame(length / STRIP, length, axis.units or "px")


def rules(u: Unmixing) -> str:
    """Style that depends on the unmixing: colours, and the shapes and scale bars of maps and patterns."""
    frame = shown_frame(u)
    shapes = {".explorer": (frame.height, frame.width)}
    if u.n_signal_axes == 2:
        pattern = pattern_frame(u)
        shapes[".pattern"] = (pattern.height, pattern.width)
    return markup.rules(shapes, phase_colors(len(u.components)))


def data_of(u: Unmixing) -> dict[str, Any]:
    """What the script reads: sizes, axes, and one compressed run of bytes.

    The bytes are components, after the offset if there is one (float32), then abundances of every m-th pixel and its
    residual (uint16 from the lowest to the highest of all, `NO_NUMBER` where there is none); little-endian.
    """
    maps = np.stack([*map(as_plane, u.abundances), as_plane(u.residual)])
    n_maps, height, width = maps.shape
    m = next(
        m for m in range(1, max(height, width) + 1) if ceil(height / m) * ceil(width / m) * 2 * n_maps <= PIXEL_BYTES
    )
    kept = maps[:, ::m, ::m]
    codes, ranges = zip(*map(_coded, kept), strict=True)
    signals = np.stack([*([] if u.offset is None else [u.offset]), *u.components]).astype(np.float32)
    signals = averaged(signals, CHANNELS if u.n_signal_axes == 1 else SIDE)
    packed = zlib.compress(signals.astype("<f4").tobytes() + np.stack(codes).astype("<u2").tobytes())
    size = u.residual.shape
    axes = [shown_axis(axis, n) for axis, n in zip(u.map_axes, size, strict=True)]
    return {
        "map": (height, width),
        "shape": size,
        "axes": [{"name": a.name or "pixel", "offset": a.offset, "scale": a.scale, "units": a.units} for a in axes],
        "grid": kept.shape[1:],
        "stride": m,
        "ranges": ranges,
        "top": bright(np.abs(u.abundances)),
        "components": len(u.components),
        "offset": u.offset is not None,
        "signed": is_signed(u),
        "quantity": quantity_of(u),
        "signal": signals.shape[1:],
        "colors": base64.b64encode(magma()[:, :3].tobytes()).decode("ascii") if u.n_signal_axes == 2 else "",
        "bytes": base64.b64encode(packed).decode("ascii"),
    }


def _coded(values: NDArray[Any]) -> tuple[NDArray[np.uint16], tuple[float, float]]:
    """Values as whole numbers from 0 to 65534, and what these two stand for."""
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    codes = np.full(values.shape, NO_NUMBER, np.uint16)
    codes[finite] = np.rint((values[finite] - low) * ((NO_NUMBER - 1) / ((high - low) or 1.0)))
    return codes, (low, high)


def averaged(signals: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """Signals (k, ..) of at most that many points along each axis but the first: means of neighbours, without NaN."""
    for axis in range(1, signals.ndim):
        n = signals.shape[axis]
        m = ceil(n / most)
        starts = np.arange(0, n, m)
        there = np.isfinite(signals)
        sums = np.add.reduceat(np.where(there, signals, 0), starts, axis=axis)
        counts = np.add.reduceat(there.astype(np.float32), starts, axis=axis)
        signals = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return signals


def component_maps(u: Unmixing, description: str) -> str:
    """A picture of all components in their colours, if they are amounts, one of each alone, and a scale bar."""
    height, width = as_plane(u.residual).shape
    frame, signed = shown_frame(u), is_signed(u)
    first = "1" if signed else "all"
    pictures = {} if signed else {"all": mixed(u)}
    pictures |= {str(i): _picture(values, u) for i, values in enumerate(u.abundances, start=1)}
    layers = [
        f'<img data-phase="{name}" src="{data_uri(colour_png(_shrunk(picture)))}" alt=""{" hidden" * (name != first)}>'
        for name, picture in pictures.items()
    ]
    bar = f"{bar_length(frame.height if u.residual.ndim > 1 else frame.width, frame.width):g} {escape(frame.units)}"
    return "\n".join(
        [
            f'<div class="map" id="map" role="img" aria-label="{escape(description)}">',
            f'<div class="layers">{"".join(layers)}</div>',
            f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" aria-hidden="true">',
            '<g id="marker" visibility="hidden"><rect class="dark"/><rect class="light"/></g>',
            "</svg>",
            f'<span class="scale">{bar}</span>',
            "</div>",
        ]
    )


def mixed(u: Unmixing) -> NDArray[np.uint8]:
    """Each pixel in the mean of the colours of the components by what they contribute to it, (y, x, 3)."""
    colors = np.array([_rgb(color) for color in phase_colors(len(u.components))], float)
    weights = np.nansum(u.components.reshape(len(u.components), -1), axis=1)
    shares = np.stack([as_plane(plane) * max(weight, 0) for plane, weight in zip(u.abundances, weights, strict=True)])
    total = shares.sum(axis=0)
    mean = np.einsum("kyx,kc->yxc", shares, colors) / np.where(total > 0, total, 1)[..., np.newaxis]
    mean[~np.isfinite(total)] = _rgb(EXCLUDED)
    return np.rint(np.nan_to_num(mean)).astype(np.uint8)


def _picture(values: NDArray[Any], u: Unmixing) -> NDArray[np.uint8]:
    """A map in colours, as in the pictures, (y, x, 3)."""
    from matplotlib import colormaps

    plane = as_plane(values)
    high = bright(np.abs(values)) if is_signed(u) else bright(u.abundances)
    table = colormaps["RdBu_r" if is_signed(u) else "viridis"](np.arange(256), bytes=True)[:, :3]
    picture: NDArray[np.uint8] = table[brightness(plane, -high if is_signed(u) else 0.0, high)]
    picture[~np.isfinite(plane)] = _rgb(EXCLUDED)
    return picture


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    stride = ceil(max(picture.shape) / MAP_PIXELS)
    return np.ascontiguousarray(picture[::stride, ::stride])


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def pixel_panel(u: Unmixing, data: dict[str, Any]) -> str:
    """Where the script writes what is known of a pixel."""
    if u.n_signal_axes == 1:
        label, places = signal_line(u)
        ends = f"<span>{places[0]:.5g}</span><span>{escape(label)}</span><span>{places[-1]:.5g}</span>"
        signal = (
            '<svg id="spectrum" class="spectrum" viewBox="0 0 1000 300" preserveAspectRatio="none" role="img" '
            f'aria-label="spectrum of the model at this pixel"></svg><p class="ends">{ends}</p>'
        )
    else:
        height, width = data["signal"]
        frame = pattern_frame(u)
        bar = f'<span class="scale">{bar_length(frame.height, frame.width):g} {escape(frame.units)}</span>'
        signal = f'<div class="pattern single"><canvas width="{width}" height="{height}"></canvas>{bar}</div>'
    m, what = data["stride"], "spectrum" if u.n_signal_axes == 1 else "pattern"
    notes = [
        f"The {what} is what the components add up to at this pixel"
        + (", and the mean" if u.offset is not None else "")
        + "; the residual is the length of what was measured beside it, relative to the whole.",
        *([f"To stay small, the page holds one pixel of every {m} x {m}."] if m > 1 else []),
        *([f"Averaged over channels: {prod(data['signal'])} are shown."] if prod(data["signal"]) < _points(u) else []),
    ]
    return (
        '<section class="asks" id="window" aria-label="Pixel"><h2>Pixel <span id="held"></span></h2>'
        f'<p id="where"></p><ul class="memberships" aria-label="{data["quantity"]}s">{bars(len(u.components))}</ul>'
        f'<p id="sure"></p>{signal}<p class="facts">{" ".join(notes)}</p><p id="said" role="status"></p></section>'
    )


def _points(u: Unmixing) -> int:
    return int(u.residual_spectrum.size)
