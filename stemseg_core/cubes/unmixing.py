"""The result of unmixing a cube: spectra or patterns, maps, axes, and how they came about."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemseg_core.calibration.axes import Axis
from stemseg_core.stages.estimates import ComponentEstimate
from stemseg_core.system.archives import as_tuple, load_archive, save_archive
from stemseg_core.system.extras import require_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Version of the file format of `Unmixing.save`.
FORMAT = 1
_ARRAYS = ("components", "abundances", "residual", "residual_spectrum", "offset", "labels")


@dataclass(frozen=True, eq=False)
class Unmixing:
    """Components of a cube and where they are. Maps have the axes of the map, (.., y, x); signals those of the signal.

    The cube is about ``sum over k of abundances[k] x components[k]``, plus `offset` where there is one.

    Attributes
    ----------
    components : ndarray of shape (k, signal)
        Spectra or patterns, in the units of the data. Channels that were left out are NaN, those without a single count
        0.
    abundances : ndarray of shape (k, map), float32
        How much of each component is at each pixel: amounts, which sum to about 1 at a pixel of average brightness
        ("nmf"), shares that sum to 1 (endmembers), 0 or 1 ("kmeans"), or scores of any sign ("svd", "ica"). NaN at
        pixels that were left out.
    residual : ndarray of shape (map), float32
        ``|x - its reconstruction| / |x|`` of each pixel's signal x; NaN where left out.
    residual_spectrum : ndarray of shape (signal), float32
        Root of the mean square, over the pixels, of what the components leave; NaN where left out.
    axes : tuple of Axis
        Of the map, then of the signal: name, offset, scale, unit.
    explained_variance : float
        Share of the variance about the mean signal that the components explain.
    labels : ndarray of shape (map), int32, or None
        Where the method makes clusters or shares: the number of the largest; -1 where left out.
    offset : ndarray of shape (signal) or None
        The mean, where components are about it.
    n_signal_axes : int
    estimate : ComponentEstimate or None
        How the number of components was found; None if it was given.
    notes : tuple of str
        What was guessed or left out.
    params, versions : dict
        Every parameter that decided the result; versions of what computed it.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import unmix
    >>> result = unmix(np.random.default_rng(0).random((8, 9, 40)), 2, axes=[{"name": n} for n in ("y", "x", "E")])
    >>> result.abundances.shape, result.components.shape, [axis.name for axis in result.axes]
    ((2, 8, 9), (2, 40), ['y', 'x', 'E'])
    """

    components: NDArray[Any]
    abundances: NDArray[np.float32]
    residual: NDArray[np.float32]
    residual_spectrum: NDArray[np.float32]
    axes: tuple[Axis, ...]
    explained_variance: float
    labels: NDArray[np.int32] | None = None
    offset: NDArray[Any] | None = None
    n_signal_axes: int = 1
    estimate: ComponentEstimate | None = None
    notes: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        k, map_shape, signal_shape = len(self.components), self.residual.shape, self.residual_spectrum.shape
        expected = {"components": (k, *signal_shape), "abundances": (k, *map_shape)}
        expected |= {"labels": map_shape} if self.labels is not None else {}
        expected |= {"offset": signal_shape} if self.offset is not None else {}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")
        if len(signal_shape) != self.n_signal_axes or len(self.axes) != len(map_shape) + len(signal_shape):
            raise ValueError(f"axes must be {len(map_shape)} of the map and {len(signal_shape)} of the signal")

    def __repr__(self) -> str:
        k = len(self.components)
        maps, signals = (" x ".join(map(str, a.shape)) for a in (self.residual, self.residual_spectrum))
        what = "1 component" if k == 1 else f"{k} components"
        return f"Unmixing({what} by {self.params.get('method', 'unknown')}; map {maps}, signal {signals})"

    @property
    def map_axes(self) -> tuple[Axis, ...]:
        """Axes of the maps."""
        return self.axes[: -self.n_signal_axes]

    @property
    def signal_axes(self) -> tuple[Axis, ...]:
        """Axes of the spectra or patterns."""
        return self.axes[-self.n_signal_axes :]

    @property
    def totals(self) -> NDArray[np.float64]:
        """Share (k,) of each component in the sum of the reconstruction; of scores, in its sum of squares."""
        maps = np.nan_to_num(self.abundances.reshape(len(self.components), -1).astype(np.float64))
        signals = np.nan_to_num(self.components.reshape(len(self.components), -1).astype(np.float64))
        if (maps < 0).any() or (signals < 0).any():
            sums = (maps**2).sum(axis=1) * (signals**2).sum(axis=1)
        else:
            sums = maps.sum(axis=1) * signals.sum(axis=1)
        total = sums.sum()
        return sums / total if total else sums

    def reconstruction(self) -> NDArray[np.float32]:
        """The cube that the components make, (map, signal), float32; NaN where pixels or channels were left out."""
        k = len(self.components)
        maps, signals = self.abundances.reshape(k, -1), self.components.reshape(k, -1).astype(np.float32)
        cube = maps.T @ signals
        if self.offset is not None:
            cube += self.offset.ravel().astype(np.float32)
        return cube.reshape(*self.residual.shape, *self.residual_spectrum.shape)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one file, arrays as npz and the rest as JSON in it, without pickle.

        The file appears complete or not at all. Its name should end in ``.npz``.
        """
        arrays = {name: array for name in _ARRAYS if (array := getattr(self, name)) is not None}
        rest = {name: value for name, value in self.to_dict().items() if name not in _ARRAYS}
        save_archive(path, FORMAT, arrays, rest)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        ValueError
            If the file is not one that `save` wrote.
        """

        def made(values: dict[str, Any]) -> Any:
            values["axes"] = tuple(Axis(**axis) for axis in values["axes"])
            values["notes"] = tuple(values["notes"])
            values["params"] = {name: as_tuple(value) for name, value in values["params"].items()}
            if values["estimate"] is not None:
                values["estimate"] = ComponentEstimate.from_dict(values["estimate"])
            return cls(**values)

        loaded: Self = load_archive(path, FORMAT, "Unmixing", made)
        return loaded

    def plot(self) -> Figure:
        """Maps and spectra or patterns at one glance, a matplotlib figure; needs matplotlib."""
        require_extra("matplotlib")
        from stemseg_core.plot.unmixing import plot

        return plot(self)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write all of it to one page of HTML that needs no other file, and can be asked; needs matplotlib."""
        require_extra("matplotlib")
        from stemseg_core.plot.unmixing_report import write_report

        write_report(self, path)

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name: arrays as they are, the rest JSON-able."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["axes"] = [vars(axis).copy() for axis in self.axes]
        values["estimate"] = None if self.estimate is None else self.estimate.to_dict()
        return values
