"""Measures every way of transforming windows, and how much slower than the best the one is that the cost model picks.

    python bench/transforms.py            # the table
    python bench/transforms.py --fit      # and constants for the models in stemseg_core/windows/transforms.py

Times are CPU times of one thread, the best of some rounds, on float32 and the best SIMD level. The exit status is 1 if
a choice takes more than 1.3 times the best.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import nnls

from stemseg_core import WindowFFT, WindowMatrix
from stemseg_core.windows import transforms
from stemseg_core.windows.tiles import TileGrid, TileReader

#: Windows (with many small factors, few, none), steps, zooms and tapers on which the models are judged.
WINDOWS = (16, 24, 32, 48, 49, 64, 81, 90, 96, 100, 122, 128, 160, 192, 256, 384, 512)
STEPS = (1, 2, 3, 4, 8, 16, 64)
ZOOMS = (1, 2, 4)
TAPERS = ("hann", "blackman", ("tukey", 0.25))
#: What a choice may cost, against the best.
ALLOWED = 1.3


def seconds(function: Callable[[], Any], rounds: int, least: float) -> float:
    """Least CPU time of a call, each round at least `least` seconds long."""
    start = time.thread_time()
    function()
    repeats = max(1, int(least / (time.thread_time() - start + 1e-9)))
    found = []
    for _ in range(rounds):
        start = time.thread_time()
        for _ in range(repeats):
            function()
        found.append((time.thread_time() - start) / repeats)
    return min(found)


def tile(matrix: WindowMatrix, kind: type[Any], rounds: int, least: float) -> float:
    """Seconds a window of a whole tile, from transformed image rows."""
    plan = replace(matrix.plan, along_y=kind(matrix.plan.axis_y, matrix.hx + 1))
    tiles = TileGrid(1, matrix.grid_shape, plan.tile(matrix.grid_shape))
    read, first = TileReader(plan, matrix.frames, tiles.tile), tiles[0]
    read(first)
    windows = (first.y1 - first.y0) * (first.x1 - first.x0)
    return seconds(lambda: read(first), rounds, least) / windows


def rows(matrix: WindowMatrix, kind: type[Any], rounds: int, least: float) -> float:
    """Seconds a piece of an image row."""
    across = matrix.tile_shape[1]
    columns = slice(0, (across - 1) * matrix.step[1] + matrix.window[1])
    pixels = matrix.frames.pixels(0, slice(0, 64), columns, matrix.dtype)
    transform = kind(matrix.plan.axis_x)
    scratch = transform.scratch(pixels.shape[1], across)
    lanes = transforms.window_kernels.WIDEST_LANES
    out = transforms.aligned((2, 64, (-(-across * (matrix.hx + 1) // lanes) + 1 | 1) * lanes), matrix.dtype)
    sums = np.empty((64, across))
    return seconds(lambda: transform(pixels, 0, out, sums, scratch), rounds, least) / (64 * across)


def settings(quick: bool) -> Iterator[tuple[int, int, int, Any]]:
    if quick:
        yield from ((16, 4, 2, "hann"), (24, 1, 1, "hann"))
        return
    for window, step, zoom, taper in itertools.product(WINDOWS, STEPS, ZOOMS, TAPERS):
        if step <= window // 2 and (taper == "hann" or step < 4):
            yield window, step, zoom, taper


def main() -> int:
    status = 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two settings: does it run?")
    parser.add_argument("--fit", action="store_true", help="print constants fitted to what was measured")
    arguments = parser.parse_args()
    rounds, least = (1, 0.0) if arguments.quick else (3, 0.01)
    image = np.random.default_rng(0).poisson(30, (1200, 1200)).astype(np.float32)
    measured: dict[type[Any], list[tuple[tuple[Any, ...], float]]] = {}
    regrets = []
    done = set()
    for window, step, zoom, taper in settings(arguments.quick):
        matrix = WindowFFT(window, step, zoom=zoom, taper=taper).matrix(image)
        for kind, ways, geometry, measure in (
            ("rows", transforms.ROW_TRANSFORMS, (matrix.plan.axis_x,), rows),
            ("windows", transforms.WINDOW_TRANSFORMS, (matrix.plan.axis_y, matrix.hx + 1), tile),
        ):
            key = (kind, window, zoom, step if kind == "windows" else min(step, 8), taper if kind == "windows" else "")
            if key in done:
                continue
            done.add(key)
            costs = {way: transforms.cost(way, *geometry) for way in ways}
            costs = {way: cost for way, cost in costs.items() if cost is not None}
            times = {way: measure(matrix, way, rounds, least) * 1e9 for way in costs}
            for way, found in times.items():
                measured.setdefault(way, []).append((geometry, found))
            chosen, best = min(costs, key=costs.get), min(times, key=times.get)
            regrets.append(times[chosen] / times[best])
            figures = ", ".join(f"{way.__name__} {times[way]:.3g} ({costs[way]:.3g})" for way in costs)
            mark = "" if regrets[-1] <= ALLOWED else f"  <-- {regrets[-1]:.2f} times the best"
            print(f"{kind} {window}, step {step}, zoom {zoom}, {taper}: {figures} ns{mark}", flush=True)
    regrets = np.array(regrets)
    print(
        f"\n{len(regrets)} choices: at worst {regrets.max():.2f} times the best, {(regrets > ALLOWED).sum()} above "
        f"{ALLOWED}, {(regrets == 1).mean():.0%} the best. In brackets: the model's costs."
    )
    if regrets.max() > ALLOWED and not arguments.quick:
        status = 1
    if arguments.fit:
        for way, found in measured.items():
            terms = np.array([way.terms(*geometry) for geometry, _ in found])
            times = np.array([time for _, time in found])
            constants, _ = nnls(terms / times[:, None], np.ones(len(times)))
            ratio = terms @ constants / times
            fit = f"model / measured {ratio.min():.2f}..{ratio.max():.2f}"
            print(f"{way.__name__}: {np.round(constants, 4).tolist()}, {fit}")
    return status


if __name__ == "__main__":
    sys.exit(main())
