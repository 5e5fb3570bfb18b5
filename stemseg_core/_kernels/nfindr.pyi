"""nfindr kernels."""
