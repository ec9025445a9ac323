"""Bounds on the error of fused answers."""
