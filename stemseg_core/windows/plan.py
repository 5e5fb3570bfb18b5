"""How the features of windows are computed, whatever the image: frequencies, axes, transforms and tiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.rows import sources
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.types import Array
from stemseg_core.windows import transforms
from stemseg_core.windows.axes import Axis
from stemseg_core.windows.images import Frames

Size = tuple[int, int]

#: Columns along y, kx = 0..hx of each window, that the windows of a strip have together. Twice as many: the transformed
#: image rows of a strip outgrow the second-level cache.
STRIP_COLUMNS = 256


@dataclass(frozen=True)
class HalfPlane:
    """The frequencies of a window that are features: a half of the central 1/zoom of its spectrum.

    The full plane is ky = -hy..hy, kx = -hx..hx in cycles a window, with h = (window - 1) // (2 zoom). Moduli are the
    same at k and -k: the features are those of kx > 0, and of ky >= 0 at kx = 0, in the order of the full plane. Each
    is weighted by sqrt(2), since it stands for two, but the one at zero frequency.

    Parameters
    ----------
    window : (int, int)
        In pixels, (y, x).
    zoom : int
    """

    window: Size
    zoom: int

    @property
    def hy(self) -> int:
        """Highest frequency along y, cycles a window."""
        return (self.window[0] - 1) // (2 * self.zoom)

    @property
    def hx(self) -> int:
        """Highest frequency along x, cycles a window."""
        return (self.window[1] - 1) // (2 * self.zoom)

    @property
    def ky(self) -> NDArray[np.float64]:
        """Frequencies of the rows of the full plane, cycles per pixel."""
        return np.arange(-self.hy, self.hy + 1) / self.window[0]

    @property
    def kx(self) -> NDArray[np.float64]:
        """Frequencies of the columns of the full plane, cycles per pixel."""
        return np.arange(-self.hx, self.hx + 1) / self.window[1]

    @property
    def n_features(self) -> int:
        return ((2 * self.hy + 1) * (2 * self.hx + 1) + 1) // 2

    @property
    def zero(self) -> int:
        """Which feature is that of zero frequency."""
        return self.hy * self.hx

    @cached_property
    def in_plane(self) -> NDArray[np.bool_]:
        """Which points of the full plane are features."""
        ky, kx = np.mgrid[-self.hy : self.hy + 1, -self.hx : self.hx + 1]
        return (kx > 0) | ((kx == 0) & (ky >= 0))

    def to_image(self, v: ArrayLike) -> Array:
        """Feature vectors (.., d) as full planes (.., 2 hy + 1, 2 hx + 1), without the weights."""
        v = np.asarray(v)
        if v.shape[-1:] != (self.n_features,):
            raise ValueError(f"v must have {self.n_features} features on its last axis, got shape {v.shape}")
        plane = np.empty(self.in_plane.shape, np.intp)
        plane[self.in_plane] = np.arange(self.n_features)
        # The other half by F(-k) = conj F(k); at kx = 0 it is the column itself, turned over.
        plane[: self.hy, self.hx] = plane[: self.hy : -1, self.hx]
        plane[:, : self.hx] = plane[::-1, : self.hx : -1]
        weight = np.full(self.n_features, np.sqrt(2))
        weight[self.zero] = 1
        return (v / weight.astype(v.dtype if v.dtype.kind == "f" else float))[..., plane]

    def from_image(self, planes: Array) -> Array:
        """What full planes (.., 2 hy + 1, 2 hx + 1) hold at the features, (.., d), without weights."""
        return planes[..., self.in_plane]


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """All that decides the features of a window but its pixels.

    Attributes
    ----------
    half_plane : HalfPlane
    step : (int, int)
        In pixels, (y, x).
    axis_y, axis_x : Axis
    along_y : WindowTransform
    along_x : RowTransform
    scale, detrend
        As in `WindowFFT`.
    dtype : dtype
        Of the transforms and the features.
    """

    half_plane: HalfPlane
    step: Size
    axis_y: Axis
    axis_x: Axis
    along_y: transforms.WindowTransform
    along_x: transforms.RowTransform
    scale: str
    detrend: str | None
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls,
        half_plane: HalfPlane,
        step: Size,
        tapers: tuple[NDArray[np.float64], NDArray[np.float64]],
        *,
        scale: str,
        detrend: str | None,
        dtype: np.dtype[Any],
    ) -> WindowPlan:
        """With the fastest transforms along both axes; `tapers` along y and x have the lengths of the window."""
        axis_y = Axis(tapers[0], half_plane.hy, step[0], dtype)
        axis_x = Axis(tapers[1], half_plane.hx, step[1], dtype)
        along_y = transforms.fastest(transforms.WINDOW_TRANSFORMS, axis_y, half_plane.hx + 1)
        along_x = transforms.fastest(transforms.ROW_TRANSFORMS, axis_x)
        return cls(half_plane, step, axis_y, axis_x, along_y, along_x, scale, detrend, dtype)

    @property
    def window(self) -> Size:
        return self.half_plane.window

    def tile(self, grid: Size) -> Size:
        """Windows of a tile of a grid, (down, across): about `BLOCK_BYTES`, and `along_y.down` or a multiple down."""
        ny, nx = grid
        down = self.along_y.down
        most = max(1, sources.BLOCK_BYTES // (self.half_plane.n_features * self.dtype.itemsize))
        across = min(nx, max(1, min(STRIP_COLUMNS // (self.half_plane.hx + 1), most // min(ny, down))))
        if self.step[0] > self.window[0]:  # image rows between the windows of a tile are transformed as well
            return 1, across
        return min(ny, max(1, most // across // down) * down), across

    def check(self, frames: Frames) -> None:
        """Refuse frames that the window does not fit into, or whose features may overflow."""
        if any(w > n for w, n in zip(self.window, frames.image.shape[1:], strict=True)):
            raise ParameterError(
                f"window {self.window[0]} x {self.window[1]} px is larger than the image, "
                f"{frames.image.shape[1]} x {frames.image.shape[2]} px; choose a smaller window",
                window=self.window,
            )
        with np.errstate(over="ignore"):
            # From the mean of its window a pixel may be twice as far as from the offset of the image.
            reach = np.float64(frames.gain) * (1 if self.detrend is None else 2)
            largest = reach * np.abs(self.axis_y.taper).sum() * np.abs(self.axis_x.taper).sum()
            # Of a logarithm the modulus must fit, before it is taken.
            largest = np.sqrt(2) * {"sqrt": np.sqrt(largest), "power": largest**2}.get(self.scale, largest)
        if not largest < np.finfo(self.dtype).max:
            raise ParameterError(
                f"`image` has values up to {frames.deviation:.1e} from its mean, with which features of `scale=` may "
                f"overflow {self.dtype}; divide the image, or use a larger dtype or another scale",
                image=frames.deviation,
                scale=self.scale,
            )
