"""How many components: what each criterion says, and the curve it says it by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

#: Phases are called clearly separated where they are separated by more than this number times what chance gives. Twice
#: as large: more results are called hardly better than chance.
CLEAR = 1.3


@dataclass(frozen=True, eq=False)
class Curve:
    """One criterion over the number of components, or over the order of the eigenvalues.

    Attributes
    ----------
    n_components : int
        The number that this criterion chooses.
    k : ndarray of shape (m,), int
        Numbers of components, or orders of eigenvalues from 1.
    value : ndarray of shape (m,), float64
        The criterion; NaN where it is not defined.
    null : ndarray of shape (m,), float64, or None
        What `value` is compared with: that of data without structure, or a threshold; NaN where it is not known.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import estimate_n_components
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(3), 500) @ rng.random((3, 40)) + 0.01 * rng.standard_normal((500, 40))
    >>> curve = estimate_n_components(X, method="hfc", max_components=5).curves["hfc"]
    >>> curve.n_components, curve.k
    (3, array([1, 2, 3, 4, 5]))
    >>> curve.value > curve.null
    array([ True,  True,  True, False, False])
    """

    n_components: int
    k: NDArray[np.int64]
    value: NDArray[np.float64]
    null: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class ComponentEstimate:
    """A number of components, and the curves behind it.

    Attributes
    ----------
    n_components : int
        At least 1.
    method : str
        The criterion that decided; a key of `curves`.
    curves : dict of str to Curve
        Every criterion that was computed.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import estimate_n_components
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat(rng.random((2, 20)), 100, axis=0) + 0.01 * rng.standard_normal((200, 20))
    >>> found = estimate_n_components(X, method="silhouette")
    >>> found.method, found.n_components
    ('silhouette', 2)
    >>> found.curves["silhouette"].k
    array([ 1,  2,  3,  4,  5,  6,  7,  8,  9, 10])
    """

    n_components: int
    method: str
    curves: dict[str, Curve] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, text, lists and dicts that JSON knows; None stands for NaN."""
        curves = {name: {key: _plain(value) for key, value in vars(c).items()} for name, c in self.curves.items()}
        return {"n_components": self.n_components, "method": self.method, "curves": curves}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        curves = {}
        for name, c in values["curves"].items():
            null = None if c["null"] is None else np.array(c["null"], np.float64)
            k = np.array(c["k"], np.int64)
            value = np.array(c["value"], np.float64)
            curves[name] = Curve(n_components=int(c["n_components"]), k=k, value=value, null=null)
        return cls(n_components=int(values["n_components"]), method=values["method"], curves=curves)


@dataclass(frozen=True)
class Separation:
    """How far apart the phases of a map are, and how far apart those of a map without phases would be.

    Attributes
    ----------
    n_phases : int
        Number of phases of the map, at least 2. Where the map has one phase: the number of phases that would be the
        best separated.
    value : float
        Distance of the two nearest phases, divided by the standard deviation along the line between them, and by the
        width of the step from one to the other where that is wider than a sharp boundary. NaN where it is not to be
        told: a phase nowhere fills a window, or differs much, but gradually.
    chance : float
        The value that maps without phases do not exceed.

    Examples
    --------
    >>> from stemseg_core import Separation
    >>> separation = Separation(n_phases=2, value=5.2, chance=3.1)
    >>> separation.by_chance
    False
    >>> separation.words
    'better separated than chance: 5.2, chance gives 3.1'
    """

    n_phases: int
    value: float
    chance: float

    @property
    def by_chance(self) -> bool:
        """Whether maps without phases are known to reach this value."""
        return self.value <= self.chance

    @property
    def exists(self) -> bool:
        """Whether the phases are separated by more than maps without phases are."""
        return self.value > self.chance

    @property
    def words(self) -> str:
        """The verdict: better, hardly better or no better separated than chance, or not to be judged."""
        if np.isnan(self.value):
            return "not to be told from chance: too small to judge, a boundary, or a gradual change"
        how = "no better" if self.by_chance else "hardly better" if self.value < CLEAR * self.chance else "better"
        value, chance = (f"{number:.1f}" for number in (self.value, self.chance))
        if value == chance:
            value, chance = (f"{number:.3f}" for number in (self.value, self.chance))
        return f"{how} separated than chance: {value}, chance gives {chance}"

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers that JSON knows; None stands for NaN."""
        return {key: None if np.isnan(value) else value for key, value in vars(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`."""
        value, chance = (np.nan if values[key] is None else float(values[key]) for key in ("value", "chance"))
        return cls(n_phases=int(values["n_phases"]), value=value, chance=chance)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [v if np.isfinite(v) else None for v in value.tolist()]
    return value
