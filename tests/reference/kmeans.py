"""Pure-NumPy twins of the kernels in src/kmeans.pyx, in float64."""

import numpy as np


def distances_block(X, columns, out):
    """out[i, j] = |x_i - c_j|^2."""
    out[...] = ((X[:, None].astype(np.float64) - columns.T[: out.shape[1]]) ** 2).sum(axis=2)


def own_distances_block(X, centers, labels, out):
    """out[i] = |x_i - c_labels[i]|^2."""
    out[...] = ((X.astype(np.float64) - centers[labels]) ** 2).sum(axis=1)


def accumulate_block(X, origin, old, new, sums, counts):
    """Move the rows whose label changed from sums[old], counts[old] to sums[new], counts[new]."""
    changed = old != new
    rows = X[changed].astype(np.float64) - origin
    np.add.at(sums, new[changed], rows)
    np.add.at(counts, new[changed], 1)
    labelled = old[changed] >= 0
    np.subtract.at(sums, old[changed][labelled], rows[labelled])
    np.subtract.at(counts, old[changed][labelled], 1)


def assign_block(X, origin, centers, columns, half_norms, moves, products, touched, labels, gaps):
    """Labels of the rows whose gap is used up, and their gaps: second smallest minus smallest distance."""
    gaps -= np.where(labels < 0, 0, moves[labels]).astype(gaps.dtype)
    rows = np.flatnonzero(~(gaps > 0))
    touched[: len(rows)] = rows
    squares = np.empty((len(rows), len(centers)))
    distances_block(X[rows], centers.T, squares)
    labels[rows] = squares.argmin(axis=1)
    smallest = np.sort(np.sqrt(squares), axis=1)
    gaps[rows] = smallest[:, 1] - smallest[:, 0] if len(centers) > 1 else 0
    return float(((X[rows].astype(np.float64) - origin) ** 2).sum()), len(rows)
