"""Kernels of the image rows of a strip, a column of windows that shares them: transforms along x, and sums.

A piece of an image row is the part of it that lies in a window. `transform_rows_..` transform the pieces of every row,
in one of two ways, which give the same numbers to rounding (see src/windows.pyx for the transforms along y).

products
    Of a piece x of length w with taper t, the even and odd parts

        e_j = t_j x_j + t_(w-j) x_(w-j),    o_j = t_j x_j - t_(w-j) x_(w-j),    0 < j < w/2,

    with e_0 = t_0 x_0 and, for even w, e_(w/2) = t_(w/2) x_(w/2), give every frequency u, for any taper, by

        F(+-u) = sum_j e_j cos(2 pi u j / w) -+ i sum_j o_j sin(2 pi u j / w):

    two real matrix products of half the length, for the kept frequencies alone.
fft
    Fast Fourier transforms, one piece a lane of a vector; the last stage computes the kept frequencies alone.
"""

from cython cimport floating
from libc.stdint cimport int32_t
from libc.string cimport memmove

cdef extern from *:
    """
    #define TEMPLATE "strips.h"
    #include "float_and_double.h"
    """
    enum: VECTOR_BYTES
    Py_ssize_t fft_rows_vectors_float(Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
    Py_ssize_t fft_rows_vectors_double(Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil
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

include "shapes.pxi"
include "fft.pxi"


def move_rows_block(
    floating[:, :, ::1] rows,            # IN and OUT (2, r, ld)
    double[:, ::1] sums,                 # IN and OUT (r, n)
    Py_ssize_t start,
    Py_ssize_t count,
):
    """Move the transforms and sums of `count` image rows from row `start` on to row 0. Cost: a copy of them."""
    cdef size_t row = rows.shape[2] * sizeof(floating)
    check_3d("rows", rows.shape, 2, rows.shape[1], rows.shape[2])
    check_least("start", start, 0)
    check_least("rows of rows", rows.shape[1], start + count)
    check_least("rows of sums", sums.shape[0], start + count)
    with nogil:
        if count > 0:
            memmove(&rows[0, 0, 0], &rows[0, start, 0], count * row)
            memmove(&rows[1, 0, 0], &rows[1, start, 0], count * row)
            memmove(&sums[0, 0], &sums[start, 0], count * sums.shape[1] * sizeof(double))


def window_means_block(
    const double[:, ::1] sums,           # IN (at least first + (m - 1) step + wy, n): sums of wx pixels
    Py_ssize_t first,
    Py_ssize_t step,
    Py_ssize_t wy,
    Py_ssize_t wx,
    double[:, ::1] totals,               # SCRATCH (at least (m - 1) step + wy + 1, n)
    floating[:, ::1] means,              # OUT (m, n)
):
    """Means of windows of wy x wx pixels that start at rows first, first + step, ...

    Cost: an addition a sum.
    """
    cdef Py_ssize_t row, x, y, height = (means.shape[0] - 1) * step + wy
    cdef Py_ssize_t n = means.shape[1]
    cdef double area = wy * wx
    check_least("rows of means", means.shape[0], 1)
    check_least("first", first, 0)
    check_least("step", step, 1)
    check_least("wy", wy, 1)
    check_least("rows of sums", sums.shape[0], first + height)
    check_2d("sums", sums.shape, sums.shape[0], n)
    check_least("rows of totals", totals.shape[0], height + 1)
    check_2d("totals", totals.shape, totals.shape[0], n)
    with nogil:
        for x in range(n):
            totals[0, x] = 0
        for row in range(height):
            for x in range(n):
                totals[row + 1, x] = totals[row, x] + sums[first + row, x]
        for y in range(means.shape[0]):
            for x in range(n):
                means[y, x] = (totals[y * step + wy, x] - totals[y * step, x]) / area


cdef inline int check_strip(
    const floating[:, ::1] image, Py_ssize_t w, Py_ssize_t step, Py_ssize_t first, Py_ssize_t h,
    const floating[:, :, ::1] rows, const double[:, ::1] sums,
) except -1:
    """Whether n pieces of w pixels lie in an image row, and its h + 1 frequencies for each in a row of `rows`."""
    cdef Py_ssize_t n = sums.shape[1]
    check_least("pieces", n, 1)
    check_least("window", w, 1)
    check_least("step", step, 1)
    check_least("first", first, 0)
    check_least("columns of image", image.shape[1], (n - 1) * step + w)
    check_3d("rows", rows.shape, 2, rows.shape[1], rows.shape[2])
    check_least("rows of rows", rows.shape[1], first + image.shape[0])
    check_least("columns of rows", rows.shape[2], n * (h + 1))
    check_least("rows of sums", sums.shape[0], first + image.shape[0])
    return 0


cdef inline void fold_pieces(
    const floating[:, ::1] image, Py_ssize_t start, Py_ssize_t count, Py_ssize_t step, const floating[::1] taper,
    floating* mirror, const floating* taper_mirror, floating[:, ::1] even, floating* odd, double[:, ::1] sums,
    Py_ssize_t first,
) noexcept nogil:
    """Sums, even and odd parts of `count` pieces of the image rows from row `start` on, less their means."""
    cdef Py_ssize_t i, x, y
    cdef Py_ssize_t nx = image.shape[1], w = taper.shape[0], n = sums.shape[1], n_odd = (w - 1) // 2
    cdef floating mean
    cdef const floating *piece
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
                piece, mirror + nx - x - w, w, mean, &taper[0], taper_mirror, &even[i, 0], odd + i * n_odd
            )
        else:
            sums[first + y, i % n] = sum_double(piece, w)
            mean = sums[first + y, i % n] / w
            fold_piece_double(
                piece, mirror + nx - x - w, w, mean, &taper[0], taper_mirror, &even[i, 0], odd + i * n_odd
            )


def transform_rows_products_block(
    const floating[:, ::1] image,        # IN (ny, nx)
    const floating[::1] taper,           # IN (w,)
    Py_ssize_t step,
    const floating[:, ::1] cosines,      # IN (w // 2 + 1, h + 1 and up to a whole vector), of 2 pi u j / w
    const floating[:, ::1] minus_sines,  # IN ((w - 1) // 2, as of cosines), its first row j = 1
    const floating[:, ::1] taper_spectrum,  # IN (2, h + 1): real and imaginary part
    floating[::1] mirror,                # SCRATCH (at least nx + 1 + w,): an image row and the taper, reversed
    floating[:, ::1] even,               # SCRATCH (at least n, w // 2 + 1): for the pieces of some image rows
    floating[:, ::1] odd,                # SCRATCH (as of even, (w - 1) // 2)
    floating[:, :, ::1] products,        # SCRATCH (2, as of even, h + 1)
    Py_ssize_t first,
    floating[:, :, ::1] rows,            # OUT (2, at least first + ny, at least n (h + 1)), from row `first` on
    double[:, ::1] sums,                 # OUT (at least first + ny, n): without taper, from row `first` on
):
    """Transforms and sums of the n pieces of every image row that start at 0, step, 2 step, ..., by products.

    `rows` gets the real and the imaginary parts of one piece after the other. The mean of a piece is transformed by
    itself, by `taper_spectrum`: in sums with it the rest would lose digits.

    Cost: 2 w (h + 1) operations a piece.
    """
    cdef Py_ssize_t batch, i, x, y, start, count, image_rows
    cdef floating mean
    cdef Py_ssize_t nx = image.shape[1], w = taper.shape[0], n = sums.shape[1], m = taper_spectrum.shape[1]
    cdef Py_ssize_t n_even = w // 2 + 1, n_odd = (w - 1) // 2, padded = cosines.shape[1]
    cdef Py_ssize_t lanes = VECTOR_BYTES // sizeof(floating)
    check_strip(image, w, step, first, m - 1, rows, sums)
    check_2d("cosines", cosines.shape, n_even, padded)
    check_least("columns of cosines", padded, (m + lanes - 1) // lanes * lanes)
    check_2d("minus_sines", minus_sines.shape, n_odd, padded)
    check_2d("taper_spectrum", taper_spectrum.shape, 2, m)
    check_least("mirror", mirror.shape[0], nx + 1 + w)
    check_least("rows of even", even.shape[0], n)
    check_2d("even", even.shape, even.shape[0], n_even)
    check_2d("odd", odd.shape, even.shape[0], n_odd)
    check_3d("products", products.shape, 2, even.shape[0], m)
    image_rows = even.shape[0] // n
    cdef floating *taper_mirror = &mirror[nx + 1]
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
            fold_pieces(image, start, count, step, taper, &mirror[0], taper_mirror, even, o, sums, first)
            if floating is float:
                product_float(count, m, n_even, &even[0, 0], n_even, &cosines[0, 0], padded, re, m)
                product_float(count, m, n_odd, o, n_odd, sine, padded, im, m)
            else:
                product_double(count, m, n_even, &even[0, 0], n_even, &cosines[0, 0], padded, re, m)
                product_double(count, m, n_odd, o, n_odd, sine, padded, im, m)
            for i in range(count):
                y = first + start + i // n
                mean = sums[y, i % n] / w
                for x in range(m):
                    rows[0, y, i % n * m + x] = re[i * m + x] + mean * taper_spectrum[0, x]
                    rows[1, y, i % n * m + x] = im[i * m + x] + mean * taper_spectrum[1, x]


def fft_rows_scratch(Py_ssize_t width, Py_ssize_t w, Py_ssize_t h, Py_ssize_t itemsize):
    """Least lengths of `vectors` and `totals` of `transform_rows_fft_block`, for image rows of `width` pixels."""
    cdef Py_ssize_t lanes = VECTOR_BYTES // itemsize
    if itemsize == sizeof(float):
        return lanes * fft_rows_vectors_float(width, w, h), lanes * (width + 1)
    return lanes * fft_rows_vectors_double(width, w, h), lanes * (width + 1)


def transform_rows_fft_block(
    const floating[:, ::1] image,        # IN (ny, nx)
    const floating[:, ::1] halved,       # IN (2, w / 2): half the taper at even and at odd places
    Py_ssize_t step,
    const int32_t[::1] radices,          # IN, as the next two: tables of a transform of length w / 2, see src/fft.h
    const int32_t[::1] frequencies,      # IN
    const floating[::1] twiddles,        # IN
    const floating[:, ::1] turns,        # IN (h + 1, 2): exp(-2 pi i k / w), real and imaginary part
    floating[::1] vectors,               # SCRATCH (`fft_rows_scratch`), fastest from a multiple of 64 bytes on
    double[::1] totals,                  # SCRATCH (`fft_rows_scratch`)
    Py_ssize_t first,
    floating[:, :, ::1] rows,            # OUT (2, at least first + ny, at least n (h + 1) and a vector)
    double[:, ::1] sums,                 # OUT (at least first + ny, n)
):
    """As `transform_rows_products_block`, by Fourier transforms, for an even w.

    A piece is transformed as w / 2 complex numbers; a vector of image rows at once. Numbers behind the n (h + 1) of a
    row of `rows` are overwritten, up to a vector.

    Cost: about 2.5 w log2(w) operations a piece.
    """
    cdef fft f
    cdef Py_ssize_t nx = image.shape[1], w = 2 * halved.shape[1], h = turns.shape[0] - 1
    cdef Py_ssize_t n = sums.shape[1], ld = rows.shape[2], lanes = VECTOR_BYTES // sizeof(floating)
    cdef Py_ssize_t i, y, valid, n_vectors
    check_strip(image, w, step, first, h, rows, sums)
    check_2d("halved", halved.shape, 2, w // 2)
    set_fft(&f, w // 2, radices, frequencies, twiddles)
    check_2d("turns", turns.shape, h + 1, 2)
    check_least("rows of turns", h, 0)
    check_most("rows of turns", h, w // 2)
    n_vectors = fft_rows_vectors_float(nx, w, h) if floating is float else fft_rows_vectors_double(nx, w, h)
    check_least("vectors", vectors.shape[0], lanes * n_vectors)
    check_least("totals", totals.shape[0], lanes * (nx + 1))
    check_least("columns of rows", ld, (n - 1) * (h + 1) + (h + lanes) // lanes * lanes)
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
