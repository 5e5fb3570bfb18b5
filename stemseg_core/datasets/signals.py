"""Spectra and patterns of simulated cubes: what a specimen sends to the detector.

Tests: tests/test_simulated_cubes.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from stemseg_core.datasets.elements import EDGES, LINES, Edge

#: Atoms by element, as fractions of all.
Material: TypeAlias = Mapping[str, float]

#: First energy of the EELS axis and its channels, in eV.
EELS_OFFSET_EV = 250.0
EELS_SCALE_EV = 1.0
#: Exponent of the background of an EELS spectrum, and of the tails of its edges. Larger: steeper.
EELS_EXPONENT = 3.0
#: Standard deviation in eV over which an edge rises. Twice as wide: softer steps.
EDGE_WIDTH_EV = 1.5
#: Energy and width of the plasmon that the plural losses are made of, in eV.
PLASMON_EV = 22.0
PLASMON_WIDTH_EV = 8.0
#: Channels of the EDX axis, in keV; the first is at 0.
EDX_SCALE_KEV = 0.02
#: Variance of the detector's noise, in keV^2, and what a line has more of it for each keV of its energy (Fano factor
#: times 3.8 eV a pair): 130 eV full width at 5.9 keV. Four times both: lines of twice the width.
DETECTOR_NOISE = 0.019**2
FANO = 0.12 * 0.0038
#: Share of the bremsstrahlung in the counts. Twice as much: materials are more alike.
BREMSSTRAHLUNG = 0.3
#: Energy in keV below which the detector's window takes most X-rays.
WINDOW_KEV = 0.25
#: Lattice parameter of the crystal of `scan_4d`, copper, in nm.
LATTICE_NM = 0.361
#: Zone axes of its grains.
ZONES = ((0, 0, 1), (0, 1, 1), (1, 1, 1))
#: Radius of the disks of a pattern in 1/nm, and the spacing of reflections at which they have 1/e of their strength.
DISK_PER_NM = 0.9
FADING_PER_NM = 9.0
#: Share of the direct beam in the counts of a pattern. More: grains are more alike.
DIRECT = 0.5


def core_losses(energy: NDArray[Any], material: Material) -> NDArray[Any]:
    """Single scattering: a power law and the edges of all elements on it, relative to its value at 100 eV."""
    spectrum = (energy / 100) ** -EELS_EXPONENT
    for element, fraction in material.items():
        for edge in EDGES[element]:
            spectrum = spectrum + fraction * edge.jump * (edge.onset / 100) ** -EELS_EXPONENT * _edge(energy, edge)
    return spectrum


def _edge(energy: NDArray[Any], edge: Edge) -> NDArray[Any]:
    """A rounded step that falls off as a power law, with its white lines."""
    step: NDArray[Any] = special.ndtr((energy - edge.onset) / EDGE_WIDTH_EV) * (energy / edge.onset) ** (-EELS_EXPONENT)
    for place, width, height in edge.lines:
        step += height * np.exp(-0.5 * ((energy - place) / width) ** 2)
    return step


def plural(spectra: NDArray[Any], thickness: float) -> NDArray[Any]:
    """Spectra (k, channels) after 0, 1, 2, ... plasmon losses, Poisson-distributed about the thickness."""
    n = spectra.shape[1]
    loss = np.arange(n) * EELS_SCALE_EV
    plasmon = loss / ((loss**2 - PLASMON_EV**2) ** 2 + (loss * PLASMON_WIDTH_EV) ** 2)
    # Before its start a spectrum is taken as constant: the losses of what lies there come into the range.
    longer = np.concatenate([np.repeat(spectra[:, :1], n, axis=1), spectra], axis=1)
    size = 3 * n
    losses = np.exp(thickness * (np.fft.rfft(plasmon / plasmon.sum(), size) - 1))
    smeared: NDArray[Any] = np.fft.irfft(np.fft.rfft(longer, size) * losses, size)[:, n : 2 * n]
    return np.maximum(smeared, 0)


def x_rays(energy: NDArray[Any], material: Material) -> NDArray[Any]:
    """Lines of all elements as the detector sees them, and bremsstrahlung by Kramers' law behind its window."""
    lines = np.zeros_like(energy)
    for element, fraction in material.items():
        for place, weight in LINES[element]:
            sigma = math.sqrt(DETECTOR_NOISE + FANO * place)
            lines += fraction * weight * np.exp(-0.5 * ((energy - place) / sigma) ** 2) / sigma
    some = np.maximum(energy, EDX_SCALE_KEV)
    background = np.exp(-((WINDOW_KEV / some) ** 3)) / some
    total = lines.sum() or 1.0  # 0 where the axis ends below all lines
    return (1 - BREMSSTRAHLUNG) * lines / total + BREMSSTRAHLUNG * background / background.sum()


def pattern_of(ky: NDArray[Any], kx: NDArray[Any], i: int, n: int) -> NDArray[Any]:
    """Disks of the direct beam and of all reflections of a face-centred crystal along a zone axis."""
    zone = np.array(ZONES[i % len(ZONES)])
    angle = math.radians(10 + 40 * i / n)
    u = np.cross(zone, (1, 0, 0) if zone[0] == 0 else (1, -1, 0))
    u = u / np.linalg.norm(u)
    v = np.cross(zone / np.linalg.norm(zone), u)
    edge = DISK_PER_NM / 4
    reach = float(np.hypot(np.abs(ky).max(), np.abs(kx).max()))
    most = math.ceil(reach * LATTICE_NM)
    indices = np.stack(np.meshgrid(*(np.arange(-most, most + 1),) * 3), axis=-1).reshape(-1, 3)
    allowed = (np.ptp(indices % 2, axis=1) == 0) & (indices @ zone == 0) & indices.any(axis=1)
    pattern = np.zeros(np.broadcast_shapes(ky.shape, kx.shape))
    for g in indices[allowed] / LATTICE_NM:
        gx, gy = g @ u, g @ v
        y, x = gx * math.sin(angle) + gy * math.cos(angle), gx * math.cos(angle) - gy * math.sin(angle)
        strength = math.exp(-((gx**2 + gy**2) / FADING_PER_NM**2))
        pattern += strength * special.ndtr((DISK_PER_NM - np.hypot(ky - y, kx - x)) / edge)
    direct = special.ndtr((DISK_PER_NM - np.hypot(ky, kx)) / edge)
    scattered = pattern.sum() or 1.0  # 0 where the detector ends before the first reflection
    return DIRECT * direct / direct.sum() + (1 - DIRECT) * pattern / scattered
