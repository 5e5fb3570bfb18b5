"""windows kernels."""
