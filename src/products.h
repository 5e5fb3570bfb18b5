/* Products of many rows with few others, for one type of number; see vectors.h for how to include it. */

#include "vectors.h"

#ifndef PRODUCT_ROWS
#define PRODUCT_ROWS 4       /* rows, and */
#define PRODUCT_COMPONENTS 4 /* components that each is multiplied by, with their sums in registers */
#endif

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
static inline __attribute__((always_inline)) void TYPED(multiply_tile)(
    const int rows, const int k, const REAL *x, const REAL *e, ptrdiff_t d, double scale, REAL *b, ptrdiff_t ldb,
    const REAL *ahead)
{
    const ptrdiff_t lanes = TYPED(lanes), line = 64 / sizeof(REAL);
    TYPED(vector) sum[PRODUCT_ROWS][PRODUCT_COMPONENTS];
    double rest[PRODUCT_ROWS][PRODUCT_COMPONENTS];
    for (int i = 0; i < rows; i++)
        for (int q = 0; q < k; q++) {
            sum[i][q] = (TYPED(vector)){0};
            rest[i][q] = 0;
        }
    ptrdiff_t j = 0;
    for (; j + lanes <= d; j += lanes) {
        TYPED(vector) component[PRODUCT_COMPONENTS];
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
                rest[i][q] += (double)x[i * d + j] * e[q * d + j];
    for (int i = 0; i < rows; i++)
        for (int q = 0; q < k; q++)
            b[i * ldb + q] = scale * (rest[i][q] + TYPED(total)(sum[i][q]));
}

/* The same for any k, and m rows; each number has the same bits whichever rows and components are beside its own. */
static inline void TYPED(multiply)(
    const REAL *x, ptrdiff_t m, ptrdiff_t d, const REAL *e, ptrdiff_t k, double scale, REAL *b)
{
    enum { ahead = 8 };
    for (ptrdiff_t i = 0; i < m; i += PRODUCT_ROWS)
        for (ptrdiff_t q = 0; q < k; q += PRODUCT_COMPONENTS) {
            const REAL *rows = x + i * d, *next = q == 0 && i + ahead + PRODUCT_ROWS <= m ? rows + ahead * d : NULL;
            const REAL *components = e + q * d;
            REAL *out = b + i * k + q;
            if (i + PRODUCT_ROWS > m)
                for (ptrdiff_t r = i; r < m; r++, rows += d, out += k)
                    for (ptrdiff_t c = 0; c < PRODUCT_COMPONENTS && q + c < k; c++)
                        TYPED(multiply_tile)(1, 1, rows, components + c * d, d, scale, out + c, k, NULL);
            else if (q + 4 <= k)
                TYPED(multiply_tile)(PRODUCT_ROWS, 4, rows, components, d, scale, out, k, next);
            else if (q + 3 == k)
                TYPED(multiply_tile)(PRODUCT_ROWS, 3, rows, components, d, scale, out, k, next);
            else if (q + 2 == k)
                TYPED(multiply_tile)(PRODUCT_ROWS, 2, rows, components, d, scale, out, k, next);
            else
                TYPED(multiply_tile)(PRODUCT_ROWS, 1, rows, components, d, scale, out, k, next);
        }
}
