"""Errors that know what they are about, so that whoever shows them can say it in other words."""

from __future__ import annotations

import inspect
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

from stemseg_core.system.types import Index

#: Packages whose lines are not what a warning is about: estimators are called through wrappers of scikit-learn.
INSIDE = ("stemseg_core", "sklearn")


class _Verbatim(str):
    """A text that stands for a value as it is, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


class Message(Exception):  # noqa: N818 (warnings are some, too)
    """An error or a warning that names parameters, and can be said with other names for them.

    Parameters
    ----------
    template : str
        The text. A name in backticks stands for a parameter, and one with an equals sign for the parameter with its
        value; if a text follows the equals sign, for the parameter with that text in place of its value.
    **values
        Of every parameter that the template has in backticks.

    Attributes
    ----------
    values : dict
        The parameters that are named, with their values.
    """

    def __init__(self, template: str, **values: Any) -> None:
        self.template, self.values = template, values
        super().__init__(self.spelled())

    def spelled(
        self,
        name: Callable[[str], str] = str,
        with_value: Callable[[str, Any], str] = lambda name, value: f"{name}={value!r}",
    ) -> str:
        """The message with parameters written in another way, such as the options of a command."""

        def written(found: re.Match[str]) -> str:
            parameter, equals, text = found.groups()
            if parameter not in self.values:
                return found[0]
            if not equals:
                return name(parameter)
            return with_value(parameter, _Verbatim(text) if text else self.values[parameter])

        return re.sub(r"`(\w+)(=?)([^`]*)`", written, self.template)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.template, {name: _picklable(value) for name, value in self.values.items()})


def _picklable(value: Any) -> Any:
    """A value as it is, or its text where it does not pickle: an error must come back from a worker process."""
    try:
        pickle.dumps(value)
    except Exception:  # pickle raises what it likes, and so do the methods that it calls
        return _Verbatim(repr(value))
    return value


def _again(kind: type[Message], template: str, values: dict[str, Any]) -> Message:
    """What unpickling calls, since `__reduce__` cannot give keywords."""
    return kind(template, **values)


class ParameterError(Message, ValueError):
    """A parameter has a value that is refused; of the parameters of a `Message`, it is the first.

    Attributes
    ----------
    name : str
        The parameter at fault.
    value : object
        Its value.

    Examples
    --------
    >>> error = ParameterError("`k_min=` leaves no frequency; take `zoom=1` or a smaller `k_min`", k_min=30, zoom=4)
    >>> str(error)
    'k_min=30 leaves no frequency; take zoom=1 or a smaller k_min'
    >>> error.name, error.value
    ('k_min', 30)
    >>> error.spelled(lambda name: "--" + name.replace("_", "-"), lambda name, value: f"({name} {value})")
    '(k_min 30) leaves no frequency; take (zoom 1) or a smaller --k-min'
    """

    @property
    def name(self) -> str:
        return next(iter(self.values))

    @property
    def value(self) -> Any:
        return self.values[self.name]


class ParameterTypeError(ParameterError, TypeError):
    """A parameter is of a type that is refused."""


class OutOfMemoryError(Message, MemoryError):
    """More memory would be needed than `max_memory`; nothing was allocated."""


def warn(message: Warning | str, category: type[Warning] = UserWarning) -> None:
    """As `warnings.warn`, of the line that led here: the first outside of this package and scikit-learn."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


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

    def __reduce__(self) -> tuple[Any, ...]:
        return NonFiniteError, (self.row, self.feature, self.n_nan, self.n_infinite)

    def in_rows(self, index: Index) -> NonFiniteError:
        """The same error, told of the rows that the block holds."""
        row = index.start + self.row if isinstance(index, slice) else int(index[self.row])
        return NonFiniteError(row, self.feature, self.n_nan, self.n_infinite)
