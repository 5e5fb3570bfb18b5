"""What the processor can do."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #include <cpuid.h>

    /* GCC before 11 and Clang before 16 do not know the levels by name: here are the features that each level adds.
     * The builtin also asks whether the system saves the wide registers. The other features, read from cpuid, need no
     * such support. */
    static int has_v3(void)
    {
        unsigned int a, b, c, d, extended;
        if (!__get_cpuid(1, &a, &b, &c, &d) || !__get_cpuid(0x80000001, &a, &b, &extended, &d))
            return 0;
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi")
            && __builtin_cpu_supports("bmi2") && (c & bit_F16C) && (c & bit_MOVBE) && (extended & bit_LZCNT);
    }

    static int has_v4(void)
    {
        return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int has_v3(void) { return 0; }
    static int has_v4(void) { return 0; }
    #endif
    """
    bint has_v3()
    bint has_v4()


def simd_levels():
    """Names of the SIMD levels this processor has, the best one last."""
    levels = ["baseline"]
    if has_v3():
        levels.append("v3")
    if has_v4():
        levels.append("v4")
    return levels
