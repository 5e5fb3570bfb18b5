"""EMD of NCEM (ncem) and HyperSpy's layout (hyperspy) in HDF5 and zarr (containers), told by what they hold (hdf5)."""

import importlib
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from microscope_files import CUBE, IMAGE, STACK, emd, write, zspy_group

from stemseg_core.calibration.units import parse_unit
from stemseg_core.io import ImageReadError, read_image, read_signals
from stemseg_core.io.containers import text_of

REAL = Path(os.environ.get("STEMSEG_DATA", Path(__file__).parents[2] / "shared" / "data")) / "formats"
VALUES = np.random.default_rng(0).random((3, 6, 8)).astype(np.float32)
Y, X, T, E = ("y", 0.02, "n_m"), ("x", 0.03, "n_m"), ("t", 1.0, "s"), ("Energy", 0.5, "eV")


@pytest.mark.parametrize("dims", [(Y, X), (("", 1, ""), ("", 1, "")), (("R_x", 0.02, "A"), ("R_y", 0.03, "A"))])
def test_an_image_lies_as_its_array(tmp_path, dims):
    path = emd(tmp_path / "a.emd", VALUES[0], dims)
    read = read_image(path)
    np.testing.assert_array_equal(read.data, VALUES[0])
    assert read.title == "image"
    if dims[0] is Y:
        np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))


def test_names_of_axes_decide(tmp_path):
    read = read_image(emd(tmp_path / "a.emd", VALUES[0], (X, Y)))
    np.testing.assert_array_equal(read.data, VALUES[0].T)
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))
    assert "stored as (x, y): turned to (y, x)" in read.notes
    stack = read_image(emd(tmp_path / "b.emd", VALUES, (X, Y, T)), frame=5)
    np.testing.assert_array_equal(stack.data, VALUES[..., 5].T)


def test_against_ncempy(tmp_path):
    """Its reader shows the same array, its writer is read with the same axes."""
    ncem = pytest.importorskip("ncempy.io.emd")
    path = emd(tmp_path / "a.emd", VALUES[1], (Y, X))
    theirs, dims = ncem.fileEMD(path, readonly=True).get_emdgroup(0)
    read = read_image(path)
    np.testing.assert_array_equal(read.data, theirs)
    np.testing.assert_allclose(read.pixel_size, [np.diff(dim[0]).mean() for dim in dims])
    dims = tuple((np.arange(n) * d, name, u) for n, (name, d, u) in zip(VALUES.shape, (T, Y, X), strict=True))
    file = ncem.fileEMD(tmp_path / "b.emd", readonly=False)
    file.put_emdgroup("stack", VALUES, dims)
    file.file_hdl.close()
    for i in range(3):
        read = read_image(tmp_path / "b.emd", frame=i)
        np.testing.assert_array_equal(read.data, VALUES[i])
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))


@pytest.mark.skipif(not REAL.is_dir(), reason="the folder of real microscope files is not here")
def test_real_files_lie_as_ncempy_has_them():
    readers = {
        "16_STOimage_1.ser": ("ser", "serReader"),
        "test_STEM_image.dm3": ("dm", "dmReader"),
        "dmTest_float32_nonSquare_diffPixelSize.dm3": ("dm", "dmReader"),
        "temp.mrc": ("mrc", "mrcReader"),
    }
    for name, (module, reader) in readers.items():
        theirs = getattr(pytest.importorskip(f"ncempy.io.{module}"), reader)(str(REAL / name))
        image, values = read_image(REAL / name), np.asarray(theirs["data"])
        np.testing.assert_array_equal(image.data, values if values.ndim == 2 else values[0])
        units = ["A", "A"] if module == "mrc" else theirs["pixelUnit"]
        sizes = [s * parse_unit(u).factor for s, u in zip(theirs["pixelSize"][-2:], units, strict=True)]
        np.testing.assert_allclose(image.pixel_size, sizes, rtol=1e-6)
    with pytest.importorskip("ncempy.io.emdVelox").fileEMDVelox(str(REAL / "velox_si_16x16.emd")) as file:
        for i in range(len(file.list_data)):
            theirs, about = file.get_dataset(i)
            image = read_image(REAL / "velox_si_16x16.emd", signal=i)
            np.testing.assert_array_equal(image.data, theirs if theirs.ndim == 2 else theirs[..., 0])
            np.testing.assert_allclose(image.pixel_size, about["pixelSize"])


@pytest.mark.parametrize("axes", [IMAGE, (("", 1.0, "", False), ("", 1.0, "", False))], ids=["named", "unnamed"])
def test_rosettasciio_writes_it_transposed(tmp_path, axes):
    path = write(tmp_path / "a.emd", "emd", VALUES[0], axes)
    with h5py.File(path) as file:
        assert file["signals/made here/data"].shape == VALUES[0].T.shape
    np.testing.assert_array_equal(read_image(path).data, VALUES[0])
    path = write(tmp_path / "b.emd", "emd", VALUES, [(*axis[:3], i == 0) for i, axis in enumerate(STACK)])
    np.testing.assert_array_equal(read_image(path, frame=2).data, VALUES[2])


def test_stacks_and_cubes_of_emd(tmp_path):
    path = emd(tmp_path / "a.emd", VALUES, (T, Y, X))
    np.testing.assert_array_equal(read_image(path, frame=2).data, VALUES[2])
    np.testing.assert_allclose(read_image(path, frame="mean").data, VALUES.mean(axis=0), rtol=1e-6)
    path = emd(tmp_path / "b.emd", VALUES, (Y, X, E))
    with pytest.raises(ImageReadError, match=r"b\.emd.*3 x 6 x 8\) is a spectrum for each pixel: 'stemseg unmix'"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, frame=7).data, VALUES[..., 7])
    many = np.stack([VALUES, VALUES + 1])
    path = emd(tmp_path / "c.emd", many, (T, ("defocus", 5.0, "n_m"), Y, X))
    np.testing.assert_array_equal(read_image(path, frame=(1, 2)).data, many[1, 2])
    read = read_image(path, frame=(1, 2))
    assert any("frame 1,2 of 6 frames" in note for note in read.notes)
    assert read.frame == (1, 2)
    assert read_image(path, frame=np.int64(5)).frame == read_image(path, frame=[1, 2]).frame == (1, 2)
    for frame in ((2, 0), (0, 3), (0,) * 3, (-1, 0)):
        with pytest.raises(ImageReadError, match="whole number from 0 to 5, or 2 numbers below 2 and 3"):
            read_image(path, frame=frame)


def test_groups_with_running_numbers_are_one_stack(tmp_path):
    for i, values in enumerate(VALUES):
        emd(tmp_path / "a.emd", values, (Y, X), group=f"data/HAADF_depth{i:04d}")
    _, (signal,) = read_signals(tmp_path / "a.emd")
    assert (signal.title, signal.kind, signal.shape) == ("HAADF", "stack", VALUES.shape)
    np.testing.assert_array_equal(list(signal.frames()), VALUES)


def test_dimensions_that_are_missing_or_text(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("g")
        group.attrs["emd_group_type"] = 1
        group["data"], group["dim1"] = VALUES[0], np.array([b"a", b"b"])
        group["dim2"] = 4.0
        broken = file.create_group("broken")
        broken.attrs["emd_group_type"] = 1
        broken["data"], broken["dim1"] = VALUES[0], np.arange(6.0)
        broken["dim1"].attrs["units"] = np.arange(3)
    read = read_image(tmp_path / "a.emd", signal=1)
    np.testing.assert_array_equal(read.data, VALUES[0])
    assert read.pixel_size is None


# --- HyperSpy ------------------------------------------------------------------------------------------------------


def test_hspy_whose_metadata_are_broken(tmp_path):
    """Also one data set without axes, and one of which nothing can be made."""
    path = write(tmp_path / "a.hspy", "hspy", VALUES[0], IMAGE)
    with h5py.File(path, "r+") as file:
        del file["Experiments/made here/metadata"]
        file["Experiments/bare/data"] = VALUES[1]
        file.create_group("Experiments/worse/data")
        file.create_group("Experiments/none")
    _, signals = read_signals(path)
    assert {s.title: s.kind for s in signals} == {"made here": "image", "bare": "image", "worse": "other"}
    read = read_image(path)
    assert read.title == "made here"
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))


def test_hspy_with_points_on_its_axis(tmp_path):
    path = write(tmp_path / "a.hspy", "hspy", VALUES, CUBE)
    with h5py.File(path, "r+") as file:
        about = file["Experiments/made here/axis-2"]
        del about.attrs["scale"]
        about["axis"] = np.arange(8.0) ** 1.5
    _, (signal,) = read_signals(path)
    assert (signal.kind, signal.axes[2].kind) == ("cube", "energy")
    assert signal.axes[2].scale == pytest.approx(7**0.5)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.filterwarnings("ignore:Duplicate name")  # zarr 3 rewrites attributes of a zip file
def test_zspy(tmp_path, packed):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zspy"
    if packed:
        store = zarr.storage.ZipStore(str(path), mode="w")
        zspy_group(zarr.open_group(store, mode="w"), VALUES, STACK)
        store.close()
    else:
        zspy_group(zarr.open_group(str(path), mode="w"), VALUES, STACK)
    read = read_image(path, frame=1)
    np.testing.assert_array_equal(read.data, VALUES[1])
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))
    assert (read.title, read.format) == ("made here", "ZSPY")


def test_a_folder_of_zarr_needs_zarr(tmp_path, monkeypatch):
    (tmp_path / "a.zspy").mkdir()
    monkeypatch.setitem(importlib.import_module("sys").modules, "zarr", None)
    with pytest.raises(ImageReadError, match=r"a\.zspy: reading it needs the package 'zarr'"):
        read_signals(tmp_path / "a.zspy")


def test_text_of():
    for value in ("nm", b"nm", np.bytes_(b"nm"), np.array("nm"), np.array([b"nm"])):
        assert text_of(value) == "nm"
    for value in (None, "_None_", "<undefined>", 3, np.arange(3)):
        assert text_of(value) == ""
