#!/bin/sh
# scikit-learn 1.7.2, and NumPy's masked arrays.
#
# Behaviour: estimators take a numpy.ma.MaskedArray without a word and compute on the values under its mask, as if there
# were none: the mean of PCA, the centres of KMeans and the components of NMF are of the values that were masked out.
# Expected: an error, as there is for NaN, or that masked values are left out, as NumPy's own mean does.
# Cause: check_array calls numpy.asarray, which gives the data of a masked array and drops its mask.
# Seen: of a column of ones with one masked value of 1e6, numpy.ma.mean is 1, and PCA's mean_ 100001.
# Why it matters: dead pixels and saturated spectra of microscopes come masked from their readers, with whatever value
# the detector gave below the mask.
# What stemseg-core does: its estimators refuse masked values and say how to leave the rows out (rows/base.py); images
# with a mask are segmented without the masked pixels.
# Source: sklearn/utils/validation.py, check_array; numpy.asarray.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "scikit-learn==1.7.2"
"$work/venv/bin/python" - <<'PY'
import sys
import numpy as np
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF, PCA

X = np.ma.array(np.ones((10, 2)), mask=False)
X.data[3, 0] = 1e6
X[3, 0] = np.ma.masked
X += np.random.default_rng(0).random((10, 2)) * 1e-3
X.data[3, 0] = 1e6
nmf = NMF(1, random_state=0, max_iter=500).fit(X)
seen = {
    "numpy.ma.mean": float(X.mean(axis=0)[0]),
    "PCA.mean_": float(PCA(1).fit(X).mean_[0]),
    "KMeans(1).cluster_centers_": float(KMeans(1, n_init=1, random_state=0).fit(X).cluster_centers_[0, 0]),
    "NMF(1) largest value": float((nmf.transform(X) @ nmf.components_).max()),
}
for name, value in seen.items():
    print(f"{name}: {value:g}")
values = list(seen.values())
changed = not (values[0] < 2 and all(value > 1e4 for value in values[1:]))
sys.exit("the behaviour has changed" if changed else 0)
PY
