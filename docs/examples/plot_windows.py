"""
Windows large and small
=======================

A large window tells similar lattices apart, a small one finds small grains and places their boundaries. The default
uses three sizes together: twice, once and three quarters of one that is chosen from the longest period of the image.
"""

import matplotlib.pyplot as plt
from sklearn.metrics import adjusted_rand_score

from stemseg_core import KMeans, datasets, segment
from stemseg_core.plot import overlay

image, truth = datasets.polycrystal(
    (640, 640), n_grains=20, n_orientations=4, misorientation=7.0, dose=2, random_state=4
)
default = segment(image, 4, pixel_size=datasets.PIXEL_SIZE)
print("windows:", default.params["windows"])
overlay(default)

# %%
# Grains in four orientations, 7 degrees from one to the next, at two electrons a pixel: by windows of one size, and by
# three together. Colours go by the area of a phase, and change where that does. The index is 1 if a map is the true one
# and 0 if it has nothing to do with it.


def one_size(window):
    """k-means on the scores of windows of one size."""
    return segment(image, 4, method=KMeans(4), window=window, step=8, pixel_size=datasets.PIXEL_SIZE)


maps = {
    "32 px": one_size(32),
    "64 px": one_size(64),
    "128 px": one_size(128),
    "48, 64 and 128 px": segment(image, 4, windows=[48, 64, 128], pixel_size=datasets.PIXEL_SIZE),
}
figure, axes = plt.subplots(2, 2, figsize=(7, 7.4), layout="constrained")
for ax, (name, result) in zip(axes.flat, maps.items(), strict=True):
    overlay(result, ax=ax)
    ax.get_legend().remove()
    index = adjusted_rand_score(truth.ravel(), result.label_image.ravel())
    ax.set_title(f"{name}: adjusted Rand index {index:.2f}", fontsize=10)
