"""Cubes in objects of other packages (`stemseg_core.cubes.objects`): their axes come back, whatever their order."""

from types import SimpleNamespace

import numpy as np
import pytest

from stemseg_core import Axis, datasets, unmix
from stemseg_core.cubes.cube import Cube

CUBE = datasets.edx_cube((9, 11), counts=100, channels=64).cube
Y, X, E = Axis("y", 1.0, 0.5, "nm"), Axis("x", 0.0, 0.25, "nm"), Axis("Energy", 0.1, 0.02, "keV")


def same(result):
    expected = unmix(CUBE, 2, method="kmeans")
    assert np.array_equal(result.components, expected.components)
    assert np.array_equal(result.labels, expected.labels)


class Signal:
    """As a signal of HyperSpy: x before y, and the energy where the file had it."""

    def __init__(self, data, order):
        self.data = data
        axes = {
            a.name: SimpleNamespace(
                name=a.name, offset=a.offset, scale=a.scale, units=a.units, index_in_array=order.index(a.name)
            )
            for a in (Y, X, E)
        }
        self.axes_manager = SimpleNamespace(navigation_axes=(axes["x"], axes["y"]), signal_axes=(axes["Energy"],))


@pytest.mark.parametrize("first", [False, True])
def test_what_hyperspy_has(first):
    order = ["Energy", "y", "x"] if first else ["y", "x", "Energy"]
    result = unmix(Signal(np.moveaxis(CUBE, 2, 0) if first else CUBE, order), 2, method="kmeans")
    same(result)
    assert result.axes == (Y, X, E)


def test_contradictions():
    with pytest.raises(ValueError, match="signal_axes=2 contradicts the cube, whose signal has 1"):
        unmix(Signal(CUBE, ["y", "x", "Energy"]), 2, signal_axes=2)
    single = Signal(CUBE, ["y", "x", "Energy"])
    single.data = CUBE.astype(complex)
    with pytest.raises(TypeError, match="real numbers"):
        unmix(single, 2)


def test_a_real_hyperspy_signal():
    hs = pytest.importorskip("hyperspy.api")
    axes = [{"size": n, "name": a.name, "offset": a.offset, "scale": a.scale, "units": a.units}
            for n, a in zip(CUBE.shape, (Y, X, E), strict=True)]  # fmt: skip
    signal = hs.signals.Signal1D(CUBE, axes=axes)
    for s in (signal, signal.as_lazy()):
        result = unmix(s, 2, method="kmeans")
        same(result)
        assert result.axes == (Y, X, E)
    lines = hs.signals.Signal1D(CUBE)  # without units
    assert [a.units for a in unmix(lines, 2).axes] == ["", "", ""]
    patterns = hs.signals.Signal2D(datasets.scan_4d((4, 5), (8, 9)).cube)
    assert unmix(patterns, 2, method="kmeans").components.shape == (2, 8, 9)


def test_a_real_sidpy_dataset():
    sid = pytest.importorskip("sidpy")
    data = sid.Dataset.from_array(CUBE)
    for i, (a, kind) in enumerate(((Y, "spatial"), (X, "spatial"), (E, "spectral"))):
        points = a.offset + a.scale * np.arange(CUBE.shape[i])
        data.set_dimension(i, sid.Dimension(points, a.name, units=a.units, quantity=a.name, dimension_type=kind))
    result = unmix(data, 2, method="kmeans")
    same(result)
    assert [(a.name, a.units) for a in result.axes] == [(a.name, a.units) for a in (Y, X, E)]
    np.testing.assert_allclose([(a.offset, a.scale) for a in result.axes], [(a.offset, a.scale) for a in (Y, X, E)])


def test_a_real_data_array(tmp_path):
    xr = pytest.importorskip("xarray")
    coords = {
        a.name: (a.name, a.offset + a.scale * np.arange(n), {"units": a.units})
        for n, a in zip(CUBE.shape, (Y, X, E), strict=True)
    }
    array = xr.DataArray(CUBE, dims=("y", "x", "Energy"), coords=coords)
    result = unmix(array, 2, method="kmeans")
    same(result)
    np.testing.assert_allclose([(a.offset, a.scale) for a in result.axes], [(a.offset, a.scale) for a in (Y, X, E)])
    assert [a.units for a in result.axes] == ["nm", "nm", "keV"]
    same(unmix(array.chunk({"y": 4}), 2, method="kmeans"))
    raman = xr.DataArray(CUBE.astype(float), dims=("y", "x", "shift"), coords={"shift": np.geomspace(100, 3000, 64)})
    assert "shift: its points are not evenly spaced; channels are numbered" in unmix(raman, 2).notes


def test_dask_arrays():
    da = pytest.importorskip("dask.array")
    for chunks in ((4, 4, 64), (9, 11, 20), (2, 11, 64)):
        same(unmix(da.from_array(CUBE, chunks=chunks), 2, method="kmeans"))


def test_arrays_are_arrays():
    assert Cube.of(CUBE).notes == ()
