"""Compiled cores, imported at the first call only; each has a NumPy twin that is its test oracle."""

from theory._kernels.order import order_prices
from theory._kernels.schur import schur_prices
from theory._kernels.votes import plurality_sums
from theory._kernels.weighted import weighted_vote_prices

__all__ = ["order_prices", "plurality_sums", "schur_prices", "weighted_vote_prices"]
