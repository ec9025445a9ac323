"""Prices of the mean game: equal to enumeration over all coalitions, and the laws of semivalues."""

import numpy as np
import pytest
from enumeration import mean_game, semivalue
from hypothesis import given
from hypothesis import strategies as st
from xarray import DataArray

from theory import Baseline, PanelError, error_covariance, find_clones, price
from theory.pricing._semivalues import mean_game_law, size_law

RULES = [("shapley", None), ("banzhaf", None), ("leave_one_out", None), ("solo", None), ("beta", (2.0, 3.5))]
EXACT = {"rtol": 1e-12, "atol": 1e-13}


def draw(m, n=30, outputs=1, seed=0):
    rng = np.random.default_rng([seed, m])
    errors = rng.normal(size=(n, m, outputs)) * rng.uniform(0.5, 2, (m, 1)) + rng.normal(size=(n, 1, outputs))
    return errors + 0.3


@pytest.mark.parametrize("m", range(1, 11))
def test_equals_enumeration(m):
    errors = draw(m)
    matrix = error_covariance(errors)
    for quorum in {1, 2, m} - ({2} if m < 2 else set()):
        v = mean_game(errors, 1.7, quorum=quorum)
        for rule, beta in RULES:
            expected = semivalue(v, m, rule, beta)
            from_matrix = price(matrix, v0=1.7, rule=rule, beta=beta, quorum=quorum)
            from_errors = price(errors, v0=1.7, rule=rule, beta=beta, quorum=quorum, per_sample=True)
            for result in (from_matrix, from_errors):
                np.testing.assert_allclose(result.value, expected, **EXACT)
                np.testing.assert_allclose(sum(result.parts.values()), result.value, **EXACT)
                assert result.total == pytest.approx(1.7 - v[tuple(range(m))], rel=1e-12)
                assert result.residual == pytest.approx(result.total - expected.sum(), abs=1e-12)
                assert result.exact and result.n_evaluations == 0
            np.testing.assert_allclose(from_errors.per_sample.mean(axis=0), expected, **EXACT)


@pytest.mark.parametrize("m", [1, 2, 5, 8])
@pytest.mark.parametrize("c", [0.5, 1.0, 2.0])
def test_baseline_equals_enumeration(m, c):
    errors = draw(m, outputs=2)
    e0 = np.random.default_rng(7).normal(size=(len(errors), 2))
    v = mean_game(errors, None, baseline=(c, e0))
    cross, square = np.einsum("nio,no->i", errors, e0) / len(errors), float(np.mean((e0**2).sum(axis=1)))
    for rule, beta in RULES:
        expected = semivalue(v, m, rule, beta)
        for result in (
            price(errors, baseline=Baseline(c, errors=e0), rule=rule, beta=beta),
            price(
                error_covariance(errors),
                baseline=Baseline(c, cross=cross, second_moment=square),
                rule=rule,
                beta=beta,
            ),
        ):
            np.testing.assert_allclose(result.value, expected, **EXACT)
            np.testing.assert_allclose(sum(result.parts.values()), expected, **EXACT)
            assert result.total == pytest.approx(v[()] - v[tuple(range(m))], rel=1e-12)


def test_vector_outputs_and_dims():
    errors = draw(4, outputs=3)
    expected = semivalue(mean_game(errors, 2.0), 4, "shapley")
    names = ["a", "b", "c", "d"]
    array = DataArray(errors, dims=("sample", "specialist", "output"), coords={"specialist": names})
    result = price(array.transpose("output", "specialist", "sample"), v0=2.0)
    np.testing.assert_allclose(result.value, expected, **EXACT)
    assert result.names == tuple(names)
    dataset = result.to_xarray()
    assert dataset.value.dims == ("specialist",) and dataset.ci.dims == ("bound", "specialist")
    assert "a" in result.summary()


def test_missing_answers_are_null_players():
    rng = np.random.default_rng(3)
    errors = draw(5, n=12)[:, :, 0]
    errors[rng.random(errors.shape) < 0.4] = np.nan
    errors[3] = np.nan
    v0 = rng.uniform(1, 2, len(errors))
    for rule, beta in RULES:
        for quorum in (1, 2):
            expected = np.zeros((len(errors), 5))
            for t, row in enumerate(errors):
                here = np.flatnonzero(~np.isnan(row))
                if len(here):
                    v = mean_game(row[None, here, None], v0[t], quorum=quorum)
                    expected[t, here] = semivalue(v, len(here), rule, beta)
            result = price(
                errors, v0=v0, rule=rule, beta=beta, quorum=quorum, missing="abstain", per_sample=True
            )
            np.testing.assert_allclose(result.per_sample, expected, **EXACT)
            if rule == "shapley":
                assert abs(result.residual) < 1e-13


def test_missing_answers_beside_a_baseline():
    errors = np.array([[1.0, np.nan], [np.nan, np.nan], [0.5, -1.0]])
    e0 = np.array([2.0, 3.0, 0.5])
    result = price(errors, baseline=Baseline(1.0, errors=e0), missing="abstain", per_sample=True)
    np.testing.assert_allclose(result.per_sample[0], [4.0 - 2.25, 0.0])
    np.testing.assert_allclose(result.per_sample[1], [0.0, 0.0])
    assert abs(result.residual) < 1e-14


@given(
    st.integers(2, 12),
    st.integers(0, 10**6),
    st.sampled_from(RULES),
    st.floats(0.1, 10),
)
def test_laws_of_semivalues(m, seed, rule, scale):
    rule, beta = rule
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(20, m)) + rng.normal(size=(20, 1))
    errors[:, 1] = errors[:, 0]
    terms = {"rule": rule, "beta": beta}
    base = price(errors, v0=1.5, **terms)
    np.testing.assert_allclose(base.value[0], base.value[1], rtol=1e-11, atol=1e-12)  # symmetry
    order = rng.permutation(m)
    np.testing.assert_allclose(price(errors[:, order], v0=1.5, **terms).value, base.value[order], atol=1e-11)
    scaled = price(errors * scale, v0=1.5 * scale**2, **terms)
    np.testing.assert_allclose(scaled.value, base.value * scale**2, rtol=1e-10, atol=1e-10)
    other = rng.normal(size=(30, m))
    first, second = errors.T @ errors / 20, other.T @ other / 30
    summed = price(first + second, v0=2.5, **terms).value  # linearity in the matrix and v0
    np.testing.assert_allclose(
        summed, price(first, v0=1.5, **terms).value + price(second, v0=1.0, **terms).value, atol=1e-11
    )
    if rule == "shapley":
        assert abs(base.residual) < 1e-11 and base.total == pytest.approx(base.value.sum())


def test_beta_one_one_is_shapley_and_sizes_sum_to_one():
    errors = draw(7)
    np.testing.assert_allclose(
        price(errors, v0=1.0, rule="beta", beta=(1, 1)).value, price(errors, v0=1.0).value, **EXACT
    )
    for rule, beta in RULES:
        assert size_law(9, rule, beta).sum() == pytest.approx(1.0, abs=1e-12)


def test_bias_and_variance_add_up():
    errors = draw(6)[:, :, 0]
    covariance = error_covariance(errors, kind="covariance")
    bias = errors.mean(axis=0)
    parts = price(covariance, v0=2.0).value + price(np.outer(bias, bias), v0=0.0).value
    np.testing.assert_allclose(parts, price(errors, v0=2.0).value, **EXACT)
    assert "bias of the specialists is left out" in price(covariance, v0=2.0).warnings[0]


def test_quorum_and_baseline_tame_the_coalition_of_one():
    # Five specialists, rho .1, one with sd 2.5, v0 1.5.
    sd = np.array([1, 1, 1, 1, 2.5])
    matrix = (np.full((5, 5), 0.1) + 0.9 * np.eye(5)) * sd * sd[:, None]
    found = [price(matrix, v0=1.5, quorum=q).value[4] for q in (1, 2, 3)]
    np.testing.assert_allclose(found, [-1.34, -0.29, -0.014], atol=0.005)
    quiet = Baseline(1.0, cross=np.zeros(5), second_moment=1.5)
    assert price(matrix, baseline=quiet).value[4] == pytest.approx(-0.29, abs=0.005)


@pytest.mark.parametrize(
    ("m", "shapley", "with_baseline"), [(5, 0.56, 0.95), (10, 0.89, 1.62), (50, 1.77, 3.63)]
)
def test_exaggeration(m, shapley, with_baseline):
    assert mean_game_law(m, "shapley", None, 1, None).exaggeration == pytest.approx(shapley, abs=0.006)
    assert mean_game_law(m, "shapley", None, 1, 1.0).exaggeration == pytest.approx(with_baseline, abs=0.006)
    assert mean_game_law(m, "leave_one_out", None, 1, None).exaggeration == pytest.approx(m - 1)
    assert mean_game_law(m, "solo", None, 1, None).exaggeration == 0.0


def test_exaggeration_is_where_the_price_peaks():
    """The best shift of the last specialist's answer, found by search, is -kappa times the others' mean "
    "error."""
    others, truthful = np.array([0.5, 0.9, 1.3]), 0.0
    shifts = np.linspace(-6, 6, 24001)
    kappa = mean_game_law(4, "shapley", None, 1, None).exaggeration
    pay = [
        price(np.append(others, truthful + d)[None], v0=1.0, given="errors").value[3] for d in shifts[::40]
    ]
    best = shifts[::40][int(np.argmax(pay))]
    assert best == pytest.approx(-kappa * others.mean(), abs=0.02)


def test_standard_errors_are_those_of_the_per_sample_prices():
    errors = draw(6, n=5000)[:, :, 0]
    errors += 1000.0  # a shared offset must not eat the digits of the second sums
    result = price(errors, v0=1e6, per_sample=True)
    expected = result.per_sample.std(axis=0, ddof=1) / np.sqrt(5000)
    np.testing.assert_allclose(result.se, expected, rtol=1e-9)
    half = (result.ci[1] - result.ci[0]) / 2
    np.testing.assert_allclose(half, 1.959964 * result.se, rtol=1e-6)


def test_groups_widen_and_singletons_do_not():
    errors = draw(4, n=200)[:, :, 0]
    alone = price(errors, v0=1.0, groups=np.arange(200))
    np.testing.assert_allclose(alone.se, price(errors, v0=1.0).se, rtol=1e-12)
    doubled = np.repeat(errors, 2, axis=0)
    grouped = price(doubled, v0=1.0, groups=np.repeat(np.arange(200), 2))
    np.testing.assert_allclose(grouped.se, alone.se, rtol=5e-3)
    assert (price(doubled, v0=1.0).se < 0.8 * grouped.se).all()


def test_input_is_untouched_and_strides_do_not_matter():
    wide = draw(6, n=40)[:, :, 0]
    view = wide[::2, ::-1]
    view.flags.writeable = False
    before = wide.copy()
    np.testing.assert_allclose(price(view, v0=1.0).value, price(view.copy(), v0=1.0).value, **EXACT)
    np.testing.assert_array_equal(wide, before)
    single = price(view.astype(np.float32), v0=1.0)
    np.testing.assert_allclose(single.value, price(view, v0=1.0).value, rtol=1e-5, atol=1e-6)
    assert single.value.dtype == np.float64


@pytest.mark.parametrize("split", ["equal", "euler", "first"])
def test_quotient_prices(split):
    errors = draw(5)[:, :, 0]
    codes = np.array([0, 1, 0, 2, 1])
    means = np.stack([errors[:, codes == k].mean(axis=1) for k in range(3)], axis=1)
    outer = price(means, v0=2.0)
    inner = price(errors, v0=2.0, clusters=codes, split=split)
    from_matrix = price(error_covariance(errors), v0=2.0, clusters=codes, split=split)
    np.testing.assert_allclose(inner.value, from_matrix.value, **EXACT)
    np.testing.assert_allclose(np.bincount(codes, inner.value), outer.value, **EXACT)
    assert abs(inner.residual) < 1e-12 and inner.se is not None
    if split == "first":
        assert inner.value[2] == 0.0 and inner.value[4] == 0.0
    if split == "euler":
        assert not np.allclose(inner.value[0], inner.value[2])


def test_copying_pays_without_clusters_and_does_not_with_them():
    # Five specialists, rho .3, v0 1.5; the first adds 0, 1 or 3 copies of itself.
    base = np.full((5, 5), 0.3) + 0.7 * np.eye(5)
    for extra, pay, loss in ((0, 0.212, 0.440), (1, 0.272, None), (3, 0.274, 0.519)):
        who = np.array([0] * (1 + extra) + [1, 2, 3, 4])
        copied = base[np.ix_(who, who)]
        plain = price(copied, v0=1.5)
        assert plain.value[: 1 + extra].sum() == pytest.approx(pay, abs=5e-4)
        if loss is not None:
            assert 1.5 - plain.total == pytest.approx(loss, abs=5e-4)
        quotient = price(copied, v0=1.5, clusters=who)
        assert quotient.value[: 1 + extra].sum() == pytest.approx(0.212, abs=1e-12)
        assert price(copied, v0=1.5, clusters=who, split="first").value[0] == pytest.approx(0.212, abs=1e-12)


def test_find_clones():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(400, 5))
    errors[:, 3] = errors[:, 1]
    errors[:, 4] = errors[:, 1] + 0.1 * rng.normal(size=400)
    array = DataArray(errors, dims=("sample", "specialist"), coords={"specialist": list("abcde")})
    found = find_clones(array)
    assert found.clusters == (("b", "d", "e"),)
    assert found.labels.tolist() == [0, 1, 2, 1, 1]
    assert find_clones(array, threshold=0.9999).clusters == (("b", "d"),)
    assert "b, d, e" in found.summary()
    shared = price(array, v0=1.0, clusters=found)
    np.testing.assert_allclose(shared.value[1], shared.value[3], **EXACT)
    assert found.to_xarray().correlation.dims == ("specialist", "specialist_")


def test_clones_chain_by_single_linkage_and_constants_stay_alone():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 3000))
    errors = np.stack([a, a + 0.4 * b, a + 0.8 * b, np.zeros(3000), np.zeros(3000)], axis=1)
    found = find_clones(errors, threshold=0.88)
    assert found.clusters == (("0", "1", "2"),) and found.correlation[0, 2] < 0.88
    assert "never vary" in found.warnings[0]


@pytest.mark.parametrize(
    ("source", "terms", "text"),
    [
        (np.eye(2), {}, "give v0, the loss of the empty panel"),
        (
            np.array([[1.0, np.nan]]),
            {"v0": 1},
            "errors hold 1 non-finite values .first: sample 0, specialist '1'",
        ),
        (np.array([[1.0, np.inf]]), {"v0": 1, "missing": "abstain"}, "inf never"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), {"v0": 1}, "smallest eigenvalue is -1"),
        (np.array([[1.0, 0.5], [0.1, 1.0]]), {"v0": 1}, "given='errors'"),
        (np.array([[1.0, 0.5], [0.1, 1.0]]), {"v0": 1, "given": "matrix"}, "not symmetric.*by up to 0.4"),
        (np.eye(3), {"v0": 1, "quorum": 4}, "Lower it to at most 3"),
        (np.eye(3), {"v0": 1, "quorum": 0}, "at least 1"),
        (np.eye(2), {"quorum": 2, "baseline": Baseline(1.0, cross=[0, 0], second_moment=1)}, "Leave one of"),
        (np.eye(2), {"v0": 1, "baseline": Baseline(1.0, cross=[0, 0], second_moment=1)}, "leave v0 out"),
        (np.eye(2), {"baseline": Baseline(1.0)}, "needs cross="),
        (np.eye(2), {"baseline": Baseline(-1.0, cross=[0, 0], second_moment=1)}, "weight > 0"),
        (np.ones((4, 2)), {"baseline": Baseline(1.0)}, "errors= .sample,."),
        (np.eye(2), {"v0": 1, "rule": "myerson"}, "rule must be one of"),
        (np.eye(2), {"v0": 1, "rule": "beta"}, "needs beta="),
        (np.eye(2), {"v0": 1, "beta": (1, 1)}, "the other rules none"),
        (np.eye(2), {"v0": 1, "per_sample": True}, "Give errors"),
        (np.eye(2), {"v0": [1.0, 2.0]}, "one finite number"),
        (np.ones((4, 2)), {"v0": [1.0, 2.0]}, "one per sample .4."),
        (np.eye(2), {"v0": 1, "y": [0, 1]}, "panel_errors"),
        (np.eye(2), {"v0": 1, "clusters": [0, 1, 2]}, "one label per specialist .2."),
        (np.eye(2), {"v0": 1, "clusters": [0, 1], "split": "all"}, "split must be one of"),
        (np.eye(2), {"v0": 1, "names": ["a"]}, "one per specialist .2."),
        (np.eye(2), {"v0": 1, "ci": 95}, "between 0 and 1"),
        (np.eye(2), {"v0": 1, "game": "chess"}, "game must be one of"),
        (np.ones((4, 2)), {"v0": 1, "groups": [0, 0, 0, 0]}, "one group only"),
    ],
)
def test_bad_input(source, terms, text):
    with pytest.raises(PanelError, match=text):
        price(source, **terms)


def test_fitted_errors_cannot_be_told_so_a_reminder_is_given():
    errors = draw(3)
    assert "cross_fitted=True" in price(errors, v0=1.0).warnings[0]
    assert price(errors, v0=1.0, cross_fitted=True).warnings == ()
