"""
A window on every pixel
=======================

The step from one window to the next only decides how finely the maps are sampled, not how sharp they are: an eighth of
the window, the default, is fine enough for labels. With a window on every pixel, maps can be read like images.
"""

import time

import matplotlib.pyplot as plt

from stemseg_core import datasets, segment
from stemseg_core.plot import maps

image, truth = datasets.two_phase((320, 320), angle=20, dose=10)
results = {}
for step in (16, 1):
    start = time.perf_counter()
    results[step] = segment(image, 2, window=48, step=step, pixel_size=datasets.PIXEL_SIZE)
    print(f"step {step}: {results[step].labels.size} windows, {time.perf_counter() - start:.1f} s")

maps(results[16])

# %%
maps(results[1])

# %%
# The boundaries of both maps against the true one.

figure, ax = plt.subplots(figsize=(5, 5), layout="constrained")
side = 320 * datasets.PIXEL_SIZE
ax.imshow(image, cmap="gray", extent=(0, side, side, 0))
for labels, color, width in (
    (truth, "white", 3.5),
    (results[16].label_image, "#E69F00", 2),
    (results[1].label_image, "#0072B2", 2),
):
    ax.contour(labels == labels[0, 0], [0.5], colors=color, linewidths=width, extent=(0, side, 0, side))
ax.set(xlabel="x / nm", ylabel="y / nm")
ax.set_title("boundary: true (white), step 16 (orange), step 1 (blue)", fontsize=10)
