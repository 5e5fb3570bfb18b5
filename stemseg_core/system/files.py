"""Files that appear complete or not at all, and names of files as text."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def readable(name: str | os.PathLike[str]) -> str:
    """A name as text that can be written anywhere: bytes in it that are no UTF-8 are replaced, by U+FFFD.

    Python has such bytes as lone surrogates, which open the file but cannot be encoded, nor stand in JSON.
    """
    try:
        return os.fsencode(name).decode("utf-8", "replace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        return os.fspath(name).encode("utf-8", "replace").decode()


@contextlib.contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary name beside `path`; the file written there takes its place at once, or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    temporary.touch(exist_ok=False)  # with the permissions of new files, which tempfile does not give
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
