"""How much memory there is, and refusing what does not fit before anything is allocated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from stemseg_core.system.errors import OutOfMemoryError, ParameterError, ParameterTypeError

#: Bytes, a text such as "4 GB", or None: a share of what is free.
MemoryLimit = int | float | str | None

#: Bytes of each unit that a text such as "4 GB" may have, in capitals.
UNITS = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGT", start=1)
    for suffix, base in (("B", 1000), ("IB", 1024))
}
#: What a limit of memory must be, for messages.
EXPECTED = "must be a number of bytes or a text such as '4 GB'"
#: Share of the free memory that may be used when `max_memory` is None. The rest is for other programs and for what is
#: not predicted; with more of it, a machine may begin to swap.
DEFAULT_SHARE = 0.8
#: Most bytes that rows are cached in for later passes when `max_memory` is None. Twice as many: the system takes longer
#: to provide the memory than it takes to make the rows again.
DEFAULT_CACHE = 1e9
#: Where Linux tells about the memory of the system.
MEMINFO = Path("/proc/meminfo")
#: Where it tells about that of this process.
PROCESS = Path("/proc/self/status")
#: Where it tells about that of the control group, which a container is.
CGROUP = Path("/sys/fs/cgroup")


def memory_limit(max_memory: MemoryLimit) -> float:
    """`max_memory` in bytes. None means a share of the free memory, and no limit where that cannot be found out."""
    if max_memory is None:
        return DEFAULT_SHARE * available_memory()
    if isinstance(max_memory, str):
        match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*([kmgt]?i?b?)\s*", max_memory, re.IGNORECASE)
        unit = match[3].upper() if match else ""
        scale = UNITS.get(unit) or UNITS.get(unit + "B")
        if match is None or scale is None:
            raise ParameterError(f"`max_memory` {EXPECTED}, got {max_memory!r}", max_memory=max_memory)
        max_memory = float(match[1] + (match[2] or "")) * scale
    if isinstance(max_memory, bool) or not isinstance(max_memory, int | float | np.integer | np.floating):
        raise ParameterTypeError(f"`max_memory` {EXPECTED}, got {max_memory!r}", max_memory=max_memory)
    if not max_memory > 0:
        raise ParameterError(f"`max_memory` must be positive, got {max_memory!r}", max_memory=max_memory)
    return float(max_memory)


def available_memory() -> float:
    """Bytes that can be allocated without swapping: the system's free memory, or less in a container."""
    try:
        match = re.search(r"MemAvailable:\s*(\d+) kB", MEMINFO.read_text())
    except OSError:
        match = None
    free = float(match[1]) * 1024 if match else float("inf")
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return free
    return free if limit == "max" else max(0.0, min(free, float(limit) - float(used) + _file_cache()))


def resident_memory() -> float:
    """Bytes of memory that this process holds; 0 where that cannot be found out."""
    try:
        match = re.search(r"^VmRSS:\s*(\d+) kB", PROCESS.read_text(), re.MULTILINE)
    except OSError:
        match = None
    return float(match[1]) * 1024 if match else 0.0


def spare_memory(needed: float, max_memory: MemoryLimit) -> float:
    """Bytes that may be spent on saving time, where `needed` bytes must be had in any case.

    With a `max_memory`, the memory that this process holds already is subtracted as well: rows are cached only while
    the whole process stays within the limit.
    """
    spare = memory_limit(max_memory) - needed
    return max(0.0, min(spare, DEFAULT_CACHE) if max_memory is None else spare - resident_memory())


def _file_cache() -> float:
    """Bytes of files that the control group caches: they count as used, but are given up when memory is needed."""
    try:
        match = re.search(r"^inactive_file (\d+)$", (CGROUP / "memory.stat").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return float(match[1]) if match else 0.0


def human_bytes(n: float) -> str:
    """``1536000 -> '1.54 MB'``."""
    for unit in ("B", "kB", "MB", "GB"):
        if n < 999.5:  # what rounds to less than 1000
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.4g} TB"


def require_memory(needed: float, max_memory: MemoryLimit, purpose: str, cure: str) -> None:
    """Raise `OutOfMemoryError` if `needed` bytes exceed the limit; `purpose` and `cure` go into the message."""
    limit = memory_limit(max_memory)
    if needed > limit:
        raise OutOfMemoryError(
            f"{purpose} needs {human_bytes(needed)} but `max_memory` is {human_bytes(limit)}"
            f"{' (a share of what is free)' if max_memory is None else ''}; {cure}",
            max_memory=max_memory,
        )
