/* Inner loops of src/nmf.pyx. A template, see float_and_double.h; vectors.h must be included for both types before. */

/* Sweeps of `hals_block` over 64 columns of b and z, whose rows are `stride` apart; g (k x k). Up to eight vectors of
 * columns at a time: the change of a component is summed in registers. */
static inline void TYPED(sweep_columns)(
    ptrdiff_t k, const REAL *b, const REAL *g, ptrdiff_t n_sweeps, REAL *z, ptrdiff_t stride)
{
    enum { VECTORS = 64 / TYPED(lanes) < 8 ? 64 / TYPED(lanes) : 8 };
    const TYPED(vector) zero = {0};
    for (int start = 0; start < 64; start += VECTORS * TYPED(lanes))
        for (ptrdiff_t sweep = 0; sweep < n_sweeps; sweep++)
            for (ptrdiff_t p = 0; p < k; p++) {
                TYPED(vector) *own = (TYPED(vector) *)(z + p * stride + start), step[VECTORS];
                const REAL diagonal = g[p * k + p], inverse = diagonal > 0 ? 1 / diagonal : 0;
                for (int v = 0; v < VECTORS; v++)
                    step[v] = ((const TYPED(vector) *)(b + p * stride + start))[v];
                for (ptrdiff_t m = 0; m < k; m++)
                    for (int v = 0; v < VECTORS; v++)
                        step[v] -= g[p * k + m] * ((const TYPED(vector) *)(z + m * stride + start))[v];
                for (int v = 0; v < VECTORS; v++) {
                    const TYPED(vector) value = own[v] + step[v] * inverse;
                    own[v] = diagonal > 0 ? (TYPED(vector))((__typeof__(value > zero))value & (value > zero)) : zero;
                }
            }
}

/* sums (64) += (x - w h)^2 over rows, for rows of x (n x 64), w (n x k) and h (k x 64), in registers of float64. */
static inline void TYPED(add_squares)(
    const REAL *x, ptrdiff_t ldx, ptrdiff_t n, const REAL *w, ptrdiff_t k, const double *h, ptrdiff_t ldh, double *sums)
{
    typedef REAL loaded
        __attribute__((vector_size(lanes_double * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
    for (int start = 0; start < 64; start += TILE_VECTORS * lanes_double) {
        vector_double *target = (vector_double *)(sums + start), sum[TILE_VECTORS], rest[TILE_VECTORS];
        for (int v = 0; v < TILE_VECTORS; v++)
            sum[v] = target[v];
        for (ptrdiff_t i = 0; i < n; i++) {
            for (int v = 0; v < TILE_VECTORS; v++)
                rest[v] = __builtin_convertvector(((const loaded *)(x + i * ldx + start))[v], vector_double);
            for (ptrdiff_t p = 0; p < k; p++)
                for (int v = 0; v < TILE_VECTORS; v++)
                    rest[v] -= (double)w[i * k + p] * ((const vector_double *)(h + p * ldh + start))[v];
            for (int v = 0; v < TILE_VECTORS; v++)
                sum[v] += rest[v] * rest[v];
        }
        for (int v = 0; v < TILE_VECTORS; v++)
            target[v] = sum[v];
    }
}
