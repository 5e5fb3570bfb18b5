"""kmeans kernels."""
