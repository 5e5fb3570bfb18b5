#!/bin/sh
# RosettaSciIO 0.15.0, writers of TVIPS (.tvips) and Semper (.unf).
#
# Behaviour: arrays whose bytes are in big-endian order are written as they lie in memory, into files that are
# little-endian: the bytes of every value are swapped, without a word. 1 becomes 256.
# Expected: the values, as the writers of .hspy, .emd, .nxs and TIFF keep them.
# Cause: `tofile` and `tobytes` write the array's own byte order; whether it is that of the format is not looked at.
# Seen: 0, 1, 2, 3 come back as 0, 256, 512, 768.
# Why it matters: such arrays are no rarity here. RosettaSciIO itself gives them for Merlin's .mib (">u2"), and
# astropy for FITS: a scan that is converted from .mib to .tvips is lost.
# What stemseg-core does: it reads both formats and writes neither.
# Source: rsciio/tvips/_api.py and rsciio/semper/_api.py, file_writer.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio==0.15.0" "numpy<3"
"$work/venv/bin/python" -W ignore - "$work" <<'PY'
import sys
import numpy as np
from rsciio import semper, tvips

wrong = []
for module, name, dtype in ((tvips, "scan_000.tvips", ">u2"), (semper, "stack.unf", ">i2")):
    values = np.arange(4, dtype=dtype).reshape(1, 2, 2).repeat(3, axis=0)
    for order in (dtype, dtype.replace(">", "<")):
        path = f"{sys.argv[1]}/{order[0] == '>'}_{name}"
        axes = [
            {"name": n, "size": s, "scale": 1.0, "offset": 0.0, "units": "nm", "navigate": i == 0, "index_in_array": i}
            for i, (n, s) in enumerate(zip("zyx", values.shape))
        ]
        about = {"General": {"title": "stack"}, "Signal": {"signal_type": ""}}
        signal = {"data": values.astype(order), "axes": axes, "metadata": about, "original_metadata": {}}
        module.file_writer(path, signal | {"attributes": {"_lazy": False}})
        back = np.asarray(module.file_reader(path)[0]["data"])
        print(name, order, "written", values[0].ravel().tolist(), "read", back[0].ravel().tolist())
        wrong.append(back[0].ravel().tolist())
sys.exit(0 if wrong == [[0, 256, 512, 768], [0, 1, 2, 3]] * 2 else "the behaviour has changed")
PY
