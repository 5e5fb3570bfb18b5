"""Damaged files are read or refused in words (all of io): bytes that were changed, and HDF5 with odd contents."""

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_files import BYTES, CUBE, HDF5, IMAGE, SCAN

from stemseg_core.io import ImageReadError, open_cube, read_image, read_signals

MADE = {}
ANY_FILE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)


@pytest.fixture(scope="module", autouse=True)
def made(tmp_path_factory):
    """Contents of the files, which are written once."""
    folder = tmp_path_factory.mktemp("made")
    for name, write in (BYTES | HDF5).items():
        write(folder / name)
        MADE[name] = (folder / name).read_bytes()


def read_or_refused(path):
    """What the command does with a file: no other error than these may come, and they name it."""
    try:
        read_signals(path)
        assert read_image(path).data.ndim == 2
    except (ImageReadError, MemoryError) as error:
        assert path.name in str(error), error  # noqa: PT017


@pytest.mark.parametrize("name", BYTES | HDF5)
def test_undamaged_files_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(MADE[name])
    read = read_image(tmp_path / name)
    expected = {"nsid.h5": IMAGE.T, "palette.tif": IMAGE.astype(np.uint8)}.get(name, IMAGE)
    np.testing.assert_array_equal(read.data, expected)
    assert (read.pixel_size is not None) == (name.partition(".")[0] in CALIBRATED)


@pytest.mark.parametrize(
    ("name", "cube"),
    [("swift.nhdf", CUBE), ("py4dstem.h5", SCAN), ("nsid.h5", CUBE), ("usid.h5", CUBE), ("matlab73.mat", CUBE)],
)
def test_cubes_are_read_in_rows(tmp_path, name, cube):
    (tmp_path / name).write_bytes(MADE[name])
    with open_cube(tmp_path / name) as file:
        rows = file.cube.rows()
        read = rows.reader()
        found = np.concatenate([read(i) for i in range(rows.n_blocks)])
        if name == "nsid.h5":  # stored as (x, y, energy)
            found = found.reshape(5, 4, 9).transpose(1, 0, 2).reshape(20, 9)
        np.testing.assert_array_equal(found, cube.reshape(len(found), -1))


CALIBRATED = ("imagej", "image", "swift", "ncem", "py4dstem", "nsid", "usid", "plain")


@ANY_FILE
@given(
    name=st.sampled_from(sorted(BYTES)),
    changes=st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4),
    from_end=st.booleans(),
    cut=st.one_of(st.just(0), st.integers(1, 900)),
)
def test_changed_bytes(tmp_path, name, changes, from_end, cut):
    content = bytearray(MADE[name])
    for place, value in changes:
        content[(-1 - place if from_end else place) % len(content)] = value
    (tmp_path / name).write_bytes(content[: max(1, len(content) - cut)])
    read_or_refused(tmp_path / name)


odd_values = st.one_of(
    st.text(max_size=9),
    st.sampled_from(["nm", "1/nm", "file", "IMAGE_4D", "{", "[1]", '{"dimensional_calibrations": [3]}', b"\xff\xfe"]),
    st.integers(-3, 9),
    st.floats(),
    st.lists(st.integers(0, 3), max_size=3).map(np.array),
    st.lists(st.text("xyz\x7f", max_size=3), min_size=1, max_size=3),
)
odd_arrays = st.sampled_from(
    [np.zeros((0, 4)), np.zeros(3), np.zeros((24, 20)), np.zeros((2, 3, 4, 5, 6)), np.full(24, np.nan), np.float64(3)]
)


@ANY_FILE
@given(name=st.sampled_from(sorted(HDF5)), data=st.data())
def test_odd_contents_of_hdf5(tmp_path, name, data):
    """Attributes of other types, values and lengths; arrays of other shapes, or gone."""
    path = tmp_path / name
    path.write_bytes(MADE[name])
    with h5py.File(path, "r+") as file:
        places = ["/"]
        file.visit(places.append)
        for place in data.draw(st.lists(st.sampled_from(places), min_size=1, max_size=3, unique=True)):
            if place not in file:
                continue
            item = file[place]
            names = sorted(set(item.attrs) - {"DIMENSION_LIST", "REFERENCE_LIST"})
            what = data.draw(st.sampled_from(["attribute", "remove", "replace"]))
            if what == "attribute" and names:
                try:
                    item.attrs[data.draw(st.sampled_from(names))] = data.draw(odd_values)
                except (ValueError, TypeError, OverflowError):  # what HDF5 cannot hold
                    continue
            elif what != "attribute" and place != "/":
                attributes = dict(item.attrs)
                del file[place]
                if what == "replace":
                    file[place] = data.draw(odd_arrays)
                    for key in set(attributes) - {"DIMENSION_LIST", "REFERENCE_LIST"}:
                        file[place].attrs[key] = attributes[key]
    read_or_refused(path)
