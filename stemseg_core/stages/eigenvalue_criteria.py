"""How many components: criteria on the singular values of a sample of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse.linalg import svds
from scipy.stats import norm

from stemseg_core.stages.estimates import Curve

Array = NDArray[np.float64]

#: Copies of the rows with permuted columns that a singular value is compared with. Twice as many: a steadier limit, at
#: twice the time.
N_PERMUTED = 8
#: Standard deviations of the largest singular values of these copies that a component must be above their mean. Twice
#: as many: fainter components are taken for noise.
DEVIATIONS = 4.0
#: Probability that HFC takes an eigenvalue of noise for a component. Twice as large: twice as many false components.
FALSE_ALARM = 1e-3
#: Singular values that the elbow is looked for in, at least. Twice as many: a longer tail of noise, which draws the
#: chord down.
ELBOW_VALUES = 20
#: Singular values below this share of the largest, or of the mean's length, are rounding. Twice as large: components
#: that are this faint are lost.
ROUNDING = 1e-6
#: Largest side of a matrix all of whose singular values are computed where only the first is wanted. Twice as large:
#: slower than the iteration that replaces it.
DENSE_SIDE = 100


class SingularValues:
    """A sample of rows (m, d) and the singular values of its centred rows, divided by sqrt(m).

    Attributes
    ----------
    rows, centred : ndarray of shape (m, d)
    mean : ndarray of shape (d,)
    values : ndarray of shape (min(m, d),)
        Falling; zero where they are rounding.
    vectors : ndarray of shape (n_shown, d)
        The first right singular vectors of the centred rows.
    rounding : float
        Length up to which a vector is rounding.
    max_components : int
        Largest number of components considered.
    seed : int
        Of permutations.
    """

    def __init__(self, rows: NDArray[Any], max_components: int, seed: int) -> None:
        self.rows = rows.astype(np.float64)
        self.mean = self.rows.mean(axis=0)
        self.centred = self.rows - self.mean
        squares, self.vectors = _decomposed(self.centred, min(max_components, *self.rows.shape))
        self.values = np.sqrt(squares)
        self.rounding = ROUNDING * float(max(np.linalg.norm(self.mean), self.values[0]))
        self.values[self.values <= self.rounding] = 0
        self.max_components, self.seed = max_components, seed

    @property
    def n_shown(self) -> int:
        """How many singular values a curve shows."""
        return min(self.max_components, len(self.values))

    def curve(self, n_directions: int, value: Array, null: Array | None = None) -> Curve:
        """The curve of a criterion that finds the centred rows to vary in `n_directions`.

        The mean is a component of its own where it leads out of these directions farther than noise does.
        """
        V = self.vectors[:n_directions]
        outside = float(np.linalg.norm(self.mean - (V @ self.mean) @ V))
        noise = self.values[n_directions] if n_directions < len(self.values) else 0.0
        found = n_directions + (outside > max(noise, self.rounding))
        chosen = int(np.clip(found, 1, self.max_components))
        return Curve(n_components=chosen, k=np.arange(1, len(value) + 1), value=value, null=null)


def scree(s: SingularValues) -> Curve:
    """Singular values against the largest of the rows with permuted columns, once the components found are removed."""
    rng = np.random.default_rng(s.seed)
    m, d = s.centred.shape
    null = np.full(s.n_shown, np.nan)
    remaining, found = s.centred, 0
    for i in range(s.n_shown):
        if s.values[i] == 0:
            break
        largest = [_largest(rng.permuted(remaining, axis=0)) for _ in range(N_PERMUTED)]
        # The remaining noise is in d - i directions. Permuting spreads it over d, so that its largest value is smaller.
        width = (np.sqrt(m) + np.sqrt(d - i)) / (np.sqrt(m * (d - i) / d) + np.sqrt(d - i))
        noise = width * float(np.mean(largest) + DEVIATIONS * np.std(largest)) / np.sqrt(m)
        null[i] = noise
        if s.values[i] <= noise:
            break
        found = i + 1
        remaining = s.centred - (s.centred @ s.vectors[:found].T) @ s.vectors[:found]
    return s.curve(found, s.values[: s.n_shown], null)


def hfc(s: SingularValues) -> Curve:
    """Eigenvalues of the correlation minus those of the covariance matrix, in standard deviations, against chance."""
    return _hfc(s.rows, s)


def nwhfc(s: SingularValues) -> Curve:
    """`hfc` after dividing each feature by its noise: the deviation from what the other features predict of it."""
    varies = s.centred.std(axis=0) > s.rounding
    if not varies.any():
        return _hfc(s.rows, s)
    covariance = np.cov(s.centred[:, varies], rowvar=False).reshape(varies.sum(), -1)
    ridge = ROUNDING**2 * np.trace(covariance) * np.eye(len(covariance))
    noise = 1 / np.sqrt(np.diag(scipy.linalg.inv(covariance + ridge)))
    return _hfc(s.rows[:, varies] / noise, s)


def _hfc(rows: Array, s: SingularValues) -> Curve:
    m = len(rows)
    correlation, covariance = _eigenvalues(rows), _eigenvalues(rows - rows.mean(axis=0))
    deviation = np.sqrt(2 / m * (correlation**2 + covariance**2))
    # Where the rows have no further direction, both eigenvalues are rounding.
    deviation[correlation <= ROUNDING**2 * correlation[0]] = np.inf
    excess = (correlation - covariance) / np.where(deviation > 0, deviation, np.inf)
    limit = float(norm.isf(FALSE_ALARM))
    found = int(np.clip((excess > limit).sum(), 1, s.max_components))
    shown = excess[: s.n_shown]
    limits = np.full(len(shown), limit)
    return Curve(n_components=found, k=np.arange(1, len(shown) + 1), value=shown, null=limits)


def elbow(s: SingularValues) -> Curve:
    """Where the logarithm of the singular values is farthest below the chord from the first to the last."""
    values = s.values[: max(ELBOW_VALUES, s.max_components)]
    values = values[values > 0]
    shown = np.log10(s.values[: s.n_shown], out=np.full(s.n_shown, np.nan), where=s.values[: s.n_shown] > 0)
    if len(values) < 3:
        return s.curve(len(values), shown)
    height = np.log10(values)
    chord = np.linspace(height[0], height[-1], len(height))
    return s.curve(int(np.argmax(chord - height)), shown, chord[: s.n_shown])


def residual(s: SingularValues) -> Curve:
    """Share of the remaining variance that the next component takes, against the longest piece of a broken stick."""
    variance = s.values**2
    remaining = np.cumsum(variance[::-1])[::-1]
    pieces = min(len(s.rows) - 1, s.rows.shape[1]) - np.arange(s.n_shown)
    share = np.divide(variance, remaining, out=np.zeros_like(variance), where=remaining > 0)[: s.n_shown]
    longest = np.array([np.mean(1 / np.arange(1, p + 1)) if p > 0 else 1.0 for p in pieces])
    exceeds = (share > longest) | ((share > 0) & (pieces <= 1))
    found = len(share) if exceeds.all() else int(np.argmin(exceeds))
    return s.curve(found, share, longest)


def _gram(A: Array) -> Array:
    """A'A / m on the shorter side."""
    return (A.T @ A if A.shape[0] >= A.shape[1] else A @ A.T) / len(A)


def _eigenvalues(A: Array) -> Array:
    """Eigenvalues of A'A / m, falling, as many as the shorter side has."""
    return np.maximum(np.linalg.eigvalsh(_gram(A))[::-1], 0)


def _decomposed(A: Array, k: int) -> tuple[Array, Array]:
    """`_eigenvalues`, and the first k right singular vectors (k, d)."""
    values, vectors = np.linalg.eigh(_gram(A))
    leading = vectors[:, ::-1][:, :k]
    if A.shape[0] < A.shape[1]:
        leading = A.T @ leading
        lengths = np.linalg.norm(leading, axis=0)
        leading = leading / np.where(lengths > 0, lengths, 1)
    return np.maximum(values[::-1], 0), np.asarray(leading.T)


def _largest(A: Array) -> float:
    """The largest singular value."""
    if min(A.shape) <= DENSE_SIDE:
        return float(np.linalg.norm(A, 2))
    start = np.ones(min(A.shape)) + np.arange(min(A.shape)) / min(A.shape)
    return float(svds(A, k=1, v0=start, tol=1e-3, return_singular_vectors=False)[0])
