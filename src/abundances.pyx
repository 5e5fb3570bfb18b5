"""Least squares with constraints in Gram form: one small problem a row, solved exactly by its KKT conditions."""

from cython cimport floating
from libc.math cimport fabs, fmax, fmin, sqrt

cdef extern from *:
    """
    #define ENUMERATED 6
    #define TEMPLATE "skinny.h"
    #include "float_and_double.h"
    #include "abundances.h"
    """
    const Py_ssize_t ENUMERATED         # most components for `enumerate_block`
    const Py_ssize_t lanes_double       # rows side by side
    void best_supports(Py_ssize_t, const double*, const double*, const double*, Py_ssize_t, double*) nogil
    void skinny_products_float(const float*, Py_ssize_t, Py_ssize_t, const float*, Py_ssize_t, double, float*) nogil
    void skinny_products_double(const double*, Py_ssize_t, Py_ssize_t, const double*, Py_ssize_t, double, double*) nogil

include "shapes.pxi"

cdef enum:
    MOST = 6        # ENUMERATED, as a constant for the length of an array
    MOST_LANES = 8  # lanes_double at most
    N_WORK = 6
    N_INDEX = 2

#: Most components for `enumerate_block`: it holds the rows of one support in registers.
ENUMERATE_MOST = ENUMERATED
#: Rows of the scratch `work` of `active_set_block`.
WORK_ROWS = N_WORK
#: Rows of the scratch `index` of `active_set_block`.
INDEX_ROWS = N_INDEX


def products_block(
    const floating[:, ::1] X,       # IN (m, d)
    const floating[:, ::1] E,       # IN (k, d)
    double scale,
    floating[:, ::1] B,             # OUT (m, k)
):
    """``B = scale * X E'`` for an E of few rows.

    BLAS is made for more rows of E: for a few it reads X at a third to a half of the speed of memory.

    Cost: 2 m d k operations, one read of X.
    """
    cdef Py_ssize_t m = X.shape[0], d = X.shape[1], k = E.shape[0]
    check_2d("E", E.shape, k, d)
    check_2d("B", B.shape, m, k)
    with nogil:
        if d == 0:
            B[:] = 0
        elif m and k:
            if floating is float:
                skinny_products_float(&X[0, 0], m, d, &E[0, 0], k, scale, &B[0, 0])
            else:
                skinny_products_double(&X[0, 0], m, d, &E[0, 0], k, scale, &B[0, 0])


def enumerate_block(
    const floating[:, ::1] B,       # IN (n, k), 1 <= k <= ENUMERATE_MOST
    const double[::1] offset,       # IN (k,)
    const double[::1] scale,        # IN (k,)
    bint sum_to_one,
    const double[:, :, ::1] maps,   # IN (m, k, k + 1), of m supports
    const double[:, ::1] members,   # IN (m, k): 1 for the members of a support, else 0
    floating[:, ::1] out,           # OUT (n, k)
):
    """``out = argmin_a a' G a / 2 - b' a`` over a >= 0, and c' a = 1 with sum 1, by trying every support.

    On a support the solution and the violations of the KKT conditions, a >= 0 and G a - b + mu c >= 0, are linear in b:
    ``maps[s] [b, 1]`` is minus the solution where members[s] is 1, and b - mu c - G a where it is 0. The support whose
    largest violation is the least has the optimum. (The least objective would only find it to sqrt(eps).)

    Here b = scale * (B row + offset - top), and scale * a is written. With sum 1 a constant may be subtracted: top =
    max(B row + offset) saves the digits of far rows. Else top = 0.

    Cost: k (k + 2) multiply-adds a support and row, in vectors over rows.
    """
    cdef Py_ssize_t n = B.shape[0], k = B.shape[1], group, start, rows, row, q, r
    cdef double top, value
    cdef double[MOST * MOST_LANES] b, a
    check_least("columns of B", k, 1)
    check_most("columns of B", k, MOST)
    check_1d("offset", offset.shape, k)
    check_1d("scale", scale.shape, k)
    check_3d("maps", maps.shape, maps.shape[0], k, k + 1)
    check_2d("members", members.shape, maps.shape[0], k)
    check_2d("out", out.shape, n, k)
    with nogil:
        for group in range((n + lanes_double - 1) // lanes_double):
            start = group * lanes_double
            rows = min(lanes_double, n - start)
            for r in range(lanes_double):
                row = start + r if r < rows else n - 1
                for q in range(k):
                    b[q * lanes_double + r] = B[row, q]
            for r in range(lanes_double):
                top = b[r] + offset[0] if sum_to_one else 0
                if sum_to_one:
                    for q in range(1, k):
                        value = b[q * lanes_double + r] + offset[q]
                        top = value if value > top else top
                for q in range(k):
                    b[q * lanes_double + r] = scale[q] * (b[q * lanes_double + r] + offset[q] - top)
            best_supports(k, b, &maps[0, 0, 0], &members[0, 0], maps.shape[0], a)
            for r in range(rows):
                for q in range(k):
                    out[start + r, q] = <floating>(scale[q] * a[q * lanes_double + r])


def active_set_block(
    const floating[:, ::1] B,       # IN (n, k)
    const double[::1] offset,       # IN (k,)
    const double[::1] scale,        # IN (k,)
    const double[::1] c,            # IN (k,): all positive with sum 1, else all 0
    const double[:, ::1] G,         # IN (k, k): diagonal 1 or 0
    Py_ssize_t max_iter,
    double[:, ::1] L,               # SCRATCH (k, k)
    double[:, ::1] work,            # SCRATCH (WORK_ROWS, k)
    Py_ssize_t[:, ::1] index,       # SCRATCH (INDEX_ROWS, k)
    floating[:, ::1] out,           # OUT (n, k)
):
    """As `enumerate_block` for any k: the active-set method of Lawson & Hanson (1974, ch. 23) on the Gram matrix.

    The support grows by the component that violates the KKT conditions most and is independent of the others, and
    shrinks where the way to the solution on it meets a bound. Every row starts afresh, so its answer is its own.

    Returns the number of rows that were not optimal after `max_iter` changes of their support; their `out` is feasible.
    Cost: about 2 k s^2 + s^3 flops a row with a support of s components.
    """
    cdef Py_ssize_t n = B.shape[0], k = B.shape[1], row, q, size, unfinished = 0
    check_2d("work", work.shape, N_WORK, k)  # before rows are taken from it
    check_2d("index", index.shape, N_INDEX, k)
    cdef double[::1] b = work[0], a = work[1], u = work[2], r = work[3], y = work[4], y_c = work[5]
    cdef Py_ssize_t[::1] members = index[0], closed = index[1]
    cdef double mu, target_mu, tolerance
    check_least("columns of B", k, 1)
    check_1d("offset", offset.shape, k)
    check_1d("scale", scale.shape, k)
    check_1d("c", c.shape, k)
    check_2d("G", G.shape, k, k)
    check_2d("L", L.shape, k, k)
    check_2d("out", out.shape, n, k)
    with nogil:
        for row in range(n):
            tolerance = load_row(B[row], offset, scale, c, b)
            for q in range(k):
                a[q] = 0
                closed[q] = 0
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


cdef inline double load_row(
    const floating[::1] row, const double[::1] offset, const double[::1] scale, const double[::1] c, double[::1] b,
) noexcept nogil:
    """b of a row, as `enumerate_block` has it; returns what counts as a violation of the KKT conditions."""
    cdef Py_ssize_t q, k = row.shape[0]
    cdef double tolerance = 0, top = row[0] + offset[0] if c[0] > 0 else 0
    for q in range(k):
        if c[0] > 0:
            top = fmax(top, row[q] + offset[q])
    for q in range(k):
        b[q] = scale[q] * (row[q] + offset[q] - top)
        tolerance = fmax(tolerance, 4e-15 * k * fmax(fabs(b[q]), 1 / c[q] if c[q] > 0 else 0))
    return tolerance


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
