#!/bin/sh
# RosettaSciIO 0.15.0, DigitalSurf / MountainsMap (.sur).
#
# Behaviour: of an image of 32-bit floats that is written to .sur, the largest value comes back as the smallest. All
# others come back as they were, to seven digits or so; images of 64-bit floats do as a whole.
# Expected: the largest value, to the precision of the others.
# Cause: values are spread over all whole numbers of 32 bits. In single precision the largest becomes 2**31, one more
# than there is, and turns into -2**31 when it is cast. NumPy warns of "invalid value encountered in cast", once.
# Seen: 0.0 ... 3.4 come back as 0.0 ... 3.3 and 0.0 in the place of 3.4.
# Why it matters: the brightest pixel of an image, and with float images that is where one looks first, turns black; a
# saturated area, all of whose pixels have the largest value, turns into a hole.
# What stemseg-core does: it only reads .sur; its tests write whole numbers.
# Source: rsciio/digitalsurf/_api.py, _norm_float.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio==0.15.0" "numpy<3"
"$work/venv/bin/python" -W ignore - "$work/image.sur" <<'PY'
import sys
import numpy as np
from rsciio.digitalsurf import file_reader, file_writer

path, back = sys.argv[1], {}
for dtype in (np.float32, np.float64):
    values = (np.arange(35).reshape(5, 7) / 10).astype(dtype)
    axes = [
        {"name": name, "size": size, "scale": 1.0, "offset": 0.0, "units": "nm", "navigate": False, "index_in_array": i}
        for i, (name, size) in enumerate(zip("yx", values.shape))
    ]
    about = {"General": {"title": "image"}, "Signal": {}}
    file_writer(path, {"data": values, "axes": axes, "metadata": about, "original_metadata": {}})
    back[dtype] = np.asarray(file_reader(path)[0]["data"])
    print(f"{np.dtype(dtype)}: last row written", values[-1], "read", back[dtype][-1].round(6))
single, double = (found.ravel() for found in back.values())
seen = abs(single[-1]) < 1e-6 and np.allclose(single[:-1], double[:-1], atol=1e-6) and np.isclose(double[-1], 3.4)
sys.exit(0 if seen else "the behaviour has changed")
PY
