"""`WindowFFT`: the parameters of windows, among them size, step and taper, checked and made a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.signal import get_window
from sklearn.base import BaseEstimator

from stemseg_core.rows.base import check_whole
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress
from stemseg_core.system.types import Array
from stemseg_core.windows.images import INVALID, Frames, pair
from stemseg_core.windows.matrix import WindowMatrix
from stemseg_core.windows.plan import HalfPlane, WindowPlan

SCALES = ("abs", "sqrt", "log1p", "power")


@shared_docs
class WindowFFT(BaseEstimator):
    """Modulus of the local Fourier transform: a window slides over an image, is tapered and transformed.

    Of each window: subtract its mean (`detrend`), multiply by the taper, DFT, modulus, scale, weight. The central
    1/zoom of the frequencies is kept, -h..h with h = (window - 1) // (2 zoom) on each axis; of these the half plane
    ky = -hy..hy, kx = 0..hx without ky < 0 at kx = 0, since ``|F|`` is even. Every feature is multiplied by sqrt(2),
    kx = ky = 0 by 1, so that norms, dot products, SVD and k-means are exactly those of the full plane.

    Parameters
    ----------
    window : int or (int, int), default=64
        Size in pixels, (y, x). Several lattice periods should fit.
    step : int or (int, int), optional
        Distance between neighbouring windows in pixels, (y, x). Default: a quarter of the window.
    taper : str, tuple, float or None, default="hann"
        Any window of `scipy.signal.get_window`, in its periodic form, along both axes; None: no taper.
    detrend : {"constant", None}, default="constant"
        "constant" subtracts each window's mean first.
    zoom : int, default=2
        Keep the central 1/zoom of the frequencies.
    scale : {"sqrt", "abs", "log1p", "power"}, default="sqrt"
        Feature from the modulus: its square root, itself, log(1 + .), its square.
    invalid : {"raise", "exclude"}, default="raise"
        What to do with NaN and infinity: refuse the image, or leave out the windows that they touch.
    dtype : {"float32", "float64"}, default="float32"
        Of the computation and the features.
    {execution}

    Notes
    -----
    Cost: windows of one column strip share the transforms of their image rows, and only the kept frequencies are
    made: by Fourier transforms of many columns at once, by sums that neighbouring windows share (small steps), or by
    matrix products (small windows, lengths with prime factors above 5), whichever a model of their costs finds
    fastest (`stemseg_core.windows.transforms`). With float32 and AVX-512 one core takes about 0.4 us a window of 64
    px at step 1, 0.7 at step 8; windows of 256 px at step 64 take 28. The results agree to the rounding of a float32
    FFT. Window and step may be anything; windows start at 0, step, 2 step, ... while they fit.

    The idea of unmixing sliding Fourier windows is that of Vasudevan et al., Appl. Phys. Lett. 106, 091601 (2015),
    https://doi.org/10.1063/1.4914016.

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import WindowFFT
    >>> y, x = np.mgrid[:128, :160]
    >>> matrix = WindowFFT(window=32, step=8).matrix(np.cos(0.8 * x) + np.cos(0.7 * y))
    >>> matrix
    WindowMatrix(221 x 113 float32: 13 x 17 windows of 32 x 32 px, step 8 x 8 px)
    >>> np.asarray(matrix).shape
    (221, 113)
    """

    def __init__(
        self,
        window: int | Sequence[int] = 64,
        step: int | Sequence[int] | None = None,
        *,
        taper: str | tuple[Any, ...] | float | None = "hann",
        detrend: str | None = "constant",
        zoom: int = 2,
        scale: str = "sqrt",
        invalid: str = "raise",
        dtype: DTypeLike = "float32",
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.window = window
        self.step = step
        self.taper = taper
        self.detrend = detrend
        self.zoom = zoom
        self.scale = scale
        self.invalid = invalid
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    def matrix(self, image: ArrayLike, mask: ArrayLike | None = None) -> WindowMatrix:
        """The features of `image` as a virtual matrix: nothing is computed but a check of the pixels.

        Parameters
        ----------
        image : array-like of shape (y, x) or (t, y, x)
            Any real dtype and strides; a memory map is read piece by piece. Kept by reference, never changed.
        mask : array-like of bool of shape (y, x) or (t, y, x), optional
            True: excluded. Windows that touch an excluded pixel are not rows of the matrix. A `numpy.ma` image brings
            its own mask.

        Raises
        ------
        TypeError
            The image is complex or not numeric.
        ValueError
            A parameter or the shape is wrong, or pixels are NaN or infinite (with `invalid="raise"`).
        """
        plan = self._plan()
        return WindowMatrix(plan, Frames.survey(image, mask, self.invalid))

    def matrix_of(self, frames: Frames) -> WindowMatrix:
        """As `matrix`, of an image whose pixels have been looked at: for windows of several sizes over one image."""
        return WindowMatrix(self._plan(), frames)

    def transform(self, image: ArrayLike, mask: ArrayLike | None = None) -> Array:
        """The features of `image` as an array of shape (n, d); parameters and errors as for `matrix`.

        Raises
        ------
        MemoryError
            The array would need more than `max_memory`. `matrix` makes rows on demand instead.
        """
        matrix = self.matrix(image, mask)
        n, d = matrix.shape
        execution = self._execution
        execution.require(
            n * d * matrix.dtype.itemsize,
            f"the array of {n} windows x {d} features",
            "pass WindowFFT(...).matrix(image) to the next stage, or take a larger step or zoom",
        )
        return matrix.stored(execution)

    @property
    def _execution(self) -> Execution:
        return Execution.of(self.n_jobs, self.max_memory, self.progress, stage="WindowFFT")

    def _plan(self) -> WindowPlan:
        """What the parameters say, once they are checked."""
        window = pair("window", self.window)
        step = pair("step", self.step) if self.step is not None else (max(1, window[0] // 4), max(1, window[1] // 4))
        check_whole(zoom=self.zoom)
        for name, choices in (("scale", SCALES), ("detrend", ("constant", None)), ("invalid", INVALID)):
            if getattr(self, name) not in choices:
                value = getattr(self, name)
                raise ParameterError(f"`{name}` must be one of {choices}, got {value!r}", **{name: value})
        dtype: np.dtype[Any] = np.dtype(self.dtype)
        if dtype not in (np.float32, np.float64):
            raise ParameterError(f"`dtype` must be float32 or float64, got {self.dtype!r}", dtype=self.dtype)
        return WindowPlan.of(
            HalfPlane(window, self.zoom),
            step,
            (self._taper(window[0]), self._taper(window[1])),
            scale=self.scale,
            detrend=self.detrend,
            dtype=dtype,
        )

    def _taper(self, size: int) -> NDArray[np.float64]:
        """The taper along an axis of `size` pixels. Any numbers will do; `Axis.cosines` tells which ones save time."""
        if self.taper is None:
            return np.ones(size)
        try:
            taper = np.asarray(get_window(self.taper, size), dtype=np.float64)
        except (ValueError, TypeError, IndexError) as error:
            raise ParameterError(
                f"`taper` must be a window of scipy.signal.get_window or None, got {self.taper!r}: {error}",
                taper=self.taper,
            ) from None
        if not (np.isfinite(taper).all() and taper.any()):
            raise ParameterError(
                f"`taper` must be finite and not all zero, got {self.taper!r}, which for {size} px is not",
                taper=self.taper,
            )
        return taper
