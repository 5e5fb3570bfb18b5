"""Spectral cubes and 4D scans: from rows of channels to spectra, patterns and maps."""
