"""Prices of votes, and of any rule: equal to enumeration over coalitions, sample by sample."""

import numpy as np
import pytest
from enumeration import all_coalitions, semivalue, vote_game
from hypothesis import given
from hypothesis import strategies as st

from theory import PanelError, difficulty_panel, price
from theory.pricing._vote_games import _binomials, plurality_sums_numpy

RULES = [("shapley", None), ("banzhaf", None), ("leave_one_out", None), ("beta", (2.0, 3.5))]
EXACT = {"rtol": 1e-12, "atol": 1e-13}


def draw(m, n=8, k=4, seed=0, silent=0.2):
    rng = np.random.default_rng([seed, m])
    answers = rng.integers(0, k, (n, m))
    answers[rng.random((n, m)) < silent] = -1
    return answers, rng.integers(0, k, n)


@pytest.mark.parametrize("m", range(1, 10))
def test_plurality_equals_enumeration(m):
    answers, y = draw(m)
    v0 = np.linspace(0.5, 0.9, len(y))
    for quorum in (1, 2) if m > 1 else (1,):
        for rule, beta in RULES:
            expected = np.zeros(answers.shape)
            for t, row in enumerate(answers):
                here = np.flatnonzero(row >= 0)
                if len(here):
                    game = vote_game(row[here].tolist(), y[t], v0[t], quorum)
                    expected[t, here] = semivalue(game, len(here), rule, beta)
            result = price(
                answers, y=y, game="plurality", v0=v0, rule=rule, beta=beta, quorum=quorum, per_sample=True
            )
            np.testing.assert_allclose(result.per_sample, expected, **EXACT)
            np.testing.assert_allclose(result.value, expected.mean(axis=0), **EXACT)
            if rule == "shapley":
                assert abs(result.residual) < 1e-13


def test_total_is_the_value_of_the_vote():
    answers, y = draw(7, n=50)
    result = price(answers, y=y, game="plurality", v0=0.75)
    losses = [
        vote_game(row.tolist(), t, 0.75)[tuple(range(7))] for row, t in zip(answers[:6], y[:6], strict=True)
    ]
    few = price(answers[:6], y=y[:6], game="plurality", v0=0.75)
    assert few.total == pytest.approx(0.75 - np.mean(losses), abs=1e-13)
    assert result.value.sum() == pytest.approx(result.total, abs=1e-12)
    assert any("abstentions" in warning for warning in result.warnings)


@pytest.mark.parametrize("m", [1, 2, 5, 8])
def test_majority_is_plurality_of_two(m):
    rng = np.random.default_rng(m)
    correct = (rng.random((30, m)) < 0.7).astype(float)
    correct[0, 0] = np.nan
    binary = np.where(np.isnan(correct), -1, correct).astype(int)
    expected = price(binary, y=np.ones(30, int), game="plurality", v0=0.5, per_sample=True).per_sample
    np.testing.assert_allclose(
        price(correct, game="majority", v0=0.5, per_sample=True).per_sample, expected, **EXACT
    )
    answers, y = draw(m, n=30)
    against = price(answers, y=y, game="majority", v0=0.5)
    table = np.where(answers < 0, np.nan, answers == y[:, None])
    np.testing.assert_allclose(against.value, price(table, game="majority", v0=0.5).value, **EXACT)


def test_chance_is_the_options_of_every_sample():
    answers, y = draw(4, k=3)
    options = np.array([3, 4, 5, 6, 3, 4, 5, 6])
    by_name = price(answers, y=y, game="plurality", v0="chance", n_options=options)
    by_hand = price(answers, y=y, game="plurality", v0=1 - 1 / options)
    np.testing.assert_array_equal(by_name.value, by_hand.value)


def test_compiled_core_equals_its_twin():
    from theory._kernels import plurality_sums

    rng = np.random.default_rng(0)
    counts = np.sort(rng.integers(0, 6, (60, 7)), axis=1)[:, ::-1].copy()
    counts[:, 0] = rng.integers(0, 7, 60)
    first, second = (np.zeros((60, counts.sum(axis=1).max() + 2)) for _ in range(2))
    plurality_sums(counts, _binomials(counts.max()), first)
    plurality_sums_numpy(counts, _binomials(counts.max()), second)
    np.testing.assert_allclose(first, second, rtol=1e-13)


@given(st.integers(2, 9), st.integers(0, 10**6))
def test_laws_of_votes(m, seed):
    rng = np.random.default_rng(seed)
    answers, y = rng.integers(-1, 4, (20, m)), rng.integers(0, 4, 20)
    answers[:, 1] = answers[:, 0]
    base = price(answers, y=y, game="plurality", v0=0.75)
    assert base.value[0] == pytest.approx(base.value[1], abs=1e-13)
    order = rng.permutation(m)
    np.testing.assert_allclose(
        price(answers[:, order], y=y, game="plurality", v0=0.75).value, base.value[order], atol=1e-13
    )
    names = rng.permutation(4)
    renamed = np.where(answers < 0, -1, names[answers])
    np.testing.assert_allclose(
        price(renamed, y=names[y], game="plurality", v0=0.75).value, base.value, atol=1e-13
    )
    silent = np.column_stack([answers, np.full(20, -1)])
    with_null = price(silent, y=y, game="plurality", v0=0.75)
    assert with_null.value[-1] == 0.0
    np.testing.assert_allclose(with_null.value[:-1], base.value, atol=1e-13)
    assert abs(base.residual) < 1e-12


def test_large_panels_stay_exact():
    drawn = difficulty_panel(50, 71, seed=0)
    result = price(drawn.answers, y=drawn.y, game="plurality", v0=0.75, per_sample=True)
    assert abs(result.residual) < 1e-12
    assert np.abs(result.per_sample).max() < 1.0


def test_any_rule_equals_its_closed_form():
    rng = np.random.default_rng(0)
    y = rng.normal(size=40)
    panel = y[:, None, None] + rng.normal(size=(40, 6, 1))
    errors = panel[:, :, 0] - y[:, None]
    for rule, beta in [*RULES, ("solo", None)]:
        terms = {"v0": 2.0, "rule": rule, "beta": beta, "quorum": 2}
        result = price(panel, y=y, fuse=lambda p: p.mean(axis=1), loss="squared", **terms)
        np.testing.assert_allclose(result.value, price(errors, **terms).value, **EXACT)
        np.testing.assert_allclose(result.se, price(errors, **terms).se, rtol=1e-9)
        assert result.exact and result.method == "enumeration"


def test_label_rules_equal_plurality():
    drawn = difficulty_panel(60, 7, seed=1)

    def votes(labels):
        return (labels[:, :, None] == np.arange(4)).mean(axis=1)

    result = price(drawn.answers, y=drawn.y, fuse=votes, v0="chance", n_options=4)
    closed = price(drawn.answers, y=drawn.y, game="plurality", v0=0.75)
    np.testing.assert_allclose(result.value, closed.value, **EXACT)
    assert result.n_evaluations == 2**7


@pytest.mark.parametrize("loss", ["brier", "log", "zero_one"])
def test_losses_of_probabilities(loss):
    rng = np.random.default_rng(2)
    panel, y = rng.dirichlet(np.ones(3), (30, 4)), rng.integers(0, 3, 30)
    result = price(panel, y=y, fuse=lambda p: p.mean(axis=1), loss=loss, v0=0.6)
    onehot = np.eye(3)[y]
    v = {(): 0.6}
    for members in list(all_coalitions(4))[1:]:
        fused = panel[:, list(members)].mean(axis=1)
        own = fused[np.arange(30), y]
        v[members] = {
            "brier": ((fused - onehot) ** 2).sum(axis=1).mean(),
            "log": -np.log(own).mean(),
            "zero_one": (fused.argmax(axis=1) != y).mean(),
        }[loss]
    np.testing.assert_allclose(result.value, semivalue(v, 4, "shapley"), **EXACT)
    if loss == "brier":
        errors = panel - onehot[:, None]
        np.testing.assert_allclose(price(errors, v0=0.6).value, result.value, **EXACT)


def test_permutations_are_honest_about_their_error():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(50, 14)) * rng.uniform(0.5, 1.5, 14) + 0.5 * rng.normal(size=(50, 1))
    matrix = errors.T @ errors / 50
    exact = price(matrix, v0=1.0).value
    calls = []

    def loss(members):
        calls.append(members)
        return float(matrix[np.ix_(members, members)].mean())

    names = [str(i) for i in range(14)]
    score = []
    for seed in range(12):
        calls.clear()
        result = price(loss, v0=1.0, names=names, n_permutations=100, seed=seed)
        assert not result.exact and result.seed == seed and abs(result.residual) < 1e-12
        assert len(calls) + 1 == result.n_evaluations  # the empty panel is not asked for
        score.append((result.value - exact) / result.se)
    inside = np.mean(np.abs(np.array(score)) < 1.96)
    assert 0.88 < inside < 1.0
    again = price(loss, v0=1.0, names=names, n_permutations=100, seed=11)
    np.testing.assert_array_equal(again.value, result.value)
    for rule, beta in (("banzhaf", None), ("beta", (3.0, 1.0))):
        sampled = price(loss, v0=1.0, names=names, n_permutations=400, rule=rule, beta=beta)
        closed = price(matrix, v0=1.0, rule=rule, beta=beta).value
        assert (np.abs(sampled.value - closed) < 4.5 * sampled.se).all()
        assert (sampled.se < 0.01).all()
    # With pairs too dear to enumerate, the estimate is wider but still honest.
    rough = price(loss, v0=1.0, names=names, n_permutations=20)
    assert (np.abs(rough.value - exact) < 6 * rough.se).all()


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_few_specialists_in_any_order(m):
    errors = np.random.default_rng(m).normal(size=(6, m))
    matrix = errors.T @ errors / 6
    result = price(
        lambda s: float(matrix[np.ix_(s, s)].mean()), v0=1.0, names=["x"] * m, exact=False, n_permutations=300
    )
    closed = price(matrix, v0=1.0).value
    assert np.abs(result.value - closed).max() < (1e-12 if m < 4 else 0.05)


@pytest.mark.parametrize(
    ("source", "terms", "text"),
    [
        ([[0, 1]], {"game": "plurality", "v0": 0.5}, "needs y"),
        ([[0, 1]], {"game": "plurality", "v0": 0.5, "y": [0, 1]}, "one label code per sample .1."),
        ([[0, 1]], {"game": "plurality", "v0": 1.5, "y": [0]}, "lies in .0, 1."),
        ([[0, 1]], {"game": "plurality", "y": [0]}, "give v0"),
        ([[0, 1]], {"game": "plurality", "v0": "chance", "y": [0]}, "needs n_options="),
        ([[0, 1]], {"game": "plurality", "v0": "chance", "y": [0], "n_options": 1}, "at least 2"),
        ([[0, 1]], {"game": "plurality", "v0": 0.5, "y": [-1]}, "negative codes"),
        ([[0, 2]], {"game": "majority", "v0": 0.5}, "larger codes"),
        ([[0.5, 1]], {"game": "majority", "v0": 0.5}, "whole numbers"),
        ([[0, 1]], {"game": "plurality", "v0": 0.5, "y": [0], "clusters": [0, 0]}, "belong to the mean game"),
        (np.ones((3, 2, 1)), {"fuse": np.mean, "v0": 1}, "needs y"),
        (np.ones((3, 2, 1)), {"fuse": np.mean, "v0": 1, "y": [1, 1, 1]}, "give loss="),
        (np.ones((3, 2, 1)), {"game": "fuse", "v0": 1, "y": [1, 1, 1]}, "belong together"),
        (
            np.ones((3, 2, 1)),
            {"fuse": lambda p: p[:, 0], "v0": 1, "y": [1, 1], "loss": "squared"},
            "y must hold 3 finite",
        ),
        (
            np.ones((3, 2, 1)),
            {"fuse": lambda p: np.full((3, 1), np.nan), "v0": 1, "y": [1, 1, 1], "loss": "squared"},
            "3 non-finite",
        ),
        (lambda s: 1.0, {"v0": 1.0}, "needs names="),
        (lambda s: np.nan, {"v0": 1.0, "names": ["a"]}, "one finite number"),
        (lambda s: 1.0, {"v0": 1.0, "names": ["a"] * 17, "exact": True}, "exact=False"),
        (lambda s: 1.0, {"v0": 1.0, "names": ["a"] * 20, "n_permutations": 2}, "at least 4"),
    ],
)
def test_bad_input(source, terms, text):
    with pytest.raises(PanelError, match=text):
        price(source, **terms)
