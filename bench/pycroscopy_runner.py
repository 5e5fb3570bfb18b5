"""Run by windows.py with an interpreter that has pycroscopy: PYTHON pycroscopy_runner.py IMAGE.npy WINDOW STEP

Prints the version, then answers every line of standard input with the shape of the windows it made.
"""

import contextlib
import sys
from importlib.metadata import version

import numpy as np

with contextlib.redirect_stdout(sys.stderr):
    import sidpy
    from pycroscopy.image import ImageWindowing

path, window, step = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
image = sidpy.Dataset.from_array(np.load(path))
image.data_type = "image"
for axis, (name, size) in enumerate(zip("xy", image.shape, strict=True)):
    image.set_dimension(axis, sidpy.Dimension(np.arange(size), name=name, units="nm", dimension_type="spatial"))

parameters = {
    "window_size_x": window,
    "window_size_y": window,
    "window_step_x": step,
    "window_step_y": step,
    "mode": "fft",
    "fft_mode": "abs",
    "interpol_factor": 1.0,
    "zoom_factor": 2,
    "filter": "hamming",
}
print(version("pycroscopy"), flush=True)
for _ in sys.stdin:
    with contextlib.redirect_stdout(sys.stderr):
        windows = ImageWindowing(dict(parameters)).MakeWindows(image)
        features = np.sqrt(np.abs(np.asarray(windows)))
    print(features.shape, flush=True)
