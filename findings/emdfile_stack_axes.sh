#!/bin/sh
# emdfile 0.0.16 (EMD 1.0, the format in which py4DSTEM saves).
#
# Behaviour: of a stack of images, (3, 20, 30), the file has an array of that shape and the vectors dim0, dim1, dim2, one
# for each of its axes by the format; but dim0 and dim1 belong to the second and the third axis of the array, and dim2,
# the names of the images, to the first.
# Expected: dim0 is the vector of axis 0, as it is for every array that is no stack, in the same file format.
# Seen: data (3, 20, 30); dim0 "Rx" 0.02 nm, dim1 "Ry" 0.03 nm, dim2 "_labels_" of 3 names. The vectors are shortened to
# two points, so that their lengths do not tell, either: whoever reads by the rule gives "3 images" a size of 0.02 nm,
# the 20 rows 0.03 nm, and the 30 columns three names.
# Why it matters: virtual images of 4D-STEM are saved as such stacks; other readers get their pixel size wrong, or refuse.
# What stemseg-core does: a last vector called "_labels_" tells a stack, and moves the others by one (io/emdfile.py).
# Source: emdfile/classes/array.py, to_h5 and the property `shape`, which leaves the first axis of a stack out.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "emdfile==0.0.16" "numpy<3" "h5py"
"$work/venv/bin/python" - "$work/stack.h5" <<'PY'
import sys
import emdfile
import h5py
import numpy as np

path = sys.argv[1]
stack = emdfile.Array(
    np.zeros((3, 20, 30)), name="virtual", slicelabels=["bf", "adf", "haadf"],
    dims=[0.02, 0.03], dim_units=["nm", "nm"], dim_names=["Rx", "Ry"],
)
emdfile.save(path, stack)
with h5py.File(path) as file:
    group = file["virtual_root/virtual"]
    names = [group[f"dim{i}"].attrs["name"] for i in range(3)]
    print("data", group["data"].shape, *(f"dim{i} {name!r} {group[f'dim{i}'].shape}" for i, name in enumerate(names)))
    seen = (group["data"].shape, names)
sys.exit(0 if seen == ((3, 20, 30), ["Rx", "Ry", "_labels_"]) else "the behaviour has changed")
PY
