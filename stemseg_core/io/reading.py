"""What is put around readers of others: their errors in one form, their noise dropped while they read."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path

from stemseg_core.io.signals import ImageReadError
from stemseg_core.system.errors import OutOfMemoryError
from stemseg_core.system.extras import INSTALL

#: Loggers that say what no user could use, such as that an optional header is missing.
NOISY = ("rsciio", "tifffile", "PIL")
#: Whether filters of warnings belong to a thread rather than the process (an option of Python from 3.14 on).
THREADS_HAVE_FILTERS = bool(getattr(sys.flags, "context_aware_warnings", False))


@contextlib.contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """What readers raise becomes ImageReadError; what they warn of and log is dropped.

    Warnings and loggers belong to the process: they are silent from the first thread that reads to the last, and then
    as they were. Standard output is left alone.
    """
    with _silence, _silent_thread():
        try:
            yield
        except (ImageReadError, OutOfMemoryError):
            raise
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # a reader that fails may leave its file open there
            raise in_words(error, path, expected) from error


def in_words(error: Exception, path: Path, expected: str) -> ImageReadError:
    """An error of a reader as one of ours, that names the file, and the package if one is missing."""
    missing = missing_package(error)
    if missing:
        return ImageReadError(f"{path.name}: reading it needs the package {missing!r}; {INSTALL}")
    reason = " ".join(str(error).split())[:200]
    came = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return ImageReadError(f"{path.name}: expected {expected}, but it cannot be read as such ({came})")


def missing_package(error: BaseException | None) -> str | None:
    """Name of the package that an error misses; readers that check for it themselves name it in the text alone."""
    if re.search(r"can't open directory .*plugin|required filter .* is not registered", str(error)):
        return "hdf5plugin"  # which has the filters that HDF5 looks for there
    if required := re.search(r"requires the '([\w-]+)' package", str(error)):
        return required[1]
    if not isinstance(error, ImportError):
        return None
    quoted = re.search(r"['\"`]([\w-]+)['\"`]", str(error))
    return error.name or (quoted[1] if quoted else " ".join(str(error).split())[:80])


class _Silence:
    """Silences warnings and loggers while any thread is inside; the last one out restores them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._restore = _silenced()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()


def _silenced() -> contextlib.ExitStack:
    """What undoes the silence that this call makes."""
    restore = contextlib.ExitStack()
    if not THREADS_HAVE_FILTERS:
        restore.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
    for logger in map(logging.getLogger, NOISY):
        restore.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    return restore


@contextlib.contextmanager
def _silent_thread() -> Iterator[None]:
    """Silences the warnings of this thread, where each thread has filters of its own."""
    if not THREADS_HAVE_FILTERS:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_silence = _Silence()
