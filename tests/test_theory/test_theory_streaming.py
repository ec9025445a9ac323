"""Streams: what batches leave behind equals what all samples say."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory import PanelError, StreamingErrors, error_correlation, error_covariance, price

REL = {"rtol": 1e-11, "atol": 1e-12}


def fed(errors, cuts, **params):
    stream = StreamingErrors(**params)
    for batch in np.split(errors, cuts):
        if len(batch):
            stream.partial_fit(batch)
    return stream


@given(st.integers(1, 6), st.integers(1, 3), st.lists(st.integers(1, 39), max_size=4), st.integers(0, 10**6))
def test_batches_equal_the_whole(m, outputs, cuts, seed):
    rng = np.random.default_rng(seed)
    errors = rng.normal(size=(40, m, outputs)) * rng.uniform(0.1, 3, (m, 1)) + rng.normal(size=(1, m, 1))
    stream = fed(errors, sorted(cuts))
    for kind in ("second_moment", "covariance"):
        ours, whole = stream.covariance(kind=kind), error_covariance(errors, kind=kind)
        np.testing.assert_allclose(ours.value, whole.value, **REL)
        np.testing.assert_allclose(ours.mean, whole.mean, **REL)
        oas = error_covariance(errors, kind=kind, shrink="oas")
        np.testing.assert_allclose(stream.covariance(kind=kind, shrink="oas").value, oas.value, **REL)
    for options in ({}, {"rule": "banzhaf"}, {"rule": "beta", "beta": (4.0, 1.0)}, {"quorum": m}):
        ours, whole = stream.price(v0=2.0, **options), price(errors, v0=2.0, **options)
        np.testing.assert_allclose(ours.value, whole.value, **REL)
        np.testing.assert_allclose(ours.se, whole.se, rtol=1e-8, atol=1e-12)
        assert ours.total == pytest.approx(whole.total, abs=1e-11)
        assert ours.exaggeration == pytest.approx(whole.exaggeration, nan_ok=True)


@given(st.integers(1, 59), st.integers(1, 59), st.integers(0, 10**6))
def test_merge_equals_batch(a, b, seed):
    errors = np.random.default_rng(seed).normal(size=(60, 4)) + 5.0
    first, last = sorted((a, b))
    parts = [fed(part, []) for part in np.split(errors, [first, last]) if len(part)]
    merged = parts[0]
    for part in parts[1:]:
        before = merged.price(v0=1.0).value
        joined = merged.merge(part)
        np.testing.assert_array_equal(merged.price(v0=1.0).value, before)
        merged = joined
    assert merged.n_samples == 60
    np.testing.assert_allclose(merged.covariance().value, errors.T @ errors / 60, **REL)
    whole = price(errors, v0=1.0)
    np.testing.assert_allclose(merged.price(v0=1.0).value, whole.value, **REL)
    np.testing.assert_allclose(merged.price(v0=1.0).se, whole.se, rtol=1e-8)


def test_decay_is_the_recursion():
    errors = np.random.default_rng(0).normal(size=(300, 3)) + 0.5
    lam = 2 ** (-1 / 20.0)
    moment, weight = np.zeros((3, 3)), 0.0
    for e in errors:
        moment = lam * moment + np.outer(e, e)
        weight = lam * weight + 1.0
    stream = fed(errors, [7, 50, 51], halflife=20.0)
    np.testing.assert_allclose(stream.covariance().value, moment / weight, **REL)
    assert stream.n_effective == pytest.approx((1 + lam) / (1 - lam), rel=1e-3)
    batch = error_covariance(errors, halflife=20.0)
    np.testing.assert_allclose(batch.value, moment / weight, **REL)
    assert batch.n_effective == pytest.approx(stream.n_effective, rel=1e-10)
    weights = lam ** np.arange(299, -1, -1)
    np.testing.assert_allclose(
        error_correlation(errors, halflife=20.0).se, error_correlation(errors, sample_weight=weights).se
    )


def test_decay_forgets_an_old_regime():
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(2000, 3))
    errors[:1000, 0] *= 5
    assert fed(errors, [1000]).covariance().value[0, 0] > 10
    assert fed(errors, [1000], halflife=50).covariance().value[0, 0] < 2


def test_prices_without_the_matrix_and_with_v0_by_sample():
    rng = np.random.default_rng(0)
    errors, loss0 = rng.normal(size=(500, 5)), rng.normal(size=500) ** 2
    stream = StreamingErrors(matrix=False)
    for rows in np.array_split(np.arange(500), 3):
        stream.partial_fit(errors[rows], v0=loss0[rows])
    whole = price(errors, v0=loss0)
    np.testing.assert_allclose(stream.price().value, whole.value, **REL)
    np.testing.assert_allclose(stream.price().se, whole.se, rtol=1e-9)
    with pytest.raises(PanelError, match="matrix was not kept"):
        stream.covariance()
    with pytest.raises(PanelError, match="leave v0 out"):
        stream.price(v0=1.0)
    with pytest.raises(PanelError, match="either every batch"):
        stream.partial_fit(errors)


def test_memory_stays_linear_in_the_panel():
    errors = np.random.default_rng(0).normal(size=(5000, 200))
    stream = StreamingErrors(matrix=False).partial_fit(errors)
    assert len(pickle.dumps(stream)) < 8 * 200 * 40
    again = pickle.loads(pickle.dumps(stream)).partial_fit(errors)
    assert again.n_samples == 10_000 and stream.n_samples == 5000


def test_a_large_shared_offset_does_not_cancel():
    errors = np.random.default_rng(0).normal(size=(1000, 3))
    shifted = fed(errors + 1e6, [10, 300]).covariance(kind="covariance").value
    np.testing.assert_allclose(shifted, error_covariance(errors, kind="covariance").value, rtol=1e-8)


def test_refusals():
    stream = StreamingErrors()
    with pytest.raises(PanelError, match="seen no sample"):
        stream.price(v0=1.0)
    assert stream.n_samples == 0 and stream.n_effective == 0.0
    with pytest.raises(PanelError, match="complete samples; 1 of 2"):
        stream.partial_fit([[1.0, np.nan], [1.0, 2.0]])
    stream.partial_fit([[1.0, 2.0]])
    with pytest.raises(PanelError, match="Start a new stream"):
        stream.partial_fit([[1.0, 2.0, 3.0]])
    with pytest.raises(PanelError, match="give v0"):
        stream.price()
    with pytest.raises(PanelError, match="needs the samples"):
        stream.covariance(shrink="constant_correlation")
    with pytest.raises(PanelError, match="streams differ"):
        stream.merge(StreamingErrors(halflife=3))
    with pytest.raises(PanelError, match="halflife is a number"):
        StreamingErrors(halflife=0).partial_fit([[1.0]])
    with pytest.raises(PanelError, match="halflife is a number"):
        error_covariance([[1.0], [2.0]], halflife=-1)
    assert stream.price(v0=1.0).se is None and stream.merge(StreamingErrors()).n_samples == 1
