"""What a segmentation compares: some of the frequencies of window spectra, their amplitude partly normalised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.frequencies import AngularMoments, Frequencies
from stemseg_core.rows.sources import Rows
from stemseg_core.system.types import Index
from stemseg_core.windows.windows import WindowMatrix

#: Sums of squares in this range neither overflowed nor lost digits below the smallest numbers.
SAFE_SQUARES = {np.dtype(np.float32): (1e-25, 1e37), np.dtype(np.float64): (1e-280, 1e307)}

#: Spectra whose moments are taken at once: blocks of moments have many rows, and these are long before.
MOMENT_ROWS = 256


def row_norms(block: NDArray[Any]) -> NDArray[np.float64]:
    """Length of each row; of rows whose squares overflow or vanish relative to their largest entry."""
    with np.errstate(over="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", block, block).astype(np.float64))
    low, high = SAFE_SQUARES[block.dtype]
    risky = np.flatnonzero((norms < low**0.5) | (norms > high**0.5))
    if len(risky):
        rows = block[risky]
        largest = np.abs(rows).max(axis=1, initial=0)
        largest[largest == 0] = 1
        rows /= largest[:, None]
        norms[risky] = np.sqrt(np.einsum("ij,ij->i", rows, rows)) * largest.astype(np.float64)
    return norms


class Spectra(Rows):
    """Rows of a `WindowMatrix`, x -> x / |x|**normalize, with the features set to zero that do not count; a row source.

    The lowest frequencies carry thickness, contamination and the skirt of the zero beam, not the lattice. Full
    normalisation (1) would make vacuum as loud as crystal; none (0) lets a thickness ramp pass for a phase.

    Parameters
    ----------
    matrix : WindowMatrix
    frequencies : Frequencies
        Which are compared. If their directions do not count, rows are `AngularMoments`.
    normalize : float
        Exponent, 0 to 1.
    rows : Rows, optional
        Where the rows of the matrix are to be had, if not from itself.
    unit : float, optional
        If given, rows are (x / unit)^2 in place of x: powers, of rows of moduli. They keep their directions: moments
        are to be taken when they are smoothed.
    """

    def __init__(
        self,
        matrix: WindowMatrix,
        frequencies: Frequencies,
        normalize: float,
        rows: Rows | None = None,
        unit: float | None = None,
    ) -> None:
        self.unit = unit
        self.rows = matrix if rows is None else rows
        self.normalize = normalize
        self.dropped = np.flatnonzero(~frequencies.kept(matrix))
        self.moments = frequencies.moments(matrix) if unit is None else None
        self.shape = matrix.shape if self.moments is None else (matrix.shape[0], self.moments.n)
        self.dtype, self.n_blocks = matrix.dtype, matrix.n_blocks

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], NDArray[Any]]:
        read = self.rows.reader()

        def spectra(i: int) -> NDArray[Any]:
            block = read(i)
            if not block.flags.writeable:  # else the reader's own memory, free to change
                block = block.copy()
            block[:, self.dropped] = 0
            if self.unit is not None:
                block /= self.unit
                block *= block
            if self.normalize:
                norm = row_norms(block)
                norm[norm == 0] = 1
                block *= (norm**-self.normalize).astype(block.dtype)[:, None]
            return block if self.moments is None else self.moments(block)

        return spectra


class SmoothedSpectra:
    """Spectra that scores stand for, none negative, each of length 1; an array that makes its rows when sliced.

    Of powers, which add up where windows are averaged: the mean over neighbouring windows has little noise and no bias.
    Only then is the length, which tells of thickness and dose, divided out.

    Parameters
    ----------
    scores : ndarray of shape (n, r)
    basis : ndarray of shape (r, d)
    mean : ndarray of shape (d,)
    moments : AngularMoments, optional
        What is taken of the spectra in the end, if their directions do not count.
    """

    def __init__(
        self, scores: NDArray[Any], basis: NDArray[Any], mean: NDArray[Any], moments: AngularMoments | None = None
    ) -> None:
        self.scores, self.basis, self.mean, self.moments = scores, basis, mean, moments
        self.shape, self.dtype = (len(scores), basis.shape[1] if moments is None else moments.n), scores.dtype

    def __getitem__(self, index: slice) -> NDArray[Any]:
        if self.moments is None:
            return self._spectra(self.scores[index])
        moments = np.empty((len(self.scores[index]), self.shape[1]), self.dtype)
        for start in range(0, len(moments), MOMENT_ROWS):
            part = slice(start, start + MOMENT_ROWS)
            moments[part] = self.moments(self._spectra(self.scores[index][part]))
        return moments

    def _spectra(self, scores: NDArray[Any]) -> NDArray[Any]:
        rows: NDArray[Any] = scores @ self.basis
        rows += self.mean
        np.maximum(rows, 0, out=rows)
        norm = row_norms(rows)
        norm[norm == 0] = 1
        rows /= norm.astype(rows.dtype)[:, np.newaxis]
        return rows
