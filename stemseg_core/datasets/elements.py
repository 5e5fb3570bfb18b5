"""Energies of the X-ray lines and core-loss edges of some elements, for simulated cubes.

Tests: tests/test_simulated_cubes.py.

References
----------
A. Thompson et al., "X-ray Data Booklet", Lawrence Berkeley National Laboratory, 2009 (lines); C. C. Ahn, O. L.
Krivanek, "EELS Atlas", Gatan, 1983 (edges). Weights and jumps are of the right order, no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

#: X-ray lines of an element: energy in keV, and intensity beside its strongest line.
LINES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "C": ((0.277, 1.0),),
    "N": ((0.392, 1.0),),
    "O": ((0.525, 1.0),),
    "Mg": ((1.254, 1.0),),
    "Al": ((1.487, 1.0),),
    "Si": ((1.740, 1.0),),
    "Ti": ((4.511, 1.0), (4.932, 0.13), (0.452, 0.15)),
    "Cr": ((5.415, 1.0), (5.947, 0.13), (0.573, 0.2)),
    "Mn": ((5.899, 1.0), (6.490, 0.13), (0.637, 0.25)),
    "Fe": ((6.404, 1.0), (7.058, 0.13), (0.705, 0.3)),
    "Co": ((6.930, 1.0), (7.649, 0.13), (0.776, 0.35)),
    "Ni": ((7.478, 1.0), (8.265, 0.13), (0.851, 0.4)),
    "Cu": ((8.048, 1.0), (8.905, 0.13), (0.930, 0.45)),
    "Zn": ((8.639, 1.0), (9.572, 0.13), (1.012, 0.5)),
    "Sr": ((1.807, 1.0), (1.872, 0.6)),
    "La": ((4.651, 1.0), (5.042, 0.7), (0.833, 0.5)),
    "Au": ((2.123, 1.0), (9.713, 0.6)),
}


@dataclass(frozen=True)
class Edge:
    """A core-loss edge.

    Attributes
    ----------
    onset : float
        In eV.
    jump : float
        Height of the step beside the background at its onset, where all atoms are of the element.
    lines : tuple of (float, float, float)
        White lines: energy and standard deviation in eV, height in steps.
    """

    onset: float
    jump: float
    lines: tuple[tuple[float, float, float], ...] = ()


#: Core-loss edges of an element between 250 and 1000 eV.
EDGES: Mapping[str, tuple[Edge, ...]] = {
    "C": (Edge(284.0, 1.5, ((286.0, 1.2, 0.7), (293.0, 4.0, 0.6))),),
    "N": (Edge(401.0, 1.2, ((403.0, 1.5, 0.8),)),),
    "O": (Edge(532.0, 1.2, ((534.5, 1.8, 1.0), (543.0, 4.0, 0.6))),),
    "Ti": (Edge(456.0, 1.6, ((458.5, 1.2, 3.5), (464.0, 1.4, 2.8))),),
    "Cr": (Edge(575.0, 1.5, ((577.5, 1.3, 3.5), (586.0, 1.5, 2.2))),),
    "Mn": (Edge(640.0, 1.5, ((642.5, 1.4, 3.5), (653.0, 1.6, 2.0))),),
    "Fe": (Edge(708.0, 1.4, ((710.0, 1.5, 3.2), (723.0, 1.8, 1.6))),),
    "Co": (Edge(779.0, 1.4, ((781.0, 1.5, 3.0), (796.0, 1.8, 1.4))),),
    "La": (Edge(832.0, 1.8, ((835.0, 1.5, 5.0), (851.0, 1.6, 4.0))),),
    "Ni": (Edge(855.0, 1.3, ((857.0, 1.5, 2.6), (874.0, 1.8, 1.2))),),
    "Cu": (Edge(931.0, 1.2, ((936.0, 4.0, 0.4),)),),
}
