"""
Phases that overlap
===================

Where an interface is inclined to the beam, two crystals lie over each other, and the question is not which phase a
place is but how much of each is there. ``method="nmf"`` and ``method="nfindr"`` give that as memberships.
"""

import matplotlib.pyplot as plt
import numpy as np

from stemseg_core import datasets, segment
from stemseg_core.plot import OKABE_ITO, abundances

image, truth = datasets.inclined_interface((384, 512), overlap=0.5)
result = segment(image, 2, method="nmf", pixel_size=datasets.PIXEL_SIZE)
abundances(result)

# %%
# The crystal on the right takes over linearly. Means over y of the maps, beside the true share: endmembers are the
# purest windows, so that the usual ones stay away from 0 and 1. Powers add up where crystals overlap, square roots of
# moduli, the default scale, do not quite: their curve is bent.

ways = {
    "NMF": result,
    "N-FINDR": segment(image, 2, method="nfindr"),
    "N-FINDR on powers": segment(image, 2, method="nfindr", scale="power"),
}
figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
ax.plot(np.arange(512) * datasets.PIXEL_SIZE, truth.mean(axis=0), color="black", linewidth=2.5, label="truth")
for (name, found), color, dash in zip(ways.items(), OKABE_ITO[3:], ("-", "--", ":"), strict=False):
    across = found.centers.reshape(*found.labels.shape, 2)[0, :, 1] * datasets.PIXEL_SIZE
    share = found.abundances.mean(axis=1)
    rising = share[np.argmax(share[:, -1])]
    ax.plot(across, rising, color=color, linestyle=dash, linewidth=2, label=name)
ax.set(xlabel="x / nm", ylabel="share of the crystal on the right", xlim=(0, 512 * datasets.PIXEL_SIZE))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
