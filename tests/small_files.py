"""Small valid files of every format that this package reads by itself, for tests that damage them and for fuzz.py."""

import io
import json
import zipfile
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import tifffile

from stemseg_core.io import write_tiff

IMAGE = np.arange(24 * 20, dtype=np.uint16).reshape(24, 20)
#: Data that are no images, which some of the files have as well.
CUBE = np.arange(4 * 5 * 9, dtype=np.float32).reshape(4, 5, 9)
SCAN = np.arange(3 * 4 * 6 * 6, dtype=np.float32).reshape(3, 4, 6, 6)
NM = [{"offset": 0.0, "scale": 0.02, "units": "nm"}] * 2
EV, MRAD = [{"offset": 400.0, "scale": 0.5, "units": "eV"}], [{"offset": 0.0, "scale": 1.0, "units": "mrad"}] * 2


def _npz(path: Path) -> None:
    np.savez_compressed(path, image=IMAGE, line=IMAGE[0])


def _stored_npz(path: Path) -> None:
    np.savez(path, image=IMAGE)


def _tiff_of_colours(path: Path) -> None:
    tifffile.imwrite(path, np.stack([IMAGE] * 3, -1), photometric="rgb", compression="zlib")


def _ome(path: Path) -> None:
    about = {"axes": "ZYX", "PhysicalSizeX": 0.02, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.2}
    tifffile.imwrite(path, np.stack([IMAGE] * 2), ome=True, metadata=about | {"PhysicalSizeYUnit": "Å"})


def _palette(path: Path) -> None:
    table = np.repeat(np.arange(256, dtype=np.uint16)[None] * 257, 3, axis=0)
    tifffile.imwrite(path, IMAGE.astype(np.uint8), photometric="palette", colormap=table)


def _ndata(path: Path) -> None:
    array = io.BytesIO()
    np.save(array, IMAGE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", array.getvalue())
        archive.writestr("metadata.json", json.dumps({"title": "made here", "dimensional_calibrations": NM}))


def _nhdf(path: Path) -> None:
    items = ((IMAGE, NM, 2), (CUBE, NM + EV, 1), (SCAN, NM + MRAD, 2))
    with h5py.File(path, "w") as file:
        for i, (data, calibrations, datum) in enumerate(items):
            about = {"title": "made here", "dimensional_calibrations": calibrations, "datum_dimension_count": datum}
            about["collection_dimension_count"] = data.ndim - datum
            file.create_dataset(f"data/{i}", data=data).attrs["properties"] = json.dumps(about)


def _emd(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/made here")
        group.attrs["emd_group_type"] = 1
        group["data"] = IMAGE
        for i, (name, n) in enumerate(zip("yx", IMAGE.shape, strict=True)):
            vector = group.create_dataset(f"dim{i + 1}", data=0.02 * np.arange(n))
            vector.attrs.update({"name": name, "units": "[n_m]"})


def _emd_1(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1})
        for title, data in (("made here", IMAGE), ("datacube", SCAN)):
            group = file.create_group(f"root/{title}")
            group.attrs["emd_group_type"] = "array"
            group["data"] = data
            for i, name in enumerate(("Rx", "Ry", "Qx", "Qy")[: data.ndim]):
                group[f"dim{i}"] = [0.0, 0.2]
                group[f"dim{i}"].attrs.update({"name": name, "units": "A" if i < 2 else "A^-1"})


def _nsid(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for channel, data in enumerate((IMAGE, CUBE)):
            main = file.create_dataset(f"Measurement_000/Channel_00{channel}/made/made", data=data)
            main.attrs.update({"pyNSID_version": "0.0.7", "data_type": "IMAGE", "main_data_name": "made here"})
            for i, (name, n) in enumerate(zip(("x", "y", "energy_loss"), data.shape, strict=False)):
                scale = main.parent.create_dataset(name, data=0.02 * np.arange(n))
                units, kind = ("nm", "SPATIAL") if i < 2 else ("eV", "SPECTRAL")
                scale.attrs.update({"name": name, "units": units, "dimension_type": kind})
                scale.make_scale(name)
                main.dims[i].attach_scale(scale)


def _usid(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for channel, data in enumerate((IMAGE[..., np.newaxis], CUBE)):
            matrix = data.reshape(-1, data.shape[2])
            main = file.create_dataset(f"Measurement_000/Channel_00{channel}/Raw_Data", data=matrix)
            numbers, places = np.indices(data.shape[:2]).reshape(2, -1).T, np.arange(data.shape[2])[np.newaxis]
            tables = {"Position_Indices": numbers, "Position_Values": 0.02 * numbers}
            tables |= {"Spectroscopic_Indices": places, "Spectroscopic_Values": 0.5 * places}
            for name, table in tables.items():
                item = main.parent.create_dataset(name, data=table)
                labels, units = (["Y", "X"], ["nm", "nm"]) if name.startswith("P") else (["Energy"], ["eV"])
                item.attrs.update({"labels": labels, "units": units})
                main.attrs[name] = item.ref


def _mat_73(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("image", data=IMAGE.T).attrs["MATLAB_class"] = np.bytes_("uint16")
        file.create_dataset("cube", data=CUBE.T).attrs["MATLAB_class"] = np.bytes_("single")


def _plain(path: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("entry")
        group["counts"], group["y"], group["x"] = IMAGE, 0.02 * np.arange(24), 0.02 * np.arange(20)
        group["y"].attrs["units"] = group["x"].attrs["units"] = "nm"
        group.attrs["signal"], group.attrs["axes"] = "counts", ["y", "x"]


#: By the name of the file: files that are told by their bytes, and those of HDF5, which are told by what they hold.
BYTES = {
    "array.npy": lambda path: np.save(path, IMAGE),
    "archive.npz": _npz,
    "stored.npz": _stored_npz,
    "imagej.tif": lambda path: write_tiff(path, np.stack([IMAGE] * 2), (0.02, 0.03), "nm", origin=(1.0, 2.0)),
    "colours.tif": _tiff_of_colours,
    "image.ome.tif": _ome,
    "palette.tif": _palette,
    "swift.ndata": _ndata,
    "matlab.mat": lambda path: scipy.io.savemat(path, {"image": IMAGE}, do_compression=True),
}
HDF5 = {
    "swift.nhdf": _nhdf,
    "ncem.emd": _emd,
    "py4dstem.h5": _emd_1,
    "nsid.h5": _nsid,
    "usid.h5": _usid,
    "matlab73.mat": _mat_73,
    "plain.h5": _plain,
}
