"""Pure-NumPy twin of the kernel in src/gram.pyx."""

import numpy as np


def gram_block(X, mean, panels, G, sums):
    Y = (X - mean).astype(np.float64)
    G[...] = Y.T @ Y
    sums[...] = Y.sum(axis=0)
    return float((Y**2).sum())
