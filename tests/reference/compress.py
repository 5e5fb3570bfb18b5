"""Plain NumPy twins of src/compress.pyx."""

import numpy as np


def center_block(X, mean, Y, squares, sums):
    Y[...] = X - mean
    squares[...] = (Y.astype(np.float64) ** 2).sum(axis=1)
    sums[...] = Y.sum(axis=0, dtype=np.float64)
