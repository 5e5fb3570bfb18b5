"""Pure-NumPy twins of the kernels in src/nmf.pyx."""

import numpy as np


def hals_block(B, G, n_sweeps, Z):
    for _ in range(n_sweeps):
        for component in range(len(B)):
            if G[component, component] <= 0:
                Z[component] = 0
            else:
                step = (B[component] - G[component] @ Z) / G[component, component]
                Z[component] = np.maximum(Z[component] + step, 0)


def residual_block(X, W, H, scratch, out):
    out[:] = ((X.astype(np.float64) - W.astype(np.float64) @ H) ** 2).sum(axis=0)
