/* Sliding sums along y. A template, see float_and_double.h.
 *
 * The transform of a window without its taper is a sum over its rows, and the next window shares most of them. A
 * window that starts in one block of w rows and ends in the next is the sum of the last rows of the one block and the
 * first rows of the other: nothing is ever subtracted, and rounding errors do not accumulate. A taper that is a sum
 * of cosines mixes neighbouring frequencies. */

#include "windows.h"

/* Sums over the rows of a window of re cos, re sin, im cos, im sin: four vectors. */
typedef struct {
    TYPED(vector) re_cos, re_sin, im_cos, im_sin;
} TYPED(sums);

static inline __attribute__((always_inline)) void TYPED(add_row)(
    TYPED(sums) *s, const TYPED(vector) *row, REAL c, REAL sn)
{
    s->re_cos += c * row[0], s->re_sin += sn * row[0], s->im_cos += c * row[1], s->im_sin += sn * row[1];
}

static inline __attribute__((always_inline)) TYPED(sums) TYPED(sum_of)(const TYPED(sums) *a, const TYPED(sums) *b)
{
    return (TYPED(sums)){
        a->re_cos + b->re_cos, a->re_sin + b->re_sin, a->im_cos + b->im_cos, a->im_sin + b->im_sin};
}

/* Sums of one frequency for m windows of w rows, which start at row 0, step, 2 step, ...
 *
 * Rows are summed in groups of eight, and then the groups: one long sum would have twice the rounding error.
 *
 * rows : pairs of vectors, real and imaginary;  cosines, sines : (w,), of 2 pi k j / w */
static inline void TYPED(slide)(
    const TYPED(vector) *restrict rows, ptrdiff_t w, ptrdiff_t step, ptrdiff_t m, const REAL *restrict cosines,
    const REAL *restrict sines, TYPED(sums) *restrict out)
{
    const TYPED(sums) zero = {{0}, {0}, {0}, {0}};
    for (ptrdiff_t y = 0; y < m;) {
        const ptrdiff_t block = y * step / w * w; /* the rows block .. block + w - 1 */
        ptrdiff_t end = (block + w - 1) / step + 1; /* windows y .. end - 1 start in it */
        end = end < m ? end : m;
        TYPED(sums) sum = zero, eight = zero;
        const TYPED(vector) *these = rows + 2 * block;
        ptrdiff_t row = w;
        for (ptrdiff_t i = end - 1; i >= y; i--) {
            while (row > i * step - block) {
                row--;
                TYPED(add_row)(&eight, these + 2 * row, cosines[row], sines[row]);
                if (row % 8 == 0)
                    sum = TYPED(sum_of)(&sum, &eight), eight = zero;
            }
            out[i] = TYPED(sum_of)(&sum, &eight);
        }
        sum = eight = zero;
        these += 2 * w;
        row = 0;
        for (; y < end; y++) {
            while (row < y * step - block) {
                TYPED(add_row)(&eight, these + 2 * row, cosines[row], sines[row]);
                row++;
                if (row % 8 == 0)
                    sum = TYPED(sum_of)(&sum, &eight), eight = zero;
            }
            const TYPED(sums) prefix = TYPED(sum_of)(&sum, &eight);
            out[y] = TYPED(sum_of)(&out[y], &prefix);
        }
    }
}

/* Add the sums at k - t (low) and k + t (high) to those at k. `sign` is the sign of k - t: sine sums are odd in it. */
static inline __attribute__((always_inline)) void TYPED(mix)(
    TYPED(sums) *s, REAL c, REAL d, REAL sign, const TYPED(sums) *low, const TYPED(sums) *high)
{
    s->re_cos += c * (high->re_cos + low->re_cos) + d * (high->re_sin - sign * low->re_sin);
    s->re_sin += c * (high->re_sin + sign * low->re_sin) - d * (high->re_cos - low->re_cos);
    s->im_cos += c * (high->im_cos + low->im_cos) + d * (high->im_sin - sign * low->im_sin);
    s->im_sin += c * (high->im_sin + sign * low->im_sin) - d * (high->im_cos - low->im_cos);
}

/* Vectors of scratch of `slide_windows` for m windows of w rows: pairs of vectors for the rows, and sums of four
 * vectors. */
static inline ptrdiff_t TYPED(slide_vectors)(ptrdiff_t m, ptrdiff_t step, ptrdiff_t w, ptrdiff_t terms)
{
    return 2 * ((m - 1) * step + w) + 4 * (2 * terms + 1) * m;
}

/* Features of the windows of a tile by sliding sums.
 *
 * terms : T, of a taper a_0 + sum_t a_t cos(2 pi t j / w), j from the first row of the window
 * cosines, sines : (hy + 1 + T, w), of 2 pi k j / w
 * mixing : (m, 1 + 2 T): a_0, then a_t / 2 cos(2 pi t y step / w) and a_t / 2 sin(..) for t = 1..T
 * rows : (slide_vectors, lanes), scratch: (m - 1) step + w pairs of vectors, a copy of a vector of columns that every
 *     frequency reads; behind it the sums (2 T + 1, m) of neighbouring frequencies
 *
 * With C(k) the cosine and D(k) the sine sums of a column, those of the tapered column are
 *     C'(k) = a_0 C(k) + sum_t a_t / 2 [cos(t phi) (C(k-t) + C(k+t)) + sin(t phi) (D(k+t) - D(k-t))]
 *     D'(k) = a_0 D(k) + sum_t a_t / 2 [cos(t phi) (D(k-t) + D(k+t)) - sin(t phi) (C(k+t) - C(k-t))]. */
static inline __attribute__((always_inline)) void TYPED(slide_terms)(
    const int terms, const tile g, const features f, const REAL *cosines, const REAL *sines, const REAL *mixing,
    TYPED(vector) *restrict rows)
{
    const int ring = 2 * terms + 1;
    const ptrdiff_t height = (g.m - 1) * g.step + g.w;
    TYPED(sums) *planes = (TYPED(sums) *)(rows + 2 * height);
    for (ptrdiff_t i = 0; i < g.n; i++)
        for (ptrdiff_t kx = 0; kx >= 0; kx = TYPED(next_kx)(kx, f.hx)) {
            const ptrdiff_t column = i * (f.hx + 1) + kx;
            const REAL *shift = (const REAL *)g.shift + i;
            REAL *window = (REAL *)g.out + i * g.across;
            for (ptrdiff_t row = 0; row < height; row++) {
                rows[2 * row] = *(const TYPED(vector) *)((const REAL *)g.re + row * g.ld + column);
                rows[2 * row + 1] = *(const TYPED(vector) *)((const REAL *)g.im + row * g.ld + column);
            }
            for (ptrdiff_t newest = 0; newest <= f.hy + terms; newest++) {
                TYPED(slide)(
                    rows, g.w, g.step, g.m, cosines + newest * g.w, sines + newest * g.w, planes + newest % ring * g.m);
                if (newest == 0) /* at all other frequencies the sum of a constant over the rows is 0 */
                    for (ptrdiff_t y = 0; y < g.m; y++) {
                        const REAL *taper_spectrum = (const REAL *)f.taper_spectrum + f.hy * f.ld + kx;
                        const REAL less = shift[y * g.n] / mixing[0];
                        planes[y].re_cos -= less * *(const TYPED(vector) *)taper_spectrum;
                        planes[y].im_cos -= less * *(const TYPED(vector) *)(taper_spectrum + (2 * f.hy + 1) * f.ld);
                    }
                const ptrdiff_t k = newest - terms;
                if (k < 0)
                    continue;
                const TYPED(sums) *middle = planes + k % ring * g.m;
                for (ptrdiff_t y = 0; y < g.m; y++) {
                    const REAL *mix = mixing + y * ring;
                    TYPED(sums) s = {
                        mix[0] * middle[y].re_cos, mix[0] * middle[y].re_sin, mix[0] * middle[y].im_cos,
                        mix[0] * middle[y].im_sin};
                    for (int t = 1; t <= terms; t++) {
                        const TYPED(sums) *low = planes + (k < t ? t - k : k - t) % ring * g.m + y;
                        const TYPED(sums) *high = planes + (k + t) % ring * g.m + y;
                        TYPED(mix)(&s, mix[2 * t - 1], mix[2 * t], k < t ? -1 : 1, low, high);
                    }
                    TYPED(store_features)(f, k, kx, s.re_cos + s.im_sin, s.im_cos - s.re_sin, window + y * g.down);
                    if (k > 0)
                        TYPED(store_features)(f, -k, kx, s.re_cos - s.im_sin, s.im_cos + s.re_sin, window + y * g.down);
                }
            }
        }
}

static inline void TYPED(slide_windows)(
    int terms, const tile *g, const features *f, const REAL *cosines, const REAL *sines, const REAL *mixing,
    void *scratch)
{
    switch (terms) { /* as constants, so that the compiler unrolls the loops over them */
    case 0: TYPED(slide_terms)(0, *g, *f, cosines, sines, mixing, scratch); break;
    case 1: TYPED(slide_terms)(1, *g, *f, cosines, sines, mixing, scratch); break;
    case 2: TYPED(slide_terms)(2, *g, *f, cosines, sines, mixing, scratch); break;
    case 3: TYPED(slide_terms)(3, *g, *f, cosines, sines, mixing, scratch); break;
    default: TYPED(slide_terms)(4, *g, *f, cosines, sines, mixing, scratch);
    }
}
