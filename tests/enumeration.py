"""Naive twins of `theory`: written like the definitions, over all coalitions, pairs and votes, without "
"speed."""

from __future__ import annotations

from itertools import combinations, product
from math import comb, exp, factorial, lgamma, sqrt

import numpy as np


def size_weight(s, m, rule, beta=None):
    """Weight of one coalition of size s among the m - 1 others."""
    if rule == "shapley":
        return factorial(s) * factorial(m - 1 - s) / factorial(m)
    if rule == "banzhaf":
        return 1.0 / 2 ** (m - 1)
    if rule == "leave_one_out":
        return float(s == m - 1)
    if rule == "solo":
        return float(s == 0)
    a, b = beta
    # Integral of t^s (1 - t)^(m-1-s) under the beta law of parameters (b, a).
    return exp(
        lgamma(s + b) + lgamma(m - 1 - s + a) - lgamma(m - 1 + a + b) - lgamma(a) - lgamma(b) + lgamma(a + b)
    )


def all_coalitions(m):
    for size in range(m + 1):
        yield from combinations(range(m), size)


def semivalue(v, m, rule, beta=None):
    """Prices (minus the attributed loss) of a game given as a dict from coalitions to losses."""
    prices = np.zeros(m)
    for i in range(m):
        others = [j for j in range(m) if j != i]
        for size in range(m):
            for members in combinations(others, size):
                joined = tuple(sorted((*members, i)))
                prices[i] += size_weight(size, m, rule, beta) * (v[members] - v[joined])
    return prices


def mean_game(errors, v0, quorum=1, baseline=None):
    """Loss of every coalition: mean squared error of the mean; errors (sample, specialist, output)."""
    table = {}
    for members in all_coalitions(errors.shape[1]):
        total = errors[:, list(members)].sum(axis=1)
        if baseline is not None:
            c, e0 = baseline
            table[members] = float(np.mean((((total + c * e0) / (len(members) + c)) ** 2).sum(axis=1)))
        elif len(members) < quorum:
            table[members] = float(v0)
        else:
            table[members] = float(np.mean(((total / len(members)) ** 2).sum(axis=1)))
    return table


def vote_win(row, truth):
    """Share of the truth in the win of a plurality vote, ties split; abstentions (-1) do not count."""
    codes = [code for code in row if code >= 0]
    counts = {code: codes.count(code) for code in codes}
    if not counts:
        return None
    best = max(counts.values())
    winners = [code for code, count in counts.items() if count == best]
    return (truth in winners) / len(winners)


def vote_game(row, truth, v0, quorum=1):
    """Loss of every coalition of one sample; abstainers are null players."""
    table = {}
    for members in all_coalitions(len(row)):
        voters = [row[i] for i in members if row[i] >= 0]
        table[members] = v0 if len(voters) < max(quorum, 1) else 1.0 - vote_win(voters, truth)
    return table


def correlation_loop(errors):
    """Correlation, its influence standard error, pair by pair and sample by sample."""
    n, m = errors.shape
    r, se = np.eye(m), np.zeros((m, m))
    for i, j in product(range(m), repeat=2):
        x = (errors[:, i] - errors[:, i].mean()) / errors[:, i].std()
        y = (errors[:, j] - errors[:, j].mean()) / errors[:, j].std()
        r[i, j] = np.mean(x * y)
        influence = [x[t] * y[t] - r[i, j] * (x[t] ** 2 + y[t] ** 2) / 2 for t in range(n)]
        se[i, j] = sqrt(sum(f**2 for f in influence)) / n
    return r, se


def constant_correlation_loop(errors):
    """Ledoit-Wolf shrinkage to constant correlation, entry by entry, mean known to be 0."""
    n, m = errors.shape
    s = errors.T @ errors / n
    r = np.mean([s[i, j] / sqrt(s[i, i] * s[j, j]) for i in range(m) for j in range(m) if i != j])
    f = np.array([[s[i, i] if i == j else r * sqrt(s[i, i] * s[j, j]) for j in range(m)] for i in range(m)])
    pi = np.zeros((m, m))
    q = 0.0
    for i, j in product(range(m), repeat=2):
        e = errors[:, i] * errors[:, j] - s[i, j]
        pi[i, j] = np.mean(e**2)
        if i == j:
            q += pi[i, i]
        else:
            theta_ii = np.mean((errors[:, i] ** 2 - s[i, i]) * e)
            theta_jj = np.mean((errors[:, j] ** 2 - s[j, j]) * e)
            q += r / 2 * (sqrt(s[j, j] / s[i, i]) * theta_ii + sqrt(s[i, i] / s[j, j]) * theta_jj)
    amount = min(max((pi.sum() - q) / (n * ((f - s) ** 2).sum()), 0.0), 1.0)
    return (1 - amount) * s + amount * f, amount


def agreement_loop(answers, truth, options, abstain):
    """Every statistic of `error_agreement`, one pair at a time."""
    n, m = answers.shape
    names = (
        "phi",
        "disagreement",
        "double_fault",
        "kappa",
        "capa",
        "same_wrong",
        "same_wrong_chance",
        "q",
        "y",
    )
    out = {name: np.full((m, m), np.nan) for name in names}
    for i, j in product(range(m), repeat=2):
        said = [t for t in range(n) if answers[t, i] >= 0 and answers[t, j] >= 0]
        rows = said if abstain == "pairwise" else list(range(n))
        wi = np.array([answers[t, i] != truth[t] for t in rows], float)
        wj = np.array([answers[t, j] != truth[t] for t in rows], float)
        a, b = wi.mean(), wj.mean()
        if wi.std() > 0 and wj.std() > 0:
            out["phi"][i, j] = np.mean((wi - a) * (wj - b)) / (wi.std() * wj.std())
        out["disagreement"][i, j] = np.mean(wi != wj)
        out["double_fault"][i, j] = np.mean(wi * wj)
        expected = a * b + (1 - a) * (1 - b)
        if expected < 1:
            out["kappa"][i, j] = (np.mean(wi == wj) - expected) / (1 - expected)
        odds = (
            (np.sum(wi * wj) + 0.5)
            * (np.sum((1 - wi) * (1 - wj)) + 0.5)
            / ((np.sum(wi * (1 - wj)) + 0.5) * (np.sum((1 - wi) * wj) + 0.5))
        )
        out["q"][i, j], out["y"][i, j] = (odds - 1) / (odds + 1), (sqrt(odds) - 1) / (sqrt(odds) + 1)
        joint = [t for t in said if answers[t, i] != truth[t] and answers[t, j] != truth[t]]
        if joint:
            out["same_wrong"][i, j] = np.mean([answers[t, i] == answers[t, j] for t in joint])
            out["same_wrong_chance"][i, j] = np.mean([1 / (options[t] - 1) for t in joint])
        ci = np.mean([answers[t, i] == truth[t] for t in said])
        cj = np.mean([answers[t, j] == truth[t] for t in said])
        observed = np.mean([answers[t, i] == answers[t, j] for t in said])
        chance = ci * cj + (1 - ci) * (1 - cj) * np.mean([1 / (options[t] - 1) for t in said])
        if chance < 1:
            out["capa"][i, j] = (observed - chance) / (1 - chance)
    return out


def vote_error_enumerated(accuracy, weights=None):
    """Error of a two-way vote over all 2^M outcomes; ties count one half."""
    m = len(accuracy)
    weights = [1] * m if weights is None else weights
    error = 0.0
    for outcome in product((0, 1), repeat=m):
        chance = np.prod([p if right else 1 - p for p, right in zip(accuracy, outcome, strict=True)])
        lead = sum(w if right else -w for w, right in zip(weights, outcome, strict=True))
        error += chance * (1.0 if lead < 0 else 0.5 if lead == 0 else 0.0)
    return error


def beta_binomial_error(m, p, rho):
    """Error of an exchangeable vote by integrating over the common chance of being right."""
    a, b = p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho
    error = 0.0
    for k in range(m + 1):
        logs = lgamma(k + a) + lgamma(m - k + b) - lgamma(m + a + b) - lgamma(a) - lgamma(b) + lgamma(a + b)
        error += comb(m, k) * exp(logs) * (1.0 if 2 * k < m else 0.5 if 2 * k == m else 0.0)
    return error


def cut_fuse(kind, errors, cut):
    """Trimmed mean, winsorized mean or median of a few numbers, from the sorted list."""
    ranked = sorted(errors)
    t = len(ranked)
    b = {"median": (t - 1) // 2}.get(kind, min(cut(t), (t - 1) // 2))
    kept = ranked[b : t - b]
    if kind == "winsorized":
        kept = [kept[0]] * b + kept + [kept[-1]] * b
    return sum(kept) / len(kept)


def order_game(kind, row, v0, cut, quorum=1):
    """Loss of every coalition of one sample under a rule that sorts; row (specialist, output)."""
    table = {}
    for members in all_coalitions(len(row)):
        if len(members) < quorum or not members:
            table[members] = v0
        else:
            table[members] = sum(
                cut_fuse(kind, [row[i][o] for i in members], cut) ** 2 for o in range(len(row[0]))
            )
    return table


def precision_of(matrix, shift, members):
    """Precision of a coalition, by solving its own system."""
    at = list(members)
    return float(shift[at] @ np.linalg.solve(matrix[np.ix_(at, at)], shift[at])) if at else 0.0


def fixed_weights_game(matrix, weights, v0):
    """Loss of every coalition when absent specialists leave their share empty."""
    table = {}
    for members in all_coalitions(len(matrix)):
        w = np.array([weights[i] if i in members else 0.0 for i in range(len(matrix))])
        table[members] = float(v0 * (1.0 - w.sum()) + w @ matrix @ w)
    return table


def weighted_vote_game(row, weights, v0, quorum=1):
    """Loss of every coalition of one sample; row holds 1 = right, 0 = wrong; ties count one half."""
    table = {}
    for members in all_coalitions(len(row)):
        lead = sum(weights[i] if row[i] else -weights[i] for i in members)
        loss = 0.0 if lead > 0 else 1.0 if lead < 0 else 0.5
        table[members] = loss if len(members) >= max(quorum, 1) else v0
    return table


def neighbour_game(row, distance, k, v0=1.0):
    """Loss of every coalition of one sample: 1 minus the right ones among its k nearest, over k."""
    table = {}
    for members in all_coalitions(len(row)):
        nearest = sorted(members, key=lambda i: (distance[i], i))[:k]
        table[members] = 1.0 - sum(row[i] for i in nearest) / k if members else v0
    return table
