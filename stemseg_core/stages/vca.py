"""Vertex component analysis: endmembers that are extreme along random directions."""

from __future__ import annotations

import numpy as np

from stemseg_core.rows.base import check_whole
from stemseg_core.rows.sources import Rows
from stemseg_core.stages.endmembers import Cloud, Endmembers, Found
from stemseg_core.stages.simplex import largest_of
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState, stream
from stemseg_core.system.threads import Progress


@shared_docs
class VCA(Endmembers):
    """Endmembers by vertex component analysis: rows extreme along random directions orthogonal to those before.

    Parameters
    ----------
    n_components : int, default=2
        Number of endmembers k. With 1 it is the row farthest from the mean.
    n_init : int, default=10
        Runs from other directions; the one with the largest simplex is taken. 1 is the algorithm as published.
    {n_neighbors}
    {random_state}
    {execution}

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        The endmembers, rows of X, in the order of their row numbers.
    {indices_}
    {outliers_}
    {log_volume_}
    {certificate_}
    n_iter_ : int
        Passes over the scores.
    converged_ : bool
        Whether the principal components are converged.
    n_features_in_ : int
        Number of features.

    See Also
    --------
    SPA : Takes the farthest row in place of one along a random direction.
    NFINDR : Goes on until no single replacement enlarges the simplex.

    Notes
    -----
    [1]_ on ``[1, scores]``, the scores of k - 1 principal components having unit variance: the form it has for low
    signal to noise, where shares are taken to sum to 1. Its projection onto a hyperplane, which takes out the
    brightness of each row, is left to the choice of features. The runs take their steps together.

    Cost: principal components, n d^2 products; then k passes over n k scores, kept in memory as 8 n k bytes.

    References
    ----------
    .. [1] J. M. P. Nascimento, J. M. Bioucas-Dias, "Vertex component analysis: a fast algorithm to unmix hyperspectral
       data", IEEE Trans. Geosci. Remote Sens. 43 (2005) 898-910. https://doi.org/10.1109/TGRS.2005.844293

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import VCA
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 1.0], [0.0, 4.0], [2.0, 2.0]])
    >>> VCA(3).fit(X).indices_
    array([0, 1, 3])
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        n_init: int = 10,
        n_neighbors: int | None = None,
        random_state: RandomState = 0,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_init = n_init
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    def _check_parameters(self, rows: Rows, execution: Execution) -> float:
        check_whole(n_init=self.n_init)
        return super()._check_parameters(rows, execution)

    def _search(self, rows: Rows, cloud: Cloud, execution: Execution) -> Found:
        runs = self._by_vca(cloud, int(self.n_init), stream(self.random_state), execution)
        return Found(np.sort(largest_of(cloud.Z, runs)), int(self.n_components), True)
