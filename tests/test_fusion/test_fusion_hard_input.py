"""Arguments that were once bent in silence: they are refused with a way out."""

import numpy as np
import pytest
from xarray import DataArray

from fusion import MultiKrum, decide, geometric_median, mean, multi_krum, vote_shares
from theory import BudgetError, PanelError, error_covariance, min_variance_weights

PANEL = np.random.default_rng(0).normal(size=(4, 5, 3))


def test_more_than_all_cannot_be_averaged():
    with pytest.raises(BudgetError, match="multi_krum with m=6 needs as many specialists; got 5"):
        multi_krum(PANEL, n_byzantine=1, m=6)
    np.testing.assert_allclose(multi_krum(PANEL, n_byzantine=1, m=5), PANEL.mean(axis=1), atol=1e-15)
    # Faults may leave fewer than m.
    faulty = PANEL.copy()
    faulty[0, 2] = np.nan
    assert (MultiKrum(1, m=5).weights(faulty)[0] > 0).tolist() == [True, True, False, True, True]


def test_weights_of_other_specialists_are_refused():
    errors = np.random.default_rng(1).normal(size=(60, 5)) * [1, 2, 3, 4, 5]
    named = DataArray(errors, dims=("sample", "specialist"), coords={"specialist": list("abcde")})
    panel = DataArray(PANEL, dims=("sample", "specialist", "output"), coords={"specialist": list("abcde")})
    weights = min_variance_weights(error_covariance(named), shrink=None)
    fused = mean(panel, weights=weights)
    np.testing.assert_allclose(fused.values, np.einsum("nio,i->no", PANEL, weights.value), atol=1e-12)
    with pytest.raises(PanelError, match="Put them into one order"):
        mean(panel.isel(specialist=[1, 0, 2, 3, 4]), weights=weights)
    assert mean(PANEL, weights=weights).shape == (4, 3)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: mean(PANEL, weights=[1e308] * 5), "overflows"),
        (lambda: vote_shares([[0, 1]], n_outputs=2.7), "whole number"),
        (lambda: decide([[0.5, 0.5]], ties="prior", prior=[np.nan, 1.0]), "non-finite"),
        (lambda: decide([[0.5, 0.5]], ties="prior", prior=["a", "b"]), "hold numbers"),
        (lambda: geometric_median(PANEL, max_iter=1.5), "whole number"),
    ],
)
def test_refusals(call, text):
    with pytest.raises(PanelError, match=text):
        call()


@pytest.mark.parametrize("n", [2, 4, 70])
def test_on_a_line_some_point_of_the_middle_segment_is_returned(n):
    steps = np.arange(n, dtype=np.float64)
    fused = geometric_median(steps[:, None] * np.array([1.0, 2.0]))
    assert fused[1] == pytest.approx(2 * fused[0], rel=1e-9) and n / 2 - 1 - 1e-9 <= fused[0] <= n / 2 + 1e-9
