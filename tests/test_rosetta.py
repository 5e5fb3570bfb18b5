"""Formats read by RosettaSciIO (rosetta), finished as by HyperSpy (posed), with Velox (velox), quietly (reading)."""

import contextlib
import importlib
import io
import logging
import os
import sys
import threading
import warnings
import zipfile
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
from microscope_files import IMAGE, IMAGES, MADE, STACK, STACKS, corpus, velox, write

from stemseg_core.io import ImageReadError, read_image, read_signals
from stemseg_core.io.posed import posed
from stemseg_core.io.reading import missing_package, reading
from stemseg_core.io.rosetta import PLUGINS, Plugin, plugin_signals, specification, specifications

REAL = Path(os.environ.get("STEMSEG_DATA", Path(__file__).parents[2] / "shared" / "data")) / "formats"


@pytest.mark.parametrize(("name", "plugin", "data", "axes", "kind"), MADE, ids=[made[0] for made in MADE])
def test_lazily_and_as_a_whole_the_same_values(tmp_path, name, plugin, data, axes, kind):
    path = write(tmp_path / name, plugin, data, axes)
    _, signals = read_signals(path)
    signal = next(s for s in signals if s.shape == data.shape)
    assert signal.kind == kind
    with reading(path, "data"), signal.open() as array:
        np.testing.assert_array_equal(np.asarray(array), data)
    if kind in ("image", "stack"):
        read = read_image(path, signal=signal.index)
        np.testing.assert_array_equal(read.data, data.reshape(-1, *data.shape[-2:])[0])
    if kind in ("cube", "scan"):
        with pytest.raises(ImageReadError, match="stemseg unmix"):
            read_image(path)
        whole = np.moveaxis(data, -1, 0) if kind == "cube" else data.reshape(-1, *data.shape[-2:])
        np.testing.assert_array_equal(read_image(path, frame=3).data, whole[3])


@pytest.mark.skipif(not REAL.is_dir(), reason="the folder of real microscope files is not here")
def test_real_files_lazily_and_as_a_whole():
    """Every data set of every real file that RosettaSciIO reads."""
    compared = 0
    for path in sorted(REAL.iterdir()):
        suffix = path.suffix.lower().removeprefix(".")
        for reader in specifications():
            if suffix not in map(str.lower, reader["file_extensions"]) or reader["name"] in ("TIFF", "EMD", "USID"):
                continue
            try:
                with reading(path, "data"):
                    signals = plugin_signals(reader, path)
                    options = PLUGINS.get(reader["name"], Plugin()).options
                    eager = importlib.import_module(reader["api"]).file_reader(str(path), lazy=False, **options)
            except ImageReadError:  # of another format, or without the package that it needs
                continue
            for signal, whole in zip(signals, map(posed, eager), strict=True):
                with reading(path, "data"), signal.open() as array:
                    np.testing.assert_array_equal(np.asarray(array), whole.data)
                compared += 1
    assert compared > 15


def test_an_array_that_is_not_compressed_is_read_lazily(tmp_path):
    path = write(tmp_path / "a.prz", "pantarhei", IMAGES.astype("u2"), IMAGE)
    with zipfile.ZipFile(path) as packed, zipfile.ZipFile(tmp_path / "b.prz", "w", zipfile.ZIP_STORED) as stored:
        for name in packed.namelist():
            stored.writestr(name, packed.read(name))
    with zipfile.ZipFile(tmp_path / "b.prz") as stored, zipfile.ZipFile(tmp_path / "c.prz", "w") as turned:
        array = io.BytesIO()
        np.save(array, np.asfortranarray(IMAGES.astype("u2")))
        for name in stored.namelist():
            turned.writestr(name, array.getvalue() if name == "data.npy" else stored.read(name))
    for name, lazy in (("a.prz", False), ("b.prz", True), ("c.prz", False)):
        (signal,) = plugin_signals(specification("PantaRhei"), tmp_path / name)
        with signal.open() as array:
            assert isinstance(array, da.Array) is lazy
            np.testing.assert_array_equal(np.asarray(array), IMAGES)


def test_the_page_of_formats_is_true(tmp_path):
    """Every reader of RosettaSciIO has its word in it, and what is read here as is said there."""
    page = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
    elsewhere = {"EMD": "Velox EMD", "HSPY": "HSPY", "Image": "picture", "numpy": "NumPy", "USID": "HDF5"}
    for reader in specifications():
        assert elsewhere.get(reader["name"], reader["name"]) in page
    corpus(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        if path.suffix != ".raw":
            name, signals = read_signals(path)
            assert f"\n| {name} |" in page
            assert all(s.kind != "other" and not any("cannot be read" in note for note in s.notes) for s in signals)


def test_the_table_names_readers_that_exist():
    assert set(PLUGINS) <= {found["name"] for found in specifications()}


def fake_reader(monkeypatch, read, **plugin):
    """A reader called "fake"."""
    module = type(sys)("fake_reader")
    module.file_reader = read
    monkeypatch.setitem(sys.modules, "fake_reader", module)
    monkeypatch.setitem(PLUGINS, "fake", Plugin(**plugin))
    return {"name": "fake", "api": "fake_reader"}


def axes_of(shape):
    return [{"name": n, "scale": 1.0, "units": "nm", "navigate": False} for n in "zyx"[-len(shape) :]]


def test_what_has_no_lazy_mode_is_read_as_a_whole_within_the_memory(tmp_path, monkeypatch):
    calls = []

    def read(path, lazy):
        calls.append(lazy)
        if lazy:
            raise NotImplementedError("Lazy loading is not supported.")
        return [{"data": IMAGES, "axes": axes_of(IMAGES.shape), "metadata": {}}]

    path = tmp_path / "a.fake"
    path.write_bytes(b"x" * 1000)
    reader = fake_reader(monkeypatch, read, growth=2.0)
    (signal,) = plugin_signals(reader, path)
    np.testing.assert_array_equal(signal.frame(0), IMAGES)
    assert calls == [True, False]
    monkeypatch.setattr("stemseg_core.system.memory.available_memory", lambda: 2000.0)
    with pytest.raises(MemoryError, match=r"a\.fake: reading all of it needs 2 kB"):
        plugin_signals(reader, path)
    assert calls == [True, False, True]


def test_one_bad_data_set_does_not_sink_the_others(tmp_path, monkeypatch):
    bad = {"data": IMAGES, "axes": None, "metadata": {"General": {"title": "bad"}}}
    good = {"data": IMAGES, "axes": axes_of(IMAGES.shape), "metadata": {"General": {"title": "good"}}}
    path = tmp_path / "a.fake"
    path.write_bytes(b"x")
    signals = plugin_signals(fake_reader(monkeypatch, lambda path, lazy: [bad, good]), path)
    assert [(s.title, s.kind) for s in signals] == [("bad", "other"), ("good", "image")]
    assert "cannot be read" in signals[0].notes[0]


def test_what_a_reader_fails_at_is_read_in_pieces(tmp_path, monkeypatch):
    def read(path, lazy, part=None):
        if part != "images":
            raise ValueError(f"bad {part}")
        return [{"data": IMAGES, "axes": axes_of(IMAGES.shape), "metadata": {}}] * 2

    path = tmp_path / "a.fake"
    path.write_bytes(b"x")
    reader = fake_reader(monkeypatch, read, pieces=lambda path: [(path, {"part": p}) for p in ("spectra", "images")])
    signals = plugin_signals(reader, path)
    assert [(s.index, s.kind) for s in signals] == [(0, "other"), (1, "image"), (2, "image")]
    assert "bad spectra" in signals[0].notes[0]
    np.testing.assert_array_equal(signals[2].frame(0), IMAGES)
    reader = fake_reader(monkeypatch, read, pieces=lambda path: [(path, {"part": "spectra"})])
    with pytest.raises(ValueError, match="bad None"):
        plugin_signals(reader, path)


def numbered(names, sizes):
    """Axes of which the first is of navigation."""
    named = enumerate(zip(names, sizes, strict=True))
    return [{"name": n, "index_in_array": i, "navigate": i == 0, "size": size} for i, (n, size) in named]


def test_a_spectrum_image_of_digitalmicrograph_has_its_energies_last():
    values = np.random.default_rng(0).random((9, 4, 5))
    axes = numbered("Eyx", (9, 4, 5))
    finish = [lambda s: s.to_signal1D(optimize=True), lambda s: s.squeeze()]
    found = posed({"data": values, "axes": axes, "post_process": finish})
    np.testing.assert_array_equal(found.data, np.moveaxis(values, 0, -1))
    assert [(a["name"], a["navigate"]) for a in found.axes] == [("y", True), ("x", True), ("E", False)]
    one = posed({"data": values[:, :1], "axes": [axes[0], axes[1] | {"size": 1}, axes[2]], "post_process": finish})
    assert [a["name"] for a in one.axes] == ["x", "E"]
    np.testing.assert_array_equal(one.data, values[:, 0].T)


def test_colours_of_digitalsurf():
    values = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(float)
    axes = numbered("cyx", (3, 4, 5))

    def finish(signal):
        signal = signal.transpose()
        signal.change_dtype("uint8")
        signal.change_dtype("rgb8")
        return signal

    found = posed({"data": values, "axes": axes, "post_process": [finish]})
    assert (found.data.shape, found.data.dtype.names) == ((4, 5), ("R", "G", "B"))
    np.testing.assert_array_equal(found.data["G"], values[1])
    assert [a["name"] for a in found.axes] == ["y", "x"]


# --- Velox ---------------------------------------------------------------------------------------------------------


def test_velox_image_that_is_meant_and_its_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 99, (3, 8, 9)).astype(np.uint16)
    path = velox(tmp_path / "a.emd", {"Fe": frames[:1] + 5.0, "HAADF": frames})
    read = read_image(path)
    assert (read.title, read.format) == ("HAADF", "Velox EMD")
    np.testing.assert_allclose(read.pixel_size, 0.02)
    np.testing.assert_array_equal(read.data, frames[0])
    assert any("signal 1, 'HAADF'; others there are: 0: Fe" in note for note in read.notes)
    np.testing.assert_array_equal(read_image(path, frame=2).data, frames[2])
    np.testing.assert_allclose(read_image(path, frame="mean").data, frames.mean(axis=0))


def test_velox_cube_is_described_without_being_decoded(tmp_path, monkeypatch):
    pytest.importorskip("sparse")
    frames = np.random.default_rng(0).integers(0, 99, (2, 4, 5)).astype(np.uint16)
    path = velox(tmp_path / "a.emd", {"HAADF": frames}, cube_channels=16)
    monkeypatch.setattr("stemseg_core.io.velox.CUBES", {"select_type": "none that there is"})
    _, (image, cube) = read_signals(path)
    assert (image.kind, image.n_frames) == ("stack", 2)
    np.testing.assert_array_equal(read_image(path, frame=1).data, frames[1])
    assert (cube.kind, cube.shape, cube.dtype, cube.title) == ("cube", (4, 5, 16), "uint16", "EDS")
    np.testing.assert_allclose(cube.pixel_size, 0.02)


@pytest.mark.long  # what decodes it is compiled first
def test_velox_cube_is_decoded_when_it_is_opened(tmp_path):
    pytest.importorskip("sparse")
    path = velox(tmp_path / "a.emd", {"HAADF": np.ones((2, 4, 5), np.uint16)}, cube_channels=16)
    _, (_, cube) = read_signals(path)
    np.testing.assert_array_equal(cube.frame(1), np.full((4, 5), 2))  # one count a frame, in channel 1
    assert not cube.frame(0).any()


# --- reading -------------------------------------------------------------------------------------------------------


def test_no_file_stays_open(tmp_path):
    write(tmp_path / "a.hspy", "hspy", IMAGES, IMAGE)
    write(tmp_path / "b.nxs", "nexus", STACKS, STACK)
    write(tmp_path / "c.rpl", "ripple", STACKS.astype("u2"), STACK)
    velox(tmp_path / "d.emd", {"HAADF": STACKS.astype("u2")})
    kept = []
    for path in sorted(tmp_path.iterdir()):
        if path.suffix != ".raw":
            kept += [read_image(path), read_image(path, frame="mean")]
    for path in tmp_path.iterdir():
        if path.suffix in (".hspy", ".nxs", ".emd"):
            with h5py.File(path, "r+"):
                pass
    if Path("/proc/self/fd").exists():
        held = {os.path.realpath(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")}
        assert not held & {os.path.realpath(path) for path in tmp_path.iterdir()}
    assert kept


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ModuleNotFoundError("No module named 'mrcz'", name="mrcz"), "mrcz"),
        (ModuleNotFoundError("The 'sparse' library was not found. To load EDS ..."), "sparse"),
        (ImportError("`pyUSID` is needed"), "pyUSID"),
        (
            OSError("Can't read data (can't open directory (/usr/local/lib/plugin). Please ..."),
            "hdf5plugin",
        ),
        (ValueError("<COMPRESSION.LERC: 34887> requires the 'imagecodecs' package"), "imagecodecs"),
        (ValueError("'a'"), None),
    ],
)
def test_a_missing_package_is_named(error, name):
    assert missing_package(error) == name
    if name:
        needs = rf"a\.emd: reading it needs the package '{name}'; pip install"
        with pytest.raises(ImageReadError, match=needs), reading(Path("a.emd"), "data"):
            raise error


def test_threads_that_read_leave_the_process_alone():
    """Two threads read, one after the other begins and ends: all is silent meanwhile, and restored at the end."""
    logger, level = logging.getLogger("rsciio"), logging.getLogger("rsciio").level
    filters, stdout = list(warnings.filters), sys.stdout
    started, ended = threading.Semaphore(0), [threading.Event(), threading.Event()]

    def read(i):
        with reading(Path("a.dm4"), "data"):
            started.release()
            ended[i].wait(10)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(2)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for thread in threads:
            thread.start()
            assert started.acquire(timeout=10)
        for i, thread in enumerate(threads):
            assert logger.level > logging.CRITICAL
            warnings.warn("not heard", stacklevel=1)
            print("heard")
            ended[i].set()
            thread.join(10)
    assert printed.getvalue() == "heard\nheard\n"
    assert (logger.level, list(warnings.filters), sys.stdout) == (level, filters, stdout)
