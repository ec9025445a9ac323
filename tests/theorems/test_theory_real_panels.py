"""Measured facts of the four panels of language models, reproduced from the stored answers."""

import numpy as np
import pytest

from theory import (
    effective_number,
    ensemble_variance,
    error_agreement,
    error_correlation,
    error_covariance,
    find_clones,
    price,
)

# rho (mean, min, max), same wrong answer, effective number, variance ratio, 1 + (M - 1) rho, plurality.
FACTS = {
    "mmlupro": (28, (0.355, 0.134, 0.650), 0.350, 2.65, 10.64, 10.58, 0.589),
    "cruxeval": (51, (0.447, 0.030, 0.736), 0.196, 2.18, 23.63, 23.37, 0.860),
    "mathl5": (41, (0.312, 0.025, 0.556), 0.138, 3.04, 13.90, 13.49, 0.717),
    "gsm8k": (43, (0.330, 0.080, 0.764), 0.496, 2.89, 12.73, 14.86, 0.970),
}


@pytest.fixture(scope="module", params=FACTS)
def panel(request, root):
    path = root / "estimators" / "datasets" / "data" / "llm_panels" / f"{request.param}.npz"
    with np.load(path, allow_pickle=False) as archive:
        answers, gold, options = (archive[key].astype(int) for key in ("answers", "gold", "n_options"))
    return request.param, answers, gold, np.maximum(options, 2)


def test_facts(panel):
    name, answers, gold, options = panel
    m, (rho, low, high), same, number, ratio, expected, plurality = FACTS[name]
    errors = (answers != gold[:, None]).astype(float)
    assert errors.shape[1] == m
    correlation = error_correlation(errors)
    pairs = correlation.value[np.triu_indices(m, 1)]
    assert correlation.rho_mean == pytest.approx(rho, abs=5e-4)
    assert pairs.min() == pytest.approx(low, abs=5e-4) and pairs.max() == pytest.approx(high, abs=5e-4)
    agreement = error_agreement(answers, gold, n_options=options)
    assert agreement.mean["phi"] == pytest.approx(correlation.rho_mean, abs=1e-12)
    assert agreement.mean["same_wrong"] == pytest.approx(same, abs=6e-4)
    assert effective_number(errors, kind="exchangeable").value == pytest.approx(number, abs=6e-3)
    report = ensemble_variance(error_covariance(errors, kind="covariance"))
    assert report.ratio == pytest.approx(ratio, abs=6e-3)
    assert 1 + (m - 1) * report.rho_mean == pytest.approx(expected, abs=6e-3)
    assert abs(report.identity_gap) < 1e-15
    prices = price(answers, y=gold, game="plurality", v0="chance", n_options=options)
    # The stored figure breaks ties at random; ours is its mean over ties.
    assert 1 - (prices.v0 - prices.total) == pytest.approx(plurality, abs=5e-3)
    assert abs(prices.residual) < 1e-12
    assert prices.value[int(np.argmax(agreement.accuracy))] > np.median(prices.value)


def test_hosts_of_one_model_are_near_clones(root):
    path = root / "estimators" / "datasets" / "data" / "llm_panels" / "cruxeval.npz"
    with np.load(path, allow_pickle=False) as archive:
        errors = (archive["answers"] != archive["gold"][:, None]).astype(float)
        names = [str(name) for name in archive["specialist"]]
    found = find_clones(errors, threshold=0.6)
    hosts = [i for i, name in enumerate(names) if "405B" in name]
    assert len(hosts) >= 2 and len({found.labels[i] for i in hosts}) < len(hosts)
