#!/bin/sh
# RosettaSciIO 0.15.0 (HyperSpy's readers and writers), TIFF.
#
# Behaviour: an image whose y axis is in nm and whose x axis is in um is written with both units, each in a tag of its
# own (DigitalMicrograph's 65003 and 65004). Read back by the same package, both axes are in um: y is 1000 times as long.
# Expected: what was written, since it is all in the file; or a refusal to write two units, which ImageJ cannot have.
# Cause: beside the tags a description for ImageJ is written, with the unit of one axis; where that is "micron", the
# reader puts um on both axes, over the tags that it has just read.
# Seen: y 0.02 nm comes back as y 0.02 um.
# Why it matters: line scans, cross sections and depth profiles have axes of different units, and nothing warns.
# What stemseg-core does: it reads the tags itself, each axis with its own unit (io/tiff_axes.py).
# Source: rsciio/tiff/_api.py, _add_axes_digital_micrograph, then _add_axes_imagej.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio[tiff]==0.15.0" "numpy<3"
"$work/venv/bin/python" - "$work/image.tif" <<'PY'
import sys
import numpy as np
from rsciio.tiff import file_reader, file_writer

path = sys.argv[1]
axes = [
    {"name": name, "size": size, "scale": scale, "offset": 0.0, "units": units, "navigate": False}
    for name, size, scale, units in (("y", 20, 0.02, "nm"), ("x", 30, 0.5, "µm"))
]
file_writer(path, {"data": np.zeros((20, 30), np.float32), "axes": axes, "metadata": {}})
read = [(axis["scale"], axis["units"]) for axis in file_reader(path)[0]["axes"]]
print("written (y, x):", [(axis["scale"], axis["units"]) for axis in axes])
print("read    (y, x):", read)
sys.exit(0 if read == [(0.02, "µm"), (0.5, "µm")] else "the behaviour has changed")
PY
