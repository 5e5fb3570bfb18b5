"""What this machine allows, measured: memory traffic, matrix products, and what runs beside us."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from stemseg_core import SIMD_LEVEL
from stemseg_core.system.threads import effective_n_jobs, one_blas_thread


@dataclass(frozen=True)
class Limits:
    """Best figures of `threads` threads: bytes a second, operations a second."""

    threads: int
    read: float
    copy: float
    fresh: float  # writing memory that was just allocated: the pages are made on the way
    float32: float
    float64: float

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s'[: self.threads > 1]}"
        return (
            f"{threads}: memory read {self.read / 1e9:.1f}, copied {self.copy / 1e9:.1f}, first written "
            f"{self.fresh / 1e9:.1f} GB/s; products float32 {self.float32 / 1e9:.0f}, float64 {self.float64 / 1e9:.0f} "
            "GF/s"
        )


@dataclass(frozen=True)
class Work:
    """What a job cannot do without: float32 operations, bytes read, bytes of new memory written."""

    flops: float
    read: float
    written: float = 0.0

    def seconds(self, limits: Limits) -> float:
        """The roofline: the time of the slower of arithmetic and memory, if they overlap without loss."""
        return max(self.flops / limits.float32, self.read / limits.read + self.written / limits.fresh)


def measure(threads: int | None = None, *, quick: bool = False) -> Limits:
    """The limits of `threads` threads (default: all that the package would use), each the best of some rounds."""
    threads = effective_n_jobs(threads)
    rounds, megabytes, side = (2, 8, 256) if quick else (10, 256, 640)
    items = megabytes * 2**20 // 4 // threads
    sources = [np.ones(items, np.float32) for _ in range(threads)]
    targets = [np.zeros(items, np.float32) for _ in range(threads)]
    total = items * 4 * threads
    with ThreadPoolExecutor(threads) as pool:

        def rate(amount: float, function: Callable[..., Any], *arguments: Any, rounds: int = rounds) -> float:
            return amount / best(lambda: list(pool.map(function, *arguments)), rounds)

        with one_blas_thread():
            read = rate(total, np.dot, sources, sources)
            copied = rate(2 * total, np.copyto, targets, sources)
            fresh = rate(total, partial(np.full, items, dtype=np.float32), [1.0] * threads)
            products = []
            # One product a thread: threads within BLAS wait for each other. Short ones: others may interrupt.
            for dtype in (np.float32, np.float64):
                factors = [np.full((side, side), 0.5, dtype) for _ in range(threads)]
                products.append(rate(2.0 * side**3 * threads, np.matmul, factors, factors, rounds=5 * rounds))
    return Limits(threads, read, copied, fresh, *products)


def best(function: Callable[[], Any], rounds: int) -> float:
    function()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def conditions(peers: tuple[str, ...] = ()) -> str:
    """Processor, versions, and which peers are missing, for the record."""
    missing = ", ".join(name for name in peers if installed(name) is None)
    versions = [f"{name} {found}" for name in ("stemseg-core", "numpy", "scipy", *peers) if (found := installed(name))]
    return (
        f"{processor()}, {effective_n_jobs(None)} of {os.cpu_count()} CPUs used, kernels {SIMD_LEVEL}. "
        f"Python {platform.python_version()}, {', '.join(versions)}."
        f"{missing and f' Not installed, hence not raced: {missing}.'}"
    )


def load() -> str:
    """Processes that want a CPU, over the last minute, ours among them."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def peak_memory() -> int:
    """Most bytes that this process has held."""
    try:  # getrusage also counts what the parent held when it started this process
        status = Path("/proc/self/status").read_text()
    except OSError:
        import resource  # noqa: PLC0415 (not on Windows)

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def processor() -> str:
    """Name and widest vectors; virtual machines often hide the model."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in text.split("\n\n", maxsplit=1)[0].splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    vectors = next((v for v in ("avx512f", "avx2", "sse2") if v in fields.get("flags", "").split()), "")
    return " ".join(filter(None, (fields.get("model name", platform.machine()), vectors)))
