"""Compiled cores; numba is imported here only, at the first call that is worth it."""
