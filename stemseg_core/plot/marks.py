"""Reflections of the lattices of phases that their patterns show, and marks of them in pictures."""

from __future__ import annotations

from math import atan2, cos, hypot, sin
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stemseg_core.lattices.lattice import Lattice, Spacing
    from stemseg_core.phases.segmentation import Segmentation

#: Spacings that are written beside their reflection, at most. Twice as many: they run into each other in small panels.
MOST_WRITTEN = 3
#: Spacings that differ by less than this share are written once. Twice as much: those of oblong cells are one.
SAME = 0.02
#: Where spacings are written: at this many times the frequency of the outermost ring. Twice as far: long lines.
OUTSIDE = 1.2
#: But within this share of the panel. Twice as much cannot be: beyond its edge.
FRAME = 0.75
#: Share of the panel up to which words go outwards from there. Twice as much: they run beyond its edge.
BESIDE = 0.5
#: Size of the letters of a spacing, in points. Twice as much: they cover the pattern.
SMALL = 8
#: Diameter of a ring, in points. Twice as much: rings of large cells overlap.
RING = 8


class Mark(NamedTuple):
    """A reflection in a pattern: frequency along y and x in cycles per unit, and what is written beside it."""

    ky: float
    kx: float
    words: str


def reflections(s: Segmentation, lattice: Lattice) -> list[Spacing]:
    """Reflections of a lattice that patterns show, the strongest first."""
    top, right = (float(k.max()) for k in s.frequency_axes)
    return [spacing for spacing in lattice.spacings if abs(spacing.ky) <= top and abs(spacing.kx) <= right]


def marks_of(s: Segmentation, phase: int) -> list[Mark]:
    """Reflections of a phase that its pattern shows, each with its negative; few have their spacing beside them."""
    lattice = s.lattices[phase]
    if lattice is None:
        return []
    seen = [(sign * p.ky, sign * p.kx, p.d) for p in reflections(s, lattice) for sign in (1, -1)]
    words: dict[tuple[float, float], str] = {}
    for _, _, d in seen:
        like = [(ky, kx) for ky, kx, other in seen if abs(other / d - 1) <= SAME]
        if len(words) < MOST_WRITTEN and not any(place in words for place in like):
            # Of all reflections of that spacing, the one in the direction that is farthest from those taken.
            place = max(
                like, key=lambda place: (min((_between(place, other) for other in words), default=0), -place[0])
            )
            words[place] = f"{d:.3g} {lattice.units}"
    return [Mark(ky, kx, words.get((ky, kx), "")) for ky, kx, _ in seen]


def _between(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Angle between two directions."""
    turn = atan2(one[0], one[1]) - atan2(other[0], other[1])
    return abs(atan2(sin(turn), cos(turn)))


def draw_marks(ax: Axes, s: Segmentation, phase: int) -> None:
    """Draw a ring around each reflection of a phase, and lines from some to their spacings outside of all rings."""
    from matplotlib.patheffects import withStroke

    marks = marks_of(s, phase)
    if not marks:
        return
    black = [withStroke(linewidth=2, foreground="black")]
    ax.plot(
        [mark.kx for mark in marks],
        [mark.ky for mark in marks],
        linestyle="none",
        marker="o",
        markersize=RING,
        markerfacecolor="none",
        markeredgecolor="white",
        markeredgewidth=0.8,
        path_effects=black,
        scalex=False,
        scaley=False,
    )
    frame = min(abs(edge) for edge in (*ax.get_xlim(), *ax.get_ylim()))
    outside = min(OUTSIDE * max(hypot(mark.ky, mark.kx) for mark in marks), FRAME * frame)
    for mark in marks:
        if mark.words:
            length = hypot(mark.ky, mark.kx)
            y, x = (k / length * max(outside, 1.05 * length) for k in (mark.ky, mark.kx))
            beside = "left" if x > 0.4 * outside else "right" if x < -0.4 * outside else "center"
            if abs(x) > BESIDE * frame:  # else the words would go beyond the panel
                beside, x = ("right", 0.97 * frame) if x > 0 else ("left", -0.97 * frame)
            ax.annotate(
                mark.words,
                (mark.kx, mark.ky),
                (x, y),
                ha=beside,
                va="top" if y > 0.4 * outside else "bottom" if y < -0.4 * outside else "center",
                color="white",
                fontsize=SMALL,
                path_effects=black,
                arrowprops={"arrowstyle": "-", "color": "white", "linewidth": 0.8, "shrinkA": 0, "shrinkB": RING / 2},
            )
