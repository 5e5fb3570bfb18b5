"""Containers of arrays, HDF5 and zarr: opened for as long as something is read, and closed again."""

from __future__ import annotations

import contextlib
import functools
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np

from stemseg_core.io.signals import Open

#: Opens a container anew; closes it at the end.
Container: TypeAlias = Callable[[], AbstractContextManager[Any]]


def hdf5_container(path: Path) -> Container:
    """An HDF5 file, opened for reading."""

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        import h5py

        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401 (its import registers filters such as blosc)
        with h5py.File(path, "r") as file:
            yield file

    return opened


def zarr_container(path: Path) -> Container:
    """A zarr group or array, in a folder or a zip file, with any version of zarr."""

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        import zarr

        # Consolidated metadata are those of every array: one that zarr does not know would sink the others.
        alone: dict[str, Any] = {} if zarr.__version__.startswith("2.") else {"use_consolidated": False}
        if path.is_file() and zipfile.is_zipfile(path):
            store = zarr.storage.ZipStore(str(path), mode="r")
            try:
                yield _group(zarr.open(store, mode="r", **alone))
            finally:
                store.close()
        else:
            yield _group(zarr.open(str(path), mode="r", **alone))

    return opened


class Lone(dict[str, Any]):
    """A group of one array that is in none."""

    attrs: ClassVar[dict[str, Any]] = {}

    def visititems(self, look: Callable[[str, Any], object]) -> None:
        """As h5py has it."""
        for name, item in self.items():
            look(name, item)


def _group(opened: Any) -> Any:
    return Lone(array=opened) if hasattr(opened, "shape") else opened


def array_at(container: Container, name: str) -> Open:
    """Opens one array of a container."""
    return functools.partial(_array_at, container, name)


@contextlib.contextmanager
def _array_at(container: Container, name: str) -> Iterator[Any]:
    with container() as opened:
        yield opened[name]


def members(group: Any) -> list[Any]:
    """Groups and arrays of a group of HDF5, without links that lead nowhere."""
    return [item for item in (group.get(name) for name in group) if item is not None]


def text_of(value: Any) -> str:
    """An attribute as text, whatever string type it was stored as; "" for none and for what HyperSpy calls so."""
    if isinstance(value, np.ndarray):
        value = value.item() if value.size == 1 else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) and value not in ("_None_", "<undefined>") else ""
