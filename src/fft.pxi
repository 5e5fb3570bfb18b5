# The tables of a Fourier transform, as src/fft.h takes them.

cdef extern from *:
    ctypedef struct fft:
        Py_ssize_t n, stages
        const int32_t *radices
        const int32_t *frequencies
        const void *twiddles


cdef inline int set_fft(
    fft* f, Py_ssize_t n, const int32_t[::1] radices, const int32_t[::1] frequencies, const floating[::1] twiddles
) except -1:
    """Tables of a transform of length n; refuses those of another length."""
    cdef Py_ssize_t stage, radix, length = n, n_twiddles = 0, stages = radices.shape[0]
    check_least("radices", stages, 2)
    for stage in range(stages):
        radix = radices[stage]
        if not 2 <= radix <= 5 or length % radix:
            raise ValueError(f"radices: expected factors of {n} from 2 to 5, got {list(radices)}")
        length //= radix
        if stage < stages - 1:
            n_twiddles += 2 * length * (radix - 1)
    if length != 1:
        raise ValueError(f"radices: expected a product of {n}, got {list(radices)}")
    check_1d("frequencies", frequencies.shape, n // radices[stages - 1])
    check_1d("twiddles", twiddles.shape, n_twiddles)
    f.n = n
    f.stages = stages
    f.radices = &radices[0]
    f.frequencies = &frequencies[0]
    f.twiddles = &twiddles[0]
    return 0
