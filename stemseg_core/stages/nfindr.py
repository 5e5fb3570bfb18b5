"""N-FINDR: the rows that span the largest simplex, as the endmembers of all others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from stemseg_core.rows.base import check_whole
from stemseg_core.rows.sources import Rows
from stemseg_core.stages.endmembers import Cloud, Endmembers, Found, largest_coordinate
from stemseg_core.stages.projections import find_extremes
from stemseg_core.stages.simplex import PERTURBATIONS, Search
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError, warn
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState, stream
from stemseg_core.system.threads import Progress

#: Where the search may start.
STARTS = ("spa", "vca", "atgp")
#: Components up to which starts alone are tried: ten of them nearly always find the largest simplex of all. Above, the
#: largest one is perturbed too, which takes longer.
EASY_COMPONENTS = 5


@shared_docs
class NFINDR(Endmembers):
    """Endmembers by N-FINDR: the `n_components` rows of X that span the simplex of largest volume.

    Volumes are measured in the space of the first ``n_components - 1`` principal components.

    Parameters
    ----------
    n_components : int, default=2
        Number of endmembers k. With 1 it is the row farthest from the mean.
    init : {"spa", "vca", "atgp"}, default="spa"
        Where the search starts: at what `SPA`, `ATGP` or one run of `VCA` finds.
    n_init : int, default=10
        Starts of the search: one by `init`, the others from random directions. The largest simplex is taken. With more
        than five components it is then perturbed, twenty times for each start in a round, see Notes.
    max_iter : int, default=100
        Most passes over the scores.
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
    certificate_ : float
        Largest modulus of a barycentric coordinate of any row with respect to the endmembers. At most 1 (to rounding):
        no single replacement enlarges the simplex, and its volume is at least ``k**(-k / 2)`` of the largest possible.
    n_iter_ : int
        Passes over the scores.
    converged_ : bool
        Whether every start ended at a simplex that no single replacement enlarges (and the principal components are
        converged).
    n_features_in_ : int
        Number of features.

    See Also
    --------
    SPA, ATGP, VCA : The starts by themselves.
    abundances : Shares of the endmembers in each row, which `transform` returns.

    Notes
    -----
    The inverse of M = [1; vertices] gives, for every row of X and every vertex, the factor by which the volume grows if
    the row replaces the vertex [1]_. So one pass scores all rows for all vertices of all starts. The best rows join a
    pool. In the pool, which is small, each start replaces vertices until its volume grows no more. When a pass finds no
    row outside the pool that enlarges any simplex, all starts have converged on all rows.
    Successive projections are the usual start [2]_.

    Many components make many local optima. Then three or four vertices of the largest simplex are moved to random rows
    of the pool, and replaced there again, which costs little. A larger simplex found in this way takes the place of the
    largest one, and is tried on all rows.

    An outlier spans a large simplex, and has no other row near it. With `n_neighbors` = m, a row is left out if its
    m-th neighbour is more than four times as far as those of 95 % of the rows are [3]_. The principal components, and
    all that follows, are those of the rows that stay. Each of a few rounds costs as much as the principal components.

    Cost: principal components, n d^2 products; then a few passes over n (k - 1) scores, kept in memory as 8 n k bytes.

    References
    ----------
    .. [1] M. E. Winter, "N-FINDR: an algorithm for fast autonomous spectral end-member determination in hyperspectral
       data", Proc. SPIE 3753 (1999) 266-275. https://doi.org/10.1117/12.366289
    .. [2] N. Gillis, S. A. Vavasis, "Fast and robust recursive algorithms for separable nonnegative matrix
       factorization", IEEE Trans. Pattern Anal. Mach. Intell. 36 (2014) 698-714.
       https://doi.org/10.1109/TPAMI.2013.226
    .. [3] S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers from large data sets", Proc. ACM
       SIGMOD (2000) 427-438. https://doi.org/10.1145/342009.335437

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import NFINDR
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 1.0], [0.0, 4.0], [2.0, 2.0]])
    >>> nfindr = NFINDR(3).fit(X)
    >>> nfindr.indices_
    array([0, 1, 3])
    >>> nfindr.transform(X)[2].round(6)
    array([0.5 , 0.25, 0.25])
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        init: str = "spa",
        n_init: int = 10,
        max_iter: int = 100,
        n_neighbors: int | None = None,
        random_state: RandomState = 0,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress

    @property
    def _dimensions(self) -> int:
        return super()._dimensions + (self.init == "atgp")

    @property
    def _n_more_scores(self) -> int:
        return int(self.n_components) if self.init == "atgp" else 0

    def _check_parameters(self, rows: Rows, execution: Execution) -> float:
        check_whole(n_init=self.n_init, max_iter=self.max_iter)
        if self.init not in STARTS:
            raise ParameterError(f"`init` must be one of {STARTS}, got {self.init!r}", init=self.init)
        return super()._check_parameters(rows, execution)

    def _search(self, rows: Rows, cloud: Cloud, execution: Execution) -> Found:
        search = Search(cloud.Z, lambda W: find_extremes(cloud.Z, W, execution))
        random_state = stream(self.random_state)
        search.start(self._first(rows, cloud, random_state, execution), int(self.n_init), random_state)
        n_perturbations = PERTURBATIONS * int(self.n_init) if self.n_components > EASY_COMPONENTS else 0
        n_iter, converged = search.improve(int(self.max_iter), n_perturbations, random_state)
        found = search.best()
        if not converged:
            warn(
                f"N-FINDR did not converge in max_iter = {self.max_iter} passes: a row would enlarge the best simplex "
                f"{largest_coordinate(cloud.Z, found, execution):.6g} times; raise max_iter",
                ConvergenceWarning,
            )
        return Found(found, n_iter, converged)

    def _first(
        self, rows: Rows, cloud: Cloud, random_state: np.random.RandomState, execution: Execution
    ) -> NDArray[np.intp]:
        """The rows (k,) of the start that `init` names."""
        if self.init == "vca":
            first: NDArray[np.intp] = self._by_vca(cloud, 1, random_state, execution)[0]
            return first
        return self._by_spa(cloud) if self.init == "spa" else self._by_atgp(rows, execution)
