"""Options of the command that stand for parameters in Python, and messages that name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stemseg_core.cubes import parameters as cubes
from stemseg_core.phases import parameters as phases
from stemseg_core.rows.parameters import Parameter
from stemseg_core.system.errors import Message


class RefusedError(Exception):
    """What was asked cannot be done; the message says what and how to mend it."""


class Options(dict[str, Parameter]):
    """The parameters that have an option of one command, by name.

    Parameters
    ----------
    reading : mapping of str to Parameter
        Of what reads the file.
    table : mapping of str to Parameter
        Of the function that the command calls; those without a group have no option.
    """

    def __init__(self, reading: Mapping[str, Parameter], table: Mapping[str, Parameter]) -> None:
        super().__init__({name: row for name, row in table.items() if row.group})
        self.update({name: row.named(name) for name, row in reading.items()})

    def spelled(self, message: BaseException | str) -> str:
        """An error or a warning of Python for those who gave options: ``k_min=3`` becomes ``--k-min 3``."""
        return message.spelled(self._option, self._with_value) if isinstance(message, Message) else str(message)

    def in_text(self, text: str) -> str:
        """A text with the options of the parameters that it has in backticks."""
        return re.sub(r"`(\w+)`", lambda found: self._option(found[1]), text)

    def _option(self, name: str) -> str:
        return self[name].words if name in self else name

    def _with_value(self, name: str, value: Any) -> str:
        return self[name].with_value(value) or self[name].words if name in self else f"{name}={value!r}"


#: Of `stemseg segment`: parameters of `stemseg_core.io.read_image` and of `segment`.
SEGMENT = Options(
    {
        "signal": Parameter(
            "whole",
            "which data set, as 'stemseg info' numbers them",
            phases.IMAGE,
            by_default="the largest image, of those of one size that of a detector",
        ),
        "frame": Parameter(
            "frame", "which image of a stack, from 0 (3,0: along two axes), or 'mean'", phases.IMAGE, by_default="0"
        ),
    },
    phases.TABLE,
)
#: Of `stemseg unmix`: parameters of `stemseg_core.io.open_cube` and of `unmix`.
UNMIX = Options(
    {
        "signal": Parameter(
            "whole",
            "which data set, as 'stemseg info' numbers them",
            cubes.CUBE,
            by_default="the largest cube or scan",
        )
    },
    cubes.TABLE,
)
