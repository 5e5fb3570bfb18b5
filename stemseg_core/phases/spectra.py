"""What a segmentation compares: some of the frequencies of window spectra, their amplitude partly normalised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stemseg_core.phases.frequencies import AngularMoments, Frequencies
from stemseg_core.rows.sources import Rows
from stemseg_core.system.types import Array, Index
from stemseg_core.windows.plan import HalfPlane

#: Range in which a sum of squares has neither overflowed nor lost digits to numbers below the smallest normal one. If
#: it is narrower, more rows are summed again, scaled by their largest entry.
SAFE_SQUARES = {np.dtype(np.float32): (1e-25, 1e37), np.dtype(np.float64): (1e-280, 1e307)}

#: Spectra whose moments are taken at once: a block of moments has many rows, whose spectra are long. Twice as many:
#: twice the memory.
MOMENT_ROWS = 256


def row_norms(block: Array) -> NDArray[np.float64]:
    """Length of each row, also where its squares overflow or vanish."""
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
    """Window spectra as they are compared, x -> x / |x|**normalize; features that do not count are zero. A row source.

    The lowest frequencies carry thickness, contamination and the skirt of the zero beam, not the lattice. Full
    normalisation (1) would make vacuum as loud as crystal; none (0) lets a thickness ramp pass for a phase.

    Parameters
    ----------
    rows : Rows of shape (n, d)
        A `WindowMatrix`, or what stores its rows.
    half_plane : HalfPlane
        Which frequencies these rows are of.
    frequencies : Frequencies
        Which of them are compared. If directions do not count, rows are `AngularMoments`.
    normalize : float
        Exponent, 0 to 1.
    """

    def __init__(self, rows: Rows, half_plane: HalfPlane, frequencies: Frequencies, normalize: float) -> None:
        self.rows, self.normalize = rows, normalize
        self.dropped = np.flatnonzero(~frequencies.kept(half_plane))
        self.moments = frequencies.moments(half_plane, rows.dtype)
        self.shape = rows.shape if self.moments is None else (rows.shape[0], self.moments.n)
        self.dtype, self.n_blocks = rows.dtype, rows.n_blocks

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()

        def spectra(i: int) -> Array:
            block = _without(read(i), self.dropped)
            if self.normalize:
                norm = row_norms(block)
                norm[norm == 0] = 1
                block *= (norm**-self.normalize).astype(block.dtype)[:, None]
            return block if self.moments is None else self.moments(block)

        return spectra


class PowerSpectra(Rows):
    """Power spectra of windows, (x / unit)**2 of moduli x; features that do not count are zero. A row source.

    Whether directions count or not, rows are features: `SmoothedSpectra` takes the moments when they are smoothed.

    Parameters
    ----------
    rows : Rows of shape (n, d)
        A `WindowMatrix` of moduli.
    half_plane : HalfPlane
        Which frequencies these rows are of.
    frequencies : Frequencies
        Which of them are compared.
    unit : float
        Near the moduli: their squares would overflow or vanish else.
    """

    def __init__(self, rows: Rows, half_plane: HalfPlane, frequencies: Frequencies, unit: float) -> None:
        self.rows, self.unit = rows, unit
        self.dropped = np.flatnonzero(~frequencies.kept(half_plane))
        self.shape, self.dtype, self.n_blocks = rows.shape, rows.dtype, rows.n_blocks

    def index(self, i: int) -> Index:
        return self.rows.index(i)

    def reader(self) -> Callable[[int], Array]:
        read = self.rows.reader()

        def powers(i: int) -> Array:
            block = _without(read(i), self.dropped)
            block /= self.unit
            block *= block
            return block

        return powers


def _without(block: Array, dropped: NDArray[np.intp]) -> Array:
    """A block of rows with some features set to zero: in place if it belongs to the reader, else a copy."""
    if not block.flags.writeable:
        block = block.copy()
    block[:, dropped] = 0
    return block


class SmoothedSpectra:
    """Spectra from their scores, not negative and each of length 1; an array that makes its rows when sliced.

    The scores are of power spectra, smoothed. Powers add up where windows are averaged: their mean over neighbouring
    windows has little noise and no bias. Only then is the length, which depends on thickness and dose, divided out.

    Parameters
    ----------
    scores : ndarray of shape (n, r)
    basis : ndarray of shape (r, d)
    mean : ndarray of shape (d,)
    moments : AngularMoments, optional
        What rows are made of in the end, if directions do not count.
    """

    def __init__(self, scores: Array, basis: Array, mean: Array, moments: AngularMoments | None = None) -> None:
        self.scores, self.basis, self.mean, self.moments = scores, basis, mean, moments
        self.shape, self.dtype = (len(scores), basis.shape[1] if moments is None else moments.n), scores.dtype

    def __getitem__(self, index: slice) -> Array:
        if self.moments is None:
            return self._spectra(self.scores[index])
        moments = np.empty((len(self.scores[index]), self.shape[1]), self.dtype)
        for start in range(0, len(moments), MOMENT_ROWS):
            part = slice(start, start + MOMENT_ROWS)
            moments[part] = self.moments(self._spectra(self.scores[index][part]))
        return moments

    def _spectra(self, scores: Array) -> Array:
        rows: Array = scores @ self.basis
        rows += self.mean
        np.maximum(rows, 0, out=rows)
        norm = row_norms(rows)
        norm[norm == 0] = 1
        rows /= norm.astype(rows.dtype)[:, np.newaxis]
        return rows
