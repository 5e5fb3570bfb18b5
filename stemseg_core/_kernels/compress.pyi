"""compress kernels."""
