# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The variance argument
#
# A panel of $M$ specialists with mean error variance $\bar v$ and pooled error correlation $\rho$ has a mean whose error
# varies by exactly
#
# $$V = \bar v\,\Big(\frac1M + \Big(1-\frac1M\Big)\rho\Big).$$
#
# So what counts is not how many specialists there are, but how independently they err: with $\rho > 0$ no number of
# them gets below $\bar v\rho$. This notebook checks the formula on simulated panels and on four panels of real language
# models, and shows where it stops helping. Every claim ends in an assertion.

# %%
import numpy as np

from estimators import llm_panel_names, load_llm_panel
from fusion import mean, vote_shares
from theory import (
    correlated_panel,
    effective_number,
    ensemble_variance,
    error_agreement,
    error_correlation,
    error_covariance,
    panel_errors,
    variance_curve,
    vote_error,
)

# %% [markdown]
# ## 1. The formula, on panels whose truth we know
#
# We draw panels with a known correlation and compare the measured variance of the mean's error with the formula's
# prediction from the *true* parameters. Monte Carlo error at 40,000 samples is below 4 %.

# %%
for rho in (0.0, 0.1, 0.42):
    for n_specialists in (1, 2, 5, 20):
        drawn = correlated_panel(40_000, n_specialists, rho=rho, seed=n_specialists)
        fused_error = mean(drawn.panel)[:, 0] - drawn.y[:, 0]
        predicted = variance_curve(1.0, rho, n_specialists)
        assert abs(fused_error.var() / predicted - 1) < 0.04, (rho, n_specialists)
        print(f"rho {rho:4.2f}  M {n_specialists:2d}  predicted {predicted:.4f}  measured {fused_error.var():.4f}")

# %% [markdown]
# ## 2. It is an identity, not an approximation
#
# With the pooled correlation (mean covariance over mean variance) the formula holds for *any* covariance matrix, however
# unequal the specialists are. With the plain mean of the correlations it does not.

# %%
rng = np.random.default_rng(0)
factor = rng.normal(size=(12, 12)) * rng.uniform(0.1, 3.0, size=(12, 1))
report = ensemble_variance(factor @ factor.T)
by_formula = variance_curve(report.mean_variance, report.rho_pooled, 12)
by_mean_correlation = variance_curve(report.mean_variance, report.rho_mean, 12)
assert abs(report.value - by_formula) < 1e-12 * report.value
assert abs(report.value - by_mean_correlation) > 0.01 * report.value
print(f"V {report.value:.6f}; pooled rho {by_formula:.6f}; mean rho {by_mean_correlation:.6f}")

# %% [markdown]
# ## 3. Four panels of real language models
#
# The errors are 0/1: an answer is wrong (an abstention counts as not right). The last two columns compare the variance
# of the panel's mean error with what independent errors would have: measured, and by $1+(M-1)\rho$ with the mean
# correlation. The formula's $\rho$ treats all pairs alike; the measured ratio does not have to.

# %%
panels = {name: load_llm_panel(name) for name in llm_panel_names()}
figures = {}
for name, panel in panels.items():
    errors = panel_errors(panel.answers, panel.gold, kind="zero_one")
    n_specialists = errors.shape[1]
    rho = error_correlation(errors)
    report = ensemble_variance(error_covariance(errors, kind="covariance"))
    assert abs(report.value - variance_curve(report.mean_variance, report.rho_pooled, n_specialists)) < 1e-12
    assert abs(report.value / errors.mean(axis=1).var() - 1) < 0.01
    number = effective_number(errors).all["exchangeable"]
    figures[name] = (rho.rho_mean, number, report.ratio, 1 + (n_specialists - 1) * rho.rho_mean)
    low, high = rho.rho_mean_ci
    print(
        f"{name:9s} M {n_specialists:2d}  rho {rho.rho_mean:.3f} ({low:.3f} to {high:.3f})  worth {number:.2f} "
        f"independent  ratio {report.ratio:6.2f}  1+(M-1)rho {figures[name][3]:6.2f}"
    )

known = {
    "mmlupro": (0.355, 2.65, 10.64, 10.58),
    "cruxeval": (0.447, 2.18, 23.63, 23.37),
    "mathl5": (0.312, 3.04, 13.90, 13.49),
    "gsm8k": (0.330, 2.89, 12.73, 14.86),
}
for name, expected in known.items():
    assert np.allclose(figures[name], expected, atol=0.006), name
assert sum(abs(ratio / formula - 1) < 0.04 for _, _, ratio, formula in figures.values()) == 3  # gsm8k is the exception

# %%
import matplotlib.pyplot as plt

figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
sizes = np.arange(1, 101)
for name, panel in panels.items():
    errors = panel_errors(panel.answers, panel.gold, kind="zero_one")
    report = ensemble_variance(error_covariance(errors, kind="covariance"))
    share = variance_curve(1.0, report.rho_pooled, sizes)
    (line,) = axes.plot(sizes, share, label=f"{name} (rho {report.rho_pooled:.2f})")
    axes.plot([errors.shape[1]], [report.value / report.mean_variance], "o", color=line.get_color())
    assert share[-1] > 0.9 * report.rho_pooled  # the floor: a hundred models do not get below rho
axes.plot(sizes, 1 / sizes, "--", color="grey", label="independent errors")
axes.set(xscale="log", xlabel="number of models", ylabel="variance of the mean error\nover that of one model", ylim=(0, None))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# Between 28 and 51 models are worth two to three independent ones. The three panels on which models err about alike follow
# the equicorrelated formula within 4 %; on gsm8k, where a few weak models hold most of the variance, it is 17 % off.

# %% [markdown]
# ## 4. What correlation costs a vote
#
# If the same models erred independently (each model's right and wrong answers shuffled over the samples, wrong answers
# spread over the options), plurality would be nearly perfect. The gap is the price of shared errors. Ties are split:
# breaking them by option number would let the order of the options decide (models say "A" too often).

# %%
def plurality_accuracy(answers: np.ndarray, gold: np.ndarray) -> float:
    """Accuracy of the plurality vote; a tie among k options that holds the truth counts 1/k."""
    shares = vote_shares(answers, n_outputs=int(max(answers.max(), gold.max())) + 1, excess="nan")
    first = shares == shares.max(axis=1, keepdims=True)  # nobody answered: NaN equals nothing, so not right
    return float((first[np.arange(len(gold)), gold] / np.maximum(first.sum(axis=1), 1)).mean())


panel = panels["mmlupro"]
actual = plurality_accuracy(panel.answers, panel.gold)

rng = np.random.default_rng(0)
shuffled = np.empty_like(panel.answers)
for j in range(panel.answers.shape[1]):
    right = rng.permutation(panel.correct[:, j])
    step = rng.integers(1, np.maximum(panel.n_options, 2))
    shuffled[:, j] = np.where(right, panel.gold, (panel.gold + step) % np.maximum(panel.n_options, 2))
independent = plurality_accuracy(shuffled, panel.gold)
print(f"plurality of 28 models: {actual:.3f}; the same accuracies with independent errors: {independent:.3f}")
assert abs(actual - 0.589) < 0.002
assert independent > 0.97
assert independent - actual > 0.38

# %% [markdown]
# ## 5. The counter-evidence: more heads can be worse than one
#
# The formula bounds the variance, not the bias. Plurality loses to the best single model on three of the four panels:
# most of the heads it counts are worse. Correlation is no reason to trust a crowd of weak specialists.

# %%
losses = {}
for name, panel in panels.items():
    best = panel.correct.mean(axis=0).max()
    voted = plurality_accuracy(panel.answers, panel.gold)
    losses[name] = best - voted
    print(f"{name:9s} best single {best:.3f}  plurality {voted:.3f}")
assert sum(loss > 0 for loss in losses.values()) == 3
assert losses["gsm8k"] <= 0

# %% [markdown]
# ## 6. More of the same saturates
#
# Exchangeable voters, right with probability .72: at the correlation of real models a thousand of them vote hardly
# better than eleven; at a correlation of .05, eleven beat those thousand.

# %%
eleven = vote_error(0.72, n_specialists=11, rho=0.419).value
thousand = vote_error(0.72, n_specialists=1001, rho=0.419).value
decorrelated = vote_error(0.72, n_specialists=11, rho=0.05).value
print(f"rho .419: 11 voters {eleven:.4f}, 1001 voters {thousand:.4f}; rho .05: 11 voters {decorrelated:.4f}")
assert abs(eleven - 0.244) < 0.001
assert abs(thousand - 0.2365) < 0.001
assert abs(decorrelated - 0.103) < 0.001

# %% [markdown]
# ## 7. Errors are shared down to the same wrong answer
#
# When two models are both wrong, how often do they give the same wrong answer? Far more often than chance: they do not
# only find the same questions hard, they make the same mistakes.

# %%
for name, expected in (("mmlupro", 0.350), ("cruxeval", 0.196), ("mathl5", 0.138), ("gsm8k", 0.496)):
    panel = panels[name]
    agreement = error_agreement(panel.answers, panel.gold, n_options=panel.n_options + int(panel.open))
    same = agreement.mean["same_wrong"]
    print(f"{name:9s} same wrong answer when both err: {same:.3f} (chance {np.nanmean(agreement.same_wrong_chance):.3f})")
    assert abs(same - expected) < 0.02, (name, same)
    assert same > 1.5 * np.nanmean(agreement.same_wrong_chance)
