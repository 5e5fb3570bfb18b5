/* Inner loops of src/windows.pyx, for one type of number; see vectors.h for how to include it. */

#include "vectors.h"

/* Fold a piece of w numbers: even (w / 2 + 1), odd ((w - 1) / 2).
 *
 * mirror[j] is piece[w - j] and turned[j] is taper[w - j]: turned over beforehand, so that all loads go forward. The
 * last vector overlaps the one before, as the number of pairs is seldom a multiple of the lanes. */
static inline void TYPED(fold_piece)(
    const REAL *piece, const REAL *mirror, ptrdiff_t w, const REAL *taper, const REAL *turned, REAL *even, REAL *odd)
{
    const ptrdiff_t pairs = (w - 1) / 2, lanes = TYPED(lanes);
    even[0] = taper[0] * piece[0];
    if (w % 2 == 0)
        even[w / 2] = taper[w / 2] * piece[w / 2];
    if (pairs < lanes) {
        for (ptrdiff_t j = 1; j <= pairs; j++) {
            const REAL a = taper[j] * piece[j], b = turned[j] * mirror[j];
            even[j] = a + b;
            odd[j - 1] = a - b;
        }
        return;
    }
    for (ptrdiff_t next = 1; next <= pairs; next += lanes) {
        const ptrdiff_t j = next + lanes <= pairs + 1 ? next : pairs + 1 - lanes;
        const TYPED(vector) a = *(const TYPED(vector) *)(taper + j) * *(const TYPED(vector) *)(piece + j);
        const TYPED(vector) b = *(const TYPED(vector) *)(turned + j) * *(const TYPED(vector) *)(mirror + j);
        *(TYPED(vector) *)(even + j) = a + b;
        *(TYPED(vector) *)(odd + j - 1) = a - b;
    }
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

/* Squared modulus of one row of frequencies: out = (a + sign b - shift t)^2 + (c - sign d - shift s)^2. */
static inline __attribute__((always_inline)) void TYPED(power_row)(
    ptrdiff_t first, ptrdiff_t m, REAL sign, const REAL *restrict a, const REAL *restrict b, const REAL *restrict c,
    const REAL *restrict d, REAL shift, const REAL *restrict t, const REAL *restrict s, REAL *restrict out)
{
    ptrdiff_t v = first;
    for (; v + TYPED(lanes) <= m; v += TYPED(lanes)) {
        const TYPED(vector) re = *(const TYPED(vector) *)(a + v) + sign * *(const TYPED(vector) *)(b + v)
                                 - shift * *(const TYPED(vector) *)(t + v);
        const TYPED(vector) im = *(const TYPED(vector) *)(c + v) - sign * *(const TYPED(vector) *)(d + v)
                                 - shift * *(const TYPED(vector) *)(s + v);
        *(TYPED(vector) *)(out + v) = re * re + im * im;
    }
    for (; v < m; v++) {
        const REAL re = a[v] + sign * b[v] - shift * t[v], im = c[v] - sign * d[v] - shift * s[v];
        out[v] = re * re + im * im;
    }
}

/* |F(ky, kx)|^2 of one window over the half plane, less `shift` times the DFT of the taper.
 *
 * even, odd : (hy + 1, ld), of which (2, hx + 1) are the real and imaginary parts of this window;
 *     F(+-ky) = even -+ i odd
 * uniform : (2, 2 hy + 1, hx + 1), DFT of the taper, real and imaginary part
 * out : ky from -hy to hy, kx from 0 to hx, without ky < 0 at kx = 0 */
static inline void TYPED(power)(
    const REAL *even, const REAL *odd, ptrdiff_t ld, ptrdiff_t hy, ptrdiff_t hx, REAL shift, const REAL *uniform, REAL *out)
{
    const ptrdiff_t m = hx + 1, plane = (2 * hy + 1) * m;
    for (ptrdiff_t u = 0; u <= hy; u++) {
        const REAL *e = even + u * ld, *o = odd + u * ld, *t = uniform + (hy + u) * m, *s = uniform + (hy - u) * m;
        TYPED(power_row)(0, m, 1, e, o + m, e + m, o, shift, t, t + plane, out + hy * hx + u * m);
        if (u == 0)
            continue;
        /* Feature 0 of this row is the last of the row below, which comes next; not where there is no row or feature. */
        const ptrdiff_t first = u == hy || hx == 0;
        TYPED(power_row)(first, m, -1, e, o + m, e + m, o, shift, s, s + plane, out + (hy - u) * hx - 1);
    }
}

/* x -> factor * x^(1/4) in place, x >= 0: the square root of a modulus from its square.
 *
 * In float, two square roots of 16 numbers take 36 cycles and this takes about 12: x^(-1/4) by halving the exponent twice,
 * to 4 %, then three Newton steps y <- y (5 - x y^4) / 4, each of which squares the error. Zero gives zero. */
static inline void TYPED(fourth_root)(REAL *restrict x, ptrdiff_t n, REAL factor)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        if (sizeof(REAL) == sizeof(double)) {
            x[i] = factor * sqrt(sqrt(x[i]));
            continue;
        }
        const float p = x[i];
        union { float f; int32_t i; } bits = {p};
        bits.i = 0x4f58cae5 - (bits.i >> 2);
        float y = bits.f;
        for (int step = 0; step < 3; step++) {
            const float y2 = y * y;
            y *= 1.25f - 0.25f * ((p * y2) * y2);
        }
        x[i] = (float)factor * ((p * (y * y)) * y);
    }
}
