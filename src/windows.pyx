"""Kernels of the window features: even/odd folding, pruned DFT, squared modulus and scale, a tile at a time.

The DFT of a window is separable. Along one axis of length w with taper t, x is folded into its even and odd parts

    e_j = t_j x_j + t_(w-j) x_(w-j),    o_j = t_j x_j - t_(w-j) x_(w-j),    0 < j < w/2,

with e_0 = t_0 x_0 and, for even w, e_(w/2) = t_(w/2) x_(w/2). Then for every frequency u, for any taper,

    F(+-u) = sum_j e_j cos(2 pi u j / w) -+ i sum_j o_j sin(2 pi u j / w),

two real matrix products of half the length for the kept frequencies alone. `transform_rows_block` does this along x
for the image rows of a strip of windows, `transform_windows_block` along y for every window of a tile, and takes the
modulus.
"""

from libc.math cimport log1p, log1pf, sqrt, sqrtf

cdef extern from *:
    """
    #define REAL float
    #define TYPED(name) name##_float
    #include "windows.h"
    #undef REAL
    #undef TYPED
    #define REAL double
    #define TYPED(name) name##_double
    #include "windows.h"
    #undef REAL
    #undef TYPED
    """
    void product_float(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, Py_ssize_t, const float *, Py_ssize_t, float *, Py_ssize_t
    ) noexcept nogil
    void product_double(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, const double *, Py_ssize_t, double *, Py_ssize_t
    ) noexcept nogil
    void fold_columns_float(
        const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, float *, float *, Py_ssize_t
    ) noexcept nogil
    void fold_columns_double(
        const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, double *, double *, Py_ssize_t
    ) noexcept nogil
    void fold_piece_float(
        const float *, const float *, Py_ssize_t, const float *, const float *, float *, float *
    ) noexcept nogil
    void fold_piece_double(
        const double *, const double *, Py_ssize_t, const double *, const double *, double *, double *
    ) noexcept nogil
    double sum_float(const float *, Py_ssize_t) noexcept nogil
    double sum_double(const double *, Py_ssize_t) noexcept nogil
    void power_float(
        const float *, const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float, const float *, float *
    ) noexcept nogil
    void power_double(
        const double *, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, const double *, double *
    ) noexcept nogil
    void fourth_root_float(float *, Py_ssize_t, float) noexcept nogil
    void fourth_root_double(double *, Py_ssize_t, double) noexcept nogil

ctypedef fused floating:
    float
    double


cdef inline void product(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const floating *a, Py_ssize_t lda, const floating *b, Py_ssize_t ldb,
    floating *c, Py_ssize_t ldc,
) noexcept nogil:
    """c (m, n) = a (m, k) b (k, n); rows of b must be readable up to the next multiple of 64 bytes."""
    if floating is float:
        product_float(m, n, k, a, lda, b, ldb, c, ldc)
    else:
        product_double(m, n, k, a, lda, b, ldb, c, ldc)


def transform_rows_block(
    const floating[:, ::1] image,        # IN
    const floating[::1] taper,           # IN
    Py_ssize_t step,
    const floating[:, ::1] cosines,      # IN
    const floating[:, ::1] minus_sines,  # IN
    floating[::1] turned,                # scratch
    floating[:, ::1] even,               # scratch
    floating[:, ::1] odd,                # scratch
    floating[:, :, :, ::1] rows,         # OUT
    double[:, ::1] sums,                 # OUT
):
    """Transforms and plain sums of the pieces of every image row that start at 0, step, 2 step, ...

    image : (ny, nx);  taper : (w,)
    cosines : (w // 2 + 1, h + 1 and padding to a multiple of 64 bytes) of 2 pi u j / w
    minus_sines : ((w - 1) // 2, the same), its first row j = 1
    turned : (nx + 1 + w,), one image row and the taper turned over
    even : (b n, w // 2 + 1);  odd : (b n, (w - 1) // 2), for the n pieces of b image rows at a time
    rows : (ny, n, 2, h + 1), real and imaginary parts of the n pieces;  sums : (ny, n), without taper

    Cost: 2 w (h + 1) operations a piece.
    """
    cdef Py_ssize_t batch, i, x, y, first, count
    cdef Py_ssize_t nx = image.shape[1]
    cdef Py_ssize_t w = taper.shape[0]
    cdef Py_ssize_t n = rows.shape[1]
    cdef Py_ssize_t m = rows.shape[3]
    cdef Py_ssize_t n_even = even.shape[1]
    cdef Py_ssize_t n_odd = odd.shape[1]
    cdef Py_ssize_t padded = cosines.shape[1]
    cdef Py_ssize_t image_rows = even.shape[0] // n
    cdef const floating *piece
    cdef floating *mirror = &turned[0]
    cdef floating *taper_mirror = &turned[nx + 1]
    cdef floating *e = &even[0, 0]
    cdef floating *o = &odd[0, 0] if n_odd else NULL  # there are no pairs in windows of one or two pixels
    cdef const floating *sine = &minus_sines[0, 0] if n_odd else NULL
    with nogil:
        for x in range(1, w):
            taper_mirror[x] = taper[w - x]
        for batch in range((image.shape[0] + image_rows - 1) // image_rows):
            first = batch * image_rows
            count = n * min(image_rows, image.shape[0] - first)
            for i in range(count):
                y = first + i // n
                if i % n == 0:
                    for x in range(nx):
                        mirror[nx - x] = image[y, x]
                x = i % n * step
                piece = &image[y, x]
                if floating is float:
                    sums[y, i % n] = sum_float(piece, w)
                    fold_piece_float(
                        piece, mirror + nx - x - w, w, &taper[0], taper_mirror, e + i * n_even, o + i * n_odd
                    )
                else:
                    sums[y, i % n] = sum_double(piece, w)
                    fold_piece_double(
                        piece, mirror + nx - x - w, w, &taper[0], taper_mirror, e + i * n_even, o + i * n_odd
                    )
            product(count, m, n_even, e, n_even, &cosines[0, 0], padded, &rows[first, 0, 0, 0], 2 * m)
            product(count, m, n_odd, o, n_odd, sine, padded, &rows[first, 0, 1, 0], 2 * m)


def transform_windows_block(
    const floating[:, :, :, ::1] rows,  # IN
    Py_ssize_t first,
    Py_ssize_t step,
    const floating[::1] taper,          # IN
    const floating[:, ::1] cosines,     # IN
    const floating[:, ::1] sines,       # IN
    const floating[:, ::1] shift,       # IN
    const floating[:, :, ::1] uniform,  # IN
    floating[:, ::1] even,              # scratch
    floating[:, ::1] odd,               # scratch
    floating[:, :, ::1] products,       # scratch
    floating[:, :, :] out,              # OUT
):
    """Squared modulus of the transform of every window of a tile, over the half plane.

    rows : (.., n, 2, hx + 1), transformed image rows, see `transform_rows_block`; the windows of the tile start at
        rows first, first + step, ...
    taper : (w,);  cosines : (hy + 1, w // 2 + 1);  sines : (hy + 1, (w - 1) // 2), its first column j = 1
    shift : (m, n), what to subtract from every pixel of a window
    uniform : (2, 2 hy + 1, hx + 1), real and imaginary part of the DFT of the taper, ky from -hy to hy
    even : (w // 2 + 1, c);  odd : ((w - 1) // 2, c), a multiple of 64 bytes wide: so many columns are done at once
    products : (2, hy + 1, n 2 (hx + 1))
    out : (m, n, d), each window contiguous: ky from -hy to hy, kx from 0 to hx, without ky < 0 at kx = 0

    Cost: 4 w (hy + 1) (hx + 1) operations a window.
    """
    cdef Py_ssize_t y, i, x, count, start
    cdef Py_ssize_t n = rows.shape[1]
    cdef Py_ssize_t w = taper.shape[0]
    cdef Py_ssize_t n_even = even.shape[0]
    cdef Py_ssize_t n_odd = odd.shape[0]
    cdef Py_ssize_t chunk = even.shape[1]
    cdef Py_ssize_t hy = cosines.shape[0] - 1
    cdef Py_ssize_t hx = rows.shape[3] - 1
    cdef Py_ssize_t columns = products.shape[2]
    cdef const floating *sine = &sines[0, 0] if n_odd else NULL  # no pairs in windows of one or two pixels
    cdef const floating *column
    cdef floating *e
    cdef floating *o
    with nogil:
        for y in range(out.shape[0]):
            start = first + y * step
            e = &even[0, 0]
            o = &odd[0, 0] if n_odd else NULL
            for i in range(0, (columns + chunk - 1) // chunk):
                x = i * chunk
                count = min(chunk, columns - x)
                column = &rows[start, 0, 0, 0] + x
                if floating is float:
                    fold_columns_float(column, columns, w, count, &taper[0], e, o, chunk)
                else:
                    fold_columns_double(column, columns, w, count, &taper[0], e, o, chunk)
                product(hy + 1, count, n_even, &cosines[0, 0], n_even, e, chunk, &products[0, 0, x], columns)
                product(hy + 1, count, n_odd, sine, n_odd, o, chunk, &products[1, 0, x], columns)
            for i in range(n):
                x = i * 2 * (hx + 1)
                e = &products[0, 0, x]
                o = &products[1, 0, x]
                if floating is float:
                    power_float(e, o, columns, hy, hx, shift[y, i], &uniform[0, 0, 0], &out[y, i, 0])
                else:
                    power_double(e, o, columns, hy, hx, shift[y, i], &uniform[0, 0, 0], &out[y, i, 0])


def scale_block(floating[:, :, :] out, str scale, double gain, double weight, Py_ssize_t zero):
    """Squared modulus to feature, in place: weight * scale(gain * modulus), without weight at `zero` (kx = ky = 0).

    out : (m, n, d), each window contiguous;  scale : "abs", "sqrt", "log1p" or "power".  Cost: a root or two a feature.
    """
    cdef Py_ssize_t y, i, j
    cdef Py_ssize_t d = out.shape[2]
    cdef double factor = {"abs": gain, "sqrt": sqrt(gain), "log1p": 1, "power": gain * gain}[scale]
    cdef floating c = weight * factor
    cdef floating g = gain
    cdef floating back = 1 / weight
    cdef int code = ("abs", "sqrt", "log1p", "power").index(scale)
    cdef floating *x
    with nogil:
        for y in range(out.shape[0]):
            for i in range(out.shape[1]):
                x = &out[y, i, 0]
                if code == 1:
                    if floating is float:
                        fourth_root_float(x, d, c)
                    else:
                        fourth_root_double(x, d, c)
                elif code == 3:
                    for j in range(d):
                        x[j] *= c
                else:
                    for j in range(d):
                        x[j] = sqrtf(x[j]) if floating is float else sqrt(x[j])
                    if code == 0:
                        for j in range(d):
                            x[j] *= c
                    else:
                        for j in range(d):
                            x[j] = c * (log1pf(g * x[j]) if floating is float else log1p(g * x[j]))
                x[zero] *= back
