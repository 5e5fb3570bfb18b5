/* The inner loop of `residual_block` in src/nmf.pyx, for one type of rows; vectors.h is included for double before. */

/* sums (64) += (x - w h)^2 over rows, for rows of x (n x 64), w (n x k) and h (k x 64), in registers of float64. */
static inline void TYPED(add_squares)(
    const REAL *x, ptrdiff_t ldx, ptrdiff_t n, const REAL *w, ptrdiff_t k, const double *h, ptrdiff_t ldh, double *sums)
{
    typedef REAL loaded
        __attribute__((vector_size(lanes_double * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
    for (int start = 0; start < 64; start += PANEL_VECTORS * lanes_double) {
        vector_double *target = (vector_double *)(sums + start), sum[PANEL_VECTORS], rest[PANEL_VECTORS];
        for (int v = 0; v < PANEL_VECTORS; v++)
            sum[v] = target[v];
        for (ptrdiff_t i = 0; i < n; i++) {
            for (int v = 0; v < PANEL_VECTORS; v++)
                rest[v] = __builtin_convertvector(((const loaded *)(x + i * ldx + start))[v], vector_double);
            for (ptrdiff_t p = 0; p < k; p++)
                for (int v = 0; v < PANEL_VECTORS; v++)
                    rest[v] -= (double)w[i * k + p] * ((const vector_double *)(h + p * ldh + start))[v];
            for (int v = 0; v < PANEL_VECTORS; v++)
                sum[v] += rest[v] * rest[v];
        }
        for (int v = 0; v < PANEL_VECTORS; v++)
            target[v] = sum[v];
    }
}
