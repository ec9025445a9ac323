"""Borda and approval ballots, and the number of replaced ballots a winner survives, by enumeration."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pytest
import reference_rules as reference
from hypothesis import given
from hypothesis import strategies as st

import fusion
from fusion import ApprovalVote, approval_vote, borda_count, certified_faults
from theory import BudgetError, PanelError


def ballots_of(rule, k):
    """Every ballot that one specialist could cast."""
    if rule == "plurality_vote":
        return [np.eye(k)[c] for c in range(k)]
    if rule == "approval_vote":
        return [np.array(ballot, dtype=float) for ballot in product((0, 1), repeat=k)]
    if rule == "borda_count":
        return [np.array(order, dtype=float) for order in permutations(range(k))]
    return [np.eye(k)[c] for c in range(k)]  # a linear pool is worst with all mass on one output


def points(rule, row):
    if rule == "plurality_vote":
        return np.eye(len(row))[int(np.argmax(row))]
    if rule == "approval_vote":
        return np.array(reference.approval_ballot(row))
    return np.array(reference.borda_ballot(row)) if rule == "borda_count" else row


def survives(cast, weights, winner, f, ballots):
    """Replace every choice of f ballots by every combination of ballots, and look who leads."""
    n = len(cast)
    for who in combinations(range(n), f):
        kept = [i for i in range(n) if i not in who]
        rest = sum((weights[i] * cast[i] for i in kept), np.zeros(cast.shape[1]))
        for lies in product(ballots, repeat=f):
            total = rest + sum(
                (weights[i] * lie for i, lie in zip(who, lies, strict=True)), np.zeros(len(rest))
            )
            if (np.delete(total, winner) >= total[winner] - 1e-9).any():
                return False
    return True


def enumerated(rule, rows, weights):
    cast = np.array([points(rule, row) for row in rows])
    total = np.asarray(weights) @ cast
    winner = int(np.argmax(total))
    ballots = ballots_of(rule, rows.shape[1])
    f = -1
    while f < len(rows) and survives(cast, weights, winner, f + 1, ballots):
        f += 1
    return f


@pytest.mark.parametrize("rule", ["plurality_vote", "approval_vote", "borda_count", "linear_pool"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_certificate_is_exact(rule, weighted):
    rng = np.random.default_rng(0)
    found = set()
    for n, k in ((3, 2), (4, 3), (5, 2), (5, 3)):
        for _ in range(8):
            rows = rng.dirichlet(np.where(np.arange(k) == 0, 4.0, 0.8), size=n)
            weights = rng.integers(1, 4, size=n).astype(float) if weighted else np.ones(n)
            expected = enumerated(rule, rows, weights)
            got = certified_faults(rows, rule=rule, weights=weights if weighted else None)
            assert int(got) == expected, (rows, weights)
            found.add(expected)
    assert len(found) >= 2


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9))
def test_plurality_is_half_the_lead(votes):
    """With equal votes the count is floor((lead - 1) / 2)."""
    counts = np.sort(np.bincount(votes, minlength=3))[::-1]
    expected = (counts[0] - counts[1] - 1) // 2
    assert int(certified_faults(np.eye(3)[votes])) == max(expected, -1)


def test_batches_abstentions_and_errors():
    panel = np.eye(3)[np.array([[0, 0, 0, 1], [0, 1, 2, 2], [1, 1, 0, 0]])]
    np.testing.assert_array_equal(certified_faults(panel), [0, 0, -1])
    assert certified_faults(panel).dtype == np.int64
    silent = panel.copy()
    silent[0, 3] = np.nan
    np.testing.assert_array_equal(certified_faults(silent, missing="abstain"), [1, 0, -1])
    np.testing.assert_array_equal(certified_faults(panel, weights=[1, 1, 1, 0]), [1, -1, 0])
    with pytest.raises(BudgetError, match=r"specialist '3' gave a non-finite answer in sample 0"):
        certified_faults(silent)
    with pytest.raises(PanelError, match="needs probabilities for the linear pool"):
        certified_faults(3 * panel, rule="linear_pool")
    with pytest.raises(PanelError, match="counts ballots of"):
        certified_faults(panel, rule="krum")
    assert int(certified_faults(panel[0], rule=ApprovalVote(threshold=0.2))) == 0


def test_approval_options():
    rows = [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]
    np.testing.assert_allclose(approval_vote(rows, threshold=0.3), [0.5, 1.0, 0.5])
    np.testing.assert_allclose(approval_vote([[0.2, 0.2, 0.2]], top=2), [1, 1, 0])
    np.testing.assert_allclose(approval_vote(rows, top=7), [1, 1, 1])
    for top in (0, True, 1.5):
        with pytest.raises(PanelError, match="top must be a whole number"):
            approval_vote(rows, top=top)
    with pytest.raises(PanelError, match="threshold must be a finite number"):
        approval_vote(rows, threshold=np.nan)


def test_borda_with_ties_and_one_output():
    np.testing.assert_allclose(borda_count([[1.0, 1.0, 0.0]]), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(borda_count([[3.0], [2.0]]), [1.0])
    np.testing.assert_allclose(
        borda_count(np.random.default_rng(1).normal(size=(50, 4, 5))).sum(axis=-1), 1.0
    )
    # A Condorcet loser that most put first does not win a Borda count.
    rows = np.array([[3, 2, 1], [3, 2, 1], [1, 3, 2], [1, 2, 3], [1, 3, 2]], dtype=float)
    assert fusion.decide(borda_count(rows)) == 1
    assert fusion.decide(fusion.plurality_vote(rows)) == 0
