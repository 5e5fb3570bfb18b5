"""abundances kernels."""
