"""Memory limits: what is understood, what is free here and in a container, and refusing before allocating."""

import numpy as np
import pytest

from stemseg_core.system import memory
from stemseg_core.system.memory import (
    available_memory,
    human_bytes,
    memory_limit,
    require_memory,
    resident_memory,
    spare_memory,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4 GB", 4e9), ("4GB", 4e9), ("4g", 4e9), ("4 GiB", 4 * 2**30), ("4Gi", 4 * 2**30), ("1.5 mb", 1.5e6),
        ("100", 100), ("100 B", 100), ("1e9", 1e9), ("1e+9 B", 1e9), ("2E3 kB", 2e6), (" 2 TB ", 2e12), (".5 GB", 5e8),
        (100, 100), (1.5e9, 1.5e9), (np.int64(7), 7), (np.float32(8), 8), (float("inf"), float("inf")),
    ],
)  # fmt: skip
def test_memory_limit(text, expected):
    assert memory_limit(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GB", "four GB", "4 XB", "1.2.3 GB", "4 iB", "4 GBB", "-1 GB", "4,5 GB", ".", "nan"]
)
def test_text_that_is_no_size(text):
    with pytest.raises(ValueError, match=r"max_memory must be a number of bytes or a text such as '4 GB', got"):
        memory_limit(text)


@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan"), "0 GB"])
def test_limit_must_be_positive(value):
    with pytest.raises(ValueError, match="max_memory must be positive, got"):
        memory_limit(value)


@pytest.mark.parametrize("value", [[4], {}, True, 1j, b"4 GB"])
def test_limit_of_the_wrong_kind(value):
    with pytest.raises(TypeError, match="max_memory must be a number of bytes or a text"):
        memory_limit(value)


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Files of a system with 8 GB available; a function adds files of its control group."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n")
    monkeypatch.setattr(memory, "MEMINFO", meminfo)
    monkeypatch.setattr(memory, "CGROUP", tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"memory.{name}").write_text(f"{text}\n")

    return write


def test_available_memory(system):
    assert available_memory() == 8000000 * 1024
    assert memory_limit(None) == pytest.approx(0.8 * 8000000 * 1024)


def test_available_memory_in_a_container(system):
    system(max=3_000_000_000, current=1_000_000_000)
    assert available_memory() == 2e9
    system(max="max")
    assert available_memory() == 8000000 * 1024
    system(max=10**15)
    assert available_memory() == 8000000 * 1024


def test_file_cache_of_a_container_counts_as_free(system):
    system(max=3_000_000_000, current=2_900_000_000, stat="anon 400000000\nfile 2500000000\ninactive_file 2000000000")
    assert available_memory() == pytest.approx(2.1e9)


def test_a_full_container_still_refuses_in_words(system):
    system(max=1_000_000, current=2_000_000)
    assert available_memory() == 0
    with pytest.raises(MemoryError, match=r"the table needs 1 kB but max_memory is 0 B \(a share of"):
        require_memory(1000, None, "the table", "cut it")


def test_unlimited_where_it_cannot_be_found_out(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "nothing")
    assert available_memory() == float("inf")
    require_memory(1e30, None, "everything", "")


def test_this_machine():
    assert 0 < available_memory() < 1e15 or available_memory() == float("inf")


@pytest.mark.parametrize(
    ("n", "text"),
    [(0, "0 B"), (999, "999 B"), (999.7, "1 kB"), (1000, "1 kB"), (1536000, "1.54 MB"), (999_600_000, "1 GB"),
     (2e13, "20 TB"), (5e15, "5000 TB"), (float("inf"), "inf TB")],
)  # fmt: skip
def test_human_bytes(n, text):
    assert human_bytes(n) == text


def test_require_memory():
    require_memory(1000, 1000, "a", "b")
    with pytest.raises(MemoryError, match=r"^the array needs 2\.5 GB but max_memory is 1 GB; take less$"):
        require_memory(2.5e9, "1 GB", "the array", "take less")


def test_spare_memory(system, tmp_path, monkeypatch):
    status = tmp_path / "status"
    monkeypatch.setattr(memory, "PROCESS", status)
    assert spare_memory(1e8, "1 GB") == 9e8  # where the process does not tell what it holds
    status.write_text("VmHWM:\t900000 kB\nVmRSS:\t  500000 kB\n")
    assert spare_memory(1e8, "1 GB") == 9e8 - 500000 * 1024
    assert spare_memory(6e8, "1 GB") == 0
    assert spare_memory(1e8, None) == memory.DEFAULT_CACHE
    assert spare_memory(0.8 * 8000000 * 1024 - 5, None) == pytest.approx(5)


def test_resident_memory_here():
    assert 0 <= resident_memory() < 1e12
