"""
How many phases
===============

With ``"auto"`` in place of a number the number of phases is found, one included, and the result tells by what.
"""

from stemseg_core import WindowFFT, datasets, estimate_n_components, segment
from stemseg_core.plot import estimate, overlay

image, _ = datasets.polycrystal(n_grains=7, n_orientations=4, dose=8)
result = segment(image, "auto", pixel_size=datasets.PIXEL_SIZE)
print(result)
overlay(result)

# %%
# Maps of 2, 3, ... phases are made, and for each number the separation of the two nearest is measured: the step from
# one to the other over the scatter about it. The largest number whose separation is above the grey mark, what maps
# without phases reach, is taken. Two numbers in a row that fail end the search.
#
# There is no point where a phase nowhere fills a window, or is but a boundary.

estimate(result.estimate)

# %%
# An image of a single crystal stays below the mark, and is one phase.

control, _ = datasets.single_phase(dose=8)
result = segment(control, "auto", pixel_size=datasets.PIXEL_SIZE)
print(result)
estimate(result.estimate)

# %%
# The usual criteria, side by side for the first image, take rows for independent. Windows that overlap are not: their
# noise is correlated, and most criteria count it as components.

estimate(estimate_n_components(WindowFFT(64, 16).matrix(image)))
