"""The parameters of `unmix`: one table that `unmix`, the command, the report and the errors read.

A new parameter is a field of `Parameters`, a row of the table, and an argument of `unmix`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from stemseg_core.cubes.methods import METHODS
from stemseg_core.rows.base import check_whole
from stemseg_core.rows.parameters import RUNNING, Parameter
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.random import RandomState, as_seed

#: In place of a number of components: it is found.
AUTO = "auto"


@dataclass(frozen=True, eq=False, kw_only=True)
class Parameters:
    """What decides the result of `unmix` besides the cube."""

    n_components: int | str
    method: Any = "nmf"
    signal_axes: int | None = None
    noise: Any = "auto"
    mask: Any = None
    signal_mask: Any = None
    signal_range: Any = None
    axes: Any = None
    bin: Any = None
    invalid: str = "raise"
    faults: str = "exclude"
    random_state: RandomState = 0

    def checked(self) -> Parameters:
        """The same, with a seed that is drawn if none is given.

        Raises
        ------
        ParameterError
            If one is wrong, whatever the cube; what depends on the cube is checked by `Cube`.
        """
        if self.n_components != AUTO:
            check_whole(n_components=self.n_components)
        method = self.method
        if method not in METHODS if isinstance(method, str) else not hasattr(method, "fit"):
            raise ParameterError(
                f"`method` must be one of {tuple(METHODS)} or an estimator, got {method!r}", method=method
            )
        for name in ("invalid", "faults"):
            choices, value = TABLE[name].choices, getattr(self, name)
            if value not in choices:
                raise ParameterError(f"`{name}` must be one of {choices}, got {value!r}", **{name: value})
        return replace(self, random_state=as_seed(self.random_state))

    @property
    def seed(self) -> int:
        """Of checked parameters."""
        return as_seed(self.random_state)

    def to_dict(self) -> dict[str, Any]:
        """What `Unmixing.params` records: all that decides the result but masks and axes, JSON-able."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values = {name: value for name, value in values.items() if name not in ("mask", "signal_mask", "axes")}
        if not isinstance(self.method, str):
            values["method"] = repr(self.method)
        if not isinstance(self.noise, str | None):
            values["noise"] = "variances"
        if self.signal_range is not None:
            values["signal_range"] = tuple(map(float, self.signal_range))
        return values


#: Headings of the options of the command.
COMPONENTS = "components"
CUBE = "cube"

_ROWS = {
    "n_components": Parameter(
        "phases", "number of components, or 'auto'", COMPONENTS, option="--components", short="-n", command_default=AUTO
    ),
    "method": Parameter("choice", "how the cube is unmixed", COMPONENTS, choices=tuple(METHODS)),
    "signal_axes": Parameter("whole"),
    "noise": Parameter(
        "noise",
        group=COMPONENTS,
        flags={
            "--poisson": ("poisson", "weigh values as counts (default: if they are whole numbers, few on average)"),
            "--no-weights": (None, "weigh all values alike"),
        },
    ),
    "mask": Parameter(
        "file",
        "image of the shape of the maps; pixels that are not 0 are left out",
        CUBE,
        by_default="none",
        symbol="FILE",
    ),
    "signal_mask": Parameter("file"),
    "signal_range": Parameter(
        "range",
        "part of the signal that is used, such as 450:720eV; of patterns the distance from their centre",
        CUBE,
        by_default="all",
        symbol="FROM:TO",
        option="--range",
    ),
    "axes": Parameter("axes"),
    "bin": Parameter(
        "bins",
        "neighbours to sum along all axes, or along each, first those of the map: 2,2,1",
        CUBE,
        by_default="none",
    ),
    "invalid": Parameter("choice", "what to do with NaN and Inf", CUBE, choices=("raise", "exclude")),
    "faults": Parameter(
        "choice", "what to do with hot channels and pixels with a spike", CUBE, choices=("exclude", "keep")
    ),
    **RUNNING,
}
#: All parameters of `unmix` but the cube, by name and in the order of its signature. Defaults are those of
#: `Parameters`; what only says how the work is carried out is no field of it.
TABLE = {name: row.named(name, getattr(Parameters, name, None)) for name, row in _ROWS.items()}
