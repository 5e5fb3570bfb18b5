"""How right the maps are: ways of segmenting over kinds of simulated images, and what confidence is worth.

python bench/quality.py              # the tables; --seeds 4: so many images of each kind
python bench/quality.py --quick      # small images, one of each kind: does it run?
python bench/quality.py --write      # and into docs/benchmarks.md
"""

import argparse
from collections.abc import Callable
from datetime import date
from functools import partial

import numpy as np
from harness import Table, write
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from stemseg_core import NFINDR, KMeans, Segmentation, WindowFFT, abundances, datasets, segment

Map = np.ndarray

#: Images whose numbers begin here were not looked at when defaults were chosen.
FIRST_SEED = 1000

KINDS: dict[str, tuple[Callable[..., tuple[Map, Map]], dict[str, float]]] = {
    "two lattices": (datasets.two_phase, {"dose": 60}),
    "two lattices, 1.5 e": (datasets.two_phase, {"dose": 1.5}),
    "superlattice": (datasets.superlattice, {"dose": 60}),
    "crystal, amorphous, vacuum": (datasets.crystal_amorphous_vacuum, {"dose": 60}),
    "five orientations": (partial(datasets.polycrystal, n_grains=12, n_orientations=5), {"dose": 60}),
    "five orientations, 8 e": (partial(datasets.polycrystal, n_grains=12, n_orientations=5), {"dose": 8}),
    "four orientations 7 degrees apart, 2 e": (
        partial(datasets.polycrystal, n_grains=20, n_orientations=4, misorientation=7.0),
        {"dose": 2},
    ),
}


def workshop(image: Map, k: int) -> Map:
    """The workshop's way: N-FINDR on square roots of moduli, Hamming taper, mean kept; the largest abundance."""
    features = WindowFFT(64, 8, taper="hamming", detrend=None)
    matrix = features.matrix(image)
    X = np.asarray(matrix)
    shares = abundances(X, NFINDR(k, random_state=0).fit(X).components_)
    return nearest(shares.argmax(axis=1), matrix.centers, matrix.grid_shape[-2:], image.shape)


def nearest(labels: Map, centers: Map, grid: tuple[int, int], shape: tuple[int, int]) -> Map:
    """Labels of windows at the pixels nearest to their centres."""
    labels, centers = labels.reshape(grid), centers.reshape(*grid, 2)
    y, x = (
        np.abs(np.arange(n)[:, np.newaxis] - axis).argmin(axis=1)
        for n, axis in zip(shape, (centers[:, 0, 0], centers[0, :, 1]), strict=True)
    )
    return labels[np.ix_(y, x)]


def by_segment(image: Map, k: int, **options: object) -> Map:
    return segment(image, k, **options).label_image


def one_window(image: Map, k: int, window: int = 64, **options: object) -> Map:
    """k-means on the smoothed scores of one size of windows."""
    return segment(image, k, method=KMeans(k, random_state=0), window=window, step=8, **options).label_image


WAYS: dict[str, Callable[[Map, int], Map]] = {
    "default": by_segment,
    "default, 48 px": partial(by_segment, window=48),
    "default, 96 px": partial(by_segment, window=96),
    "default, Hamming": partial(by_segment, taper="hamming"),
    "default, no smoothing": partial(by_segment, smooth=0),
    "one window, 64 px": one_window,
    "one window, 96 px": partial(one_window, window=96),
    "one window, 96 px, whitened": partial(one_window, window=96, whiten=True),
    "one window, amplitudes": partial(one_window, normalize=0, k_min=0),
    "nmf": partial(by_segment, method="nmf"),
    "nfindr": partial(by_segment, method="nfindr"),
    "ica": partial(by_segment, method="ica"),
    "the workshop's N-FINDR": workshop,
}


def images(seeds: int, side: int) -> dict[str, list[tuple[Map, Map]]]:
    return {
        name: [make((side, side), random_state=FIRST_SEED + seed, **imaging) for seed in range(seeds)]
        for name, (make, imaging) in KINDS.items()
    }


def index_table(kinds: dict[str, list[tuple[Map, Map]]]) -> Table:
    rows = []
    for way, run in WAYS.items():
        found = [
            np.median(
                [adjusted_rand_score(truth.ravel(), run(image, n_phases(truth)).ravel()) for image, truth in some]
            )
            for some in kinds.values()
        ]
        rows.append([way, *(f"{median:.3f}" for median in found)])
        print(*rows[-1], sep="  ", flush=True)
    seeds = len(next(iter(kinds.values())))
    return Table("Adjusted Rand index over all pixels", ["", *kinds], rows, [f"Median of {seeds} images of each kind."])


def index(labels: Map, truth: Map) -> float:
    return adjusted_rand_score(truth.ravel(), labels.ravel())


def n_phases(truth: Map) -> int:
    return int(truth.max()) + 1


def confidence_table(kinds: dict[str, list[tuple[Map, Map]]]) -> Table:
    """How often windows of some confidence are right, the phases being matched to the truth one to one."""
    edges = np.linspace(0, 1, 6)
    right, count = np.zeros(5), np.zeros(5)
    for some in kinds.values():
        for image, truth in some:
            result = segment(image, n_phases(truth))
            correct = is_right(result, truth)
            place = np.clip(np.digitize(result.confidence.ravel(), edges) - 1, 0, 4)
            np.add.at(right, place, correct)
            np.add.at(count, place, 1)
    rows = [
        [f"{low:.1f} to {high:.1f}", f"{n / count.sum():.1%}", f"{r / max(n, 1):.1%}"]
        for low, high, n, r in zip(edges[:-1], edges[1:], count, right, strict=True)
    ]
    return Table("What confidence is worth", ["confidence", "windows", "right"], rows, ["All images together."])


def boundary_table(kinds: dict[str, list[tuple[Map, Map]]]) -> Table:
    """How far the boundaries of maps lie from the true ones, and the true ones from these, in pixels."""
    rows = []
    for way in ("default", "one window, 64 px", "the workshop's N-FINDR"):
        found = []
        for some in kinds.values():
            both = [distances(WAYS[way](image, n_phases(truth)), truth) for image, truth in some]
            found.append(np.median(np.concatenate(both)))
        rows.append([way, *(f"{distance:.1f}" for distance in found)])
    return Table("Median error of boundaries in pixels", ["", *kinds], rows, ["Both ways, all images of a kind."])


def distances(labels: Map, truth: Map) -> Map:
    found, wanted = edges_of(labels), edges_of(truth)
    if not found.any():
        return np.full(int(wanted.sum()), np.inf)
    return np.concatenate([distance_transform_edt(~wanted)[found], distance_transform_edt(~found)[wanted]])


def edges_of(labels: Map) -> Map:
    """Pixels whose right or lower neighbour is of another phase."""
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    edges[:-1] |= labels[1:] != labels[:-1]
    return edges


def is_right(result: Segmentation, truth: Map) -> Map:
    y, x = result.centers.astype(int).T
    wanted, found = truth[y, x].astype(int), result.labels.ravel()
    k = max(wanted.max(), found.max()) + 1
    table = np.zeros((k, k))
    np.add.at(table, (wanted, found), 1)
    to_truth = np.argsort(linear_sum_assignment(-table)[1])
    return to_truth[found] == wanted


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares maps of simulated images with the truth.")
    parser.add_argument("--quick", action="store_true", help="small images, one of each kind: shows that it runs")
    parser.add_argument("--seeds", "--rounds", type=int, default=3, help="images of each kind (default: 3)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.write and arguments.quick:
        parser.error("--quick measures nothing worth writing down")
    kinds = images(1, 320) if arguments.quick else images(arguments.seeds, 768)
    tables = [index_table(kinds), boundary_table(kinds), confidence_table(kinds)]
    for table in tables:
        print(f"\n{table.text()}", flush=True)
    if arguments.write:
        write("quality", "\n\n".join([f"{date.today():%Y-%m-%d}.", *(table.markdown() for table in tables)]))


if __name__ == "__main__":
    main()
