"""How right the maps are: ways of segmenting over kinds of images, and what confidence is worth.

Images are simulated; real ones with a truth are added if STEMSEG_DATA names a folder that has them (`real_images`).

python bench/quality.py              # the tables; --seeds 4: so many images of each kind
python bench/quality.py --quick      # one small image: does it run?
python bench/quality.py --write      # and into docs/benchmarks.md
"""

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import islice, pairwise

import numpy as np
from baseline import baseline, nearest
from harness import Table, write
from local_symmetry import local_symmetry
from real_images import real_images
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score
from zernike import INSTALLED, zernike

from stemseg_core import NFINDR, KMeans, Segmentation, WindowFFT, abundances, datasets, segment

Map = np.ndarray
Way = Callable[..., Map]

#: Images whose numbers begin here were not looked at when defaults were chosen.
FIRST_SEED = 1000

# ------------------------------------------------------------------------------------------------------------- images

FIVE = partial(datasets.polycrystal, n_grains=12, n_orientations=5)
FOUR = partial(datasets.polycrystal, n_grains=20, n_orientations=4, misorientation=7.0)
SMALL = partial(datasets.polycrystal, n_grains=40, n_orientations=4, misorientation=7.0)
WORST = {"dose": 1.2, "read_noise": 0.5, "thickness_ramp": 0.6, "contamination": 0.3, "jitter": 0.8, "drift": 12}


@dataclass(frozen=True)
class Kind:
    """One kind of image: what it is, who makes it, and how it is taken."""

    what: str
    make: Callable[..., tuple[Map, Map]]
    imaging: dict[str, float]

    def images(self, seeds: int, side: int) -> list[tuple[Map, Map]]:
        return [self.make((side, side), random_state=FIRST_SEED + seed, **self.imaging) for seed in range(seeds)]


KINDS = {
    "lattices": Kind("two orientations of SrTiO3, 30 degrees apart", datasets.two_phase, {"dose": 60}),
    "superlattice": Kind("SrTiO3 beside Sr2TiO4, of nearly the same lattice", datasets.superlattice, {"dose": 60}),
    "faint": Kind("as lattices, at 1.5 electrons a pixel", datasets.two_phase, {"dose": 1.5}),
    "ramp": Kind(
        "as lattices, at 3 electrons, thickness .6 to 1.4 of the mean",
        datasets.two_phase,
        {"dose": 3, "thickness_ramp": 0.8},
    ),
    "scan": Kind(
        "as lattices, lines displaced by 1.5 pixels, drift of 40 pixels",
        datasets.two_phase,
        {"jitter": 1.5, "drift": 40},
    ),
    "amorphous": Kind("silicon, an amorphous layer, vacuum", datasets.crystal_amorphous_vacuum, {"dose": 60}),
    "grains": Kind("12 grains of copper in five orientations", FIVE, {"dose": 60}),
    "grains, 8 e": Kind("the same at 8 electrons a pixel", FIVE, {"dose": 8}),
    "7 degrees": Kind("20 grains in four orientations 7 degrees apart, 2 electrons", FOUR, {"dose": 2}),
    "hard": Kind("40 such grains, 1.2 electrons, thickness .7 to 1.3, contamination, bad scan", SMALL, WORST),
}
MIXED = {
    "60 e": Kind("", datasets.inclined_interface, {"dose": 60}),
    "6 e": Kind("", datasets.inclined_interface, {"dose": 6}),
    "60 e, thickness .7 to 1.3": Kind("", datasets.inclined_interface, {"dose": 60, "thickness_ramp": 0.6}),
}

# --------------------------------------------------------------------------------------------------------------- ways


def by_segment(image: Map, k: int, **options: object) -> Map:
    return segment(image, k, **options).label_image


def one_window(image: Map, k: int, window: int = 64, **options: object) -> Map:
    """k-means on the smoothed scores of one size of windows."""
    return segment(image, k, method=KMeans(k, random_state=0), window=window, step=8, **options).label_image


def workshop(image: Map, k: int) -> Map:
    """The workshop's way: N-FINDR on square roots of moduli, Hamming taper, mean kept; the largest abundance."""
    shares, centers = workshop_shares(image, k)
    return nearest(shares.argmax(axis=0), centers[:, 0, 0], centers[0, :, 1], image.shape)


def workshop_shares(image: Map, k: int) -> tuple[Map, Map]:
    """Its abundances (k, ny, nx), and the centres of the windows (ny, nx, 2)."""
    matrix = WindowFFT(64, 8, taper="hamming", detrend=None).matrix(image)
    X = np.asarray(matrix)
    shares = abundances(X, NFINDR(k, random_state=0).fit(X).components_)
    grid = matrix.grid_shape[-2:]
    return shares.T.reshape(k, *grid), matrix.centers.reshape(*grid, 2)


#: Of several ways, the one that is nearest to the truth counts.
METHODS: dict[str, Way | tuple[Way, ...]] = {
    "default": by_segment,
    "plain baseline": (baseline, partial(baseline, standardized=True)),
    "one window, k-means": one_window,
    "nmf": partial(by_segment, method="nmf"),
    "nfindr": partial(by_segment, method="nfindr"),
    "ica": partial(by_segment, method="ica"),
    "the workshop's N-FINDR": workshop,
    "local symmetry, Wang 2021": local_symmetry,
    **({"Zernike moments, motif-learn": zernike} if INSTALLED else {}),
}
#: Of these, what real images are segmented by.
ON_REAL_IMAGES = [name for name in METHODS if name not in ("nmf", "nfindr", "ica")]

#: What is changed, one at a time. The default chooses its window; the one window has 64 px.
SETTINGS = {
    "48 px": {"window": 48},
    "64 px": {"window": 64},
    "96 px": {"window": 96},
    "128 px": {"window": 128},
    "Hamming": {"taper": "hamming"},
    "Blackman": {"taper": "blackman"},
    "modulus": {"scale": "abs"},
    "log(1 + modulus)": {"scale": "log1p"},
    "power": {"scale": "power"},
    "no smoothing": {"smooth": 0},
    "smoothed by 24 px": {"smooth": 24},
    "amplitude in full": {"normalize": 0},
    "no amplitude": {"normalize": 1},
    "low frequencies too": {"k_min": 0},
    "up to 0.15 cycles a px": {"k_max": 0.15},
    "whitened": {"whiten": True},
    "regularised by 12 px": {"regularize": 12},
    "no region below 1000 px": {"min_area": 1000},
    "whatever the orientation": {"rotation_invariant": True},
}


def varied(way: Way) -> dict[str, Way | tuple[Way, ...]]:
    return {"as it is": way} | {name: partial(way, **setting) for name, setting in SETTINGS.items()}


MIXERS = {
    "nmf": {"method": "nmf"},
    "nmf, modulus": {"method": "nmf", "scale": "abs"},
    "nmf, power": {"method": "nmf", "scale": "power"},
    "nfindr": {"method": "nfindr"},
    "nfindr, modulus": {"method": "nfindr", "scale": "abs"},
    "nfindr, power": {"method": "nfindr", "scale": "power"},
    "default": {},
}


# ------------------------------------------------------------------------------------------------------------- tables

Images = dict[str, list[tuple[Map, Map]]]


def median_table(title: str, ways: dict[str, Way | tuple[Way, ...]], images: Images, notes: list[str]) -> list[Table]:
    """The adjusted Rand index, and how far boundaries are off, of each way (rows) on each kind (columns)."""
    right, off = [], []
    for name, way in ways.items():
        start = time.perf_counter()
        scores = np.array([np.median([score(way, *pair) for pair in some], axis=0) for some in images.values()])
        right.append([name, *(f"{index:.3f}" for index in scores[:, 0]), f"{scores[:, 0].mean():.3f}"])
        off.append([name, *(f"{pixels:.1f}" for pixels in scores[:, 1])])
        print(*right[-1], f"{time.perf_counter() - start:.0f} s", sep="  ", flush=True)
    head = ["", *images]
    how = "From each boundary of a map to the nearest true one, and back; the median of both, in pixels."
    return [
        Table(f"{title}: adjusted Rand index over all pixels", [*head, "mean"], right, notes),
        Table(f"{title}: error of boundaries", head, off, [how]),
    ]


def real_table(images: dict[str, tuple[str, Map, Map]]) -> Table:
    """The adjusted Rand index of each way (columns) on each image (rows)."""
    rows = []
    for name, (kind, image, truth) in images.items():
        scores = [score_or_none(METHODS[way], image, truth) for way in ON_REAL_IMAGES]
        rows.append([f"{name}: {kind}", *scores])
        print(*(f"{s:.3f}" if isinstance(s, float) else s for s in rows[-1]), sep="  ", flush=True)
    columns = np.array([row[1:] for row in rows], float)
    rows.append(["mean of what ran", *np.nanmean(columns, axis=0)])
    text = [[row[0], *("failed" if np.isnan(index) else f"{index:.3f}" for index in row[1:])] for row in rows]
    note = "Only the number of phases is given. Of the plain baseline, the better of frequencies as they are or scaled."
    return Table("Real images: adjusted Rand index over all pixels", ["", *ON_REAL_IMAGES], text, [note])


def score_or_none(way: Way | tuple[Way, ...], image: Map, truth: Map) -> float:
    """The index; NaN if a peer cannot do this image."""
    try:
        return score(way, image, truth)[0]
    except Exception as error:
        print(f"failed: {error}", flush=True)
        return np.nan


def score(way: Way | tuple[Way, ...], image: Map, truth: Map) -> tuple[float, float]:
    if isinstance(way, tuple):
        return max(score(one, image, truth) for one in way)
    labels = way(image, n_phases(truth))
    return adjusted_rand_score(truth.ravel(), labels.ravel()), float(np.median(distances(labels, truth)))


def n_phases(truth: Map) -> int:
    return int(truth.max()) + 1


def distances(labels: Map, truth: Map) -> Map:
    """From each boundary pixel of either map to the nearest one of the other."""
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


def mixture_table(images: Images) -> Table:
    """How well abundances follow the true shares where two crystals overlap."""
    rows = []
    for name, options in MIXERS.items():
        rows.append([name, *(agreement(partial(segment_shares, **options), some) for some in images.values())])
    rows.append(["the workshop's N-FINDR", *(agreement(workshop_shares, some) for some in images.values())])
    note = "Correlation of the abundance with the true share at the centres of the windows, and root mean square error."
    return Table("Two crystals overlapping on an inclined interface", ["", *images], rows, [note])


def segment_shares(image: Map, k: int, **options: object) -> tuple[Map, Map]:
    result = segment(image, k, **options)
    return result.abundances, result.centers.reshape(*result.labels.shape, 2)


def agreement(way: Callable[[Map, int], tuple[Map, Map]], some: list[tuple[Map, Map]]) -> str:
    """Of the abundance that is nearest to the true share: its correlation with that, and its error."""
    scores = []
    for image, truth in some:
        shares, centers = way(image, 2)
        y, x = np.moveaxis(centers.astype(int), -1, 0)
        wanted = truth[y, x]
        errors = np.sqrt(np.mean((shares - wanted) ** 2, axis=(1, 2)))
        nearest = errors.argmin()
        scores.append((np.corrcoef(shares[nearest].ravel(), wanted.ravel())[0, 1], errors[nearest]))
    correlation, error = np.median(scores, axis=0)
    return f"{correlation:.3f}, {error:.2f}"


def confidence_tables(images: Images) -> list[Table]:
    """Whether windows are as often right as their memberships say, the phases being matched to the truth one to one."""
    kinds = {}
    for name, some in images.items():
        windows = [trust(segment(image, n_phases(truth)), truth) for image, truth in some]
        kinds[name] = np.concatenate(windows, axis=1)
    confidence, membership, right = everything = np.concatenate(list(kinds.values()), axis=1)
    edges = np.linspace(0, 1, 6)
    place = bins(confidence, edges)
    rows = [
        [f"{low:.1f} to {high:.1f}", *shares(everything[:, place == i], len(place))]
        for i, (low, high) in enumerate(pairwise(edges))
        if (place == i).any()
    ]
    by_kind = [
        [name, f"{m.mean():.1%}", f"{r.mean():.1%}", f"{calibration_error(m, r):.3f}"]
        for name, (_, m, r) in kinds.items()
    ]
    by_kind.append(
        ["all", f"{membership.mean():.1%}", f"{right.mean():.1%}", f"{calibration_error(membership, right):.3f}"]
    )
    note = (
        "The expected calibration error is the mean difference of the largest membership and the share that is right, "
        "over windows in ten classes of membership: 0 if memberships are probabilities."
    )
    return [
        Table(
            "What confidence is worth",
            ["confidence", "windows", "mean largest membership", "right"],
            rows,
            ["Windows of all images together, by the default method."],
        ),
        Table(
            "Calibration of memberships", ["", "mean largest membership", "right", "calibration error"], by_kind, [note]
        ),
    ]


def shares(windows: Map, of: int) -> list[str]:
    _, membership, right = windows
    return [f"{len(right) / of:.1%}", f"{membership.mean():.1%}", f"{right.mean():.1%}"]


def calibration_error(membership: Map, right: Map, n_classes: int = 10) -> float:
    """Mean over the windows of |mean membership - share that is right| of their class of membership."""
    place = bins(membership, np.linspace(0, 1, n_classes + 1))
    count, said, true = (np.bincount(place, weights, n_classes) for weights in (None, membership, right))
    return float(np.abs(said - true).sum() / count.sum())


def bins(values: Map, edges: Map) -> Map:
    return np.clip(np.digitize(values, edges) - 1, 0, len(edges) - 2)


def trust(result: Segmentation, truth: Map) -> Map:
    """Of each window: confidence, largest membership, and whether its label is right; (3, n)."""
    y, x = result.centers.astype(int).T
    wanted, found = truth[y, x].astype(int), result.labels.ravel()
    k = max(wanted.max(), found.max()) + 1
    table = np.zeros((k, k))
    np.add.at(table, (wanted, found), 1)
    to_truth = np.argsort(linear_sum_assignment(-table)[1])
    return np.stack([result.confidence.ravel(), result.abundances.max(axis=0).ravel(), to_truth[found] == wanted])


def tables(
    seeds: int, side: int, kinds: dict[str, Kind], mixed: dict[str, Kind], real: dict[str, tuple[str, Map, Map]]
) -> Iterable[Table]:
    images = {name: kind.images(seeds, side) for name, kind in kinds.items()}
    counted = (
        f"One image of {side} x {side} px of each kind."
        if seeds == 1
        else f"Median of {seeds} images of each kind, {side} x {side} px."
    )
    yield Table("Kinds of images", ["", "what"], [[name, kind.what] for name, kind in kinds.items()], [])
    if not INSTALLED:
        print("Zernike moments: left out, motif-learn is not installed")
    yield from median_table("Methods", METHODS, images, [counted])
    if real:
        yield real_table(real)
    else:
        print("Real images: left out, STEMSEG_DATA names no folder that has them")
    turned = "Whatever the orientation, the two lattices and the grains are one phase: cut at random."
    yield median_table("The default, one thing changed", varied(by_segment), images, [counted, turned])[0]
    yield median_table("One window of 64 px and k-means, one thing changed", varied(one_window), images, [counted])[0]
    yield mixture_table({name: kind.images(seeds, side) for name, kind in mixed.items()})
    yield from confidence_tables(images)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares maps of images with the truth.")
    parser.add_argument("--quick", action="store_true", help="one small image: shows that it runs")
    parser.add_argument("--seeds", "--rounds", type=int, default=2, help="images of each kind (default: 2)")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")
    arguments = parser.parse_args()
    if arguments.write and arguments.quick:
        parser.error("--quick measures nothing worth writing down")
    size = (1, 256) if arguments.quick else (arguments.seeds, 768)
    few = 1 if arguments.quick else None
    done = []
    some = (dict(islice(of.items(), few)) for of in (KINDS, MIXED, real_images()))
    for table in tables(*size, *some):
        print(f"\n{table.text()}\n", flush=True)
        done.append(table)
    if arguments.write:
        write("quality", "\n\n".join([f"{date.today():%Y-%m-%d}.", *(table.markdown() for table in done)]))


if __name__ == "__main__":
    main()
