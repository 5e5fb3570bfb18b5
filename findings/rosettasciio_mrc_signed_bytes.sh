#!/bin/sh
# RosettaSciIO 0.15.0, on a file of mrcfile 1.5.4.
#
# Behaviour: bytes of an MRC file (mode 0) come as numbers from 0 to 255, whatever the file says of their sign.
# Expected: numbers from -128 to 127, as MRC2014 has mode 0 and mrcfile and ncempy read it; or by IMOD's flag, where the
# file has its stamp.
# Seen: -100, -1, 0, 100 are written by mrcfile and read again by it; RosettaSciIO reads 156, 255, 0, 100. No warning.
# Why it matters: detectors that subtract a dark reference, and reconstructions, have values below 0; these become the
# brightest of the image.
# What stemseg-core does: the header tells the sign, and the bytes are read accordingly (io/mrc.py).
# Source: https://www.ccpem.ac.uk/mrc_format/mrc2014.php, MODE; rsciio/mrc/_api.py, get_data_type.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "rosettasciio==0.15.0" "mrcfile==1.5.4"
"$work/venv/bin/python" - "$work/bytes.mrc" <<'PY'
import sys
import mrcfile
import numpy as np
from rsciio.mrc import file_reader

path = sys.argv[1]
written = np.array([[-100, -1], [0, 100]], np.int8)
with mrcfile.new(path) as file:
    file.set_data(written)
with mrcfile.open(path) as file:
    by_mrcfile = file.data.copy()
by_rosettasciio = file_reader(path)[0]["data"]
print("written", written.ravel(), "mrcfile", by_mrcfile.ravel(), "RosettaSciIO", by_rosettasciio.ravel())
same = np.array_equal(by_mrcfile, written) and by_rosettasciio.ravel().tolist() == [156, 255, 0, 100]
sys.exit(0 if same else "the behaviour has changed")
PY
