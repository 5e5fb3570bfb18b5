"""The parameters of `segment`: one table that `segment`, the command, the report and the errors read.

A new parameter is a field of `Parameters`, which is its row of the table, and an argument of `segment`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stemseg_core.phases.frequencies import Frequencies, check_k_max
from stemseg_core.phases.methods import METHODS, method_of
from stemseg_core.phases.scores import AUTO, MAX_PHASES
from stemseg_core.rows.base import check_whole
from stemseg_core.rows.parameters import RUNNING, Parameter
from stemseg_core.stages.compress import RANK
from stemseg_core.system.errors import ParameterError, ParameterTypeError
from stemseg_core.system.random import RandomState, as_seed
from stemseg_core.windows.periods import pixels_along
from stemseg_core.windows.windows import SCALES, WindowFFT


@dataclass(frozen=True, eq=False, kw_only=True)
class Parameters:
    """What decides the result of `segment` besides the image."""

    n_phases: int | str
    method: Any = "kmeans"
    window: Any = None
    windows: Any = None
    step: Any = None
    taper: Any = "hann"
    detrend: str | None = "constant"
    zoom: int = 2
    scale: str = "sqrt"
    k_min: float = 3
    k_max: float | None = None
    rotation_invariant: bool = False
    normalize: float = 0.5
    rank: int = RANK
    smooth: float = 12
    whiten: bool = False
    regularize: float = 0
    min_area: int = 0
    mask: ArrayLike | None = None
    annotations: str = "exclude"
    contrast: str = "auto"
    invalid: str = "raise"
    pixel_size: Any = None
    units: str = "nm"
    random_state: RandomState = 0

    def checked(self) -> Parameters:
        """The same with `pixel_size` as a pair, and a seed that is drawn if none is given.

        Raises
        ------
        ParameterError
            If one is wrong, whatever the image.
        """
        self._check_phases()
        for name, parameter in TABLE.items():
            if hasattr(self, name):
                parameter.check(getattr(self, name))
        if not isinstance(self.units, str):
            raise ParameterTypeError(
                f"`units` must be the name of a unit of length, got {self.units!r}", units=self.units
            )
        for name in ("annotations", "contrast"):
            value, choices = getattr(self, name), TABLE[name].choices
            if value not in choices:
                raise ParameterError(f"`{name}` must be one of {choices}, got {value!r}", **{name: value})
        if self.contrast == "only" and self.method != "kmeans":
            raise ParameterError(
                "`contrast=` makes the map by itself, by k-means of intensity or texture; leave `method=` out",
                contrast=self.contrast,
                method=self.method,
            )
        seed = as_seed(self.random_state)
        pixel_size = _pair_of_lengths(self.pixel_size)
        check_k_max(self.k_max, self.zoom, pixel_size, self.units)
        return replace(self, pixel_size=pixel_size, random_state=seed)

    def to_dict(self) -> dict[str, Any]:
        """What `Segmentation.params` records: all that decides the result but the mask, JSON-able."""
        of_windows = sorted(_of_windows())
        others = [f.name for f in fields(self) if f.name not in (*of_windows, "mask", "units", "pixel_size")]
        oblong = pixels_along(1.0, self.pixel_size) != (1.0, 1.0)  # windows and periods are square in length
        if self.pixel_size and (self.k_max is not None or self.rotation_invariant or oblong):
            others.append("pixel_size")  # the result does not depend on it otherwise
        values = {name: getattr(self, name) for name in (*of_windows, *others)}
        if not isinstance(self.method, str):
            values["method"] = repr(self.method)
        return {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}

    @property
    def most_phases(self) -> int:
        """The number of phases, or the largest that may be found."""
        return MAX_PHASES if self.n_phases == AUTO else int(self.n_phases)

    def features(self) -> WindowFFT:
        """The spectra of windows, but for sizes and steps that are chosen for the image."""
        return WindowFFT().set_params(**{name: getattr(self, name) for name in _of_windows()})

    def frequencies(self) -> Frequencies:
        """The frequencies that are compared."""
        return Frequencies(self.k_min, self.k_max, self.pixel_size or (1.0, 1.0), bool(self.rotation_invariant))

    def _check_phases(self) -> None:
        """Refuse wrong methods, and numbers of phases that they cannot find."""
        method, n_phases, rank = self.method, self.n_phases, self.rank
        check_whole(rank=rank)
        if isinstance(n_phases, str):
            if n_phases != AUTO:
                raise ParameterError(
                    f"`n_phases` must be a whole number, at least 1, or {AUTO!r}; got {n_phases!r}", n_phases=n_phases
                )
            if not isinstance(method, str):
                raise ParameterError(
                    f"`n_phases=` needs one of the methods {tuple(METHODS)}: an estimator has its own number",
                    n_phases=n_phases,
                )
            n_phases = 1
        check_whole(n_phases=n_phases)
        if isinstance(method, str) and method not in METHODS:
            raise ParameterError(
                f"`method` must be one of {tuple(METHODS)} or a scikit-learn estimator, got {method!r}", method=method
            )
        if not isinstance(method, str) and not hasattr(method, "fit"):
            raise ParameterTypeError(
                f"`method` must be one of {tuple(METHODS)} or an object with fit(), got {type(method).__name__}",
                method=method,
            )
        beyond = method_of(method).beyond_rank
        if beyond is not None and n_phases > rank + beyond:
            most = f"rank = {rank}" if not beyond else f"rank + {beyond} = {rank + beyond}"
            raise ParameterError(
                f"`method=` finds at most {most} phases, got `n_phases=`", method=method, n_phases=n_phases
            )
        if self.windows is not None and not method_of(method).of_several_sizes:
            raise ParameterError(
                "`windows` must be left out with `method=`, which uses one size of windows; give `window` instead",
                windows=self.windows,
                method=method,
                window=self.window,
            )


def _of_windows() -> set[str]:
    """Names of the parameters that are those of `WindowFFT`."""
    return WindowFFT().get_params().keys() & {f.name for f in fields(Parameters)}


def _pair_of_lengths(value: Any) -> tuple[float, float] | None:
    """`pixel_size`, (y, x)."""
    if value is None:
        return None
    try:
        sizes = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        sizes = np.empty(0)
    if sizes.shape not in ((), (2,)) or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ParameterError(
            f"`pixel_size` must be a positive number, or a (y, x) pair of them; got {value!r}", pixel_size=value
        )
    y, x = np.broadcast_to(sizes, 2)
    return float(y), float(x)


#: Headings of the options of the command.
PHASES = "phases"
WINDOWS = "windows (in pixels, or a length such as 2nm, 20A; 64x96 is height x width)"
COMPARED = "what is compared"
MAPS = "maps"
IMAGE = "image"

_ROWS = {
    "n_phases": Parameter("phases", "number of phases, or 'auto'", PHASES, option="--phases", command_default=2),
    "method": Parameter("choice", "how windows become phases", PHASES, choices=tuple(METHODS)),
    "window": Parameter(
        "size",
        "side of the windows, each of which has an entry in the maps",
        WINDOWS,
        by_default="from the longest period",
        symbol="SIZE",
    ),
    "windows": Parameter(
        "sizes",
        "sizes used together by kmeans, such as 48,64,128; the maps are of `window`, which must be one of them, or "
        "else of the largest but one",
        WINDOWS,
        by_default="two, one and three quarters of `window`",
        symbol="SIZES",
    ),
    "step": Parameter(
        "size", "from one window to the next", WINDOWS, by_default="an eighth of the window", symbol="SIZE"
    ),
    "taper": Parameter("taper", "hann, hamming, ...; 'kaiser,8' with a parameter", WINDOWS, symbol="NAME"),
    "detrend": Parameter("choice", choices=("constant",)),
    "zoom": Parameter(
        "whole",
        "keep the central 1/N of the frequencies, up to 0.5/N cycles per pixel: with 2, reflections of lattice planes "
        "less than 4 pixels apart are not seen, with 1 all are",
        WINDOWS,
        low=1,
    ),
    "scale": Parameter("choice", "of the spectrum's modulus", WINDOWS, choices=SCALES),
    "k_min": Parameter("number", "ignore less than N cycles a window", COMPARED),
    "k_max": Parameter(
        "frequency",
        "ignore frequencies above, in 1/nm, or in cycles per pixel without a calibration: 12.5 for details of 0.08 nm",
        COMPARED,
        by_default="none, what `zoom` keeps",
        symbol="K",
    ),
    "rotation_invariant": Parameter(
        "switch",
        "grains of one material are one phase, however they are turned",
        COMPARED,
        by_default="orientations are phases",
    ),
    "normalize": Parameter("number", "divide spectra by their norm to the power P", COMPARED, symbol="P", high=1),
    "rank": Parameter("whole", "scores kept of each spectrum", COMPARED, low=1),
    "smooth": Parameter("number", "Gaussian mean over neighbouring windows, in pixels", COMPARED, symbol="PX"),
    "whiten": Parameter(
        "switch", "make noise equal in all scores, for faint differences", COMPARED, by_default="as it is"
    ),
    "regularize": Parameter(
        "number",
        "make boundaries short: patches of a smaller radius, in pixels, are given up",
        MAPS,
        by_default="none",
        symbol="PX",
        high=1e6,
    ),
    "min_area": Parameter(
        "whole",
        "regions of fewer pixels go to the phases around them",
        MAPS,
        by_default="none",
        symbol="PX",
        high=1e15,
    ),
    "mask": Parameter(
        "file",
        "image of the same shape; pixels that are not 0 are excluded",
        IMAGE,
        by_default="none",
        symbol="FILE",
    ),
    "annotations": Parameter("choice", "scale bars and text in the picture", IMAGE, choices=("exclude", "keep")),
    "contrast": Parameter(
        "choice",
        "intensity: corrects outlines, makes the map where nothing is periodic; or makes it alone; or is not used",
        COMPARED,
        choices=("auto", "only", "off"),
    ),
    "invalid": Parameter("choice", "what to do with NaN and Inf", IMAGE, choices=("raise", "exclude")),
    "pixel_size": Parameter("length", "such as 0.02nm", IMAGE, by_default="what the file says", symbol="SIZE"),
    "units": Parameter("text"),
    **RUNNING,
}
#: All parameters of `segment` but the image, by name and in the order of its signature. Defaults are those of
#: `Parameters`; what only says how the work is carried out is no field of it.
TABLE = {name: row.named(name, getattr(Parameters, name, None)) for name, row in _ROWS.items()}
