"""How many components a matrix of rows has: several criteria side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.separability import n_phases_of
from stemseg_core.rows.base import check_rows, check_whole
from stemseg_core.rows.blocks import take_rows
from stemseg_core.rows.transitional import tell
from stemseg_core.stages.cluster_criteria import gap, silhouette, stability
from stemseg_core.stages.compress import compress
from stemseg_core.stages.eigenvalue_criteria import Spectrum, elbow, hfc, nwhfc, residual, scree
from stemseg_core.stages.estimates import ComponentEstimate, Curve
from stemseg_core.system.execution import Execution
from stemseg_core.system.memory import require_memory
from stemseg_core.system.random import check_random_state
from stemseg_core.system.threads import Progress, one_blas_thread
from stemseg_core.windows.grid import Grid
from stemseg_core.windows.windows import WindowMatrix

#: Criteria on the singular values of a sample of rows, and on partitions of its scores.
OF_SPECTRUM = {"scree": scree, "hfc": hfc, "nwhfc": nwhfc, "elbow": elbow, "residual": residual}
OF_PARTITIONS = {"stability": stability, "silhouette": silhouette, "gap": gap}
METHODS = ("auto", *OF_SPECTRUM, *OF_PARTITIONS, "separation")
#: Numbers in the sample of rows, and how many rows it has at least and at most.
SAMPLE_SIZE, FEWEST_ROWS, MOST_ROWS = 4_000_000, 500, 3_000
#: Scores kept, and their smoothing over a grid of windows, as in `segment`.
RANK, SMOOTH = 32, 12.0


def estimate_n_components(
    X: Any,
    *,
    method: str = "auto",
    max_components: int = 10,
    random_state: int = 0,
    n_jobs: int | None = None,
    max_memory: float | str | None = None,
    progress: Progress | None = None,
) -> ComponentEstimate:
    """Estimate how many components rows are made of: k in X ~ W H, or the number of clusters.

    Parameters
    ----------
    X : array-like, memory map, HDF5 or zarr data set, or `WindowMatrix`, of shape (n, d)
    method : str, default="auto"
        "auto": all criteria that apply; "separation" decides for the `WindowMatrix` of one image, "scree" otherwise.
        Or one of these alone:

        - "separation": clusters of windows that differ by more than those of surrogate maps, which drift and are
          correlated alike but have no phases (see Notes of `segment`). Only for the `WindowMatrix` of one image.
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
    max_components : int, default=10
        Largest number considered.
    random_state : int, default=0
        Seed of samples, permutations and restarts.
    n_jobs, max_memory, progress
        Threads, memory limit, ``progress(done, total, stage)``, see `compress`.

    Returns
    -------
    ComponentEstimate
        ``n_components``, ``method`` and ``curves``, a dict of the criteria computed.

    Raises
    ------
    ValueError
        If X or a parameter is not as described, or the method does not apply to X.
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
    P. J. Rousseeuw, J. Comput. Appl. Math. 20 (1987) 53, 10.1016/0377-0427(87)90125-7 (silhouette).

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
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    check_whole(max_components=max_components)
    check_random_state(random_state, or_none=False)
    seed = int(random_state)
    of_image = isinstance(X, WindowMatrix) and X.included.ndim == 2
    if method == "separation" and not of_image:
        raise ValueError(
            "method='separation' needs the WindowMatrix of one image, whose windows have places; got X of "
            f"type {type(X).__name__}"
        )
    rows = check_rows(X)
    n, d = rows.shape
    m = min(n, int(np.clip(SAMPLE_SIZE // d, FEWEST_ROWS, MOST_ROWS)))
    if method == "nwhfc" and m <= d:
        raise ValueError(f"method='nwhfc' needs more rows than features, of {n} rows {m} are used for {d} features")
    side = min(m, d)
    require_memory(8 * (4 * m * d + 2 * side**2), max_memory, f"a sample of {m} rows", "use fewer features")
    compressed = compress(rows, RANK, n_jobs=n_jobs, max_memory=max_memory, progress=progress)
    chosen = np.sort(np.random.default_rng(seed).choice(n, m, replace=False))
    wanted = (
        [method]
        if method != "auto"
        else [name for name in METHODS[1:] if (name != "separation" or of_image) and (name != "nwhfc" or m > d)]
    )
    curves: dict[str, Curve] = {}
    with one_blas_thread():
        if set(wanted) & OF_SPECTRUM.keys():
            spectrum = Spectrum(take_rows(rows, chosen), max_components, seed)
        scores = np.ascontiguousarray(compressed.scores[chosen])
        for done, name in enumerate(wanted):
            if name in OF_SPECTRUM:
                curves[name] = OF_SPECTRUM[name](spectrum)
            elif name in OF_PARTITIONS:
                curves[name] = OF_PARTITIONS[name](scores, max_components, seed, Execution.of(n_jobs))
            else:
                curves |= _of_map(X, compressed.scores, max_components, seed, n_jobs).curves
            tell(progress, done + 1, len(wanted), "number of components")
    decided = ("separation" if of_image else "scree") if method == "auto" else method
    return ComponentEstimate(curves[decided].n_components, decided, curves)


def _of_map(matrix: WindowMatrix, scores: NDArray[Any], most: int, seed: int, n_jobs: int | None) -> ComponentEstimate:
    grid = Grid.of(matrix)
    smoothed = grid.smooth(scores.copy(), SMOOTH, Execution.of(n_jobs))
    return n_phases_of(smoothed, grid, max_phases=most, random_state=seed, n_jobs=n_jobs)
