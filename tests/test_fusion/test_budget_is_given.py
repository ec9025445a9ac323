"""No budget is not a budget of none: n_byzantine=None must not trust everyone."""

from __future__ import annotations

import numpy as np
import pytest

import fusion
from theory import PanelError

PANEL = np.arange(22.0).reshape(11, 2) ** 2
NAMES = [name for name in fusion.operator_names() if fusion.operator_row(name).takes_budget]


@pytest.mark.parametrize("name", [*NAMES, "nearest_neighbor_mixing", "adaptive_clipping"])
def test_none_is_refused(name):
    with pytest.raises(PanelError, match="n_byzantine must be a whole number or a share"):
        getattr(fusion, name)(PANEL, n_byzantine=None)


@pytest.mark.parametrize("name", ["median", "geometric_median", "medoid", "mean", "fltrust"])
def test_rules_without_a_budget_need_none(name):
    assert np.isfinite(getattr(fusion, name)(PANEL)).all()
    assert np.isfinite(fusion.compose("nearest_neighbor_mixing", "median")(PANEL)).all()
