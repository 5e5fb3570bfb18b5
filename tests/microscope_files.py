"""Small files of formats of microscopes, made by what writes them: what each holds is known."""

import contextlib
import importlib
import io
import json
import warnings
import zipfile

import h5py
import numpy as np
import scipy.io
from PIL import Image as Picture

from stemseg_core.io import write_tiff

#: (name, size in `units`, units, whether it is of navigation) of axes.
IMAGE = (("y", 0.02, "nm", False), ("x", 0.03, "nm", False))
STACK = (("t", 1.0, "s", True), *IMAGE)
CUBE = (("y", 0.2, "nm", True), ("x", 0.3, "nm", True), ("Energy", 10.0, "eV", False))
SCAN = (("y", 0.2, "nm", True), ("x", 0.3, "nm", True), ("ky", 0.1, "1/nm", False), ("kx", 0.1, "1/nm", False))

VALUES = np.random.default_rng(0).integers(0, 200, (4, 6, 5, 7))
IMAGES, STACKS, CUBES, SCANS = VALUES[0, 0], VALUES[0], VALUES[0], VALUES
#: Files by writers of RosettaSciIO: (name, plugin, data, axes, kind).
MADE = [
    ("a.blo", "blockfile", SCANS[..., :5].astype("u1"), SCAN, "scan"),
    ("a.sur", "digitalsurf", IMAGES.astype("i4"), IMAGE, "image"),
    ("map.sur", "digitalsurf", CUBES.astype("i2"), CUBE, "cube"),
    ("a.nxs", "nexus", IMAGES.astype("i4"), IMAGE, "image"),
    ("cube.nxs", "nexus", CUBES.astype("u2"), CUBE, "cube"),
    ("a.prz", "pantarhei", IMAGES.astype("u2"), IMAGE, "image"),
    ("a.rpl", "ripple", STACKS.astype("u2"), STACK, "stack"),
    ("cube.rpl", "ripple", CUBES.astype("f4"), CUBE, "cube"),
    ("a.unf", "semper", IMAGES.astype("f4"), IMAGE, "image"),
    ("a_000.tvips", "tvips", STACKS.astype("u2"), STACK, "stack"),
    ("a.msa", "msa", IMAGES[0].astype("f8"), CUBE[-1:], "spectra"),
]


def rosetta_signal(data, axes, title="made here", signal_type=""):
    """A signal as RosettaSciIO's writers take it."""
    described = [
        {"_type": "UniformDataAxis", "name": n, "scale": s, "offset": 0.0, "size": z, "units": u, "navigate": nav}
        | {"index_in_array": i}
        for i, ((n, s, u, nav), z) in enumerate(zip(axes, data.shape, strict=True))
    ]
    about = {"General": {"title": title}, "Signal": {"signal_type": signal_type}}
    signal = {"data": data, "axes": described, "metadata": about, "original_metadata": {}, "learning_results": {}}
    signal |= {"attributes": {"_lazy": False, "ragged": False}, "models": {}, "tmp_parameters": {}}
    return signal | {"package_info": {"name": "x", "version": "0"}}


def write(path, plugin, data, axes, **options):
    """Write a file by RosettaSciIO."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        about = {name: options.pop(name) for name in ("title", "signal_type") if name in options}
        signal = rosetta_signal(np.asarray(data), axes, **about)
        importlib.import_module(f"rsciio.{plugin}").file_writer(str(path), signal, **options)
    return path


def zspy_group(store, data, axes, title="made here"):
    """Lay out a zarr group as HyperSpy does, with whatever version of zarr."""
    group = store.create_group("Experiments").create_group(title)
    (group.create_array if hasattr(group, "create_array") else group.create_dataset)("data", data=data)
    for i, (name, scale, units, navigate) in enumerate(axes):
        about = {"name": name, "scale": scale, "units": units, "navigate": navigate, "offset": 0.0}
        group.create_group(f"axis-{i}").attrs.update(about)


def emd(path, data, dims, group="data/image", versions=(0, 2)):
    """An EMD file as ncempy writes it; dims are (name, size of a step, units)."""
    with h5py.File(path, "a") as file:
        file.attrs["version_major"], file.attrs["version_minor"] = versions
        held = file.create_group(group)
        held.attrs["emd_group_type"] = 1
        held["data"] = data
        for i, ((name, step, units), n) in enumerate(zip(dims, np.shape(data), strict=True), start=1):
            dim = held.create_dataset(f"dim{i}", data=np.arange(n) * step)
            dim.attrs["name"], dim.attrs["units"] = np.bytes_(name.encode()), np.bytes_(units.encode())
    return path


def velox(path, images, cube_channels=0):
    """A Velox file: {detector: frames (n, y, x)}, and a cube of so many channels with an event in every pixel."""

    def metadata(detector, unit="m", size="2e-11"):
        about = {
            "BinaryResult": {
                "Detector": detector,
                "DetectorIndex": "0",
                "PixelSize": {"height": size, "width": size},
                "Offset": {"x": "0", "y": "0"},
                "PixelUnitX": unit,
                "PixelUnitY": unit,
            },
            "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1500000000"}},
            "Detectors": {"Detector-0": {"DetectorName": detector, "Dispersion": "10", "OffsetEnergy": "-100"}},
            "Scan": {"FrameTime": "2"},
            "CustomProperties": {},
        }
        text = json.dumps(about).encode().ljust(2000, b"\0")
        return np.frombuffer(text, np.uint8)[:, None]

    with h5py.File(path, "w") as file:
        display = {"display": {}, "dataPath": "/Data/Image/none", "id": ""}
        file.create_dataset("Displays/ImageDisplay/a", data=[json.dumps(display)], dtype=h5py.string_dtype())
        file.create_dataset("Version", data=[json.dumps({"format": "Velox", "version": 11})], dtype=h5py.string_dtype())
        for i, detector in enumerate(images):
            frames = np.moveaxis(np.asarray(images[detector]), 0, -1)
            group = file.create_group(f"Data/Image/{i:032x}")
            group.create_dataset("Data", data=frames, chunks=(*frames.shape[:2], 1))
            group["Metadata"] = np.repeat(metadata(detector), frames.shape[2], axis=1)
        if cube_channels:
            n, ny, nx = np.shape(next(iter(images.values())))
            stream = np.tile(np.array([1, 65535], np.uint16), n * ny * nx)
            group = file.create_group("Data/SpectrumStream/s")
            group.create_dataset("Data", data=stream[:, None], chunks=(len(stream), 1))
            settings = json.dumps({"bincount": str(cube_channels), "StreamEncoding": "uint16"})
            group.create_dataset("AcquisitionSettings", data=[settings], dtype=h5py.string_dtype())
            group["Metadata"] = metadata("SuperX")
            group = file.create_group("Data/SpectrumImage/s")
            group["Metadata"] = metadata("SuperX")
            settings = json.dumps({"endFramePosition": str(n)})
            group.create_dataset("SpectrumImageSettings", data=[settings], dtype=h5py.string_dtype())
    return path


def corpus(folder):
    """Write one small file of every format that can be written here."""
    np.save(folder / "array.npy", IMAGES)
    np.savez(folder / "arrays.npz", image=IMAGES, stack=STACKS)
    Picture.fromarray(IMAGES.astype("u1")).save(folder / "picture.png")
    write_tiff(folder / "picture.tif", IMAGES.astype("u1"), (0.02, 0.03))
    for name, plugin, data, axes, _ in MADE:
        write(folder / name, plugin, data, axes)
    write(folder / "image.hspy", "hspy", IMAGES, IMAGE)
    emd(folder / "image.emd", IMAGES, (("y", 0.02, "n_m"), ("x", 0.03, "n_m")))
    velox(folder / "velox.emd", {"HAADF": STACKS.astype("u2")})
    with zipfile.ZipFile(folder / "nion.ndata", "w") as archive:
        array, sides = io.BytesIO(), [{"offset": 0.0, "scale": 0.02, "units": "nm"}] * 2
        np.save(array, IMAGES)
        archive.writestr("data.npy", array.getvalue())
        archive.writestr("metadata.json", json.dumps({"title": "made here", "dimensional_calibrations": sides}))
    scipy.io.savemat(folder / "image.mat", {"image": IMAGES, "stack": STACKS})
    with h5py.File(folder / "arrays.h5", "w") as file:
        file["group/data"] = IMAGES
    with contextlib.suppress(ModuleNotFoundError):
        zarr = importlib.import_module("zarr")
        zarr.save_array(str(folder / "array.zarr"), IMAGES)
        zspy_group(zarr.open_group(str(folder / "image.zspy"), mode="w"), STACKS, STACK)
