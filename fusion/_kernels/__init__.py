"""Compiled cores; numba is imported here only, at the first call of a rule."""
