"""Rows of the tables of parameters: what a function, its command, its report and its errors read.

Tests: tests/test_parameters.py, tests/test_options.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from stemseg_core.rows.base import check_whole
from stemseg_core.system.errors import ParameterError, ParameterTypeError

#: Heading of the options of the command that only say how the work is carried out, and of the seed.
RUN = "run"


@dataclass(frozen=True)
class Parameter:
    """A row of the table.

    Attributes
    ----------
    kind : str
        What its values are: "switch", "number", "whole" (number), "size" and "length" (one number or (y, x), in pixels
        and in units), "sizes", "choice", "text", "file" (an image); or what only one parameter takes: "phases",
        "taper", "frequency", "noise", "range", "bins", "seed", "jobs", "memory", "callable".
    meaning : str
        In a line, as the help of the command has it; other parameters in backticks.
    group : str
        Heading of the help that it stands under. Empty: the command has no option for it.
    symbol : str
        What stands for a value in the help.
    by_default : str
        What the default does, where it does not speak for itself.
    low, high : float
        Range of a number.
    choices : tuple of str
        Values of a choice.
    option : str
        Of the command, where it is not named after the parameter.
    short : str
        Of the command, one letter, such as "-n".
    flags : mapping of str to (object, str)
        In place of `option`: options without a value, each with the value of the parameter that it stands for, and its
        help.
    command_default : object
        What the command takes if the option is not given; None: nothing, so that `default` holds.
    name : str
        As in Python.
    default : object
        None where it is to be given, or is chosen.
    """

    kind: str
    meaning: str = ""
    group: str = ""
    symbol: str = "N"
    by_default: str = ""
    low: float = 0
    high: float = np.inf
    choices: tuple[str, ...] = ()
    option: str = ""
    short: str = ""
    flags: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    command_default: Any = None
    name: str = ""
    default: Any = None

    def named(self, name: str, default: Any = None) -> Parameter:
        """The row with its name, from which its option follows if it has no other."""
        return replace(self, name=name, default=default, option=self.option or option_of(name))

    @property
    def words(self) -> str:
        """Its option, or those that stand for its values."""
        return " or ".join(self.flags) or self.option

    def with_value(self, value: Any) -> str:
        """The option with a value, as on a command line but not quoted; empty for a switch that is off."""
        if self.kind == "switch":
            return self.option if value else ""
        if self.flags:
            return next((flag for flag, (meant, _) in self.flags.items() if meant == value), "")
        if self.kind == "range" and isinstance(value, Sequence):
            return f"{self.option} {':'.join(f'{end:.12g}' for end in value)}"
        if self.kind == "sizes" and isinstance(value, Sequence) and not isinstance(value, str):
            return f"{self.option} {','.join(joined(size, 'x') for size in value)}"
        return f"{self.option} {joined(value, 'x' if self.kind in ('size', 'length') else ',')}"

    def check(self, value: Any) -> None:
        """Raise `ParameterError` for a switch, number or text that is none, or out of range."""
        name = self.name
        if self.kind == "switch" and not isinstance(value, bool | np.bool_):
            raise ParameterTypeError(f"`{name}` must be True or False, got {value!r}", **{name: value})
        if self.kind == "whole" and self.low == 1:
            check_whole(**{name: value})
        elif self.kind in ("number", "whole"):
            wanted, kind = ("number", Real) if self.kind == "number" else ("whole number", Integral)
            if isinstance(value, bool) or not isinstance(value, kind) or not self.low <= float(value) <= self.high:
                raise ParameterError(
                    f"`{name}` must be a {wanted} from {self.low:g} to {self.high:g}, got {value!r}", **{name: value}
                )


def option_of(name: str) -> str:
    """The option of the command for a parameter of that name."""
    return "--" + name.replace("_", "-")


def joined(value: Any, separator: str) -> str:
    """A value in words, the parts of a sequence with a separator between them."""
    return separator.join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


#: The rows that all functions have in common.
RUNNING: Mapping[str, Parameter] = {
    "random_state": Parameter("seed", "seed of the random starts", RUN, option="--seed"),
    "n_jobs": Parameter(
        "jobs", "threads, on which the result does not depend", RUN, by_default="all CPUs", option="--jobs"
    ),
    "max_memory": Parameter("memory", "such as 4GB", RUN, by_default="a share of what is free", symbol="SIZE"),
    "progress": Parameter("callable"),
}
