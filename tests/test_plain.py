"""Arrays in HDF5 and zarr by path (io.plain, io.points, io.zarrs), NSID, USID (io.usid), EMD 1.0 (io.emdfile)."""

import json
import zipfile

import h5py
import numpy as np
import pytest
from small_files import HDF5

from stemseg_core.io import ImageReadError, read_image, read_signals
from stemseg_core.io.points import axis_of_points
from stemseg_core.io.usid import Folded

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.random((20, 30)).astype(np.float32)
CUBE = RANDOM.random((6, 7, 50))


def test_points_of_an_axis():
    axis, note = axis_of_points("x", 3 + 0.2 * np.arange(9), "A")
    assert (axis.kind, note) == ("length", None)
    np.testing.assert_allclose((axis.offset, axis.scale), (0.3, 0.02))
    assert axis_of_points("x", [0.0, 1.0, 4.0], "nm")[1] == "its points are uneven; their mean distance is taken"
    for points in ([1.0], ["a", "b"], np.ones((2, 2)), []):
        assert axis_of_points("x", points, "nm")[0].kind == "none"


# --- by path -------------------------------------------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/data"], file["group/larger"] = IMAGE, RANDOM.random((40, 50))
        file["vector"], file["number"], file["text"] = np.arange(4), 3.0, "abc"
        file["loop"] = file["group"]
        file["nowhere"], file["link"] = h5py.SoftLink("/gone"), h5py.SoftLink("/group/data")
    return tmp_path / "a.h5"


@pytest.mark.parametrize("inside", ["/group/data", "group/data", "/group/data/", "link"])
def test_an_array_is_taken_by_its_path(plain, inside):
    read = read_image(f"{plain}::{inside}")
    np.testing.assert_array_equal(read.data, IMAGE)
    assert (read.title, read.format, len(read.signals)) == (inside.strip("/"), "HDF5", 1)


def test_a_path_into_a_file_of_a_known_format(tmp_path):
    for name in ("py4dstem.h5", "ncem.emd"):
        HDF5[name](tmp_path / name)
        (title, *_) = (signal.title for signal in read_signals(tmp_path / name)[1] if signal.kind == "image")
        path = {"py4dstem.h5": "root", "ncem.emd": "data"}[name] + "/made here/data"
        for inside in (title, path):
            read = read_image(f"{tmp_path / name}::{inside}")
            assert (len(read.signals), read.pixel_size) == (1, pytest.approx((0.02, 0.02)))


def test_arrays_under_a_path(plain):
    assert [s.title for s in read_signals(f"{plain}::/group")[1]] == ["group/data", "group/larger"]


def test_arrays_are_listed_and_the_largest_image_is_taken(plain):
    read = read_image(plain)
    assert [s.title for s in read.signals] == ["group/data", "group/larger", "vector"]
    assert read.data.shape == (40, 50)
    with pytest.raises(ImageReadError, match=r"a\.h5: expected an array at /gone, there are /group/larger \(40 x 50"):
        read_image(f"{plain}::/gone")


def test_a_file_whose_name_has_the_mark(tmp_path):
    np.save(tmp_path / "a::b.npy", IMAGE)
    np.testing.assert_array_equal(read_image(tmp_path / "a::b.npy").data, IMAGE)
    np.savez(tmp_path / "a.npz", image=IMAGE, other=IMAGE[:5])
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'a.npz'}::other").data, IMAGE[:5])


def test_nothing_in_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["text"] = "abc"
    with pytest.raises(ImageReadError, match=r"a\.h5: expected an HDF5 file .* holds text"):
        read_image(tmp_path / "a.h5")


@pytest.mark.parametrize("axes", [["y", "x"], "y:x"])
def test_axes_of_nexus(tmp_path, axes):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        group = file.create_group("entry/data")
        group["counts"], group["y"], group["x"] = IMAGE, 0.02 * np.arange(20), 0.3 * np.arange(30)
        group["y"].attrs["units"], group["x"].attrs["units"] = "nm", "angstrom"
        group.attrs["signal"], group.attrs["axes"] = "counts", axes if isinstance(axes, list) else axes.split(":")
    np.testing.assert_allclose(read_image(tmp_path / "a.h5").pixel_size, (0.02, 0.03))


# --- zarr ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def zarr():
    return pytest.importorskip("zarr")


def put(group, name, array, **attributes):
    group[name] = array
    group[name].attrs.update(attributes)


def test_zarr_by_path_and_as_xarray_writes_it(tmp_path, zarr):
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    put(root, "plain", IMAGE + 1)
    put(root, "haadf", IMAGE, _ARRAY_DIMENSIONS=["y", "x"])
    put(root, "y", 0.02 * np.arange(20), units="nm", _ARRAY_DIMENSIONS=["y"])
    put(root, "x", 30.0 * np.arange(30), units="pm", _ARRAY_DIMENSIONS=["x"])
    read = read_image(tmp_path / "a.zarr")
    assert (read.title, [s.title for s in read.signals]) == ("haadf", ["haadf", "plain"])
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'a.zarr'}::/plain").data, IMAGE + 1)


def test_zarr_in_a_zip_file(tmp_path, zarr):
    zarr.save_array(str(tmp_path / "folder"), IMAGE)
    np.testing.assert_array_equal(read_image(tmp_path / "folder").data, IMAGE)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for file in (tmp_path / "folder").rglob("*"):
            archive.write(file, file.relative_to(tmp_path / "folder"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.zip").data, IMAGE)


def test_an_array_that_zarr_does_not_know_sinks_no_other(tmp_path, zarr):
    """Markers in .zspy are such arrays to zarr 3."""
    path = tmp_path / "a.zspy"
    options = {"mode": "w"} if zarr.__version__.startswith("2.") else {"mode": "w", "zarr_format": 2}
    group = zarr.open_group(str(path), **options).require_group("Experiments/a")
    group["data"] = IMAGE
    group.require_group("metadata/Markers")["ragged"] = np.zeros(3)
    about = path / "Experiments/a/metadata/Markers/ragged/.zarray"
    told = json.loads(about.read_text()) | {"dtype": "|O", "filters": [{"id": "vlen-array", "dtype": "<f8"}]}
    about.write_text(json.dumps(told | {"fill_value": None}))
    metadata = {str(file.relative_to(path)): json.loads(file.read_text()) for file in path.rglob(".z*")}
    (path / ".zmetadata").write_text(json.dumps({"metadata": metadata, "zarr_consolidated_format": 1}))
    np.testing.assert_array_equal(read_image(path).data, IMAGE)


def test_zarr_of_one_array(tmp_path, zarr):
    zarr.save_array(str(tmp_path / "a.zarr"), IMAGE)
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr").data, IMAGE)


def test_ome_zarr(tmp_path, zarr):
    root = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    root["0"], root["1"] = IMAGE, IMAGE[::2, ::2]
    units = [{"name": name, "type": "space", "unit": "nanometer"} for name in "yx"]
    scaled = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [0.02 * 2**i, 0.03 * 2**i]}]}
        for i in (0, 1)
    ]
    root.attrs["multiscales"] = [{"version": "0.4", "axes": units, "datasets": scaled}]
    np.testing.assert_allclose(read_image(tmp_path / "a.zarr").pixel_size, (0.02, 0.03))
    np.testing.assert_allclose(read_image(f"{tmp_path / 'a.zarr'}::1").pixel_size, (0.04, 0.06))


# --- NSID ----------------------------------------------------------------------------------------------------------


def write_nsid(path, data, data_type, dimensions):
    """As pyNSID does: the array and a scale for each of its axes; (name, points, units, type)."""
    with h5py.File(path, "w") as file:
        group = file.create_group("Measurement_000/Channel_000/nDim_Data")
        main = group.create_dataset("nDim_Data", data=data)
        main.attrs.update({"pyNSID_version": "0.0.7.2", "data_type": data_type, "main_data_name": "made here"})
        for i, (name, points, units, kind) in enumerate(dimensions):
            scale = group.create_dataset(name, data=points)
            scale.attrs.update({"name": name, "units": units, "dimension_type": kind})
            scale.make_scale(name)
            main.dims[i].attach_scale(scale)


SPACE = [("x", 1 + 0.02 * np.arange(20), "nm", "SPATIAL"), ("y", 0.3 * np.arange(30), "angstrom", "SPATIAL")]


def test_nsid_image(tmp_path):
    """sidpy has x first, and shows the transpose."""
    write_nsid(tmp_path / "a.h5", IMAGE, "IMAGE", SPACE)
    read = read_image(tmp_path / "a.h5")
    np.testing.assert_array_equal(read.data, IMAGE.T)
    np.testing.assert_allclose(read.pixel_size, (0.03, 0.02))
    assert (read.title, read.format, read.notes) == ("made here", "NSID", ("stored as (x, y): turned to (y, x)",))
    assert read.signals[0].axes[0].offset == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "data_type", "more"),
    [
        ("cube", "SPECTRAL_IMAGE", [("energy_loss", 400 + 0.5 * np.arange(9), "eV", "SPECTRAL")]),
        ("stack", "IMAGE_STACK", [("frame", np.arange(9), "frame", "TEMPORAL")]),
        ("scan", "IMAGE_4D", [(k, 0.1 * np.arange(n), "1/nm", "RECIPROCAL") for k, n in (("u", 9), ("v", 8))]),
    ],
)
def test_nsid_tells_cubes_from_stacks(tmp_path, kind, data_type, more):
    shape = (20, 30, *(len(points) for _, points, _, _ in more))
    write_nsid(tmp_path / "a.h5", np.zeros(shape, np.float32), data_type, [*SPACE, *more])
    (signal,) = read_signals(tmp_path / "a.h5")[1]
    assert signal.kind == kind


def test_nsid_by_its_writer(tmp_path):
    sidpy, nsid = pytest.importorskip("sidpy"), pytest.importorskip("pyNSID")
    dataset = sidpy.Dataset.from_array(IMAGE, title="HAADF")
    dataset.data_type = "image"
    for i, (name, points, units, kind) in enumerate(SPACE):
        dataset.set_dimension(i, sidpy.Dimension(points, name, units=units, dimension_type=kind.lower()))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        nsid.hdf_io.write_nsid_dataset(dataset, file.create_group("Measurement_000/Channel_000"), "nDim_Data")
    read = read_image(tmp_path / "a.h5")
    np.testing.assert_array_equal(read.data, IMAGE.T)
    np.testing.assert_allclose(read.pixel_size, (0.03, 0.02))


# --- USID ----------------------------------------------------------------------------------------------------------


def write_usid(path, matrix, positions, spectra, fast_first=False):
    """As pyUSID does: a matrix, and the numbers and values of the axes (name, points, units) of rows and columns."""
    with h5py.File(path, "w") as file:
        group = file.create_group("Measurement_000/Channel_000")
        main = group.create_dataset("Raw_Data", data=matrix)
        for side, axes in (("Position", positions), ("Spectroscopic", spectra)):
            numbers = np.indices([len(points) for _, points, _ in axes]).reshape(len(axes), -1)
            values = np.array([points[n] for (_, points, _), n in zip(axes, numbers, strict=True)], np.float32)
            order = slice(None, None, -1 if fast_first else 1)
            for what, table in (("Indices", numbers.astype(np.uint32)), ("Values", values)):
                rows = table[order]
                item = group.create_dataset(f"{side}_{what}", data=rows.T if side == "Position" else rows)
                item.attrs["labels"] = [name.encode() for name, _, _ in axes][order]
                item.attrs["units"] = [units.encode() for _, _, units in axes][order]
                main.attrs[f"{side}_{what}"] = item.ref


NOTHING = [("none", np.zeros(1), "a.u.")]
PLACES = [("Y", 2e-11 * np.arange(6), "m"), ("X", 3e-11 * np.arange(7), "m")]
ENERGY = [("Energy", 400 + 0.5 * np.arange(50), "eV")]


@pytest.mark.parametrize("fast_first", [False, True])
def test_usid_folds_its_matrices(tmp_path, fast_first):
    write_usid(tmp_path / "a.h5", CUBE[..., 0].reshape(-1, 1), PLACES, NOTHING, fast_first)
    read = read_image(tmp_path / "a.h5")
    np.testing.assert_array_equal(read.data, CUBE[..., 0])
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03), rtol=1e-6)
    write_usid(tmp_path / "a.h5", CUBE.reshape(42, 50), PLACES, ENERGY, fast_first)
    name, (signal,) = read_signals(tmp_path / "a.h5")
    assert (name, signal.kind, signal.shape) == ("USID", "cube", (6, 7, 50))
    assert [axis.name for axis in signal.axes] == ["Y", "X", "Energy"]
    np.testing.assert_array_equal(signal.frame(11), CUBE[..., 11])
    assert (signal.axes[2].offset, signal.axes[2].scale) == (400, 0.5)


def test_usid_without_a_complete_grid_is_listed(tmp_path):
    write_usid(tmp_path / "a.h5", CUBE.reshape(42, 50), PLACES, ENERGY)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["Measurement_000/Channel_000/Position_Indices"][3] = 0
    (signal,) = read_signals(tmp_path / "a.h5")[1]
    assert signal.kind == "other"
    assert "no complete grid" in signal.notes[0]


def test_folded_matrices_are_indexed_as_the_array():
    array = RANDOM.random((3, 4, 5, 6))
    folded = Folded(array.reshape(12, 30), (3, 4), (5, 6))
    for selection in [(1,), (slice(None), 2), (0, slice(1, 3), 4), (0, 2, 3, 1), (2, 3, 4, 5), ()]:
        np.testing.assert_array_equal(folded[selection], array[selection])
    np.testing.assert_array_equal(np.asarray(folded), array)
    assert folded[:0].shape == (0, 4, 5, 6)


# --- EMD 1.0 -------------------------------------------------------------------------------------------------------


def write_emdfile(path, data, vectors, labels=None):
    """As emdfile does: vectors (name, first two points, units) of the axes, but for the first one of a stack."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        root = file.create_group("made_root")
        root.attrs["emd_group_type"] = "root"
        group = root.create_group("made")
        group.attrs.update({"emd_group_type": "array", "python_class": "Array"})
        group["data"] = data
        for i, (name, points, units) in enumerate(vectors):
            group[f"dim{i}"] = points
            group[f"dim{i}"].attrs.update({"name": name, "units": units})
        if labels:
            group[f"dim{len(vectors)}"] = [label.encode() for label in labels]
            group[f"dim{len(vectors)}"].attrs["name"] = "_labels_"


R = [("Rx", [0, 0.2], "A"), ("Ry", [0, 0.3], "A")]
Q = [("Qx", [0, 0.01], "A^-1"), ("Qy", [0, 0.01], "A^-1")]


@pytest.mark.parametrize(
    ("shape", "vectors", "labels", "kind", "size"),
    [
        ((20, 30), R, None, "image", (0.02, 0.03)),
        ((3, 20, 30), R, ["bf", "df", "haadf"], "stack", (0.02, 0.03)),
        ((4, 5, 16, 16), R + Q, None, "scan", None),
        ((16, 16), Q, None, "pattern", None),
        ((20, 30), [("x", [0, 1], "pixels"), ("y", [0, 1], "pixels")], None, "image", None),
    ],
)
def test_emd_of_py4dstem(tmp_path, shape, vectors, labels, kind, size):
    data = RANDOM.random(shape)
    write_emdfile(tmp_path / "a.h5", data, vectors, labels)
    name, (signal,) = read_signals(tmp_path / "a.h5")
    assert (name, signal.title, signal.kind) == ("EMD 1.0", "made", kind)
    assert signal.pixel_size == (size and pytest.approx(size))
    if labels or size:
        np.testing.assert_array_equal(signal.frame(0), data[0] if labels else data)


def test_emd_without_arrays_says_what_it_holds(tmp_path):
    write_emdfile(tmp_path / "a.h5", np.zeros(3), [])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.move("made_root/made/data", "made_root/made/x")
    with pytest.raises(
        ImageReadError, match=r"a\.h5: expected data sets of EMD 1\.0, the file holds made_root/made/x \(3"
    ):
        read_image(tmp_path / "a.h5")


def test_emd_by_its_writer(tmp_path):
    emdfile = pytest.importorskip("emdfile")
    names = {"dims": [0.02, 0.03], "dim_units": ["nm", "nm"], "dim_names": ["Rx", "Ry"]}
    stack = RANDOM.random((3, 20, 30))
    emdfile.save(str(tmp_path / "a.h5"), emdfile.Array(stack, name="virtual", slicelabels=["a", "b", "c"], **names))
    read = read_image(tmp_path / "a.h5", frame=2)
    np.testing.assert_array_equal(read.data, stack[2])
    np.testing.assert_allclose(read.pixel_size, (0.02, 0.03))


@pytest.mark.parametrize("inside", ["", "/"])
def test_the_root_is_a_group_as_well(plain, inside):
    assert read_image(f"{plain}::{inside}").title == read_image(plain).title
