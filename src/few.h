/* Products of many rows with few others, for one type of number; see vectors.h for how to include it. */

#include "vectors.h"

#ifndef FEW_ROWS /* for both types of number: rows, and components that each is multiplied by with sums in registers */
#define FEW_ROWS 4
#define FEW_COMPONENTS 4

/* a b + c in float64. Left to the compiler, it is rounded once or twice as it sees fit, and not alike in tiles of one row
 * and of four. */
#if defined(__FMA__) || defined(__FP_FAST_FMA)
#define FUSED(a, b, c) __builtin_fma(a, b, c)
#else
#define FUSED(a, b, c) ((double)(a) * (b) + (c))
#endif
#endif
_Static_assert(FEW_COMPONENTS == 4, "one case for each number of components that may be left");

/* Sum of the numbers of a vector: the halves on each other, the last two in float64. */
static inline double TYPED(total)(const TYPED(vector) v)
{
    REAL part[TYPED(lanes)];
    memcpy(part, &v, sizeof v);
    for (int half = TYPED(lanes) / 2; half >= 2; half /= 2)
        for (int i = 0; i < half; i++)
            part[i] += part[i + half];
    return (double)part[0] + part[1];
}

/* b (rows x k, rows of ldb) = scale x e' for x (rows x d) and e (k x d): features side by side in vectors, one sum each.
 * The rows that are `ahead`, if any are, are asked for on the way. */
static inline __attribute__((always_inline)) void TYPED(few_tile)(
    const int rows, const int k, const REAL *x, const REAL *e, ptrdiff_t d, double scale, REAL *b, ptrdiff_t ldb,
    const REAL *ahead)
{
    const ptrdiff_t lanes = TYPED(lanes), line = 64 / sizeof(REAL);
    TYPED(vector) sum[FEW_ROWS][FEW_COMPONENTS];
    double rest[FEW_ROWS][FEW_COMPONENTS];
    for (int i = 0; i < rows; i++)
        for (int q = 0; q < k; q++) {
            sum[i][q] = (TYPED(vector)){0};
            rest[i][q] = 0;
        }
    ptrdiff_t j = 0;
    for (; j + lanes <= d; j += lanes) {
        TYPED(vector) component[FEW_COMPONENTS];
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

/* The same for any k, and m rows; each number has the same bits whichever rows and components are beside its own. */
static inline void TYPED(few_products)(
    const REAL *x, ptrdiff_t m, ptrdiff_t d, const REAL *e, ptrdiff_t k, double scale, REAL *b)
{
    enum { ahead = 8 };
    for (ptrdiff_t i = 0; i < m; i += FEW_ROWS)
        for (ptrdiff_t q = 0; q < k; q += FEW_COMPONENTS) {
            const REAL *rows = x + i * d, *next = q == 0 && i + ahead + FEW_ROWS <= m ? rows + ahead * d : NULL;
            const REAL *components = e + q * d;
            REAL *out = b + i * k + q;
            if (i + FEW_ROWS > m)
                for (ptrdiff_t r = i; r < m; r++, rows += d, out += k)
                    for (ptrdiff_t c = 0; c < FEW_COMPONENTS && q + c < k; c++)
                        TYPED(few_tile)(1, 1, rows, components + c * d, d, scale, out + c, k, NULL);
            else if (q + FEW_COMPONENTS <= k)
                TYPED(few_tile)(FEW_ROWS, FEW_COMPONENTS, rows, components, d, scale, out, k, next);
            else if (q + 3 == k)
                TYPED(few_tile)(FEW_ROWS, 3, rows, components, d, scale, out, k, next);
            else if (q + 2 == k)
                TYPED(few_tile)(FEW_ROWS, 2, rows, components, d, scale, out, k, next);
            else
                TYPED(few_tile)(FEW_ROWS, 1, rows, components, d, scale, out, k, next);
        }
}
