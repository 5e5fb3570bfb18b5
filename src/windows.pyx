"""Kernels of the window features: transforms along y, modulus and scale, a tile of windows at a time.

The DFT of a window is separable. `transform_rows_..` in src/strips.pyx do it along x for the image rows of a strip of
windows, once for all windows that share them. `transform_windows_..` do it along y for every window of a tile, subtract
the contribution of the window's mean, and take modulus and root. There are three ways, which give the same features to
rounding. Which is the fastest depends on window, step and zoom (stemseg_core/windows/transforms.py).

products
    Products of even and odd parts with cosines and sines, as along x.
fft
    Fast Fourier transforms, one column a lane of a vector; the last stage computes the kept frequencies alone.
sliding
    Sums that neighbouring windows share (src/sliding.h).
"""

from cython cimport floating
from libc.math cimport log1p, log1pf, sqrt, sqrtf
from libc.stdint cimport int32_t

cdef extern from *:
    """
    #define TEMPLATE "sliding.h"
    #include "float_and_double.h"
    """
    enum: VECTOR_BYTES
    enum: WIDEST_VECTOR_BYTES

    ctypedef struct features:
        Py_ssize_t hy, hx, ld, reach
        const void *taper_spectrum
        int roots
        double factor

    ctypedef struct tile:
        Py_ssize_t m, n, w, step, ld, down, across
        const void *re
        const void *im
        const void *shift
        void *out

    Py_ssize_t fft_windows_vectors_float(Py_ssize_t) noexcept nogil
    Py_ssize_t fft_windows_vectors_double(Py_ssize_t) noexcept nogil
    Py_ssize_t slide_vectors_float(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
    Py_ssize_t slide_vectors_double(Py_ssize_t, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
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

include "shapes.pxi"
include "fft.pxi"

cdef enum:
    MOST_TERMS = 4  # cases of `slide_windows` in src/sliding.h

#: Bytes of the widest vector of any SIMD level. Buffers are aligned to it.
WIDEST_BYTES = WIDEST_VECTOR_BYTES
#: Numbers of the widest vector. At every level rows of buffers are padded to a multiple of it and costs are counted in
#: it: which of the transforms is taken must not depend on the level.
WIDEST_LANES = WIDEST_VECTOR_BYTES // <Py_ssize_t> sizeof(float)
#: Most cosines of a taper of `transform_windows_sliding_block`, its mean not counted; flat-top tapers have four. For
#: more of them mixing the frequencies would cost more than a transform.
MAX_TERMS = MOST_TERMS


cdef inline int set_features(
    features* f, Py_ssize_t hx, const floating[:, :, ::1] taper_spectrum, Py_ssize_t reach, bint roots, double factor
) except -1:
    """How features are computed; see src/windows.h."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating)
    f.hy = (taper_spectrum.shape[1] - 1) // 2
    check_least("hx", hx, 0)
    check_3d("taper_spectrum", taper_spectrum.shape, 2, 2 * f.hy + 1, taper_spectrum.shape[2])
    check_least("columns of taper_spectrum", taper_spectrum.shape[2], hx + lanes)
    check_least("reach", reach, 0)
    check_most("reach", reach, f.hy)
    f.reach = reach
    f.hx = hx
    f.ld = taper_spectrum.shape[2]
    f.taper_spectrum = &taper_spectrum[0, 0, 0]
    f.roots = roots
    f.factor = factor
    return 0


cdef inline int set_tile(
    tile* t, const floating[:, :, ::1] rows, Py_ssize_t first, Py_ssize_t w, Py_ssize_t step,
    const floating[:, ::1] shift, floating[:, :, :] out, const features* f,
) except -1:
    """Where the windows of a tile are; see src/windows.h."""
    cdef Py_ssize_t m = out.shape[0], n = out.shape[1], columns = f.hx + 1
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating)
    check_least("windows of out", m * n, 1)
    check_3d("out", out.shape, m, n, (2 * f.hy + 1) * columns - f.hy)
    check_contiguous(out)
    check_least("first", first, 0)
    check_least("step", step, 1)
    check_least("window", w, 2 * f.hy + 1)
    check_3d("rows", rows.shape, 2, rows.shape[1], rows.shape[2])
    check_least("rows of rows", rows.shape[1], first + (m - 1) * step + w)
    check_least("columns of rows", rows.shape[2], (n - 1) * columns + max(columns, lanes))
    check_2d("shift", shift.shape, m, n)
    t.m = m
    t.n = n
    t.w = w
    t.step = step
    t.ld = rows.shape[2]
    t.down = out.strides[0] // <Py_ssize_t>sizeof(floating)
    t.across = out.strides[1] // <Py_ssize_t>sizeof(floating)
    t.re = &rows[0, first, 0]
    t.im = &rows[1, first, 0]
    t.shift = &shift[0, 0]
    t.out = &out[0, 0, 0]
    return 0


cdef inline int check_contiguous(floating[:, :, :] out) except -1:
    if out.shape[2] > 1 and out.strides[2] != sizeof(floating):
        raise ValueError(f"out: expected contiguous windows, got a stride of {out.strides[2]} bytes")
    return 0


cdef inline void weigh_zero(floating[:, :, :] out, Py_ssize_t index, double weight) noexcept nogil:
    """Multiply one feature of every window."""
    cdef Py_ssize_t y, i
    for y in range(out.shape[0]):
        for i in range(out.shape[1]):
            out[y, i, index] *= <floating>weight


def transform_windows_products_block(
    const floating[:, :, ::1] rows,      # IN (2, r, at least n (hx + 1) and a vector): see src/strips.pyx
    Py_ssize_t first,                    # the windows of the tile start at rows first, first + step, ...
    Py_ssize_t step,
    const floating[:, ::1] shift,        # IN (m, n): the number to subtract from every pixel of a window
    const floating[:, :, ::1] taper_spectrum,  # IN (2, 2 hy + 1, at least hx and a vector), ky from -hy to hy
    Py_ssize_t reach,                    # the highest ky at which `taper_spectrum` is not zero
    Py_ssize_t hx,
    bint roots,
    double factor,
    double zero,                         # a further factor at ky = kx = 0
    const floating[::1] taper,           # IN (w,)
    const floating[:, ::1] cosines,      # IN (hy + 1, w // 2 + 1)
    const floating[:, ::1] sines,        # IN (hy + 1, (w - 1) // 2), its first column j = 1
    floating[:, ::1] even,               # SCRATCH (w // 2 + 1, c), c a multiple of a vector: columns at a time
    floating[:, ::1] odd,                # SCRATCH ((w - 1) // 2, c)
    floating[:, :, ::1] products,        # SCRATCH (2, hy + 1, 2 columns of rows)
    floating[:, :, :] out,               # OUT (m, n, d), each window contiguous
):
    """Squared modulus, or its fourth root (`roots`), of the spectrum of every window of a tile, times a factor.

    Features of a window: ky from -hy to hy, kx from 0 to hx, without ky < 0 at kx = 0.

    Cost: 4 w (hy + 1) (hx + 1) operations a window.
    """
    cdef tile t
    cdef features f
    cdef Py_ssize_t w = taper.shape[0], n_even = w // 2 + 1, n_odd = (w - 1) // 2, chunk = even.shape[1]
    set_features(&f, hx, taper_spectrum, reach, roots, factor)
    set_tile(&t, rows, first, w, step, shift, out, &f)
    check_2d("cosines", cosines.shape, f.hy + 1, n_even)
    check_2d("sines", sines.shape, f.hy + 1, n_odd)
    check_2d("even", even.shape, n_even, chunk)
    check_least("columns of even", chunk, 1)
    check_multiple("columns of even", chunk, VECTOR_BYTES // sizeof(floating))
    check_2d("odd", odd.shape, n_odd, chunk)
    check_3d("products", products.shape, 2, f.hy + 1, 2 * t.ld)
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


def fft_windows_scratch(Py_ssize_t w, Py_ssize_t itemsize):
    """Least length of `vectors` of `transform_windows_fft_block`."""
    if itemsize == sizeof(float):
        return VECTOR_BYTES // itemsize * fft_windows_vectors_float(w)
    return VECTOR_BYTES // itemsize * fft_windows_vectors_double(w)


def transform_windows_fft_block(
    const floating[:, :, ::1] rows,      # IN, as the rest up to `taper`: see `transform_windows_products_block`
    Py_ssize_t first,
    Py_ssize_t step,
    const floating[:, ::1] shift,        # IN
    const floating[:, :, ::1] taper_spectrum,  # IN
    Py_ssize_t reach,
    Py_ssize_t hx,
    bint roots,
    double factor,
    double zero,
    const floating[::1] taper,           # IN (w,)
    const int32_t[::1] radices,          # IN, as the next two: tables of a transform of length w, see src/fft.h
    const int32_t[::1] frequencies,      # IN
    const floating[::1] twiddles,        # IN
    floating[::1] vectors,               # SCRATCH (`fft_windows_scratch`), fastest from a multiple of 64 bytes on
    floating[:, :, :] out,               # OUT (m, n, d), each window contiguous
):
    """As `transform_windows_products_block`, by Fourier transforms.

    Cost: about 5 w log2(w) (hx + 1) operations a window.
    """
    cdef tile t
    cdef features f
    cdef fft p
    cdef Py_ssize_t w = taper.shape[0], n_vectors
    set_features(&f, hx, taper_spectrum, reach, roots, factor)
    set_tile(&t, rows, first, w, step, shift, out, &f)
    set_fft(&p, w, radices, frequencies, twiddles)
    n_vectors = fft_windows_vectors_float(w) if floating is float else fft_windows_vectors_double(w)
    check_least("vectors", vectors.shape[0], VECTOR_BYTES // sizeof(floating) * n_vectors)
    with nogil:
        if floating is float:
            fft_windows_float(&t, &p, &f, &taper[0], &vectors[0])
        else:
            fft_windows_double(&t, &p, &f, &taper[0], &vectors[0])
        weigh_zero(out, f.hy * hx, zero)


def sliding_scratch(Py_ssize_t m, Py_ssize_t step, Py_ssize_t w, Py_ssize_t terms, Py_ssize_t itemsize):
    """Least length of `vectors` of `transform_windows_sliding_block`, for m windows down and `terms` cosines."""
    if itemsize == sizeof(float):
        return VECTOR_BYTES // itemsize * slide_vectors_float(m, step, w, terms)
    return VECTOR_BYTES // itemsize * slide_vectors_double(m, step, w, terms)


def transform_windows_sliding_block(
    const floating[:, :, ::1] rows,      # IN, as the rest up to `zero`: see `transform_windows_products_block`
    Py_ssize_t first,
    Py_ssize_t step,
    const floating[:, ::1] shift,        # IN
    const floating[:, :, ::1] taper_spectrum,  # IN
    Py_ssize_t reach,
    Py_ssize_t hx,
    bint roots,
    double factor,
    double zero,
    const floating[:, ::1] cosines,      # IN (hy + 1 + T, w), of 2 pi k j / w
    const floating[:, ::1] sines,        # IN (hy + 1 + T, w)
    const floating[:, ::1] mixing,       # IN (m, 1 + 2 T): see src/sliding.h
    floating[::1] vectors,               # SCRATCH (`sliding_scratch`), fastest from a multiple of 64 bytes on
    floating[:, :, :] out,               # OUT (m, n, d), each window contiguous
):
    """As `transform_windows_products_block`, by sums that windows share, for tapers of T <= MAX_TERMS cosines.

    Cost: about (16 step + 40 + 40 T) (hy + 1) (hx + 1) operations a window, if as many start in the tile as in w rows.
    """
    cdef tile t
    cdef features f
    cdef Py_ssize_t w = cosines.shape[1], n_vectors
    cdef int terms = mixing.shape[1] // 2
    set_features(&f, hx, taper_spectrum, reach, roots, factor)
    set_tile(&t, rows, first, w, step, shift, out, &f)
    check_2d("cosines", cosines.shape, f.hy + 1 + terms, w)
    check_2d("sines", sines.shape, f.hy + 1 + terms, w)
    check_2d("mixing", mixing.shape, t.m, 1 + 2 * terms)
    check_most("cosines of the taper", terms, MOST_TERMS)
    if floating is float:
        n_vectors = slide_vectors_float(t.m, step, w, terms)
    else:
        n_vectors = slide_vectors_double(t.m, step, w, terms)
    check_least("vectors", vectors.shape[0], VECTOR_BYTES // sizeof(floating) * n_vectors)
    with nogil:
        if floating is float:
            slide_windows_float(terms, &t, &f, &cosines[0, 0], &sines[0, 0], &mixing[0, 0], &vectors[0])
        else:
            slide_windows_double(terms, &t, &f, &cosines[0, 0], &sines[0, 0], &mixing[0, 0], &vectors[0])
        weigh_zero(out, f.hy * hx, zero)


def finish_block(
    floating[:, :, :] out,               # IN and OUT (m, n, d), each window contiguous: squared modulus, then features
    str scale,
    double gain,
    double weight,
    Py_ssize_t zero,
):
    """Squared modulus to feature: weight * scale(gain * modulus), without weight at `zero`; scale "abs" or "log1p".

    Cost: a root and a logarithm a feature.
    """
    cdef Py_ssize_t y, i, j
    cdef Py_ssize_t d = out.shape[2]
    check_contiguous(out)
    check_least("zero", zero, 0)
    check_most("zero", zero, d - 1)
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
