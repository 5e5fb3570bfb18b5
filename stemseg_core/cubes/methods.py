"""The methods of `unmix`: rows to maps and components, each in the units of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from stemseg_core.rows.blocks import stored
from stemseg_core.rows.sources import Rows
from stemseg_core.rows.weights import WeighedRows, Weights
from stemseg_core.stages.abundances import abundances
from stemseg_core.stages.compress import compress, compress_bytes
from stemseg_core.stages.endmembers import Endmembers
from stemseg_core.stages.ica import ICA
from stemseg_core.stages.kmeans import KMeans
from stemseg_core.stages.nfindr import NFINDR
from stemseg_core.stages.nmf import NMF
from stemseg_core.stages.spa import ATGP, SPA
from stemseg_core.stages.svd import SVD
from stemseg_core.stages.vca import VCA
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.types import Array


@dataclass(frozen=True, eq=False)
class Factors:
    """Rows X (n, d) as ``maps @ components + offset``, in the units of X.

    Attributes
    ----------
    maps : ndarray of shape (n, k)
    components : ndarray of shape (k, d)
    offset : ndarray of shape (d,) or None
        The mean, where components are about it.
    labels : ndarray of shape (n,), int, or None
        Clusters.
    """

    maps: NDArray[Any]
    components: NDArray[Any]
    offset: NDArray[Any] | None = None
    labels: NDArray[np.int32] | None = None


@dataclass(frozen=True, eq=False)
class Task:
    """What a method is given.

    Attributes
    ----------
    rows : Rows (n, d)
        In the units of the data.
    weights : Weights or None
        Of their noise, if it is known.
    seed : int
    execution : Execution
    """

    rows: Rows
    weights: Weights | None
    seed: int
    execution: Execution

    def weighed(self, *, columns_only: bool = False) -> tuple[Rows, Weights]:
        """The rows with noise of unit variance if that is known, and what made them so."""
        if self.weights is None:
            n, d = self.rows.shape
            return self.rows, Weights(np.ones(n), np.ones(d))
        weights = self.weights.only_columns() if columns_only else self.weights
        return WeighedRows(self.rows, weights), weights

    def configured(self, estimator: Any) -> Any:
        """An estimator of ours with the seed and the execution of the task."""
        if "random_state" in estimator.get_params():
            estimator.set_params(random_state=self.seed)
        return self.execution.configure(estimator)


@dataclass(frozen=True)
class Method:
    """A way to unmix: what it makes, for pictures and words.

    Attributes
    ----------
    find : callable
        ``find(k, task)`` gives `Factors`.
    shares : bool
        Whether maps are amounts, none below 0; else scores of any sign.
    positive : bool
        Whether values below 0 are taken as 0.
    memory : callable
        ``memory(k, rows, execution)``: bytes that `find` needs beside the maps.
    """

    find: Callable[[int, Task], Factors]
    shares: bool = True
    positive: bool = False
    memory: Callable[[int, Rows, Execution], float] = lambda k, rows, execution: 0.0


def _parts(k: int, task: Task) -> Factors:
    """NMF; each component has the sum of an average row, so that maps say how many such rows there are of it."""
    rows, weights = task.weighed()
    nmf = task.configured(NMF(k))
    maps, components = weights.undone(nmf.fit_transform(rows), nmf.components_)
    sums = components.sum(axis=1, dtype=np.float64)
    total = float(maps.sum(axis=0, dtype=np.float64) @ sums) / len(maps)
    if total == 0:
        return Factors(maps, components)
    share = (sums / total).astype(maps.dtype)
    scale = np.divide(1, share, out=np.zeros_like(share), where=share > 0)
    return Factors(maps * share, components * scale[:, np.newaxis])


def _directions(k: int, task: Task) -> Factors:
    """SVD of the rows as they are, about 0 and not about their mean: the sum of the components is the model."""
    rows, weights = task.weighed()
    svd = task.configured(SVD(k, center=False))
    return Factors(*weights.undone(svd.fit_transform(rows), svd.components_))


def _sources(k: int, task: Task) -> Factors:
    """ICA about the mean; sources of unit variance."""
    rows, weights = task.weighed(columns_only=True)
    ica = task.configured(ICA(k))
    sources = ica.fit_transform(rows)
    return Factors(sources, weights.undone_columns(ica.mixing_.T), weights.undone_columns(ica.mean_))


def _endmembers(estimator: type[Endmembers], k: int, task: Task) -> Factors:
    """Corners of the simplex around the rows, in the few directions that k of them span, and the shares of each.

    Rows of few counts are mostly noise; what lies outside of these directions is left out of the spectra as well.
    """
    rows, weights = task.weighed(columns_only=True)
    here = {name: getattr(task.execution, name) for name in ("max_memory", "progress")}
    here["n_jobs"] = task.execution.n_threads
    centred = estimator is not ATGP  # which measures lengths
    plane = compress(rows, max(1, k - centred), center=centred, **here)
    corners = task.configured(estimator(k)).fit(plane.scores).components_
    maps = abundances(plane.scores, corners, **here)
    return Factors(maps, weights.undone_columns(corners @ plane.basis + plane.mean))


def _clusters(k: int, task: Task) -> Factors:
    """k-means; components are the mean rows of the clusters."""
    rows, _ = task.weighed()
    labels = task.configured(KMeans(k)).fit(rows).labels_
    return _of_labels(labels, k, task)


def _of_labels(labels: NDArray[Any], k: int, task: Task) -> Factors:
    maps = np.zeros((len(labels), k), np.float32)
    maps[np.arange(len(labels)), labels] = 1
    sums, counts = task.execution.run(_cluster_sums_block, task.rows, k, along=(labels,), stage="mean of clusters")
    means = sums / np.maximum(counts, 1)[:, np.newaxis]
    return Factors(maps, means.astype(task.rows.dtype), labels=labels.astype(np.int32))


def _cluster_sums_block(block: Array, labels: NDArray[Any], k: int) -> tuple[None, tuple[Array, Array]]:
    members = (np.arange(k)[:, np.newaxis] == labels).astype(block.dtype)
    return None, ((members @ block).astype(np.float64), np.bincount(labels, minlength=k))


def _by_estimator(estimator: Any, k: int, task: Task) -> Factors:
    """A clone of any transformer or clusterer of scikit-learn's kind, on the weighed rows as an array."""
    rows, weights = task.weighed()
    estimator = clone(estimator)
    X = stored(rows, task.execution)
    if hasattr(estimator, "transform"):
        maps = np.asarray(estimator.fit(X).transform(X))
        components = getattr(estimator, "components_", None)
        if components is not None and maps.shape == (len(X), len(components)):
            return Factors(*weights.undone(maps, np.asarray(components)))
    labels = getattr(estimator.fit(X), "labels_", None)
    if labels is None or not 0 <= np.min(labels) <= np.max(labels) < k:
        raise ParameterError(
            f"`method=` must have components_ (k, d) and transform rows to k numbers, or give labels from 0 to {k - 1}",
            method=estimator,
        )
    return _of_labels(np.asarray(labels), k, task)


def _fit_bytes(estimator: Callable[[int], Any], k: int, rows: Rows, execution: Execution) -> float:
    return float(execution.configure(estimator(k)).predicted_bytes(*rows.shape, rows.dtype))


def _plane_bytes(k: int, rows: Rows, execution: Execution) -> float:
    return compress_bytes(rows, k, execution.n_threads)


def _stored_bytes(k: int, rows: Rows, execution: Execution) -> float:
    return float(rows.shape[0] * rows.shape[1] * rows.dtype.itemsize)


#: The methods of `unmix`, the default first.
METHODS: Mapping[str, Method] = {
    "nmf": Method(_parts, positive=True, memory=partial(_fit_bytes, NMF)),
    "svd": Method(_directions, shares=False, memory=partial(_fit_bytes, SVD)),
    "ica": Method(_sources, shares=False, memory=partial(_fit_bytes, ICA)),
    **{
        name: Method(partial(_endmembers, estimator), memory=_plane_bytes)
        for name, estimator in (("nfindr", NFINDR), ("vca", VCA), ("spa", SPA), ("atgp", ATGP))
    },
    "kmeans": Method(_clusters, memory=partial(_fit_bytes, KMeans)),
}


def method_of(method: Any) -> Method:
    """The method of that name, or that of an estimator."""
    if isinstance(method, str):
        return METHODS[method]
    return Method(partial(_by_estimator, method), memory=_stored_bytes)
