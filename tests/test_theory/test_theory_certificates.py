"""Certificates: the numbers of the design, monotony, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from theory import PanelError, certificate
from theory.bounds.certificates import _kl, _kl_inverse


def difficult(n, m, accuracy, rho, seed):
    rng = np.random.default_rng(seed)
    size = (1 - rho) / rho
    easy = rng.beta(accuracy * size, (1 - accuracy) * size, n)
    return (rng.random((n, m)) >= easy[:, None]).astype(int)


def test_the_fixed_rule_against_the_moments():
    """n = 5000, accuracy .9, rho .1, M = 25: .9 % against 12.6 % and 23.6 %, up to the draw."""
    table = difficult(5000, 25, 0.9, 0.1, 0)
    voted = certificate((table.sum(axis=1) > 12).astype(int)).value
    assert voted == pytest.approx(0.009, abs=0.002)
    tandem, first = (certificate(table, form=form).value for form in ("second_order", "first_order"))
    assert tandem == pytest.approx(0.126, abs=0.006)
    assert first == pytest.approx(0.236, abs=0.006)
    assert certificate(table).value < tandem < first


@given(st.floats(1e-4, 0.999), st.floats(1e-6, 3.0))
def test_kl_inverse(q, c):
    p = _kl_inverse(q, c)
    assert q <= p <= 1.0
    assert p >= 1.0 - 1e-12 or _kl(q, p) == pytest.approx(c, rel=1e-6, abs=1e-12)
    if _kl(q, 1 - 1e-13) > c:
        assert p == pytest.approx(brentq(lambda x: _kl(q, x) - c, q, 1 - 1e-13, xtol=1e-15), abs=1e-9)


def test_kl_inverse_at_the_ends():
    assert _kl_inverse(0.0, 0.1) == pytest.approx(1 - np.exp(-0.1))
    assert _kl_inverse(1.0, 0.1) == 1.0


def cantelli(risk, second):
    return (second - risk**2) / (second - risk + 0.25)


def test_cantelli_is_largest_where_the_code_says():
    """Over all means and second moments inside the certified limits, on a grid."""
    table = difficult(2000, 15, 0.75, 0.05, 1)
    parts = certificate(table, form="cantelli").parts
    worst = 0.0
    for risk in np.linspace(parts["mean_error_least"], parts["mean_error"], 201):
        for second in np.linspace(risk**2, parts["tandem"], 101):
            worst = max(worst, cantelli(risk, second))
    assert worst <= parts["cantelli"] + 1e-12
    assert worst == pytest.approx(parts["cantelli"], abs=1e-4)
    assert parts["cantelli"] <= parts["second_order"] + 1e-12


def test_weights_chosen_on_the_samples_cost_their_divergence():
    table = difficult(1000, 8, 0.8, 0.2, 2)
    weights = np.array([0.5, 0.5, 0, 0, 0, 0, 0, 0])
    chosen = certificate(table, weights=weights, form="second_order")
    assert chosen.parts["kl"] == pytest.approx(np.log(4))
    known = certificate(table, weights=weights, prior=weights * 0.9996 + 0.0004 / 8, form="second_order")
    assert known.value < chosen.value
    tandem = (table[:, :2].T @ table[:, :2] / 1000).mean()
    room = (2 * np.log(4) + np.log(2 * np.sqrt(1000) / 0.05)) / 1000
    assert chosen.value == pytest.approx(4 * _kl_inverse(tandem, room))


def test_training_samples_are_left_out():
    table = difficult(400, 3, 0.8, 0.2, 3).astype(float)
    half = table.copy()
    half[:200, 0] = np.nan
    half[200:300, 1] = np.nan
    result = certificate(half, form="second_order")
    pairs = np.array([[np.nanmean(half[:, i] * half[:, j]) for j in range(3)] for i in range(3)])
    assert result.parts["observed_tandem"] == pytest.approx(pairs.mean())
    assert result.n == 100  # specialists 0 and 1 share the last hundred only
    assert result.value > certificate(table, form="second_order").value
    half[300:, 0] = np.nan
    with pytest.raises(PanelError, match="0 samples that neither"):
        certificate(half)


@pytest.mark.parametrize("form", ["first_order", "second_order", "cantelli"])
def test_a_perfect_and_a_hopeless_panel(form):
    assert certificate(np.zeros((1000, 4), int), form=form).value < 0.06
    assert certificate(np.ones((1000, 4), int), form=form).value == 1.0


def test_refusals():
    table = np.zeros((20, 2), int)
    with pytest.raises(PanelError, match=r"need the .sample, specialist. table"):
        certificate([0, 1], weights=[1.0])
    with pytest.raises(PanelError, match="certifies one fixed rule"):
        certificate(table, form="clopper_pearson")
    with pytest.raises(PanelError, match="weights must be >= 0"):
        certificate(table, weights=[1.5, -0.5])
    with pytest.raises(PanelError, match="can never be given weight"):
        certificate(table, prior=[1.0, 0.0])
    with pytest.raises(PanelError, match="form must be one of"):
        certificate(table, form="hoeffding")
    with pytest.raises(PanelError, match="8 or more"):
        certificate(table[:5])
    with pytest.raises(PanelError, match="0 and 1 only"):
        certificate(np.full((20, 2), 0.5))
