"""What every operator owes when answers are missing, invalid or too few: faults, abstentions, errors."""

from __future__ import annotations

import numpy as np
import pytest
from contract import (
    ROWS,
    build,
    domain,
    every_case,
    every_row,
    nine,
    withstands,
)

from theory import BudgetError, FaultWarning, PanelError


@every_case
@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, "cell"])
def test_a_fault_is_a_removed_row(name, params, fault):
    panel = domain(name, np.random.default_rng(9).normal(size=(300, 9, 3)))
    broken = panel.copy()
    broken[::3, 4] = np.nan if fault == "cell" else fault
    if fault == "cell":
        broken[::3, 4, :2] = panel[::3, 4, :2]
    operator = nine(name, params)
    if not withstands(name):
        with pytest.raises(
            BudgetError, match=r"1 of 9 specialists gave non-finite answers in sample 0 \('4'\)"
        ):
            operator(broken)
        with pytest.warns(FaultWarning, match="100 of 300 samples"):
            fused = operator(broken, excess="nan")
        assert np.isnan(fused[::3]).all()
    else:
        fused = operator(broken)
        fewer = nine(name, params, faults=1)
        np.testing.assert_array_equal(fused[::3], fewer(np.delete(panel[::3], 4, axis=1)))
        assert (operator.support(broken)[::3, 4] == 0).all()
    untouched = np.arange(300) % 3 != 0
    np.testing.assert_array_equal(fused[untouched], operator(panel)[untouched])
    with pytest.raises(PanelError, match="specialist '4' gave a non-finite answer in sample 0"):
        operator(broken, missing="raise")


@every_case
def test_abstention(name, params):
    panel = domain(name, np.random.default_rng(10).normal(size=(30, 9, 3)))
    operator = nine(name, params)
    silent = panel.copy()
    silent[4, [3, 7]] = np.nan
    fused = operator(silent, missing="abstain")
    np.testing.assert_array_equal(fused[4], operator(np.delete(panel[4], [3, 7], axis=0)))
    np.testing.assert_array_equal(np.delete(fused, 4, axis=0), np.delete(operator(panel), 4, axis=0))
    silent[6] = np.nan
    with pytest.raises(BudgetError, match="no specialist answered in sample 6"):
        operator(silent, missing="abstain")
    with pytest.warns(FaultWarning, match="1 of 30 samples"):
        assert np.isnan(operator(silent, missing="abstain", excess="nan")[6]).all()
    partly = panel.copy()
    partly[2, 3, 1] = np.nan
    if not ROWS[name].coordinatewise:
        with pytest.raises(PanelError, match="specialist '3' answered only some outputs in sample 2"):
            operator(partly, missing="abstain")
    elif ROWS[name].domain == "real":
        fused = operator(partly, missing="abstain")
        np.testing.assert_array_equal(fused[2, 1], operator(np.delete(panel[2], 3, axis=0))[1])
        np.testing.assert_array_equal(fused[2, [0, 2]], operator(panel[2])[[0, 2]])
        np.testing.assert_allclose(operator.support(partly, missing="abstain").sum(axis=-1), 1.0)


@every_case
def test_bad_budgets_say_the_way_out(name, params):
    row = ROWS[name]
    if not row.takes_budget:
        return
    least = row.minimum(2, **params)
    panel = np.zeros((4, least - 1, 2))
    words = f"{name} with n_byzantine=2 needs at least {least} specialists; got {least - 1}. Lower n_byzantine to 1"
    with pytest.raises(BudgetError, match=words):
        build(name, params, 2)(panel)
    with pytest.raises(BudgetError, match=words):
        build(name, params, 2)(panel[:0])
    ok = np.zeros((4, least, 2))
    build(name, params, 2)(ok)
    if least > 4:
        np.testing.assert_array_equal(build(name, params, 2.0 / least)(ok), 0.0)
    for wrong, says in (
        (True, "must be a whole number"),
        (-1, "not be negative"),
        (0.5, "share"),
        ("2", "whole number"),
    ):
        with pytest.raises(PanelError, match=says):
            build(name, params, wrong)(ok)
    broken = ok.copy()
    broken[2, :3, 0] = np.nan
    with pytest.raises(
        BudgetError, match=r"3 of \d+ specialists .* in sample 2 \('0', '1', '2'\); n_byzantine=2 allows 2"
    ):
        build(name, params, 2)(broken)
    with pytest.raises(
        (BudgetError, PanelError),
        match=r"heaviest specialists hold [01]\.\d+ of the weight|has no weighted form",
    ):
        build(name, params, 2)(ok, weights=[100, 100] + [1] * (least - 2))


@every_row
def test_bad_input(name):
    operator = build(name)
    panel = np.full((2, 7, 3), 1 / 3)
    with pytest.raises(PanelError, match="axes"):
        operator(np.zeros(4))
    with pytest.raises(PanelError, match="complex"):
        operator(np.zeros((2, 5, 3), dtype=complex))
    with pytest.raises(PanelError, match="ragged"):
        operator([[[1.0, 2.0], [1.0]]])
    with pytest.raises(PanelError, match="missing must be one of"):
        operator(panel, missing="drop")
    with pytest.raises(PanelError, match="excess must be one of"):
        operator(panel, excess="drop")
    if name == "inverse_covariance_mean":
        return  # it refuses weights before it reads them
    with pytest.raises(PanelError, match="shape"):
        operator(panel, weights=[1, 2])
    with pytest.raises(PanelError, match="positive sum"):
        operator(panel, weights=np.zeros(7))
    with pytest.raises(PanelError, match="specialist '1' is nan"):
        operator(panel, weights=[1, np.nan, 1, 1, 1, 1, 1])
    if name not in ("mean", "linear_pool", "log_pool"):
        with pytest.raises(PanelError, match=r"specialist '0' is -1\.0"):
            operator(panel, weights=[-1, 1, 1, 1, 1, 1, 1])
