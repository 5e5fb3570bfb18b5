"""How much memory there is, and refusing what does not fit before anything is allocated."""

from __future__ import annotations

import re
from pathlib import Path

UNITS = {"": 1, "B": 1}
UNITS |= {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
#: Share of the free memory that is used when `max_memory` is None.
DEFAULT_SHARE = 0.8


def memory_limit(max_memory: int | float | str | None) -> float:
    """`max_memory` in bytes; None means a share of what is free (unlimited where that cannot be found out)."""
    if max_memory is None:
        return DEFAULT_SHARE * available_memory()
    if isinstance(max_memory, str):
        match = re.fullmatch(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kKmMgGtT]?i?[bB]?)\s*", max_memory)
        unit = match[2].upper() if match else None
        if match is None or unit is None:
            raise ValueError(f"max_memory must be a number of bytes or a text such as '4 GB', got {max_memory!r}")
        scale = UNITS.get(unit, UNITS.get(unit + "B", 0))
        max_memory = float(match[1]) * scale
    if not max_memory > 0:
        raise ValueError(f"max_memory must be positive, got {max_memory!r}")
    return float(max_memory)


def available_memory() -> float:
    """Bytes that can be allocated without swapping: the system's free memory, or less in a container."""
    free = float("inf")
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return free
    match = re.search(r"MemAvailable:\s*(\d+) kB", text)
    if match:
        free = float(match[1]) * 1024
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = Path("/sys/fs/cgroup/memory.current").read_text().strip()
    except OSError:
        return free
    return free if limit == "max" else min(free, float(limit) - float(used))


def human_bytes(n: float) -> str:
    """``1536000 -> '1.54 MB'``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def require_memory(needed: float, max_memory: int | float | str | None, purpose: str, cure: str) -> None:
    """Raise MemoryError if `needed` bytes exceed the limit; `purpose` and `cure` go into the message."""
    limit = memory_limit(max_memory)
    if needed > limit:
        raise MemoryError(
            f"{purpose} needs {human_bytes(needed)} but max_memory is {human_bytes(limit)}"
            f"{' (a share of what is free)' if max_memory is None else ''}; {cure}"
        )
