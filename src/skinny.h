/* X E' for a tall X and an E of a few rows (a tall-skinny product). A template, see float_and_double.h. */

#include "vectors.h"

#ifndef STEMSEG_SKINNY_H
#define STEMSEG_SKINNY_H
/* Rows and components of a tile, whose sums are held in registers. */
#define SKINNY_ROWS 4
#define SKINNY_COMPONENTS 4

/* a b + c in float64. The compiler may round it once (fused) or twice, and might choose differently for tiles of one
 * row and of four: then the bits of a row would depend on its neighbours. */
#if defined(__FMA__) || defined(__FP_FAST_FMA)
#define FUSED(a, b, c) __builtin_fma(a, b, c)
#else
#define FUSED(a, b, c) ((double)(a) * (b) + (c))
#endif
#endif
_Static_assert(SKINNY_COMPONENTS == 4, "skinny_products has a case for 1, 2, 3 and 4 components");

/* Sum of the numbers of a vector: its halves are added until two numbers are left, and those in float64. */
static inline double TYPED(total)(const TYPED(vector) v)
{
    REAL part[TYPED(lanes)];
    memcpy(part, &v, sizeof v);
    for (int half = TYPED(lanes) / 2; half >= 2; half /= 2)
        for (int i = 0; i < half; i++)
            part[i] += part[i + half];
    return (double)part[0] + part[1];
}

/* b (rows x k, rows of ldb) = scale x e' for x (rows x d) and e (k x d). Features lie side by side in vectors, with a
 * vector of sums for each number of b. If `ahead` is not NULL, the rows from there on are prefetched. */
static inline __attribute__((always_inline)) void TYPED(skinny_tile)(
    const int rows, const int k, const REAL *x, const REAL *e, ptrdiff_t d, double scale, REAL *b, ptrdiff_t ldb,
    const REAL *ahead)
{
    const ptrdiff_t lanes = TYPED(lanes), line = 64 / sizeof(REAL);
    TYPED(vector) sum[SKINNY_ROWS][SKINNY_COMPONENTS];
    double rest[SKINNY_ROWS][SKINNY_COMPONENTS];
    for (int i = 0; i < rows; i++)
        for (int q = 0; q < k; q++) {
            sum[i][q] = (TYPED(vector)){0};
            rest[i][q] = 0;
        }
    ptrdiff_t j = 0;
    for (; j + lanes <= d; j += lanes) {
        TYPED(vector) component[SKINNY_COMPONENTS];
        for (int q = 0; q < k; q++)
            component[q] = *(const TYPED(vector) *)(e + q * d + j);
        for (int i = 0; i < rows; i++) {
            const TYPED(vector) value = *(const TYPED(vector) *)(x + i * d + j);
            if (ahead && j % line == 0)
                __builtin_prefetch(ahead + i * d + j);
            for (int q = 0; q < k; q++)
                sum[i][q] += value * component[q];
        }
    }
    for (; j < d; j++)
        for (int i = 0; i < rows; i++)
            for (int q = 0; q < k; q++)
                rest[i][q] = FUSED(x[i * d + j], e[q * d + j], rest[i][q]);
    for (int i = 0; i < rows; i++)
        for (int q = 0; q < k; q++)
            b[i * ldb + q] = scale * (rest[i][q] + TYPED(total)(sum[i][q]));
}

/* The same for any k and m rows. The bits of a number do not depend on the rows and components beside its own. */
static inline void TYPED(skinny_products)(
    const REAL *x, ptrdiff_t m, ptrdiff_t d, const REAL *e, ptrdiff_t k, double scale, REAL *b)
{
    enum { ahead = 8 };
    for (ptrdiff_t i = 0; i < m; i += SKINNY_ROWS)
        for (ptrdiff_t q = 0; q < k; q += SKINNY_COMPONENTS) {
            const REAL *rows = x + i * d, *next = q == 0 && i + ahead + SKINNY_ROWS <= m ? rows + ahead * d : NULL;
            const REAL *components = e + q * d;
            REAL *out = b + i * k + q;
            if (i + SKINNY_ROWS > m)
                for (ptrdiff_t r = i; r < m; r++, rows += d, out += k)
                    for (ptrdiff_t c = 0; c < SKINNY_COMPONENTS && q + c < k; c++)
                        TYPED(skinny_tile)(1, 1, rows, components + c * d, d, scale, out + c, k, NULL);
            else if (q + SKINNY_COMPONENTS <= k)
                TYPED(skinny_tile)(SKINNY_ROWS, SKINNY_COMPONENTS, rows, components, d, scale, out, k, next);
            else if (q + 3 == k)
                TYPED(skinny_tile)(SKINNY_ROWS, 3, rows, components, d, scale, out, k, next);
            else if (q + 2 == k)
                TYPED(skinny_tile)(SKINNY_ROWS, 2, rows, components, d, scale, out, k, next);
            else
                TYPED(skinny_tile)(SKINNY_ROWS, 1, rows, components, d, scale, out, k, next);
        }
}
