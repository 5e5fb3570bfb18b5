"""Pure-NumPy twins of the kernels in src/nfindr.pyx."""

import numpy as np


def extremes_block(Y, w_0, W, value, best, row):
    F = np.abs(w_0 + Y.astype(np.float64) @ W)
    row[:] = F.argmax(axis=0)
    best[:] = F.max(axis=0)
    value[:] = F[-1]
