"""Results in one file: arrays as npz, the rest as JSON in it, without pickle; written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemseg_core.system.files import atomic

Result = TypeVar("Result")


def save_archive(
    path: str | os.PathLike[str], version: int, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]
) -> None:
    """Write arrays and what JSON knows, with the version of the format.

    Raises
    ------
    ValueError
        If an array is of objects.
    """
    objects = [name for name, array in arrays.items() if array.dtype.hasobject]
    if objects:
        raise ValueError(f"{', '.join(objects)}: arrays of objects are not saved, as reading them would need pickle")
    text = json.dumps({"format": version, **rest})
    members: Any = {"json": np.array(text), **arrays}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **members)


def load_archive(
    path: str | os.PathLike[str], version: int, what: str, made: Callable[[dict[str, Any]], Result]
) -> Result:
    """``made(values)`` of what `save_archive` wrote; `what` is the class whose ``save`` it was, for messages.

    Raises
    ------
    ValueError
        If the file is another, damaged, or of another version.
    """
    name = os.fspath(path)
    try:
        # Opened here, since np.load leaves a broken file open.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            values = json.loads(str(stored["json"]))
            written = values.pop("format")
            if written == version:
                return made(values | {array: stored[array] for array in stored.files if array != "json"})
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{name}: not a file that {what}.save wrote, or damaged ({error})") from error
    raise ValueError(f"{name}: file format {written}, this version of stemseg-core reads {version}")


def as_tuple(value: Any) -> Any:
    """JSON made lists of the tuples it was given."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value
