#!/bin/sh
# RosettaSciIO 0.15.0 and ncempy 1.16, EMD of NCEM (.emd).
#
# Behaviour: an EMD file that ncempy writes, the package of NCEM, where the format was defined, is
# read by RosettaSciIO (and HyperSpy) with its array transposed: dim1 of the file, the rows, become the columns, and an
# axis that is called "y" is the one along which x should lie. Files of its own come back as they were, since its writer
# transposes as well.
# Expected: the array that ncempy gives, which is the one in the file; or at least images with the axis "y" first.
# Cause: reader and writer take the arrays of the format to be in Fortran's order.
# Seen: rows and columns (20, 30), called y and x, come as (30, 20), axes x and y.
# Why it matters: an image, its mask and its maps are mirrored at the diagonal against what ncempy and h5py show;
# square images give no hint, and the fast axis of a scan is taken for the slow one.
# What stemseg-core does: it reads the array as it stands; names of axes, and the marks of RosettaSciIO's writer, tell
# the exceptions (io/ncem.py).
# Source: rsciio/emd/_emd_ncem.py, _read_data_from_groups, `transpose_required`; ncempy/io/emd.py, put_emdgroup.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio[hdf5]==0.15.0" "ncempy==1.16" "numpy<3"
"$work/venv/bin/python" -W ignore - "$work/image.emd" <<'PY'
import sys
import numpy as np
from ncempy.io.emd import fileEMD
from rsciio.emd import file_reader

values = np.arange(600.0).reshape(20, 30)
file = fileEMD(sys.argv[1], readonly=False)
file.put_emdgroup("image", values, ((np.arange(20) * 0.02, "y", "[n_m]"), (np.arange(30) * 0.03, "x", "[n_m]")))
file.file_hdl.close()
theirs, dims = fileEMD(sys.argv[1], readonly=True).get_emdgroup(0)
read = file_reader(sys.argv[1])[0]
names = [axis["name"] for axis in read["axes"]]
print("ncempy:", theirs.shape, [dim[1] for dim in dims], "- RosettaSciIO:", read["data"].shape, names)
seen = np.array_equal(theirs, values) and np.array_equal(read["data"], values.T) and names == ["x", "y"]
sys.exit(0 if seen else "the behaviour has changed")
PY
