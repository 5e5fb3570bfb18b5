"""nmf kernels."""
