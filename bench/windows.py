"""Races the window features against FFT libraries on the same windows, and against pycroscopy.

Options beside the common ones of harness.py: ``--pycroscopy PYTHON`` (or the variable STEMSEG_BENCH_PYCROSCOPY), the
interpreter of an environment that has pycroscopy 0.63, which needs an older SciPy than the other peers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.fft
from data import scene
from harness import Contender, Race, main
from machine import Work
from numpy.lib.stride_tricks import sliding_window_view
from scipy.signal import get_window

from stemseg_core import WindowFFT, WindowMatrix, compress
from stemseg_core.system.threads import effective_n_jobs

THREADS = effective_n_jobs(None)
POOL = ThreadPoolExecutor(THREADS)
#: Bytes of windows that the peers transform at once, per thread: they fit the second-level cache.
BATCH_BYTES = 2**20
#: Windows after which a peer is stopped that takes a call for each of them.
LOOP_WINDOWS = 1000
#: Size of the image, window, step.
GRIDS = ((2048, 256, 64), (2048, 128, 16), (2048, 64, 8), (2048, 32, 4))


@dataclass(frozen=True)
class Job:
    """Hann-tapered windows of a square image, zoom 2, square root: what every contender computes."""

    size: int
    window: int
    step: int

    @cached_property
    def image(self) -> np.ndarray:
        return scene(self.size)

    @cached_property
    def settings(self) -> WindowFFT:
        return WindowFFT(self.window, self.step)

    @cached_property
    def matrix(self) -> WindowMatrix:
        return self.settings.matrix(self.image)

    @cached_property
    def windows(self) -> np.ndarray:
        """View of shape (ny, nx, window, window)."""
        return sliding_window_view(self.image, (self.window, self.window))[:: self.step, :: self.step]

    @property
    def h(self) -> int:
        return self.matrix.hy

    @cached_property
    def ky(self) -> np.ndarray:
        """Where the frequencies -h..h stand in an FFT."""
        return np.r_[self.window - self.h : self.window, 0 : self.h + 1]

    @cached_property
    def taper(self) -> np.ndarray:
        taper = get_window("hann", self.window)
        return np.outer(taper, taper).astype(np.float32)

    def empty(self, rows: int) -> np.ndarray:
        """Room for the features of the first `rows` rows of windows, with both halves of the column kx = 0."""
        return np.empty((rows, self.windows.shape[1], 2 * self.h + 1, self.h + 1), np.float32)


def needs(matrix: WindowMatrix) -> Work:
    """Shared image rows, then windows: by FFTs or folded products, whichever needs less; ten operations a feature."""
    (n, d), (wy, wx), (ny, nx) = matrix.shape, matrix.window, matrix.grid_shape

    def real(w: int, h: int) -> float:
        folded = 2 * ((h + 1) * (w // 2 + 1) + h * ((w - 1) // 2))
        return min(folded, 2.5 * w * np.log2(w))

    image_rows = (ny - 1) * matrix.step[0] + wy
    rows = image_rows * nx * real(wx, matrix.hx)
    columns = n * 2 * (matrix.hx + 1) * real(wy, matrix.hy)
    return Work(rows + columns + 10 * n * d, matrix.image.nbytes, n * d * matrix.dtype.itemsize)


# Peers. Each of them gets what an expert would do: windows in batches that stay in cache, on all threads.


def by_batches(job: Job, transform: Callable[[np.ndarray, int], np.ndarray], rows: int) -> np.ndarray:
    """Features of the first rows of windows; `transform` gives the columns 0..h of the FFTs of a batch."""
    out = job.empty(rows)
    length = max(1, BATCH_BYTES // job.taper.nbytes)
    nx = out.shape[1]

    def work(place: tuple[int, int]) -> None:
        j, i = place
        windows = job.windows[j, i : i + length]
        tapered = windows - windows.mean(axis=(1, 2), keepdims=True)
        tapered *= job.taper
        modulus = np.abs(transform(tapered, job.h)[:, job.ky])
        np.sqrt(modulus, out=out[j, i : i + length])

    list(POOL.map(work, ((j, i) for j in range(rows) for i in range(0, nx, length))))
    return out


def by_rows(job: Job, rows: int) -> np.ndarray:
    """The usual batched version: one row of windows at once, the threads within scipy.fft."""
    out = job.empty(rows)
    for j in range(rows):
        windows = job.windows[j]
        tapered = (windows - windows.mean(axis=(1, 2), keepdims=True)) * job.taper
        out[j] = np.sqrt(np.abs(scipy.fft.rfft2(tapered, workers=THREADS)[:, job.ky, : job.h + 1]))
    return out


def by_window(job: Job, rows: int) -> np.ndarray:
    """The loop that one writes first."""
    out = job.empty(rows)
    for j, i in np.ndindex(out.shape[:2]):
        window = job.windows[j, i]
        spectrum = np.fft.rfft2((window - window.mean()) * job.taper)
        out[j, i] = np.sqrt(np.abs(spectrum[job.ky, : job.h + 1]))
    return out


def scipy_pruned(batch: np.ndarray, h: int) -> np.ndarray:
    return scipy.fft.fft(scipy.fft.rfft(batch)[..., : h + 1], axis=1)


def ducc0_pruned(batch: np.ndarray, h: int) -> np.ndarray:
    import ducc0  # noqa: PLC0415

    return ducc0.fft.c2c(ducc0.fft.r2c(batch, axes=(2,))[..., : h + 1], axes=(1,))


def mkl_fft_pruned(batch: np.ndarray, h: int) -> np.ndarray:
    import mkl  # noqa: PLC0415
    import mkl_fft  # noqa: PLC0415

    mkl.set_num_threads_local(1)  # the threads are ours
    return mkl_fft.fft(mkl_fft.rfft(batch)[..., : h + 1], axis=1)


class PlannedFFTW:
    """FFTW with measured plans, one set a thread."""

    def __init__(self) -> None:
        self.plans = threading.local()
        self.planning = threading.Lock()

    def __call__(self, batch: np.ndarray, h: int) -> np.ndarray:
        plan = self.plans.__dict__.get(batch.shape)
        if plan is None:
            plan = self.plans.__dict__[batch.shape] = self.plan(batch.shape)
        return plan(batch)[..., : h + 1]

    def plan(self, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
        import pyfftw  # noqa: PLC0415

        with self.planning:  # FFTW's planner is not thread-safe
            source = pyfftw.empty_aligned(shape, np.float32)
            target = pyfftw.empty_aligned((*shape[:2], shape[2] // 2 + 1), np.complex64)
            return pyfftw.FFTW(source, target, axes=(1, 2), flags=("FFTW_MEASURE",))


def by_torch(job: Job, rows: int) -> np.ndarray:
    import torch  # noqa: PLC0415

    torch.set_num_threads(THREADS)
    out = job.empty(rows)
    taper, ky = torch.from_numpy(job.taper), torch.from_numpy(job.ky)
    image = torch.from_numpy(job.image)
    for j in range(rows):
        strip = image[j * job.step : j * job.step + job.window]
        windows = strip.unfold(1, job.window, job.step).transpose(0, 1)
        tapered = (windows - windows.mean((1, 2), keepdim=True)) * taper
        half = torch.fft.fft(torch.fft.rfft(tapered)[..., : job.h + 1], dim=1)
        torch.sqrt(half[:, ky].abs(), out=torch.from_numpy(out[j]))
    return out


def peers(job: Job, rows: int) -> dict[str, tuple[Callable[[int], np.ndarray], int]]:
    """Name, function of the number of rows of windows, and rows to time."""
    found: dict[str, tuple[Callable[[int], np.ndarray], int]] = {
        "scipy.fft, batched": (partial(by_rows, job), rows),
        "scipy.fft, pruned, threads outside": (partial(by_batches, job, scipy_pruned), rows),
    }
    for modules, name, transform in (
        (["ducc0"], "ducc0, pruned, threads outside", ducc0_pruned),
        (["mkl_fft", "mkl"], "mkl_fft, pruned, threads outside", mkl_fft_pruned),
        (["pyfftw"], "pyfftw, planned, threads outside", PlannedFFTW()),
    ):
        if all(map(find_spec, modules)):
            found[name] = (partial(by_batches, job, transform), rows)
    if find_spec("torch"):
        found["torch, pruned"] = (partial(by_torch, job), rows)
    found["NumPy, one window at a time"] = (
        partial(by_window, job),
        min(rows, -(-LOOP_WINDOWS // job.windows.shape[1])),
    )
    return found


def contenders(job: Job, rows: int) -> Iterator[Contender]:
    """The peers on the first rows of windows, after a check that they find what we find."""
    nx = job.windows.shape[1]
    wanted = moduli(job.matrix, job.matrix.rows(0, nx))
    for name, (function, timed) in peers(job, rows).items():
        found = function(1)[0].astype(float) ** 2
        error = np.abs(found - wanted).max() / wanted.max()
        if not error < 1e-5:
            raise SystemExit(f"{name} finds other features than ours: moduli differ by {error:.1e} of the largest")
        yield Contender(name, partial(function, timed), timed / len(job.windows))


def moduli(matrix: WindowMatrix, features: np.ndarray) -> np.ndarray:
    """|F| at kx >= 0 of features that are its square root, (n, 2 h + 1, h + 1)."""
    return matrix.to_image(features.astype(float))[:, :, matrix.hx :] ** 2


class Pycroscopy:
    """pycroscopy in an interpreter of its own, which waits for its turn."""

    def __init__(self, python: str, image: np.ndarray, window: int, step: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "image.npy"
        np.save(path, image)
        runner = Path(__file__).with_name("pycroscopy_runner.py")
        self.process = subprocess.Popen(
            [python, "-W", "ignore", runner, path, str(window), str(step)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = self.answer()

    def __enter__(self) -> Pycroscopy:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # the end of its input is the end of its work
        self.folder.cleanup()

    def __call__(self) -> str:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        line = self.process.stdout.readline().strip()
        if not line:
            raise SystemExit("pycroscopy did not run; does the interpreter given by --pycroscopy have it?")
        return line


def grid(job: Job) -> Race:
    n = job.matrix.shape[0]
    return Race(
        f"{n} windows of {job.window} px, step {job.step}, in {job.size} x {job.size} px",
        [
            Contender("stemseg-core", lambda: job.settings.transform(job.image)),
            *contenders(job, len(job.windows)),
        ],
        units=n,
        unit="window",
        work=needs(job.matrix),
    )


def dense(job: Job, rows: int, rank: int = 16) -> Race:
    n, d = job.matrix.shape
    work = needs(job.matrix)
    return Race(
        f"Every pixel: {n} windows of {job.window} px, step {job.step}, in {job.size} x {job.size} px",
        [
            Contender(f"stemseg-core, compressed to rank {rank}", lambda: compress(job.matrix, rank=rank)),
            *contenders(job, rows),
        ],
        units=n,
        unit="window",
        work=Work(work.flops + 2 * n * d * rank, work.read, n * rank * job.matrix.dtype.itemsize),
        notes=[f"The peers make the features only, of some rows; all of them are {n * d * 4 / 1e6:.0f} MB."],
    )


def workshop(pycroscopy: Pycroscopy, image: np.ndarray, window: int, step: int) -> Race:
    settings = WindowFFT(window, step, taper="hamming")
    n = len(settings.matrix(image).centers)
    return Race(
        f"The workshop's parameters: {n} windows of {window} px, step {step}, Hamming, zoom 2, square root",
        [
            Contender("stemseg-core", lambda: settings.transform(image)),
            Contender(f"pycroscopy {pycroscopy.version}", pycroscopy),
        ],
        units=n,
        unit="window",
        notes=["pycroscopy tapers after the transform, so its features are others."],
    )


def races(arguments: argparse.Namespace) -> Iterator[Race]:
    quick = arguments.quick
    for size, window, step in ((256, 64, 32), (128, 32, 8)) if quick else GRIDS:
        yield grid(Job(size, window, step))
    yield dense(Job(128, 32, 1), 2) if quick else dense(Job(1024, 64, 1), 16)
    if not arguments.pycroscopy:
        print("\npycroscopy was not raced: --pycroscopy names the interpreter of an environment that has it")
        return
    image = scene(512 if quick else 2048)
    with Pycroscopy(arguments.pycroscopy, image, 256, 64) as pycroscopy:
        yield workshop(pycroscopy, image, 256, 64)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pycroscopy",
        metavar="PYTHON",
        default=os.environ.get("STEMSEG_BENCH_PYCROSCOPY"),
        help="interpreter of an environment with pycroscopy 0.63 (default: $STEMSEG_BENCH_PYCROSCOPY)",
    )


if __name__ == "__main__":
    main("windows", races, peers=("ducc0", "mkl-fft", "pyfftw", "torch"), options=options)
