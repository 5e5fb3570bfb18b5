"""Versions of everything that has a say in the numbers, for bug reports and for the record in every result."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from stemseg_core._kernels import SIMD_LEVEL
from stemseg_core.system.threads import blas_libraries

#: Of this package.
VERSION = version("stemseg-core")
PACKAGES = ("stemseg-core", "numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl")
OPTIONAL = ("matplotlib", "rosettasciio", "tifffile", "h5py", "dask", "hyperspy", "sidpy", "xarray")


def versions() -> dict[str, str]:
    """Versions of the packages that compute, of Python and the platform, the SIMD level, and the BLAS libraries."""
    found = {name: version(name) for name in PACKAGES}
    found["python"] = platform.python_version()
    found["platform"] = platform.platform()
    found["simd"] = SIMD_LEVEL
    found["blas"] = ", ".join(blas_libraries())
    return found


def show_versions() -> None:
    """Print `versions` and those of the optional packages.

    Examples
    --------
    >>> import stemseg_core
    >>> stemseg_core.show_versions()  # doctest: +ELLIPSIS
    stemseg-core ...
    """
    lines = versions()
    for name in OPTIONAL:
        try:
            lines[name] = version(name)
        except PackageNotFoundError:
            lines[name] = "not installed"
    width = max(map(len, lines))
    for name, value in lines.items():
        print(f"{name:{width}}  {value}")
