"""Velox EMD: images and spectra by RosettaSciIO, spectral cubes described from their headers and decoded when opened.

A cube of X-ray counts is a stream of events in the file, and lasts: whoever wants the image beside it need not wait.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from stemseg_core.calibration.axes import Axis, Described, calibrated_axis
from stemseg_core.io.containers import Container, array_at, hdf5_container
from stemseg_core.io.kinds import Layout, is_spectral
from stemseg_core.io.rosetta import plugin_signals, specification
from stemseg_core.io.signals import Signal, describe_signal, unreadable

#: RosettaSciIO's keyword for what to read.
IMAGES, SPECTRA, CUBES = ({"select_type": name} for name in ("images", "single_spectrum", "spectrum_image"))


def is_velox(file: Any) -> bool:
    """Whether an open HDF5 file is one of Velox."""
    return "Version" in file and "Data" in file and "Velox" in str(file["Version"][0])


def velox_signals(path: Path) -> list[Signal]:
    """Signals of a Velox file: images, spectra, cubes."""
    emd, container, signals = specification("EMD"), hdf5_container(path), list[Signal]()
    with container() as file:
        held = {name for name, group in file["Data"].items() if len(group)}
    # the frames that were taken with a cube are wanted as well
    wanted: dict[str, dict[str, Any]] = {"Image": {**IMAGES, "load_SI_image_stack": True}, "Spectrum": SPECTRA}
    for name in [name for name in wanted if name in held]:
        try:
            signals += plugin_signals(emd, path, **wanted[name])
        except ImportError:
            raise
        except Exception as error:  # one bad data set does not sink the others
            if len(held & wanted.keys()) == 1:
                raise
            signals.append(unreadable(0, name, error))
    try:
        if "EelsSpectrumImage" in held:
            signals += _eels(container, signals)
        if {"Image", "SpectrumImage", "SpectrumStream"} <= held:
            signals.append(_eds(path, container, signals))
    except Exception as error:  # one bad data set does not sink the others
        signals.append(unreadable(0, "spectrum image", error))
    return [replace(signal, index=i) for i, signal in enumerate(signals)]


def _eels(container: Container, signals: Sequence[Signal]) -> list[Signal]:
    """Cubes of energy losses, one for each range: stored as (x, energy, y), lines as (x, energy)."""
    cubes = []
    with container() as file:
        for name, group in file["Data/EelsSpectrumImage"].items():
            data, about = group["Data"], _json(group["AcquisitionMetadata"])["Data"]
            energy = calibrated_axis("Energy loss", about["dispersion"], "eV", about["offset"])
            if data.ndim == 3:
                y, x = _sides((data.shape[2], data.shape[0]), signals)
                axes, layout = [x, energy, y], Layout("cube", (2, 0))
            else:
                axes, layout = [(Axis("x"), None), energy], Layout("spectra", None)
            opened = array_at(container, f"Data/EelsSpectrumImage/{name}/Data")
            cubes.append(describe_signal(0, "EELS", data.shape, data.dtype, layout=layout, opened=opened, axes=axes))
    return cubes


def _eds(path: Path, container: Container, signals: Sequence[Signal]) -> Signal:
    """The cube of X-ray counts, the sum over all detectors and frames."""
    with container() as file:
        settings = json.loads(next(iter(file["Data/SpectrumStream"].values()))["AcquisitionSettings"][0])
        sides = next(iter(file["Data/Image"].values()))["Data"].shape[:2]
    channels, dtype = int(settings["bincount"]), np.dtype(settings["StreamEncoding"])
    spectra = (axis for s in signals for axis in s.axes if s.shape == (channels,) and is_spectral(axis))
    energy: Described = (next(spectra, Axis("Energy")), None)
    shape, layout = (*sides, channels), Layout("cube", (0, 1))
    opened = functools.partial(_decoded, path)
    return describe_signal(0, "EDS", shape, dtype, layout=layout, opened=opened, axes=[*_sides(sides, signals), energy])


@contextlib.contextmanager
def _decoded(path: Path) -> Iterator[Any]:
    *_, counts = plugin_signals(specification("EMD"), path, **CUBES)
    assert counts.open is not None
    with counts.open() as array:
        yield array


def _sides(shape: Sequence[int], signals: Sequence[Signal]) -> list[Described]:
    """Axes (y, x) of a cube: those of an image of its size, of one that is calibrated if there is one."""
    alike = [s for s in signals if s.image_axes and s.frame_shape == tuple(shape)]
    image = max(alike, key=lambda s: s.pixel_size is not None, default=None)
    axes = [image.axes[i] for i in image.image_axes] if image and image.image_axes else [Axis("y"), Axis("x")]
    return [(axis, None) for axis in axes]


def _json(data: Any) -> dict[str, Any]:
    """Metadata: a column of bytes, filled up with zeros."""
    found: dict[str, Any] = json.loads(np.asarray(data[:, 0]).tobytes().rstrip(b"\0"))
    return found
