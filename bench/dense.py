"""Measures a dense job from end to end: an image to a map with a window at every pixel, its time and its memory.

Each method runs in a process of its own: ``python bench/dense.py --method kmeans --image IMAGE.npy --window 64``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import Table, duration, main
from machine import peak_memory
from sklearn.metrics import adjusted_rand_score

from stemseg_core import datasets, segment

METHODS = {"kmeans": "k-means, ten restarts", "nmf": "NMF"}
N_PHASES = 6


def one(arguments: argparse.Namespace) -> None:
    """Segment a stored image; print seconds and bytes, and leave the map beside the image."""
    image = np.load(arguments.image)
    before = peak_memory()
    start = time.perf_counter()
    result = segment(image, N_PHASES, method=arguments.method, window=arguments.window, step=1, random_state=0)
    seconds = time.perf_counter() - start
    figures = {"seconds": seconds, "bytes": peak_memory() - before}
    np.save(arguments.image.with_name(f"{arguments.method}.npy"), result.label_image)
    print(json.dumps(figures))


def table(size: int, window: int) -> Table:
    image, truth = datasets.polycrystal((size, size), n_grains=24, n_orientations=N_PHASES, dose=20, random_state=0)
    n = (size - window + 1) ** 2
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, image)
        for method, name in METHODS.items():
            command = [sys.executable, __file__, "--method", method, "--image", str(path), "--window", str(window)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{method} failed: {done.stderr}")
            figures = json.loads(done.stdout)
            agreement = adjusted_rand_score(truth.ravel(), np.load(path.with_name(f"{method}.npy")).ravel())
            rows.append(
                [
                    f"stemseg-core, {name}",
                    duration(figures["seconds"]),
                    duration(figures["seconds"] / n),
                    f"{figures['bytes'] / 1e6:.0f} MB",
                    f"{agreement:.3f}",
                ]
            )
    return Table(
        f"Segmentation of {size} x {size} px in {N_PHASES} phases, {window} px windows, step 1: {n} windows",
        ["", "time", "a window", "peak memory", "adjusted Rand index"],
        rows,
        ["Memory on top of the interpreter, the libraries and the image; the index compares the map with the truth."],
    )


def races(arguments: argparse.Namespace) -> Iterator[Table]:
    yield table(96, 32) if arguments.quick else table(2048, 64)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--method")
    parser.add_argument("--image", type=Path)
    parser.add_argument("--window", type=int)
    known, _ = parser.parse_known_args()
    if known.method:
        one(known)
    else:
        main("dense", races)
