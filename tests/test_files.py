"""Files that appear complete or not at all; names of files as text."""

import os
import stat

import pytest

from stemseg_core.system.files import atomic, readable


def test_the_file_takes_its_place_when_complete(tmp_path):
    path = tmp_path / "result.npz"
    path.write_text("old")
    with atomic(path) as temporary:
        assert temporary.parent == tmp_path  # on the same disk
        assert temporary.suffix == ".npz"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [True, False])
def test_or_not_at_all(tmp_path, error, old):
    path = tmp_path / "result.npz"
    if old:
        path.write_text("old")
    with pytest.raises(error), atomic(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"] * old


def test_a_writer_that_makes_a_new_file(tmp_path):
    with atomic(str(tmp_path / "a.txt")) as temporary:
        temporary.unlink()
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_are_those_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        with atomic(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
        assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o666 & ~mask
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_a_folder_in_the_way(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match="directory"), atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "nowhere" / "a.txt"):
        pass


def test_long_names(tmp_path):
    path = tmp_path / ("a" * 240 + ".npz")
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_atomic_leaves_the_old_file_if_writing_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half_written():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_written()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_text_become_text():
    assert readable("name é.tif") == "name é.tif"
    assert readable("a\ud800b") == "a?b"
    assert readable(os.fsdecode(b"n\xe4me \xc3\xa9.tif")) == "n\ufffdme é.tif"
