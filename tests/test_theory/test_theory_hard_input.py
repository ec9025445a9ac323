"""Inputs on which numbers were once wrong without a word: constants, tiny correlations, open answers."""

import numpy as np
import pandas as pd
import pytest
from enumeration import vote_win
from xarray import DataArray

from theory import (
    PanelError,
    as_errors,
    as_labels,
    as_panel,
    bhattacharyya,
    certificate,
    correlated_panel,
    difficulty_panel,
    effective_number,
    ensemble_variance,
    error_agreement,
    error_correlation,
    error_covariance,
    find_clones,
    is_weighting_worth_it,
    min_variance_weights,
    panel_errors,
    price,
    stack_specialists,
    variance_curve,
    vote_error,
)

rng = np.random.default_rng


@pytest.mark.parametrize("n", [7, 1000, 30_001])
@pytest.mark.parametrize("offset", [0.1, 1e6 + 0.1, -1e-9])
def test_the_rounding_of_a_constant_is_no_correlation(n, offset):
    everyone = error_correlation(np.full((n, 3), offset))
    assert np.isnan(everyone.value).all() and "'0', '1', '2' never vary" in everyone.warnings[0]
    assert find_clones(np.full((n, 3), offset)).clusters == ()
    with pytest.raises(PanelError, match="do not vary"):
        effective_number(np.full((n, 3), offset))
    one = rng(0).normal(size=(n, 3))
    one[:, 0] = offset
    result = error_correlation(one)
    assert np.isnan(result.value[0]).all() and result.value[1, 2] == pytest.approx(
        np.corrcoef(one[:, 1:].T)[0, 1], abs=1e-12
    )
    assert result.mean[0] == pytest.approx(offset, rel=1e-9)


def test_a_constant_among_the_answers_given_is_flat_too():
    errors = rng(1).normal(size=(60, 3))
    errors[:, 0] = 123.456
    errors[::3, 0] = np.nan
    result = error_correlation(errors, missing="abstain")
    assert np.isnan(result.value[0]).all() and result.variance[0] == 0.0


def test_small_spread_about_a_large_offset_is_kept():
    errors = rng(2).normal(size=(200, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    shifted = error_correlation(1e6 + 1e-3 * errors)
    assert shifted.value[0, 1] == pytest.approx(error_correlation(errors).value[0, 1], abs=1e-6)


def test_two_that_cancel_have_no_exchangeable_number():
    result = effective_number([[1.0, -2.0], [-2.0, 4.0]])
    assert result.value == pytest.approx(10.0) and result.all["exchangeable"] == np.inf


def urn(m, p, rho):
    """Beta-binomial error by Polya's urn, multiplied out."""
    error = 0.0
    for right in range(m + 1):
        ways = 1.0
        for i in range(right):
            ways *= (p * (1 - rho) + i * rho) / ((1 - rho) + i * rho) * (m - i) / (i + 1)
        for i in range(m - right):
            ways *= ((1 - p) * (1 - rho) + i * rho) / ((1 - rho) + (right + i) * rho)
        error += ways * (1.0 if 2 * right < m else 0.5 if 2 * right == m else 0.0)
    return error


@pytest.mark.parametrize("rho", [0.0, 1e-300, 1e-15, 1e-12, 1e-8, 1e-3, 0.4, 0.999])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.72, 1.0])
def test_votes_of_barely_correlated_specialists(rho, p):
    for m in (1, 2, 11, 40):
        result = vote_error(p, n_specialists=m, rho=rho)
        assert result.value == pytest.approx(urn(m, p, rho), abs=1e-12)
    assert 0.0 <= result.parts["limit"] <= 1.0


def test_open_answers_with_codes_by_the_million():
    n, m = 300, 5
    truth = np.arange(n) * 10**9
    answers = np.where(rng(3).random((n, m)) < 0.5, truth[:, None], rng(4).integers(0, 3, (n, m)) + 7)
    prices = price(answers, y=truth, game="plurality", v0=1.0)
    full = np.mean([1.0 - vote_win(row, y) for row, y in zip(answers.tolist(), truth.tolist(), strict=True)])
    assert prices.total == pytest.approx(1.0 - full, abs=1e-12)
    small = np.unique(np.column_stack([truth, answers]), return_inverse=True)[1].reshape(n, m + 1)
    same = price(small[:, 1:], y=small[:, 0], game="plurality", v0=1.0)
    np.testing.assert_array_equal(prices.value, same.value)
    wide = error_agreement(answers, truth)
    dense = error_agreement(small[:, 1:], small[:, 0], n_options=int(answers.max()) + 1)
    for name in ("cohen", "same_wrong", "kappa"):
        np.testing.assert_allclose(getattr(wide, name), getattr(dense, name), rtol=1e-12)


def test_slices_of_one_table_are_not_taken_for_the_same_samples():
    table = pd.DataFrame({"score": np.arange(10.0)})
    with pytest.raises(PanelError, match="other samples"):
        stack_specialists({"a": table.iloc[:5], "b": table.iloc[5:]})
    words = pd.Series([1.0, 2.0], index=["x", "y"])
    panel = stack_specialists({"a": words, "b": pd.Series([3.0, 4.0]), "c": [5.0, 6.0]})
    assert panel.sample.values.tolist() == ["x", "y"] and panel.values[:, :, 0].tolist() == [
        [1, 3, 5],
        [2, 4, 6],
    ]


def test_bare_answers_beside_two_orders_are_refused():
    one, other = pd.Series([1.0, 2.0], index=["x", "y"]), pd.Series([2.0, 1.0], index=["y", "x"])
    assert stack_specialists([one, other]).values[:, :, 0].tolist() == [[1.0, 1.0], [2.0, 2.0]]
    with pytest.raises(PanelError, match="different orders"):
        stack_specialists({"a": one, "b": other, "c": [1.0, 2.0]})


HALF = np.full((2, 2, 2), 0.5)
PARTLY = HALF.copy()
PARTLY[0, 1, 0] = np.nan
TABLE = pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, 1.0]}, index=["x", "y"])
LABELLED = DataArray([[0, 1], [1, 1], [1, 0]], dims=("sample", "specialist"), coords={"sample": [7, 8, 9]})
NORMAL = rng(5).normal(size=(50, 2)) + 3.0


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: panel_errors([[0, -1]], [0], kind="zero_one", abstain="skip"), "abstain must be"),
        (lambda: panel_errors(2 * HALF, [0, 1], kind="probability"), "4 rows are no probabilities"),
        (lambda: as_labels([[np.inf, 0.0]]), "finite whole numbers"),
        (lambda: as_labels([[1e300, 0.0]]), "finite whole numbers"),
        (lambda: error_agreement(PARTLY, [0, 1]), "specialist '1' left out some outputs of sample 0"),
        (
            lambda: bhattacharyya(means=[[0, 0], [1, 1]], covariance=error_covariance(NORMAL)),
            "came as a second moment",
        ),
        (lambda: price(error_correlation(NORMAL), v0=1.0), "a correlation holds no loss"),
        (lambda: is_weighting_worth_it(error_covariance(NORMAL, shrink="identity")), "was shrunk"),
        (
            lambda: price([[1, 0, 3]], y=[0], game="plurality", v0="chance", n_options=2),
            "which has 2 options",
        ),
        (lambda: variance_curve([1.0, 2.0], [0.1, 0.2, 0.3], 5), "must broadcast"),
        (lambda: vote_error(0.7, n_specialists=2.5), "a whole number"),
        (lambda: correlated_panel(3, 2, scale=[1.0, 2.0, 3.0]), "one per specialist"),
        (lambda: price(np.eye(2), v0=1.0, rule="beta", beta=(np.inf, 1.0)), "positive finite"),
        (lambda: price([[0.0, 1.0], [1.0, 0.0]], v0=1.0), "given='errors'"),
        (lambda: error_correlation(NORMAL, groups=[None, "a"] * 25), "different kinds"),
        (lambda: error_correlation(NORMAL, ci=None), "ci is the level"),
        (
            lambda: price(HALF, y=[0, 1], fuse=lambda p: p.mean(1), loss="squared", v0="chance", n_options=2),
            "under loss='squared'",
        ),
        (lambda: certificate([0, 1], delta="a"), "delta is a probability"),
        (
            lambda: as_errors(DataArray(np.ones((6, 2, 3)), dims=("sample", "fold", "specialist"))),
            "one dim for samples",
        ),
        (lambda: as_errors(DataArray(np.ones((3, 2)), dims=("specialist", "output"))), "one dim for samples"),
        (lambda: as_panel(np.ma.masked_less([[1.0, -9.0]], 0.0)), "1 values are masked"),
        (lambda: panel_errors([[1.0, 0.0]], ["a"], kind="residual"), "y must hold numbers"),
        (lambda: panel_errors(TABLE, TABLE["a"].iloc[::-1], kind="residual"), "place 0: 'x' and 'y'"),
        (lambda: error_agreement(LABELLED, LABELLED[::-1, 0]), "label their samples differently"),
        (
            lambda: price(LABELLED, y=LABELLED[::-1, 0], game="plurality", v0=0.5),
            "label their samples differently",
        ),
        (lambda: bhattacharyya(confusion=[[0.9, 0.1], [0.2, 0.8]]), "holds shares"),
        (lambda: price([[0, 1]], y=[0], game="plurality", v0=0.5, loss="log"), "makes no use of loss="),
        (lambda: price(len, names="ab", v0=0.5, y=[1], groups=[1]), "makes no use of y=, groups="),
        (lambda: price(len, names="ab", v0=0.5, per_sample=True), "makes no use of per_sample="),
        (
            lambda: price(NORMAL, y=NORMAL[:, 0], fuse=np.mean, loss="squared", v0=1.0),
            "third axis for its outputs",
        ),
    ],
)
def test_refusals(call, text):
    with pytest.raises(PanelError, match=text):
        call()


def test_scaled_variances_are_said_to_be_so():
    assert "scaled to variance 1" in ensemble_variance(error_correlation(NORMAL)).warnings[0]
    assert variance_curve(1.0, [], 2).shape == (0,)
    assert error_covariance(NORMAL, shrink=np.float32(0.5)).shrinkage == 0.5


def test_an_estimated_mean_costs_the_weights_one_sample():
    errors = rng(6).normal(size=(12, 4)) * [1.0, 3.0, 5.0, 9.0]
    matrix = error_covariance(errors, kind="covariance")
    moved = [
        min_variance_weights(source, constraint="none", **terms).shrinkage
        for source, terms in (
            (errors, {"kind": "covariance"}),
            (matrix, {}),
            (matrix.value, {"kind": "covariance", "n": 12}),
            (matrix.value * 12 / 11, {"n": 11}),
        )
    ]
    np.testing.assert_allclose(moved, moved[0], rtol=1e-12)
    assert 0.0 < moved[0] < 1.0
    assert moved[0] != pytest.approx(
        min_variance_weights(matrix.value, constraint="none", n=12).shrinkage, rel=1e-3
    )


def test_a_minimum_of_zero_is_no_false_alarm():
    loadings = rng(7).normal(size=(60, 10))
    result = min_variance_weights(loadings @ loadings.T, shrink=None)
    assert result.variance < 1e-12 and result.warnings == ()


def test_shares_known_exactly_are_bounded_without_smoothing():
    result = bhattacharyya(
        confusion=[[0.9, 0.1], [0.2, 0.8]], smoothing=0.0, n_bootstrap=0, priors=[0.5, 0.5]
    )
    assert result.coefficient == pytest.approx(np.sqrt(0.18) + np.sqrt(0.08))


def test_labels_that_agree_or_are_made_up_pass():
    assert panel_errors(TABLE, TABLE["a"], kind="residual").tolist() == [[0.0, -1.0], [0.0, -1.0]]
    assert panel_errors(TABLE, pd.Series([1.0, 2.0]), kind="residual").tolist() == [[0.0, -1.0], [0.0, -1.0]]
    assert error_agreement(LABELLED, LABELLED[:, 0]).accuracy[0] == 1.0


def test_a_table_over_another_dim_is_no_matrix():
    table = DataArray(rng(8).normal(size=(3, 3)), dims=("time", "specialist"))
    np.testing.assert_array_equal(
        price(table, v0=1.0).value, price(table.values, v0=1.0, given="errors").value
    )
    matrix = error_covariance(NORMAL).to_xarray()["value"]
    np.testing.assert_allclose(price(matrix, v0=1.0).value, price(NORMAL, v0=1.0).value, rtol=1e-12)


def test_good_specialists_that_share_their_few_errors_are_no_clones():
    merged = 0
    for seed in range(100):
        drawn = difficulty_panel(100, 2, accuracy=0.97, rho=0.5, seed=seed)
        merged += len(find_clones((~drawn.correct).astype(float)).clusters)
    assert merged == 0
    copied = (rng(9).random((400, 1)) < 0.3).astype(float) @ np.ones((1, 2))
    assert len(find_clones(copied).clusters) == 1
    documents = np.arange(400) // 10
    assert find_clones(copied, groups=documents).clusters == ()
    assert find_clones(copied, groups=documents).lower[0, 1] == pytest.approx(0.025 ** (1 / 40), abs=0.005)
    # Equal real numbers are no accident, however few.
    real = rng(10).normal(size=(12, 1)) @ np.ones((1, 2))
    assert len(find_clones(real).clusters) == 1


@pytest.mark.parametrize("loss", ["zero_one", "brier", "log"])
def test_chance_is_what_a_uniform_guess_loses(loss):
    guess = np.full((3, 2, 4), 0.25)
    terms = {"y": [0, 1, 3], "fuse": lambda p: p.mean(axis=1), "loss": loss}
    assert price(guess, v0="chance", n_options=4, **terms).total == pytest.approx(0.0, abs=1e-15)
