/* Inner loops of src/windows.pyx. A template, see float_and_double.h. */

#include "fft.h"

/* Fold each of `n` columns of w rows: even (w / 2 + 1, ld), odd ((w - 1) / 2, ld). */
static inline void TYPED(fold_columns)(
    const REAL *restrict rows, ptrdiff_t stride, ptrdiff_t w, ptrdiff_t n, const REAL *restrict taper,
    REAL *restrict even, REAL *restrict odd, ptrdiff_t ld)
{
    for (ptrdiff_t x = 0; x < n; x++)
        even[x] = taper[0] * rows[x];
    for (ptrdiff_t j = 1; j <= (w - 1) / 2; j++) {
        const REAL *restrict low = rows + j * stride, *restrict high = rows + (w - j) * stride;
        const REAL t = taper[j], s = taper[w - j];
        for (ptrdiff_t x = 0; x < n; x++) {
            const REAL a = t * low[x], b = s * high[x];
            even[j * ld + x] = a + b;
            odd[(j - 1) * ld + x] = a - b;
        }
    }
    if (w % 2 == 0)
        for (ptrdiff_t x = 0; x < n; x++)
            even[w / 2 * ld + x] = taper[w / 2] * rows[w / 2 * stride + x];
}

#ifndef STEMSEG_WINDOWS_H
#define STEMSEG_WINDOWS_H
/* How features are computed from the spectrum of a window.
 *
 * taper_spectrum : (2, 2 hy + 1, ld), DFT of the taper, ky from -hy to hy, rows padded so that a vector can start at
 *     any kx
 * reach : the highest ky at which `taper_spectrum` is not zero
 * roots : whether a feature is factor |F|^(1/2), else factor |F|^2 */
typedef struct {
    ptrdiff_t hy, hx, ld, reach;
    const void *taper_spectrum;
    int roots;
    double factor;
} features;

/* The windows of a tile.
 *
 * m, n : number of windows down and across;  w, step : along y
 * re, im : transformed image rows from the first window on, (.., ld): kx = 0..hx of one window after the other, and
 *     room for a vector more
 * shift : (m, n), the number to subtract from every pixel of a window
 * out : features of the first window;  down, across : distance to the next window */
typedef struct {
    ptrdiff_t m, n, w, step, ld, down, across;
    const void *re, *im, *shift;
    void *out;
} tile;
#endif

/* x^(1/4) for x >= 0: the square root of a modulus, from the square of the modulus.
 *
 * In float, two square roots of 16 numbers take 36 cycles and this takes about 8: y ~ x^(-1/4) by halving the
 * exponent twice, to 4 %; then by the series of (1 - e)^(-1/4) in e = 1 - x y^4, to 6e-5; then
 * x^(1/4) = x y^3 (1 - e)^(-3/4), to 1e-7. Zero gives zero. */
static inline __attribute__((always_inline)) TYPED(vector) TYPED(fourth_root)(TYPED(vector) x)
{
#if REAL_BYTES == 4
    TYPED(vector) y = (TYPED(vector))(0x4f58cae5 - ((TYPED(integers))x >> 2));
    TYPED(vector) y2 = y * y;
    TYPED(vector) e = 1 - (x * y2) * y2;
    y += y * (e * (0.25f + e * (0.15625f + e * 0.1171875f)));
    y2 = y * y;
    const TYPED(vector) root = (x * y2) * y;
    e = 1 - root * y;
    return root + (0.75f * root) * e;
#else
    for (int lane = 0; lane < TYPED(lanes); lane++)
        x[lane] = sqrt(sqrt(x[lane]));
    return x;
#endif
}

/* Compute and store a vector of features of a window: those at ky, from `kx` on.
 *
 * A window has the features ky = -hy..hy, kx = 0..hx, without ky < 0 at kx = 0. Nothing is written outside the window.
 * Within it, the vector at ky < 0 and kx = 0 has one lane too many in front: it overwrites the last feature of ky - 1.
 * That feature must be stored later. So the caller goes through kx upwards, and through ky < 0 downwards. */
static inline __attribute__((always_inline)) void TYPED(store_features)(
    const features f, ptrdiff_t ky, ptrdiff_t kx, TYPED(vector) re, TYPED(vector) im, REAL *window)
{
    TYPED(vector) x = re * re + im * im;
    if (f.roots)
        x = TYPED(fourth_root)(x);
    x *= (REAL)f.factor;
    REAL *start = window + f.hy * f.hx + ky * (f.hx + (ky >= 0)) + kx - (ky < 0);
    const int first = ky < 0 && kx == 0, whole = f.hx + 1 >= TYPED(lanes);
    if (whole && !(first && ky == -f.hy)) /* in front of which lies another window */
        *(TYPED(vector) *)start = x;
    else
        for (int lane = first; lane < (whole ? TYPED(lanes) : f.hx + 1); lane++)
            start[lane] = x[lane];
}

/* The same of the spectrum minus `shift` times the spectrum of the taper. */
static inline __attribute__((always_inline)) void TYPED(store_features_less_mean)(
    const features f, ptrdiff_t ky, ptrdiff_t kx, TYPED(vector) re, TYPED(vector) im, REAL shift, REAL *window)
{
    const REAL *taper_spectrum = (const REAL *)f.taper_spectrum + (f.hy + ky) * f.ld + kx;
    re -= shift * *(const TYPED(vector) *)taper_spectrum;
    im -= shift * *(const TYPED(vector) *)(taper_spectrum + (2 * f.hy + 1) * f.ld);
    TYPED(store_features)(f, ky, kx, re, im, window);
}

/* The start of the next vector of a window: kx = 0, lanes, 2 lanes, ..., then the last whole vector, then -1. */
static inline ptrdiff_t TYPED(next_kx)(ptrdiff_t kx, ptrdiff_t hx)
{
    const ptrdiff_t last = hx + 1 - TYPED(lanes);
    return kx >= last ? -1 : kx + TYPED(lanes) < last ? kx + TYPED(lanes) : last;
}

/* Features of the windows of a tile by products of the folded columns with cosines and sines, a row of windows at once.
 *
 * cosines : (hy + 1, w / 2 + 1);  sines : (hy + 1, (w - 1) / 2), from j = 1
 * even, odd : (w / 2 + 1, chunk), ((w - 1) / 2, chunk), scratch for a chunk of columns
 * products : (2, hy + 1, 2 ld), scratch, real parts before imaginary ones */
static inline void TYPED(multiply_windows)(
    const tile *tile_, const features *features_, const REAL *taper, const REAL *cosines, const REAL *sines, REAL *even,
    REAL *odd, ptrdiff_t chunk, REAL *products)
{
    const tile g = *tile_;
    const features f = *features_;
    const ptrdiff_t n_even = g.w / 2 + 1, n_odd = (g.w - 1) / 2, columns = g.n * (f.hx + 1), ld = 2 * g.ld;
    REAL *sine_products = products + (f.hy + 1) * ld;
    for (ptrdiff_t y = 0; y < g.m; y++) {
        for (int part = 0; part < 2; part++)
            for (ptrdiff_t x = 0; x < columns; x += chunk) {
                const ptrdiff_t count = columns - x < chunk ? columns - x : chunk, offset = part * g.ld + x;
                const REAL *column = (const REAL *)(part ? g.im : g.re) + y * g.step * g.ld + x;
                TYPED(fold_columns)(column, g.ld, g.w, count, taper, even, odd, chunk);
                TYPED(product)(f.hy + 1, count, n_even, cosines, n_even, even, chunk, products + offset, ld);
                TYPED(product)(f.hy + 1, count, n_odd, sines, n_odd, odd, chunk, sine_products + offset, ld);
            }
        for (ptrdiff_t i = 0; i < g.n; i++)
            for (ptrdiff_t kx = 0; kx >= 0; kx = TYPED(next_kx)(kx, f.hx))
                for (ptrdiff_t u = 0; u <= f.hy; u++) {
                    const TYPED(vector) *c = (const TYPED(vector) *)(products + u * ld + i * (f.hx + 1) + kx);
                    const TYPED(vector) *s = (const TYPED(vector) *)(sine_products + u * ld + i * (f.hx + 1) + kx);
                    const TYPED(vector) *c_im = (const TYPED(vector) *)((const REAL *)c + g.ld);
                    const TYPED(vector) *s_im = (const TYPED(vector) *)((const REAL *)s + g.ld);
                    const REAL shift = ((const REAL *)g.shift)[y * g.n + i];
                    REAL *window = (REAL *)g.out + y * g.down + i * g.across;
                    TYPED(store_features_less_mean)(f, u, kx, *c + *s_im, *c_im - *s, shift, window);
                    if (u > 0)
                        TYPED(store_features_less_mean)(f, -u, kx, *c - *s_im, *c_im + *s, shift, window);
                }
    }
}

/* Vectors of scratch of `fft_windows`: two arrays of a transform. */
static inline ptrdiff_t TYPED(fft_windows_vectors)(ptrdiff_t w)
{
    return 4 * w;
}

/* Features of the windows of a tile by Fourier transforms along y;  scratch : (fft_windows_vectors, lanes). */
static inline void TYPED(fft_windows)(
    const tile *tile_, const fft *fft_, const features *features_, const REAL *taper, void *scratch)
{
    /* By value: the compiler cannot know that what is stored does not change them. */
    const tile g = *tile_;
    const fft t = *fft_;
    const features f = *features_;
    TYPED(column) x = scratch, spectrum = x + 2 * t.n;
    for (ptrdiff_t i = 0; i < g.n; i++)
        for (ptrdiff_t kx = 0; kx >= 0; kx = TYPED(next_kx)(kx, f.hx))
            for (ptrdiff_t y = 0; y < g.m; y++) {
                const ptrdiff_t start = y * g.step * g.ld + i * (f.hx + 1) + kx;
                const REAL shift = ((const REAL *)g.shift)[y * g.n + i];
                REAL *window = (REAL *)g.out + y * g.down + i * g.across;
                TYPED(transform_column)(
                    &t, f.hy, (const REAL *)g.re + start, (const REAL *)g.im + start, g.ld, taper, taper, x, spectrum);
                TYPED(store_features_less_mean)(f, 0, kx, spectrum[0], spectrum[1], shift, window);
                ptrdiff_t u = 1;
                for (; u <= f.reach; u++) {
                    const TYPED(vector) *plus = spectrum + 2 * u, *minus = spectrum + 2 * (t.n - u);
                    TYPED(store_features_less_mean)(f, u, kx, plus[0], plus[1], shift, window);
                    TYPED(store_features_less_mean)(f, -u, kx, minus[0], minus[1], shift, window);
                }
                for (; u <= f.hy; u++) {
                    const TYPED(vector) *plus = spectrum + 2 * u, *minus = spectrum + 2 * (t.n - u);
                    TYPED(store_features)(f, u, kx, plus[0], plus[1], window);
                    TYPED(store_features)(f, -u, kx, minus[0], minus[1], window);
                }
            }
}
