"""Trained fusion of several views: one encoder per view, an operator of `fusion.mid`, one head."""
