/* Fourier transforms of a vector of columns at once: a column has a lane. Real and imaginary parts have their own
 * vectors.
 *
 * Decimation in frequency, in place, with radices 2, 3, 4 and 5. The results are not reordered at the end: a table
 * tells the last stage which frequencies it computes, and frequencies that are not kept are skipped. A template, see
 * float_and_double.h.
 *
 * Source: C. Van Loan, Computational Frameworks for the Fast Fourier Transform, SIAM 1992, 10.1137/1.9781611970999. */

#include "vectors.h"

#ifndef STEMSEG_FFT_H
#define STEMSEG_FFT_H
/* Transform of length n = product of the radices, at least two of them.
 *
 * twiddles : for each stage but the last, for each p < length / radix, for c = 1..radix - 1: real and imaginary part of
 *     exp(-2 pi i p c / length)
 * frequencies : (n / radix,) of the last stage. This stage transforms groups of `radix` numbers. Group b gives the
 *     frequencies q, q + n / radix, q + 2 n / radix, ... with q = frequencies[b] */
typedef struct {
    ptrdiff_t n, stages;
    const int32_t *radices, *frequencies;
    const void *twiddles;
} fft;

/* Longer transforms are split after the first stage, so that each part stays in the first-level cache. */
#define LONG_TRANSFORM_BYTES (1 << 14)
#endif

typedef TYPED(vector) *restrict TYPED(column); /* n pairs of vectors: real and imaginary parts */

static inline __attribute__((always_inline)) void TYPED(butterfly)(
    const int radix, TYPED(vector) *restrict re, TYPED(vector) *restrict im)
{
    if (radix == 2) {
        const TYPED(vector) r = re[1], i = im[1];
        re[1] = re[0] - r, im[1] = im[0] - i;
        re[0] += r, im[0] += i;
    } else if (radix == 3) {
        const REAL s = (REAL)0.86602540378443864676;
        const TYPED(vector) r = re[1] + re[2], i = im[1] + im[2];
        const TYPED(vector) dr = s * (im[1] - im[2]), di = s * (re[2] - re[1]);
        const TYPED(vector) cr = re[0] - (REAL)0.5 * r, ci = im[0] - (REAL)0.5 * i;
        re[0] += r, im[0] += i;
        re[1] = cr + dr, im[1] = ci + di;
        re[2] = cr - dr, im[2] = ci - di;
    } else if (radix == 4) {
        const TYPED(vector) ar = re[0] + re[2], ai = im[0] + im[2], br = re[0] - re[2], bi = im[0] - im[2];
        const TYPED(vector) cr = re[1] + re[3], ci = im[1] + im[3], dr = im[1] - im[3], di = re[3] - re[1];
        re[0] = ar + cr, im[0] = ai + ci;
        re[1] = br + dr, im[1] = bi + di;
        re[2] = ar - cr, im[2] = ai - ci;
        re[3] = br - dr, im[3] = bi - di;
    } else {
        const REAL c1 = (REAL)0.30901699437494742410, c2 = (REAL)-0.80901699437494742410;
        const REAL s1 = (REAL)0.95105651629515357212, s2 = (REAL)0.58778525229247312917;
        const TYPED(vector) ar = re[1] + re[4], ai = im[1] + im[4], br = re[2] + re[3], bi = im[2] + im[3];
        const TYPED(vector) cr = im[1] - im[4], ci = re[4] - re[1], dr = im[2] - im[3], di = re[3] - re[2];
        const TYPED(vector) er = re[0] + c1 * ar + c2 * br, ei = im[0] + c1 * ai + c2 * bi;
        const TYPED(vector) fr = re[0] + c2 * ar + c1 * br, fi = im[0] + c2 * ai + c1 * bi;
        const TYPED(vector) gr = s1 * cr + s2 * dr, gi = s1 * ci + s2 * di;
        const TYPED(vector) hr = s2 * cr - s1 * dr, hi = s2 * ci - s1 * di;
        re[0] += ar + br, im[0] += ai + bi;
        re[1] = er + gr, im[1] = ei + gi;
        re[2] = fr + hr, im[2] = fi + hi;
        re[3] = fr - hr, im[3] = fi - hi;
        re[4] = er - gr, im[4] = ei - gi;
    }
}

/* The first stage: it reads columns from memory, rows `stride` apart, and multiplies them by their tapers. */
static inline __attribute__((always_inline)) void TYPED(fft_first)(
    const int radix, ptrdiff_t n, const REAL *twiddle, const REAL *re, const REAL *im, ptrdiff_t stride,
    const REAL *taper_re, const REAL *taper_im, TYPED(column) x)
{
    const ptrdiff_t m = n / radix;
    for (ptrdiff_t p = 0; p < m; p++, twiddle += 2 * (radix - 1)) {
        TYPED(vector) a[5], b[5];
        for (int c = 0; c < radix; c++) {
            const ptrdiff_t j = p + c * m;
            a[c] = taper_re[j] * *(const TYPED(vector) *)(re + j * stride);
            b[c] = taper_im[j] * *(const TYPED(vector) *)(im + j * stride);
        }
        TYPED(butterfly)(radix, a, b);
        x[2 * p] = a[0], x[2 * p + 1] = b[0];
        for (int c = 1; c < radix; c++) {
            const REAL wr = twiddle[2 * c - 2], wi = twiddle[2 * c - 1];
            x[2 * (p + c * m)] = wr * a[c] - wi * b[c];
            x[2 * (p + c * m) + 1] = wr * b[c] + wi * a[c];
        }
    }
}

/* A middle stage: pieces of length `length`, in place. */
static inline __attribute__((always_inline)) void TYPED(fft_stage)(
    const int radix, ptrdiff_t n, ptrdiff_t length, const REAL *twiddle, TYPED(column) x)
{
    const ptrdiff_t m = length / radix;
    for (ptrdiff_t p = 0; p < m; p++, twiddle += 2 * (radix - 1))
        for (TYPED(vector) *y = x + 2 * p; y < x + 2 * n; y += 2 * length) {
            TYPED(vector) a[5], b[5];
            for (int c = 0; c < radix; c++)
                a[c] = y[2 * c * m], b[c] = y[2 * c * m + 1];
            TYPED(butterfly)(radix, a, b);
            y[0] = a[0], y[1] = b[0];
            for (int c = 1; c < radix; c++) {
                const REAL wr = twiddle[2 * c - 2], wi = twiddle[2 * c - 1];
                y[2 * c * m] = wr * a[c] - wi * b[c];
                y[2 * c * m + 1] = wr * b[c] + wi * a[c];
            }
        }
}

/* The last stage, for `count` groups from group `first` on. It stores each frequency k at its place in `out`: at least
 * those with k <= h and k >= n - h. With `outer`, only the lowest and the highest frequency of a group can be such. */
static inline __attribute__((always_inline)) void TYPED(fft_last)(
    const int radix, const int outer, const fft *f, ptrdiff_t first, ptrdiff_t count, ptrdiff_t h,
    const TYPED(vector) *x, TYPED(column) out)
{
    const ptrdiff_t s = f->n / radix;
    for (ptrdiff_t i = 0; i < count; i++, x += 2 * radix) {
        const ptrdiff_t q = f->frequencies[first + i];
        if (q > h && q < s - h)
            continue;
        TYPED(vector) a[5], b[5];
        for (int c = 0; c < radix; c++)
            a[c] = x[2 * c], b[c] = x[2 * c + 1];
        TYPED(butterfly)(radix, a, b);
        for (int c = 0; c < radix; c += outer ? radix - 1 : 1)
            out[2 * (q + c * s)] = a[c], out[2 * (q + c * s) + 1] = b[c];
    }
}

/* Transform of a vector of columns in memory, rows `stride` apart: out has the frequencies k <= h and k >= n - h.
 *
 * x : n pairs of vectors, scratch;  out : n pairs of vectors */
static inline void TYPED(transform_column)(
    const fft *f, ptrdiff_t h, const REAL *re, const REAL *im, ptrdiff_t stride, const REAL *taper_re,
    const REAL *taper_im, TYPED(column) x, TYPED(column) out)
{
    const REAL *twiddles = f->twiddles;
    switch (f->radices[0]) {
    case 2: TYPED(fft_first)(2, f->n, twiddles, re, im, stride, taper_re, taper_im, x); break;
    case 3: TYPED(fft_first)(3, f->n, twiddles, re, im, stride, taper_re, taper_im, x); break;
    case 4: TYPED(fft_first)(4, f->n, twiddles, re, im, stride, taper_re, taper_im, x); break;
    default: TYPED(fft_first)(5, f->n, twiddles, re, im, stride, taper_re, taper_im, x);
    }
    const int first = f->radices[0], last = f->radices[f->stages - 1], outer = h < f->n / last;
    const ptrdiff_t parts = 2 * f->n * VECTOR_BYTES > LONG_TRANSFORM_BYTES ? first : 1, part = f->n / parts;
    for (ptrdiff_t start = 0; start < f->n; start += part) {
        ptrdiff_t length = f->n / first;
        const REAL *twiddle = twiddles + 2 * length * (first - 1);
        TYPED(vector) *y = x + 2 * start;
        for (ptrdiff_t stage = 1; stage < f->stages - 1; stage++) {
            const int radix = f->radices[stage];
            switch (radix) {
            case 2: TYPED(fft_stage)(2, part, length, twiddle, y); break;
            case 3: TYPED(fft_stage)(3, part, length, twiddle, y); break;
            case 4: TYPED(fft_stage)(4, part, length, twiddle, y); break;
            default: TYPED(fft_stage)(5, part, length, twiddle, y);
            }
            length /= radix;
            twiddle += 2 * length * (radix - 1);
        }
        const ptrdiff_t b = start / last, count = part / last;
        switch (2 * last + outer) {
        case 4: case 5: TYPED(fft_last)(2, 0, f, b, count, h, y, out); break;
        case 6: TYPED(fft_last)(3, 0, f, b, count, h, y, out); break;
        case 7: TYPED(fft_last)(3, 1, f, b, count, h, y, out); break;
        case 8: TYPED(fft_last)(4, 0, f, b, count, h, y, out); break;
        case 9: TYPED(fft_last)(4, 1, f, b, count, h, y, out); break;
        case 10: TYPED(fft_last)(5, 0, f, b, count, h, y, out); break;
        default: TYPED(fft_last)(5, 1, f, b, count, h, y, out);
        }
    }
}

#if VECTOR_BYTES / REAL_BYTES == 16
#define ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VECTOR_BYTES / REAL_BYTES == 8
#define ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif VECTOR_BYTES / REAL_BYTES == 4
#define ZIP_LOW 0, 4, 1, 5
#define ZIP_HIGH 2, 6, 3, 7
#else
#define ZIP_LOW 0, 2
#define ZIP_HIGH 1, 3
#endif

#if REAL_BYTES == 4
typedef int32_t TYPED(integers) __attribute__((vector_size(VECTOR_BYTES)));
#else
typedef int64_t TYPED(integers) __attribute__((vector_size(VECTOR_BYTES)));
#endif

#ifdef __clang__
#define SHUFFLED(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(a, b, ...) __builtin_shuffle(a, b, (TYPED(integers)){__VA_ARGS__})
#endif

/* Transpose a square, one row a vector. Each step interleaves the first half of the vectors with the second. */
static inline __attribute__((always_inline)) void TYPED(transpose)(TYPED(vector) *restrict a)
{
    for (int step = 1; step < TYPED(lanes); step *= 2) {
        TYPED(vector) b[TYPED(lanes)];
        for (int i = 0; i < TYPED(lanes) / 2; i++) {
            b[2 * i] = SHUFFLED(a[i], a[i + TYPED(lanes) / 2], ZIP_LOW);
            b[2 * i + 1] = SHUFFLED(a[i], a[i + TYPED(lanes) / 2], ZIP_HIGH);
        }
        for (int i = 0; i < TYPED(lanes); i++)
            a[i] = b[i];
    }
}

#undef ZIP_LOW
#undef ZIP_HIGH
#undef SHUFFLED
