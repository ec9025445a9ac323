"""What all tests share: one thread per process, no display, the same hypothesis examples everywhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before numpy is imported: the suite runs in two processes, and two BLAS pools on two cores fight each other.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("SCIPY_ARRAY_API", "1")  # else scikit-learn skips its array API check

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# Compiling a kernel inside the first example breaks any deadline; a fixed sequence keeps runs comparable.
settings.register_profile(
    "house", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the folder of the repository."""
    return ROOT


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test drew: matplotlib warns at the twentieth open figure."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")
