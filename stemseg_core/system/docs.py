"""Texts of parameters that many functions share, written once: a line ``{n_jobs}`` in a docstring becomes its text."""

from __future__ import annotations

import re
from typing import Any, TypeVar

Documented = TypeVar("Documented", bound=Any)

SHARED = {
    "X": """
X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)
    Rows by features. Read in blocks, never changed.
""",
    "random_state": """
random_state : int, RandomState, Generator or None, default=0
    Seed of what is drawn at random. An int gives the same result every time, None another one every time; a generator
    moves on.
""",
    "n_neighbors": """
n_neighbors : int, optional
    If given, outliers are left out first: rows with fewer than this number of others near them, see Notes of `NFINDR`.
    Five are enough against rows that are wrong one by one.
""",
    "indices_": """
indices_ : ndarray of shape (k,), int
    Row numbers of the endmembers.
""",
    "outliers_": """
outliers_ : ndarray of shape (m,), int
    Numbers of the rows that were left out as outliers.
""",
    "log_volume_": """
log_volume_ : float
    ``log |det [1; Y]|`` of the principal component scores Y of the endmembers: log of (k - 1)! times the volume.
""",
    "certificate_": """
certificate_ : float
    Largest modulus of a barycentric coordinate of any row with respect to the endmembers. If that row replaced the
    endmember of that coordinate, the volume of the simplex would be larger by this factor.
""",
    "n_jobs": """
n_jobs : int, optional
    Threads, as in joblib: -1 means all CPUs. Default: all CPUs that this process may use. The result has the same bits
    for any number.
""",
    "max_memory": """
max_memory : int, float or str, optional
    Memory that may be used, in bytes or as "4 GB"; if more is needed, MemoryError is raised before any work. Default:
    a share of what is free.
""",
    "progress": """
progress : callable, optional
    ``progress(done, total, stage)`` is called after each piece of the work; if it returns False, `Stopped` is raised.
""",
}
SHARED["execution"] = SHARED["n_jobs"] + SHARED["max_memory"].lstrip("\n") + SHARED["progress"].lstrip("\n")


def shared_docs(documented: Documented) -> Documented:
    """Fill in the shared texts of a docstring, with the indentation of the lines that ask for them."""
    if documented.__doc__:  # not with python -OO
        documented.__doc__ = re.sub(r"(?m)^( *)\{(\w+)\}$", _filled, documented.__doc__)
    return documented


def _filled(line: re.Match[str]) -> str:
    return "\n".join(line[1] + text if text else "" for text in SHARED[line[2]].strip("\n").split("\n"))
