"""Attacks say what their papers say, and nothing else happens."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from fusion.attacks import (
    a_little_is_enough,
    attack_names,
    colluders,
    constant,
    gaussian,
    get_attack,
    infinite,
    inner_product,
    label_permutation,
    mimic,
    nan_fault,
    runner_up,
    sign_flip,
)
from theory import PanelError

HONEST = np.random.default_rng(0).normal(size=(3, 6, 4))


@pytest.mark.parametrize("name", attack_names())
def test_shapes_dtypes_and_no_side_effects(name):
    attack = get_attack(name)
    for dtype in (np.float32, np.float64):
        honest = HONEST.astype(dtype)
        honest.flags.writeable = False
        for count in (0, 1, 3):
            lies = attack(honest, count, rng=np.random.default_rng(1))
            assert lies.shape == (3, count, 4)
            assert lies.dtype == dtype
        again = attack(honest, 3, rng=np.random.default_rng(1))
        np.testing.assert_array_equal(again, lies)
        assert attack(honest[0], 2, rng=np.random.default_rng(1)).shape == (2, 4)
    assert attack(np.ones((5, 1), dtype=int), 1, rng=np.random.default_rng(1)).dtype == np.float64
    with pytest.raises(PanelError, match="honest rows have shape"):
        attack(np.ones(3), 1, rng=np.random.default_rng(1))
    with pytest.raises(PanelError, match="n_byzantine is the number of lies"):
        attack(honest, -1, rng=np.random.default_rng(1))


def test_what_they_say():
    mu, sigma = HONEST.mean(axis=1), HONEST.std(axis=1)
    for lie, expected in (
        (sign_flip(HONEST, 2), -mu),
        (inner_product(HONEST, 2, tau=0.3), -0.3 * mu),
        (a_little_is_enough(HONEST, 2, z=1.5, sign=-1), mu - 1.5 * sigma),
        (a_little_is_enough(HONEST, 2, z=1.0, ddof=1), mu + HONEST.std(axis=1, ddof=1)),
        (colluders(HONEST, 2), mu + 1.5 * sigma),
        (mimic(HONEST, 2, target=3), HONEST[:, 3]),
        (constant(HONEST, 2, value=[1, 2, 3, 4]), np.tile([1.0, 2, 3, 4], (3, 1))),
        (label_permutation(HONEST, 2), np.roll(mu, 1, axis=1)),
        (infinite(HONEST, 2, sign=-1), np.full((3, 4), -np.inf)),
    ):
        np.testing.assert_allclose(lie, np.repeat(expected[:, None], 2, axis=1))


def test_a_little_is_enough_takes_the_papers_quantile():
    # n = 8, f = 2: s = 3 supporters; N = 6.
    for count, share in (("baruch", 3 / 6), ("all", 5 / 8)):
        z = max(0.0, NormalDist().inv_cdf(share))
        expected = HONEST.mean(axis=1) + z * HONEST.std(axis=1)
        np.testing.assert_allclose(a_little_is_enough(HONEST, 2, count=count)[:, 0], expected)


def test_runner_up_and_crashes():
    shares = np.array([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.6, 0.2, 0.2]])
    np.testing.assert_array_equal(runner_up(shares, 1), [[0, 1, 0]])
    np.testing.assert_allclose(runner_up([[0.9], [0.7]], 1), [[0.2]])
    assert np.isnan(nan_fault(HONEST, 2)).all()
    one = nan_fault(HONEST, 2, cells="one")
    assert np.isnan(one[..., 0]).all()
    assert np.isfinite(one[..., 1:]).all()


def test_gaussian_is_about_the_honest_rows():
    noise = gaussian(HONEST, 20_000, rng=np.random.default_rng(2), scale=2.0)
    np.testing.assert_allclose(noise.mean(axis=1), HONEST.mean(axis=1), atol=0.1)
    np.testing.assert_allclose(noise.std(axis=1), 2 * HONEST.std(axis=1), rtol=0.03)
    with pytest.raises(PanelError, match=r"draws at random.*default_rng"):
        gaussian(HONEST, 1)


def test_bad_parameters():
    with pytest.raises(PanelError, match="none of the 6 honest specialists"):
        mimic(HONEST, 1, target=6)
    with pytest.raises(PanelError, match="one per output"):
        constant(HONEST, 1, value=[1, 2])
    with pytest.raises(PanelError, match="ddof=6 needs"):
        a_little_is_enough(HONEST, 1, z=1.0, ddof=6)
    with pytest.raises(PanelError, match="cells must be one of"):
        nan_fault(HONEST, 1, cells="all")
    with pytest.raises(PanelError, match="there is no attack 'lie'"):
        get_attack("lie")
