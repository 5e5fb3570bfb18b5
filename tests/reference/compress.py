"""Pure-NumPy twins of the kernels in src/compress.pyx."""

import numpy as np


def sum_block(X, squares, sums):
    squares[...] = (X.astype(np.float64) ** 2).sum(axis=1)
    sums[...] = X.sum(axis=0, dtype=np.float64)


def center_block(X, mean, Y, squares, sums):
    Y[...] = X - mean
    squares[...] = (Y.astype(np.float64) ** 2).sum(axis=1)
    sums[...] = Y.sum(axis=0, dtype=np.float64)


def project_block(X, mean, V, A, squares, sums):
    Y = X - mean
    A[: len(X)] = Y.astype(np.float64) @ V
    if sums is not None:
        center_block(X, mean, Y, squares, sums)


def scatter_block(X, mean, V, A, At, Z, squares, sums):
    Y = (X - mean).astype(np.float64)
    Z[...] = (Y.T @ (Y @ V)).T
    center_block(X, mean, np.empty_like(X), squares, sums)
