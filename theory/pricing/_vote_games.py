"""Vote games: a coalition's loss is the chance that its majority or plurality is wrong, ties split.

With F_s the sum of the win of the truth over all s-subsets of a vote, the subsets that hold voter i have the
sum F_s(all) - F_s(all without i). So a voter's price needs F of the vote and of the vote without that voter
only, and both depend on the votes through their composition: how many for the truth, and how many for each
wrong answer. Compositions are priced once each.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from theory._exceptions import PanelError
from theory._pair_tables import relabelled
from theory.pricing._semivalues import size_law

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Binomials of more voters than this overflow a double.
MOST_VOTERS = 1000


def compositions(answers: Ints, y: Ints) -> tuple[Ints, Ints]:
    """Count the votes of every sample.

    Parameters
    ----------
    answers : ndarray of int, shape (sample, specialist)
        Label codes, -1 = abstained.
    y : ndarray of int, shape (sample,)
        The right code.

    Returns
    -------
    counts : ndarray of int, shape (sample, options + 1)
        Votes for the truth, then for every wrong answer, largest first.
    own : ndarray of int, shape (sample, specialist)
        Votes for the answer each specialist gave: positive for the truth, negative for a wrong
        answer, 0 for an abstention.
    """
    n = len(answers)
    if int(max(answers.max(initial=0), y.max(initial=0))) > 4 * answers.shape[1] + 32:
        # Open answers have codes by the thousand, but no sample uses more than one per specialist.
        renamed = relabelled(np.column_stack([y, answers]))
        y, answers = renamed[:, 0], renamed[:, 1:]
    width = int(max(answers.max(initial=0), y.max(initial=0))) + 1
    tally = np.zeros((n, width + 1), dtype=np.int64)
    # Abstentions are counted in a last column of their own, then forgotten.
    column = np.where(answers < 0, width, answers)
    cell = column + (np.arange(n) * (width + 1))[:, None]
    tally.ravel()[:] = np.bincount(cell.ravel(), minlength=tally.size)
    tally[:, width] = 0
    rows = np.arange(n)
    own = np.take_along_axis(tally, column, axis=1)
    own = np.where(answers == y[:, None], own, -own)
    true = tally[rows, y].copy()
    tally[rows, y] = 0
    wrong = -np.sort(-tally, axis=1)
    used = int((wrong > 0).any(axis=0).sum())
    counts = np.column_stack([true, wrong[:, :used]])
    return counts, own


def vote_prices(
    counts: Ints,
    own: Ints,
    v0: Floats,
    *,
    rule: str,
    beta: tuple[float, float] | None,
    quorum: int,
    compiled: bool,
) -> tuple[Floats, Floats, int]:
    """Prices (sample, specialist) and totals (sample,) of a vote, and how many compositions there were."""
    if int(counts.sum(axis=1).max(initial=0)) > MOST_VOTERS:
        raise PanelError(
            f"vote games take at most {MOST_VOTERS} voters per sample; got {int(counts.sum(axis=1).max())}. "
            "Price groups of specialists, or use fuse= with permutations."
        )
    unique, index = _unique_rows(counts)
    gains = _gains(unique, rule, beta, quorum, compiled)
    size = unique.sum(axis=1)
    reference = np.array(
        [_reference(int(k), rule, beta, quorum) for k in range(int(size.max(initial=0)) + 1)]
    )
    width = gains.shape[1] // 2
    table = gains[index[:, None], own + width]
    start = 1.0 - v0
    table -= np.where(own != 0, (reference[size[index]] * start)[:, None], 0.0)
    wins = np.where(size[index] >= quorum, _full_vote(unique)[index], start)
    return table, wins - start, len(unique)


def _unique_rows(counts: Ints) -> tuple[Ints, Ints]:
    """Distinct rows: by a mixed-radix key where it fits, which is some ten times faster than sorting rows."""
    base = int(counts.max(initial=0)) + 1
    if counts.shape[1] * np.log2(max(base, 2)) < 62:
        key = counts @ (base ** np.arange(counts.shape[1], dtype=np.int64))
        _, first, index = np.unique(key, return_index=True, return_inverse=True)
        return counts[first], index
    unique, index = np.unique(counts, axis=0, return_inverse=True)
    return unique, index.ravel()


def _reference(size: int, rule: str, beta: tuple[float, float] | None, quorum: int) -> float:
    return float(size_law(size, rule, beta)[quorum - 1]) if size >= quorum else 0.0


def _full_vote(unique: Ints) -> Floats:
    true, best = unique[:, 0], unique[:, 1:].max(axis=1, initial=0)
    ties = (unique[:, 1:] == true[:, None]).sum(axis=1)
    wins: Floats = np.where((true > 0) & (true >= best), 1.0 / (1.0 + ties), 0.0)
    return wins


def _gains(unique: Ints, rule: str, beta: tuple[float, float] | None, quorum: int, compiled: bool) -> Floats:
    """Gain of a voter, row per composition, column own + width (own as in `compositions`)."""
    width = int(unique.max(initial=0))
    rows: dict[tuple[int, ...], int] = {tuple(row): u for u, row in enumerate(unique.tolist())}
    todo: list[tuple[int, int, int]] = []
    for u, row in enumerate(unique.tolist()):
        if row[0] == 0:
            continue  # the truth has no votes: no coalition is ever right
        seen = 0
        for j, w in enumerate(row):
            if w == 0 or (j > 0 and w == seen):
                continue
            reduced = row.copy()
            reduced[j] -= 1
            if j > 0:
                seen = w
                reduced[1:] = sorted(reduced[1:], reverse=True)
            todo.append((u, w if j == 0 else -w, rows.setdefault(tuple(reduced), len(rows))))
    everything = np.array(list(rows), dtype=np.int64).reshape(len(rows), unique.shape[1])
    sums = _sums(everything, compiled)
    gains = np.zeros((len(unique), 2 * width + 1))
    sizes = unique.sum(axis=1)
    if not todo:
        return gains
    full, own, reduced_rows = np.array(todo).T
    for size in np.unique(sizes[full]):
        pick = sizes[full] == size
        m = int(size)
        s = np.arange(m)
        p = size_law(m, rule, beta) / np.array([float(comb(m - 1, k)) for k in range(m)])
        with_all, without = sums[full[pick]], sums[reduced_rows[pick]]
        joined = (with_all[:, 1 : m + 1] - without[:, 1 : m + 1]) * (s + 1 >= quorum)
        stayed = without[:, :m] * (s >= quorum)
        gains[full[pick], own[pick] + width] = (joined - stayed) @ p
    return gains


def _sums(counts: Ints, compiled: bool) -> Floats:
    out = np.zeros((len(counts), int(counts.sum(axis=1).max(initial=0)) + 2))
    binomial = _binomials(int(counts.max(initial=0)))
    if compiled:
        from theory._kernels import plurality_sums

        plurality_sums(np.ascontiguousarray(counts), binomial, out)
    else:
        plurality_sums_numpy(counts, binomial, out)
    return out


def _binomials(most: int) -> Floats:
    return np.array([[float(comb(n, k)) for k in range(most + 1)] for n in range(most + 1)])


def plurality_sums_numpy(counts: Ints, binomial: Floats, out: Floats) -> None:
    """NumPy twin of the compiled core: one row, one number of true votes, one wrong answer at a time."""
    for u, row in enumerate(counts.tolist()):
        true, wrong = row[0], [w for w in row[1:] if w]
        for a in range(1, true + 1):
            ways = np.ones((1, 1))
            for w in wrong:
                below, ties = min(w, a - 1), w >= a
                grown = np.zeros((ways.shape[0] + ties, ways.shape[1] + min(w, a)))
                for y in range(below + 1):
                    grown[: ways.shape[0], y : y + ways.shape[1]] += ways * binomial[w, y]
                if ties:
                    grown[1:, a : a + ways.shape[1]] += ways * binomial[w, a]
                ways = grown
            share = (ways / (1.0 + np.arange(ways.shape[0]))[:, None]).sum(axis=0)
            out[u, a : a + len(share)] += binomial[true, a] * share
