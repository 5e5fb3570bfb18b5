"""What a data set is by its axes: an image, a stack of images, a spectral cube, a 4D scan, a spectrum, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stemseg_core.calibration.axes import RECIPROCAL, Axis, is_pattern

#: Kinds of data sets whose frames are images.
IMAGES = ("image", "colour", "stack")
#: Beginnings of the names of axes along which spectra run, whatever their unit: that of a wavelength is a length, and
#: that of a wavenumber a reciprocal one.
SPECTRAL_NAMES = ("energy", "x-ray energy", "wavelength", "wavenumber", "raman", "mass", "m/z", "frequency")
#: Names of the sides of images and of diffraction patterns, without underscores.
SIDES = ("y", "x", "ry", "rx")
RECIPROCAL_NAMES = ("ky", "kx", "qy", "qx", "angle a", "angle b")
#: What HyperSpy's signal types have in common, for data of which each frame is a diffraction pattern.
DIFFRACTION = "diffraction"


class Layout(NamedTuple):
    """What a data set is, and where its frames lie.

    Attributes
    ----------
    kind : str
        "image"; "stack" of images; "pattern", one diffraction pattern or a line of them; "cube", a spectrum for each
        pixel; "scan", a pattern for each pixel; "spectra", one or a line of them; "other".
    image_axes : tuple of int or None
        The axes (y, x) of one frame: of a cube, of the image of one channel; of a scan, of one pattern. None if there
        are no frames.
    """

    kind: str
    image_axes: tuple[int, int] | None


def layout(
    shape: Sequence[int], axes: Sequence[Axis] = (), navigation: Sequence[bool] | None = None, signal_type: str = ""
) -> Layout:
    """What a data set is.

    Parameters
    ----------
    shape : sequence of int
    axes : sequence of Axis
        One for each of `shape`, or none where nothing is known.
    navigation : sequence of bool, optional
        Of each axis, whether it goes from one signal (a spectrum, an image, a pattern) to the next, as HyperSpy has
        it; None if the file does not say.
    signal_type : str
        HyperSpy's, such as "EELS" or "electron_diffraction".
    """
    axes = tuple(axes) or tuple(Axis("") for _ in shape)
    long = [i for i, n in enumerate(shape) if n > 1]
    if len(shape) < 2 or (len(long) < 2 and len(shape) > 2):
        return Layout("spectra" if long else "other", None)
    spectral = [i for i in long if is_spectral(axes[i])]
    signal = [i for i in range(len(shape)) if navigation is not None and not navigation[i]]
    if len(signal) == 1 and signal[0] in long:
        spectral = signal
    image = _image_axes(shape, axes, signal, spectral)
    if image is None:
        return Layout("spectra" if len(long) < 3 else "other", None)
    others = [i for i in long if i not in image]
    named = all(_is_named(axes[i], RECIPROCAL_NAMES) for i in image)
    pattern = is_pattern([axes[i] for i in image]) or named or DIFFRACTION in signal_type
    if set(others) & set(spectral):
        kind = "cube"
    elif len(others) > 1 and (pattern or _is_scanned([axes[i] for i in others])):
        kind = "scan"
    else:
        kind = "pattern" if pattern else "stack" if others else "image"
    return Layout(kind, image)


def _is_named(axis: Axis, names: Sequence[str]) -> bool:
    return axis.name.lower().replace("_", "") in names


def is_spectral(axis: Axis) -> bool:
    """Whether spectra run along an axis."""
    return axis.kind == "energy" or axis.name.lower().startswith(SPECTRAL_NAMES)


def _is_scanned(axes: Sequence[Axis]) -> bool:
    """Whether the axes from one frame to the next are those of a scan: two lengths, or more than one unknown."""
    return all(axis.kind == "length" for axis in axes[-2:]) or not any(axis.name or axis.units for axis in axes)


def _image_axes(
    shape: Sequence[int], axes: Sequence[Axis], signal: list[int], spectral: list[int]
) -> tuple[int, int] | None:
    """Axes (y, x) of frames; None if there are no frames."""
    if len(signal) == 2 and not set(signal) & set(spectral):
        free = signal
    else:
        free = [i for i in range(len(shape)) if i not in spectral]
        if len(spectral) > 1 or len(free) < 2:
            return None
    named = [i for i in free if _is_named(axes[i], SIDES)]
    lengths = [i for i in free if axes[i].kind == "length"]
    patterns = [i for i in free if axes[i].kind in RECIPROCAL or _is_named(axes[i], RECIPROCAL_NAMES)]
    long = [i for i in free if shape[i] > 1]  # axes of one point are no sides of an image where there are others
    pairs = (patterns, named, lengths) if not spectral else (named, lengths)
    y, x = next((pair for pair in pairs if len(pair) == 2), (long if len(long) > 1 else free)[-2:])
    return y, x
