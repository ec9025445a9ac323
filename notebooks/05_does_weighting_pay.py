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
# # Does weighting pay? Does diversity?
#
# Weights learned from data can beat equal weights, and they cost: every weight is estimated. For normal errors the cost is
# known exactly, so the question has an answer before anything is tried: weighting pays if and only if
# $V_{equal}/V^* > (n-1)/(n-M)$. This notebook checks the rule on simulated panels, asks it of four panels of language
# models, and then looks at where the gain comes from: what makes errors differ, and whether more difference is
# better. Every claim ends in an assertion, and what speaks against weighting and against diversity is told too.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from estimators import llm_panel_names, load_llm_panel, load_mfeat
from theory import (
    bias_variance_covariance,
    correlated_panel,
    diversity_decomposition,
    effective_number,
    error_correlation,
    error_covariance,
    is_weighting_worth_it,
    min_variance_weights,
    panel_errors,
    plots,
    v_information,
    variance_curve,
    vote_gain,
)

# %% [markdown]
# ## 1. What estimating weights costs
#
# Twenty specialists of unequal variance with common correlation, 60 samples; and five specialists, 20 samples. Weights of
# any sign computed on n samples have, out of sample, the variance $V^*(n-1)/(n-M)$: with 20 specialists and 60 samples,
# 1.475 times the optimum. Shrinking towards equal weights (by an estimate, not by hand) beats both.

# %%
def contest(m: int, n: int, runs: int) -> dict[str, float]:
    """Mean variance, out of sample, of equal, estimated and shrunken weights; and what the formula says."""
    scale = np.linspace(0.6, 1.6, m)
    truth = correlated_panel(1, m, rho=0.3, scale=scale).covariance
    found = []
    for seed in range(runs):
        errors = correlated_panel(n, m, rho=0.3, scale=scale, seed=seed).errors
        matrix = error_covariance(errors)
        free = min_variance_weights(matrix, constraint="none", shrink=None).value
        shrunk = min_variance_weights(matrix, constraint="none", shrink="auto").value
        simplex = min_variance_weights(matrix, constraint="simplex").value
        found.append([w @ truth @ w for w in (free, shrunk, simplex)])
    best = min_variance_weights(truth, constraint="none", shrink=None).variance
    free, shrunk, simplex = np.mean(found, axis=0)
    return {"equal": float(truth.mean()), "optimal": best, "estimated": free, "formula": best * (n - 1) / (n - m),
            "shrunk": shrunk, "simplex": simplex}  # fmt: skip


for m, n in ((5, 20), (20, 60), (20, 200)):
    row = contest(m, n, 400)
    print(f"M = {m:2d}, n = {n:3d}: ", "  ".join(f"{key} {value:.3f}" for key, value in row.items()))
    assert abs(row["estimated"] / row["formula"] - 1) < 0.03
    assert row["shrunk"] < row["estimated"]
    assert row["simplex"] < row["equal"]

# %% [markdown]
# **Against weighting.** Where specialists are alike, perfect weights gain nothing and every estimated weight loses. No sample
# size helps, it only makes the loss small. The verdict from the samples alone says so in most draws.

# %%
verdicts, losses = [], []
for seed in range(200):
    errors = correlated_panel(60, 10, rho=0.3, seed=seed).errors
    verdict = is_weighting_worth_it(errors)
    truth = correlated_panel(1, 10, rho=0.3).covariance
    w = min_variance_weights(error_covariance(errors), constraint="none", shrink=None).value
    verdicts.append(verdict.worth_it)
    losses.append(w @ truth @ w / truth.mean())
print(verdict.summary())
print(f"alike: weighting called worth it in {np.mean(verdicts):.0%} of draws; estimated weights cost a factor {np.mean(losses):.3f} (formula {59 / 50:.3f})")
plots.weighting(verdict)
plt.show()
assert np.mean(verdicts) < 0.2
assert abs(np.mean(losses) - 59 / 50) < 0.02 and min(losses) > 1

# %% [markdown]
# ## 2. Language models: weights learned from a hundred questions
#
# Minimum-variance weights on the simplex, from the right-or-wrong errors on 30, 100 or 300 questions (covariance shrunk to
# constant correlation, weights to equal ones), then a weighted vote on other questions. Twenty splits each.

# %%
def vote_accuracy(answers: np.ndarray, gold: np.ndarray, weights: np.ndarray) -> float:
    """Accuracy of the weighted plurality vote, ties split."""
    return 1.0 - vote_gain(answers, gold, weights=weights).vote_error


def learned(panel, n_train: int, seed: int) -> list[float]:
    """Accuracy on unseen questions of equal weights, learned weights, and the best model of the training questions."""
    order = np.random.default_rng(seed).permutation(len(panel.gold))
    train, test = order[:n_train], order[n_train : n_train + 1500]
    right, m = panel.correct[train], panel.answers.shape[1]
    weights = min_variance_weights(error_covariance(1.0 - right, shrink="constant_correlation")).value
    best = np.eye(m)[int(right.mean(axis=0).argmax())]
    return [vote_accuracy(panel.answers[test], panel.gold[test], w) for w in (np.full(m, 1 / m), weights, best)]


table = {}
for name in llm_panel_names():
    panel = load_llm_panel(name)
    for n_train in (30, 100, 300):
        scores = np.array([learned(panel, n_train, seed) for seed in range(20)])
        table[name, n_train] = scores
        equal, weighted, best = scores.mean(axis=0)
        print(f"{name:9s} n = {n_train:3d}: equal {equal:.3f}  weighted {weighted:.3f}  best single {best:.3f}")

# %% [markdown]
# On the three panels whose models differ most in accuracy, thirty questions are enough: weights gain ten to twenty points
# over plurality, and are above the best single model picked on the same questions. On gsm8k, where nearly all
# models are good, thirty questions make it *worse* than counting heads.

# %%
for name in ("mmlupro", "cruxeval", "mathl5"):
    for n_train in (30, 100, 300):
        equal, weighted, best = table[name, n_train].T
        gain = weighted - equal
        assert gain.mean() > 0.09 and (gain > 0).all()
        assert weighted.mean() > best.mean()
drop = table["gsm8k", 30][:, 1] - table["gsm8k", 30][:, 0]
print(f"gsm8k, 30 questions: {drop.mean():+.4f} +- {drop.std(ddof=1) / np.sqrt(len(drop)):.4f} over equal weights")
assert drop.mean() < 0
assert (table["gsm8k", 300].mean(axis=0)[1] - table["gsm8k", 300].mean(axis=0)[0]) < 0.01

# %% [markdown]
# **How much of that is weighting, how much selection?** Most of it is selection: the weights are nonzero for a handful of models,
# and the best single model alone has most of the gain. And the variance criterion and the vote are
# different things: the rule of section 1, asked of all questions, calls weighting worth it on all four panels, gsm8k
# included, where the vote gains nearly nothing from it. It speaks of the squared share of wrong votes, not of who wins.

# %%
for name in llm_panel_names():
    panel = load_llm_panel(name)
    rows = np.random.default_rng(0).permutation(len(panel.gold))[:300]
    errors = 1.0 - panel.correct[rows]
    weights = min_variance_weights(error_covariance(errors, shrink="constant_correlation"))
    used = int((min_variance_weights(errors, shrink=None).value > 1e-9).sum())
    equal, weighted, best = table[name, 300].mean(axis=0)
    verdict = is_weighting_worth_it(panel.errors.astype(float))
    print(f"{name:9s} {verdict.summary()}")
    print(f"{'':9s} {used} of {errors.shape[1]} models carry weight; best single has {(best - equal):+.3f} of {(weighted - equal):+.3f}")
    assert verdict.worth_it and used < errors.shape[1] / 2
    if name != "gsm8k":
        assert best - equal > 0.75 * (weighted - equal)

# %% [markdown]
# ## 3. Where different errors come from: seeds, architectures, views
#
# Six numerals' descriptions (views) of the same 2000 handwritten digits. Six networks that differ by seed alone; six kinds
# of model on the same view; one kind of model on six views. Trained on 400 numerals, tested on 1600.

# %%
digits = load_mfeat()
order = np.random.default_rng(0).permutation(2000)
train, test = order[:400], order[400:]
y = digits.y[test]


def network(seed: int):
    return make_pipeline(StandardScaler(), MLPClassifier((32,), learning_rate_init=0.01, tol=1e-2, max_iter=500, alpha=1.0, random_state=seed))


def team(models, views) -> np.ndarray:
    """Probabilities (sample, specialist, class), floored at a thousandth."""
    said = [model.fit(view[train], digits.y[train]).predict_proba(view[test]) for model, view in zip(models, views, strict=True)]
    panel = np.maximum(np.stack(said, axis=1), 1e-3)
    return panel / panel.sum(axis=2, keepdims=True)


shape = digits.views["fou"]
kinds = [
    network(0),
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    RandomForestClassifier(200, random_state=0),
    make_pipeline(StandardScaler(), KNeighborsClassifier(15)),
    make_pipeline(StandardScaler(), GaussianNB(var_smoothing=0.1)),
    DecisionTreeClassifier(max_depth=8, random_state=0),
]
teams = {
    "seeds": team([network(seed) for seed in range(6)], [shape] * 6),
    "architectures": team(kinds, [shape] * 6),
    "views": team([network(0) for _ in range(6)], list(digits.views.values())),
}
rows = {}
for name, panel in teams.items():
    errors = panel_errors(panel, y, kind="probability")
    parts = diversity_decomposition(panel, y)
    each = (panel.argmax(axis=2) != y[:, None]).mean(axis=0)
    pooled = float((np.log(panel).mean(axis=1).argmax(axis=1) != y).mean())
    rho, number = error_correlation(errors).rho_pooled, effective_number(errors)
    rows[name] = {"rho": rho, "number": number.value, "diversity": parts.diversity, "pooled": pooled, "best": each.min()}
    print(f"{name:14s} rho {rho:.2f}  worth {number.value:.2f} of 6  mean error {each.mean():.3f}  best {each.min():.3f}  pooled {pooled:.3f}")
    print(f"{'':14s} {parts.summary()}")
    # the variance argument, exactly, on real models
    variance = np.trace(error_covariance(errors, kind="covariance").value) / 6
    fused = errors.mean(axis=1)
    measured = ((fused - fused.mean(axis=0)) ** 2).sum(axis=1).mean()
    np.testing.assert_allclose(measured, variance_curve(variance, rho, 6), rtol=1e-9)

assert rows["seeds"]["rho"] > rows["architectures"]["rho"] > rows["views"]["rho"]
assert rows["seeds"]["number"] < 1.3 < 1.6 < rows["views"]["number"]
assert rows["views"]["pooled"] < 0.75 * rows["views"]["best"]  # views: the pool beats the best view clearly

# %% [markdown]
# **Against diversity as a recipe.** Six kinds of model have more than five times the diversity of six seeds, yet their pool is not
# better than the best of them: the diverse ones are also the bad ones.

# %%
print(rows["architectures"])
assert rows["architectures"]["diversity"] > 5 * rows["seeds"]["diversity"]
assert rows["architectures"]["pooled"] > rows["architectures"]["best"]

# %% [markdown]
# Which views bring news? V-information: the fall of the log loss of a fuser when a view joins, cross-fitted (the
# calibrated geometric pool of the views so far). The order matters, and after two views each of the others adds a twentieth of
# the first or less. A term may be negative, and is then not hidden.

# %%
logs = np.log(teams["views"])
fold = np.arange(len(y)) % 5
order_of_views = list(digits.names)
steps = []
for k in range(1, 7):
    features, out = logs[:, :k].mean(axis=1), np.empty((len(y), 10))
    for f in range(5):
        fuser = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000)).fit(features[fold != f], y[fold != f])
        out[fold == f] = fuser.predict_proba(features[fold == f])
    steps.append(out)
news = v_information(steps, y, names=order_of_views)
print(news.summary())
plots.information(news)
plt.show()
assert news.chain[1] > 10 * news.se[1]  # the second view is news
assert news.chain[2:].max() < 0.05 * news.chain[0]
assert abs(news.value - news.chain.sum()) < 1e-12

# %% [markdown]
# ## 4. Diversity is not a goal
#
# Cross-entropy of the geometric pool = mean loss - diversity. Push every specialist away from the others: scale its log
# odds' distance from the mean by 1 + g. Diversity rises as much as one likes, the mean loss rises by exactly as much,
# **and the pool does not move**. Diversity earns nothing by itself; what counts is where it comes from.

# %%
centre = np.log(teams["views"]).mean(axis=1, keepdims=True)
pools, diversities = [], []
for push in (0.0, 0.25, 0.5):
    pushed = np.exp(centre + (1 + push) * (np.log(teams["views"]) - centre))
    pushed /= pushed.sum(axis=2, keepdims=True)
    parts = diversity_decomposition(pushed, y)
    pools.append(parts.pool_loss)
    diversities.append(parts.diversity)
    print(f"push {push:.2f}: {parts.summary()}")
np.testing.assert_allclose(pools, pools[0], rtol=1e-9)
assert diversities[2] > 1.5 * diversities[0]

# %% [markdown]
# In training it can harm. Twenty bootstrapped trees at growing depth, then with training labels spoiled more and more: the
# spoiled trees are more diverse than the honest ones of the same depth, and worse. The published counter-evidence goes the same way: pressure for diversity
# harms large networks, which are better when accurate and alike (Abe et al., *Pathologies of predictive diversity in deep
# ensembles*, 2024), and in the exact decompositions diversity is one side of a trade-off (Wood et al., 2023).

# %%
def forest(depth: int, spoiled: float) -> np.ndarray:
    """Probabilities of twenty trees, each on its own bootstrap sample with a share of its labels redrawn."""
    rng, said = np.random.default_rng(0), []
    view = digits.views["kar"]
    for seed in range(20):
        rows = rng.choice(train, len(train))
        labels = digits.y[rows].copy()
        redrawn = rng.random(len(rows)) < spoiled
        labels[redrawn] = rng.integers(0, 10, redrawn.sum())
        tree = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(view[rows], labels)
        p = np.full((len(test), 10), 1e-2)
        p[:, tree.classes_.astype(int)] += tree.predict_proba(view[test])
        said.append(p / p.sum(axis=1, keepdims=True))
    return np.stack(said, axis=1)


trade = {}
for depth, spoiled in ((2, 0.0), (4, 0.0), (8, 0.0), (8, 0.2), (8, 0.5)):
    parts = diversity_decomposition(forest(depth, spoiled), y)
    trade[depth, spoiled] = parts
    print(f"depth {depth}, {spoiled:.0%} of labels spoiled: {parts.summary()}")
assert trade[2, 0.0].diversity < trade[4, 0.0].diversity < trade[8, 0.0].diversity
assert trade[2, 0.0].pool_loss > trade[4, 0.0].pool_loss > trade[8, 0.0].pool_loss  # here diversity comes with accuracy
assert trade[8, 0.5].pool_loss > trade[8, 0.2].pool_loss > trade[8, 0.0].pool_loss  # and here at its expense
assert min(trade[8, 0.2].diversity, trade[8, 0.5].diversity) > 1.1 * trade[8, 0.0].diversity

# %% [markdown]
# ## 5. Over training sets: what bagging removes and what it cannot
#
# Regression trees, forty training sets. If every tree had a training set of its own, covariance would be zero and averaging
# would remove nearly all variance. Trees bagged from one training set share it: their covariance is what stays.

# %%
def target(x: np.ndarray) -> np.ndarray:
    return np.sin(3 * x[:, 0]) + x[:, 1] ** 2


rng = np.random.default_rng(0)
x_test = rng.uniform(-1, 1, (300, 2))
bagged, own = np.empty((40, 300, 10)), np.empty((40, 300, 10))
for trial in range(40):
    x = rng.uniform(-1, 1, (150, 2))
    noisy = target(x) + 0.5 * rng.normal(size=150)
    for i in range(10):
        rows = rng.integers(0, 150, 150)
        bagged[trial, :, i] = DecisionTreeRegressor(random_state=i).fit(x[rows], noisy[rows]).predict(x_test)
        fresh = rng.uniform(-1, 1, (150, 2))
        own[trial, :, i] = DecisionTreeRegressor(random_state=i).fit(fresh, target(fresh) + 0.5 * rng.normal(size=150)).predict(x_test)
shared, apart = (bias_variance_covariance(panel, target(x_test)) for panel in (bagged, own))
print("bagged from one set:", shared.summary(), "\na set for every tree:", apart.summary())
plots.bias_variance(shared)
plt.show()
assert abs(shared.identity_gap) < 1e-12 and abs(apart.identity_gap) < 1e-12
assert shared.covariance > 0.2 * shared.variance
assert abs(apart.covariance) < 0.05 * apart.variance
assert shared.covariance > 2 * shared.variance / 10  # most of what is left cannot be averaged away
assert apart.loss < 0.5 * shared.loss
