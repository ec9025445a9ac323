"""The statistics of `error_agreement`, with their standard errors, from counts over pairs."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory._influence import correlation_interval
from theory._pair_tables import PairTable, influence_se, pair_table, relabelled, same_answers, wilson

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Up to so many codes a dense table of marginals is quicker than a sparse one.
_FEW_CODES = 1024


class Statistics(NamedTuple):
    """Values, standard errors and intervals by name."""

    values: dict[str, Floats]
    se: dict[str, Floats]
    ci: dict[str, Floats]


class Counts:
    """Answers with everything that is counted over their pairs, each count made once.

    Parameters
    ----------
    answers : ndarray of int, shape (sample, specialist)
        Codes, -1 = abstained.
    truth, options : ndarray of int, shape (sample,)
        Right codes and numbers of options.
    abstain : str
        ``"wrong"`` or ``"pairwise"``.
    group : ndarray of int or None
        Group of every sample.
    """

    def __init__(self, answers: Ints, truth: Ints, options: Ints, abstain: str, group: Ints | None) -> None:
        self.answers, self.options, self.abstain, self.group = answers, options, abstain, group
        self.answered = answers >= 0
        self.correct = answers == truth[:, None]
        self.complete = bool(self.answered.all())

    @cached_property
    def errors(self) -> PairTable:
        """Counts under the policy for abstentions."""
        counted = self.answered if self.abstain == "pairwise" and not self.complete else None
        return pair_table(self.answers, self.correct, counted, self.same)

    @cached_property
    def answers_both(self) -> PairTable:
        """Counts over the samples both answered."""
        if self.complete or self.abstain == "pairwise":
            return self.errors
        return pair_table(self.answers, self.correct, self.answered, self.same)

    @cached_property
    def same(self) -> Floats:
        """Counts of equal answers."""
        return same_answers(self.answers)

    def by_group(self, both: bool) -> list[PairTable] | None:
        """Count every group, under the policy or over the samples both answered."""
        if self.group is None:
            return None
        counted = self.answered if (both or self.abstain == "pairwise") and not self.complete else None
        order = np.argsort(self.group, kind="stable")
        cuts = np.flatnonzero(np.diff(self.group[order])) + 1
        return [
            pair_table(self.answers[rows], self.correct[rows], None if counted is None else counted[rows])
            for rows in np.split(order, cuts)
        ]


def binary_statistics(counts: Counts, quantile: float) -> Statistics:
    """Statistics of right against wrong: phi, Q, Y, disagreement, double fault, error consistency."""
    table, groups = counts.errors, counts.by_group(both=False)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.where(table.n > 0, table.n, np.nan)
        a, b = table.wrong, table.wrong.T
        p00, p10, p01, p11 = (
            table.right / n,
            table.left_wrong / n,
            table.right_wrong / n,
            table.both_wrong / n,
        )
        sd = np.sqrt(a * (1 - a) * b * (1 - b))
        flat = ~(sd > 0)
        phi = np.where(flat, np.nan, np.clip((p11 - a * b) / sd, -1.0, 1.0))
        low, high = np.minimum(a, b), np.maximum(a, b)
        most = np.sqrt(low * (1 - high) / (high * (1 - low)))
        phi_se = influence_se(_phi_influence(phi, a, b), table, groups, n)

        observed, expected = p11 + p00, a * b + (1 - a) * (1 - b)
        rest = np.where(1 - expected > 0, 1 - expected, np.nan)
        kappa = (observed - expected) / rest
        kappa_se = influence_se(_kappa_influence(observed, rest, a, b), table, groups, n)

        cells = [c + 0.5 for c in (table.both_wrong, table.right, table.left_wrong, table.right_wrong)]
        log_odds = np.log(cells[0] * cells[1] / (cells[2] * cells[3]))
        if groups is None:
            odds_se = np.sqrt(sum(1.0 / c for c in cells))
        else:
            i00, i10, i01, i11 = 1 / cells[1], -1 / cells[2], -1 / cells[3], 1 / cells[0]
            odds_se = influence_se((i00, i10, i01, i11, i11), table, groups, np.ones_like(n))
        q, y = np.tanh(log_odds / 2), np.tanh(log_odds / 4)
        ends = np.stack([log_odds - quantile * odds_se, log_odds + quantile * odds_se])

        apart = p10 + p01
        apart_se = influence_se((-apart, 1 - apart, 1 - apart, -apart, -apart), table, groups, n)
        fault_se = influence_se((-p11, -p11, -p11, 1 - p11, 1 - p11), table, groups, n)
    values = {
        "phi": phi, "phi_ratio": np.where(flat, np.nan, phi / most), "q": q, "y": y, "disagreement": apart,
        "double_fault": p11, "kappa": kappa,
    }  # fmt: skip
    se = {
        "phi": phi_se, "q": (1 - q**2) / 2 * odds_se, "y": (1 - y**2) / 4 * odds_se, "kappa": kappa_se,
        "disagreement": apart_se, "double_fault": fault_se,
    }  # fmt: skip
    ci = {
        "phi": correlation_interval(phi, phi_se, quantile),
        "q": np.tanh(ends / 2),
        "y": np.tanh(ends / 4),
        "kappa": correlation_interval(kappa, kappa_se, quantile),
        "disagreement": wilson(apart, n, apart_se, quantile),
        "double_fault": wilson(p11, n, fault_se, quantile),
    }
    return Statistics(values, se, ci)


def strata_statistics(counts: Counts, strata: Ints, quantile: float) -> Statistics:
    """Mantel-Haenszel odds ratio of erring together within strata, and Yule's Q of it."""
    m = counts.answers.shape[1]
    counted = counts.answered if counts.abstain == "pairwise" and not counts.complete else None
    r, s, pr, cross, qs = (np.zeros((m, m)) for _ in range(5))
    order = np.argsort(strata, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(strata[order])) + 1):
        table = pair_table(
            counts.answers[rows], counts.correct[rows], None if counted is None else counted[rows]
        )
        n = np.maximum(table.n, 1.0)
        same, apart = (table.both_wrong + table.right) / n, (table.left_wrong + table.right_wrong) / n
        up, down = table.both_wrong * table.right / n, table.left_wrong * table.right_wrong / n
        r, s = r + up, s + down
        pr, cross, qs = pr + same * up, cross + same * down + apart * up, qs + apart * down
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = r / s
        q = (r - s) / (r + s)
        # Variance of the logarithm, robust to many small strata as to few large ones.
        se = np.sqrt(pr / (2 * r**2) + cross / (2 * r * s) + qs / (2 * s**2))
        ends = np.stack([np.log(odds) - quantile * se, np.log(odds) + quantile * se])
        q_se = np.where(np.isfinite(se), (1 - q**2) / 2 * se, np.nan)
        q_ci = np.where(np.isfinite(ends), np.tanh(ends / 2), np.nan)
    return Statistics({"odds_ratio_strata": odds, "q_strata": q}, {"q_strata": q_se}, {"q_strata": q_ci})


def _phi_influence(phi: Floats, a: Floats, b: Floats) -> tuple[Floats, ...]:
    """Influence z_i z_j - r (z_i^2 + z_j^2) / 2, z standardised; wrong and right are two points each."""
    wrong_i, right_i = np.sqrt((1 - a) / a), -np.sqrt(a / (1 - a))
    wrong_j, right_j = np.sqrt((1 - b) / b), -np.sqrt(b / (1 - b))

    def at(zi: Floats, zj: Floats) -> Floats:
        return np.asarray(zi * zj - phi * (zi**2 + zj**2) / 2)

    both = at(wrong_i, wrong_j)
    return at(right_i, right_j), at(wrong_i, right_j), at(right_i, wrong_j), both, both


def _kappa_influence(observed: Floats, rest: Floats, a: Floats, b: Floats) -> tuple[Floats, ...]:
    slope = (1 - observed) / rest**2

    def at(agree: float, wrong_i: float, wrong_j: float) -> Floats:
        moved = (2 * b - 1) * (wrong_i - a) + (2 * a - 1) * (wrong_j - b)
        return np.asarray((agree - observed) / rest - slope * moved)

    both = at(1.0, 1.0, 1.0)
    return at(1.0, 0.0, 0.0), at(0.0, 1.0, 0.0), at(0.0, 0.0, 1.0), both, both


def same_wrong_statistics(counts: Counts, quantile: float) -> Statistics:
    """Share of joint errors with the same answer, by pair and pooled, and the chance level."""
    table, groups = counts.answers_both, counts.by_group(both=True)
    joint = table.both_wrong
    chance_of = 1.0 / (counts.options - 1.0)
    wrong = counts.answered & ~counts.correct
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(joint > 0, table.same / joint, np.nan)
        zero = np.zeros_like(joint)
        se = influence_se((zero, zero, zero, 1 - share, -share), table, groups, joint)
        if np.ptp(chance_of) == 0:
            chance = np.where(joint > 0, chance_of[0], np.nan)
        else:
            both = wrong.astype(np.float64)
            chance = np.where(joint > 0, both.T @ (both * chance_of[:, None]) / joint, np.nan)
    pooled, pooled_se = _pooled_same_wrong(counts, wrong)
    values = {
        "same_wrong": share, "same_wrong_chance": chance, "n_joint_wrong": joint, "n_pair": table.n,
        "same_wrong_pooled": np.array(pooled),
    }  # fmt: skip
    pairs_wrong = np.array(float(np.triu(joint, 1).sum()))
    ci = {
        "same_wrong": wilson(share, joint, se, quantile),
        "same_wrong_pooled": wilson(np.array(pooled), pairs_wrong, np.array(pooled_se), quantile),
    }
    return Statistics(values, {"same_wrong": se, "same_wrong_pooled": np.array(pooled_se)}, ci)


def _pooled_same_wrong(counts: Counts, wrong: NDArray[np.bool_]) -> tuple[float, float]:
    """Divide the same wrong answers by the errors of all pairs; give the standard error too."""
    answers = counts.answers
    codes = relabelled(answers) if int(answers.max(initial=0)) >= len(answers[0]) else answers
    width = int(codes.max(initial=0)) + 2
    # Abstentions and right answers go to a last column that is dropped.
    cell = np.where(wrong, codes, width - 1) + (np.arange(len(codes)) * width)[:, None]
    tally = np.bincount(cell.ravel(), minlength=len(codes) * width).reshape(-1, width)[:, :-1]
    same = (tally * (tally - 1)).sum(axis=1) / 2.0
    k = wrong.sum(axis=1)
    joint = k * (k - 1) / 2.0
    total = float(joint.sum())
    if total == 0:
        return float("nan"), float("nan")
    share = float(same.sum()) / total
    psi = same - share * joint
    if counts.group is None:
        return share, float(np.sqrt((psi**2).sum())) / total
    sums = np.bincount(counts.group, weights=psi)
    return share, float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1))) / total


def capa_statistics(counts: Counts, probabilities: Floats | None, truth: Ints, quantile: float) -> Statistics:
    """Chance-adjusted probabilistic agreement over the samples both answered."""
    table = counts.answers_both
    chance_of = 1.0 / (counts.options - 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        n = np.where(table.n > 0, table.n, np.nan)
        if np.ptp(chance_of) == 0:
            chance = np.full_like(n, chance_of[0])
        else:
            said = counts.answered.astype(np.float64)
            chance = said.T @ (said * chance_of[:, None]) / n
        if probabilities is None:
            q = 1.0 - table.wrong
            observed = (table.right + table.same) / n
        else:
            of_truth = np.zeros(counts.answers.shape)
            known = truth < probabilities.shape[2]
            of_truth[known] = probabilities[known, :, truth[known]]
            q = of_truth.T @ counts.answered.astype(np.float64) / n
            observed = (
                sum(
                    (
                        probabilities[:, :, k].T @ probabilities[:, :, k]
                        for k in range(probabilities.shape[2])
                    ),
                    np.zeros_like(n),
                )
                / n
            )
        r = q.T
        expected = q * r + (1 - q) * (1 - r) * chance
        rest = np.where(1 - expected > 0, 1 - expected, np.nan)
        capa = (observed - expected) / rest
        slope = (1 - observed) / rest**2
        to_i, to_j = r - (1 - r) * chance, q - (1 - q) * chance
        if probabilities is None:

            def at(agree: float, right_i: float, right_j: float) -> Floats:
                moved = to_i * (right_i - q) + to_j * (right_j - r)
                return np.asarray((agree - observed) / rest - slope * moved)

            influence = (at(1, 1, 1), at(0, 0, 1), at(0, 1, 0), at(1, 0, 0), at(0, 0, 0))
            se = influence_se(influence, table, counts.by_group(both=True), n)
        else:
            se = _capa_se_by_sample(counts, probabilities, of_truth, observed, rest, slope, to_i, to_j, q, n)
    return Statistics({"capa": capa}, {"capa": se}, {"capa": correlation_interval(capa, se, quantile)})


def _capa_se_by_sample(
    counts: Counts,
    probabilities: Floats,
    of_truth: Floats,
    observed: Floats,
    rest: Floats,
    slope: Floats,
    to_i: Floats,
    to_j: Floats,
    q: Floats,
    n: Floats,
) -> Floats:
    """With probabilities the agreement of a pair varies from sample to sample: go through them in blocks."""
    size, m = counts.answers.shape
    order = np.arange(size) if counts.group is None else np.argsort(counts.group, kind="stable")
    starts = (
        np.arange(size) if counts.group is None else np.flatnonzero(np.diff(counts.group[order], prepend=-1))
    )
    step = max(1, 2_000_000 // (m * m))
    square, carried = np.zeros((m, m)), np.zeros((m, m))
    open_group = -1
    for begin in range(0, size, step):
        rows = order[begin : begin + step]
        agree = np.einsum("nik,njk->nij", probabilities[rows], probabilities[rows], optimize=True)
        t = of_truth[rows]
        psi = (agree - observed) / rest
        psi -= slope * (to_i * (t[:, :, None] - q) + to_j * (t[:, None, :] - q.T))
        here = counts.answered[rows]
        psi *= here[:, :, None] & here[:, None, :]
        which = np.searchsorted(starts, np.arange(begin, begin + len(rows)), side="right") - 1
        cuts = np.flatnonzero(np.diff(which, prepend=which[0] - 1))
        sums = np.add.reduceat(psi, cuts, axis=0)
        if which[0] == open_group:
            sums[0] += carried
        else:
            square += carried**2
        # The last group of a block may go on in the next one.
        square += np.einsum("gij,gij->ij", sums[:-1], sums[:-1])
        carried, open_group = sums[-1], int(which[-1])
    square += carried**2
    factor = 1.0 if counts.group is None else len(starts) / (len(starts) - 1)
    return np.asarray(np.sqrt(square * factor) / n)


def cohen_kappa(counts: Counts) -> Floats:
    """Cohen's kappa of labels; marginals of each specialist are over all samples it answered."""
    table = counts.answers_both
    expected_by_chance = _chance_agreement(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (table.right + table.same) / np.where(table.n > 0, table.n, np.nan)
        room = 1 - expected_by_chance
        return np.asarray((observed - expected_by_chance) / np.where(room > 1e-15, room, np.nan))


def _chance_agreement(counts: Counts) -> Floats:
    """Agreement of all pairs if answers were drawn from each one's own marginal."""
    said = np.maximum(counts.answered.sum(axis=0), 1.0)
    m, n_codes = counts.answers.shape[1], int(counts.answers.max(initial=0)) + 1
    if n_codes <= _FEW_CODES:
        cells = np.arange(m) * (n_codes + 1) + np.where(counts.answered, counts.answers, n_codes)
        tally = np.bincount(cells.ravel(), minlength=m * (n_codes + 1)).reshape(m, n_codes + 1)
        marginal = tally[:, :n_codes] / said[:, None]
        return np.asarray(marginal @ marginal.T)
    from scipy.sparse import csr_array

    which = np.nonzero(counts.answered.T)[0]
    # Open answers have codes by the thousand, few of them used by any one specialist.
    labels, codes = np.unique(counts.answers.T[counts.answered.T], return_inverse=True)
    sparse = csr_array((1.0 / said[which], (which, codes)), shape=(m, max(len(labels), 1)))
    return np.asarray((sparse @ sparse.T).toarray())
