"""How windows become memberships of phases: the methods of `segment`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from stemseg_core.abundances import abundances
from stemseg_core.compress import compress
from stemseg_core.ica import ICA
from stemseg_core.kmeans import KMeans
from stemseg_core.maps import Grid, posterior, shares, whiten_noise
from stemseg_core.nfindr import NFINDR
from stemseg_core.nmf import NMF
from stemseg_core.spectra import Spectra

METHODS = ("kmeans", "nfindr", "nmf", "ica")

Array = NDArray[Any]


def find_phases(
    method: Any,
    spectra: Spectra,
    grid: Grid,
    n_phases: int,
    *,
    rank: int,
    smooth: float,
    whiten: bool,
    random_state: int,
    settings: dict[str, Any],
) -> tuple[NDArray[np.float32], bool]:
    """Memberships (n, k) of the included windows, rows sum to 1, and whether they stem from a partition.

    A partition comes from clusters of scores; otherwise the memberships are shares of endmembers.
    """
    seeded = {"random_state": random_state, **settings}
    if method == "nmf":
        weights = grid.smooth(NMF(n_phases, **seeded).fit_transform(spectra), smooth)
        return _between_extremes(shares(weights), seeded), False
    raw = compress(spectra, rank, **settings).scores
    scores = grid.smooth(raw, smooth)
    if method == "nfindr":
        pure = NFINDR(n_phases, **seeded).fit(scores).components_
        return shares(abundances(scores, pure, **settings)), False
    if whiten:
        scores = whiten_noise(scores, grid.noise_covariance(raw))
    if method == "kmeans":
        return _clusters(scores, KMeans(n_phases, **seeded).fit(scores).labels_, n_phases), True
    if method == "ica":
        sources = ICA(n_phases, **seeded).fit_transform(scores)
        return _clusters(sources, KMeans(n_phases, **seeded).fit(sources).labels_, n_phases), True
    return _by_estimator(clone(method), scores, n_phases)


def _between_extremes(parts: Array, seeded: dict[str, Any]) -> NDArray[np.float32]:
    """Shares (n, k) as mixtures of the purest rows among them.

    Non-negative factors are not unique: W Q and Q^-1 H explain the spectra as well for many Q, and shares of W move
    with Q. The tightest simplex around the rows does not.
    """
    k = parts.shape[1]
    if k == 1 or np.linalg.matrix_rank(parts - parts.mean(axis=0), tol=1e-4 * np.sqrt(len(parts))) < k - 1:
        return shares(parts)
    pure = NFINDR(k, **seeded).fit(parts).components_
    settings = {name: value for name, value in seeded.items() if name != "random_state"}
    return shares(abundances(parts, pure, **settings))


def _by_estimator(estimator: Any, scores: Array, n_phases: int) -> tuple[NDArray[np.float32], bool]:
    """Memberships by any clusterer or transformer of scikit-learn's kind."""
    estimator.fit(scores)
    labels = getattr(estimator, "labels_", None)
    if labels is None and hasattr(estimator, "predict"):
        labels = estimator.predict(scores)
    if labels is not None:
        labels = np.asarray(labels)
        if (
            labels.shape != (len(scores),)
            or labels.dtype.kind not in "iu"
            or not 0 <= labels.min() <= labels.max() < n_phases
        ):
            raise ValueError(
                f"method={estimator!r} must give each of the {len(scores)} windows a label from 0 to {n_phases - 1} "
                f"for n_phases={n_phases}; got labels {np.unique(labels)[:10]} of shape {labels.shape}"
            )
        return _clusters(scores, labels, n_phases), True
    weights = np.asarray(estimator.transform(scores))
    if weights.shape != (len(scores), n_phases):
        raise ValueError(
            f"method={estimator!r} must transform {len(scores)} windows to n_phases={n_phases} weights each; "
            f"got shape {weights.shape}"
        )
    return shares(weights), False


def _clusters(rows: Array, labels: NDArray[Any], k: int) -> NDArray[np.float32]:
    """Memberships under equal round Gaussians about the means of the clusters, of the pooled variance within them."""
    counts = np.bincount(labels, minlength=k)
    one_hot = np.eye(k)[labels]
    centers = one_hot.T @ rows / np.maximum(counts, 1)[:, None]
    distances = np.stack([((rows - center) ** 2).sum(axis=1, dtype=np.float64) for center in centers], axis=1)
    distances[:, counts == 0] = np.inf
    variance = distances[np.arange(len(rows)), labels].sum() / rows.size
    return posterior(distances, variance)
