/* Inner loops of src/compress.pyx, for one type of number; see vectors.h for how to include it. */

#include "vectors.h"

/* out (8 x vectors) += tile (8 x d) b (d x vectors): a sum in registers of the type of the numbers, added in float64. */
static inline __attribute__((always_inline)) void TYPED(multiply)(
    const int vectors, const REAL *tile, ptrdiff_t stride, ptrdiff_t d, const REAL *b, ptrdiff_t ldb, double *out,
    ptrdiff_t ldo)
{
    TYPED(vector) sum[8][2];
    for (int i = 0; i < 8; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (TYPED(vector)){0};
    for (ptrdiff_t j = 0; j < d; j++) {
        const TYPED(vector) *row = (const TYPED(vector) *)(b + j * ldb);
        for (int i = 0; i < 8; i++)
            for (int v = 0; v < vectors; v++)
                sum[i][v] += tile[i * stride + j] * row[v];
    }
    for (int i = 0; i < 8; i++) {
        REAL part[2 * TYPED(lanes)];
        memcpy(part, sum[i], vectors * sizeof *sum[i]);
        for (int lane = 0; lane < vectors * TYPED(lanes); lane++)
            out[i * ldo + lane] += part[lane];
    }
}

/* The same for n columns, a multiple of the lanes. */
static inline void TYPED(multiply_tile)(
    const REAL *tile, ptrdiff_t stride, ptrdiff_t d, ptrdiff_t n, const REAL *b, double *out)
{
    ptrdiff_t x = 0;
    for (; x + 2 * TYPED(lanes) <= n; x += 2 * TYPED(lanes))
        TYPED(multiply)(2, tile, stride, d, b + x, n, out + x, n);
    if (x < n)
        TYPED(multiply)(1, tile, stride, d, b + x, n, out + x, n);
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
