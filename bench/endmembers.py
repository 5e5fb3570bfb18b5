"""Endmembers and abundances against the truth: of a hyperspectral image, of mixtures with outliers, of damaged images.

The image is Samson, which is not part of this project: its table is left out unless the environment variable
STEMSEG_DATA names a folder with `spectra/samson.npz` of arrays ``cube`` (y, x, d), ``endmembers`` (k, d), each scaled
to a maximum of 1, and ``abundances`` (k, y, x).
"""

import argparse
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
from harness import Table, write
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from stemseg_core import ATGP, NFINDR, NMF, SPA, VCA, abundances, datasets, segment

Array = np.ndarray

METHODS = {"NFINDR": NFINDR, "SPA": SPA, "ATGP": ATGP, "VCA": VCA}


def angles(C: Array, E: Array) -> tuple[Array, Array]:
    """Angles of found spectra (k, d) to the true ones (k, d) in order, and which found one is which."""
    cosine = (C @ E.T) / np.linalg.norm(C, axis=1)[:, np.newaxis] / np.linalg.norm(E, axis=1)
    angle = np.arccos(np.clip(cosine, -1, 1))
    found, true = linear_sum_assignment(angle)
    order = found[np.argsort(true)]
    return angle[order, np.arange(len(E))], order


def scaled_shares(X: Array, C: Array) -> Array:
    """Shares as the reference has them: amounts of the spectra scaled to a maximum of 1, divided by their sum."""
    amounts = abundances(X, C / C.max(axis=1, keepdims=True), constraint="nnls")
    return amounts / amounts.sum(axis=1, keepdims=True)


def rms(difference: Array) -> str:
    return f"{np.sqrt((difference**2).mean()):.3f}"


def samson_table(path: Path) -> Table:
    data = np.load(path)
    X = data["cube"].reshape(-1, data["cube"].shape[2]).astype(float)
    E, truth = data["endmembers"].astype(float), data["abundances"].reshape(3, -1).T.astype(float)
    spectra = {name: method(3).fit(X).components_ for name, method in METHODS.items()}
    weights = NMF(3).fit_transform(X)
    spectra["NMF, purest rows of W"] = X[NFINDR(3).fit(weights / weights.sum(axis=1, keepdims=True)).indices_]
    spectra["the reference spectra"] = E
    rows = []
    for name, C in spectra.items():
        angle, order = angles(C, E)
        shares = rms(abundances(X, C[order]) - truth), rms(scaled_shares(X, C[order]) - truth)
        rows.append([name, f"{angle.mean():.3f}", f"{angle.max():.3f}", *shares])
    return Table(
        "Samson, three endmembers",
        ["", "mean angle, rad", "largest", "RMSE of fcls", "RMSE of scaled spectra"],
        rows,
        ["Published practice, plain N-FINDR with fcls: .070 rad and .323."],
    )


def mixtures(n: int, k: int, share: float, size: float, seed: int) -> tuple[Array, Array]:
    """Noisy mixtures of k spectra, of which some are moved by `size` times the scatter of all; and the spectra."""
    rng = np.random.default_rng(seed)
    A, E = rng.dirichlet(np.full(k, 0.7), n), rng.gamma(1.0, 1.0, (k, 40))
    A[:k] = np.eye(k)
    X = A @ E + 0.02 * rng.standard_normal((n, 40))
    moved = rng.permutation(n)[: round(share * n)]
    directions = rng.standard_normal((len(moved), 40))
    scatter = np.sqrt(((X - X.mean(axis=0)) ** 2).sum(axis=1).mean())
    X[moved] += size * scatter * directions / np.linalg.norm(directions, axis=1)[:, np.newaxis]
    return X, E


def outlier_table(n_seeds: int, n: int) -> Table:
    rows = []
    for share, size in ((0, 0), (0.001, 3), (0.001, 30), (0.01, 2), (0.01, 10), (0.01, 100)):
        cells = []
        for method in METHODS.values():
            for n_neighbors in (None, 5):
                found = [
                    angles(method(k, n_neighbors=n_neighbors).fit(X).components_, E)[0].max()
                    for k in (3, 6)
                    for X, E in (mixtures(n, k, share, size, seed) for seed in range(n_seeds))
                ]
                cells.append(f"{np.mean(found):.3f}")
        rows.append([f"{share:.1%} moved by {size}" if share else "none", *cells])
    return Table(
        f"Largest angle in rad, {n} mixtures of 3 and of 6 spectra with outliers",
        ["outliers", *(f"{name}{ending}" for name in METHODS for ending in ("", ", n_neighbors=5"))],
        rows,
        ["Outliers are moved in random directions, by so many times the scatter of the rows."],
    )


def hot_pixels(image: Array, rng: np.random.Generator) -> None:
    image[tuple(rng.integers(0, side, 5) for side in image.shape)] = 50 * image.max()


def track(image: Array, rng: np.random.Generator) -> None:
    y, x = (int(rng.integers(60, side - 60)) for side in image.shape)
    image[y + np.arange(14) // 3, x + np.arange(14)] = 30 * image.max()


def disc(image: Array, rng: np.random.Generator, radius: int) -> Array:
    y, x = (rng.integers(60, side - 60) for side in image.shape)
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 < radius**2


def hole(image: Array, rng: np.random.Generator) -> None:
    image[disc(image, rng, 12)] = 0


def speck(image: Array, rng: np.random.Generator) -> None:
    image[disc(image, rng, 10)] += 10 * image.max()


def streak(image: Array, rng: np.random.Generator) -> None:
    y, x = (int(rng.integers(60, side - 210)) for side in image.shape)
    image[y : y + 3, x : x + 150] += 4 * image.max()


DEFECTS: dict[str, Callable[[Array, np.random.Generator], None]] = {
    "none": lambda image, rng: None,
    "5 hot pixels": hot_pixels,
    "cosmic ray": track,
    "dark hole": hole,
    "bright speck": speck,
    "streak": streak,
}


IMAGES = {
    "two phases": datasets.two_phase,
    "crystal with amorphous and vacuum": datasets.crystal_amorphous_vacuum,
    "grains": datasets.polycrystal,
}


def defect_table(n_seeds: int, side: int, kinds: tuple[str, ...]) -> Table:
    """Adjusted Rand index of the largest share, mean over images of some kinds."""
    methods, rows = ("nfindr", "spa", "vca", "atgp", "nmf", "kmeans"), []
    images = [IMAGES[kind]((side, side), random_state=seed) for kind in kinds for seed in range(10, 10 + n_seeds)]
    for name, damage in DEFECTS.items():
        index = []
        for i, (clean, truth) in enumerate(images):
            image = clean.copy()
            damage(image, np.random.default_rng(i))
            maps = [segment(image, int(truth.max()) + 1, method=method).label_image for method in methods]
            index.append([adjusted_rand_score(truth.ravel(), found.ravel()) for found in maps])
        rows.append([name, *(f"{value:.3f}" for value in np.mean(index, axis=0))])
    title = f"Adjusted Rand index of images of {side} x {side} px with defects"
    return Table(title, ["", *methods], rows, [f"Mean of images of each kind: {', '.join(kinds)}."])


def overlap_table(n_seeds: int, side: int) -> Table:
    """Shares of two crystals on either side of an inclined interface."""
    rows = []
    for method in ("nfindr", "spa", "vca", "atgp", "nmf"):
        found = []
        for seed in range(n_seeds):
            image, truth = datasets.inclined_interface((side, side), random_state=seed)
            result = segment(image, 2, method=method)
            y, x = np.round(result.centers).astype(int).T
            share, true = result.abundances[0].ravel(), truth[y, x]
            correlation = np.corrcoef(share, true)[0, 1]
            found.append([abs(correlation), np.sqrt(((share if correlation > 0 else 1 - share) - true) ** 2).mean()])
        correlation, error = np.mean(found, axis=0)
        rows.append([method, f"{correlation:.4f}", f"{error:.3f}"])
    title = f"Overlapping phases, inclined interface, {side} x {side} px"
    return Table(title, ["", "correlation with the true share", "RMSE"], rows, [])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares endmembers and abundances with the truth.")
    parser.add_argument("--quick", action="store_true", help="little data: shows that it runs")
    parser.add_argument("--seeds", "--rounds", type=int, default=3, help="data sets of each kind (default: 3)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.write and arguments.quick:
        parser.error("--quick measures nothing worth writing down")
    path = Path(os.environ.get("STEMSEG_DATA", "")) / "spectra" / "samson.npz"
    n_seeds, n, side = (1, 1000, 320) if arguments.quick else (arguments.seeds, 4000, 512)
    kinds = ("two phases",) if arguments.quick else tuple(IMAGES)
    tables = [samson_table(path)] if path.is_file() else []
    tables += [outlier_table(n_seeds, n), overlap_table(n_seeds, side), defect_table(n_seeds, side, kinds)]
    for table in tables:
        print(f"\n{table.text()}", flush=True)
    if arguments.write:
        write("endmembers", "\n\n".join([f"{date.today():%Y-%m-%d}.", *(table.markdown() for table in tables)]))


if __name__ == "__main__":
    main()
