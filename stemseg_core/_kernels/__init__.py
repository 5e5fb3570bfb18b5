"""Compiled kernels, built once for each SIMD level; the best level that the processor has is chosen here, once.

``STEMSEG_SIMD=baseline|v3|v4`` overrides the choice. ``from stemseg_core._kernels import <stage> as kernels`` gives the
chosen module. All levels are there side by side as modules ``stemseg_core._kernels.<stage>_<level>``.
"""

import os
from importlib import import_module
from importlib.util import find_spec

from stemseg_core._kernels.cpu import simd_levels

STAGES = ("abundances", "compress", "gram", "kmeans", "nfindr", "nmf", "strips", "windows")


def available_levels() -> list[str]:
    """SIMD levels that were built and that this processor has, the best one last."""
    return [level for level in simd_levels() if find_spec(f"{__name__}.windows_{level}") is not None]


def _choose() -> str:
    levels = available_levels()
    wanted = os.environ.get("STEMSEG_SIMD")
    if not wanted:
        return levels[-1]
    if wanted not in levels:
        raise ImportError(f"STEMSEG_SIMD={wanted!r}: expected one of {', '.join(levels)} on this machine")
    return wanted


SIMD_LEVEL = _choose()

for _stage in STAGES:
    globals()[_stage] = import_module(f"{__name__}.{_stage}_{SIMD_LEVEL}")
