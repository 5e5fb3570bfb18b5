"""How many components a matrix of rows has: several criteria side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.parameters import Parameters
from stemseg_core.phases.separability import Witnesses, estimate_n_phases
from stemseg_core.rows.base import check_rows, check_whole
from stemseg_core.rows.blocks import take_rows
from stemseg_core.rows.sources import Rows
from stemseg_core.rows.weights import WeighedRows, Weights
from stemseg_core.stages.cluster_criteria import gap, silhouette, stability
from stemseg_core.stages.compress import compress
from stemseg_core.stages.count_splitting import split_counts
from stemseg_core.stages.eigenvalue_criteria import SingularValues, elbow, hfc, nwhfc, residual, scree
from stemseg_core.stages.estimates import ComponentEstimate, Curve
from stemseg_core.system.docs import shared_docs
from stemseg_core.system.errors import ParameterError
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import MemoryLimit
from stemseg_core.system.random import RandomState, as_seed
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.matrix import WindowMatrix

#: Criteria on the singular values of a sample of rows.
OF_SINGULAR_VALUES = {"scree": scree, "hfc": hfc, "nwhfc": nwhfc, "elbow": elbow, "residual": residual}
#: Criteria on clusters of the scores of the sample.
OF_CLUSTERS = {"stability": stability, "silhouette": silhouette, "gap": gap}
METHODS = ("auto", *OF_SINGULAR_VALUES, *OF_CLUSTERS, "separation", "counts")
#: What may be known of the noise.
NOISES = (None, "poisson")
#: Numbers (rows times features) that the sample of rows is to have. Twice as many: twice the rows, four times the time.
SAMPLE_SIZE = 4_000_000
#: Fewest rows of the sample, however many features they have. Twice as many: more memory where features are many.
MIN_SAMPLE_ROWS = 500
#: Most rows of the sample, however few features they have. Twice as many: four times the time of clusters.
MAX_SAMPLE_ROWS = 3_000


@shared_docs
def estimate_n_components(
    X: Any,
    *,
    method: str = "auto",
    noise: str | None = None,
    max_components: int = 10,
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    max_memory: MemoryLimit = None,
    progress: Progress | None = None,
) -> ComponentEstimate:
    """Estimate how many components rows are made of: k in X ~ W H, or the number of clusters.

    Parameters
    ----------
    {X}
    method : str, default="auto"
        "auto": all criteria that apply; "separation" decides for the `WindowMatrix` of one image, "scree" otherwise.
        Or one of these alone:

        - "separation": clusters of windows that differ by more than those of maps without phases (see Notes of
          `segment`). Only for the `WindowMatrix` of one image.
        - "scree": singular values above those of the same rows with every column permuted by itself, after what was
          found has been taken off (parallel analysis with deflation).
        - "hfc": eigenvalues of the correlation matrix that exceed those of the covariance matrix by more than chance
          (Harsanyi-Farrand-Chang, false alarm rate 1e-3); "nwhfc": after whitening of the noise of each feature, for
          more rows than features.
        - "elbow": where the logarithm of the singular values is farthest below its chord.
        - "residual": as long as the next component takes more of what is left than the longest piece of a broken
          stick.
        - "stability": the largest number of clusters that come out alike from random halves of the rows.
        - "silhouette": the number of clusters with the largest mean silhouette, on a sample; 1 if that is below 0.25.
        - "gap": the gap statistic, against points spread evenly over the box around the scores.
        - "counts": components of one random half of the events that the other half has as well. Only for counts, of
          which it is the only criterion of "auto".
    noise : {{None, "poisson"}}, default=None
        "poisson": X holds counts of single events, whole numbers. Other criteria than "counts" are then taken on rows
        that are weighed so that all values have noise of the same variance.
    max_components : int, default=10
        Largest number considered.
    {random_state}
    {execution}

    Returns
    -------
    ComponentEstimate
        ``n_components``, ``method`` and ``curves``, a dict of the criteria computed.

    Raises
    ------
    ParameterError
        If a parameter is not as described, or the method does not apply to X.
    ValueError
        If X is not as described: NaN, or no counts of single events where they should be.
    MemoryError
        If more than `max_memory` would be needed.

    Notes
    -----
    Rows that are mixtures of k components with shares that sum to 1 vary in k - 1 directions about their mean. So
    "scree", "elbow" and "residual" count the directions of the centred rows, and the mean as one more if it
    leads out of these directions farther than noise would.

    All criteria but "separation" take the rows for independent. Overlapping windows are not: there, they count
    correlated noise and drift as components.

    Cost: two passes over X, and work on at most 3,000 rows and their 32 scores. Memory: scores of all rows and the
    sample, some 50 MB.

    References
    ----------
    J. L. Horn, Psychometrika 30 (1965) 179, 10.1007/BF02289447 (parallel analysis); E. Dobriban, A. B. Owen, J. R.
    Stat. Soc. B 81 (2019) 163, 10.1111/rssb.12301 (deflation). C.-I. Chang, Q. Du, IEEE Trans. Geosci. Remote Sens. 42
    (2004) 608, 10.1109/TGRS.2003.819189 (HFC, NWHFC). D. A. Jackson, Ecology 74 (1993) 2204, 10.2307/1939574 (broken
    stick). R. Tibshirani, G. Walther, T. Hastie, J. R. Stat. Soc. B 63 (2001) 411, 10.1111/1467-9868.00293 (gap).
    P. J. Rousseeuw, J. Comput. Appl. Math. 20 (1987) 53, 10.1016/0377-0427(87)90125-7 (silhouette). A. Neufeld et al.,
    J. Mach. Learn. Res. 25 (2024) 57 (halves of counts).

    Examples
    --------
    >>> import numpy as np
    >>> from stemseg_core import estimate_n_components
    >>> rng = np.random.default_rng(0)
    >>> X = rng.dirichlet(np.ones(3), 1000) @ rng.random((3, 50)) + 0.01 * rng.standard_normal((1000, 50))
    >>> estimate_n_components(X).n_components
    3
    """
    if method not in METHODS:
        raise ParameterError(f"`method` must be one of {METHODS}, got {method!r}", method=method)
    if noise not in NOISES:
        raise ParameterError(f"`noise` must be None or 'poisson', got {noise!r}", noise=noise)
    if method == "counts" and noise is None:
        raise ParameterError("`method=` needs noise='poisson', which says that X holds counts", method=method)
    check_whole(max_components=max_components)
    seed = as_seed(random_state)
    execution = Execution.of(n_jobs, max_memory, progress, "number of components")
    is_map = isinstance(X, WindowMatrix) and X.included.ndim == 2
    if method == "separation" and not is_map:
        raise ParameterError(
            "`method=` needs the WindowMatrix of one image, whose windows have places; got X of type "
            f"{type(X).__name__}",
            method=method,
        )
    rows = check_rows(X)
    if noise == "poisson":
        if method in ("auto", "counts"):
            return split_counts(rows, max_components, seed, execution)
        rows = WeighedRows(rows, Weights.of(rows, execution, counts=True))
    n_sampled = _n_sampled(rows, execution)
    wanted = _criteria(method, rows, n_sampled, is_map)
    scores = compress(rows, Parameters.rank, n_jobs=n_jobs, max_memory=max_memory, progress=progress).scores
    sampled = np.sort(np.random.default_rng(seed).choice(len(scores), n_sampled, replace=False))
    quiet = execution.without_progress()  # which counts criteria
    curves: dict[str, Curve] = {}
    with one_blas_thread():
        if set(wanted) & OF_SINGULAR_VALUES.keys():
            singular_values = SingularValues(take_rows(rows, sampled), max_components, seed)
        sampled_scores = np.ascontiguousarray(scores[sampled])
        for done, name in enumerate(wanted, start=1):
            if name in OF_SINGULAR_VALUES:
                curves[name] = OF_SINGULAR_VALUES[name](singular_values)
            elif name in OF_CLUSTERS:
                curves[name] = OF_CLUSTERS[name](sampled_scores, max_components, seed, quiet)
            else:
                curves[name] = _separation(Grid.of(X), scores, max_components, seed, quiet)
            execution.report(done, len(wanted))
    decides = ("separation" if is_map else "scree") if method == "auto" else method
    return ComponentEstimate(curves[decides].n_components, decides, curves)


def _n_sampled(rows: Rows, execution: Execution) -> int:
    """Rows of the sample that criteria work on; refused if they would not fit into memory."""
    n, d = rows.shape
    n_sampled = min(n, int(np.clip(SAMPLE_SIZE // d, MIN_SAMPLE_ROWS, MAX_SAMPLE_ROWS)))
    needed = 8 * (4 * n_sampled * d + 2 * min(n_sampled, d) ** 2)
    execution.require(needed, f"a sample of {n_sampled} rows", "use fewer features")
    return n_sampled


def _criteria(method: str, rows: Rows, n_sampled: int, is_map: bool) -> list[str]:
    """The criteria that are asked for, of "auto" those that apply to the rows."""
    n, d = rows.shape
    if method == "nwhfc" and n_sampled <= d:
        raise ParameterError(
            f"`method=` needs more rows than features, of {n} rows {n_sampled} are used for {d} features", method=method
        )
    if method != "auto":
        return [method]
    of_any_noise = METHODS[1 : METHODS.index("counts")]
    return [name for name in of_any_noise if (name != "separation" or is_map) and (name != "nwhfc" or n_sampled > d)]


def _separation(grid: Grid, scores: NDArray[Any], max_phases: int, seed: int, execution: Execution) -> Curve:
    """The criterion "separation", on scores smoothed as in `segment`."""
    smoothed = grid.smooth(scores.copy(), Parameters.smooth, execution)
    witnesses = Witnesses.of(smoothed, grid, Parameters.smooth)
    found = estimate_n_phases(witnesses, execution, max_phases=max_phases, seed=seed)
    return found.curves["separation"]
