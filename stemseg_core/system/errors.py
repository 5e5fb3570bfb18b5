"""Errors that know what they are about, so that whoever shows them can say it in other words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from stemseg_core.system.types import Index


class ParameterError(ValueError):
    """A parameter has a value that is refused.

    Parameters
    ----------
    template : str
        What is wrong, and the cure. A name in backticks stands for a parameter, and one with an equals sign for the
        parameter with its value.
    **values
        Of every parameter that the template has in backticks, the one at fault first.

    Attributes
    ----------
    name : str
        The parameter at fault.
    value : object
        Its value.

    Examples
    --------
    >>> error = ParameterError("`k_min=` leaves no frequency; take a smaller `zoom` or `k_min`", k_min=30, zoom=4)
    >>> str(error)
    'k_min=30 leaves no frequency; take a smaller zoom or k_min'
    >>> error.name, error.value
    ('k_min', 30)
    >>> error.spelled(lambda name: "--" + name.replace("_", "-"), " ")
    '--k-min 30 leaves no frequency; take a smaller --zoom or --k-min'
    """

    def __init__(self, template: str, **values: Any) -> None:
        self.template, self.values = template, values
        self.name, self.value = next(iter(values.items()))
        super().__init__(self.spelled())

    def spelled(self, spell: Callable[[str], str] = str, equals: str = "=") -> str:
        """The message with the names of parameters spelled in another way, as those of options of a command."""

        def written(found: re.Match[str]) -> str:
            name = found[1]
            if name not in self.values:
                return found[0]
            return f"{spell(name)}{equals}{self.values[name]!r}" if found[2] else spell(name)

        return re.sub(r"`(\w+)(=?)`", written, self.template)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.template, self.values)


def _again(kind: type[ParameterError], template: str, values: dict[str, Any]) -> ParameterError:
    """What unpickling calls, since `__reduce__` cannot give keywords."""
    return kind(template, **values)


class ParameterTypeError(ParameterError, TypeError):
    """A parameter is of a type that is refused."""


class NonFiniteError(ValueError):
    """A block of rows holds NaN or infinity.

    Raised with a row number within the block; `Execution.run` makes it the row of X.
    """

    def __init__(self, row: int, feature: int, n_nan: int, n_infinite: int) -> None:
        self.row, self.feature, self.n_nan, self.n_infinite = row, feature, n_nan, n_infinite
        super().__init__(
            f"Input X contains NaN or infinity, first in row {row}, feature {feature} "
            f"({n_nan} NaN and {n_infinite} infinity in that block of rows); remove or fill these rows before the fit"
        )

    def in_rows(self, index: Index) -> NonFiniteError:
        """The same error, told of the rows that the block holds."""
        row = index.start + self.row if isinstance(index, slice) else int(index[self.row])
        return NonFiniteError(row, self.feature, self.n_nan, self.n_infinite)
