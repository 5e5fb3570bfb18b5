/* Inner loops of src/compress.pyx. A template, see float_and_double.h. */

#include "vectors.h"

/* Eight numbers, and their values in float64: the same order of additions on every SIMD level. */
typedef REAL TYPED(eight) __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef double TYPED(eight_wide) __attribute__((vector_size(8 * sizeof(double)), aligned(8), may_alias));

/* squares (rows) = sums of squares of the rows of x (rows x d); sums (d) += column sums of x. If `ahead` is not NULL,
 * the rows from there on are prefetched.
 *
 * `sum_piece` in compress.pyx computes the same of centred rows, piece by piece, in another order of additions: its
 * last digits differ. Neither can become the other without a change of the bits of its results. */
static inline __attribute__((always_inline)) void TYPED(sum_rows)(
    const int rows, const REAL *x, ptrdiff_t d, double *squares, double *sums, const REAL *ahead)
{
    TYPED(eight_wide) square[4] = {{0}};
    double rest[4] = {0};
    ptrdiff_t j = 0;
    for (; j + 8 <= d; j += 8) {
        TYPED(eight_wide) sum = {0};
        if (ahead && j % (ptrdiff_t)(64 / sizeof(REAL)) == 0)
            for (int i = 0; i < rows; i++)
                __builtin_prefetch(ahead + i * d + j);
        for (int i = 0; i < rows; i++) {
            const TYPED(eight_wide) value =
                __builtin_convertvector(*(const TYPED(eight) *)(x + i * d + j), TYPED(eight_wide));
            sum += value;
            square[i] += value * value;
        }
        *(TYPED(eight_wide) *)(sums + j) += sum;
    }
    for (; j < d; j++)
        for (int i = 0; i < rows; i++) {
            sums[j] += x[i * d + j];
            rest[i] += (double)x[i * d + j] * x[i * d + j];
        }
    for (int i = 0; i < rows; i++) {
        const TYPED(eight_wide) s = square[i];
        squares[i] = rest[i] + (((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7])));
    }
}

/* squares (m) and sums (d) of x (m x d). Four rows are added to the sums at a time: fewer loads and stores of sums. */
static inline void TYPED(sums_of)(const REAL *x, ptrdiff_t m, ptrdiff_t d, double *squares, double *sums)
{
    enum { ahead = 8 };
    ptrdiff_t i = 0;
    for (; i + 4 <= m; i += 4)
        TYPED(sum_rows)(4, x + i * d, d, squares + i, sums, i + ahead + 4 <= m ? x + (i + ahead) * d : NULL);
    for (; i < m; i++)
        TYPED(sum_rows)(1, x + i * d, d, squares + i, sums, NULL);
}

/* out (8 x vectors) += tile (8 x d) b (d x vectors): products are summed in registers in the type of the numbers, and
 * the sums are added to `out` in float64.
 *
 * If `ahead` is not NULL, it points to the next 8 rows, `row` bytes apart. Their pieces, as long as the tile, are
 * prefetched one cache line (`line` numbers) at a time between the products. All at once, the prefetches would wait
 * for each other, and the products for them. */
static inline __attribute__((always_inline)) void TYPED(project_vectors)(
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
static inline void TYPED(project_tile)(
    const REAL *tile, ptrdiff_t stride, ptrdiff_t d, ptrdiff_t n, const REAL *b, double *out, const char *ahead,
    ptrdiff_t row, ptrdiff_t line)
{
    ptrdiff_t x = 0;
    for (; x + 2 * TYPED(lanes) <= n; x += 2 * TYPED(lanes), ahead = NULL)
        TYPED(project_vectors)(2, tile, stride, d, b + x, n, out + x, n, ahead, row, line);
    if (x < n)
        TYPED(project_vectors)(1, tile, stride, d, b + x, n, out + x, n, ahead, row, line);
}

/* Z (k x valid) += At (k x m) tile (m x 64), k a multiple of 4: only `valid` columns are stored. */
static inline void TYPED(scatter_tile)(
    const REAL *at, ptrdiff_t ldat, ptrdiff_t k, ptrdiff_t m, const REAL *tile, ptrdiff_t valid, REAL *z, ptrdiff_t ldz)
{
    for (ptrdiff_t c = 0; c < k; c += 4)
        for (ptrdiff_t x = 0; x < valid; x += TILE_VECTORS * TYPED(lanes)) {
            TYPED(vector) sum[4][TILE_VECTORS];
            for (int i = 0; i < 4; i++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    sum[i][v] = (TYPED(vector)){0};
            for (ptrdiff_t j = 0; j < m; j++) {
                const TYPED(vector) *row = (const TYPED(vector) *)(tile + 64 * j + x);
                for (int i = 0; i < 4; i++)
                    for (int v = 0; v < TILE_VECTORS; v++)
                        sum[i][v] += at[(c + i) * ldat + j] * row[v];
            }
            for (int i = 0; i < 4; i++) {
                REAL part[TILE_VECTORS * TYPED(lanes)];
                memcpy(part, sum[i], sizeof sum[i]);
                const ptrdiff_t left = valid - x, n = TILE_VECTORS * TYPED(lanes);
                for (ptrdiff_t lane = 0; lane < (left < n ? left : n); lane++)
                    z[(c + i) * ldz + x + lane] += part[lane];
            }
        }
}
