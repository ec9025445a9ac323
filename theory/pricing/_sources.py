"""From what was handed in (matrix, errors, votes, panel, function) to prices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._checks import read_errors, read_matrix, read_options, read_truth
from theory._exceptions import PanelError
from theory.labels import as_labels
from theory.panel import as_panel
from theory.pricing._clusters import cluster_shares, read_clusters, split_weights
from theory.pricing._losses import read_loss
from theory.pricing._majority import majority_by_count, plain_table
from theory.pricing._mean_game import MeanGame, price_matrix
from theory.pricing._sampled import price_game
from theory.pricing._semivalues import mean_game_law
from theory.pricing._terms import (
    Terms,
    assemble,
    mean_and_deviation,
    read_v0,
    read_v0_needed,
    squared_deviations,
)
from theory.pricing._vote_games import MOST_VOTERS, compositions, vote_prices
from theory.pricing.baseline import Baseline
from theory.pricing.result import Prices

Floats = NDArray[np.float64]
# Samples per block: three passes over 1024 x 50 errors find them in the second-level cache.
_BLOCK = 1024


def price_from_matrix(
    source: Any, v0: Any, terms: Terms, *, baseline: Baseline | None, clusters: Any, split: str
) -> Prices:
    """Mean game from a second moment of errors."""
    matrix, found = read_matrix(source, what="second moment")
    notes: tuple[str, ...] = ()
    found_kind = getattr(source, "kind", "second_moment")
    if found_kind == "correlation":
        raise PanelError(
            "a correlation holds no loss to pay out. Price the errors, or error_covariance(errors)."
        )
    if found_kind != "second_moment":
        notes = (f"priced from a {found_kind}: the bias of the specialists is left out",)
    fixed: tuple[float, Floats, float] | None = None
    if baseline is not None:
        fixed = _baseline_moments(baseline, v0, len(matrix))
        loss0 = fixed[2]
    else:
        loss0 = read_v0_needed(v0)
    codes = None if clusters is None else read_clusters(clusters, len(matrix))
    inner = matrix
    if codes is not None:
        shares = cluster_shares(codes)
        inner = shares @ matrix @ shares.T
        if fixed is not None:
            fixed = (fixed[0], shares @ fixed[1], fixed[2])
    terms.check_quorum(len(inner))
    law = mean_game_law(len(inner), terms.rule, terms.beta, terms.quorum, None if fixed is None else fixed[0])
    value, total, parts = price_matrix(inner, loss0, law, fixed)
    kept: dict[str, Floats] | None = parts
    if codes is not None:
        value = value @ split_weights(codes, "first" if split == "first" else "equal")
        if split == "euler":
            value = value + _euler_shift(
                matrix, shares, codes, law.own, law.with_others, law.crowd_own, law.crowd_pairs
            )
        kept = None
    return assemble(
        terms, terms.named(found), "mean", value, total, loss0,
        exact=True, method="closed form", parts=kept, exaggeration=law.exaggeration, clusters=codes,
        warnings=notes,
    )  # fmt: skip


def _baseline_moments(baseline: Baseline, v0: Any, m: int) -> tuple[float, Floats, float]:
    weight = baseline.check()
    if baseline.cross is None or baseline.second_moment is None:
        raise PanelError("a baseline beside a matrix needs cross= (E[e0 e_i]) and second_moment= (E[e0^2]).")
    if v0 is not None:
        raise PanelError("with a baseline the empty panel has the baseline's loss: leave v0 out.")
    cross = np.asarray(baseline.cross, dtype=np.float64)
    if cross.shape != (m,) or not np.isfinite(cross).all():
        raise PanelError(
            f"baseline.cross must be one finite number per specialist ({m}); got shape {cross.shape}."
        )
    square = float(baseline.second_moment)
    if not (np.isfinite(square) and square >= 0):
        raise PanelError(f"baseline.second_moment must be a number >= 0; got {square!r}.")
    return weight, cross, square


def _euler_shift(
    matrix: Floats, shares: Floats, codes: NDArray[np.int64], a: float, b: float, g: float, u: float
) -> Floats:
    """Move the equal split to the share with which each member's errors enter the cluster's price.

    A cluster's price holds -(alpha E[c c] + beta E[c t]) with c the mean of its members and t the
    sum of cluster means; member i gets alpha E[c e_i] + beta E[e_i t], over the cluster's size.
    """
    alpha, beta = a - g - 2.0 * b + 2.0 * u, 2.0 * (b - u)
    with_own = (shares @ matrix)[codes, np.arange(len(codes))]
    with_all = (shares @ matrix).sum(axis=0)
    entry = alpha * with_own + beta * with_all
    size = np.bincount(codes)[codes]
    return np.asarray(-(entry - (shares @ entry)[codes]) / size)


def price_from_errors(
    source: Any,
    v0: Any,
    terms: Terms,
    *,
    baseline: Baseline | None,
    clusters: Any,
    split: str,
    groups: ArrayLike | None,
    missing: str,
) -> Prices:
    """Mean game from errors by sample."""
    table = read_errors(source, missing=missing, least=1)
    values, answered, names = table.values, table.answered, terms.named(table.names)
    n, m = table.n, values.shape[1]
    reference, weight = None, None
    if baseline is not None:
        weight = baseline.check()
        reference = _baseline_errors(baseline, v0, values)
        loss0: Floats = np.einsum("no,no->n", reference, reference)
    else:
        loss0 = read_v0(v0, n)
    codes = None if clusters is None else read_clusters(clusters, m)
    inner, present = values, answered
    if codes is not None:
        if split == "euler" and answered is not None:
            raise PanelError(
                "split='euler' needs every answer; with missing='abstain' use split='equal' or 'first'."
            )
        inner, present = _cluster_errors(values, answered, codes)
    terms.check_quorum(inner.shape[1])
    plain = not (terms.errors_wanted or terms.per_sample) and codes is None and answered is None
    if plain:
        law = mean_game_law(m, terms.rule, terms.beta, terms.quorum, weight)
        start = float(loss0.mean())
        parts, everything = _parts(values, start, law, weight, reference)
        loss = law.h_all * everything if law.h_all > 0.0 else start
        value = np.asarray(np.sum(list(parts.values()), axis=0))
        return assemble(
            terms, names, "mean", value, start - loss, start, n=n, exact=True, method="closed form",
            parts=parts, exaggeration=law.exaggeration, warnings=terms.reminder(),
        )  # fmt: skip
    game = MeanGame(inner, present, loss0, terms.rule, terms.beta, terms.quorum, weight, reference)
    keep = terms.per_sample or groups is not None or codes is not None
    value, total, detail, deviation = game.run(keep)
    law = game.law(inner.shape[1])
    if codes is not None and detail is not None:
        detail = detail @ split_weights(codes, "first" if split == "first" else "equal")
        if split == "euler":
            detail += _euler_shift_by_sample(values, inner, codes, law)
        value = detail.mean(axis=0)
    kept: Floats | None = deviation
    if not terms.errors_wanted:
        kept = None
    elif detail is not None and (groups is not None or codes is not None):
        kept = squared_deviations(detail, groups)
    shown = None
    if codes is None and answered is None:
        shown, _ = _parts(values, float(loss0.mean()), law, weight, reference)
    return assemble(
        terms, names, "mean", value, total, float(loss0.mean()),
        deviation=kept, n=n, exact=True, method="closed form", parts=shown,
        exaggeration=law.exaggeration, clusters=codes, per_sample=detail if terms.per_sample else None,
        warnings=terms.reminder(),
    )  # fmt: skip


def _baseline_errors(baseline: Baseline, v0: Any, values: Floats) -> Floats:
    if v0 is not None:
        raise PanelError("with a baseline the empty panel has the baseline's loss: leave v0 out.")
    if baseline.errors is None:
        raise PanelError("a baseline beside errors needs errors= (sample,) or (sample, output) of its own.")
    errors = np.asarray(baseline.errors, dtype=np.float64)
    errors = errors[:, None] if errors.ndim == 1 else errors
    if errors.shape != (values.shape[0], values.shape[2]) or not np.isfinite(errors).all():
        raise PanelError(
            f"baseline.errors must be finite, of shape {(values.shape[0], values.shape[2])}; got "
            f"{errors.shape}."
        )
    return errors


def _cluster_errors(
    values: Floats, answered: NDArray[np.bool_] | None, codes: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.bool_] | None]:
    if answered is None:
        return np.einsum("cm,nmo->nco", cluster_shares(codes), values, optimize=True), None
    member = (codes[None, :] == np.arange(int(codes.max()) + 1)[:, None]).astype(np.float64)
    counts = answered @ member.T
    sums = np.einsum("cm,nmo->nco", member, values, optimize=True)
    return sums / np.maximum(counts, 1.0)[:, :, None], counts > 0


def _euler_shift_by_sample(values: Floats, inner: Floats, codes: NDArray[np.int64], law: Any) -> Floats:
    alpha = law.own - law.crowd_own - 2.0 * law.with_others + 2.0 * law.crowd_pairs
    beta = 2.0 * (law.with_others - law.crowd_pairs)
    toward = alpha * inner[:, codes] + beta * inner.sum(axis=1)[:, None]
    entry = np.einsum("nmo,nmo->nm", toward, values)
    mean = entry @ cluster_shares(codes).T
    return np.asarray(-(entry - mean[:, codes]) / np.bincount(codes)[codes])


def _parts(
    values: Floats, v0: float, law: Any, weight: float | None, reference: Floats | None
) -> tuple[dict[str, Floats], float]:
    """Parts from errors without the M x M matrix, and the mean square of the sum of all answers.

    The diagonal of the matrix, its row sums and its total suffice: O(M) memory beside one block of samples.
    """
    n, m, outputs = values.shape
    own, row, cross = np.zeros(m), np.zeros(m), np.zeros(m)
    everything, fused_cross, square = 0.0, 0.0, 0.0
    for start in range(0, n, _BLOCK):
        e = values[start : start + _BLOCK]
        e0 = None if reference is None else reference[start : start + _BLOCK]
        for o in range(outputs):
            flat = e[:, :, o]
            t = flat @ np.ones(m)
            own += np.einsum("ni,ni->i", flat, flat)
            row += t @ flat
            everything += float(t @ t)
            if e0 is not None:
                cross += e0[:, o] @ flat
                fused_cross += float(e0[:, o] @ t)
                square += float(e0[:, o] @ e0[:, o])
    own, row, cross, everything = own / n, row / n - own / n, cross / n, everything / n
    trace = float(own.sum())
    parts = {
        "own": -law.own * own,
        "with_others": -2.0 * law.with_others * row,
        "crowd": -law.crowd_own * (trace - own) - law.crowd_pairs * (everything - trace - 2.0 * row),
        "reference": np.full(m, law.reference * v0),
    }
    if weight is not None and reference is not None:
        parts["with_others"] -= 2.0 * weight * law.own * cross
        parts["crowd"] -= 2.0 * weight * law.crowd_own * (cross.sum() - cross)
        parts["reference"] = np.full(m, -(weight**2) * v0 * law.opening)
        everything += (2.0 * weight * fused_cross + weight**2 * square) / n
    return parts, everything


def price_votes(
    source: Any,
    y: ArrayLike | None,
    v0: Any,
    n_options: ArrayLike | None,
    game: str,
    terms: Terms,
    *,
    groups: Any,
) -> Prices:
    """Majority and plurality votes, from label answers or from a table of right and wrong."""
    one_loss = v0 is not None and not isinstance(v0, str) and np.ndim(v0) == 0 and 0.0 <= v0 <= 1.0
    if game == "majority" and y is None and one_loss and groups is None and not terms.per_sample:
        table = plain_table(source)
        if table is not None and n_options is None and table.shape[1] <= MOST_VOTERS:
            terms.check_quorum(table.shape[1])
            found = majority_by_count(table, float(v0), terms)
            return assemble(
                terms, terms.named(tuple(map(str, range(table.shape[1])))), game, found.value, found.total,
                float(v0), deviation=found.deviation if terms.errors_wanted else None, n=len(table), exact=True,
                method=f"closed form ({found.compositions} compositions)", warnings=terms.reminder(),
            )  # fmt: skip
    answers, names = as_labels(source)
    if answers.ndim != 2 or len(answers) == 0:
        raise PanelError(f"votes need the axes (sample, specialist); got shape {answers.shape}.")
    n = len(answers)
    if game == "plurality":
        if y is None:
            raise PanelError("game='plurality' needs y, the code of the right label of every sample.")
        truth = read_truth(y, n)
    else:
        if y is not None:
            answers = np.where(answers < 0, -1, answers == read_truth(y, n)[:, None]).astype(np.int64)
        if answers.max(initial=0) > 1:
            raise PanelError(
                "game='majority' takes a table of 1 = right and 0 = wrong; got larger codes. Give y= to "
                "compare labels with, or use game='plurality'."
            )
        truth = np.ones(n, dtype=np.int64)
    terms.check_quorum(answers.shape[1])
    least = int(max(answers.max(initial=0), truth.max(initial=0))) + 1
    if isinstance(v0, str):
        if v0 != "chance" or (n_options is None and game == "plurality"):
            raise PanelError(
                "v0='chance' needs n_options=, the number of options of every sample; else give a number."
            )
        options = read_options(n_options, n, least)
        if game == "plurality" and (answers >= options[:, None]).any():
            i, j = np.argwhere(answers >= options[:, None])[0]
            raise PanelError(
                f"specialist {names[j]!r} gave code {answers[i, j]} on sample {i}, which has {options[i]} options. "
                "Codes run from 0 to n_options - 1; -1 abstains."
            )
        loss0 = 1.0 - 1.0 / options
    else:
        loss0 = read_v0(v0, n)
        if (loss0 < 0).any() or (loss0 > 1).any():
            raise PanelError("v0 of a vote is a chance of being wrong and lies in [0, 1].")
    counts, own = compositions(answers, truth)
    by_sample, totals, evaluations = vote_prices(
        counts, own, loss0, rule=terms.rule, beta=terms.beta, quorum=terms.quorum, compiled=n > 16
    )
    notes = terms.reminder()
    value, deviation = mean_and_deviation(by_sample, groups, terms)
    silent = float((answers < 0).mean())
    if silent:
        notes += (
            f"{silent:.1%} of the answers are abstentions: they play no part in their sample and earn 0 "
            "there",
        )
    return assemble(
        terms, terms.named(names), game, value, float(totals.mean()), float(loss0.mean()),
        deviation=deviation, n=n, exact=True,
        method=f"closed form ({evaluations} compositions)", per_sample=by_sample if terms.per_sample else None,
        warnings=notes,
    )  # fmt: skip


def price_fused(
    source: Any,
    y: ArrayLike | None,
    fuse: Callable[[Any], Any],
    loss: Any,
    v0: Any,
    n_options: ArrayLike | None,
    terms: Terms,
    *,
    groups: Any,
    exact: bool | None,
    n_permutations: int,
    seed: int,
) -> Prices:
    """Any rule, as a callable on the panel of a coalition."""
    if y is None:
        raise PanelError("fuse= needs y, the truth that fused answers are compared with.")
    labels = np.ndim(source) == 2
    if labels and loss == "squared":
        raise PanelError(
            "a table (sample, specialist) is read as labels. A panel of numbers has a third axis for its outputs: "
            "pass panel[:, :, None]."
        )
    panel: NDArray[Any]
    if labels:
        panel, names = as_labels(source)
    else:
        panel, wrap = as_panel(source)
        names = wrap.names
        if panel.ndim != 3:
            raise PanelError(f"fuse= needs a panel (sample, specialist, output); got shape {panel.shape}.")
    n, m = panel.shape[:2]
    terms.check_quorum(m)
    score = read_loss(loss, y, n, labels)
    if isinstance(v0, str) and v0 == "chance":
        if n_options is None:
            raise PanelError("v0='chance' needs n_options=, the number of options of every sample.")
        if loss not in (None, "zero_one", "brier", "log"):
            raise PanelError(
                f"chance has no loss that is known under loss={loss!r}. Give v0, what an empty panel loses, as a number."
            )
        options = read_options(n_options, n, 2)
        loss0: Floats = np.log(options) if loss == "log" else 1.0 - 1.0 / options
    else:
        loss0 = read_v0(v0, n)

    def game(members: tuple[int, ...]) -> Floats:
        return score(fuse(panel[:, list(members)]))

    result = price_game(
        game, m, loss0, rule=terms.rule, beta=terms.beta, quorum=terms.quorum,
        exact=exact, n_permutations=n_permutations, seed=seed,
    )  # fmt: skip
    value, deviation = mean_and_deviation(result.table, groups, terms)
    return assemble(
        terms, terms.named(names), "fuse", value, float(result.totals.mean()),
        float(loss0.mean()), deviation=deviation, n=n, order_se=result.order_se,
        exact=result.exact, method=result.method, n_evaluations=result.n_evaluations,
        seed=None if result.exact else seed, per_sample=result.table if terms.per_sample else None,
        warnings=terms.reminder(),
    )  # fmt: skip


def price_callable(
    source: Any, v0: float, terms: Terms, *, exact: bool | None, n_permutations: int, seed: int
) -> Prices:
    """Any function from coalitions to losses."""
    if not callable(source):
        raise PanelError(
            f"game='callable' needs a function of a tuple of indices; got {type(source).__name__}."
        )
    if terms.names is None or not terms.names:
        raise PanelError(
            "game='callable' needs names=, one per specialist: the function does not say how many."
        )
    terms.check_quorum(len(terms.names))

    def game(members: tuple[int, ...]) -> Floats:
        value = np.asarray(source(members), dtype=np.float64)
        if value.shape != () or not np.isfinite(value):
            raise PanelError(f"the loss of coalition {members} must be one finite number; got {value!r}.")
        return value.reshape(1)

    result = price_game(
        game, len(terms.names), np.array([v0]), rule=terms.rule, beta=terms.beta, quorum=terms.quorum,
        exact=exact, n_permutations=n_permutations, seed=seed,
    )  # fmt: skip
    return assemble(
        terms, terms.names, "callable", result.table[0], float(result.totals[0]), v0,
        order_se=result.order_se, exact=result.exact, method=result.method,
        n_evaluations=result.n_evaluations, seed=None if result.exact else seed,
    )  # fmt: skip
