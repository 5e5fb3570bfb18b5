#!/bin/sh
# RosettaSciIO 0.15.0 (HyperSpy's readers and writers), TIFF.
#
# Behaviour: an image with pixels of 2.5e-8 m is written, and read back by the same package, with pixels of 2e-8 m, 20%
# too small, without a warning. With pixels of 2e-11 m, as those of a lattice image in metres, writing ends in an error
# about Fraction(100000000, 0).
# Expected: 2.5e-8 m, which one of the file's own tags (65009) holds exactly.
# Cause: the scale also goes into TIFF's resolution as 1e8 / int(scale * 1e8), which keeps what is above 1e-8 alone, and
# the reader takes the resolution rather than the exact tag.
# Seen: 2.5e-8 -> 2e-8, 3.7e-8 -> 3e-8, 2e-11 -> error.
# Why it matters: axes in metres are what several formats have (Velox EMD, Nion Swift in SI, simulations); converted to
# TIFF, lengths and lattice parameters are wrong by up to 50%.
# What stemseg-core does: it reads the exact tags, and writes lengths in nm, um, pm or angstrom.
# Source: rsciio/tiff/_api.py, _get_imagej_kwargs and _add_axes_imagej.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio[tiff]==0.15.0" "numpy<3"
"$work/venv/bin/python" - "$work/image.tif" <<'PY'
import sys
import numpy as np
import tifffile
from rsciio.tiff import file_reader, file_writer

path, seen = sys.argv[1], []
for scale in (2.5e-8, 3.7e-8, 2e-11):
    axes = [
        {"name": name, "size": size, "scale": scale, "offset": 0.0, "units": "m", "navigate": False}
        for name, size in (("y", 20), ("x", 30))
    ]
    try:
        file_writer(path, {"data": np.zeros((20, 30), np.float32), "axes": axes, "metadata": {}})
    except Exception as error:
        seen.append(type(error).__name__)
        print(f"written {scale:g} m: {type(error).__name__}: {error}")
        continue
    with tifffile.TiffFile(path) as tiff:
        exact = tiff.pages[0].tags[65009].value
    seen.append(file_reader(path)[0]["axes"][1]["scale"])
    print(f"written {scale:g} m, in the tag {exact:g}, read {seen[-1]:g}")
changed = seen != [2e-8, 3e-8, seen[2]] or isinstance(seen[2], float)
sys.exit("the behaviour has changed" if changed else 0)
PY
