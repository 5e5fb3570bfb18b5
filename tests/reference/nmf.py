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


def sweep_block(X, V, G, n_sweeps, W, A, B, Wt, out, WtX, WtW):
    k, X = len(G), X.astype(np.float64)
    columns = W.T.copy()
    hals_block((X @ V[:, :k]).T, G, n_sweeps, columns)
    out[:] = columns.T
    WtX[:] = 0
    WtX[:k] = out.T @ X
    WtW[:] = out.T @ out


def residual_block(X, W, H, out):
    out[:] = ((X.astype(np.float64) - W.astype(np.float64) @ H) ** 2).sum(axis=0)
