"""Successive projections: endmembers that are the rows farthest from the span of those before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stemseg_core.rows.sources import Rows
from stemseg_core.stages.endmembers import Cloud, Endmembers, Found
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.threads import Progress
from stemseg_core.system.types import Array


class _Successive(Endmembers):
    """Parameters that SPA and ATGP share."""

    def __init__(
        self,
        n_components: int = 2,
        *,
        n_neighbors: int | None = None,
        n_jobs: int | None = None,
        max_memory: MemoryLimit = None,
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.n_neighbors = n_neighbors
        self.n_jobs = n_jobs
        self.max_memory = max_memory
        self.progress = progress


@shared_docs
class SPA(_Successive):
    """Endmembers by the successive projection algorithm, on whitened principal components.

    The row farthest from the mean, then again and again the row farthest from the affine hull of those before, in
    `n_components` - 1 principal components of unit variance.

    Parameters
    ----------
    n_components : int, default=2
        Number of endmembers k. With 1 it is the row farthest from the mean.
    {n_neighbors}
    {execution}

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        The endmembers, rows of X, in the order in which they were found.
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
    ATGP : The same on the rows as they are.
    NFINDR : Goes on from here until no single replacement enlarges the simplex.

    Notes
    -----
    [1]_ on ``[1, scores]``, whose columns are orthogonal and of equal length: the pre-whitening of [2]_. Endmembers
    need not be linearly independent, only affinely, and the result does not depend on the origin or on the unit of the
    features. It is the pivoting of a QR factorisation, and deterministic.

    Cost: principal components, n d^2 products; then k passes over n k scores, kept in memory as 8 n k bytes.

    References
    ----------
    .. [1] N. Gillis, S. A. Vavasis, "Fast and robust recursive algorithms for separable nonnegative matrix
       factorization", IEEE Trans. Pattern Anal. Mach. Intell. 36 (2014) 698-714.
       https://doi.org/10.1109/TPAMI.2013.226
    .. [2] N. Gillis, W.-K. Ma, "Enhancing pure-pixel identification performance via preconditioning", SIAM J. Imaging
       Sci. 8 (2015) 1161-1186. https://doi.org/10.48550/arXiv.1406.5286

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import SPA
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0], [1.0, 1.0], [0.0, 4.0], [2.0, 2.0]])
    >>> sorted(SPA(3).fit(X).indices_.tolist())
    [0, 1, 3]
    """

    def _search(self, rows: Rows, cloud: Cloud, execution: Execution) -> Found:
        return Found(self._by_spa(cloud), int(self.n_components), True)


@shared_docs
class ATGP(_Successive):
    """Endmembers by the automatic target generation process: successive projections of the rows as they are.

    The longest row, then again and again the row with the largest part orthogonal to those before.

    Parameters
    ----------
    n_components : int, default=2
        Number of endmembers k.
    {n_neighbors}
    {execution}

    Attributes
    ----------
    components_ : ndarray of shape (k, d)
        The endmembers, rows of X, in the order in which they were found.
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
    SPA : The same whatever the origin and the unit of the features.

    Notes
    -----
    The process of [1]_ is that of [2]_, found independently. Rows are first projected on their k leading directions, of
    all directions through zero: it makes no difference to mixtures without noise, and fewer rows are taken for their
    noise (docs/decisions.md). Endmembers must be linearly independent, and long ones come first: rows should not be
    centred.

    Cost: as `SPA`, and directions twice, as volumes are those of principal components.

    References
    ----------
    .. [1] H. Ren, C.-I. Chang, "Automatic spectral target recognition in hyperspectral imagery", IEEE Trans. Aerosp.
       Electron. Syst. 39 (2003) 1232-1249. https://doi.org/10.1109/TAES.2003.1261124
    .. [2] M. C. U. Araujo et al., "The successive projections algorithm for variable selection in spectroscopic
       multicomponent analysis", Chemom. Intell. Lab. Syst. 57 (2001) 65-73.
       https://doi.org/10.1016/S0169-7439(01)00119-8

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import ATGP
    >>> X = np.array([[4.0, 0.0, 1.0], [0.0, 3.0, 1.0], [2.0, 1.5, 1.0], [1.0, 1.0, 5.0]])
    >>> ATGP(3).fit(X).indices_
    array([3, 0, 1])
    """

    @property
    def _dimensions(self) -> int:
        return int(self.n_components)

    @property
    def _n_more_scores(self) -> int:
        return int(self.n_components)

    def _search(self, rows: Rows, cloud: Cloud, execution: Execution) -> Found:
        return Found(self._by_atgp(rows, execution), int(self.n_components), True)

    def _farthest(self, rows: Rows, origin: Array, execution: Execution) -> NDArray[np.intp]:
        return super()._farthest(rows, np.zeros_like(origin), execution)
