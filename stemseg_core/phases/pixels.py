"""The pixels of an image before windows are laid over it: what is refused, and what is left out without being asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import grey_opening

from stemseg_core.phases.parameters import Parameters
from stemseg_core.system.errors import ParameterError
from stemseg_core.windows.annotations import Annotations, find_annotations
from stemseg_core.windows.grid import nearest_values
from stemseg_core.windows.images import Frames

#: Side, in pixels, of the windows whose number tells whether enough are left beside annotations. Twice as much: more
#: annotations are kept, since windows of this side would meet them everywhere.
TRIED_WINDOW = 64
#: Least share of these windows that must be left. Twice as much: nothing is left out of small pictures.
LEFT_SHARE = 0.5
#: Bytes a pixel while pixels are looked at: those of the colours of annotations, counts of those that are excluded. It
#: predicts memory only.
BYTES_A_PIXEL = 20


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image once its pixels have been looked at.

    Attributes
    ----------
    frames : Frames
        One frame; annotations are excluded.
    masked : ndarray of bool of shape (y, x), or None
        Pixels excluded by the caller, or not finite. They have no phase; those under annotations have the one around.
    annotated : bool
        Whether annotations are excluded.
    notes : tuple of str
        What was left out, in words.
    """

    frames: Frames
    masked: NDArray[np.bool_] | None
    annotated: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, image: ArrayLike, parameters: Parameters) -> Pixels:
        """Look at the pixels of a 2-D image.

        Raises
        ------
        ParameterError
            If the image cannot be segmented: see `Frames.survey`; or is the same everywhere, or smaller than the
            smallest region.
        """
        frames = Frames.survey(image, parameters.mask, parameters.invalid)
        masked = None if frames.mask is None else frames.mask[0]
        _refuse(frames, parameters.min_area)
        if parameters.annotations == "keep":
            return cls(frames, masked, False, ())
        found = find_annotations(frames.image[0], frames.extremes[0], masked)
        if found is None:
            return cls(frames, masked, False, ())
        without = _without(frames, found)
        _refuse(without, 0)
        side = min(TRIED_WINDOW, *(n // 2 for n in frames.image.shape[1:]))
        left, all_of_them = (some.included((side, side), (1, 1)).sum() for some in (without, frames))
        if left < LEFT_SHARE * all_of_them:
            return cls(frames, masked, False, (found.words_if_kept,))
        return cls(without, masked, True, (found.words,))

    def complete(self, label_image: NDArray[np.int32], window: tuple[int, int]) -> None:
        """Give pixels under annotations the label of the nearest pixel that has one, and masked ones -1; in place.

        Pixels that no window would see without annotations either, for the mask, keep -1.
        """
        if self.annotated:
            hidden = label_image < 0
            if self.masked is not None:
                hidden &= grey_opening(~self.masked, window)
            label_image[hidden] = nearest_values(label_image, label_image >= 0, hidden)
        if self.masked is not None:
            label_image[self.masked] = -1


def pixels_bytes(n_pixels: int) -> int:
    """Memory of `Pixels.of`."""
    return n_pixels * BYTES_A_PIXEL


def _without(frames: Frames, annotations: Annotations) -> Frames:
    """The same with annotations masked."""
    mask = annotations.mask if frames.mask is None else annotations.mask | frames.mask[0]
    return Frames.survey(frames.image[0], mask)


def _refuse(frames: Frames, min_area: int) -> None:
    """Refuse an image without a lattice, and regions that it has no room for."""
    (height, width), area = frames.image.shape[1:], frames.image.size
    if min_area > area:
        raise ParameterError(
            f"`min_area` must be at most the area of the image, {height} x {width} = {area} pixels; got {min_area}",
            min_area=min_area,
        )
    low, high = frames.extremes[0]
    if low == high and not (frames.mask is not None and frames.mask.all()):  # without a pixel, windows are missed first
        raise ParameterError(
            f"`image` is {low} in every pixel: there is no lattice to see; leave such images out", image=low
        )
