"""Pictures: drawn from every result object, holding the numbers they claim, and nothing loaded before."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

import theory
from theory import (
    PanelError,
    accuracy_without_labels,
    ambiguity,
    bhattacharyya,
    bias_variance_covariance,
    certificate,
    chernoff,
    clear_uniform_price,
    consistency_bound,
    correlated_pairs,
    correlated_panel,
    difficulty_panel,
    diversity_decomposition,
    effective_number,
    ensemble_variance,
    error_agreement,
    error_correlation,
    error_covariance,
    escape_curve,
    find_clones,
    gaussian_information,
    is_weighting_worth_it,
    kelly_pool,
    log_market,
    min_variance_weights,
    plots,
    price,
    replication_test,
    settle,
    v_information,
    vote_bounds,
    vote_error,
    vote_gain,
)

DRAWN = correlated_panel(200, 5, rho=0.4, scale=[1.0, 1.2, 0.8, 1.0, 2.0], seed=0)
ERRORS = DRAWN.errors[:, :, 0]
ANSWERS = difficulty_panel(300, 6, seed=0)
RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet(np.ones(3), size=(40, 4))
LABELS = RNG.integers(0, 3, 40)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def results():
    covariance = error_covariance(ERRORS)
    agreed = error_agreement(ANSWERS.answers, ANSWERS.y, n_options=4)
    votes = (RNG.random((500, 1)) < 0.5) ^ (RNG.random((500, 4)) < 0.2)
    stuck = consistency_bound(d=12, rho=0.4, shift=1.0)
    return {
        "error_matrix": [error_correlation(ERRORS), covariance, error_correlation(ERRORS[:, :1])],
        "agreement": [agreed],
        "pair_tests": [correlated_pairs(ERRORS)],
        "clones": [find_clones(np.column_stack([ERRORS, ERRORS[:, 0]]))],
        "prices": [price(ERRORS, v0=1.0), price(covariance, v0=1.0)],
        "weights": [min_variance_weights(ERRORS)],
        "variance_report": [ensemble_variance(covariance), ensemble_variance(np.eye(1))],
        "label_free": [accuracy_without_labels(votes, mean_truth=0.0)],
        "information": [
            gaussian_information(covariance, prior_variance=1.0),
            v_information(np.moveaxis(PROBABILITIES, 1, 0), LABELS),
        ],
        "bound": [
            bhattacharyya(posterior=PROBABILITIES[:, 0], y=LABELS),
            chernoff(means=[[0.0], [1.0]], covariance=[[1.0]]),
            vote_bounds(ANSWERS.correct),
            vote_error([0.7] * 5),
            certificate(~ANSWERS.correct),
            certificate([0, 1] * 20),
        ],
        "consistency": [stuck, consistency_bound(d=12, rho=0.9)],
        "decomposition": [
            ambiguity(DRAWN.panel, DRAWN.y),
            diversity_decomposition(PROBABILITIES, LABELS),
            diversity_decomposition(PROBABILITIES, LABELS, pool="linear"),
            diversity_decomposition(RNG.dirichlet(np.ones(3), size=(5, 40, 4)), LABELS),
        ],
        "bias_variance": [bias_variance_covariance(RNG.normal(size=(4, 9, 3)), np.zeros(9))],
        "effective_numbers": [effective_number(ERRORS), effective_number(covariance)],
        "attack_table": [replication_test(0.3 + 0.7 * np.eye(5), v0=1.5)],
        "escape": [
            escape_curve(0.3 + 0.7 * np.eye(5) + 0.3 * np.eye(5, k=1) + 0.3 * np.eye(5, k=-1), v0=1.5)
        ],
        "settlement": [settle([0.5, 0.25, -0.1, 0.25], budget=100)],
        "wealth": [kelly_pool(PROBABILITIES, LABELS)],
        "weighting": [is_weighting_worth_it(ERRORS)],
        "market": [log_market(PROBABILITIES[:3, 0], 0)],
        "clearing": [
            (clear_uniform_price(*lists, rule=rule), *lists)
            for lists in (([9, 7, 5], [2, 4, 6]), ([9, 7], [2, 8]), ([1], [2]))
            for rule in ("mcafee", "uniform")
        ],
        "vote": [vote_gain(ANSWERS.answers, ANSWERS.y)],
    }


RESULTS = results()


def test_every_plot_is_drawn_here():
    assert set(RESULTS) == set(plots.__all__)


@pytest.mark.parametrize("name", plots.__all__)
def test_draws_without_warning_and_into_given_axes(name):
    for given in RESULTS[name]:
        result = given if isinstance(given, tuple) else (given,)
        ax = getattr(plots, name)(*result)
        ax.figure.canvas.draw()
        assert ax.has_data()
        _, mine = plt.subplots()
        assert getattr(plots, name)(*result, ax=mine) is mine
        mine.figure.canvas.draw()


def test_pictures_hold_the_numbers():
    result = price(ERRORS, v0=1.0)
    ax = plots.prices(result)
    np.testing.assert_allclose(np.sort(result.value), ax.collections[1].get_offsets()[:, 0])
    assert [t.get_text() for t in ax.get_yticklabels()] == [str(i) for i in np.argsort(result.value)]
    falling = consistency_bound(d=6, rho=0.9)
    np.testing.assert_allclose(plots.consistency(falling).lines[0].get_ydata(), falling.curve)
    chain = gaussian_information(np.eye(3), prior_variance=1.0)
    heights = [bar.get_height() for bar in plots.information(chain).patches]
    np.testing.assert_allclose(heights, chain.chain)


def test_waterfalls_end_at_the_total():
    found = diversity_decomposition(PROBABILITIES, LABELS, pool="linear")
    *steps, total = plots.decomposition(found).patches
    assert steps[-1].get_y() + steps[-1].get_height() == pytest.approx(total.get_height())
    parts = bias_variance_covariance(RNG.normal(size=(4, 9, 3)), np.zeros(9))
    *steps, total = plots.bias_variance(parts).patches
    assert steps[-1].get_y() + steps[-1].get_height() == pytest.approx(total.get_height())


def test_statistics_of_agreement():
    for statistic in ("phi", "q", "kappa", "cohen", "capa", "double_fault", "same_wrong"):
        assert (
            statistic.split("_")[0]
            in plots.agreement(RESULTS["agreement"][0], statistic=statistic).get_title()
        )
    with pytest.raises(PanelError, match="statistic must be one of"):
        plots.agreement(RESULTS["agreement"][0], statistic="q_strata")
    within = error_agreement(ANSWERS.answers, ANSWERS.y, n_options=4, strata=np.arange(300) % 3)
    assert "q strata" in plots.agreement(within, statistic="q_strata").get_title()


def test_long_names_and_large_panels():
    import pandas as pd

    names = [f"a-model-of-a-family-with-a-long-name-{i:02d}" for i in range(40)]
    frame = pd.DataFrame(correlated_panel(100, 40, rho=0.3, seed=1).errors[:, :, 0], columns=names)
    ax = plots.error_matrix(error_correlation(frame))
    ax.figure.canvas.draw()
    assert len({t.get_text() for t in ax.get_xticklabels()}) == 40
    plots.prices(price(frame, v0=1.0)).figure.canvas.draw()


def test_matplotlib_is_loaded_by_the_call_only():
    code = (
        "import sys\nfrom theory import plots, error_correlation\nplots.error_matrix\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=str(theory.__file__).rpartition("theory")[0])


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install 'consilience"):
        plots.weighting(RESULTS["weighting"][0])


def test_markets_and_votes_hold_the_numbers():
    reports = log_market([[0.8, 0.2], [0.5, 0.5]], 0)
    np.testing.assert_allclose([bar.get_height() for bar in plots.market(reports).patches], reports.value)
    cleared = clear_uniform_price([9, 7, 5], [2, 4, 6])
    assert {line.get_ydata()[0] for line in plots.clearing(cleared, [9, 7, 5], [2, 4, 6]).lines} == {
        cleared.buy_price
    }
    gain = vote_gain(ANSWERS.answers, ANSWERS.y)
    widths = [bar.get_width() for bar in plots.vote(gain).patches]
    np.testing.assert_allclose(widths[1:], [gain.vote_error, gain.mean_error])
    assert widths[0] == pytest.approx(ANSWERS.correct.mean(axis=0).max() * -1 + 1)
