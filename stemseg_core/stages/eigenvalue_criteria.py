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

#: Permuted copies of the rows, and how many of their standard deviations a singular value must be above their mean.
N_PERMUTED, DEVIATIONS = 8, 4.0
#: Chance that an eigenvalue of noise is taken for a component.
FALSE_ALARM = 1e-3
#: Singular values that the elbow is looked for in, at least.
ELBOW_VALUES = 20
#: Singular values below this share of the largest, or of the mean's length, are rounding.
ROUNDING = 1e-6
#: Up to this side all singular values of a matrix are computed where the largest is wanted.
SMALL = 100


class Spectrum:
    """A sample of rows (m, d) and the singular values of its centred rows, divided by sqrt(m).

    Attributes
    ----------
    rows, centred : ndarray of shape (m, d)
    mean : ndarray of shape (d,)
    values : ndarray of shape (min(m, d),)
        Falling; zero where they are rounding.
    rounding : float
        What is no longer than this, is rounding.
    most : int
        Largest number of components considered.
    vectors : ndarray of shape (n_orders, d)
        The first right singular vectors of the centred rows.
    """

    def __init__(self, rows: NDArray[Any], most: int, seed: int) -> None:
        self.rows = rows.astype(np.float64)
        self.mean = self.rows.mean(axis=0)
        self.centred = self.rows - self.mean
        squares, self.vectors = _decomposed(self.centred, min(most, *self.rows.shape))
        self.values = np.sqrt(squares)
        self.rounding = ROUNDING * float(max(np.linalg.norm(self.mean), self.values[0]))
        self.values[self.values <= self.rounding] = 0
        self.most, self.seed = most, seed

    @property
    def n_orders(self) -> int:
        """Singular values that are shown."""
        return min(self.most, len(self.values))

    def curve(self, n_directions: int, value: Array, null: Array | None = None) -> Curve:
        """The choice of `n_directions` about the mean; of the mean too, if it leads out of them farther than noise."""
        V = self.vectors[:n_directions]
        outside = float(np.linalg.norm(self.mean - (V @ self.mean) @ V))
        noise = self.values[n_directions] if n_directions < len(self.values) else 0.0
        found = n_directions + (outside > max(noise, self.rounding))
        return Curve(int(np.clip(found, 1, self.most)), np.arange(1, len(value) + 1), value, null)


def scree(s: Spectrum) -> Curve:
    """Singular values against the largest of rows with permuted columns, once what was found is taken off."""
    rng = np.random.default_rng(s.seed)
    m, d = s.centred.shape
    null = np.full(s.n_orders, np.nan)
    left, found = s.centred, 0
    for i in range(s.n_orders):
        if s.values[i] == 0:
            break
        largest = [_largest(rng.permuted(left, axis=0)) for _ in range(N_PERMUTED)]
        # The noise left is in d - i directions. Permuting spreads it over d, so that its largest value is smaller.
        width = (np.sqrt(m) + np.sqrt(d - i)) / (np.sqrt(m * (d - i) / d) + np.sqrt(d - i))
        noise = width * float(np.mean(largest) + DEVIATIONS * np.std(largest)) / np.sqrt(m)
        null[i] = noise
        if s.values[i] <= noise:
            break
        found = i + 1
        left = s.centred - (s.centred @ s.vectors[:found].T) @ s.vectors[:found]
    return s.curve(found, s.values[: s.n_orders], null)


def hfc(s: Spectrum) -> Curve:
    """Eigenvalues of the correlation over those of the covariance matrix, in standard deviations, against chance."""
    return _hfc(s.rows, s)


def nwhfc(s: Spectrum) -> Curve:
    """`hfc` after dividing each feature by the deviation of what the others do not tell of it."""
    varies = s.centred.std(axis=0) > s.rounding
    if not varies.any():
        return _hfc(s.rows, s)
    covariance = np.cov(s.centred[:, varies], rowvar=False).reshape(varies.sum(), -1)
    ridge = ROUNDING**2 * np.trace(covariance) * np.eye(len(covariance))
    noise = 1 / np.sqrt(np.diag(scipy.linalg.inv(covariance + ridge)))
    return _hfc(s.rows[:, varies] / noise, s)


def _hfc(rows: Array, s: Spectrum) -> Curve:
    m = len(rows)
    correlation, covariance = _eigenvalues(rows), _eigenvalues(rows - rows.mean(axis=0))
    spread = np.sqrt(2 / m * (correlation**2 + covariance**2))
    # Both are rounding where the rows have no further direction.
    spread[correlation <= ROUNDING**2 * correlation[0]] = np.inf
    excess = (correlation - covariance) / np.where(spread > 0, spread, np.inf)
    limit = float(norm.isf(FALSE_ALARM))
    found = int(np.clip((excess > limit).sum(), 1, s.most))
    shown = excess[: s.n_orders]
    return Curve(found, np.arange(1, len(shown) + 1), shown, np.full(len(shown), limit))


def elbow(s: Spectrum) -> Curve:
    """Where the logarithm of the singular values is farthest below the chord from the first to the last."""
    values = s.values[: max(ELBOW_VALUES, s.most)]
    values = values[values > 0]
    shown = np.log10(s.values[: s.n_orders], out=np.full(s.n_orders, np.nan), where=s.values[: s.n_orders] > 0)
    if len(values) < 3:
        return s.curve(len(values), shown)
    height = np.log10(values)
    chord = np.linspace(height[0], height[-1], len(height))
    return s.curve(int(np.argmax(chord - height)), shown, chord[: s.n_orders])


def residual(s: Spectrum) -> Curve:
    """Share of what is left that the next component takes, against the longest piece of a broken stick."""
    energy = s.values**2
    left = np.cumsum(energy[::-1])[::-1]
    pieces = min(len(s.rows) - 1, s.rows.shape[1]) - np.arange(s.n_orders)
    share = np.divide(energy, left, out=np.zeros_like(energy), where=left > 0)[: s.n_orders]
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
    if min(A.shape) <= SMALL:
        return float(np.linalg.norm(A, 2))
    start = np.ones(min(A.shape)) + np.arange(min(A.shape)) / min(A.shape)
    return float(svds(A, k=1, v0=start, tol=1e-3, return_singular_vectors=False)[0])
