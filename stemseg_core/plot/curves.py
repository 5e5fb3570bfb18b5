"""Pictures of the criteria for a number of components: in what each counts, and what it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stemseg_core.plot.layout import FONT
from stemseg_core.stages.estimates import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of each criterion: what it counts, and what its values are compared with.
CRITERIA = {
    "separation": ("phases", "limit of chance"),
    "scree": ("components", "limit of chance"),
    "hfc": ("components", "limit of chance"),
    "nwhfc": ("components", "limit of chance"),
    "elbow": ("components", "straight line"),
    "residual": ("components", "broken stick"),
    "stability": ("clusters", "least that counts"),
    "silhouette": ("clusters", "least that counts"),
    "gap": ("clusters", "next, less its error"),
}


def draw_curve(ax: Axes, name: str, curve: Curve, *, value: str, taken: str) -> None:
    """Draw the curve of a criterion in the colour `value`, and the number that it takes in the colour `taken`."""
    counted, null = CRITERIA.get(name, ("components", "compared with"))
    for spine in ax.spines.values():
        spine.set_linewidth(0.8)
    ax.plot(curve.k, curve.value, "o-", color=value, markersize=4, linewidth=1.2, label="measured")
    ax.axvline(curve.n_components, color=taken, linewidth=1.2, zorder=0, label="taken")
    if curve.null is not None and np.isfinite(curve.null).any():
        ax.plot(
            curve.k,
            curve.null,
            "--_",
            color="#595959",
            markersize=14,
            markeredgewidth=2,
            linewidth=1,
            label=null,
        )
    ax.margins(y=0.15)
    if np.isfinite(curve.value).any() and np.nanmin(curve.value) > 0:
        ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=FONT - 2)
    ax.set_xlim(0.5, max(curve.k[-1], curve.n_components) + 0.5)
    ax.set_xticks(range(1, int(curve.k[-1]) + 1))
    ax.tick_params(labelsize=FONT - 2, length=2)
    ax.set_xlabel(f"number of {counted}", fontsize=FONT - 1)
