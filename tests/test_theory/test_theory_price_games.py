"""Fixed weights, weighted majorities, nearest neighbours, votes by count: equal to enumeration."""

import numpy as np
import pytest
from enumeration import (
    fixed_weights_game,
    neighbour_game,
    semivalue,
    weighted_vote_game,
)
from hypothesis import given
from hypothesis import strategies as st

from theory import PanelError, difficulty_panel, error_covariance, price
from theory.pricing._semivalues import size_law
from theory.pricing._weighted_votes import weighted_vote_prices_numpy

SEMIVALUES = [
    ("shapley", None),
    ("banzhaf", None),
    ("leave_one_out", None),
    ("solo", None),
    ("beta", (2.0, 3.5)),
]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("m", range(1, 11))
def test_fixed_weights_equal_enumeration(m):
    rng = np.random.default_rng(m)
    errors = rng.normal(size=(25, m, 2)) + 0.5
    weights = rng.dirichlet(np.ones(m))
    matrix = error_covariance(errors)
    v = fixed_weights_game(matrix.value, weights, 1.3)
    for rule, beta in SEMIVALUES:
        expected = semivalue(v, m, rule, beta)
        for source, extra in ((matrix, {}), (errors, {"per_sample": True})):
            found = price(
                source, game="fixed_weights", weights=weights, v0=1.3, rule=rule, beta=beta, **extra
            )
            np.testing.assert_allclose(found.value, expected, **EXACT)
            assert found.total == pytest.approx(1.3 - v[tuple(range(m))], abs=1e-12)
        np.testing.assert_allclose(found.per_sample.mean(axis=0), expected, **EXACT)
    alone = price(matrix, game="fixed_weights", weights=weights, v0=0.0)
    euler = weights * (matrix.value @ weights)
    np.testing.assert_allclose(-alone.value, euler, **EXACT)
    other = price(matrix, game="fixed_weights", weights=weights, v0=0.0, rule="banzhaf")
    np.testing.assert_allclose(alone.value, other.value, **EXACT)


@pytest.mark.parametrize("m", range(1, 10))
def test_weighted_majority_equals_enumeration(m):
    rng = np.random.default_rng(m)
    right = (rng.random((6, m)) < 0.6).astype(float)
    right[rng.random((6, m)) < 0.2] = np.nan
    weights = rng.integers(0, 5, m)
    weights[0] = 3
    v0 = np.linspace(0.2, 0.6, 6)
    for quorum in {1, min(2, m)}:
        for rule, beta in SEMIVALUES:
            expected, totals = np.zeros((6, m)), []
            for t, row in enumerate(right):
                here = np.flatnonzero(~np.isnan(row))
                game = weighted_vote_game(row[here], weights[here].tolist(), v0[t], quorum)
                expected[t, here] = semivalue(game, len(here), rule, beta)
                totals.append(v0[t] - game[tuple(range(len(here)))])
            found = price(
                right, game="weighted_majority", weights=weights, v0=v0, rule=rule, beta=beta, quorum=quorum,
                per_sample=True,
            )  # fmt: skip
            np.testing.assert_allclose(found.per_sample, expected, **EXACT)
            assert found.total == pytest.approx(np.mean(totals), abs=1e-12)


def test_weighted_majority_with_equal_weights_is_the_majority():
    drawn = difficulty_panel(400, 13, seed=0)
    weighted = price(drawn.answers, y=drawn.y, game="weighted_majority", weights=[2] * 13, v0=0.5)
    plain = price(drawn.correct, game="majority", v0=0.5)
    np.testing.assert_allclose(weighted.value, plain.value, **EXACT)
    np.testing.assert_allclose(weighted.se, plain.se, rtol=1e-9)


def test_compiled_weighted_votes_equal_their_twin():
    from theory._kernels import weighted_vote_prices

    rng = np.random.default_rng(0)
    for m in (1, 2, 3, 7, 12):
        leads = rng.integers(-4, 5, (5, m))
        share = size_law(m, "banzhaf") / np.array([1.0] * m)
        for quorum in (1, 2):
            first, second = np.zeros((5, m)), np.zeros((5, m))
            weighted_vote_prices(leads, share, quorum, first)
            weighted_vote_prices_numpy(leads, share, quorum, second)
            np.testing.assert_allclose(first, second, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("m", range(1, 10))
def test_neighbours_equal_enumeration(m):
    rng = np.random.default_rng(m)
    right = (rng.random((6, m)) < 0.6).astype(float)
    distance = np.round(rng.random((6, m)), 1)  # with ties
    for k in (1, 2, 5):
        for v0 in (1.0, 0.4):
            for rule, beta in SEMIVALUES:
                games = [neighbour_game(row, far, k, v0) for row, far in zip(right, distance, strict=True)]
                expected = np.array([semivalue(game, m, rule, beta) for game in games])
                found = price(
                    right, game="knn", distance=distance, n_neighbors=k, v0=v0, rule=rule, beta=beta,
                    per_sample=True,
                )  # fmt: skip
                np.testing.assert_allclose(found.per_sample, expected, **EXACT)
                assert found.total == pytest.approx(
                    np.mean([v0 - game[tuple(range(m))] for game in games]), abs=1e-12
                )
    labels = np.where(right > 0, 3, 1)
    by_label = price(labels, y=np.full(6, 3), game="knn", distance=distance, n_neighbors=2)
    np.testing.assert_allclose(
        by_label.value, price(right, game="knn", distance=distance, n_neighbors=2).value, **EXACT
    )


def test_neighbours_that_do_not_answer_are_null_players():
    right = np.array([[1.0, np.nan, 0.0, 1.0]])
    distance = np.array([[0.3, np.nan, 0.1, 0.2]])
    found = price(right, game="knn", distance=distance, n_neighbors=2).value
    here = price(right[:, [0, 2, 3]], game="knn", distance=distance[:, [0, 2, 3]], n_neighbors=2).value
    np.testing.assert_allclose(found, [here[0], 0.0, here[1], here[2]], **EXACT)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 10**6), st.integers(1, 3))
def test_majority_by_count_is_majority_by_sample(m, n, seed, quorum):
    rng = np.random.default_rng(seed)
    table = rng.random((n, m)) < rng.random()
    terms = {"game": "majority", "v0": 0.3, "quorum": min(quorum, m), "rule": "banzhaf"}
    for values in (table, table.astype(np.int8), table.astype(np.float32)):
        quick = price(values, **terms)
        slow = price(values, per_sample=True, **terms)
        np.testing.assert_allclose(quick.value, slow.value, **EXACT)
        assert quick.total == pytest.approx(slow.total, abs=1e-12)
        if n > 1:
            np.testing.assert_allclose(quick.se, slow.se, rtol=1e-9, atol=1e-12)


def test_prices_without_standard_errors_are_the_same_prices():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(3000, 6, 2)) + rng.normal(size=(3000, 1, 1))
    for options in ({}, {"quorum": 3}, {"rule": "banzhaf"}, {"clusters": [0, 0, 1, 2, 3, 3]}):
        with_se, without = (price(errors, v0=2.0, se=se, **options) for se in (True, False))
        np.testing.assert_allclose(without.value, with_se.value, **EXACT)
        assert without.se is None and without.ci is None
        assert without.total == pytest.approx(with_se.total, abs=1e-12)
    drawn = difficulty_panel(200, 5, seed=0)
    for game, source, extra in (
        ("plurality", drawn.answers, {"y": drawn.y, "v0": 0.75}),
        ("majority", drawn.correct, {"v0": 0.5}),
        ("median", errors, {"v0": 1.0}),
    ):
        plain = price(source, game=game, se=False, **extra)
        assert plain.se is None
        np.testing.assert_array_equal(plain.value, price(source, game=game, **extra).value)


@pytest.mark.parametrize(
    ("terms", "text"),
    [
        ({"game": "fixed_weights", "v0": 1, "weights": [0.5, 0.6, 0.1]}, "sum"),
        ({"game": "fixed_weights", "v0": 1, "quorum": 2}, "has no quorum"),
        ({"game": "fixed_weights"}, "give v0"),
        ({"game": "weighted_majority", "v0": 0.5}, "needs weights="),
        ({"game": "weighted_majority", "v0": 0.5, "weights": [0.5, 1, 1]}, "whole number"),
        ({"game": "weighted_majority", "v0": 0.5, "weights": [-1, 1, 1]}, "whole number >= 0"),
        ({"game": "weighted_majority", "v0": 0.5, "weights": [0, 0, 0]}, "sum to between 1"),
        ({"game": "weighted_majority", "v0": 2, "weights": [1, 1, 1]}, "lies in .0, 1."),
        ({"game": "knn", "n_neighbors": 1}, "needs distance="),
        ({"game": "knn", "distance": np.ones((4, 3))}, "needs n_neighbors="),
        ({"game": "knn", "distance": np.ones((4, 3)), "n_neighbors": 1, "quorum": 2}, "no quorum"),
        (
            {"game": "majority", "v0": 0.5, "weights": [1, 1, 1]},
            "belongs to game='fixed_weights', 'weighted_",
        ),
        ({"v0": 0.5, "n_neighbors": 3}, "belongs to game='knn'"),
        ({"v0": 0.5, "se": False, "groups": [0, 0, 1, 1]}, "Give one of the two"),
        ({"v0": 0.5, "n_neighbors": 3, "shift": [1, 1, 1]}, "belong to different games"),
        ({"v0": 0.5, "n_permutations": 3}, "makes no use of n_permutations="),
    ],
)
def test_bad_input(terms, text):
    with pytest.raises(PanelError, match=text):
        price(np.ones((4, 3)), **terms)
