"""The weighted majority: a coalition's loss is the chance that the heavier side is wrong, ties split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_truth
from theory._exceptions import PanelError
from theory.labels import as_labels
from theory.pricing._order_games import binomials
from theory.pricing._semivalues import size_law
from theory.pricing._terms import Terms, assemble, mean_and_deviation, read_v0
from theory.pricing.result import Prices

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Counts over subsets overflow a double above this many voters; a sum of weights makes tables of that width.
_MOST_VOTERS = 1000
_MOST_WEIGHT = 100_000
# Steps of the counting above which a compiled core is worth loading.
_COMPILE_ABOVE = 100_000


def read_right(
    source: Any, y: ArrayLike | None, game: str
) -> tuple[Floats, NDArray[np.bool_], tuple[str, ...]]:
    """Read who was right (1) or wrong (0) on every sample, who answered, and names."""
    answers, names = as_labels(source)
    if answers.ndim != 2 or len(answers) == 0:
        raise PanelError(f"votes need the axes (sample, specialist); got shape {answers.shape}.")
    present: NDArray[np.bool_] = answers >= 0
    if y is not None:
        right = answers == read_truth(y, len(answers))[:, None]
    elif answers.max(initial=0) > 1:
        raise PanelError(
            f"game={game!r} takes a table of 1 = right and 0 = wrong; got larger codes. Give y= to compare "
            "labels with."
        )
    else:
        right = answers == 1
    return right.astype(np.float64), present, names


def _read_weights(weights: ArrayLike | None, m: int) -> Ints:
    values = None if weights is None else np.asarray(weights)
    whole = values is not None and values.shape == (m,) and values.dtype.kind in "iuf"
    if values is None or not whole or not np.array_equal(values, np.floor(values)) or (values < 0).any():
        raise PanelError(
            f"game='weighted_majority' needs weights=, one whole number >= 0 per specialist ({m}); got "
            f"{'none' if values is None else values.tolist()}. Round log-odds to tenths and multiply by 10, say."
        )
    codes = values.astype(np.int64)
    if not 0 < codes.sum() <= _MOST_WEIGHT or m > _MOST_VOTERS:
        raise PanelError(
            f"weights may sum to between 1 and {_MOST_WEIGHT} over at most {_MOST_VOTERS} specialists; got "
            f"{codes.sum()} over {m}. Divide them by a common factor."
        )
    return np.asarray(codes // np.gcd.reduce(codes))


def price_weighted_majority(
    source: Any, y: ArrayLike | None, v0: Any, weights: ArrayLike | None, terms: Terms, *, groups: Any
) -> Prices:
    """Prices of a two-way vote with whole weights."""
    right, present, names = read_right(source, y, "weighted_majority")
    n, m = right.shape
    heavy = _read_weights(weights, m)
    loss0 = read_v0(v0, n)
    if (loss0 < 0).any() or (loss0 > 1).any():
        raise PanelError("v0 of a vote is a chance of being wrong and lies in [0, 1].")
    terms.check_quorum(m)
    leads = np.where(present, np.where(right > 0, heavy, -heavy), 0)
    detail, totals = np.zeros((n, m)), np.zeros(n)
    patterns, index = _patterns(right, present)
    gains = np.zeros((len(patterns), m))
    sizes = present[patterns].sum(axis=1)
    for size in np.unique(sizes[sizes >= terms.quorum]).tolist():
        rows = patterns[sizes == size]
        here = present[rows]
        packed = leads[rows][here].reshape(len(rows), size)
        law = size_law(size, terms.rule, terms.beta)
        share = law / binomials(size - 1)[size - 1]
        out = np.zeros(packed.shape)
        steps = len(rows) * size * size * int(np.abs(packed).sum(axis=1).max(initial=0))
        if steps > _COMPILE_ABOVE:
            from theory._kernels import weighted_vote_prices

            weighted_vote_prices(np.ascontiguousarray(packed), share, terms.quorum, out)
        else:
            weighted_vote_prices_numpy(packed, share, terms.quorum, out)
        placed = np.zeros((len(rows), m))
        placed[here] = out.ravel()
        gains[sizes == size] = placed
    answered = present.sum(axis=1)
    reference = np.array(
        [
            size_law(k, terms.rule, terms.beta)[terms.quorum - 1] if k >= terms.quorum else 0.0
            for k in range(m + 1)
        ]
    )
    start = 1.0 - loss0
    detail = gains[index] - np.where(present, (reference[answered] * start)[:, None], 0.0)
    lead = leads.sum(axis=1)
    wins = np.where(answered >= terms.quorum, (1.0 + np.sign(lead)) / 2.0, start)
    totals = wins - start
    value, deviation = mean_and_deviation(detail, groups, terms)
    return assemble(
        terms, terms.named(names), "weighted_majority", value, float(totals.mean()), float(loss0.mean()),
        deviation=deviation, n=n, exact=True, method=f"closed form ({len(patterns)} patterns)",
        per_sample=detail if terms.per_sample else None, warnings=terms.reminder(),
    )  # fmt: skip


def _patterns(right: Floats, present: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return the first sample of each distinct pattern of answers, and the pattern of every sample."""
    packed = np.packbits(np.hstack([right > 0, present]), axis=1)
    rows = np.ascontiguousarray(packed).view(np.dtype((np.void, packed.shape[1]))).ravel()
    _, first, index = np.unique(rows, return_index=True, return_inverse=True)
    return first, index.ravel()


def weighted_vote_prices_numpy(leads: Ints, share: Floats, quorum: int, out: Floats) -> None:
    """NumPy twin of the compiled core: counts all others anew for every voter."""
    m = leads.shape[1]
    for row, lead in enumerate(leads.tolist()):
        reach = sum(abs(w) for w in lead)
        win = (1.0 + np.sign(np.arange(-2 * reach, 2 * reach + 1))) / 2.0
        for i, own in enumerate(lead):
            ways = np.zeros((m + 1, 4 * reach + 1))
            ways[0, 2 * reach] = 1.0
            for j, w in enumerate(lead):
                if j != i:
                    ways[1:] += np.roll(ways[:-1], w, axis=1)
            after = (np.roll(ways, own, axis=1) @ win)[:m]
            before = (ways @ win)[:m]
            size = np.arange(m)
            gain = np.where(size + 1 >= quorum, after, 0.0) - np.where(size >= quorum, before, 0.0)
            out[row, i] = float(share @ gain)
