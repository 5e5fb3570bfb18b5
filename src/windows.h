/* Inner loops of src/windows.pyx, for one type of number; see vectors.h and fft.h for how to include it. */

#include "fft.h"

/* Fold a piece of w numbers, less `mean`: even (w / 2 + 1), odd ((w - 1) / 2).
 *
 * mirror[j] is piece[w - j] and turned[j] is taper[w - j]: turned over beforehand, so that all loads go forward. The
 * last vector overlaps the one before, as the number of pairs is seldom a multiple of the lanes. */
static inline void TYPED(fold_piece)(
    const REAL *piece, const REAL *mirror, ptrdiff_t w, REAL mean, const REAL *taper, const REAL *turned, REAL *even,
    REAL *odd)
{
    const ptrdiff_t pairs = (w - 1) / 2, lanes = TYPED(lanes);
    even[0] = taper[0] * (piece[0] - mean);
    if (w % 2 == 0)
        even[w / 2] = taper[w / 2] * (piece[w / 2] - mean);
    if (pairs < lanes) {
        for (ptrdiff_t j = 1; j <= pairs; j++) {
            const REAL a = taper[j] * (piece[j] - mean), b = turned[j] * (mirror[j] - mean);
            even[j] = a + b;
            odd[j - 1] = a - b;
        }
        return;
    }
    for (ptrdiff_t next = 1; next <= pairs; next += lanes) {
        const ptrdiff_t j = next + lanes <= pairs + 1 ? next : pairs + 1 - lanes;
        const TYPED(vector) a = *(const TYPED(vector) *)(taper + j) * (*(const TYPED(vector) *)(piece + j) - mean);
        const TYPED(vector) b = *(const TYPED(vector) *)(turned + j) * (*(const TYPED(vector) *)(mirror + j) - mean);
        *(TYPED(vector) *)(even + j) = a + b;
        *(TYPED(vector) *)(odd + j - 1) = a - b;
    }
}

/* Sum of n numbers in double, in several partial sums. */
static inline double TYPED(sum)(const REAL *x, ptrdiff_t n)
{
    double partial[16] = {0}, total = 0;
    ptrdiff_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int lane = 0; lane < 16; lane++)
            partial[lane] += x[i + lane];
    for (int lane = 0; lane < 16; lane++)
        total += partial[lane];
    for (; i < n; i++)
        total += x[i];
    return total;
}

/* Fold w rows of `n` columns, every column by itself: even (w / 2 + 1, ld), odd ((w - 1) / 2, ld). */
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

#ifndef FEATURES
#define FEATURES
/* What becomes of the spectrum of a window.
 *
 * uniform : (2, 2 hy + 1, ld), DFT of the taper, ky from -hy to hy, rows padded so that any kx starts a whole vector
 * reach : the highest ky at which it is not zero
 * roots : whether a feature is factor |F|^(1/2), else factor |F|^2 */
typedef struct {
    ptrdiff_t hy, hx, ld, reach;
    const void *uniform;
    int roots;
    double factor;
} features;

/* The windows of a tile.
 *
 * m, n : windows down and across;  w, step : along y
 * re, im : transformed image rows from the first window on, (.., ld): kx = 0..hx of one window after the other, and
 *     room for a vector more
 * shift : (m, n), what to subtract from every pixel of a window
 * out : features of the first window;  down, across : the next ones are so much further */
typedef struct {
    ptrdiff_t m, n, w, step, ld, down, across;
    const void *re, *im, *shift;
    void *out;
} tile;
#endif

/* x^(1/4) of x >= 0: the square root of a modulus from its square.
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

/* The features of a window at ky and the kx from `kx` on, as many as a vector has lanes.
 *
 * A window's features: ky from -hy to hy, kx from 0 to hx, without ky < 0 at kx = 0. Nothing is written outside the
 * window. Within it, the first lane of ky < 0 at kx = 0 falls upon the last feature of ky - 1, which must come later:
 * to be called for falling ky < 0, and for rising kx. */
static inline __attribute__((always_inline)) void TYPED(put)(
    const features f, ptrdiff_t ky, ptrdiff_t kx, TYPED(vector) re, TYPED(vector) im, REAL *window)
{
    TYPED(vector) x = re * re + im * im;
    if (f.roots)
        x = TYPED(fourth_root)(x);
    x *= (REAL)f.factor;
    REAL *place = window + f.hy * f.hx + ky * (f.hx + (ky >= 0)) + kx - (ky < 0);
    const int first = ky < 0 && kx == 0, whole = f.hx + 1 >= TYPED(lanes);
    if (whole && !(first && ky == -f.hy)) /* which has nothing of this window before it */
        *(TYPED(vector) *)place = x;
    else
        for (int lane = first; lane < (whole ? TYPED(lanes) : f.hx + 1); lane++)
            place[lane] = x[lane];
}

/* The same, of the spectrum less `shift` times that of the taper. */
static inline __attribute__((always_inline)) void TYPED(put_less)(
    const features f, ptrdiff_t ky, ptrdiff_t kx, TYPED(vector) re, TYPED(vector) im, REAL shift, REAL *window)
{
    const REAL *uniform = (const REAL *)f.uniform + (f.hy + ky) * f.ld + kx;
    re -= shift * *(const TYPED(vector) *)uniform;
    im -= shift * *(const TYPED(vector) *)(uniform + (2 * f.hy + 1) * f.ld);
    TYPED(put)(f, ky, kx, re, im, window);
}

/* The kx at which the vectors of a window start: 0, lanes, .. and the last that is whole; -1 after that. */
static inline ptrdiff_t TYPED(next_kx)(ptrdiff_t kx, ptrdiff_t hx)
{
    const ptrdiff_t last = hx + 1 - TYPED(lanes);
    return kx >= last ? -1 : kx + TYPED(lanes) < last ? kx + TYPED(lanes) : last;
}

/* Features of the windows of a tile by products of the folded columns with cosines and sines, a row of windows at once.
 *
 * cosines : (hy + 1, w / 2 + 1);  sines : (hy + 1, (w - 1) / 2), from j = 1
 * even, odd : (w / 2 + 1, chunk), ((w - 1) / 2, chunk), scratch: so many columns are done at once
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
                const ptrdiff_t count = columns - x < chunk ? columns - x : chunk, place = part * g.ld + x;
                const REAL *column = (const REAL *)(part ? g.im : g.re) + y * g.step * g.ld + x;
                TYPED(fold_columns)(column, g.ld, g.w, count, taper, even, odd, chunk);
                TYPED(product)(f.hy + 1, count, n_even, cosines, n_even, even, chunk, products + place, ld);
                TYPED(product)(f.hy + 1, count, n_odd, sines, n_odd, odd, chunk, sine_products + place, ld);
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
                    TYPED(put_less)(f, u, kx, *c + *s_im, *c_im - *s, shift, window);
                    if (u > 0)
                        TYPED(put_less)(f, -u, kx, *c - *s_im, *c_im + *s, shift, window);
                }
    }
}

/* Features of the windows of a tile by Fourier transforms along y; scratch : 4 w vectors. */
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
                TYPED(put_less)(f, 0, kx, spectrum[0], spectrum[1], shift, window);
                ptrdiff_t u = 1;
                for (; u <= f.reach; u++) {
                    const TYPED(vector) *plus = spectrum + 2 * u, *minus = spectrum + 2 * (t.n - u);
                    TYPED(put_less)(f, u, kx, plus[0], plus[1], shift, window);
                    TYPED(put_less)(f, -u, kx, minus[0], minus[1], shift, window);
                }
                for (; u <= f.hy; u++) {
                    const TYPED(vector) *plus = spectrum + 2 * u, *minus = spectrum + 2 * (t.n - u);
                    TYPED(put)(f, u, kx, plus[0], plus[1], window);
                    TYPED(put)(f, -u, kx, minus[0], minus[1], window);
                }
            }
}

/* Frequencies 0..h of real pieces of length 2 n, one a lane: even and odd places are taken for real and imaginary
 * parts, whose frequencies k and n - k make the piece's k.
 *
 * pieces : (2 n, lanes);  halved : (2, n), half the taper at even and at odd places
 * turns : (h + 1, 2), exp(-2 pi i k / (2 n)), real and imaginary part
 * x, ordered : 2 n vectors each, scratch;  re, im : (h + 1) vectors each */
static inline void TYPED(transform_pieces)(
    const fft *t, ptrdiff_t h, const REAL *pieces, const REAL *halved, const REAL *turns, TYPED(column) x,
    TYPED(column) ordered, TYPED(vector) *restrict re, TYPED(vector) *restrict im)
{
    const ptrdiff_t n = t->n, lanes = TYPED(lanes);
    TYPED(transform_column)(t, h, pieces, pieces + lanes, 2 * lanes, halved, halved + n, x, ordered);
    for (ptrdiff_t k = 0; k <= h; k++) {
        const TYPED(vector) *a = ordered + 2 * k, *b = ordered + 2 * (k > 0 ? n - k : 0);
        const TYPED(vector) er = a[0] + b[0], ei = a[1] - b[1], odd_r = a[1] + b[1], odd_i = b[0] - a[0];
        re[k] = er + turns[2 * k] * odd_r - turns[2 * k + 1] * odd_i;
        im[k] = ei + turns[2 * k] * odd_i + turns[2 * k + 1] * odd_r;
    }
}

/* Frequencies of pieces, one a lane, to rows `ld` apart, of which the first `valid` are wanted; up to a vector too many
 * are stored at the end of each. */
static inline void TYPED(store_pieces)(
    const TYPED(vector) *frequencies, ptrdiff_t count, REAL *rows, ptrdiff_t ld, ptrdiff_t valid)
{
    for (ptrdiff_t k = 0; k < count; k += TYPED(lanes)) {
        TYPED(vector) square[TYPED(lanes)];
        for (int i = 0; i < TYPED(lanes); i++)
            square[i] = frequencies[k + i];
        TYPED(transpose)(square);
        for (ptrdiff_t row = 0; row < valid; row++)
            *(TYPED(vector) *)(rows + row * ld + k) = square[row];
    }
}

/* As many image rows as a vector has lanes, turned over: pixels (width, lanes), and their sums from the left edge on,
 * totals (width + 1, lanes). Rows from `valid` on are 0. */
static inline void TYPED(turn_rows)(
    const REAL *image, ptrdiff_t width, ptrdiff_t valid, REAL *restrict pixels, double *restrict totals)
{
    const ptrdiff_t lanes = TYPED(lanes);
    for (ptrdiff_t x = 0; x < width; x += lanes) {
        TYPED(vector) square[TYPED(lanes)];
        for (ptrdiff_t row = 0; row < lanes; row++) {
            square[row] = (TYPED(vector)){0};
            if (row < valid && x + lanes <= width)
                square[row] = *(const TYPED(vector) *)(image + row * width + x);
            else if (row < valid)
                for (ptrdiff_t lane = 0; lane < width - x; lane++)
                    square[row][lane] = image[row * width + x + lane];
        }
        TYPED(transpose)(square);
        for (ptrdiff_t lane = 0; lane < lanes; lane++)
            *(TYPED(vector) *)(pixels + (x + lane) * lanes) = square[lane];
    }
    for (ptrdiff_t row = 0; row < lanes; row++)
        totals[row] = 0;
    for (ptrdiff_t x = 0; x < width; x++)
        for (ptrdiff_t row = 0; row < lanes; row++)
            totals[(x + 1) * lanes + row] = totals[x * lanes + row] + pixels[x * lanes + row];
}

/* Transforms and plain sums of the n pieces of as many image rows as a vector has lanes, of which `valid` exist.
 *
 * scratch : lanes (width + lanes + 2 (2 t->n) + 2 (h + lanes)) numbers;  totals : (width + 1, lanes)
 * re, im : rows `ld` apart;  sums : (.., n) */
static inline void TYPED(fft_rows)(
    const fft *t, ptrdiff_t h, const REAL *image, ptrdiff_t width, ptrdiff_t valid, ptrdiff_t step, const REAL *halved,
    const REAL *turns, void *scratch, double *totals, REAL *re, REAL *im, ptrdiff_t ld, ptrdiff_t n, double *sums)
{
    const ptrdiff_t lanes = TYPED(lanes), w = 2 * t->n;
    TYPED(vector) *pixels = scratch, *x = pixels + width + lanes, *ordered = x + w, *f_re = ordered + w;
    TYPED(vector) *f_im = f_re + h + lanes;
    TYPED(turn_rows)(image, width, valid, (REAL *)pixels, totals);
    for (ptrdiff_t i = 0; i < n; i++) {
        const ptrdiff_t left = i * step;
        TYPED(transform_pieces)(t, h, (const REAL *)(pixels + left), halved, turns, x, ordered, f_re, f_im);
        TYPED(store_pieces)(f_re, h + 1, re + i * (h + 1), ld, valid);
        TYPED(store_pieces)(f_im, h + 1, im + i * (h + 1), ld, valid);
        for (ptrdiff_t row = 0; row < valid; row++)
            sums[row * n + i] = totals[(left + w) * lanes + row] - totals[left * lanes + row];
    }
}
