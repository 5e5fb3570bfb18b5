"""How to get a segmentation again: the Python and the command line of a report."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from shlex import quote
from typing import TYPE_CHECKING, Any

from stemseg_core.calibration.units import nanometres
from stemseg_core.phases.methods import METHODS
from stemseg_core.phases.parameters import TABLE
from stemseg_core.phases.scores import AUTO
from stemseg_core.rows.parameters import Parameter, joined, option_of

if TYPE_CHECKING:
    from stemseg_core.phases.segmentation import Segmentation


def instructions(s: Segmentation, source: str | None, reading: Sequence[str]) -> str:
    """HTML that says how, with every parameter that decided the result."""
    parts = both_ways(_snippet(s, source, reading), *_command(s, source or "IMAGE", reading))
    if s.estimate is not None:
        parts.append(
            f"<p>The number of phases, {s.estimate.n_components}, was found: it was asked for as "
            f'<code>"{AUTO}"</code>, in a shell <code>{TABLE["n_phases"].option} {AUTO}</code>.</p>'
        )
    return "\n".join(parts)


def both_ways(snippet: str, command: str, beyond: Sequence[str]) -> list[str]:
    """Paragraphs with Python and with a command line, which has no option for the parameters `beyond`."""
    python = f"<p>In Python:</p>\n<pre>{escape(snippet)}</pre>"
    if beyond:
        return [python, f"<p>The command has no option for {escape(', '.join(beyond))}.</p>"]
    return [python, f"<p>In a shell:</p>\n<pre>{escape(command)}</pre>"]


def _snippet(s: Segmentation, source: str | None, reading: Sequence[str]) -> str:
    """Python that reads the image, if its file is known, and segments it again."""
    given = {key: repr(value) for key, value in s.params.items()}
    if "method" in given and s.params["method"] not in METHODS:  # an estimator, in the words that make it
        given["method"] = s.params["method"]
    if s.pixel_size is not None:
        given |= {"pixel_size": repr(s.pixel_size), "units": repr(s.units)}
    lines, image = ["from stemseg_core import segment"], "image"
    if source is None:
        lines += ["", "# image: its pixels as a 2-D array"]
    else:
        read = dict(zip(reading[::2], reading[1::2], strict=True))
        options = {name: option_of(name) for name in ("signal", "frame")}
        chosen = [f"{name}={literal(read[option])}" for name, option in options.items() if option in read]
        lines += ["from stemseg_core.io import read_image", ""]
        lines.append(f"image = read_image({', '.join([repr(source), *chosen])})")
        image = "image.data"
        if (mask := TABLE["mask"].option) in read:
            given["mask"] = f"read_image({read[mask]!r}).data != 0"
    arguments = [image, *(f"{key}={value}" for key, value in given.items())]
    lines += ["segmentation = segment(", *(f"    {argument}," for argument in arguments), ")"]
    return "\n".join(lines)


def literal(word: str) -> str:
    """A word of a command line as Python writes it: a whole number, several, or a text."""
    numbers = word.split(",")
    if not all(map(str.isdigit, numbers)):
        return repr(word)
    return word if len(numbers) == 1 else f"({', '.join(numbers)})"


def _command(s: Segmentation, name: str, reading: Sequence[str]) -> tuple[str, list[str]]:
    """The command line, and the parameters that differ from their defaults but have no option."""
    # Each option with its value: a line does not end between them.
    parts = ["stemseg segment", quote(name), "-o OUT"]
    parts += [f"{flag} {quote(value)}" for flag, value in zip(reading[::2], reading[1::2], strict=True)]
    beyond = []
    for key, value in s.params.items():
        parameter = TABLE.get(key)
        if parameter is None or parameter.option in reading or (value is None and parameter.default is None):
            continue
        words = _option(parameter, value, s)
        if words is not None:
            parts += [words] if words else []
        elif not _same(value, parameter.default):
            beyond.append(key)
    return in_lines(parts), beyond


def _option(parameter: Parameter, value: Any, s: Segmentation) -> str | None:
    """The option of a parameter with its value, quoted; None if the command does not take that value."""
    if value is None or not parameter.group or (parameter.kind == "choice" and value not in parameter.choices):
        return None
    if parameter.kind == "length":
        return f"{parameter.with_value(value)}{s.units}"
    if parameter.kind == "frequency":  # of the command it is in 1/nm
        nm = 1.0 if s.pixel_size is None else nanometres(s.units)
        return None if nm is None else parameter.with_value(f"{value / nm:.12g}")
    return quoted(parameter.with_value(value))


def quoted(words: str) -> str:
    """An option and its value, as a shell reads them."""
    return " ".join(map(quote, words.split(" ", 1))) if words else ""


def in_lines(parts: Sequence[str], width: int = 88) -> str:
    """A command in lines that a shell joins: a browser would break a long one within an option."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) < width:
            lines[-1] += f" {part}"
        else:
            lines.append(f"    {part}")
    return " \\\n".join(lines)


def _same(value: Any, default: Any) -> bool:
    """Whether a recorded value is the default, be it a list where the default is a tuple."""
    return bool(words_of(value) == words_of(default))


def words_of(value: Any) -> str:
    """A value of a parameter, as tables show it."""
    return joined(value, ", ")
