/* Vectors as wide as the registers of the SIMD level, by the vector extension of GCC and Clang. A template: it is
 * included for each type of number, see float_and_double.h.
 *
 * The compiler does not keep accumulators of an ordinary loop nest in registers: products of the shapes of the window
 * transforms run at 13 GF/s as plain loops, at 50-95 in OpenBLAS, which packs its operands first, and at 165-205 here,
 * where they are small enough to stay in the first-level cache (docs/decisions.md).
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef VECTOR_BYTES
#define WIDEST_VECTOR_BYTES 64 /* of any SIMD level */
#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define TILE_VECTORS 4 /* 4 x 4 accumulators in 32 registers */
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define TILE_VECTORS 2 /* 4 x 2 accumulators in 16 registers */
#else
#define VECTOR_BYTES 16
#define TILE_VECTORS 2
#endif
#endif

/* Loads and stores need no more alignment than a number does. */
typedef REAL TYPED(vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

enum { TYPED(lanes) = VECTOR_BYTES / sizeof(REAL) };

/* A vector of float64 numbers with the lanes of a vector of REAL: sums of products are added in it. */
typedef double TYPED(wide) __attribute__((vector_size(sizeof(double) * TYPED(lanes)), aligned(8), may_alias));

/* c (rows x vectors) = a (rows x k) b (k x vectors), accumulated in registers. The first `valid` columns are stored. */
static inline __attribute__((always_inline)) void TYPED(product_tile)(
    const int rows, const int vectors, const REAL *a, ptrdiff_t lda, ptrdiff_t k, const REAL *b, ptrdiff_t ldb, REAL *c,
    ptrdiff_t ldc, ptrdiff_t valid)
{
    TYPED(vector) sum[8][4];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (TYPED(vector)){0};
    for (ptrdiff_t j = 0; j < k; j++) {
        const TYPED(vector) *row = (const TYPED(vector) *)(b + j * ldb);
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++)
                sum[i][v] += a[i * lda + j] * row[v];
    }
    for (int i = 0; i < rows; i++) {
        if (valid == vectors * TYPED(lanes))
            for (int v = 0; v < vectors; v++)
                ((TYPED(vector) *)(c + i * ldc))[v] = sum[i][v];
        else
            for (ptrdiff_t x = 0; x < valid; x++)
                c[i * ldc + x] = sum[i][x / TYPED(lanes)][x % TYPED(lanes)];
    }
}

/* c (m x n) = a (m x k) b (k x n). Rows of b must be readable up to the next multiple of a vector.
 * Every element is the sum of its k products in order, so its bits do not depend on m and n. */
static inline void TYPED(product)(
    ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const REAL *a, ptrdiff_t lda, const REAL *b, ptrdiff_t ldb, REAL *c,
    ptrdiff_t ldc)
{
    const ptrdiff_t wide = TILE_VECTORS * TYPED(lanes), lanes = TYPED(lanes);
    ptrdiff_t x = 0, i;
    for (; x + wide <= n; x += wide) {
        for (i = 0; i + 4 <= m; i += 4)
            TYPED(product_tile)(4, TILE_VECTORS, a + i * lda, lda, k, b + x, ldb, c + i * ldc + x, ldc, wide);
        for (; i < m; i++)
            TYPED(product_tile)(1, TILE_VECTORS, a + i * lda, lda, k, b + x, ldb, c + i * ldc + x, ldc, wide);
    }
    for (; x < n; x += lanes) {
        const ptrdiff_t valid = n - x < lanes ? n - x : lanes;
        for (i = 0; i + 8 <= m; i += 8)
            TYPED(product_tile)(8, 1, a + i * lda, lda, k, b + x, ldb, c + i * ldc + x, ldc, valid);
        for (; i < m; i++)
            TYPED(product_tile)(1, 1, a + i * lda, lda, k, b + x, ldb, c + i * ldc + x, ldc, valid);
    }
}
