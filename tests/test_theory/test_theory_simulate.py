"""Simulated panels have the laws they promise."""

import numpy as np
import pytest

from theory import PanelError, correlated_panel, difficulty_panel


@pytest.mark.parametrize("rho", [-0.25, 0.0, 0.7])
def test_correlated_panel(rho):
    drawn = correlated_panel(
        60_000, 4, rho=rho, scale=[1, 2, 0.5, 1], bias=[0, 1, 0, -1], n_outputs=2, seed=0
    )
    flat = np.moveaxis(drawn.errors, 1, 2).reshape(-1, 4)
    np.testing.assert_allclose(np.cov(flat.T), drawn.covariance, atol=0.06)
    np.testing.assert_allclose(flat.mean(axis=0), drawn.bias, atol=0.03)
    np.testing.assert_allclose(drawn.panel - drawn.y[:, None], drawn.errors, atol=1e-12)
    assert drawn.panel.shape == (60_000, 4, 2)


def test_seeds():
    for make in (correlated_panel, difficulty_panel):
        first, second, third = (make(5, 3, seed=seed) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first.y, second.y)
        assert not np.array_equal(first.y, third.y) or make is difficulty_panel
    assert correlated_panel(1, 1).panel.shape == (1, 1, 1)


def test_difficulty_panel_is_consistent():
    drawn = difficulty_panel(500, 6, n_options=5, seed=0)
    np.testing.assert_array_equal(drawn.correct, drawn.answers == drawn.y[:, None])
    assert drawn.answers.min() >= 0 and drawn.answers.max() <= 4 and (drawn.n_options == 5).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: correlated_panel(5, 3, rho=-0.6), r"between -1/\(M-1\) = -0.5 and 1"),
        (lambda: correlated_panel(0, 3), "n_samples must be a whole number >= 1"),
        (lambda: correlated_panel(5, 3, scale=-1.0), "scale must be finite"),
        (lambda: difficulty_panel(5, 3, accuracy=1.0), r"accuracy in \(0, 1\)"),
        (lambda: difficulty_panel(5, 3, n_options=1), "nobody can err"),
    ],
)
def test_bad_input(call, text):
    with pytest.raises(PanelError, match=text):
        call()
