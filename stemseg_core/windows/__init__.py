"""An image as rows: windows on a grid, and the Fourier features of each."""
