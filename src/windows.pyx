"""Kernels of the window features: even/odd folding, squared modulus, scale.

The DFT of a window is separable. Along one axis of length w with taper t, x is folded into its even and odd parts

    e_j = t_j x_j + t_(w-j) x_(w-j),    o_j = t_j x_j - t_(w-j) x_(w-j),    0 < j < w/2,

with e_0 = t_0 x_0 and, for even w, e_(w/2) = t_(w/2) x_(w/2). Then for every frequency u, for any taper,

    F(+-u) = sum_j e_j cos(2 pi u j / w) -+ i sum_j o_j sin(2 pi u j / w),

two real matrix products of half the length, which BLAS does at the speed of the machine. The kernels here do what is
left: the folding before and the modulus after, each in one pass over data that is in cache.
"""

from libc.math cimport log1p, log1pf, sqrt, sqrtf

ctypedef fused floating:
    float
    double


cdef inline floating root(floating x) noexcept nogil:
    return sqrtf(x) if floating is float else sqrt(x)


cdef inline floating log1p_of(floating x) noexcept nogil:
    return log1pf(x) if floating is float else log1p(x)


def fold_along_x_block(
    const floating[:, ::1] image,     # IN
    const floating[::1] taper,        # IN
    Py_ssize_t step,
    floating[:, :, ::1] even,         # OUT
    floating[:, :, ::1] odd,          # OUT
):
    """Fold the pieces of every image row that start at 0, step, 2 step, ...

    image : (ny, nx);  taper : (w,);  even : (ny, n, w // 2 + 1);  odd : (ny, n, (w - 1) // 2), its first column j = 1.
    Cost: 4 operations a folded pair.
    """
    cdef Py_ssize_t y, i, j, start
    cdef Py_ssize_t w = taper.shape[0]
    cdef Py_ssize_t pairs = (w - 1) // 2
    cdef floating a, b
    with nogil:
        for y in range(even.shape[0]):
            for i in range(even.shape[1]):
                start = i * step
                even[y, i, 0] = taper[0] * image[y, start]
                for j in range(1, pairs + 1):
                    a = taper[j] * image[y, start + j]
                    b = taper[w - j] * image[y, start + w - j]
                    even[y, i, j] = a + b
                    odd[y, i, j - 1] = a - b
                if w % 2 == 0:
                    even[y, i, w // 2] = taper[w // 2] * image[y, start + w // 2]


def fold_along_y_block(
    const floating[:, :, ::1] rows,   # IN
    Py_ssize_t first,
    const floating[::1] taper,        # IN
    floating[:, :, ::1] even,         # OUT
    floating[:, :, ::1] odd,          # OUT
):
    """Fold the w rows from `first` on, real and imaginary parts and every column by themselves.

    rows : (2, .., n);  taper : (w,);  even : (w // 2 + 1, 2, n);  odd : ((w - 1) // 2, 2, n), its first row j = 1.
    Cost: 4 operations a folded pair.
    """
    cdef Py_ssize_t part, j, x
    cdef Py_ssize_t n = rows.shape[2]
    cdef Py_ssize_t w = taper.shape[0]
    cdef Py_ssize_t last = first + w
    cdef floating a, b, t, r
    with nogil:
        for part in range(2):
            for x in range(n):
                even[0, part, x] = taper[0] * rows[part, first, x]
            if w % 2 == 0:
                for x in range(n):
                    even[w // 2, part, x] = taper[w // 2] * rows[part, first + w // 2, x]
            for j in range(1, (w - 1) // 2 + 1):
                t = taper[j]
                r = taper[w - j]
                for x in range(n):
                    a = t * rows[part, first + j, x]
                    b = r * rows[part, last - j, x]
                    even[j, part, x] = a + b
                    odd[j - 1, part, x] = a - b


def power_block(
    const floating[:, :, :, ::1] even,  # IN
    const floating[:, :, :, ::1] odd,   # IN
    const floating[::1] shift,          # IN
    const floating[:, :, ::1] uniform,  # IN
    floating[:, ::1] out,               # OUT
):
    """Squared modulus of the DFT of windows side by side, less `shift` times the DFT of a uniform window.

    even : (hy + 1, 2, n, hx + 1), real and imaginary part of sum_j e_j cos(2 pi u j / w) of n windows, u from 0 to hy
    odd : the same with o_j sin(2 pi u j / w), so that F(+-u) = even -+ i odd
    shift : (n,), what to subtract from every pixel of a window
    uniform : (2, 2 hy + 1, hx + 1), real and imaginary part of the DFT of the taper itself, ky from -hy to hy
    out : (n, d), the half plane: ky from -hy to hy, kx from 0 to hx, without ky < 0 at kx = 0

    Cost: about 14 operations a feature.
    """
    cdef Py_ssize_t i, u, v, plus, minus
    cdef Py_ssize_t hy = even.shape[0] - 1
    cdef Py_ssize_t hx = even.shape[3] - 1
    cdef floating m, re, im
    with nogil:
        for i in range(out.shape[0]):
            m = shift[i]
            for u in range(hy + 1):
                plus = hy * hx + u * (hx + 1)
                for v in range(hx + 1):
                    re = even[u, 0, i, v] + odd[u, 1, i, v] - m * uniform[0, hy + u, v]
                    im = even[u, 1, i, v] - odd[u, 0, i, v] - m * uniform[1, hy + u, v]
                    out[i, plus + v] = re * re + im * im
                if u == 0:
                    continue
                minus = (hy - u) * hx - 1
                for v in range(1, hx + 1):
                    re = even[u, 0, i, v] - odd[u, 1, i, v] - m * uniform[0, hy - u, v]
                    im = even[u, 1, i, v] + odd[u, 0, i, v] - m * uniform[1, hy - u, v]
                    out[i, minus + v] = re * re + im * im


def scale_block(floating[:, ::1] out, str scale, double gain, double weight, Py_ssize_t zero):
    """Squared modulus to feature, in place: weight * scale(gain * modulus), feature `zero` (kx = ky = 0) without the weight.

    out : (n, d);  scale : "abs", "sqrt", "log1p" or "power".  Cost: one or two square roots a feature.
    """
    cdef Py_ssize_t i, j
    cdef Py_ssize_t d = out.shape[1]
    cdef floating g = gain
    cdef floating c = weight
    cdef floating back = 1 / weight
    cdef int code = {"abs": 0, "sqrt": 1, "log1p": 2, "power": 3}[scale]
    if code == 0:
        c = weight * gain
    elif code == 1:
        c = weight * sqrt(gain)
    elif code == 3:
        c = weight * gain * gain
    with nogil:
        for i in range(out.shape[0]):
            if code == 0:
                for j in range(d):
                    out[i, j] = c * root(out[i, j])
            elif code == 1:
                for j in range(d):
                    out[i, j] = c * root(root(out[i, j]))
            elif code == 2:
                for j in range(d):
                    out[i, j] = c * log1p_of(g * root(out[i, j]))
            else:
                for j in range(d):
                    out[i, j] = c * out[i, j]
            out[i, zero] = out[i, zero] * back
