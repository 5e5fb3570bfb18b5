"""What each phase is, on a card of the report: its pattern with the reflections of its lattice, and measures."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from stemseg_core.lattices.lattice import Lattice, Spacing, uncertain
from stemseg_core.plot.drawing import seen
from stemseg_core.plot.explorer import brightness, magma, pattern_bar, pattern_sides
from stemseg_core.plot.marks import SAME, reflections
from stemseg_core.plot.markup import data_uri, indexed_png

if TYPE_CHECKING:
    from stemseg_core.phases.segmentation import Segmentation

#: Spacings that a card names, the strongest. Twice as many: cards that are mostly numbers.
NAMED_SPACINGS = 4
#: Radius of a ring in pixels of a pattern. Twice as much: rings of neighbours meet.
RING = 1.5

NO_LATTICE = "No lattice is seen: amorphous, empty, periodic in one direction only, too small, or not measured."


def card(s: Segmentation, phase: int, share: str, area: str) -> str:
    """One phase; `area` is HTML."""
    return (
        f'<figure class="card p{phase + 1}" data-phase="{phase + 1}">{pattern(s, phase)}<figcaption>'
        f"<strong>Phase {phase + 1}</strong> {share}, {area}{_measures(s.lattices[phase])}</figcaption></figure>"
    )


def _measures(lattice: Lattice | None) -> str:
    """What was measured, as names and values."""
    if lattice is None:
        return f"<p>{NO_LATTICE}</p>"
    of, units = lattice, lattice.units
    values = {
        "a": f"{uncertain(of.a, of.a_uncertainty)} {units}",
        "b": f"{uncertain(of.b, of.b_uncertainty)} {units}",
        "gamma": f"{uncertain(of.gamma, of.gamma_uncertainty)}°",
        "turned": f"{uncertain(of.angle, of.angle_uncertainty)}°",
        "spacings": f"{', '.join(map(_length, _different(lattice)))} {units}",
    }
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{escape(value)}</dd>' for name, value in values.items())}</dl>"


def _different(lattice: Lattice) -> list[Spacing]:
    """The strongest reflection of each of the strongest spacings."""
    found: list[Spacing] = []
    for spacing in lattice.spacings:
        if all(abs(spacing.d / other.d - 1) > SAME for other in found):
            found.append(spacing)
    return found[:NAMED_SPACINGS]


def pattern(s: Segmentation, phase: int) -> str:
    """The pattern of a phase, with its reflections in rings, and a scale bar."""
    shown, low, high = seen(s, s.components[phase])
    png = indexed_png(brightness(shown, low, high), magma())
    alt = f"Pattern of phase {phase + 1} over spatial frequency."
    return f'<div class="pattern"><img src="{data_uri(png)}" alt="{alt}">{_rings(s, phase)}{pattern_bar(s)}</div>'


def _rings(s: Segmentation, phase: int) -> str:
    """A ring around each reflection that the pattern shows, and around its negative."""
    lattice, (height, width) = s.lattices[phase], pattern_sides(s)
    if lattice is None:
        return ""
    radius = RING * max(height / len(s.ky), width / len(s.kx))
    rings = [
        f'<circle cx="{sign * r.kx:.6g}" cy="{sign * r.ky:.6g}" r="{radius:.4g}"><title>'
        f"({r.indices[0]} {r.indices[1]}) {_length(r)} {escape(lattice.units)}</title></circle>"
        for r in reflections(s, lattice)
        for sign in (1, -1)
    ]
    view = f"{-width / 2:.6g} {-height / 2:.6g} {width:.6g} {height:.6g}"
    return f'<svg viewBox="{view}" preserveAspectRatio="none" aria-hidden="true">{"".join(rings)}</svg>'


def _length(spacing: Spacing) -> str:
    return uncertain(spacing.d, spacing.d_uncertainty)
