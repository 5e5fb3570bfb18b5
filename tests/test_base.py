"""Data sets in files are checked as scikit-learn checks arrays; masked values are refused, not taken for data."""

import h5py
import numpy as np
import pytest

from stemseg_core import (
    ATGP,
    ICA,
    MNF,
    NFINDR,
    NMF,
    SPA,
    SVD,
    VCA,
    KMeans,
    abundances,
    compress,
    estimate_n_components,
    segment,
    unmix,
)


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


ESTIMATORS = (SVD, NFINDR, VCA, SPA, ATGP, NMF, ICA, KMeans, MNF)


@pytest.fixture
def masked():
    X = np.ma.array(np.random.default_rng(0).random((40, 6)), mask=False)
    X[7, 2] = X[30] = np.ma.masked
    return X


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_masked_values_are_refused(masked, estimator):
    rest = masked[~masked.mask.any(axis=1)]  # no value of it is masked
    model = estimator(2).fit(rest)
    again = estimator(2).fit(rest.data)
    np.testing.assert_array_equal(model.transform(rest), again.transform(rest.data))
    for method in (model.fit, model.transform):
        with pytest.raises(ValueError, match=r"X must be without masked values, got 2 rows with some, first row 7; "):
            method(masked)


@pytest.mark.parametrize(
    "function", [lambda X: compress(X, 2), estimate_n_components, lambda X: abundances(X, np.eye(2, 6))]
)
def test_functions_refuse_masked_values(masked, function):
    with pytest.raises(ValueError, match="without masked values"):
        function(masked)


def test_masked_starts_and_components_are_refused(masked):
    X = masked.data
    with pytest.raises(ValueError, match="components must be without masked values, got 1 rows"):
        abundances(X, masked[29:31])
    for model in (NMF(2, init=masked[29:31]), KMeans(2, init=masked[29:31])):
        with pytest.raises(ValueError, match="init must be without masked values"):
            model.fit(X)
    model = SVD(2).fit(X)
    with pytest.raises(ValueError, match="without masked values"):
        model.inverse_transform(np.ma.masked_less(model.transform(X), 0))


def test_cubes_with_masked_values_are_refused():
    cube = np.ma.array(np.ones((4, 5, 6)), mask=False)
    cube[1, 2] = np.ma.masked
    with pytest.raises(ValueError, match=r"cube must be without masked values; give cube.data, and as mask"):
        unmix(cube, 2)


def test_values_that_overflow_are_refused_without_a_warning():
    X = (np.random.default_rng(0).random((80, 6)) * 3e38).astype(np.float32)
    with pytest.raises(ValueError, match="values too large for float32"):
        KMeans(3).fit(X)
    if np.finfo(np.longdouble).maxexp < 2000:
        return  # long double is double here
    with pytest.raises(ValueError, match="image has values up to inf"):
        segment(np.full((64, 64), np.longdouble(10) ** 400) * np.arange(64), 2, window=32)
