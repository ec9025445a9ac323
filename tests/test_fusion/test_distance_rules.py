"""Krum and Multi-Krum beyond the contract: exact picks, extremes, definitions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fusion import Krum, krum, multi_krum
from theory import BudgetError, PanelError


def exact_pick(rows, k):
    """Krum in rational arithmetic."""
    exact = [[Fraction(float(x)) for x in row] for row in rows]
    square = [[sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in exact] for x in exact]
    scores = [sum(sorted(line[:i] + line[i + 1 :])[:k]) for i, line in enumerate(square)]
    return scores.index(min(scores))


@pytest.mark.parametrize("n", [10, 30])
@pytest.mark.parametrize("d", [20, 300])
def test_a_large_common_part_does_not_change_the_pick(n, d):
    """float32, a common part of N(0, 10), a spread of 1e-4: 100 of 100 picks as in exact arithmetic."""
    rng = np.random.default_rng(0)
    f = n // 5
    for _ in range(100 if d == 20 else 5):
        rows = (rng.normal(0, 10, size=d) + 1e-4 * rng.normal(size=(n, d))).astype(np.float32)
        weights = Krum(f).weights(rows)
        assert weights.argmax() == exact_pick(rows, n - f - 1)
        np.testing.assert_array_equal(krum(rows, n_byzantine=f), rows[weights.argmax()])
        batch = np.repeat(rows[None], 60, axis=0)
        assert (Krum(f).weights(batch) == weights).all()


@pytest.mark.parametrize("d", [3, 400])
@pytest.mark.parametrize("size", [1e30, 1e160, 1e308])
def test_far_liars(size, d):
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(9, d))
    rows[[0, 5]] = size * rng.choice([-1.0, 1.0], size=(2, d))
    honest = np.delete(rows, [0, 5], axis=0)
    np.testing.assert_array_equal(krum(rows, n_byzantine=2), rows[Krum(2).weights(rows).argmax()])
    assert Krum(2).weights(rows)[[0, 5]].max() == 0
    mixed = multi_krum(rows, n_byzantine=2)
    np.testing.assert_allclose(mixed, honest.mean(axis=0))
    batch = np.repeat(rows[None], 400, axis=0)
    np.testing.assert_array_equal(multi_krum(batch, n_byzantine=2)[7], mixed)


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e170, 1e300])
@pytest.mark.parametrize("d", [3, 400])
def test_panels_of_any_magnitude(size, d):
    rows = np.random.default_rng(2).normal(size=(9, d))
    assert Krum(2).weights(rows * size).argmax() == Krum(2).weights(rows).argmax()


def test_equal_rows_of_any_size():
    for value in (0.0, 1e-200, 1.0, 1e200):
        np.testing.assert_array_equal(krum(np.full((5, 2), value), n_byzantine=2), [value, value])


def test_ties_go_to_the_first():
    rows = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert Krum(1).weights(rows).tolist() == [0, 1, 0, 0]
    np.testing.assert_allclose(multi_krum(rows, n_byzantine=1, m=2), [1.5])
    votes = np.eye(3)[[2, 0, 0, 2]]
    assert Krum(1).weights(votes).argmax() == 0


def test_the_two_neighbour_counts_differ():
    rng = np.random.default_rng(3)
    panel = rng.normal(size=(200, 7, 2))
    one, other = krum(panel, n_byzantine=2), krum(panel, n_byzantine=2, neighbors="n-f-2")
    assert (one != other).any()
    assert exact_pick(panel[0], 3) == Krum(2, neighbors="n-f-2").weights(panel[0]).argmax()
    with pytest.raises(
        BudgetError, match=r"krum with n_byzantine=2 needs at least 7 specialists; got 6\. Lower n_byz"
    ):
        krum(panel[:, :6], n_byzantine=2, neighbors="n-f-2")
    krum(panel[:, :5], n_byzantine=2)


def test_options_are_checked():
    panel = np.zeros((2, 5, 2))
    with pytest.raises(PanelError, match="neighbors must be one of"):
        krum(panel, n_byzantine=1, neighbors="n-f")
    with pytest.raises(PanelError, match="m must be a whole number"):
        multi_krum(panel, n_byzantine=1, m=0)
    with pytest.raises(PanelError, match="has no weighted form"):
        krum(panel, n_byzantine=1, neighbors="n-f-2", weights=[1, 2, 1, 1, 1])
    with pytest.raises(PanelError, match="one weight vector"):
        krum(panel, n_byzantine=1, scope="batch", weights=np.arange(10.0).reshape(2, 5) + 1)


def test_more_picks_than_are_left():
    rows = np.arange(5.0)[:, None]
    rows[4] = np.nan
    np.testing.assert_allclose(multi_krum(rows, n_byzantine=1, m=5), [1.5])
