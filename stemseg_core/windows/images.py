"""Images that windows are cut from: checks of pixels, masks and (y, x) parameters, and one look at every pixel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.system.errors import ParameterError, ParameterTypeError
from stemseg_core.system.types import Array

#: What may be done with pixels that are not finite.
INVALID = ("raise", "exclude")
#: Most pixels along each axis of a frame that its offset is the mean of, evenly spaced. Twice as many: four times the
#: time, and an offset nearer to the mean, by which the last bits of all features change.
OFFSET_PIXELS = 256


def pair(name: str, value: int | Sequence[int] | str) -> tuple[int, int]:
    """`value` or a (y, x) pair of values as two whole numbers >= 1."""
    try:
        values = np.asarray(value)
    except ValueError:  # sequences of different lengths
        values = np.empty(0)
    if values.dtype.kind not in "iu" or values.shape not in ((), (2,)) or values.min() < 1:
        cure = "; a length has round(length / pixel_size) pixels" if isinstance(value, str) else ""
        raise ParameterError(
            f"`{name}` must be a whole number of pixels >= 1, or a (y, x) pair of them; got {value!r}{cure}",
            **{name: value},
        )
    y, x = np.broadcast_to(values, 2)
    return int(y), int(x)


def refuse_names(image: object) -> None:
    """Raise TypeError if the name of a file, or what `read_image` returns, is given in place of its pixels."""
    if hasattr(image, "pixel_size") and isinstance(getattr(image, "data", None), np.ndarray):
        raise ParameterTypeError(
            "`image` must be an array of pixels, got what read_image returns; pass image.data of it", image=type(image)
        )
    if isinstance(image, str | os.PathLike):
        name = os.fspath(image)
        raise ParameterTypeError(
            f"`image` must be an array of pixels, got the name {name!r}; read the file first: "
            f"image = stemseg_core.io.read_image({name!r}), then pass image.data, and image.pixel_size",
            image=name,
        )


def check_image(image: ArrayLike, mask: ArrayLike | None) -> tuple[Array, NDArray[np.bool_] | None]:
    """`image` as a real array (y, x) or (t, y, x), not copied, and the mask of excluded pixels, own or given."""
    refuse_names(image)
    own_mask = np.ma.getmask(image)
    array = np.ma.getdata(image) if isinstance(image, np.ma.MaskedArray) else np.asarray(image)
    if array.dtype.kind == "c":
        raise ParameterTypeError(
            "`image` is complex; expected real pixels: pass its modulus or its real part", image=array.dtype
        )
    if array.dtype.kind not in "biuf":
        raise ParameterTypeError(f"`image` must be numeric, got dtype {array.dtype}", image=array.dtype)
    if array.ndim not in (2, 3):
        raise ParameterError(
            f"`image` must be 2-D (y, x) or a 3-D stack (t, y, x), got {array.ndim}-D, shape {array.shape}",
            image=array.shape,
        )
    if array.size == 0:
        raise ParameterError(f"`image` is empty, shape {array.shape}", image=array.shape)
    masks = [] if own_mask is np.ma.nomask else [np.asarray(own_mask)]
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != bool:
            raise ParameterTypeError(
                f"`mask` must be bool (True: excluded), got dtype {mask.dtype}; take mask != 0", mask=mask.dtype
            )
        if mask.shape not in (array.shape, array.shape[-2:]):
            raise ParameterError(
                f"`mask` must have the shape of the image, {array.shape}, got {mask.shape}", mask=mask.shape
            )
        masks.append(mask)
    if not masks:
        return array, None
    return array, masks[0] if len(masks) == 1 else masks[0] | masks[1]


def first_bad_pixels(frame: Array, bad: NDArray[np.bool_]) -> str:
    """``'37 NaN, first at (12, 88)'``; NaN and infinity counted apart, positions (y, x)."""
    found = []
    for name, which in (("NaN", np.isnan(frame) & bad), ("infinity", np.isinf(frame) & bad)):
        if which.any():
            y, x = np.argwhere(which)[0]
            found.append(f"{which.sum()} {name}, first at ({y}, {x})")
    return " and ".join(found)


@dataclass(frozen=True, eq=False)
class Frames:
    """The frames of an image once all pixels have been looked at; windows of any size may be laid over them.

    Features are computed from (pixel - offset) / gain. The offset keeps float32 exact on images with a high background;
    the gain, a power of two, keeps squares in range for pixels of any unit.

    Attributes
    ----------
    image : ndarray of shape (t, y, x)
        The pixels of the caller, not copied.
    stack : tuple
        Axes of the image before (y, x): (t,), or () of a single frame.
    mask : ndarray of bool of shape (t, y, x), or None
        True: excluded.
    offset : ndarray of shape (t,)
    extremes : tuple of (low, high) of each frame
        The smallest and the largest pixel that is not excluded; (0, 0) if all are.
    """

    image: Array
    stack: tuple[int, ...]
    mask: NDArray[np.bool_] | None
    offset: NDArray[np.float64]
    extremes: tuple[tuple[Any, Any], ...]

    @classmethod
    def survey(cls, image: ArrayLike, mask: ArrayLike | None = None, invalid: str = "raise") -> Frames:
        """Look at every pixel: refuse or exclude what is not finite, find offsets and extremes.

        Parameters and errors as for `WindowFFT` and its method `matrix`.
        """
        if invalid not in INVALID:
            raise ParameterError(f"`invalid` must be one of {INVALID}, got {invalid!r}", invalid=invalid)
        array, excluded = check_image(image, mask)
        frames = array.reshape(-1, *array.shape[-2:])
        masks = None if excluded is None else np.broadcast_to(excluded, array.shape).reshape(frames.shape)
        own_masks = None  # a copy of the masks, once pixels are added to them
        offset = np.zeros(len(frames))
        extremes: list[tuple[Any, Any]] = []
        for f, frame in enumerate(frames):
            low, high = frame.min(), frame.max()
            if frame.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
                bad = _bad_pixels(frame, None if masks is None else masks[f])
                if bad.any():
                    if invalid == "raise":
                        where = "" if len(frames) == 1 else f" of frame {f}"
                        raise ParameterError(
                            f"`image` has {first_bad_pixels(frame, bad)}{where}; mend them, mask them, or pass "
                            "`invalid=`",
                            image=int(bad.sum()),
                            invalid="exclude",
                        )
                    if own_masks is None:
                        masks = own_masks = np.zeros(frames.shape, bool) if masks is None else masks.copy()
                    own_masks[f] |= bad
            hidden = None if masks is None else masks[f]
            if hidden is not None and hidden.any():
                valid = frame[~hidden]
                low, high = (valid.min(), valid.max()) if valid.size else (0, 0)
            offset[f] = _typical_pixel(frame, hidden)
            extremes.append((low, high))
        return cls(frames, array.shape[:-2], masks, offset, tuple(extremes))

    @cached_property
    def deviation(self) -> float:
        """Largest distance of a pixel from the offset of its frame."""
        largest = 0.0
        for (low, high), offset in zip(self.extremes, self.offset, strict=True):
            largest = max(largest, float(high) - offset, offset - float(low))
        return largest

    @cached_property
    def gain(self) -> float:
        """The power of two from `deviation` on; infinity, which `WindowPlan.check` refuses, if float64 has none."""
        if self.deviation == 0:
            return 1.0
        with np.errstate(over="ignore"):
            return float(2.0 ** np.ceil(np.log2(self.deviation)))

    def pixels(self, frame: int, rows: slice, columns: slice, dtype: np.dtype[Any]) -> Array:
        """A piece of a frame as (pixel - offset) / gain, excluded pixels as 0; C-contiguous."""
        piece = self.image[frame, rows, columns]
        work = np.result_type(piece.dtype, dtype if self.gain < 2.0**126 else np.float64)
        scaled = np.subtract(piece, self.offset[frame], dtype=work)
        scaled /= work.type(self.gain)
        if self.mask is not None:
            scaled[self.mask[frame, rows, columns]] = 0
        return np.ascontiguousarray(scaled, dtype=dtype)

    def included(self, window: tuple[int, int], step: tuple[int, int]) -> NDArray[np.bool_]:
        """Which windows touch no excluded pixel, (t, ny, nx)."""
        (wy, wx), (sy, sx) = window, step
        ny, nx = ((n - w) // s + 1 for n, w, s in zip(self.image.shape[1:], window, step, strict=True))
        included = np.ones((len(self.image), ny, nx), bool)
        if self.mask is None:
            return included
        for mask, result in zip(self.mask, included, strict=True):
            total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
            mask.cumsum(axis=0, dtype=np.int64, out=total[1:, 1:]).cumsum(axis=1, out=total[1:, 1:])
            top, bottom = total[:-wy:sy], total[wy::sy]
            result[:] = (bottom[:, wx::sx] - bottom[:, :-wx:sx] - top[:, wx::sx] + top[:, :-wx:sx]) == 0
        return included


def _bad_pixels(frame: Array, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Which pixels of a frame are neither finite nor masked."""
    bad = ~np.isfinite(frame)
    return bad if mask is None else bad & ~mask


def _typical_pixel(frame: Array, mask: NDArray[np.bool_] | None) -> float:
    """Mean of evenly spaced pixels, as float32 so that it is exact in either dtype.

    They are copied to one layout and type first: the order of a sum, and with it the bits of every feature, must not
    depend on how the image is stored.
    """
    every = tuple(slice(None, None, -(-n // OFFSET_PIXELS)) for n in frame.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        sample = np.array(frame[every], dtype=np.float64, order="C")
        if mask is not None:
            sample = sample[~mask[every]]
        mean = float(sample.mean()) if sample.size else 0.0
    if not np.isfinite(mean):  # the sum overflows, as few images can
        return 0.0
    return float(np.float32(mean)) if abs(mean) < float(np.finfo(np.float32).max) else mean
