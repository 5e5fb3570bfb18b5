"""Pure-NumPy twins of the kernels in src/abundances.pyx."""

import numpy as np


def enumerate_block(B, offset, scale, c, G, sizes, members, L, y_c, w, h, out):
    b = _load(B, offset, scale, c)
    best = np.full(len(B), np.inf)
    for s, size in enumerate(sizes):
        support = members[s, :size]
        factor = np.tril(L[s, :size, :size], -1) + np.diag(1 / L[s].diagonal()[:size])
        y = np.linalg.solve(factor, b[:, support].T).T
        mu = y @ w[s, :size] - h[s]
        z = np.zeros_like(b)
        z[:, support] = np.linalg.solve(factor.T, (y - np.outer(mu, y_c[s, :size])).T).T
        worst = np.maximum((-z).max(axis=1), (b - np.outer(mu, c) - z @ G).max(axis=1))
        better = worst < best
        out[better] = (scale * np.maximum(z, 0))[better]
        best[better] = worst[better]


def active_set_block(B, offset, scale, c, G, max_iter, L, work, index, out):
    unfinished = 0
    for row, b in enumerate(_load(B, offset, scale, c)):
        a = np.zeros(len(b))
        if c[0] > 0:
            first = np.argmin((0.5 / c - b) / c)
            a[first] = 1 / c[first]
        closed = a > 0
        mu = _solve(G, b, c, np.flatnonzero(closed))[1]
        least = 4e-15 * len(b) * max(abs(b).max(), (1 / c[c > 0]).max(initial=0))
        for _ in range(max_iter):
            violation = np.where(closed, -np.inf, b - mu * c - G @ a)
            q = np.argmax(violation)
            if violation[q] <= least:
                break
            closed[q] = True
            members = np.append(np.flatnonzero(a), q)
            if np.linalg.eigvalsh(G[np.ix_(members, members)])[0] <= 1e-14:
                continue
            u, target_mu = _solve(G, b, c, members)
            if u[q] <= 0:
                continue
            while (u[members] <= 0).any():
                low = members[u[members] <= 0]
                step = (a[low] / (a[low] - u[low])).min()
                hit = low[a[low] / (a[low] - u[low]) <= step]
                a += step * (u - a)
                a[hit] = 0
                members = np.flatnonzero(a)
                u, target_mu = _solve(G, b, c, members)
            a, mu = u, target_mu
            closed = a > 0
        else:
            unfinished += 1
        out[row] = scale * a
    return unfinished


def _load(B, offset, scale, c):
    b = B.astype(np.float64) + offset
    return scale * (b - b.max(axis=1, keepdims=True) if c[0] > 0 else b)


def _solve(G, b, c, members):
    u = np.zeros(len(b))
    mu = 0.0
    if len(members):
        inverse = np.linalg.inv(G[np.ix_(members, members)])
        if c[0] > 0:
            mu = (c[members] @ inverse @ b[members] - 1) / (c[members] @ inverse @ c[members])
        u[members] = inverse @ (b[members] - mu * c[members])
    return u, mu
