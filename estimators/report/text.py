"""An audit as plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.doubt import SHARES, risk_at
from estimators.drift import FUSED, RHO
from estimators.report.words import risk_words, rule_words, unit_words

if TYPE_CHECKING:
    from estimators.audit import PanelAudit


def audit_to_text(audit: PanelAudit, *, width: int = 100, n_rows: int = 12) -> str:
    """Write a fitted audit as tables and sentences.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.
    width : int
        Columns of the terminal.
    n_rows : int
        Most specialists to list; the HTML report lists all.

    Returns
    -------
    str
    """
    unit = unit_words(audit.task_)
    parts = [
        f"{audit.n_samples_:,} samples, {len(audit.names_)} specialists, answers are {audit.task_}",
        _block("In figures", _figures(audit)),
        _block("Fusion rules, on samples they did not learn from", _leaderboard(audit, unit)),
        _block("What each specialist is worth", _prices(audit, unit, n_rows)),
    ]
    if len(audit.robustness_):
        parts.append(
            _block(f"Worst {unit} with liars (every lie and set of liars tried)", _robustness(audit))
        )
    parts.append(_block("If it hands its most doubtful samples to someone else", _deferral(audit)))
    if audit.drift_ is not None:
        parts.append(_block("Over time", _drift(audit, n_rows)))
    if audit.bounds_:
        parts.append(_block("Bounds", _bounds(audit)))
    parts.append(_block("Recommendation", _sentences(audit.reasons_, width)))
    parts.append(_block("Findings", _sentences(audit.findings_, width)))
    if audit.warnings_:
        parts.append(_block("Be careful", _sentences(audit.warnings_, width)))
    return "\n\n".join(parts) + "\n"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align a table: the first column left, the others right.

    Parameters
    ----------
    header : sequence of str
        Column titles.
    rows : sequence of sequence of str
        Cells.

    Returns
    -------
    str
    """
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(w) if j == 0 else cell.rjust(w)
            for j, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def headline(audit: PanelAudit) -> list[tuple[str, str, str]]:
    """Give the figures that a reader wants first.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.

    Returns
    -------
    list of (str, str, str)
        Name, value, and what the value means.
    """
    board, rho, n = audit.leaderboard_, audit.error_correlation_, len(audit.names_)
    unit = unit_words(audit.task_)
    rows = []
    if "best_single" in board.index:
        best = audit.scores_["score"].idxmax()
        rows.append(("best single specialist", _score(board, "best_single"), f"{unit}; {best}"))
    for rule, label in (("plurality_vote", "plurality"), ("mean", "plain mean")):
        if rule in board.index:
            rows.append((label, _score(board, rule), f"{unit}; {rule_words(rule)}"))
    fused = [rule for rule in board.index if rule != "best_single"]
    if fused:
        rows.append(("best fused, out of fold", _score(board, fused[0]), f"{unit}; {fused[0]}"))
    low_high = rho.rho_mean_ci
    interval = "" if low_high is None else f"95 % interval {low_high[0]:.3f} to {low_high[1]:.3f}; "
    exchangeable = audit.effective_number_.all["exchangeable"]
    return [
        *rows,
        ("mean error correlation rho", f"{rho.rho_mean:.3f}", f"{interval}0 would be independent"),
        (
            "effective number of specialists",
            f"{exchangeable:.2f}",
            f"of {n}, M / (1 + (M-1) rho); {audit.effective_number_.value:.2f} by the variance seen",
        ),
        (
            "variance of the panel",
            f"{audit.variance_.ratio:.2f} times",
            f"that of independent errors; 1 + (M-1) rho = {1 + (n - 1) * rho.rho_mean:.2f}",
        ),
    ]


def _score(board: Any, rule: str) -> str:
    return f"{board.loc[rule, 'score']:.3f}"


def _block(title: str, body: str) -> str:
    return f"{title}\n{'=' * len(title)}\n{body}"


def _figures(audit: PanelAudit) -> str:
    rows = headline(audit)
    wide, deep = (max(len(row[k]) for row in rows) for k in (0, 1))
    return "\n".join(f"{name.ljust(wide)}  {value.rjust(deep)}  {note}" for name, value, note in rows)


def _leaderboard(audit: PanelAudit, unit: str) -> str:
    board = audit.leaderboard_
    references = [name for name in ("best_single", "plurality_vote", "mean") if f"gain_{name}" in board]
    more = [key for key in ("log_loss", "brier") if key in board]
    header = ["rule", unit, "se", *more, *(f"gain over {name} (95 %)" for name in references)]
    rows = []
    for rule, row in board.iterrows():
        cells = [str(rule), f"{row['score']:.4f}", f"{row['se']:.4f}", *(f"{row[key]:.3f}" for key in more)]
        for name in references:
            gain, low, high = (row[f"gain_{name}{end}"] for end in ("", "_low", "_high"))
            cells.append("" if rule == name else f"{gain:+.4f} ({low:+.4f} to {high:+.4f})")
        rows.append(cells)
    return format_table(header, rows)


def _prices(audit: PanelAudit, unit: str, n_rows: int) -> str:
    prices, scores = audit.prices_, audit.scores_
    order = np.argsort(-prices.value, kind="stable")
    shown = order if len(order) <= n_rows else np.concatenate([order[: n_rows - 3], order[-3:]])
    rows = []
    for position, i in enumerate(shown):
        if len(order) > n_rows and position == n_rows - 3:
            rows.append([f"... {len(order) - n_rows} more ...", "", "", "", ""])
        name = prices.names[i]
        se = "" if prices.se is None else f"{prices.se[i]:.5f}"
        rows.append(
            [
                name,
                f"{scores.loc[name, 'score']:.4f}",
                f"{scores.loc[name, 'answered']:.1%}",
                f"{prices.value[i]:+.5f}",
                se,
            ]
        )
    table = format_table(["specialist", unit, "answered", "price", "se"], rows)
    total = (
        f"\nsum of prices {prices.value.sum():.12f} = value of the panel {prices.total:.12f} "
        f"(difference {abs(prices.value.sum() - prices.total):.1e}); loss of the empty panel "
        f"{float(np.mean(prices.v0)):.4f}; {prices.rule} value of the {prices.game} game"
    )
    return table + total


def _robustness(audit: PanelAudit) -> str:
    table = audit.robustness_
    counts = sorted(set(table["n_byzantine"]))
    worst = table.groupby(["rule", "n_byzantine"])["worst"].min().unstack()
    worst = worst.loc[worst[counts[-1]].sort_values(ascending=False, kind="stable").index]
    rows = [
        [str(rule), *("" if np.isnan(row[f]) else f"{row[f]:.3f}" for f in counts)]
        for rule, row in worst.iterrows()
    ]
    return format_table(["rule", *("honest" if f == 0 else f"{f} liar{'s' * (f > 1)}" for f in counts)], rows)


def deferral_rows(audit: PanelAudit) -> list[tuple[str, str]]:
    """Give shares answered and what is wrong among them, as text.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.

    Returns
    -------
    list of (str, str)
        Equal doubts are answered together, so shares may be larger than the usual ones, and some are left out.
    """
    form = ".3f" if audit.task_ == "numbers" else ".1%"
    points = dict.fromkeys(risk_at(audit.deferral_, share) for share in SHARES)
    return [(f"{share:.0%}", f"{risk:{form}}") for share, risk in points]


def drift_rows(audit: PanelAudit) -> list[tuple[str, list[str], str]]:
    """Give what changed most first: its name, its figure in every block, and the corrected p.

    Parameters
    ----------
    audit : PanelAudit
        Fitted, with blocks.

    Returns
    -------
    list of (str, list of str, str)
        The recommended rule and the error correlation first, then specialists by p.
    """
    drift = audit.drift_
    assert drift is not None
    values = {
        FUSED: drift.fused,
        RHO: drift.rho,
        **dict(zip(audit.names_, drift.score.T, strict=True)),
    }
    order = [FUSED, RHO, *drift.tests.drop([FUSED, RHO]).sort_values("p", kind="stable").index]
    rows = []
    for name in order:
        p = float(drift.tests.loc[name, "p_holm"])
        told = "" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
        rows.append((str(name), ["" if np.isnan(v) else f"{v:.3f}" for v in values[name]], told))
    return rows


def _deferral(audit: PanelAudit) -> str:
    return format_table(["answered", risk_words(audit.task_)], [list(row) for row in deferral_rows(audit)])


def _drift(audit: PanelAudit, n_rows: int) -> str:
    drift = audit.drift_
    assert drift is not None
    header = ["block", *(f"{a}-{b - 1}" for a, b in zip(drift.start, drift.stop, strict=True)), "p"]
    rows = [[name, *cells, p] for name, cells, p in drift_rows(audit)]
    hidden = len(rows) - n_rows - 2
    more = f"\n... {hidden} more, changed less" if hidden > 0 else ""
    told = "\np: how likely such differences between blocks are by chance, corrected for the number of rows"
    return format_table(header, rows[: n_rows + 2]) + more + told


def _bounds(audit: PanelAudit) -> str:
    return "\n".join(f"{name}: {_bound(bound)}" for name, bound in audit.bounds_.items())


def _bound(bound: Any) -> str:
    if is_empty(bound):
        return f"says nothing here ({bound.method})"
    lower = "" if bound.lower is None else f"at least {bound.lower:.4f}, "
    return f"{lower}at most {bound.value:.4f} ({bound.method}; assumes: {bound.assume})"


def is_empty(bound: Any) -> bool:
    """Tell whether a bound on an error rate leaves everything between 0 and 1 open."""
    return bool(bound.value >= 0.9995 and (bound.lower is None or bound.lower <= 0.0005))


def _sentences(sentences: Sequence[str], width: int) -> str:
    return "\n".join(
        textwrap.fill(text, width, initial_indent="- ", subsequent_indent="  ") for text in sentences
    )
