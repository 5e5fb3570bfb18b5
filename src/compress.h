/* Inner loops of src/compress.pyx, for one type of number; see vectors.h for how to include it. */

#include "vectors.h"

/* A vector of as many float64 numbers as a vector of REAL has: what sums of products are added in. */
typedef double TYPED(wide) __attribute__((vector_size(sizeof(double) * TYPED(lanes)), aligned(8), may_alias));

/* out (8 x vectors) += tile (8 x d) b (d x vectors): a sum in registers of the type of the numbers, added in float64.
 * `ahead` points to the 8 rows, `row` bytes apart, that are wanted next, if there are any: their pieces as long as the
 * tile, of which a cache line holds `line` numbers, are asked for evenly between the products. In bursts they would wait
 * for each other, and the products for them. */
static inline __attribute__((always_inline)) void TYPED(multiply)(
    const int vectors, const REAL *tile, ptrdiff_t stride, ptrdiff_t d, const REAL *b, ptrdiff_t ldb, double *out,
    ptrdiff_t ldo, const char *ahead, ptrdiff_t row, ptrdiff_t line)
{
    TYPED(vector) sum[8][2];
    for (int i = 0; i < 8; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (TYPED(vector)){0};
    for (ptrdiff_t start = 0; start < d; start += line) {
        const ptrdiff_t stop = start + line < d ? start + line : d;
        if (ahead)
            for (int i = 0; i < 8; i++)
                __builtin_prefetch(ahead + i * row + start / line * 64);
        for (ptrdiff_t j = start; j < stop; j++) {
            const TYPED(vector) *columns = (const TYPED(vector) *)(b + j * ldb);
            for (int i = 0; i < 8; i++)
                for (int v = 0; v < vectors; v++)
                    sum[i][v] += tile[i * stride + j] * columns[v];
        }
    }
    for (int i = 0; i < 8; i++)
        for (int v = 0; v < vectors; v++)
            *(TYPED(wide) *)(out + i * ldo + v * TYPED(lanes)) += __builtin_convertvector(sum[i][v], TYPED(wide));
}

/* The same for n columns, a multiple of the lanes. */
static inline void TYPED(multiply_tile)(
    const REAL *tile, ptrdiff_t stride, ptrdiff_t d, ptrdiff_t n, const REAL *b, double *out, const char *ahead,
    ptrdiff_t row, ptrdiff_t line)
{
    ptrdiff_t x = 0;
    for (; x + 2 * TYPED(lanes) <= n; x += 2 * TYPED(lanes), ahead = NULL)
        TYPED(multiply)(2, tile, stride, d, b + x, n, out + x, n, ahead, row, line);
    if (x < n)
        TYPED(multiply)(1, tile, stride, d, b + x, n, out + x, n, ahead, row, line);
}

/* Z (k x 64) += At (k x m) tile (m x 64), k a multiple of 4; `valid` columns of it are kept. */
static inline void TYPED(add_products)(
    const REAL *at, ptrdiff_t ldat, ptrdiff_t k, ptrdiff_t m, const REAL *tile, ptrdiff_t valid, REAL *z, ptrdiff_t ldz)
{
    for (ptrdiff_t c = 0; c < k; c += 4)
        for (ptrdiff_t x = 0; x < valid; x += PANEL_VECTORS * TYPED(lanes)) {
            TYPED(vector) sum[4][PANEL_VECTORS];
            for (int i = 0; i < 4; i++)
                for (int v = 0; v < PANEL_VECTORS; v++)
                    sum[i][v] = (TYPED(vector)){0};
            for (ptrdiff_t j = 0; j < m; j++) {
                const TYPED(vector) *row = (const TYPED(vector) *)(tile + 64 * j + x);
                for (int i = 0; i < 4; i++)
                    for (int v = 0; v < PANEL_VECTORS; v++)
                        sum[i][v] += at[(c + i) * ldat + j] * row[v];
            }
            for (int i = 0; i < 4; i++) {
                REAL part[PANEL_VECTORS * TYPED(lanes)];
                memcpy(part, sum[i], sizeof sum[i]);
                const ptrdiff_t left = valid - x, n = PANEL_VECTORS * TYPED(lanes);
                for (ptrdiff_t lane = 0; lane < (left < n ? left : n); lane++)
                    z[(c + i) * ldz + x + lane] += part[lane];
            }
        }
}
