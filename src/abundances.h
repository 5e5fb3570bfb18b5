/* The inner loop of `enumerate_block` in src/abundances.pyx; vectors.h must be included for double before.
 *
 * For each of `n_supports` supports, its maps (k x (k + 1)) times [b, 1] are the violations of the KKT conditions:
 * minus the amounts of its members, and what the other components would still gain. The result is the amounts of the
 * support whose largest violation is the least. The lanes of a vector are rows. A group of rows stays in registers,
 * so there is a function for each k. */

typedef int64_t masks __attribute__((vector_size(VECTOR_BYTES)));

static inline vector_double choose(masks which, vector_double a, vector_double b)
{
    return (vector_double)((which & (masks)a) | (~which & (masks)b));
}

/* b and a (k x lanes); members (n_supports x k), 1 or 0. */
static inline __attribute__((always_inline)) void best_support(
    const int k, const double *b, const double *maps, const double *members, ptrdiff_t n_supports, double *a)
{
    const vector_double zero = {0};
    vector_double x[ENUMERATED], best[ENUMERATED], least = zero + INFINITY;
    for (int q = 0; q < k; q++) {
        x[q] = ((const vector_double *)b)[q];
        best[q] = zero;
    }
    for (ptrdiff_t s = 0; s < n_supports; s++, maps += k * (k + 1), members += k) {
        vector_double violation[ENUMERATED], worst = zero;
        for (int q = 0; q < k; q++) {
            const double *row = maps + q * (k + 1);
            violation[q] = zero + row[k];
            for (int j = 0; j < k; j++)
                violation[q] += row[j] * x[j];
            worst = choose(violation[q] > worst, violation[q], worst);
        }
        const masks better = worst < least;
        for (int q = 0; q < k; q++)
            best[q] = choose(better, -members[q] * violation[q], best[q]);
        least = choose(better, worst, least);
    }
    for (int q = 0; q < k; q++)
        ((vector_double *)a)[q] = choose(best[q] > zero, best[q], zero);
}

static inline void best_supports(
    ptrdiff_t k, const double *b, const double *maps, const double *members, ptrdiff_t n_supports, double *a)
{
    switch (k) {
    case 1: best_support(1, b, maps, members, n_supports, a); break;
    case 2: best_support(2, b, maps, members, n_supports, a); break;
    case 3: best_support(3, b, maps, members, n_supports, a); break;
    case 4: best_support(4, b, maps, members, n_supports, a); break;
    case 5: best_support(5, b, maps, members, n_supports, a); break;
    default: best_support(6, b, maps, members, n_supports, a);
    }
}
