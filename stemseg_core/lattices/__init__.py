"""What is periodic in a phase: the vectors of its lattice, its spacings and its orientation."""
