"""Gradients of the rules, for tensors that require them."""
