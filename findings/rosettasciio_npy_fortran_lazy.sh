#!/bin/sh
# RosettaSciIO 0.15.0, NumPy's .npy, lazily.
#
# Behaviour: an array that was saved in Fortran's order (np.save keeps the order of a transposed array) is read lazily as
# if it were in C's: the right shape and type, the values at other places. Read eagerly it is right.
# Expected: the same values either way. The header says `'fortran_order': True`.
# Cause: of the header, offset, shape and type are used; the order is not.
# Seen: an image saved as `image.T` comes back scrambled: 2 of 4 x 6 values are where they were.
# Why it matters: `.T` is what one writes after each rotation or a change of (x, y) to (y, x), so such files are common,
# and images look like moire rather than like an error.
# What stemseg-core does: it reads .npy by NumPy (io/arrays.py).
# Source: rsciio/numpy/_api.py and rsciio/utils/_tools.py, inspect_npy_bytes.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio==0.15.0" "numpy<3"
"$work/venv/bin/python" - "$work/image.npy" <<'PY'
import sys
import numpy as np
from rsciio.numpy import file_reader

path = sys.argv[1]
values = np.arange(24).reshape(6, 4).T
np.save(path, values)
eager = np.asarray(file_reader(path)[0]["data"])
lazy = np.asarray(file_reader(path, lazy=True)[0]["data"])
print("saved:", *values.tolist(), "eagerly:", *eager.tolist(), "lazily:", *lazy.tolist(), sep="\n")
wrong = lazy.shape == values.shape and not np.array_equal(lazy, values)
sys.exit(0 if wrong and np.array_equal(eager, values) else "the behaviour has changed")
PY
