"""Least squares with constraints in Gram form: one small problem a row, solved exactly by its KKT conditions."""

from cython cimport floating
from libc.math cimport INFINITY, fabs, fmax, fmin, sqrt

cdef enum:
    LANES = 32  # rows side by side: whole vectors at every SIMD level, all state of a group in the first-level cache
    MOST = 8    # most components for `enumerate_block`

ctypedef double[LANES] Lanes


def enumerate_block(
    const floating[:, ::1] B,
    const double[::1] offset,
    const double[::1] scale,
    const double[::1] c,
    const double[:, ::1] G,
    const Py_ssize_t[::1] sizes,
    const Py_ssize_t[:, ::1] members,
    const double[:, :, ::1] L,
    const double[:, ::1] y_c,
    const double[:, ::1] w,
    const double[::1] h,
    floating[:, ::1] out,
):
    """``out = argmin_a a' G a / 2 - b' a`` over a >= 0, and c' a = 1 if c is not 0, by trying every support.

    The solution on each support is scored by its largest violation of the KKT conditions, a >= 0 and
    G a - b + mu c >= 0; the least is the optimum. (The least objective would only find it to sqrt(eps).)
    Here b = scale * (B row + offset - top), top = max(B row + offset) with sum 1, else 0; what is written is scale * a.

    Shapes: B, out (n, k <= 8); offset, scale, c (k,); G (k, k), diagonal 1; for each of m supports sizes (m,), members
    (m, k), and as `solve_support` takes them L (m, k, k), y_c and w (m, k), h (m,).
    Cost: 2 s (s + k) flops a support of s components and row, in vectors over rows.
    """
    cdef Py_ssize_t n = B.shape[0], k = B.shape[1], group, start, rows, s, i, q, r
    cdef Lanes[MOST] b, y, z, a
    cdef Lanes mu, t, worst, best
    with nogil:
        for group in range((n + LANES - 1) // LANES):
            start = group * LANES
            rows = min(<Py_ssize_t>LANES, n - start)
            load(B, start, rows, offset, scale, c[0] > 0, b, t)
            for r in range(LANES):
                best[r] = INFINITY
                for q in range(k):
                    a[q][r] = 0
            for s in range(sizes.shape[0]):
                solve_support(b, members[s], sizes[s], L[s], y_c[s], w[s], h[s], y, z, mu, t)
                for r in range(LANES):
                    worst[r] = 0
                for i in range(sizes[s]):
                    for r in range(LANES):
                        worst[r] = -z[i][r] if -z[i][r] > worst[r] else worst[r]
                for q in range(k):
                    for r in range(LANES):
                        t[r] = b[q][r] - c[q] * mu[r]
                    for i in range(sizes[s]):
                        subtract(t, G[q, members[s, i]], z[i])
                    for r in range(LANES):
                        worst[r] = t[r] if t[r] > worst[r] else worst[r]
                take_better(k, members[s], sizes[s], z, worst, best, a, t)
            for q in range(k):
                for r in range(rows):
                    out[start + r, q] = <floating>(scale[q] * a[q][r])


cdef inline void load(
    const floating[:, ::1] B, Py_ssize_t start, Py_ssize_t rows, const double[::1] offset, const double[::1] scale,
    bint sum_to_one, Lanes *b, double *top,
) noexcept nogil:
    """``b = scale (B + offset - top)``: with sum 1 a constant is free, and the largest saves the digits of far rows."""
    cdef Py_ssize_t q, r
    for r in range(LANES):
        top[r] = -INFINITY if sum_to_one else 0
    for q in range(B.shape[1]):
        for r in range(LANES):
            b[q][r] = B[start + min(r, rows - 1), q] + offset[q]
            top[r] = b[q][r] if sum_to_one and b[q][r] > top[r] else top[r]
    for q in range(B.shape[1]):
        for r in range(LANES):
            b[q][r] = scale[q] * (b[q][r] - top[r])


cdef inline void solve_support(
    Lanes *b, const Py_ssize_t[::1] members, Py_ssize_t size, const double[:, ::1] L,
    const double[::1] y_c, const double[::1] w, double h, Lanes *y, Lanes *z, double *mu, double *t,
) noexcept nogil:
    """The solution z on a support, G = L L' there (L holds the inverse of its diagonal), y_c = L^-1 c:
    y = L^-1 b, mu = w' y - h, z = L'^-1 (y - mu y_c), with w = y_c / y_c' y_c and h = 1 / y_c' y_c, or 0 if c is 0.
    """
    cdef Py_ssize_t i, j, r
    for r in range(LANES):
        mu[r] = -h
    for i in range(size):
        for r in range(LANES):
            t[r] = b[members[i]][r]
        for j in range(i):
            subtract(t, L[i, j], y[j])
        for r in range(LANES):
            y[i][r] = L[i, i] * t[r]
        subtract(mu, -w[i], y[i])
    for i in range(size - 1, -1, -1):
        for r in range(LANES):
            t[r] = y[i][r] - y_c[i] * mu[r]
        for j in range(i + 1, size):
            subtract(t, L[j, i], z[j])
        for r in range(LANES):
            z[i][r] = L[i, i] * t[r]


cdef inline void take_better(
    Py_ssize_t k, const Py_ssize_t[::1] members, Py_ssize_t size, Lanes *z,
    double *worst, double *best, Lanes *a, double *t,
) noexcept nogil:
    """Where worst < best, replace a by z, clipped at 0, on the members and by 0 elsewhere, and best by worst."""
    cdef Py_ssize_t q, i = 0, r
    for q in range(k):
        for r in range(LANES):
            t[r] = 0
        if i < size and members[i] == q:
            for r in range(LANES):
                t[r] = z[i][r] if z[i][r] > 0 else 0
            i += 1
        for r in range(LANES):
            a[q][r] = t[r] if worst[r] < best[r] else a[q][r]
    for r in range(LANES):
        best[r] = worst[r] if worst[r] < best[r] else best[r]


cdef inline void subtract(double *t, double f, const double *v) noexcept nogil:
    """``t -= f v`` over the lanes."""
    cdef Py_ssize_t r
    for r in range(LANES):
        t[r] -= f * v[r]


def active_set_block(
    const floating[:, ::1] B,
    const double[::1] offset,
    const double[::1] scale,
    const double[::1] c,
    const double[:, ::1] G,
    Py_ssize_t max_iter,
    double[:, ::1] L,
    double[:, ::1] work,
    Py_ssize_t[:, ::1] index,
    floating[:, ::1] out,
):
    """As `enumerate_block` for any k: the active-set method of Lawson & Hanson (1974, ch. 23) on the Gram matrix.

    The support grows by the component that violates the KKT conditions most and is independent of the others, and
    shrinks where the way to the solution on it meets a bound. Every row starts afresh, so its answer is its own.

    Shapes: B, out (n, k); offset, scale, c (k,); G (k, k), diagonal 1 or 0. Scratch: L (k, k), work (6, k),
    index (2, k).
    Returns how many rows were left at a point that is only feasible after `max_iter` changes of their support.
    Cost: about 2 k s^2 + s^3 flops a row with a support of s components.
    """
    cdef Py_ssize_t n = B.shape[0], k = B.shape[1], row, q, size, unfinished = 0
    cdef double[::1] b = work[0], a = work[1], u = work[2], r = work[3], y = work[4], y_c = work[5]
    cdef Py_ssize_t[::1] members = index[0], closed = index[1]
    cdef double mu, target_mu, tolerance, top
    with nogil:
        for row in range(n):
            tolerance = 0
            top = B[row, 0] + offset[0] if c[0] > 0 else 0
            for q in range(k):
                if c[0] > 0:
                    top = fmax(top, B[row, q] + offset[q])
            for q in range(k):
                b[q] = scale[q] * (B[row, q] + offset[q] - top)
                a[q] = 0
                closed[q] = 0
                tolerance = fmax(tolerance, 4e-15 * k * fmax(fabs(b[q]), 1 / c[q] if c[q] > 0 else 0))
            mu = 0
            size = 0
            if c[0] > 0:
                members[0] = best_vertex(b, c)
                append(G, b, c, members, 0, L, y, y_c)
                size = 1
                mu = solve(c, 1, L, y, y_c, u)
                a[members[0]] = u[0]
                closed[members[0]] = 1
            for _ in range(max_iter):
                q = most_violating(G, b, c, a, mu, members, size, closed, tolerance, r)
                if q < 0:
                    break
                closed[q] = 1
                members[size] = q
                # A component that depends on the support, or gains by rounding only, waits until the support changes.
                if not append(G, b, c, members, size, L, y, y_c):
                    continue
                target_mu = solve(c, size + 1, L, y, y_c, u)
                if u[size] <= 0:
                    continue
                size += 1
                while not step(a, u, members, size):
                    size = shrink(G, b, c, a, members, size, L, y, y_c)
                    target_mu = solve(c, size, L, y, y_c, u)
                mu = target_mu
                for q in range(k):
                    closed[q] = a[q] > 0
            else:
                unfinished += 1
            for q in range(k):
                out[row, q] = <floating>(scale[q] * a[q])
    return unfinished


cdef inline Py_ssize_t best_vertex(const double[::1] b, const double[::1] c) noexcept nogil:
    """The single component a_q = 1 / c_q of least objective, G having the diagonal 1."""
    cdef Py_ssize_t q, best = 0
    for q in range(1, b.shape[0]):
        if (0.5 / c[q] - b[q]) / c[q] < (0.5 / c[best] - b[best]) / c[best]:
            best = q
    return best


cdef inline Py_ssize_t most_violating(
    const double[:, ::1] G, const double[::1] b, const double[::1] c, const double[::1] a, double mu,
    const Py_ssize_t[::1] members, Py_ssize_t size, const Py_ssize_t[::1] closed, double tolerance, double[::1] r,
) noexcept nogil:
    """The component outside `closed` where r = b - mu c - G a is largest, -1 if it is nowhere above the tolerance."""
    cdef Py_ssize_t i, q, found = -1
    for q in range(b.shape[0]):
        r[q] = b[q] - mu * c[q]
    for i in range(size):
        for q in range(b.shape[0]):
            r[q] -= G[members[i], q] * a[members[i]]
    for q in range(b.shape[0]):
        if not closed[q] and r[q] > tolerance:
            tolerance = r[q]
            found = q
    return found


cdef inline bint append(
    const double[:, ::1] G, const double[::1] b, const double[::1] c, const Py_ssize_t[::1] members, Py_ssize_t p,
    double[:, ::1] L, double[::1] y, double[::1] y_c,
) noexcept nogil:
    """Row p of the Cholesky factor of G over the members, with the inverse on its diagonal, and of y = L^-1 b and
    y_c = L^-1 c. False if member p depends on those before to rounding.
    """
    cdef Py_ssize_t i, j, q = members[p]
    cdef double t, pivot = G[q, q]
    y[p] = b[q]
    y_c[p] = c[q]
    for i in range(p):
        t = G[q, members[i]]
        for j in range(i):
            t -= L[p, j] * L[i, j]
        t *= L[i, i]
        L[p, i] = t
        pivot -= t * t
        y[p] -= t * y[i]
        y_c[p] -= t * y_c[i]
    if pivot <= 1e-15 * (p + 4):
        return False
    L[p, p] = 1 / sqrt(pivot)
    y[p] *= L[p, p]
    y_c[p] *= L[p, p]
    return True


cdef inline double solve(
    const double[::1] c, Py_ssize_t size, const double[:, ::1] L,
    const double[::1] y, const double[::1] y_c, double[::1] u,
) noexcept nogil:
    """The solution on the members, u = L'^-1 (y - mu y_c) with c' u = 1 if c is not 0; returns mu."""
    cdef Py_ssize_t i, j
    cdef double above = -1, below = 0, mu = 0
    if c[0] > 0:
        for i in range(size):
            above += y_c[i] * y[i]
            below += y_c[i] * y_c[i]
        mu = above / below
    for i in range(size):
        u[i] = y[i] - mu * y_c[i]
    for i in range(size - 1, -1, -1):
        u[i] *= L[i, i]
        for j in range(i):
            u[j] -= L[i, j] * u[i]
    return mu


cdef inline bint step(
    double[::1] a, const double[::1] u, const Py_ssize_t[::1] members, Py_ssize_t size,
) noexcept nogil:
    """Go from a towards u on the members until the first bound. True if u is reached; else those that met it are 0."""
    cdef Py_ssize_t i
    cdef double x, length = 2
    for i in range(size):
        if u[i] <= 0:
            x = a[members[i]]
            length = fmin(length, x / (x - u[i]))
    for i in range(size):
        x = a[members[i]]
        if u[i] <= 0 and x / (x - u[i]) <= length:
            a[members[i]] = 0
        else:
            a[members[i]] = x + length * (u[i] - x) if length < 1 else u[i]
    return length == 2


cdef inline Py_ssize_t shrink(
    const double[:, ::1] G, const double[::1] b, const double[::1] c, const double[::1] a, Py_ssize_t[::1] members,
    Py_ssize_t size, double[:, ::1] L, double[::1] y, double[::1] y_c,
) noexcept nogil:
    """Remove the members with a = 0 and factorise anew from the first of them on; returns the new size."""
    cdef Py_ssize_t i, kept = 0
    for i in range(size):
        if a[members[i]] > 0:
            members[kept] = members[i]
            if kept < i:
                append(G, b, c, members, kept, L, y, y_c)
            kept += 1
    return kept
