"""What `tests/checksums.py` computes: results of the public parts of the package, by name, on small data."""

from checksum_cases import command, images, rows
from checksum_cases.common import CASES, digest

__all__ = ["CASES", "command", "digest", "images", "rows"]
