/* Inner loops of src/gram.pyx. A template, see float_and_double.h. */

#include "vectors.h"

#ifndef STEMSEG_GRAM_H
#define STEMSEG_GRAM_H
/* Rows and vectors of a tile of sums in registers. */
#if VECTOR_BYTES == 64
#define GRAM_ROWS 8
#define GRAM_VECTORS 3
#elif VECTOR_BYTES == 32
#define GRAM_ROWS 4
#define GRAM_VECTORS 3
#else
#define GRAM_ROWS 4
#define GRAM_VECTORS 2
#endif
#endif

/* Numbers in a row of a panel, and in a row of a tile of sums. */
enum { TYPED(panel_width) = GRAM_VECTORS * TYPED(lanes) };
_Static_assert(GRAM_VECTORS <= 3 && TYPED(panel_width) % GRAM_ROWS == 0, "tiles fill panels");

/* Where a feature begins in panels of `height` rows, one panel after the other in memory. */
static inline ptrdiff_t TYPED(panel_start)(ptrdiff_t feature, ptrdiff_t height)
{
    return feature / TYPED(panel_width) * TYPED(panel_width) * height + feature % TYPED(panel_width);
}

/* A tile (rows x columns) of g, whose rows are d apart, += a' b for m rows of two panels: products are summed in
 * registers in the type of the numbers, and the sums are added to g in float64. */
static inline __attribute__((always_inline)) void TYPED(add_tile)(
    const int vectors, const REAL *a, const REAL *b, ptrdiff_t m, double *g, ptrdiff_t d, ptrdiff_t rows,
    ptrdiff_t columns)
{
    const ptrdiff_t lanes = TYPED(lanes), width = TYPED(panel_width);
    TYPED(vector) sum[GRAM_ROWS][GRAM_VECTORS];
    for (int i = 0; i < GRAM_ROWS; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (TYPED(vector)){0};
    /* The sums of a large matrix come from the last-level cache: they are prefetched. */
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = 0; j < columns; j += 64 / sizeof(double))
            __builtin_prefetch(g + i * d + j, 1);
    for (ptrdiff_t r = 0; r < m; r++) {
        const TYPED(vector) *row = (const TYPED(vector) *)(b + r * width);
        for (int i = 0; i < GRAM_ROWS; i++)
            for (int v = 0; v < vectors; v++)
                sum[i][v] += a[r * width + i] * row[v];
    }
    if (rows == GRAM_ROWS && columns == vectors * lanes) {
        for (int i = 0; i < GRAM_ROWS; i++)
            for (int v = 0; v < vectors; v++)
                *(TYPED(wide) *)(g + i * d + v * lanes) += __builtin_convertvector(sum[i][v], TYPED(wide));
        return;
    }
    for (int i = 0; i < rows; i++) {
        REAL part[TYPED(panel_width)];
        memcpy(part, sum[i], vectors * sizeof sum[i][0]);
        for (ptrdiff_t j = 0; j < columns; j++)
            g[i * d + j] += part[j];
    }
}

/* Panels of y = x - mean for m rows of x; sums (d) += column sums of y. Returns the sum of squares of y, in float64:
 * the diagonal of the products has it only with the rounding of their type. */
static inline double TYPED(fill_panels)(
    const REAL *x, ptrdiff_t m, ptrdiff_t d, const REAL *mean, REAL *panels, ptrdiff_t height, double *sums)
{
    enum { together = 4 }; /* rows that are added to the sums at once */
    const ptrdiff_t lanes = TYPED(lanes), width = TYPED(panel_width);
    TYPED(wide) square = {0};
    double squares = 0;
    for (ptrdiff_t r = 0; r < m; r += together) {
        ptrdiff_t j = 0;
        for (; r + together <= m && j + lanes <= d; j += lanes) {
            const TYPED(vector) shift = *(const TYPED(vector) *)(mean + j);
            REAL *out = panels + TYPED(panel_start)(j, height) + r * width;
            TYPED(wide) sum = {0};
            for (int i = 0; i < together; i++) {
                const TYPED(vector) y = *(const TYPED(vector) *)(x + (r + i) * d + j) - shift;
                const TYPED(wide) value = __builtin_convertvector(y, TYPED(wide));
                *(TYPED(vector) *)(out + i * width) = y;
                sum += value;
                square += value * value;
            }
            *(TYPED(wide) *)(sums + j) += sum;
        }
        for (; j < d; j++) {
            REAL *out = panels + TYPED(panel_start)(j, height) + r * width;
            double sum = 0;
            for (ptrdiff_t i = 0; i < together && r + i < m; i++) {
                const REAL y = x[(r + i) * d + j] - mean[j];
                out[i * width] = y;
                sum += y;
                squares += (double)y * y;
            }
            sums[j] += sum;
        }
    }
    for (int lane = 0; lane < TYPED(lanes); lane++)
        squares += square[lane];
    return squares;
}

/* Column j of g (d x d) += products of feature j with the features up to it, which lie side by side in vectors. */
static inline void TYPED(add_column)(
    const REAL *panels, ptrdiff_t m, ptrdiff_t d, ptrdiff_t height, ptrdiff_t j, double *g)
{
    const ptrdiff_t width = TYPED(panel_width);
    const REAL *column = panels + TYPED(panel_start)(j, height);
    for (ptrdiff_t start = 0; start <= j; start += width) {
        TYPED(vector) sum[GRAM_VECTORS] = {{0}};
        for (ptrdiff_t r = 0; r < m; r++) {
            const TYPED(vector) *row = (const TYPED(vector) *)(panels + start * height + r * width);
            for (int v = 0; v < GRAM_VECTORS; v++)
                sum[v] += column[r * width] * row[v];
        }
        REAL part[TYPED(panel_width)];
        memcpy(part, sum, sizeof sum);
        for (ptrdiff_t i = start; i < start + width && i <= j; i++)
            g[i * d + j] += part[i - start];
    }
}

/* g (d x d) += y' y in the upper triangle, for panels of m rows y. Tiles on the diagonal also write below it. Memory
 * from `ahead` to `end` is needed next: a share of it is prefetched with every tile. */
static inline void TYPED(add_panels)(
    const REAL *panels, ptrdiff_t m, ptrdiff_t d, ptrdiff_t height, double *g, const REAL *ahead, const REAL *end)
{
    const ptrdiff_t lanes = TYPED(lanes), width = TYPED(panel_width), left = d % lanes;
    /* A few columns behind the last whole vector are cheaper one by one than in tiles. Window features are the usual
     * case: half a plane of spatial frequencies has a multiple of 16 features, and frequency zero is one more. */
    const ptrdiff_t tiled = left <= lanes / 2 ? d - left : d;
    const ptrdiff_t line = 64 / sizeof(REAL), tiles = (tiled / width + 1) * (tiled / GRAM_ROWS + 2) / 2;
    const ptrdiff_t share = (end - ahead) / tiles + line;
    for (ptrdiff_t j = 0; j < tiled; j += width)
        for (ptrdiff_t i = 0; i < tiled && i < j + width; i += GRAM_ROWS) {
            for (const REAL *stop = end - ahead > share ? ahead + share : end; ahead < stop; ahead += line)
                __builtin_prefetch(ahead, 0, 2);
            /* Left out: vectors that lie wholly below the diagonal, and vectors behind the last feature. */
            const ptrdiff_t skipped = i > j ? (i - j) / lanes * lanes : 0, valid = tiled - j - skipped;
            const ptrdiff_t wanted = valid < width - skipped ? valid : width - skipped;
            const ptrdiff_t rows = tiled - i < GRAM_ROWS ? tiled - i : GRAM_ROWS;
            const REAL *a = panels + TYPED(panel_start)(i, height);
            const REAL *b = panels + TYPED(panel_start)(j + skipped, height);
            double *sums = g + i * d + j + skipped;
            if (GRAM_VECTORS == 3 && wanted > 2 * lanes)
                TYPED(add_tile)(GRAM_VECTORS, a, b, m, sums, d, rows, wanted);
            else if (wanted > lanes)
                TYPED(add_tile)(2, a, b, m, sums, d, rows, wanted);
            else
                TYPED(add_tile)(1, a, b, m, sums, d, rows, wanted);
        }
    for (ptrdiff_t j = tiled; j < d; j++)
        TYPED(add_column)(panels, m, d, height, j, g);
}

/* g (d x d) += y' y and sums (d) += column sums of y = x - mean for m rows of x, through panels of `height` rows.
 * Returns the sum of squares of y. */
static inline double TYPED(add_gram)(
    const REAL *x, ptrdiff_t m, ptrdiff_t d, const REAL *mean, REAL *panels, ptrdiff_t height, double *g, double *sums)
{
    /* The last panel is multiplied as a whole, also beyond the last feature. It starts from zeros, since some
     * processors are slow on the denormal numbers that memory may hold. */
    memset(panels + (d - 1) / TYPED(panel_width) * TYPED(panel_width) * height, 0,
           TYPED(panel_width) * height * sizeof(REAL));
    double squares = 0;
    for (ptrdiff_t start = 0; start < m; start += height) {
        const ptrdiff_t rows = m - start < height ? m - start : height, next = start + rows;
        const ptrdiff_t stop = m - next < height ? m : next + height;
        squares += TYPED(fill_panels)(x + start * d, rows, d, mean, panels, height, sums);
        TYPED(add_panels)(panels, rows, d, height, g, x + next * d, x + stop * d);
    }
    return squares;
}
