#!/bin/sh
# RosettaSciIO 0.15.0, PantaRhei (.prz), lazily.
#
# Behaviour: a .prz file is a zip archive of arrays, which its own writer compresses. Read lazily, as HyperSpy does for
# `hs.load(path, lazy=True)`, the bytes of the compressed stream are handed out as pixels: noise of the right shape and
# type, without a word. Images that compress well fail, since their file is shorter than their pixels; those with the
# noise of a detector hardly compress, and do not.
# Expected: the values that reading eagerly gives, or the refusal that other readers without a lazy mode raise.
# Cause: the place of the array in the archive is computed as if it were stored, and mapped into memory; the method of
# compression, which stands beside it, is not looked at. (Nor is the order: a stored array in Fortran's comes scrambled.)
# Seen: of 64 x 64 random numbers of 16 bits, fewer than one in a hundred is right.
# Why it matters: whoever processes a folder lazily gets results of noise, and nothing fails.
# What stemseg-core does: it looks at the archive, and reads such a file as a whole (io/rosetta.py).
# Source: rsciio/pantarhei/_api.py, file_reader, the branch `if lazy`.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio==0.15.0" "numpy<3"
"$work/venv/bin/python" - "$work/image.prz" <<'PY'
import sys
import numpy as np
import rsciio
from rsciio.pantarhei import file_reader, file_writer

rsciio.set_log_level("ERROR")
path = sys.argv[1]
values = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
axes = [
    {"name": name, "size": 64, "scale": 1.0, "offset": 0.0, "units": "nm", "navigate": False, "index_in_array": i}
    for i, name in enumerate("yx")
]
about = {"General": {"title": "image"}, "Signal": {"signal_type": ""}}
file_writer(path, {"data": values, "axes": axes, "metadata": about, "original_metadata": {}})
eager = np.asarray(file_reader(path)[0]["data"])
lazy = np.asarray(file_reader(path, lazy=True)[0]["data"])
right = float((lazy == values).mean())
print(f"eagerly: all {values.size} values right: {np.array_equal(eager, values)}")
print(f"lazily: {lazy.shape} {lazy.dtype}, {right:.2%} of the values right")
sys.exit(0 if np.array_equal(eager, values) and lazy.shape == values.shape and right < 0.01 else "the behaviour has changed")
PY
