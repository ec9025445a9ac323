"""Precision games: Schur enumeration equals 2^M systems; permutations, groups, refusals."""

import math

import numpy as np
import pytest
from enumeration import all_coalitions, precision_of, semivalue
from hypothesis import given
from hypothesis import strategies as st

from theory import PanelError, correlated_panel, error_correlation, error_covariance, price
from theory.pricing import _precision_game as module
from theory.pricing._semivalues import size_law

SEMIVALUES = [
    ("shapley", None),
    ("banzhaf", None),
    ("leave_one_out", None),
    ("solo", None),
    ("beta", (2.0, 3.5)),
]
LINKS = {
    "precision": ({}, lambda p: -p),
    "gls": ({"v0": 1.7}, lambda p: 1.7 if p == 0 else 1 / p),
    "gls with a prior": ({"prior_variance": 1.7}, lambda p: 1 / (p + 1 / 1.7)),
    "info": ({"prior_variance": 2.5}, lambda p: -0.5 * math.log(1 + 2.5 * p)),
    "bhattacharyya": ({"v0": 0.4}, lambda p: 0.4 * math.exp(-p / 8)),
}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def draw(m, seed=0):
    rng = np.random.default_rng([seed, m])
    errors = rng.normal(size=(3 * m + 20, m)) * rng.uniform(0.5, 2, m) + 0.7 * rng.normal(
        size=(3 * m + 20, 1)
    )
    return errors.T @ errors / len(errors), rng.uniform(0.3, 1.5, m)


@pytest.mark.parametrize("m", range(1, 11))
@pytest.mark.parametrize("link", LINKS)
def test_equals_enumeration(m, link):
    matrix, shift = draw(m)
    options, loss = LINKS[link]
    game = link.split()[0]
    v = {members: loss(precision_of(matrix, shift, members)) for members in all_coalitions(m)}
    for quorum in {1, min(2, m)}:
        table = {members: v[()] if len(members) < quorum else value for members, value in v.items()}
        for rule, beta in SEMIVALUES:
            expected = semivalue(table, m, rule, beta)
            found = price(matrix, game=game, shift=shift, rule=rule, beta=beta, quorum=quorum, **options)
            np.testing.assert_allclose(found.value, expected, **EXACT)
            assert found.total == pytest.approx(v[()] - v[tuple(range(m))], rel=1e-12)
            assert found.exact and found.se is None


@pytest.mark.parametrize("game", ["precision", "gls", "info", "bhattacharyya"])
def test_compiled_core_equals_its_twin(game):
    from theory._kernels import schur_prices

    for m in (1, 2, 5, 9):
        matrix, shift = draw(m)
        share = np.append(size_law(m, "shapley") / [math.comb(m - 1, s) for s in range(m)], 0.0)
        member = np.concatenate([[0.0], share[:-1] + share[1:]])
        first, second = np.zeros(m), np.zeros(m)
        arguments = (matrix, shift, member, share, module._CODES[game], 0.8, 0.5, 2)
        schur_prices(*arguments, first)
        module.schur_prices_numpy(*arguments, second)
        np.testing.assert_allclose(first, second, rtol=1e-11, atol=1e-13)


@given(st.integers(2, 12), st.integers(0, 10**6), st.sampled_from(list(LINKS)))
def test_laws(m, seed, link):
    matrix, shift = draw(m, seed)
    options, _ = LINKS[link]
    terms = {"game": link.split()[0], **options}
    base = price(matrix, shift=shift, **terms)
    assert abs(base.residual) < 1e-11 * max(1.0, abs(base.total))
    order = np.random.default_rng(seed).permutation(m)
    moved = price(matrix[np.ix_(order, order)], shift=shift[order], **terms)
    np.testing.assert_allclose(moved.value, base.value[order], rtol=1e-9, atol=1e-11)
    if link == "precision":
        scale = np.random.default_rng(seed).uniform(0.5, 2, m)
        same = price(matrix * np.outer(scale, scale), shift=shift * scale, **terms)
        np.testing.assert_allclose(same.value, base.value, rtol=1e-9, atol=1e-11)


def test_diagonal_matrix_pays_each_its_own_precision():
    found = price(np.diag([1.0, 2.0, 4.0]), game="precision")
    np.testing.assert_allclose(found.value, [1.0, 0.5, 0.25], rtol=1e-14)


def test_neither_sub_nor_supermodular():
    precision = [
        -price(np.array(c), game="precision").total for c in ([[1, 0.8], [0.8, 1]], [[1, 1.8], [1.8, 4]])
    ]
    assert -precision[0] == pytest.approx(1.111, abs=1e-3) and -precision[0] < 2
    assert -precision[1] == pytest.approx(1.842, abs=2e-3) and -precision[1] > 1.25


def test_exchangeable_groups_equal_enumeration():
    groups = np.array([0, 1, 0, 2, 1, 0, 1])
    own, between = np.array([1.0, 2.0, 0.7]), np.array([[0.3, 0.2, 0.1], [0.2, 0.9, -0.1], [0.1, -0.1, 0.0]])
    matrix = between[np.ix_(groups, groups)]
    matrix[np.arange(7), np.arange(7)] = own[groups]
    v = {s: 3.0 - precision_of(matrix, np.ones(7), s) for s in all_coalitions(7)}
    expected = semivalue(v, 7, "banzhaf")
    law = size_law(7, "banzhaf")
    codes = module.exchangeable_groups(matrix, np.ones(7))
    assert codes.tolist() == groups.tolist()
    value, total = module.composition_prices(matrix, np.ones(7), codes, lambda p, s: 3.0 - p, law)
    np.testing.assert_allclose(value, expected, **EXACT)
    assert total == pytest.approx(v[()] - v[tuple(range(7))], rel=1e-12)


def test_exchangeable_panels_of_any_size_are_exact():
    m, rho = 200, 0.3
    matrix = np.full((m, m), rho) + (1 - rho) * np.eye(m)
    found = price(matrix, game="gls", v0=2.0)
    assert found.exact and found.method == "enumeration of exchangeable groups"
    np.testing.assert_allclose(found.value, (2.0 - (1 / m + (1 - 1 / m) * rho)) / m, rtol=1e-10)
    assert price(matrix, game="gls", v0=2.0, exact=True).exact


def test_permutations_are_honest_about_their_error():
    matrix, shift = draw(14)
    for game, options in (("gls", {"v0": 2.0}), ("info", {"prior_variance": 2.0})):
        exact = price(matrix, game=game, shift=shift, **options).value
        inside = []
        for seed in range(30):
            found = price(matrix, game=game, shift=shift, exact=False, seed=seed, **options)
            assert not found.exact and abs(found.residual) < 1e-12
            inside.append(np.abs(found.value - exact) < 1.96 * found.se)
        assert 0.9 < np.mean(inside) < 0.99
    for rule in ("banzhaf", "leave_one_out", "solo"):
        exact = price(matrix, game="gls", v0=2.0, rule=rule).value
        found = price(matrix, game="gls", v0=2.0, rule=rule, exact=False, n_permutations=1000)
        tolerance = 4.5 * found.se + 1e-12
        assert (np.abs(found.value - exact) < tolerance).all()


def test_large_panels_are_sampled():
    matrix, _ = draw(60)
    found = price(matrix, game="gls", v0=2.0, n_permutations=500)
    assert not found.exact and found.seed == 0
    assert np.mean(found.se) < 0.08 * np.mean(np.abs(found.value))
    again = price(matrix, game="gls", v0=2.0, n_permutations=500)
    np.testing.assert_array_equal(found.value, again.value)


def test_from_errors_with_bootstrap():
    drawn = correlated_panel(300, 4, rho=0.3, scale=[1.0, 1.0, 0.7, 1.5], seed=0)
    found = price(drawn.errors, game="gls", v0=2.0)
    plug_in = price(error_covariance(drawn.errors), game="gls", v0=2.0)
    np.testing.assert_array_equal(found.value, plug_in.value)
    assert found.se is not None and found.n == 300 and found.seed == 0
    assert any("look better" in warning for warning in found.warnings)
    assert price(drawn.errors, game="gls", v0=2.0, se=False).se is None
    doubled = np.repeat(drawn.errors, 2, axis=0)
    grouped = price(doubled, game="gls", v0=2.0, groups=np.repeat(np.arange(300), 2))
    np.testing.assert_allclose(grouped.se, found.se, rtol=0.35)
    assert (price(doubled, game="gls", v0=2.0).se < 0.9 * grouped.se).all()
    wide = correlated_panel(40, 16, rho=0.3, seed=1).errors
    shrunk = price(wide, game="gls", v0=2.0, shrink="constant_correlation", n_bootstrap=20)
    assert shrunk.exact and np.isfinite(shrunk.se).all()


@pytest.mark.parametrize(
    ("source", "terms", "text"),
    [
        (np.eye(2), {"game": "gls"}, "give v0"),
        (np.eye(2), {"game": "info"}, "needs prior_variance="),
        (np.eye(2), {"game": "info", "prior_variance": -1}, "positive number"),
        (np.eye(2), {"game": "gls", "prior_variance": 1, "v0": 2}, "leave v0 out"),
        (np.eye(2), {"game": "bhattacharyya", "v0": 0.7}, "product of two priors"),
        (np.eye(2), {"game": "precision", "shift": [1]}, "one finite number per specialist .2."),
        (np.eye(2), {"game": "gls", "v0": 2.0, "shift": [1, 0]}, "says nothing"),
        (np.ones((2, 2)), {"game": "precision", "given": "matrix"}, "Join copies"),
        (np.diag([1.0, 0.0]), {"game": "precision"}, "Join copies"),
        (
            np.random.default_rng(0).normal(size=(3, 4)),
            {"game": "precision"},
            "n=3, M=4; use shrink='constant_",
        ),
        (draw(26)[0], {"game": "precision", "exact": True}, "about 6.2.26 steps.*exact=False"),
        (np.eye(2), {"game": "precision", "shrink": "oas"}, "need samples"),
        (np.eye(2), {"game": "precision", "per_sample": True}, "makes no use of per_sample="),
        (draw(26)[0], {"game": "precision", "n_permutations": 2}, "at least 4"),
        (
            np.random.default_rng(0).normal(size=(9, 4)),
            {"game": "precision", "n_bootstrap": 3},
            "at least 10",
        ),
    ],
)
def test_bad_input(source, terms, text):
    with pytest.raises(PanelError, match=text):
        price(source, **terms)


def test_a_correlation_is_refused():
    correlation = error_correlation(np.random.default_rng(0).normal(size=(30, 3)))
    with pytest.raises(PanelError, match="holds no loss"):
        price(correlation, game="precision")
