"""Budgets that are left of partial panels, and the theorem that bounds their error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import get_operator, resilience
from theory import PanelError, SettledBudget, partial_panel_bound, settle_budget


def two(f):
    return 2 * f + 1


@given(st.integers(0, 6), st.integers(0, 20), st.integers(0, 8), st.sampled_from(["cautious", "declared"]))
def test_budgets_by_trying_all(f, admitted, charged, spend):
    found = settle_budget(f, admitted=admitted, charged=charged, minimum=two, spend=spend)
    allowed = [b for b in range(f + 1) if two(b) <= admitted]
    kept = [b for b in allowed if b >= f - charged and (spend == "cautious" or b == max(f - charged, 0))]
    if charged <= f and kept:
        assert found == SettledBudget(max(kept), True)
    else:
        assert found == SettledBudget(max(allowed, default=-1), False)


def test_cautious_keeps_more_than_declared_where_answers_allow_it():
    declared = settle_budget(4, admitted=11, charged=2, minimum=two, spend="declared")
    assert (declared.n_byzantine, declared.guaranteed) == (2, True)
    assert settle_budget(4, admitted=11, charged=2, minimum=two).n_byzantine == 4
    assert settle_budget(4, admitted=8, charged=2, minimum=two).n_byzantine == 3
    assert not settle_budget(1, admitted=9, charged=2, minimum=two).guaranteed


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"admitted": -1, "charged": 0}, "admitted must be a whole number >= 0"),
        ({"admitted": 3, "charged": 1.5}, "charged must be a whole number"),
        ({"admitted": 3, "charged": 0, "spend": "bold"}, "spend must be one of"),
    ],
)
def test_bad_numbers_are_refused(params, text):
    with pytest.raises(PanelError, match=text):
        settle_budget(1, minimum=two, **params)


@pytest.mark.parametrize("name", ["trimmed_mean", "median", "geometric_median", "krum"])
def test_the_bound_holds_whoever_is_absent(name):
    """The theorem of partial panels: with the settled budget, the error stays within the radius."""
    rng = np.random.default_rng(3)
    largest, cases = 0.0, 0
    for _ in range(400):
        n = int(rng.integers(5, 16))
        f = int(rng.integers(0, (n - 1) // 2))
        charged = int(rng.integers(0, f + 1))
        left = f - charged
        absent = int(rng.integers(0, n - f))
        honest = rng.normal(size=(n - f, 3)) * 10.0 ** rng.integers(-2, 3) + rng.normal(size=3) * 100
        heard = honest[: n - f - absent]
        lie = rng.choice([0.0, 1.0, 1e6]) * rng.normal(size=(left, 3)) + rng.choice([honest.max(), 0.0, -1e9])
        admitted = np.concatenate([lie, heard])
        for spend in ("cautious", "declared"):
            operator = get_operator(name)
            settled = settle_budget(
                f, admitted=len(admitted), charged=charged, minimum=operator.minimum, spend=spend
            )
            if not settled.guaranteed or len(admitted) <= 2 * left:
                continue
            if operator.row.takes_budget:
                operator.set_params(n_byzantine=settled.n_byzantine)
            kappa = resilience(operator, len(admitted), left).value
            bound = partial_panel_bound(kappa, n, f, admitted=len(admitted), charged=charged)
            spread = np.sqrt(((honest - honest.mean(axis=0)) ** 2).sum(axis=1).mean())
            error = np.linalg.norm(np.asarray(operator(admitted)) - honest.mean(axis=0))
            assert error <= bound * spread * (1 + 1e-7) + 1e-9 * np.abs(honest).max()
            largest = max(largest, error / (bound * spread) if np.isfinite(bound) and bound * spread else 0.0)
            cases += np.isfinite(bound)
    assert cases > 150 and largest > 0.15
