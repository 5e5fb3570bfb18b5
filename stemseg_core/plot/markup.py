"""HTML of a page that stands alone: pictures within it, tables, and a policy that lets it load and run nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.plot.layout import Picture, scale_bar_length


def page(title: str, style: str, script: str, data: dict[str, Any], body: Sequence[str]) -> str:
    """A whole page. `style` and `script` are allowed by their hashes; `data` is read by the script, as JSON.

    Only `body` is HTML already. Nothing that a user has named can end `data`, whatever it holds.
    """
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_sha256(style)}'; script-src '{_sha256(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    stored = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>",
            *body,
            f'</main>\n<script type="application/json" id="data">{stored}</script>',
            f"<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def installed(name: str) -> str:
    """A file that is installed beside this module."""
    return files("stemseg_core.plot").joinpath(name).read_text(encoding="utf-8")


def rules(shapes: Mapping[str, tuple[float, float]], colors: Sequence[str]) -> str:
    """Style that depends on what is shown: height and width of maps and patterns, by selector, and colours."""
    lines = [
        f"{name} {{ --aspect: {width / height:.6g}; --length: {bar_length(height, width) / width:.6g} }}"
        for name, (height, width) in shapes.items()
    ]
    lines += [f".p{i} {{ --phase: {color} }}" for i, color in enumerate(colors, start=1)]
    return "\n".join([*lines, ""])


def bar_length(height: float, width: float) -> float:
    """Length of a scale bar, short enough to leave a strip to be seen."""
    return scale_bar_length(min(width, 2 * height))


def choice(value: str, name: str, *, what: str = "phase", checked: bool = False) -> str:
    """The name, as HTML, of a phase or of all of them, and a button that shows it alone."""
    label = "show all" if value == "all" else f"show {what} {value} alone"
    return (
        f'<label><input class="asks" type="radio" name="phase" value="{value}"{" checked" * checked} '
        f'aria-label="{label}">{name}</label>'
    )


def bars(k: int) -> str:
    """A list of bars, one for each phase or component, that a script fills."""
    rows = (
        f'<li class="p{i}"><span class="swatch"></span>{i}<span class="track"><i></i></span><b></b></li>'
        for i in range(1, k + 1)
    )
    return "".join(rows)


def _sha256(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"


def data_uri(png: bytes) -> str:
    """A picture of the kind PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def gray_png(values: NDArray[np.uint8]) -> bytes:
    """A picture (y, x) in grey."""
    from PIL import Image

    return _png(Image.fromarray(values))


def colour_png(values: NDArray[np.uint8]) -> bytes:
    """A picture (y, x, 3 or 4) in red, green, blue and, if it has that, opacity."""
    from PIL import Image

    return _png(Image.fromarray(values))


def indexed_png(values: NDArray[np.uint8], colors: NDArray[np.uint8]) -> bytes:
    """A picture (y, x) of numbers of `colors`, (n, 4) in red, green, blue and opacity."""
    from PIL import Image

    image = Image.frombytes("P", values.shape[::-1], values.tobytes())
    image.putpalette(colors[:, :3].tobytes())
    clear = {} if (colors[:, 3] == 255).all() else {"transparency": colors[:, 3].tobytes()}
    return _png(image, bits=max(1, int(len(colors) - 1).bit_length()), **clear)


def _png(image: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="png", **options)
    return buffer.getvalue()


def figure(picture: Picture, description: str, caption: str = "") -> str:
    """A picture on white paper, whatever the scheme of the page, with its words."""
    width = round(picture.width * 96)
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img class="paper" src="{data_uri(picture.png)}" width="{width}" alt="{escape(description)}">'
        f"{below}</figure>"
    )


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    total: Sequence[str] | None = None,
    name: str = "",
) -> str:
    """A table of cells that are HTML already; in one with a `name`, all but the first column are to the right."""

    def line(tag: str, cells: Sequence[str]) -> str:
        right = ' class="n"' if name else ""
        return "<tr>" + "".join(f"<{tag}{right if i else ''}>{c}</{tag}>" for i, c in enumerate(cells)) + "</tr>"

    body = "\n".join(line("td", row) for row in rows)
    foot = f"\n<tfoot>{line('td', total)}</tfoot>" if total else ""
    of = f' class="{name}"' if name else ""
    return f"<table{of}>\n<thead>{line('th', header)}</thead>\n<tbody>\n{body}\n</tbody>{foot}\n</table>"
