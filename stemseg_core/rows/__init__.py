"""Rows in blocks: any storage as a source of rows, sums over them, and the base of all estimators."""
