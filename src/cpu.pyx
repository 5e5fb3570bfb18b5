"""What the processor can do, asked once at import."""

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__)
    #define HAS_V3 __builtin_cpu_supports("x86-64-v3")
    #define HAS_V4 __builtin_cpu_supports("x86-64-v4")
    #else
    #define HAS_V3 0
    #define HAS_V4 0
    #endif
    """
    int HAS_V3
    int HAS_V4


def simd_levels():
    """Names of the SIMD levels this processor has, the best one last."""
    levels = ["baseline"]
    if HAS_V3:
        levels.append("v3")
    if HAS_V4:
        levels.append("v4")
    return levels
