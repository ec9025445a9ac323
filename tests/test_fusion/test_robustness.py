"""Promises in numbers: coefficients, radii, partial panels, budgets; each against enumeration or simulation."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion import (
    Krum,
    Median,
    NearestNeighborMixing,
    TrimmedMean,
    operator_names,
    operator_row,
    project_to_simplex,
    resilience,
    robustness,
    trimmed_mean,
)
from fusion.attacks import attack_names, get_attack
from theory import (
    BudgetError,
    PanelError,
    certified_radius,
    partial_panel_bound,
    resilience_lower_bound,
    subset_resilience,
    suggest_n_byzantine,
)


def spread(rows):
    return float(np.square(rows - rows.mean(axis=0)).sum(axis=1).mean())


def test_no_rule_is_below_the_lower_bound():
    assert [resilience_lower_bound(n, f) for n, f in ((5, 1), (5, 2), (10, 3), (4, 2), (7, 0))] == [
        1 / 3,
        2.0,
        0.75,
        np.inf,
        0.0,
    ]
    for name in operator_names():
        for n, f in ((5, 1), (11, 2), (20, 9)):
            found = resilience(name, n, f)
            if name != "smea":  # its promise is about the largest eigenvalue, which is less than the variance
                assert found.value >= resilience_lower_bound(n, f) * (1 - 1e-12), name
            assert found == operator_row(name).resilience(n, f)


@pytest.mark.parametrize("name", ["trimmed_mean", "median", "geometric_median", "multi_krum", "mean"])
def test_the_lower_bounds_panel_defeats_every_rule(name):
    """Zeros for all but f: whichever f are the liars, some promise is broken below f/(n-2f)."""
    n, f = 7, 2
    panel = np.array([0.0] * 5 + [1.0] * 2)[:, None]
    operator = fusion.get_operator(name)
    if operator.row.takes_budget:
        operator.set_params(n_byzantine=f)
    answer = operator(panel)[0]
    worst = 0.0
    for honest in combinations(range(n), n - f):
        rows = panel[list(honest)]
        error, variance = (answer - rows.mean()) ** 2, spread(rows)
        worst = max(worst, np.inf if variance == 0 and error > 0 else error / variance if variance else 0.0)
    assert worst >= resilience_lower_bound(n, f) * (1 - 1e-9)


def test_assuming_too_many_costs_and_too_few_promises_nothing():
    for n, f, assumed in product((9, 12), (0, 1, 2), (0, 1, 2, 3, 4)):
        found = resilience(TrimmedMean(assumed), n, f)
        if assumed < f:
            assert found.kind == "none"
            continue
        assert found.value == pytest.approx(assumed / (n - f - assumed))
        assert found.value <= subset_resilience(
            operator_row("trimmed_mean").resilience(n, assumed).value, n - f, n - assumed
        ) * (1 + 1e-12)
    assert resilience(Krum(3), 12, 2).value > resilience(Krum(3), 12, 3).value
    assert resilience(Median(), 12, 2) == operator_row("median").resilience(12, 2)
    assert resilience(Krum(4), 8, 1).kind == "none"
    # One liar too many for the budget: any distance.
    rows = np.array([[0.0]] * 6 + [[1e6]] * 3)
    assert trimmed_mean(rows, n_byzantine=2)[0] > 1e4


@given(st.integers(3, 8), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**31))
def test_an_overestimate_is_certified_too(n, f, more, seed):
    assumed = min(f + more, (n - 1) // 2)
    f = min(f, assumed)
    rng = np.random.default_rng(seed)
    honest = rng.standard_normal((n - f, 1)) ** 3
    panel = np.concatenate([honest, rng.standard_cauchy((f, 1)) * 10])
    for name in ("trimmed_mean", "median", "multi_krum"):
        operator = fusion.get_operator(name)
        if operator.row.takes_budget:
            operator.set_params(n_byzantine=assumed)
        kappa = resilience(operator, n, f).value
        error = float((operator(panel)[0] - honest.mean()) ** 2)
        assert error <= kappa * spread(honest) * (1 + 1e-9) + 1e-18


def test_chains_and_names():
    assert resilience("trimmed_mean", 10, 3, pre=["nearest_neighbor_mixing"]).value == pytest.approx(6.0)
    chain = NearestNeighborMixing(3) >> TrimmedMean(3)
    assert resilience(chain, 10, 3) == resilience("nearest_neighbor_mixing >> trimmed_mean", 10, 3)
    report = robustness(chain, 10, 3)
    assert report.rule == "nearest_neighbor_mixing >> trimmed_mean"
    assert (report.assumed, report.minimum, report.max_n_byzantine) == (3, 7, 4)
    assert report.lower_bound == 0.75
    assert "kappa 6 (bound); no rule has less than 0.75" in report.summary()
    assert robustness("mean", 10, 1).max_n_byzantine == 0
    assert "nothing is promised" in robustness("mean", 10, 1).summary()
    assert "withstands up to 0 of 10" in robustness("mean", 10, 1).summary()
    assert robustness("median", 9, 2).breakdown == 4 / 9
    assert robustness("krum", 9, 2).assumed == 2
    assert robustness(fusion.get_operator("krum", neighbors="n-f-2"), 9, 1).max_n_byzantine == 3
    assert robustness(TrimmedMean(0.2), 10, 2).resilience.value == pytest.approx(2 / 6)


@pytest.mark.parametrize("name", ["trimmed_mean", "median", "geometric_median", "krum"])
def test_the_certified_radius_holds_for_every_attack_and_sample(name):
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(60, 8, 3)) * rng.uniform(0.1, 10, size=(60, 1, 1))
    operator = fusion.get_operator(name)
    if operator.row.takes_budget:
        operator.set_params(n_byzantine=3)
    for attack in attack_names():
        panel = np.concatenate([honest, get_attack(attack)(honest, 3, rng=rng)], axis=1)
        known = robustness(operator, n_byzantine=3, panel=panel, honest=range(8))
        error = np.linalg.norm(operator(panel) - honest.mean(axis=1), axis=1)
        assert known.radius.shape == (60,)
        assert (error <= known.radius * (1 + 1e-9)).all()
        np.testing.assert_allclose(
            known.radius, np.sqrt(known.resilience.value * np.array([spread(rows) for rows in honest]))
        )
        worst = robustness(operator, n_byzantine=3, panel=panel).radius
        assert (worst >= known.radius * (1 - 1e-12)).all()
    assert "8 specialists named" in known.promise
    assert "any 8 specialists that are honest" in robustness(name, 11, 3).promise


def test_radius_without_names_is_the_worst_subset():
    rng = np.random.default_rng(1)
    panel = rng.normal(size=(4, 7, 2))
    expected = [max(spread(rows[list(s)]) for s in combinations(range(7), 5)) for rows in panel]
    np.testing.assert_allclose(certified_radius(panel, 2.0, 2), np.sqrt(2.0 * np.array(expected)))
    # Beyond enumeration the bound is never below any subset, and not far above the best one found.
    panel = rng.normal(size=(3, 24, 2))
    bound = certified_radius(panel, 1.0, 7) ** 2
    for rows, value in zip(panel, bound, strict=True):
        far = np.argsort(-np.linalg.norm(rows - rows.mean(axis=0), axis=1))[:17]
        found = spread(rows[far])
        for _ in range(300):
            found = max(found, spread(rows[rng.permutation(24)[:17]]))
        assert found <= value <= 1.3 * found
    flags = np.arange(24) < 17
    np.testing.assert_array_equal(
        certified_radius(panel, 1.0, 7, honest=flags), certified_radius(panel, 1.0, 7, honest=np.arange(17))
    )


def test_non_finite_answers_are_liars():
    panel = np.array([[0.0], [1.0], [4.0], [5.0], [np.nan]])
    np.testing.assert_allclose(certified_radius(panel, 1.0, 1), np.sqrt(spread(panel[:4])))
    with pytest.raises(BudgetError, match="1 answers of sample 0 are not finite; n_byzantine=0"):
        certified_radius(panel, 1.0, 0)
    with pytest.raises(PanelError, match="an honest specialist's answer is not finite"):
        certified_radius(panel, 1.0, 1, honest=[1, 2, 3, 4])


def test_partial_panels_at_the_published_place_and_in_simulation():
    assert partial_panel_bound(4 / 5, 15, 4, admitted=11, charged=2) == pytest.approx(1.460, abs=5e-4)
    assert partial_panel_bound(2 / 7, 15, 4, admitted=11, charged=2) == pytest.approx(1.062, abs=5e-4)
    assert partial_panel_bound(4 / 7, 15, 4, admitted=15) == pytest.approx(0.756, abs=5e-4)
    assert partial_panel_bound(1.0, 9, 4, admitted=4) == np.inf
    rng = np.random.default_rng(2)
    largest = 0.0
    for _ in range(3000):
        n = int(rng.integers(5, 16))
        f = int(rng.integers(1, (n - 1) // 2 + 1))
        charged = int(rng.integers(0, f + 1))
        among = int(rng.integers(2 * (f - charged) + 1, n - charged + 1))
        left = f - charged
        if among - left > n - f or among - left < left + 1:
            continue
        honest = np.where(np.arange(n - f) < rng.integers(1, n - f + 1), 1.0, rng.normal() * 0.1)
        rng.shuffle(honest)
        admitted = np.concatenate([honest[: among - left], np.full(left, rng.choice([-1e6, 1e6, 0.5]))])
        kappa = left / (among - 2 * left)
        bound = partial_panel_bound(kappa, n, f, admitted=among, charged=charged) * honest.std()
        error = abs(float(trimmed_mean(admitted[:, None], n_byzantine=left)[0]) - honest.mean())
        assert error <= bound * (1 + 1e-9) + 1e-12
        largest = max(largest, error / bound if bound else 0.0)
    assert largest > 0.9


def naive_tail(n, probabilities, owners, budget):
    names = list(dict.fromkeys(owners))
    total = 0.0
    for wrong in product([False, True], repeat=len(names)):
        chance = np.prod([p if w else 1 - p for p, w in zip(probabilities, wrong, strict=True)])
        count = sum(wrong[names.index(owner)] for owner in owners)
        total += chance * (count > budget)
    return total


@pytest.mark.parametrize("owners", ["abcdefgh", "aabbccdd", "aaabcdef"])
def test_suggested_budgets_against_enumeration(owners):
    probabilities = np.linspace(0.02, 0.2, len(set(owners)))
    for risk in (0.3, 0.05, 0.01):
        tails = [naive_tail(8, probabilities, owners, budget) for budget in range(4)]
        enough = [budget for budget in range(4) if tails[budget] <= risk]
        if not enough:
            with pytest.raises(BudgetError, match="more than 3 of 8 specialists are wrong with probability"):
                suggest_n_byzantine(8, probability=probabilities, risk=risk, owners=owners)
            continue
        found = suggest_n_byzantine(8, probability=probabilities, risk=risk, owners=owners)
        assert found.n_byzantine == enough[0]
        np.testing.assert_allclose(found.exceeds, tails, atol=1e-14)
    assert found.cost[3, 1] == pytest.approx(3 / 4)
    assert found.cost[1, 2] == np.inf
    assert (np.diff(found.cost[:, 0]) > 0).all()


def test_suggestions_say_what_was_assumed():
    alone = suggest_n_byzantine(15, probability=0.05)
    assert "name owners=" in alone.warnings[0]
    assert "assume 3 of 15" in alone.summary()
    assert "owners" not in suggest_n_byzantine(9, probability=0.01, owners="abcabcabc", risk=0.05).summary()
    # Shared hands need more: three specialists fall together.
    grouped = suggest_n_byzantine(15, probability=0.05, owners="aaabbbcccdddeee", risk=0.05)
    assert grouped.n_byzantine > suggest_n_byzantine(15, probability=0.05, risk=0.05).n_byzantine


def test_the_certificate_survives_the_simplex():
    """The projection moves no answer away from a point of the simplex, so kappa stays; the radius is reached."""
    rng = np.random.default_rng(3)
    left, moved = 0, 0
    for n, f in ((5, 2), (9, 3), (11, 2)):
        honest = rng.dirichlet(np.full(4, 0.3), size=(300, n - f))
        for attack in attack_names():
            panel = np.concatenate([honest, get_attack(attack)(honest, f, rng=rng)], axis=1)
            raw = trimmed_mean(panel, n_byzantine=f)
            fused = project_to_simplex(raw)
            assert fused.min() >= 0
            np.testing.assert_allclose(fused.sum(axis=1), 1.0)
            before = np.linalg.norm(raw - honest.mean(axis=1), axis=1)
            after = np.linalg.norm(fused - honest.mean(axis=1), axis=1)
            assert (after <= before + 1e-12).all()
            assert (after <= certified_radius(panel, f / (n - 2 * f), f, honest=range(n - f)) + 1e-12).all()
            left += int((np.abs(raw.sum(axis=1) - 1) > 1e-6).sum())
            moved += int((after < before - 1e-6).sum())
    assert left > 1000
    assert moved > 1000


def test_dividing_by_the_sum_breaks_the_certificate():
    honest = np.random.default_rng(0).dirichlet(np.full(10, 0.05), size=(500, 4))
    panel = np.concatenate([honest, get_attack("constant")(honest, 1, value=-1.0)], axis=1)
    raw, centre = trimmed_mean(panel, n_byzantine=1), honest.mean(axis=1)
    radius = certified_radius(panel, 1 / 3, 1, honest=range(4))
    divided = raw / raw.sum(axis=1, keepdims=True)
    assert (np.linalg.norm(divided - centre, axis=1) > radius * 1.01).mean() > 0.5
    assert (np.linalg.norm(project_to_simplex(raw) - centre, axis=1) <= radius + 1e-12).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: resilience("trimmed_mean", 0, 0), "n must be a whole number >= 1"),
        (lambda: resilience("trimmed_mean", 5, True), "n_byzantine must be a whole number >= 0"),
        (lambda: robustness("median"), "needs n, the number of specialists, or a panel"),
        (lambda: robustness("median", 4, panel=np.zeros((3, 2))), "n=4, but the panel has 3 specialists"),
        (lambda: certified_radius(np.zeros((3, 2)), -1.0, 1), "kappa must be a number >= 0"),
        (lambda: certified_radius(np.zeros((3, 2)), np.nan, 1), "kappa must be a number >= 0"),
        (lambda: certified_radius(np.zeros((3, 2)), 1.0, 1, honest=[0]), "honest must name 2 different"),
        (lambda: certified_radius(np.zeros((3, 2)), 1.0, 1, honest=[0, 0]), "honest must name 2 different"),
        (lambda: certified_radius(np.zeros((3, 2)), 1.0, 1, honest=[0, 3]), "honest must name 2 different"),
        (lambda: subset_resilience(1.0, 3, 4), r"among must lie in 1\.\.3"),
        (lambda: partial_panel_bound(1.0, 5, 1, admitted=6), "must not exceed n"),
        (lambda: partial_panel_bound(np.nan, 5, 1, admitted=4), "kappa must be a number"),
        (lambda: suggest_n_byzantine(5, probability=1.5), r"probability must lie in \[0, 1\]"),
        (lambda: suggest_n_byzantine(5, probability=[0.1, 0.2]), "one number or 5"),
        (lambda: suggest_n_byzantine(5, probability=0.1, risk=0.0), r"risk must lie in \(0, 1\)"),
        (lambda: suggest_n_byzantine(5, probability=0.1, owners="ab"), "one owner for each of 5"),
        (lambda: resilience_lower_bound(5, -1), "n_byzantine must be a whole number"),
    ],
)
def test_bad_arguments(call, says):
    with pytest.raises(PanelError, match=says):
        call()


def test_half_is_too_many():
    with pytest.raises(BudgetError, match=r"no rule withstands 2 of 4 specialists\. Lower n_byzantine to 1"):
        certified_radius(np.zeros((4, 2)), 1.0, 2)
    assert robustness("median", 4, 2).resilience.kind == "none"
