"""Options of the command that stand for parameters in Python, and messages that name them."""

from __future__ import annotations

import re
from typing import Any

from stemseg_core.phases.parameters import IMAGE, TABLE, Parameter
from stemseg_core.system.errors import Message

#: Parameters of `stemseg_core.io.read_image`.
READING = {
    "signal": Parameter(
        "whole",
        "which data set, as 'stemseg info' numbers them",
        IMAGE,
        by_default="the largest image, of those of one size that of a detector",
    ),
    "frame": Parameter(
        "frame", "which image of a stack, from 0 (3,0: along two axes), or 'mean'", IMAGE, by_default="0"
    ),
}
#: All parameters that have an option, by name.
OPTIONS: dict[str, Parameter] = {
    **{name: row.named(name) for name, row in READING.items()},
    **{name: row for name, row in TABLE.items() if row.group},
}


class RefusedError(Exception):
    """What was asked cannot be done; the message says what and how to mend it."""


def spelled(message: BaseException | str) -> str:
    """An error or a warning of Python for those who gave options: ``k_min=3`` becomes ``--k-min 3``."""
    return message.spelled(_option, _with_value) if isinstance(message, Message) else str(message)


def in_options(text: str) -> str:
    """A text with the options of the parameters that it has in backticks."""
    return re.sub(r"`(\w+)`", lambda found: _option(found[1]), text)


def _option(name: str) -> str:
    return OPTIONS[name].option if name in OPTIONS else name


def _with_value(name: str, value: Any) -> str:
    return OPTIONS[name].with_value(value) if name in OPTIONS else f"{name}={value!r}"
