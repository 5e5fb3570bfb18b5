"""Optional packages: what is missing is said before any work, with the command that installs it."""

from __future__ import annotations

from importlib.util import find_spec

INSTALL = 'pip install "stemseg-core[cli]"'


class MissingExtraError(ImportError):
    """A package of an optional extra is not installed; the message says how to install it."""


def require_extra(*packages: str) -> None:
    """Raise MissingExtraError unless all `packages`, which come with the extra "cli", are installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise MissingExtraError(f"needs the package {', '.join(missing)}: {INSTALL}")
