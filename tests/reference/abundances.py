"""Pure-NumPy twins of the kernels in src/abundances.pyx."""

import numpy as np


def products_block(X, E, scale, B):
    B[...] = scale * (X.astype(np.float64) @ E.astype(np.float64).T)


def enumerate_block(B, offset, scale, sum_to_one, maps, members, out):
    b = _load(B, offset, scale, sum_to_one)
    violations = np.einsum("sqj,nj->snq", maps, np.column_stack([b, np.ones(len(b))]))
    best = violations.max(axis=2).clip(0).argmin(axis=0)
    amounts = -violations[best, np.arange(len(b))] * members[best]
    out[...] = scale * np.maximum(amounts, 0)


def active_set_block(B, offset, scale, c, G, max_iter, L, work, index, out):
    unfinished = 0
    for row, b in enumerate(_load(B, offset, scale, c[0] > 0)):
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


def _load(B, offset, scale, sum_to_one):
    b = B.astype(np.float64) + offset
    return scale * (b - b.max(axis=1, keepdims=True) if sum_to_one else b)


def _solve(G, b, c, members):
    u = np.zeros(len(b))
    mu = 0.0
    if len(members):
        inverse = np.linalg.inv(G[np.ix_(members, members)])
        if c[0] > 0:
            mu = (c[members] @ inverse @ b[members] - 1) / (c[members] @ inverse @ c[members])
        u[members] = inverse @ (b[members] - mu * c[members])
    return u, mu
