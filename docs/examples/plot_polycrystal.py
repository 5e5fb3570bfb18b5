"""
Grains of a polycrystal
=======================

A simulated SrTiO3 polycrystal, of which every pixel's grain is known, is segmented by orientation.
"""

import matplotlib.pyplot as plt
import numpy as np

from stemseg_core import datasets, segment
from stemseg_core.plot import overlay

image, truth = datasets.polycrystal((384, 384), 5, 3, pixel_size=0.015)
result = segment(image, n_phases=3, pixel_size=0.015, units="nm")
print(result)

# %%
# The phases over the image, with their shares of the area.

figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
overlay(result, ax=ax)

# %%
# The pattern of each phase is the modulus of the Fourier transform of its windows, on axes in 1/nm. Square roots of it,
# the default scale, let weak spots be seen.

ky, kx = result.frequency_axes
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True, layout="constrained")
for i, ax in enumerate(axes):
    ax.imshow(result.components[i], extent=(kx[0], kx[-1], ky[-1], ky[0]), cmap="magma")
    ax.set(title=f"phase {i + 1}", xlabel="1/nm")

# %%
# Confidence is low where two phases share a window, on the boundaries; the residual is high there because such a window
# is no phase's pattern.

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for ax, name in zip(axes, ("confidence", "residual"), strict=True):
    figure.colorbar(ax.imshow(getattr(result, name)), ax=ax)
    ax.set(title=name, xticks=[], yticks=[])

# %%
# Labels are numbered by size, those of the truth are not, and the same orientation may have another number: compare by
# the truth that is most frequent in each phase.

right = sum(np.bincount(truth[result.label_image == phase]).max() for phase in range(3))
print(f"{100 * right / truth.size:.1f} % of the pixels are right")
