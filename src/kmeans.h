/* Inner loops of src/kmeans.pyx. A template, see float_and_double.h. */

#include "vectors.h"

#ifndef STEMSEG_KMEANS_H
#define STEMSEG_KMEANS_H
#define KMEANS_ROWS 8 /* rows of a tile */
/* Eight numbers: one for each row of a tile, or for each of eight centres. */
typedef double eight __attribute__((vector_size(64)));
typedef int64_t eight_masks __attribute__((vector_size(64)));

/* A macro, since the SIMD level decides how functions take vectors that are wider than registers. */
#define CHOOSE(which, a, b) ((eight)(((which) & (eight_masks)(a)) | (~(which) & (eight_masks)(b))))
#endif

enum { TYPED(line) = 64 / sizeof(REAL) }; /* numbers of a cache line */

/* tile (KMEANS_ROWS, features) = rows - origin in its first d features; norms (KMEANS_ROWS, lanes) += their squares,
 * lane by lane. */
static inline void TYPED(subtract_origin)(
    const REAL *const *rows, const REAL *origin, ptrdiff_t d, REAL *tile, ptrdiff_t features, REAL *norms)
{
    const ptrdiff_t lanes = TYPED(lanes);
    for (ptrdiff_t r = 0; r < KMEANS_ROWS; r++) {
        TYPED(vector) sum = *(const TYPED(vector) *)(norms + r * lanes);
        ptrdiff_t f = 0;
        for (; f + lanes <= d; f += lanes) {
            const TYPED(vector) x = *(const TYPED(vector) *)(rows[r] + f) - *(const TYPED(vector) *)(origin + f);
            *(TYPED(vector) *)(tile + r * features + f) = x;
            sum += x * x;
        }
        *(TYPED(vector) *)(norms + r * lanes) = sum;
        for (; f < d; f++) {
            const REAL x = rows[r][f] - origin[f];
            tile[r * features + f] = x;
            norms[r * lanes] += x * x;
        }
    }
}

/* sum[r] += tile[r, f] centers[f] for a stretch of d features. */
static inline __attribute__((always_inline)) void TYPED(add_center_products)(
    const REAL *tile, ptrdiff_t features, ptrdiff_t d, const REAL *centers, ptrdiff_t stride, TYPED(vector) *sum)
{
    for (ptrdiff_t f = 0; f < d; f++) {
        const TYPED(vector) c = *(const TYPED(vector) *)(centers + f * stride);
        for (int r = 0; r < KMEANS_ROWS; r++)
            sum[r] += tile[r * features + f] * c;
    }
}

/* products (KMEANS_ROWS, stride) += tile (KMEANS_ROWS, d) centers (d, stride); rows of `tile` are `features` apart.
 *
 * `next` are rows that come later. They are scattered in memory, which the processor does not foresee, so they are
 * prefetched, into the second-level cache, as the first is full of centres. */
static inline void TYPED(multiply_centers)(
    const REAL *tile, ptrdiff_t features, ptrdiff_t d, const REAL *centers, ptrdiff_t stride, REAL *products,
    const REAL *const *next)
{
    const ptrdiff_t line = TYPED(line);
    for (ptrdiff_t x = 0; x < stride; x += TYPED(lanes)) {
        TYPED(vector) sum[KMEANS_ROWS] = {{0}};
        ptrdiff_t f = 0;
        for (; f + line <= d; f += line) {
            if (x == 0)
                for (int r = 0; r < KMEANS_ROWS; r++)
                    __builtin_prefetch(next[r] + f, 0, 2);
            TYPED(add_center_products)(tile + f, features, line, centers + f * stride + x, stride, sum);
        }
        TYPED(add_center_products)(tile + f, features, d - f, centers + f * stride + x, stride, sum);
        for (int r = 0; r < KMEANS_ROWS; r++)
            *(TYPED(vector) *)(products + r * stride + x) += sum[r];
    }
}

/* For each row r of a tile the two smallest of half_norms[j] - products[r, j], j < k, and the index of the smallest. */
static inline void TYPED(two_smallest)(
    const REAL *products, ptrdiff_t stride, const double *half_norms, ptrdiff_t k, double *smallest, double *second,
    double *label)
{
    const eight zero = {0};
    eight a = zero + INFINITY, b = a, index = zero;
    for (ptrdiff_t j = 0; j < k; j++) {
        eight v;
        for (int r = 0; r < KMEANS_ROWS; r++)
            v[r] = products[r * stride + j];
        v = half_norms[j] - v;
        const eight_masks less = v < a;
        const eight larger = CHOOSE(less, a, v);
        a = CHOOSE(less, v, a);
        b = CHOOSE(larger < b, larger, b);
        index = CHOOSE(less, zero + (double)j, index);
    }
    memcpy(smallest, &a, sizeof a);
    memcpy(second, &b, sizeof b);
    memcpy(label, &index, sizeof index);
}

/* out[r, j] = |rows[r] - c_j|^2, j < k, by explicit differences in float64: c_j are columns of centers (d, stride). */
static inline void TYPED(distances)(
    const REAL *const *rows, const double *centers, ptrdiff_t d, ptrdiff_t stride, ptrdiff_t k, double *const *out)
{
    for (ptrdiff_t j = 0; j < k; j += 8) {
        eight sum[4] = {{0}};
        for (ptrdiff_t f = 0; f < d; f++) {
            eight c;
            memcpy(&c, centers + f * stride + j, sizeof c);
            for (int r = 0; r < 4; r++) {
                const eight difference = (double)rows[r][f] - c;
                sum[r] += difference * difference;
            }
        }
        for (int r = 0; r < 4; r++)
            memcpy(out[r] + j, &sum[r], (k - j < 8 ? k - j : 8) * sizeof(double));
    }
}
