"""Nion Swift's formats (io.nion): zip files and HDF5 with one description, whose offsets are in units."""

import io
import json
import zipfile

import h5py
import numpy as np
import pytest

from stemseg_core.io import ImageReadError, read_image, read_signals

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.random((20, 30)).astype(np.float32)


def calibration(scale, units, offset=0.0):
    return {"offset": offset, "scale": scale, "units": units}


NM = [calibration(0.02, "nm", -0.2), calibration(30, "pm", -450)]
MRAD = [calibration(0.001, "rad", -0.01)] * 2


def about(*calibrations, **more):
    return {"title": "made here", "dimensional_calibrations": list(calibrations)} | more


def write_ndata(path, data, description, compression=zipfile.ZIP_STORED):
    array = io.BytesIO()
    np.save(array, data)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("data.npy", array.getvalue())
        archive.writestr("metadata.json", json.dumps(description))


@pytest.fixture(params=["ndata", "ndata1", "h5", "nhdf"])
def write(request, tmp_path):
    """Writes a data item in each of the formats."""
    path = tmp_path / f"a.{request.param}"

    def put(data, description):
        if request.param.startswith("ndata"):
            write_ndata(path, data, description)
        else:
            with h5py.File(path, "w") as file:
                item = file.create_dataset("data" if request.param == "h5" else "data/0", data=data)
                item.attrs["properties"] = json.dumps(description)
        return path

    return put


def test_an_image_with_its_calibration(write):
    path = write(IMAGE, about(*NM, is_sequence=False, collection_dimension_count=0, datum_dimension_count=2))
    read = read_image(path)
    np.testing.assert_array_equal(read.data, IMAGE)
    assert (read.title, read.format, read.notes) == ("made here", "Nion Swift", ())
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))
    y, x = read.signals[0].axes
    assert (y.name, x.name) == ("y", "x")
    np.testing.assert_allclose((y.offset, x.offset), (-0.2, -0.45))


@pytest.mark.parametrize(
    ("shape", "description", "kind", "names"),
    [
        (
            (5, 20, 30),
            about(calibration(0.1, "s"), *NM, is_sequence=True),
            "stack",
            "time y x",
        ),
        ((4, 6, 50), about(*NM, calibration(0.5, "eV", 400), datum_dimension_count=1), "cube", "y x energy"),
        ((4, 6, 50), about(*NM, calibration(0.5, "eV", 400)), "cube", "y x energy"),
        ((3, 4, 16, 16), about(*NM, *MRAD), "scan", "y x ky kx"),
        ((16, 16), about(*MRAD), "pattern", "ky kx"),
        ((50,), about(calibration(0.5, "eV")), "spectra", "energy"),
    ],
)
def test_what_a_data_item_is(write, shape, description, kind, names):
    (signal,) = read_signals(write(RANDOM.random(shape), description))[1]
    assert signal.kind == kind
    assert [axis.name for axis in signal.axes] == names.split()
    if kind == "stack":
        assert signal.frame(3).shape == (20, 30)


@pytest.mark.parametrize("name", ["spatial_calibrations", "intrinsic_spatial_calibrations"])
def test_descriptions_of_older_versions(write, name):
    old = [{"origin": -0.2, "scale": 0.02, "units": "nm"}] * 2
    for description in ({name: old}, {"data_sources": [{name: old}]}, {"data_source": {name: old}}):
        read = read_image(write(IMAGE, description))
        assert read.pixel_size == (0.02, 0.02)
        assert read.signals[0].axes[0].offset == -0.2


def test_colours_have_blue_first(write):
    colours = RANDOM.integers(0, 255, (20, 30, 3), dtype=np.uint8)
    read = read_image(write(colours, about(*NM)))
    np.testing.assert_allclose(read.data, colours[..., ::-1] @ [0.299, 0.587, 0.114], atol=1e-3)
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))


@pytest.mark.parametrize("description", [{}, [], {"dimensional_calibrations": 3}, about(*NM, *NM), about(None, "nm")])
def test_what_is_not_described_is_not_calibrated(write, description):
    read = read_image(write(IMAGE, description))
    np.testing.assert_array_equal(read.data, IMAGE)
    assert read.pixel_size is None


def test_several_data_items_in_one_file(tmp_path):
    with h5py.File(tmp_path / "a.nhdf", "w") as file:
        for i, (data, title) in enumerate([(RANDOM.random((4, 6, 50)), "EELS"), (IMAGE, "HAADF")]):
            calibrations = [*NM, calibration(0.5, "eV")][: data.ndim]
            file.create_dataset(f"data/{i}", data=data).attrs["properties"] = json.dumps(
                about(*calibrations, title=title)
            )
    read = read_image(tmp_path / "a.nhdf")
    assert read.title == "HAADF"
    assert [signal.kind for signal in read.signals] == ["cube", "image"]


def test_compressed_arrays_and_arrays_without_a_description(tmp_path):
    write_ndata(tmp_path / "a.ndata", IMAGE, about(*NM), zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(read_image(tmp_path / "a.ndata").data, IMAGE)
    with zipfile.ZipFile(tmp_path / "b.ndata", "w") as archive, archive.open("data.npy", "w") as stream:
        np.save(stream, IMAGE)
    np.testing.assert_array_equal(read_image(tmp_path / "b.ndata").data, IMAGE)


def test_what_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ndata", "w") as archive:
        archive.writestr("metadata.json", "{}")
    with pytest.raises(ImageReadError, match=r"a\.ndata: expected data\.npy in it, found metadata\.json"):
        read_image(tmp_path / "a.ndata")
    write_ndata(tmp_path / "b.ndata", IMAGE, {})
    content = (tmp_path / "b.ndata").read_bytes().replace(b"(20, 30), }", b"(90000,90)}", 1)
    (tmp_path / "b.ndata").write_bytes(content)
    with pytest.raises(ImageReadError, match=r"b\.ndata"):
        read_image(tmp_path / "b.ndata")
