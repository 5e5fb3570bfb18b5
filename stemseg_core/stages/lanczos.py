"""Leading eigenvectors of a matrix that is only known by its products: block Lanczos iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from stemseg_core._kernels import compress as kernels
from stemseg_core.system.types import Array

#: Vectors that are iterated beyond those wanted. Twice as many: fewer steps, each of them dearer.
OVERSAMPLING = 10
#: Blocks of vectors that the basis holds before it is cut down to the best block (restart). Twice as many: twice the
#: memory, and fewer steps where the spectrum is flat.
BASIS_BLOCKS = 12
#: Steps after which the iteration is given up, with a result that says so. Twice as many: flat spectra take longer, and
#: some converge.
MAX_STEPS = 100


@dataclass(frozen=True, eq=False)
class EigenPairs:
    """Leading eigenvalues and eigenvectors of a symmetric matrix S.

    Attributes
    ----------
    values : ndarray of shape (rank,)
        The largest first.
    vectors : ndarray of shape (d, rank)
        Orthonormal columns.
    converged : bool
        False only of an iteration that ran out of steps.
    n_steps : int
        Of the iteration; 0 where there was none.
    residual : float
        Norm of ``S vectors - vectors diag(values)``, in exact arithmetic.
    """

    values: Array
    vectors: Array
    converged: bool = True
    n_steps: int = 0
    residual: float = 0.0


def block_width(rank: int, d: int) -> int:
    """Vectors that are iterated together: some more than wanted, as many as are multiplied at no more cost."""
    return min(-(-(rank + OVERSAMPLING) // kernels.LANES) * kernels.LANES, d)


def lanczos_bytes(d: int, rank: int) -> float:
    """Predicted memory of `block_lanczos` without that of `times`: the basis, and what is made of its last block."""
    return 8.0 * d * block_width(rank, d) * (BASIS_BLOCKS + 10)


def block_lanczos(
    times: Callable[[Array], Array],
    d: int,
    rank: int,
    dtype: np.dtype[Any],
    *,
    max_steps: int | None = None,
    start: Array | None = None,
) -> EigenPairs:
    """Leading eigenpairs of a positive semi-definite matrix S by block Lanczos iteration, from a start of fixed seed.

    The orthonormal basis K of the Krylov space grows by what S times its last block adds to it, and is cut down to its
    leading Ritz vectors when it gets large (thick restart). What is added has the products of K and S K as its
    coefficients, so that neither S K nor the Ritz vectors need be formed to know the residuals ``S v - theta v``. A
    Ritz value is off by at most the square of its residual over its distance to the rest of the spectrum.

    Parameters
    ----------
    times : callable
        Q -> S Q for Q of shape (d, m).
    d, rank : int
    dtype : dtype
        Precision of `times`. The iteration ends when the estimated error of every wanted eigenvalue is below 1e-6
        (float32) or 1e-11 (float64) of it, or its residual is rounding.
    max_steps : int, default=MAX_STEPS
        Products at most.
    start : ndarray of shape (d, m), optional
        Columns near the wanted vectors, fewer than `block_width`. The rest of the first block is random, so that a
        vector of which `start` knows nothing is found nevertheless.

    Returns
    -------
    EigenPairs

    References
    ----------
    C. Musco and C. Musco, Randomized block Krylov methods, NeurIPS 2015, arXiv:1504.05477; K. Wu and H. Simon,
    Thick-restart Lanczos, SIAM J. Matrix Anal. Appl. 22 (2000), doi:10.1137/S0895479898334605.
    """
    max_steps = MAX_STEPS if max_steps is None else max_steps
    tolerance, rounding = (1e-6, 1e-8) if dtype == np.float32 else (1e-11, 1e-16)
    width = block_width(rank, d)
    Q = np.random.default_rng(0).standard_normal((d, width))
    if start is not None:
        Q[:, : start.shape[1]] = start
    Q = _new_vectors(Q, Q.T @ Q, np.empty((d, 0)))
    K, size = np.empty((d, BASIS_BLOCKS * width), order="F"), 0
    T = np.empty((0, 0))
    converged, step = False, 0
    while not converged and step < max_steps:
        step += 1
        K[:, size : size + Q.shape[1]] = Q
        size += Q.shape[1]
        basis = K[:, :size]
        SQ = times(Q)
        new = basis.T @ SQ
        T = np.block([[T, new[: len(T)]], [new.T]])
        theta, y = scipy.linalg.eigh(T)
        theta, y = theta[::-1], y[:, ::-1]
        R = SQ
        R -= basis @ new
        RR = R.T @ R
        last = y[size - Q.shape[1] :, :rank]
        residual = np.sqrt(np.maximum(np.einsum("ij,ij->j", last, RR @ last), 0))
        gap = theta[:rank] - (theta[width] if len(theta) > width else 0.0)
        accurate = residual**2 <= tolerance * np.maximum(theta[:rank], 0) * gap
        Q = _new_vectors(R, RR, basis)
        # After one step, nothing is known of what the start was orthogonal to.
        converged = bool((accurate | (residual <= rounding * theta[0])).all() and step > 1) or Q.shape[1] == 0
        if size + Q.shape[1] > K.shape[1] and not converged:
            K[:, :width], T, size = basis @ y[:, :width], np.diag(theta[:width]), width
    return EigenPairs(
        values=theta[:rank],
        vectors=np.linalg.qr(basis @ y[:, :rank])[0],
        converged=converged,
        n_steps=step,
        residual=float(np.linalg.norm(residual)),
    )


def _new_vectors(R: Array, RR: Array, K: Array) -> Array:
    """Orthonormal basis of what the columns of R, orthogonal to K up to rounding, add to the span of K; RR is R' R.

    Products with small matrices do it in a quarter of the time of a QR factorisation of the tall R. Whatever is shorter
    than 1e-7 of its column is dropped, and a second round restores orthogonality.
    """
    Q = R @ _inverse_root(RR)
    Q -= K @ (K.T @ Q)
    Q = Q @ _inverse_root(Q.T @ Q)
    return Q[:, : K.shape[0] - K.shape[1]]


def _inverse_root(RR: Array) -> Array:
    """W such that R W is orthonormal, given R' R; directions much shorter than the columns of R are left out."""
    lengths = np.sqrt(np.diag(RR))
    scale = np.where(lengths > 0, lengths, 1.0)
    values, vectors = np.linalg.eigh(RR / np.outer(scale, scale))
    kept = values > 1e-14
    W: Array = vectors[:, kept] / np.sqrt(values[kept]) / scale[:, np.newaxis]
    return W
