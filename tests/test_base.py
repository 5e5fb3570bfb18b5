"""Data sets in files are checked as scikit-learn checks arrays."""

import h5py
import numpy as np
import pytest

from stemseg_core import NFINDR, NMF, SVD, KMeans, abundances, compress


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((9, 3), complex), "real numbers; got dtype complex128"),
        (np.full((9, 3), b"a"), "real numbers"),
        (np.ones((9, 0)), "0 feature"),
        (np.ones(9), "must be 2-D"),
        (np.ones((2, 9, 3)), "must be 2-D"),
    ],
    ids=["complex", "text", "no features", "1-D", "3-D"],
)
def test_data_sets_that_are_refused(tmp_path, values, message):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("x", data=values)
        for estimator in (SVD(2), NFINDR(2), NMF(2), KMeans(2)):
            with pytest.raises(ValueError, match=message):
                estimator.fit(data)
        with pytest.raises(ValueError, match=message):
            compress(data, 2)
        with pytest.raises(ValueError, match=message):
            abundances(data, np.eye(2, 3))
