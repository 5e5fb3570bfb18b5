/* Inner loops of src/strips.pyx. A template, see float_and_double.h. */

#include "fft.h"

/* Fold a piece of w numbers minus `mean`: even (w / 2 + 1), odd ((w - 1) / 2).
 *
 * mirror[j] is piece[w - j] and taper_mirror[j] is taper[w - j]: reversed copies, so that all loads go forward. The
 * last vector overlaps the one before and stores the same numbers again where they overlap, since the number of pairs
 * is seldom a multiple of the lanes. */
static inline void TYPED(fold_piece)(
    const REAL *piece, const REAL *mirror, ptrdiff_t w, REAL mean, const REAL *taper, const REAL *taper_mirror,
    REAL *even, REAL *odd)
{
    const ptrdiff_t pairs = (w - 1) / 2, lanes = TYPED(lanes);
    even[0] = taper[0] * (piece[0] - mean);
    if (w % 2 == 0)
        even[w / 2] = taper[w / 2] * (piece[w / 2] - mean);
    if (pairs < lanes) {
        for (ptrdiff_t j = 1; j <= pairs; j++) {
            const REAL a = taper[j] * (piece[j] - mean), b = taper_mirror[j] * (mirror[j] - mean);
            even[j] = a + b;
            odd[j - 1] = a - b;
        }
        return;
    }
    for (ptrdiff_t next = 1; next <= pairs; next += lanes) {
        const ptrdiff_t j = next + lanes <= pairs + 1 ? next : pairs + 1 - lanes;
        const TYPED(vector) a = *(const TYPED(vector) *)(taper + j) * (*(const TYPED(vector) *)(piece + j) - mean);
        const TYPED(vector) b =
            *(const TYPED(vector) *)(taper_mirror + j) * (*(const TYPED(vector) *)(mirror + j) - mean);
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

/* Frequencies 0..h of real pieces of length 2 n, one piece a lane. Numbers at even and odd places are transformed as
 * the real and imaginary parts of n complex numbers, whose frequencies k and n - k give frequency k of the piece.
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

/* Store the frequencies of pieces, one piece a lane, in the first `valid` rows, `ld` apart. Whole vectors are stored:
 * up to lanes - 1 numbers behind the `count` of a row are overwritten. */
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

/* A vector of image rows, transposed: pixels (width, lanes), and their sums from the left edge on, totals (width + 1,
 * lanes). Rows from `valid` on are 0. Pixels are written up to a multiple of the lanes. */
static inline void TYPED(transpose_rows)(
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

/* Vectors of scratch of `fft_rows`: pixels up to a multiple of the lanes, two arrays of a transform, and real and
 * imaginary parts of h + 1 frequencies, up to a multiple of the lanes. */
static inline ptrdiff_t TYPED(fft_rows_vectors)(ptrdiff_t width, ptrdiff_t w, ptrdiff_t h)
{
    return width + TYPED(lanes) + 2 * w + 2 * (h + TYPED(lanes));
}

/* Transforms and plain sums of the n pieces of a vector of image rows, of which the first `valid` exist.
 *
 * scratch : (fft_rows_vectors, lanes);  totals : (width + 1, lanes);  re, im : rows `ld` apart;  sums : (.., n) */
static inline void TYPED(fft_rows)(
    const fft *t, ptrdiff_t h, const REAL *image, ptrdiff_t width, ptrdiff_t valid, ptrdiff_t step, const REAL *halved,
    const REAL *turns, void *scratch, double *totals, REAL *re, REAL *im, ptrdiff_t ld, ptrdiff_t n, double *sums)
{
    const ptrdiff_t lanes = TYPED(lanes), w = 2 * t->n;
    TYPED(vector) *pixels = scratch, *x = pixels + width + lanes, *ordered = x + w, *f_re = ordered + w;
    TYPED(vector) *f_im = f_re + h + lanes;
    TYPED(transpose_rows)(image, width, valid, (REAL *)pixels, totals);
    for (ptrdiff_t i = 0; i < n; i++) {
        const ptrdiff_t left = i * step;
        TYPED(transform_pieces)(t, h, (const REAL *)(pixels + left), halved, turns, x, ordered, f_re, f_im);
        TYPED(store_pieces)(f_re, h + 1, re + i * (h + 1), ld, valid);
        TYPED(store_pieces)(f_im, h + 1, im + i * (h + 1), ld, valid);
        for (ptrdiff_t row = 0; row < valid; row++)
            sums[row * n + i] = totals[(left + w) * lanes + row] - totals[left * lanes + row];
    }
}
