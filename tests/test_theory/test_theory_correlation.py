"""Error moments, shrinkage and intervals against loops, scikit-learn and each other."""

import numpy as np
import pytest
from enumeration import constant_correlation_loop, correlation_loop
from hypothesis import given
from hypothesis import strategies as st
from xarray import DataArray

from theory import PanelError, correlated_panel, effective_number, error_correlation, error_covariance
from theory._influence import _by_blocks

EXACT = {"rtol": 1e-12, "atol": 1e-13}


def draw(m=4, n=60, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_t(6, size=(n, m)) * rng.uniform(0.5, 2, m) + rng.normal(size=(n, 1)) + 0.2


def test_moments():
    errors = draw()
    second = error_covariance(errors)
    np.testing.assert_allclose(second.value, errors.T @ errors / 60, **EXACT)
    covariance = error_covariance(errors, kind="covariance")
    np.testing.assert_allclose(covariance.value, np.cov(errors.T, bias=True), **EXACT)
    np.testing.assert_allclose(
        second.value - covariance.value, np.outer(covariance.mean, covariance.mean), **EXACT
    )
    products = np.einsum("ni,nj->nij", errors, errors)
    np.testing.assert_allclose(second.se, products.std(axis=0) / np.sqrt(60), rtol=1e-10)


def test_correlation_equals_the_loop():
    errors = draw()
    r, se = correlation_loop(errors)
    result = error_correlation(errors)
    np.testing.assert_allclose(result.value, r, **EXACT)
    np.testing.assert_allclose(
        result.se, se, rtol=1e-10, atol=1e-8
    )  # 0 on the diagonal, up to sqrt of rounding
    off = np.triu_indices(4, 1)
    ends = np.tanh(
        np.arctanh(r[off]) + np.array([[-1], [1]]) * 1.959963984540054 * se[off] / (1 - r[off] ** 2)
    )
    np.testing.assert_allclose(result.ci[:, *off], ends, rtol=1e-10)
    assert result.rho_mean == pytest.approx(r[off].mean(), rel=1e-12)
    covariance = np.cov(errors.T, bias=True)
    assert result.rho_pooled == pytest.approx(
        covariance[off].mean() / covariance.diagonal().mean(), rel=1e-12
    )


@pytest.mark.parametrize("outputs", [1, 3])
def test_standard_errors_of_means_are_those_of_the_jackknife(outputs):
    drawn = correlated_panel(400, 5, rho=0.4, scale=[1, 1, 2, 1, 0.5], n_outputs=outputs, seed=0).errors
    result = error_correlation(drawn)
    left_out = [error_correlation(np.delete(drawn, t, axis=0)) for t in range(400)]
    for name in ("rho_mean", "rho_pooled"):
        values = np.array([getattr(one, name) for one in left_out])
        jackknife = np.sqrt(399 / 400 * ((values - values.mean()) ** 2).sum())
        assert getattr(result, f"{name}_se") == pytest.approx(jackknife, rel=0.03)
    pairs = np.array([one.value[0, 2] for one in left_out])
    assert result.se[0, 2] == pytest.approx(
        np.sqrt(399 / 400 * ((pairs - pairs.mean()) ** 2).sum()), rel=0.03
    )
    numbers = np.array([effective_number(np.delete(drawn, t, axis=0)).value for t in range(400)])
    jackknife = np.sqrt(399 / 400 * ((numbers - numbers.mean()) ** 2).sum())
    assert effective_number(drawn).se == pytest.approx(jackknife, rel=0.03)


@pytest.mark.parametrize("seed", range(5))
def test_constant_correlation_equals_the_loop(seed):
    errors = draw(5, 12, seed)
    value, amount = constant_correlation_loop(errors)
    result = error_covariance(errors, shrink="constant_correlation")
    assert result.shrinkage == pytest.approx(amount, rel=1e-10, abs=1e-13)
    np.testing.assert_allclose(result.value, value, rtol=1e-10)


def test_other_targets_equal_scikit_learn():
    from sklearn.covariance import ledoit_wolf, oas

    errors = draw(6, 25)
    for name, peer in (("identity", ledoit_wolf), ("oas", oas)):
        value, amount = peer(errors, assume_centered=True)
        result = error_covariance(errors, shrink=name)
        np.testing.assert_allclose(result.value, value, rtol=1e-12)
        assert result.shrinkage == pytest.approx(amount, rel=1e-12)


def test_shrinkage_of_vector_errors_is_that_of_a_loop_over_samples():
    errors = correlated_panel(30, 4, rho=0.3, scale=[1, 2, 1, 0.5], n_outputs=2, seed=1).errors
    products = np.einsum("nio,njo->nij", errors, errors)
    s = products.mean(axis=0)
    result = error_covariance(errors, shrink="identity")
    target = np.eye(4) * np.trace(s) / 4
    noise = ((products - s) ** 2).sum() / 30**2 / 4
    spread = ((s - target) ** 2).sum() / 4
    assert result.shrinkage == pytest.approx(min(noise, spread) / spread, rel=1e-10)
    mixed = errors.copy()
    mixed[:, 0] += 2 * mixed[:, 1]
    s = np.einsum("nio,njo->ij", mixed, mixed) / 30
    constant = error_covariance(mixed, shrink="constant_correlation")
    assert 0 < constant.shrinkage < 1
    np.testing.assert_allclose(constant.value.diagonal(), s.diagonal(), **EXACT)


def test_shrinkage_at_the_edges():
    two = error_covariance(draw(2), shrink="constant_correlation")
    assert two.shrinkage == 0.0
    np.testing.assert_allclose(two.value, error_covariance(draw(2)).value, **EXACT)
    full = error_correlation(draw(4), shrink=1.0)
    off = np.triu_indices(4, 1)
    assert np.ptp(full.value[off]) < 1e-12
    raw = error_correlation(draw(4))
    np.testing.assert_array_equal(full.ci, raw.ci)  # intervals describe the unshrunken estimate
    half = error_covariance(draw(4), shrink=0.5).value
    ends = [error_covariance(draw(4), shrink=share).value for share in (0.0, 1.0)]
    np.testing.assert_allclose(half, np.mean(ends, axis=0), **EXACT)


def test_shrinkage_ranks_as_measured():
    """M = 50, n = 60, rho .4: constant correlation beats OAS beats none, for inverse-covariance fusion."""
    truth = np.full((50, 50), 0.4) + 0.6 * np.eye(50)
    scale = np.linspace(0.7, 1.3, 50)
    truth = truth * scale * scale[:, None]
    loss = {None: 0.0, "oas": 0.0, "constant_correlation": 0.0}
    for seed in range(10):
        errors = correlated_panel(60, 50, rho=0.4, scale=scale, seed=seed).errors
        for shrink in loss:
            w = np.linalg.solve(error_covariance(errors, shrink=shrink).value, np.ones(50))
            w /= w.sum()
            loss[shrink] += w @ truth @ w
    assert loss["constant_correlation"] < loss["oas"] < loss[None]


def test_missing_answers_use_pairwise_counts():
    rng = np.random.default_rng(0)
    errors = draw(4, 80)
    errors[rng.random(errors.shape) < 0.25] = np.nan
    result = error_correlation(errors, missing="abstain")
    seen = ~np.isnan(errors)
    np.testing.assert_array_equal(result.n_pair, seen.T.astype(int) @ seen)
    mean = np.nanmean(errors, axis=0)
    var = np.nanmean((errors - mean) ** 2, axis=0)
    both = seen[:, 0] & seen[:, 2]
    expected = np.mean((errors[both, 0] - mean[0]) * (errors[both, 2] - mean[2])) / np.sqrt(var[0] * var[2])
    assert result.value[0, 2] == pytest.approx(expected, rel=1e-12)
    assert "missing" in result.warnings[0]
    complete = error_correlation(errors, missing="complete")
    whole = seen.all(axis=1)
    np.testing.assert_allclose(complete.value, np.corrcoef(errors[whole].T), **EXACT)
    assert complete.n == whole.sum() and "left out" in complete.warnings[0]


def test_block_route_equals_products_also_with_gaps():
    from theory._checks import read_errors
    from theory._influence import _by_products
    from theory._moments import moments_of, standardise

    rng = np.random.default_rng(5)
    errors = draw(5, 90)
    for gaps in (False, True):
        if gaps:
            errors[rng.random(errors.shape) < 0.3] = np.nan
        table = read_errors(errors, missing="abstain")
        moments = moments_of(table, None, center=True)
        z = moments.centred / np.sqrt(moments.matrix.diagonal())[None, :, None]
        r = standardise(moments.matrix)
        blocks = _by_blocks(z, r, table.answered, None, None)
        np.testing.assert_allclose(blocks, _by_products(z[:, :, 0], r, table.answered), rtol=1e-9, atol=1e-8)


def test_indefinite_pairwise_matrix_is_repaired():
    errors = np.full((30, 3), np.nan)
    rng = np.random.default_rng(0)
    for rows, (i, j), sign in (
        (slice(0, 10), (0, 1), 1),
        (slice(10, 20), (1, 2), 1),
        (slice(20, 30), (0, 2), -1),
    ):
        shared = rng.normal(size=10)
        errors[rows, i], errors[rows, j] = shared, sign * shared + 0.01 * rng.normal(size=10)
    result = error_covariance(errors, missing="abstain")
    assert np.linalg.eigvalsh(result.value)[0] > -1e-10
    np.testing.assert_allclose(result.value.diagonal(), np.nanmean(errors**2, axis=0), rtol=1e-12)
    assert any("smallest eigenvalue" in warning for warning in result.warnings)


def test_zero_variance_is_nan_and_named():
    errors = draw(3)
    errors[:, 1] = 0.1
    array = DataArray(errors, dims=("sample", "specialist"), coords={"specialist": ["a", "b", "c"]})
    result = error_correlation(array)
    assert np.isnan(result.value[1]).all() and np.isnan(result.ci[:, 1]).all()
    assert result.rho_mean == pytest.approx(result.value[0, 2])
    assert result.rho_mean_se == pytest.approx(result.se[0, 2], rel=1e-10)
    assert "'b' never vary" in result.warnings[0]


def test_weights_count_samples():
    errors = draw(3, 20)
    weight = np.random.default_rng(0).integers(0, 4, 20)
    repeated = np.repeat(errors, weight, axis=0)
    for estimate in (error_covariance, error_correlation):
        np.testing.assert_allclose(
            estimate(errors, sample_weight=weight).value, estimate(repeated).value, **EXACT
        )
    result = error_correlation(errors, sample_weight=weight)
    assert result.n_effective == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert (result.se[0, 1] > error_correlation(repeated).se[0, 1]).all()


def test_groups():
    errors = draw(4, 100)
    alone = error_correlation(errors)
    singles = error_correlation(errors, groups=np.arange(100))
    np.testing.assert_allclose(singles.se, alone.se * np.sqrt(100 / 99), rtol=1e-6, atol=1e-8)
    repeated = error_correlation(np.repeat(errors, 3, axis=0), groups=np.repeat(np.arange(100), 3))
    np.testing.assert_allclose(repeated.se, singles.se, rtol=1e-6, atol=1e-8)
    assert repeated.rho_mean_se == pytest.approx(singles.rho_mean_se, rel=1e-10)


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_scale_shift_and_order_do_not_matter(m, seed):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(30, m)) + rng.normal(size=(30, 1))
    base = error_correlation(errors)
    moved = error_correlation(errors * rng.uniform(0.1, 10, m) + rng.normal(size=m))
    np.testing.assert_allclose(moved.value, base.value, atol=1e-10)
    np.testing.assert_allclose(moved.se, base.se, atol=1e-7)
    order = rng.permutation(m)
    turned = error_correlation(errors[:, order])
    np.testing.assert_allclose(turned.value, base.value[np.ix_(order, order)], atol=1e-12)
    assert turned.rho_mean_se == pytest.approx(base.rho_mean_se, rel=1e-9)
    assert ((base.ci[0] <= base.value + 1e-12) & (base.value <= base.ci[1] + 1e-12)).all()


def test_dims_names_and_dtypes():
    errors = draw(3).astype(np.float32)
    errors.flags.writeable = False
    array = DataArray(errors.T, dims=("specialist", "sample"), coords={"specialist": list("abc")})
    result = error_correlation(array)
    np.testing.assert_array_equal(result.value, error_correlation(errors).value)
    assert result.value.dtype == np.float64 and result.names == ("a", "b", "c")
    dataset = result.to_xarray()
    assert dataset.value.dims == ("specialist", "specialist_")
    assert dataset.ci.dims == ("bound", "specialist", "specialist_")
    assert dataset.value.sel(specialist="a", specialist_="c").item() == result.value[0, 2]
    assert "mean correlation" in result.summary()


def test_two_specialists_two_by_two_interval_keeps_its_dims():
    dataset = error_correlation(draw(2)).to_xarray()
    assert dataset.ci.dims == ("bound", "specialist", "specialist_")


@pytest.mark.parametrize(
    ("errors", "terms", "text"),
    [
        ([[1.0, np.nan], [1, 2], [3, 4]], {}, "missing='abstain' accepts NaN"),
        ([[1.0, np.inf], [1, 2], [3, 4]], {"missing": "abstain"}, "inf never"),
        ([[1.0, 2.0]], {}, "at least"),
        ([[1.0, np.nan]] * 5, {"missing": "complete"}, "missing='abstain' to keep"),
        (
            [[1.0, np.nan], [np.nan, 1.0], [1, np.nan], [2, np.nan]],
            {"missing": "abstain"},
            "share 0 answered",
        ),
        ([[1.0, 2.0]] * 3, {"shrink": "ridge"}, "shrink must be None"),
        ([[1.0, 2.0]] * 3, {"shrink": 1.5}, "between 0 and 1"),
        ([[1.0, 2.0]] * 3, {"sample_weight": [1, 1]}, "3 finite numbers"),
        ([[1.0, 2.0]] * 3, {"sample_weight": [1, -1, 1]}, ">= 0"),
        ([[1.0, 2.0]] * 3, {"missing": "drop"}, "missing must be one of"),
        ([1.0, 2.0], {}, "errors need the axes"),
    ],
)
def test_bad_input(errors, terms, text):
    for estimate in (error_covariance, error_correlation):
        with pytest.raises(PanelError, match=text):
            estimate(errors, **terms)


def test_bad_options():
    with pytest.raises(PanelError, match="kind must be one of"):
        error_covariance([[1.0], [2.0]], kind="correlation")
    with pytest.raises(PanelError, match="level of the interval"):
        error_correlation(draw(), ci=1.0)
    with pytest.raises(PanelError, match="one label per sample"):
        error_correlation(draw(), groups=[1, 2])


def test_outliers_that_overflow_are_refused():
    errors = draw()
    errors[3, 1] = -2e199
    for call in (error_correlation, error_covariance, effective_number):
        with pytest.raises(PanelError, match=r"errors reach 2e\+199"):
            call(errors)


def test_ragged_rows_are_refused():
    with pytest.raises(PanelError):
        effective_number([[1.0, 2.0], [1.0]])


def test_one_specialist():
    result = error_correlation(draw(1))
    assert np.isnan(result.rho_mean) and result.value.tolist() == [[1.0]]
    assert "no pair" in result.warnings[-1]


def test_a_long_table_is_summed_block_by_block():
    rng = np.random.default_rng(7)
    errors, weight = rng.normal(size=(60_000, 6, 3)) + 1.0, rng.uniform(0.5, 2.0, size=60_000)
    weight /= weight.mean()
    for w in (None, weight):
        share = np.ones(60_000) if w is None else w
        expected = np.einsum("n,nio,njo->ij", share, errors, errors) / 60_000
        found = error_covariance(errors, sample_weight=w)
        np.testing.assert_allclose(found.value, expected, rtol=1e-12)
        u = np.einsum("nio,njo->nij", errors, errors)
        variance = np.einsum("n,nij->ij", share, u**2) / 60_000 - expected**2
        np.testing.assert_allclose(found.se, np.sqrt(variance / found.n_effective), rtol=1e-9)
