/* Inner loops of src/windows.pyx, for one type of number; see vectors.h for how to include it. */

#include "vectors.h"

/* Fold a piece of w numbers: even (w / 2 + 1), odd ((w - 1) / 2). */
static inline void TYPED(fold_piece)(
    const REAL *restrict piece, ptrdiff_t w, const REAL *restrict taper, REAL *restrict even, REAL *restrict odd)
{
    even[0] = taper[0] * piece[0];
    for (ptrdiff_t j = 1; j <= (w - 1) / 2; j++) {
        const REAL a = taper[j] * piece[j], b = taper[w - j] * piece[w - j];
        even[j] = a + b;
        odd[j - 1] = a - b;
    }
    if (w % 2 == 0)
        even[w / 2] = taper[w / 2] * piece[w / 2];
}

/* Sum of n numbers, in as many partial sums as a vector has lanes. */
static inline double TYPED(sum)(const REAL *x, ptrdiff_t n)
{
    TYPED(vector) partial = {0};
    double total = 0;
    ptrdiff_t i = 0;
    for (; i + TYPED(lanes) <= n; i += TYPED(lanes))
        partial += *(const TYPED(vector) *)(x + i);
    for (int lane = 0; lane < TYPED(lanes); lane++)
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

/* |F(ky, kx)|^2 of one window over the half plane, less `shift` times the DFT of the taper.
 *
 * even, odd : (hy + 1, ld), of which (2, hx + 1) are the real and imaginary parts of this window;
 *     F(+-ky) = even -+ i odd
 * uniform : (2, 2 hy + 1, hx + 1), DFT of the taper, real and imaginary part
 * out : ky from -hy to hy, kx from 0 to hx, without ky < 0 at kx = 0 */
static inline void TYPED(power)(
    const REAL *even, const REAL *odd, ptrdiff_t ld, ptrdiff_t hy, ptrdiff_t hx, REAL shift, const REAL *uniform,
    REAL *restrict out)
{
    const ptrdiff_t m = hx + 1, plane = (2 * hy + 1) * m;
    for (ptrdiff_t u = 0; u <= hy; u++) {
        const REAL *restrict e = even + u * ld, *restrict o = odd + u * ld;
        const REAL *restrict t = uniform + (hy + u) * m, *restrict s = uniform + (hy - u) * m;
        REAL *plus = out + hy * hx + u * m, *minus = out + (hy - u) * hx - 1;
        for (ptrdiff_t v = 0; v < m; v++) {
            const REAL re = e[v] + o[m + v] - shift * t[v], im = e[m + v] - o[v] - shift * t[plane + v];
            plus[v] = re * re + im * im;
        }
        if (u == 0)
            continue;
        /* minus[0] is the last feature of the row below, which comes next; not where there is no row or no feature. */
        for (ptrdiff_t v = u == hy || hx == 0; v < m; v++) {
            const REAL re = e[v] - o[m + v] - shift * s[v], im = e[m + v] + o[v] - shift * s[plane + v];
            minus[v] = re * re + im * im;
        }
    }
}
