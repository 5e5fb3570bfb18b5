"""The command `stemseg`."""
