"""Kernels of the window features: transforms along x and y, modulus and scale, a tile of windows at a time.

The DFT of a window is separable. `transform_rows_..` do it along x for the image rows of a strip of windows, shared by
all windows that hold them; `transform_windows_..` along y for every window of a tile, subtract what the window's mean
contributes, and take modulus and root. There are three ways, which give the same features; which is the fastest depends
on window, step and zoom (stemseg_core/transforms.py).

products
    Of a piece x of length w with taper t, its even and odd parts

        e_j = t_j x_j + t_(w-j) x_(w-j),    o_j = t_j x_j - t_(w-j) x_(w-j),    0 < j < w/2,

    with e_0 = t_0 x_0 and, for even w, e_(w/2) = t_(w/2) x_(w/2), give every frequency u, for any taper, by

        F(+-u) = sum_j e_j cos(2 pi u j / w) -+ i sum_j o_j sin(2 pi u j / w),

    two real matrix products of half the length for the kept frequencies alone.
fft
    Fast Fourier transforms, as many at once as a vector has lanes, whose last stage makes the kept frequencies alone.
sliding
    Sums that neighbouring windows share, along y (src/sliding.h).
"""

from libc.math cimport log1p, log1pf, sqrt, sqrtf
from libc.stdint cimport int32_t
from libc.string cimport memmove

cdef extern from *:
    """
    #define REAL float
    #define REAL_BYTES 4
    #define TYPED(name) name##_float
    #include "sliding.h"
    #undef REAL
    #undef REAL_BYTES
    #undef TYPED
    #define REAL double
    #define REAL_BYTES 8
    #define TYPED(name) name##_double
    #include "sliding.h"
    #undef REAL
    #undef REAL_BYTES
    #undef TYPED
    """
    enum: VECTOR_BYTES

    ctypedef struct fft:
        Py_ssize_t n, stages
        const int32_t *radices
        const int32_t *frequencies
        const void *twiddles

    ctypedef struct features:
        Py_ssize_t hy, hx, ld, reach
        const void *uniform
        int roots
        double factor

    ctypedef struct tile:
        Py_ssize_t m, n, w, step, ld, down, across
        const void *re
        const void *im
        const void *shift
        void *out

    void fold_piece_float(
        const float *, const float *, Py_ssize_t, float, const float *, const float *, float *, float *
    ) noexcept nogil
    void fold_piece_double(
        const double *, const double *, Py_ssize_t, double, const double *, const double *, double *, double *
    ) noexcept nogil
    double sum_float(const float *, Py_ssize_t) noexcept nogil
    double sum_double(const double *, Py_ssize_t) noexcept nogil
    void product_float(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, Py_ssize_t, const float *, Py_ssize_t, float *, Py_ssize_t
    ) noexcept nogil
    void product_double(
        Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, const double *, Py_ssize_t, double *, Py_ssize_t
    ) noexcept nogil
    void fft_rows_float(
        const fft *, Py_ssize_t, const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, const float *,
        void *, double *, float *, float *, Py_ssize_t, Py_ssize_t, double *
    ) noexcept nogil
    void fft_rows_double(
        const fft *, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, const double *,
        void *, double *, double *, double *, Py_ssize_t, Py_ssize_t, double *
    ) noexcept nogil
    void multiply_windows_float(
        const tile *, const features *, const float *, const float *, const float *, float *, float *, Py_ssize_t,
        float *
    ) noexcept nogil
    void multiply_windows_double(
        const tile *, const features *, const double *, const double *, const double *, double *, double *, Py_ssize_t,
        double *
    ) noexcept nogil
    void fft_windows_float(const tile *, const fft *, const features *, const float *, void *) noexcept nogil
    void fft_windows_double(const tile *, const fft *, const features *, const double *, void *) noexcept nogil
    void slide_windows_float(
        int, const tile *, const features *, const float *, const float *, const float *, void *
    ) noexcept nogil
    void slide_windows_double(
        int, const tile *, const features *, const double *, const double *, const double *, void *
    ) noexcept nogil

ctypedef fused floating:
    float
    double


cdef inline fft plan(
    const int32_t[::1] radices, const int32_t[::1] frequencies, const floating[::1] twiddles
) noexcept nogil:
    """The numbers of a Fourier transform; see src/fft.h."""
    cdef fft f
    cdef Py_ssize_t i
    f.n = 1
    f.stages = radices.shape[0]
    for i in range(f.stages):
        f.n *= radices[i]
    f.radices = &radices[0]
    f.frequencies = &frequencies[0]
    f.twiddles = &twiddles[0]
    return f


cdef inline features kept(
    Py_ssize_t hx, const floating[:, :, ::1] uniform, Py_ssize_t reach, bint roots, double factor
) noexcept nogil:
    """What becomes of the spectra; see src/windows.h."""
    cdef features f
    f.reach = reach
    f.hy = (uniform.shape[1] - 1) // 2
    f.hx = hx
    f.ld = uniform.shape[2]
    f.uniform = &uniform[0, 0, 0]
    f.roots = roots
    f.factor = factor
    return f


cdef inline tile windows(
    const floating[:, :, ::1] rows, Py_ssize_t first, Py_ssize_t w, Py_ssize_t step, const floating[:, ::1] shift,
    floating[:, :, :] out,
) noexcept nogil:
    """Where a tile is; see src/windows.h."""
    cdef tile t
    t.m = out.shape[0]
    t.n = out.shape[1]
    t.w = w
    t.step = step
    t.ld = rows.shape[2]
    t.down = out.strides[0] // <Py_ssize_t>sizeof(floating)
    t.across = out.strides[1] // <Py_ssize_t>sizeof(floating)
    t.re = &rows[0, first, 0]
    t.im = &rows[1, first, 0]
    t.shift = &shift[0, 0]
    t.out = &out[0, 0, 0]
    return t


cdef inline void weigh_zero(floating[:, :, :] out, Py_ssize_t place, double weight) noexcept nogil:
    """Multiply one feature of every window."""
    cdef Py_ssize_t y, i
    for y in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[y, i, place] *= <floating>weight


def move_rows_block(floating[:, :, ::1] rows, double[:, ::1] sums, Py_ssize_t start, Py_ssize_t count):
    """Move the transforms (2, .., ld) and sums (.., n) of `count` image rows from row `start` on to the beginning."""
    cdef size_t row = rows.shape[2] * sizeof(floating)
    with nogil:
        if count > 0:
            memmove(&rows[0, 0, 0], &rows[0, start, 0], count * row)
            memmove(&rows[1, 0, 0], &rows[1, start, 0], count * row)
            memmove(&sums[0, 0], &sums[start, 0], count * sums.shape[1] * sizeof(double))


def window_means_block(
    const double[:, ::1] sums,    # IN
    Py_ssize_t first,
    Py_ssize_t step,
    Py_ssize_t wy,
    Py_ssize_t wx,
    double[:, ::1] totals,        # scratch
    floating[:, ::1] means,       # OUT
):
    """Means (m, n) of windows of wy x wx pixels that start at rows first, first + step, .. of sums (.., n) over wx.

    totals : (at least (m - 1) step + wy + 1, n).  Cost: an addition a sum.
    """
    cdef Py_ssize_t row, x, y, height = (means.shape[0] - 1) * step + wy
    cdef Py_ssize_t n = means.shape[1]
    cdef double area = wy * wx
    with nogil:
        for x in range(n):
            totals[0, x] = 0
        for row in range(height):
            for x in range(n):
                totals[row + 1, x] = totals[row, x] + sums[first + row, x]
        for y in range(means.shape[0]):
            for x in range(n):
                means[y, x] = (totals[y * step + wy, x] - totals[y * step, x]) / area


def transform_rows_products_block(
    const floating[:, ::1] image,        # IN
    const floating[::1] taper,           # IN
    Py_ssize_t step,
    const floating[:, ::1] cosines,      # IN
    const floating[:, ::1] minus_sines,  # IN
    const floating[:, ::1] uniform,      # IN
    floating[::1] turned,                # scratch
    floating[:, ::1] even,               # scratch
    floating[:, ::1] odd,                # scratch
    floating[:, :, ::1] products,        # scratch
    Py_ssize_t first,
    floating[:, :, ::1] rows,            # OUT
    double[:, ::1] sums,                 # OUT
):
    """Transforms and plain sums of the pieces of every image row that start at 0, step, 2 step, ..., by products.

    image : (ny, nx);  taper : (w,)
    cosines : (w // 2 + 1, h + 1 and padding to a multiple of 64 bytes) of 2 pi u j / w
    minus_sines : ((w - 1) // 2, the same), its first row j = 1
    uniform : (2, h + 1), real and imaginary part of the DFT of the taper: the mean of a piece, in whose sums the rest
        would lose digits, is transformed by itself
    turned : (nx + 1 + w,), one image row and the taper turned over
    even : (b n, w // 2 + 1);  odd : (b n, (w - 1) // 2), for the n pieces of b image rows at a time
    products : (2, b n, h + 1)
    rows : (2, .., at least n (h + 1)), real and imaginary parts of one piece after the other, from row `first` on
    sums : (.., n), without taper, from row `first` on

    Cost: 2 w (h + 1) operations a piece.
    """
    cdef Py_ssize_t batch, i, x, y, start, count
    cdef floating mean
    cdef Py_ssize_t nx = image.shape[1]
    cdef Py_ssize_t w = taper.shape[0]
    cdef Py_ssize_t n = sums.shape[1]
    cdef Py_ssize_t m = products.shape[2]
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
    cdef floating *re = &products[0, 0, 0]
    cdef floating *im = &products[1, 0, 0]
    with nogil:
        for x in range(1, w):
            taper_mirror[x] = taper[w - x]
        for batch in range((image.shape[0] + image_rows - 1) // image_rows):
            start = batch * image_rows
            count = n * min(image_rows, image.shape[0] - start)
            for i in range(count):
                y = start + i // n
                if i % n == 0:
                    for x in range(nx):
                        mirror[nx - x] = image[y, x]
                x = i % n * step
                piece = &image[y, x]
                if floating is float:
                    sums[first + y, i % n] = sum_float(piece, w)
                    mean = sums[first + y, i % n] / w
                    fold_piece_float(
                        piece, mirror + nx - x - w, w, mean, &taper[0], taper_mirror, e + i * n_even, o + i * n_odd
                    )
                else:
                    sums[first + y, i % n] = sum_double(piece, w)
                    mean = sums[first + y, i % n] / w
                    fold_piece_double(
                        piece, mirror + nx - x - w, w, mean, &taper[0], taper_mirror, e + i * n_even, o + i * n_odd
                    )
            if floating is float:
                product_float(count, m, n_even, e, n_even, &cosines[0, 0], padded, re, m)
                product_float(count, m, n_odd, o, n_odd, sine, padded, im, m)
            else:
                product_double(count, m, n_even, e, n_even, &cosines[0, 0], padded, re, m)
                product_double(count, m, n_odd, o, n_odd, sine, padded, im, m)
            for i in range(count):
                y = first + start + i // n
                mean = sums[y, i % n] / w
                for x in range(m):
                    rows[0, y, i % n * m + x] = re[i * m + x] + mean * uniform[0, x]
                    rows[1, y, i % n * m + x] = im[i * m + x] + mean * uniform[1, x]


def transform_rows_fft_block(
    const floating[:, ::1] image,    # IN
    const floating[:, ::1] halved,   # IN
    Py_ssize_t step,
    const int32_t[::1] radices,      # IN
    const int32_t[::1] frequencies,       # IN
    const floating[::1] twiddles,    # IN
    const floating[:, ::1] turns,    # IN
    floating[::1] vectors,           # scratch
    double[::1] totals,              # scratch
    Py_ssize_t first,
    floating[:, :, ::1] rows,        # OUT
    double[:, ::1] sums,             # OUT
):
    """Transforms and plain sums of the pieces of every image row that start at 0, step, 2 step, ..., of even length w.

    A piece is transformed as w / 2 complex numbers; as many image rows as a vector has lanes at once.

    image : (ny, nx);  halved : (2, w / 2), half the taper at even and at odd places
    radices, frequencies, twiddles : of a transform of length w / 2, see src/fft.h
    turns : (h + 1, 2), exp(-2 pi i k / w), real and imaginary part
    vectors : 16 (nx + 2 w + 2 h + 50) numbers at a multiple of 64 bytes;  totals : 16 (nx + 1)
    rows : (2, .., at least n (h + 1) + 16), real and imaginary parts of one piece after the other, from row `first` on
    sums : (.., n), without taper, from row `first` on

    Cost: about 2.5 w log2(w) operations a piece.
    """
    cdef fft f = plan(radices, frequencies, twiddles)
    cdef Py_ssize_t nx = image.shape[1]
    cdef Py_ssize_t h = turns.shape[0] - 1
    cdef Py_ssize_t n = sums.shape[1]
    cdef Py_ssize_t ld = rows.shape[2]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating)
    cdef Py_ssize_t i, y, valid
    with nogil:
        for i in range((image.shape[0] + lanes - 1) // lanes):
            y = i * lanes
            valid = min(lanes, image.shape[0] - y)
            if floating is float:
                fft_rows_float(
                    &f, h, &image[y, 0], nx, valid, step, &halved[0, 0], &turns[0, 0], &vectors[0], &totals[0],
                    &rows[0, first + y, 0], &rows[1, first + y, 0], ld, n, &sums[first + y, 0],
                )
            else:
                fft_rows_double(
                    &f, h, &image[y, 0], nx, valid, step, &halved[0, 0], &turns[0, 0], &vectors[0], &totals[0],
                    &rows[0, first + y, 0], &rows[1, first + y, 0], ld, n, &sums[first + y, 0],
                )


def transform_windows_products_block(
    const floating[:, :, ::1] rows,     # IN
    Py_ssize_t first,
    Py_ssize_t step,
    const floating[:, ::1] shift,       # IN
    const floating[:, :, ::1] uniform,  # IN
    Py_ssize_t reach,
    Py_ssize_t hx,
    bint roots,
    double factor,
    double zero,
    const floating[::1] taper,          # IN
    const floating[:, ::1] cosines,     # IN
    const floating[:, ::1] sines,       # IN
    floating[:, ::1] even,              # scratch
    floating[:, ::1] odd,               # scratch
    floating[:, :, ::1] products,       # scratch
    floating[:, :, :] out,              # OUT
):
    """Squared modulus, or its fourth root, of the spectrum of every window of a tile, by products; times a factor.

    rows : (2, .., at least n (hx + 1) + 16), transformed image rows, see `transform_rows_products_block`; the windows
        of the tile start at rows first, first + step, ...
    shift : (m, n), what to subtract from every pixel of a window
    uniform : (2, 2 hy + 1, at least hx + 16), real and imaginary part of the DFT of the taper, ky from -hy to hy
    reach : the highest ky at which `uniform` is not zero;  roots : whether the root is taken
    zero : a further factor at ky = kx = 0
    taper : (w,);  cosines : (hy + 1, w // 2 + 1);  sines : (hy + 1, (w - 1) // 2), its first column j = 1
    even : (w // 2 + 1, c);  odd : ((w - 1) // 2, c), a multiple of 64 bytes wide: so many columns are done at once
    products : (2, hy + 1, 2 rows.shape[2])
    out : (m, n, d), each window contiguous: ky from -hy to hy, kx from 0 to hx, without ky < 0 at kx = 0

    Cost: 4 w (hy + 1) (hx + 1) operations a window.
    """
    cdef Py_ssize_t w = taper.shape[0]
    cdef tile t = windows(rows, first, w, step, shift, out)
    cdef features f = kept(hx, uniform, reach, roots, factor)
    cdef Py_ssize_t chunk = even.shape[1]
    cdef const floating *sine = &sines[0, 0] if w > 2 else &cosines[0, 0]  # unused: one or two pixels have no pairs
    cdef floating *o = &odd[0, 0] if w > 2 else &even[0, 0]
    with nogil:
        if floating is float:
            multiply_windows_float(
                &t, &f, &taper[0], &cosines[0, 0], sine, &even[0, 0], o, chunk, &products[0, 0, 0]
            )
        else:
            multiply_windows_double(
                &t, &f, &taper[0], &cosines[0, 0], sine, &even[0, 0], o, chunk, &products[0, 0, 0]
            )
        weigh_zero(out, f.hy * hx, zero)


def transform_windows_fft_block(
    const floating[:, :, ::1] rows,     # IN
    Py_ssize_t first,
    Py_ssize_t step,
    const floating[:, ::1] shift,       # IN
    const floating[:, :, ::1] uniform,  # IN
    Py_ssize_t reach,
    Py_ssize_t hx,
    bint roots,
    double factor,
    double zero,
    const floating[::1] taper,          # IN
    const int32_t[::1] radices,         # IN
    const int32_t[::1] frequencies,          # IN
    const floating[::1] twiddles,       # IN
    floating[::1] vectors,              # scratch
    floating[:, :, :] out,              # OUT
):
    """As `transform_windows_products_block`, by Fourier transforms.

    radices, frequencies, twiddles : of a transform of length w, see src/fft.h
    vectors : 64 w numbers at a multiple of 64 bytes

    Cost: about 5 w log2(w) (hx + 1) operations a window.
    """
    cdef tile t = windows(rows, first, taper.shape[0], step, shift, out)
    cdef features f = kept(hx, uniform, reach, roots, factor)
    cdef fft p = plan(radices, frequencies, twiddles)
    with nogil:
        if floating is float:
            fft_windows_float(&t, &p, &f, &taper[0], &vectors[0])
        else:
            fft_windows_double(&t, &p, &f, &taper[0], &vectors[0])
        weigh_zero(out, f.hy * hx, zero)


def transform_windows_sliding_block(
    const floating[:, :, ::1] rows,     # IN
    Py_ssize_t first,
    Py_ssize_t step,
    const floating[:, ::1] shift,       # IN
    const floating[:, :, ::1] uniform,  # IN
    Py_ssize_t reach,
    Py_ssize_t hx,
    bint roots,
    double factor,
    double zero,
    const floating[:, ::1] cosines,     # IN
    const floating[:, ::1] sines,       # IN
    const floating[:, ::1] mixing,      # IN
    floating[::1] vectors,              # scratch
    floating[:, :, :] out,              # OUT
):
    """As `transform_windows_products_block`, by sums that windows share, for tapers of T <= 4 cosines.

    cosines, sines : (hy + 1 + T, w), of 2 pi k j / w;  mixing : (m, 1 + 2 T), see src/sliding.h
    vectors : 32 (m - 1) step + 32 w + 64 (2 T + 1) m numbers at a multiple of 64 bytes

    Cost: about (16 step + 40 + 40 T) (hy + 1) (hx + 1) operations a window, if as many start in the tile as in w rows.
    """
    cdef tile t = windows(rows, first, cosines.shape[1], step, shift, out)
    cdef features f = kept(hx, uniform, reach, roots, factor)
    cdef int terms = mixing.shape[1] // 2
    with nogil:
        if floating is float:
            slide_windows_float(terms, &t, &f, &cosines[0, 0], &sines[0, 0], &mixing[0, 0], &vectors[0])
        else:
            slide_windows_double(terms, &t, &f, &cosines[0, 0], &sines[0, 0], &mixing[0, 0], &vectors[0])
        weigh_zero(out, f.hy * hx, zero)


def finish_block(floating[:, :, :] out, str scale, double gain, double weight, Py_ssize_t zero):
    """Squared modulus to feature, in place: weight * scale(gain * modulus), without weight at `zero`.

    out : (m, n, d), each window contiguous;  scale : "abs" or "log1p".  Cost: a root and a logarithm a feature.
    """
    cdef Py_ssize_t y, i, j
    cdef Py_ssize_t d = out.shape[2]
    cdef floating c = weight * {"abs": gain, "log1p": 1}[scale]
    cdef floating g = gain
    cdef bint log = scale == "log1p"
    cdef floating *x
    with nogil:
        for y in range(out.shape[0]):
            for i in range(out.shape[1]):
                x = &out[y, i, 0]
                for j in range(d):
                    x[j] = sqrtf(x[j]) if floating is float else sqrt(x[j])
                if log:
                    for j in range(d):
                        x[j] = log1pf(g * x[j]) if floating is float else log1p(g * x[j])
                for j in range(d):
                    x[j] *= c
        weigh_zero(out, zero, 1 / weight)
