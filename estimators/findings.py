"""The audit's findings in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.doubt import risk_at

if TYPE_CHECKING:
    from estimators.audit import PanelAudit


def describe(audit: PanelAudit) -> tuple[list[str], list[str], list[str]]:
    """Put a fitted audit into sentences.

    Parameters
    ----------
    audit : PanelAudit
        With everything but the words.

    Returns
    -------
    reasons : list of str
        Why the recommended rule.
    findings : list of str
        What else was found.
    warnings : list of str
        What to be careful about.
    """
    return _reasons(audit), _findings(audit), _warnings(audit)


def _reasons(audit: PanelAudit) -> list[str]:
    board, name = audit.leaderboard_, audit.recommended_name_
    row = board.loc[name]
    unit = "R2" if audit.task_ == "numbers" else "accuracy"
    reasons = []
    if audit.withstand and len(audit.robustness_):
        at = audit.robustness_[audit.robustness_["n_byzantine"] == audit.withstand]
        worst = float(at[at["rule"] == name]["worst"].min())
        reasons.append(
            f"Use {name}: with {audit.withstand} of {len(audit.names_)} specialists lying it keeps {unit} "
            f"{worst:.3f} in the worst case tried, and no other rule keeps more; with everybody honest it reaches "
            f"{row['score']:.3f}."
        )
    else:
        place = f"the best of {len(board)} rules"
        if name != board.index[0]:
            place = f"within noise of the best of {len(board)} rules, and of those the one with the best Brier score"
        reasons.append(
            f"Use {name}: {unit} {row['score']:.3f} (standard error {row['se']:.3f}) on samples it did not learn "
            f"from, {place}."
        )
    if name == "best_single":
        reasons.append(
            "No fusion beats the best specialist alone beyond noise here: ask that one, and save the others' cost."
        )
    elif "gain_best_single" in board:
        reasons.append(_compare(row, "best_single", "the best single specialist", unit))
    reference = "plurality_vote" if audit.task_ == "labels" else "mean"
    label = "counting all heads (plurality)" if audit.task_ == "labels" else "the plain mean"
    if reference != name and f"gain_{reference}" in board:
        reasons.append(_compare(row, reference, label, unit))
    simpler = _simplest_level_rule(audit)
    if simpler is not None:
        reasons.append(
            f"{simpler} is simpler, and cannot be told from {name} here: the difference lies within its standard "
            "error. Prefer it where simplicity counts."
        )
    return reasons


def _compare(row: Any, reference: str, label: str, unit: str) -> str:
    gain, low, high = (float(row[f"gain_{reference}{end}"]) for end in ("", "_low", "_high"))
    interval = f"{gain:+.3f} {unit} (95 % paired interval {low:+.3f} to {high:+.3f})"
    if low > 0:
        return f"It beats {label}: {interval}."
    if high < 0:
        return f"It is worse than {label}: {interval}."
    return f"It is level with {label}: {interval}."


_SIMPLEST = ("best_single", "plurality_vote", "mean", "median", "log_pool")


def _simplest_level_rule(audit: PanelAudit) -> str | None:
    board, name = audit.leaderboard_, audit.recommended_name_
    if audit.withstand or name in _SIMPLEST:
        return None
    from estimators.leaderboard import paired_gain

    for rule in _SIMPLEST:
        if rule in board.index:
            gain, se = paired_gain(audit.table_, audit.fused_[name], audit.fused_[rule])
            if gain <= se:
                return rule
    return None


def _findings(audit: PanelAudit) -> list[str]:
    rho, variance, n = audit.error_correlation_, audit.variance_, len(audit.names_)
    interval = (
        ""
        if rho.rho_mean_ci is None
        else f" (95 % interval {rho.rho_mean_ci[0]:.3f} to {rho.rho_mean_ci[1]:.3f})"
    )
    number = audit.effective_number_
    found = [
        f"The {n} specialists' errors have a mean correlation of {rho.rho_mean:.3f}{interval}: together they are worth "
        f"about {number.all['exchangeable']:.2f} independent ones ({number.value:.2f} by the variance that was seen).",
        f"The variance of the panel's mean error is {variance.ratio:.2f} times what independent errors would leave; "
        f"1 + (M-1) rho = {1 + (n - 1) * rho.rho_mean:.2f}.",
    ]
    if audit.agreement_ is not None:
        same = audit.agreement_.mean["same_wrong"]
        if np.isfinite(same):
            chance = float(np.nanmean(audit.agreement_.same_wrong_chance))
            found.append(
                f"When two specialists are both wrong they give the same wrong answer in {same:.1%} of cases (mean over "
                f"pairs); by chance it would be {chance:.1%}."
            )
    best = audit.scores_["score"].idxmax()
    unit = "R2" if audit.task_ == "numbers" else "accuracy"
    found.append(
        f"The best single specialist is {best} ({unit} {audit.scores_['score'].max():.3f} on these samples)."
    )
    prices = audit.prices_
    order = np.argsort(-prices.value)
    game = "the plurality vote" if prices.game == "plurality" else "the mean"
    found.append(
        f"Under {game}, {prices.names[order[0]]} earns most ({prices.value[order[0]]:+.4f} of the loss it helps to remove) "
        f"and {prices.names[order[-1]]} least ({prices.value[order[-1]]:+.4f})."
    )
    if audit.costs_ is not None:
        per_cost = prices.value / audit.costs_
        found.append(f"Per cost, {prices.names[int(per_cost.argmax())]} earns most ({per_cost.max():+.4f}).")
    if prices.se is not None:
        harmful = [prices.names[i] for i in order if prices.value[i] + 1.96 * prices.se[i] < 0]
        if harmful:
            found.append(f"These cost the panel more than they bring, beyond doubt: {', '.join(harmful)}.")
    if audit.clones_.clusters:
        paid = dict(zip(audit.quotient_prices_.names, audit.quotient_prices_.value, strict=True))
        groups = "; ".join(
            f"{' = '.join(group)} (together {sum(paid[name] for name in group):+.4f} under the mean)"
            for group in audit.clones_.clusters
        )
        found.append(f"Near copies of one another, to be counted and paid once: {groups}.")
    found.extend(_attack_findings(audit, unit))
    found.extend(_deferral_findings(audit))
    found.extend(_drift_findings(audit))
    return found


def _deferral_findings(audit: PanelAudit) -> list[str]:
    curve, numbers = audit.deferral_, audit.task_ == "numbers"
    _, everything = risk_at(curve, 1.0)
    part, less = risk_at(curve, 0.9)
    if not everything > 0:
        return []
    if part > 0.99:
        return [
            f"{audit.recommended_name_} is equally sure of nearly all samples, so its doubt cannot choose which to hand on."
        ]
    what, form = ("squared error (1 = that of the mean)", ".3f") if numbers else ("error rate", ".1%")
    then = "lowers" if less < everything else "does not lower"
    text = (
        f"Handing the most doubtful {1 - part:.0%} of samples to someone else {then} {audit.recommended_name_}'s {what} "
        f"on the rest from {everything:{form}} to {less:{form}}; picking them at random would leave it as it is."
    )
    return [text]


def _drift_findings(audit: PanelAudit) -> list[str]:
    drift = audit.drift_
    if drift is None:
        return []
    changed = drift.changed()
    unit = "R2" if audit.task_ == "numbers" else "accuracy"
    if not changed:
        return [
            f"No change over time: over {len(drift.start)} blocks of samples no {unit} and no error correlation moved "
            "beyond chance."
        ]
    tests = drift.tests
    told = [
        f"{name} ({tests.loc[name, 'first']:.3f} in the first block, {tests.loc[name, 'last']:.3f} in the last, at least "
        f"{tests.loc[name, 'least']:.3f} and at most {tests.loc[name, 'most']:.3f})"
        for name in changed
    ]
    return [
        f"Changed over time, beyond chance: {'; '.join(told)}. Prices and weights learned on all samples mix before and "
        "after."
    ]


def _attack_findings(audit: PanelAudit, unit: str) -> list[str]:
    table = audit.robustness_
    if not len(table):
        return []
    found = []
    honest = table[table["n_byzantine"] == 0].set_index("rule")["worst"]
    for f in sorted(set(table["n_byzantine"]) - {0}):
        worst = table[table["n_byzantine"] == f].groupby("rule")["worst"].min()
        strongest = worst.idxmax()
        name = audit.recommended_name_
        text = f"With {f} liar{'s' * (f > 1)}, "
        if name in worst.index and name != strongest:
            text += (
                f"{name} falls from {unit} {honest[name]:.3f} to {worst[name]:.3f} in the worst case tried; "
            )
        found.append(text + f"{strongest} holds best ({worst[strongest]:.3f}).")
    return found


def _warnings(audit: PanelAudit) -> list[str]:
    notes = list(audit.table_.notes)
    parts = (
        (audit.error_correlation_, "correlation"),
        (audit.agreement_, "agreement"),
        (audit.prices_, "prices"),
        (audit.clones_, "clones"),
    )
    for result, what in parts:
        notes.extend(f"{what}: {text}" for text in getattr(result, "warnings", ()))
    if audit.n_samples_ < audit.n_given_:
        notes.append(
            f"Audited on {audit.n_samples_:,} samples drawn at random from {audit.n_given_:,} (max_samples)."
        )
    if audit.n_samples_ < 100:
        notes.append(
            f"Only {audit.n_samples_} samples: intervals are wide and learned rules have little to learn from."
        )
    answered = audit.scores_["answered"]
    quiet = answered[answered < 0.8]
    if len(quiet):
        notes.append(
            f"{len(quiet)} specialist{'s' * (len(quiet) > 1)} left more than a fifth of the samples unanswered "
            f"({', '.join(f'{name} {1 - share:.0%}' for name, share in quiet.items())}); an abstention counts as not right."
        )
    for rule, reason in audit.refused_.items():
        notes.append(f"{rule} was left out: {reason}")
    for rule, reason in audit.unattacked_.items():
        notes.append(f"{rule} is not in the table of liars: {reason}")
    if audit.too_many_liars_:
        notes.append(
            f"{' and '.join(map(str, audit.too_many_liars_))} liars of {len(audit.names_)} specialists were not "
            "tried: nothing withstands half the panel."
        )
    if audit.table_.groups is not None and audit.bounds_:
        notes.append("bounds: they count samples as independent, so with groups they are too tight.")
    notes.append(
        "The winner among several rules was picked on these samples, so its score is a little optimistic."
    )
    return notes
