"""Rows to scores, components, abundances and labels: every algorithm, for rows of any origin."""
