"""Checks of images, masks and (y, x) parameters before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemseg_core.system.errors import ParameterError, ParameterTypeError


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


def check_image(image: ArrayLike, mask: ArrayLike | None) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
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


def first_bad_pixels(frame: NDArray[Any], bad: NDArray[np.bool_]) -> str:
    """``'37 NaN, first at (12, 88)'``; NaN and infinity counted apart, positions (y, x)."""
    found = []
    for name, which in (("NaN", np.isnan(frame) & bad), ("infinity", np.isinf(frame) & bad)):
        if which.any():
            y, x = np.argwhere(which)[0]
            found.append(f"{which.sum()} {name}, first at ({y}, {x})")
    return " and ".join(found)
