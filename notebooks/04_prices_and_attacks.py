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
# # What a specialist is worth, and how that is attacked
#
# A price is the loss that a specialist takes off the panel, averaged over the coalitions it may join. For the rules
# that panels use (the mean, trimmed means and medians, votes) the average over all $2^M$ coalitions has a closed form, so
# prices are exact, come with intervals over samples, and cost less than one call of a sampler. This notebook prices four
# panels of language models, shows what sampling gets wrong, and then turns to what prices cannot do: they can be
# exaggerated, copied, and colluded against. Every claim ends in an assertion.

# %%
import time

import numpy as np

from estimators import load_llm_panel
from fusion import trimmed_mean
from theory import (
    correlated_panel,
    difficulty_panel,
    error_agreement,
    escape_curve,
    exaggeration_factor,
    price,
    replication_test,
    settle,
    wager,
)

# %% [markdown]
# ## 1. Prices of language models under plurality
#
# The loss of a coalition is the chance that its plurality is wrong, ties split. A model that does not answer a question
# plays no part in it. Prices add up to what the whole panel takes off the loss of guessing.

# %%
panels = {name: load_llm_panel(name) for name in ("mmlupro", "cruxeval", "mathl5", "gsm8k")}
votes = {}
for name, panel in panels.items():
    start = {"v0": 1.0} if panel.open else {"v0": "chance", "n_options": np.maximum(panel.n_options, 2)}
    began = time.perf_counter()
    votes[name] = price(
        panel.answers, y=panel.gold, game="plurality", names=list(panel.specialist), cross_fitted=True, **start
    )
    seconds = time.perf_counter() - began
    result = votes[name]
    earn, cost = int((result.ci[0] > 0).sum()), int((result.ci[1] < 0).sum())
    print(
        f"{name:9s} {len(result.names)} models, {result.n} questions, {seconds:.2f} s: loss {result.v0:.3f} to "
        f"{result.v0 - result.total:.3f}; {earn} surely earn, {cost} surely cost"
    )
    assert result.exact and abs(result.residual) < 1e-12
assert (votes["mmlupro"].ci[1] < 0).sum() == 6  # six of 28 raise the loss of the coalitions they join, on average
assert (votes["gsm8k"].ci[0] > 0).all()
print()
print("\n".join(votes["mmlupro"].summary().splitlines()[:9]))

# %% [markdown]
# Prices follow accuracy closely, but not wholly: they also count with whom a model errs. Of two models that are right
# and silent equally often, the one whose errors correlate less with the others' is worth more, on all four panels.

# %%
panel, result = panels["mmlupro"], votes["mmlupro"]
accuracy = panel.correct.mean(axis=0)
by_price, by_accuracy = np.argsort(-result.value), np.argsort(-accuracy)
place = np.empty((2, len(accuracy)), dtype=int)
place[0, by_price], place[1, by_accuracy] = np.arange(len(accuracy)), np.arange(len(accuracy))
moved = np.abs(place[0] - place[1])
print(f"correlation of price and accuracy {np.corrcoef(accuracy, result.value)[0, 1]:.3f}; {int((moved > 0).sum())} of 28 change place")
assert 0.97 < np.corrcoef(accuracy, result.value)[0, 1] < 0.99
assert (moved > 0).sum() >= 5

for name, panel in panels.items():
    agreement = error_agreement(panel.answers, panel.gold, n_options=panel.n_options + int(panel.open))
    shared = (agreement.phi.sum(axis=1) - 1) / (len(agreement.phi) - 1)
    known = np.column_stack([np.ones(len(shared)), agreement.accuracy, agreement.accuracy**2, agreement.abstention])
    left = [v - known @ np.linalg.lstsq(known, v, rcond=None)[0] for v in (votes[name].value, shared)]
    partial = np.corrcoef(*left)[0, 1]
    print(f"{name:9s} price and mean error correlation, at equal accuracy and abstention: {partial:+.2f}")
    assert partial < -0.5

# %% [markdown]
# ## 2. The same models under the mean and the median
#
# Soft votes: every model puts all its weight on one option, the panel's answer is the mean (or the median, option by
# option), and the loss is its squared distance from the truth, the Brier score. The price depends on the rule, so it
# has to be taken under the rule that is deployed.

# %%
def vote_errors(panel) -> np.ndarray:
    """Errors of votes, (sample, specialist, option); NaN where a model did not answer."""
    options = np.arange(int(max(panel.answers.max(), panel.gold.max())) + 1)
    errors = (panel.answers[:, :, None] == options).astype(float) - (panel.gold[:, None] == options)[:, None, :]
    errors[panel.answers < 0] = np.nan
    return errors


for name in ("mmlupro", "gsm8k"):
    errors = vote_errors(panels[name])
    names = list(panels[name].specialist)
    terms = {"v0": 1.0, "missing": "abstain", "cross_fitted": True, "names": names}
    began = time.perf_counter()
    mean, median = price(errors, **terms), price(errors, game="median", **terms)
    print(f"{name}: mean and median priced in {time.perf_counter() - began:.2f} s")
    for rule, found in (("mean", mean), ("median", median), ("plurality", votes[name])):
        width = float(np.mean(found.ci[1] - found.ci[0]))
        print(f"  {rule:9s} takes off {found.total:.3f}; dearest {found.names[int(np.argmax(found.value))]} {found.value.max():.4f}; mean width of intervals {width:.4f}")
        assert found.exact and abs(found.residual) < 1e-10 and (found.se > 0).all()
    assert np.corrcoef(mean.value, median.value)[0, 1] > 0.99
    if name == "mmlupro":
        assert median.total < mean.total - 0.1  # without a majority for any option, the median says nothing
    else:
        assert median.total > mean.total

# %% [markdown]
# The median beats the mean where most models are right (gsm8k) and loses to it where majorities are rare (mmlupro). No
# rule is best on both.
#
# ## 3. What sampling gets wrong
#
# Generic libraries estimate Shapley values from random orders. On 50 specialists, 20,000 evaluations of the loss give
# each a standard error comparable to the differences between specialists, so that the ranking is partly luck. The closed
# form has no such error.

# %%
rng = np.random.default_rng(0)
m = 50
draws = rng.normal(size=(400, m)) * rng.uniform(0.9, 1.1, m) + 0.5 * rng.normal(size=(400, 1))
matrix = draws.T @ draws / 400
price(matrix, v0=2.0)
began = time.perf_counter()
exact = price(matrix, v0=2.0)
microseconds = 1e6 * (time.perf_counter() - began)


def sampled(matrix: np.ndarray, v0: float, evaluations: int, seed: int) -> np.ndarray:
    """Plain permutation sampling, as generic peers do it."""
    rng = np.random.default_rng(seed)
    m = len(matrix)
    orders = evaluations // m
    total = np.zeros(m)
    for _ in range(orders):
        order = rng.permutation(m)
        shuffled = matrix[np.ix_(order, order)]
        sums = np.cumsum(np.cumsum(shuffled, axis=0), axis=1).diagonal()
        losses = np.concatenate([[v0], sums / np.arange(1, m + 1) ** 2])
        total[order] -= np.diff(losses)
    return total / orders


def inverted(first: np.ndarray, second: np.ndarray) -> float:
    """Share of pairs that two lists of prices rank differently."""
    i, j = np.triu_indices(len(first), 1)
    return float(np.mean((first[i] - first[j]) * (second[i] - second[j]) < 0))


runs = [sampled(matrix, 2.0, 20_000, seed) for seed in range(5)]
error = np.mean([np.abs(run - exact.value).mean() for run in runs]) / np.abs(exact.value).mean()
wrong = np.mean([inverted(run, exact.value) for run in runs])
print(f"closed form: {microseconds:.0f} µs; sampling: mean error {error:.0%} of the mean price, {wrong:.0%} of pairs ranked wrongly")
assert error > 0.05 and wrong > 0.1
assert np.abs(np.mean(runs, axis=0) - exact.value).max() < 3 * np.std(runs, axis=0).max()  # unbiased, only noisy

# %% [markdown]
# Orders that pair off and small coalitions that are enumerated help. The library's own sampler, for rules without a
# closed form, does both, and reports the error that is left.

# %%
few = price(lambda s: float(matrix[np.ix_(s, s)].mean()), v0=2.0, names=[str(i) for i in range(m)], n_permutations=200)
ours = np.abs(few.value - exact.value).mean() / np.abs(exact.value).mean()
covered = np.mean(np.abs(few.value - exact.value) < 1.96 * few.se)
print(f"{few.n_evaluations} evaluations: mean error {ours:.1%}; {covered:.0%} of the intervals hold the exact price")
assert ours < error / 2 and covered > 0.85

# %% [markdown]
# ## 4. Shared mistakes of 71 models
#
# Kim et al. (2025) measured 71 language models on 14,042 questions with four options: error correlation .419, and
# when two models err, they give the same wrong answer in 60 % of the cases, against 33 % by chance. Their answers are
# not shipped here; a simulated panel with the same accuracy, correlation and pull of the favourite wrong answer has the
# same statistics. The kappas they report (error consistency .402, CAPA .334) come from models of unequal accuracy, which
# the simulation does not have: it is .01 above both.

# %%
simulated = difficulty_panel(14_042, 71, accuracy=0.721, rho=0.419, distractor=0.636, n_options=4, seed=0)
agreement = error_agreement(simulated.answers, simulated.y, n_options=4)
print({key: round(agreement.mean[key], 3) for key in ("phi", "same_wrong", "double_fault", "kappa", "capa")})
assert abs(agreement.mean["phi"] - 0.419) < 0.01
assert abs(agreement.mean["same_wrong"] - 0.603) < 0.01
assert abs(simulated.same_wrong - (1 / 3 + 2 / 3 * 0.636**2)) < 1e-12
assert abs(agreement.mean["double_fault"] - 0.156) < 0.01
assert 0 < agreement.mean["kappa"] - 0.402 < 0.02 and 0 < agreement.mean["capa"] - 0.334 < 0.02
crowd = price(simulated.answers, y=simulated.y, game="plurality", v0=0.75, cross_fitted=True)
best = simulated.correct.mean(axis=0).max()
print(f"plurality of 71: {1 - (crowd.v0 - crowd.total):.3f}; one model: {best:.3f}; a model's price: {crowd.value.mean():.4f}")
assert 0.19 < crowd.v0 - crowd.total < 0.21  # 71 models with 72 % accuracy, and the vote is wrong one time in five

# %% [markdown]
# ## 5. Prices are not truthful
#
# Under squared error a specialist that expects the others to err by $\mu$ on average gains most by shifting its answer by
# $-\kappa\mu$. Only paying everybody for itself alone ($\kappa = 0$) is truthful, and then copies are paid in full.

# %%
for m in (5, 10, 50):
    row = {rule: exaggeration_factor(m, rule=rule) for rule in ("solo", "shapley", "banzhaf", "leave_one_out")}
    print(f"M {m:2d}: " + ", ".join(f"{rule} {kappa:.2f}" for rule, kappa in row.items()))
    assert row["solo"] == 0 < row["shapley"] < row["banzhaf"] < row["leave_one_out"]
    assert abs(row["leave_one_out"] - (m - 1)) < 1e-9

others = np.array([0.4, 0.8, 1.2, 0.6])
shifts = np.linspace(-3, 3, 601)
pay = [price(np.append(others, d)[None], v0=1.0, given="errors").value[-1] for d in shifts]
best_shift = shifts[int(np.argmax(pay))]
print(f"best shift found {best_shift:.2f}; -kappa mu = {-exaggeration_factor(5) * others.mean():.2f}")
assert abs(best_shift + exaggeration_factor(5) * others.mean()) < 0.01

# %% [markdown]
# ## 6. Copies
#
# Five specialists with correlation .3. The attacker commits copies of itself, noisy copies, or an outsider commits a
# copy of somebody else's answers. Plain Shapley prices pay for copies although they make the panel worse; joining
# recognised copies into one (quotient prices) makes recognised copies worthless, and nothing more than that.

# %%
equal = np.full((5, 5), 0.3) + 0.7 * np.eye(5)
table = replication_test(equal, v0=1.5)
print(table.summary())
pay = {rule: dict(zip(table.attacks, row)) for rule, row in zip(table.rules, table.value)}
assert pay["shapley, mean"]["3 copies"] > 1.25 * pay["shapley, mean"]["0 copies"]
assert pay["shapley, optimal weights"]["3 copies"] > 1.7 * pay["shapley, optimal weights"]["0 copies"]
loss = dict(zip(table.attacks, table.loss))
assert loss["3 copies"] > loss["0 copies"]  # and the panel is worse for it
for rule in ("quotient shapley, mean", "quotient shapley, optimal weights"):
    assert abs(pay[rule]["3 copies"] - pay[rule]["0 copies"]) < 1e-6
# The cure by leave-one-out is worse: one copy takes the pay of both, so that an outsider can ruin an honest specialist.
assert pay["leave one out, optimal weights"]["its victim"] < 1e-6 < pay["leave one out, optimal weights"]["0 copies"]
# Banzhaf prices do not pay for copies; they pay colluders who pull the panel off in the same direction.
assert pay["banzhaf, optimal weights"]["colluders"] > 0 > pay["shapley, mean"]["colluders"]

# %% [markdown]
# Copies that add enough noise are not recognised. A lower threshold stops them, and joins honest look-alikes.

# %%
for weights in ("mean", "optimal"):
    curve = escape_curve(equal, v0=1.5, pay=weights)
    print(weights, curve.summary(), sep="\n")
    assert curve.value[0] > 1.2 * curve.honest  # at .98 hiding pays
    assert abs(curve.value[-1] - curve.honest) < 1e-9  # at .6 it does not

alike = equal.copy()
alike[0, 1] = alike[1, 0] = 0.85  # two honest specialists that were trained on the same data
strict = escape_curve(alike, v0=1.5, thresholds=[0.9, 0.8])
assert strict.merged.tolist() == [0, 2]

# %% [markdown]
# ## 7. Price under the rule you deploy
#
# Seven specialists; one errs by +10 in one sample of twenty. The mean suffers and pays it next to nothing. A trimmed mean
# or a median ignores those samples, so that the specialist is worth almost as much as the others.

# %%
errors = correlated_panel(20_000, 7, rho=0.3, seed=0).errors[:, :, 0]
errors[::20, 0] += 10.0
worth = {
    "mean": price(errors, v0=2.0, quorum=3, cross_fitted=True),
    "trimmed": price(errors, v0=2.0, quorum=3, game="trimmed", n_byzantine=1, cross_fitted=True),
    "median": price(errors, v0=2.0, quorum=3, game="median", cross_fitted=True),
}
for rule, found in worth.items():
    print(f"{rule:8s} the faulty one {found.value[0]:.3f}, the others {found.value[1:].mean():.3f}, panel's loss {found.v0 - found.total:.3f}")
assert worth["mean"].ci[1, 0] < 0.1 < worth["trimmed"].ci[0, 0]
assert worth["trimmed"].total > worth["mean"].total
assert worth["median"].value[0] > 0.9 * worth["median"].value[1:].mean()

panel_of_seven = errors[:200, :, None]
called = price(
    panel_of_seven, y=np.zeros(200), v0=2.0, quorum=3, loss="squared",
    fuse=lambda p: trimmed_mean(p, n_byzantine=min(1, (p.shape[-2] - 1) // 2)),
)  # fmt: skip
closed = price(errors[:200], v0=2.0, quorum=3, game="trimmed", n_byzantine=1)
assert np.abs(called.value - closed.value).max() < 1e-12  # the closed form is the deployed operator, coalition by coalition

# %% [markdown]
# ## 8. Paying
#
# A settlement deducts what is not proven, carries negative prices as debt, and hands out whole units that sum to the
# budget. A wager is the alternative without a panel: balanced, immune to splitting, and blind to copies.

# %%
paid = settle(votes["mmlupro"], budget=100_000, z=1.645)
print("\n".join(paid.summary().splitlines()[:4]))
assert paid.value.sum() == 100_000 and (paid.value >= 0).all()
assert ((paid.debt > 0) == (paid.due < 0)).all() and (paid.debt > 0).sum() >= 6

scores = panels["mmlupro"].correct.mean(axis=0)
stakes = np.ones(len(scores))
wagered = wager(scores, stakes)
assert abs(wagered.sum() - stakes.sum()) < 1e-12
copied = wager(np.append(scores, scores[0]), np.append(stakes, 1.0))
assert copied[-1] == copied[0]  # a copy is paid like the original
