"""What `stemseg_core.cubes.unmix` refuses, and how it is stopped."""

import numpy as np
import pytest
from sklearn.decomposition import NMF as SKNMF

from stemseg_core import Stopped, unmix
from stemseg_core.cubes.cube import Cube

AXES = ({"name": "y"}, {"name": "x"}, {"name": "Energy", "scale": 1.0, "units": "eV"})


def counts():
    return np.random.default_rng(0).poisson(5.0, (24, 30, 80)).astype(np.uint16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "n_components must be a whole number"),
        ({"n_components": 81}, "n_components must be at most 80, the smaller of 720 pixels and 80 channels; got 81"),
        ({"method": "pca"}, "method must be one of .*'nmf'"),
        ({"signal_axes": 3}, "signal_axes must be 1"),
        ({"noise": "gauss"}, "noise must be 'auto'"),
        ({"noise": np.ones(5)}, r"noise must be variances.*got shape \(5,\)"),
        ({"noise": -np.ones(80)}, "noise must be variances, none below 0"),
        ({"mask": np.zeros((24, 31), bool)}, r"mask must be an array of bool of shape \(24, 30\)"),
        ({"mask": np.ones((24, 30), bool)}, "mask leaves no pixel"),
        ({"signal_mask": np.ones(80, bool)}, "signal_mask leaves no channel"),
        ({"signal_range": (3, 2)}, "signal_range must be two numbers"),
        ({"signal_range": (900, 1000)}, r"signal_range=\(900, 1000\) holds no channel.*from 0 to 79"),
        ({"axes": AXES[:2]}, "axes must be one dict"),
        ({"axes": [*AXES[:2], {"scale": 0}]}, "scale of an axis must be a finite number, not 0"),
        ({"axes": [*AXES[:2], {"size": "x", "colour": 1}]}, "axes must be dicts of name"),
        ({"bin": 0}, "bin must be a whole number"),
        ({"bin": (1, 1, 81)}, "bin must be a whole number"),
        ({"invalid": "skip"}, "invalid must be"),
        ({"faults": "skip"}, "faults must be"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        unmix(counts(), **{"n_components": 3, **options})


def test_refused_cubes():
    with pytest.raises(ValueError, match="cube must have one map axis or more"):
        unmix(np.ones(5), 1)
    with pytest.raises(ValueError, match="some length"):
        unmix(np.ones((5, 0, 3)), 1)
    with pytest.raises(TypeError, match="real numbers, got dtype complex128"):
        unmix(np.ones((5, 4, 3), complex), 1)
    with pytest.raises(ValueError, match=r"noise='poisson' is that of counts, but \d+ values are below 0"):
        unmix(np.random.default_rng(0).standard_normal((5, 4, 3)), 1, noise="poisson")


def test_memory_and_stopping():
    with pytest.raises(MemoryError):
        unmix(counts(), 3, max_memory="10 kB")
    with pytest.raises(Stopped):
        unmix(counts(), 3, progress=lambda *call: False)


def test_axes_of_arrays_without():
    assert [axis.name for axis in Cube.of(np.ones((2, 3, 4, 5)), 2).axes] == ["y", "x", "ky", "kx"]
    assert [axis.name for axis in Cube.of(np.ones((2, 3, 4, 5)), 1).axes] == ["z", "y", "x", "channel"]
    assert [axis.name for axis in Cube.of(np.ones((2, 1, 3, 4, 5)), 1).axes] == ["axis 0", "z", "y", "x", "channel"]


@pytest.mark.parametrize(("n_components", "method"), [(3, "nmf"), (3, "nfindr"), ("auto", "svd"), (3, SKNMF(3))])
def test_memory_is_refused_before_the_cube_is_read(n_components, method):
    read = []

    class Store:
        shape, dtype = (300, 300, 200), np.dtype(np.uint16)

        def __getitem__(self, key):
            read.append(key)
            raise AssertionError("read")

    with pytest.raises(MemoryError, match=r"unmix of 90000 pixels by 200 channels needs .* MB but"):
        unmix(Store(), n_components, method=method, max_memory="8 MB")
    assert not read
