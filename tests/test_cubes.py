"""Cubes of files: `stemseg_core.io.cubes`."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stemseg_core import unmix
from stemseg_core.io import ImageReadError, open_cube

FORMATS = Path(__file__).parent.parent.parent / "shared" / "data" / "formats"


def spectra(shape=(6, 7), channels=40):
    return np.random.default_rng(0).poisson(5.0, (*shape, channels)).astype(np.uint16)


@pytest.mark.parametrize(("shape", "n_signal"), [((6, 7, 40), 1), ((4, 5, 12, 13), 2)])
def test_arrays_have_the_signal_last(tmp_path, shape, n_signal):
    cube = np.random.default_rng(0).poisson(5.0, shape)
    np.save(tmp_path / "c.npy", cube)
    with open_cube(tmp_path / "c.npy") as file:
        assert (file.cube.map_shape, file.cube.signal_shape) == (shape[:-n_signal], shape[-n_signal:])
        found = unmix(file.cube, 2, method="kmeans")
    expected = unmix(cube, 2, method="kmeans", signal_axes=n_signal)
    assert np.array_equal(found.components, expected.components)
    assert [axis.name for axis in found.axes] == [axis.name for axis in expected.axes]


def write_hspy(path, data, axes):
    """As HyperSpy writes: one group for each axis, in the order of the array."""
    with h5py.File(path, "w") as file:
        file.attrs["file_format"], file.attrs["file_format_version"] = "HyperSpy", "3.3"
        group = file.create_group("Experiments/__unnamed__")
        group.create_dataset("data", data=data, chunks=True)
        for i, (name, size, scale, units, navigate) in enumerate(axes):
            axis = group.create_group(f"axis-{i}")
            axis.attrs.update(
                {"name": name, "size": size, "scale": scale, "offset": 1.0, "units": units, "navigate": navigate}
            )
            axis.attrs["_type"] = "UniformDataAxis"
        group.create_group("metadata/General").attrs["title"] = "a cube"
        group.create_group("original_metadata")


def test_axes_of_a_file_come_back(tmp_path):
    pytest.importorskip("rsciio")
    cube = spectra()
    axes = [("y", 6, 0.5, "nm", True), ("x", 7, 0.5, "nm", True), ("Energy", 40, 0.02, "keV", False)]
    write_hspy(tmp_path / "c.hspy", cube, axes)
    with open_cube(tmp_path / "c.hspy") as file:
        assert file.title == "a cube"
        result = unmix(file.cube, 2)
    assert [(axis.name, axis.kind) for axis in result.axes] == [("y", "length"), ("x", "length"), ("Energy", "energy")]
    assert np.array_equal(result.components, unmix(cube, 2).components)
    with h5py.File(tmp_path / "c.hspy", "a"):
        pass  # it is closed


def test_energy_before_the_map(tmp_path):
    """The axes of the file say which is which."""
    pytest.importorskip("rsciio")
    cube = spectra()
    axes = [("Energy", 40, 0.02, "keV", False), ("y", 6, 0.5, "nm", True), ("x", 7, 0.5, "nm", True)]
    write_hspy(tmp_path / "c.hspy", np.ascontiguousarray(np.moveaxis(cube, 2, 0)), axes)
    with open_cube(tmp_path / "c.hspy") as file:
        result = unmix(file.cube, 2)
    assert np.array_equal(result.abundances, unmix(cube, 2).abundances)
    assert [axis.name for axis in result.axes] == ["y", "x", "Energy"]


def test_what_holds_no_cube(tmp_path):
    np.save(tmp_path / "i.npy", np.zeros((8, 9)))
    with (
        pytest.raises(ImageReadError, match=r"i\.npy: expected a cube or a scan, it holds 0: 8 x 9 float64"),
        open_cube(tmp_path / "i.npy"),
    ):
        pass
    np.save(tmp_path / "c.npy", spectra())
    with pytest.raises(ImageReadError, match="expected signal=3 to be a cube"), open_cube(tmp_path / "c.npy", 3):
        pass


@pytest.mark.skipif(not FORMATS.is_dir(), reason="the folder of real files is not here")
@pytest.mark.parametrize(
    ("name", "map_shape", "signal_shape", "kinds"),
    [
        ("EELS_SI.dm4", (2, 2), (2048,), ("length", "length", "energy")),
        ("16x16_12bit_packed_8bit.bcf", (16, 16), (2048,), ("length", "length", "energy")),
        ("py4DSTEM_size2x3x4x5.h5", (2, 3), (4, 5), ("length", "length", "reciprocal length", "reciprocal length")),
        ("test2.blo", (2, 3), (5, 5), ("length",) * 4),
    ],
)
def test_real_files(name, map_shape, signal_shape, kinds):
    with open_cube(FORMATS / name) as file:
        assert (file.cube.map_shape, file.cube.signal_shape) == (map_shape, signal_shape)
        assert tuple(axis.kind for axis in file.cube.axes) == kinds
        assert np.isfinite(unmix(file.cube, 2, method="svd").components).all()
