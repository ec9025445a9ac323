"""The audit as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.report.plots import audit_plots
from estimators.report.ranges import make_scale
from estimators.report.text import deferral_rows, drift_rows, headline, is_empty
from estimators.report.words import (
    GLOSSARY,
    lie_words,
    loss_words,
    risk_words,
    rule_words,
    task_words,
    unit_words,
)

if TYPE_CHECKING:
    from estimators.audit import PanelAudit


def render(audit: PanelAudit, *, title: str, notes: Sequence[str] = ()) -> str:
    """Write a fitted audit as HTML.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.
    title : str
        Title of the page; escaped, as every name is.
    notes : sequence of str
        Decisions taken in reading the panel, listed at the end.

    Returns
    -------
    str
        No script, no external resource; the same audit gives the same page.

    Raises
    ------
    ImportError
        If jinja2 or matplotlib is not installed.
    """
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise ImportError(
            "the HTML report needs matplotlib and jinja2: pip install 'consilience[report]'"
        ) from error
    folder = files("estimators.report")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        folder.joinpath("page.html").read_text(encoding="utf-8")
    )
    return template.render(
        title=title,
        notes=notes,
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        version=version("consilience"),
        audit=audit,
        unit=unit_words(audit.task_),
        task=task_words(audit.task_),
        loss=loss_words(audit.task_),
        rule_words=rule_words,
        headline=headline(audit),
        plots=audit_plots(audit),
        prices=_prices(audit),
        rules=_rules(audit),
        liars=_liars(audit),
        risk=risk_words(audit.task_),
        deferral=deferral_rows(audit),
        drift=_drift(audit),
        bounds=[_bound(name, bound) for name, bound in audit.bounds_.items()],
        glossary=GLOSSARY,
    )


def _prices(audit: PanelAudit) -> dict[str, Any]:
    prices, scores = audit.prices_, audit.scores_
    spread = np.zeros(len(prices.value)) if prices.se is None else 1.96 * np.nan_to_num(prices.se)
    scale = make_scale([0.0, *(prices.value - spread), *(prices.value + spread)])
    quotient = audit.quotient_prices_
    rows = []
    for i in np.argsort(-prices.value, kind="stable"):
        name, value = prices.names[i], float(prices.value[i])
        row = {
            "name": name,
            "score": f"{scores.loc[name, 'score']:.3f}",
            "answered": f"{scores.loc[name, 'answered']:.0%}",
            "price": f"{value:+.4f}",
            "se": "" if prices.se is None else f"{prices.se[i]:.4f}",
            "sign": "plus" if value >= 0 else "minus",
            "bar": scale.span(0.0, value),
            "whisker": scale.span(value - spread[i], value + spread[i]),
        }
        if quotient is not None:
            row["once"] = f"{quotient.value[i]:+.4f}"
        if audit.costs_ is not None:
            row["per_cost"] = f"{value / audit.costs_[i]:+.4f}"
        rows.append(row)
    return {"rows": rows, "ticks": scale.ticks, "zero": scale.at(0.0)}


def _rules(audit: PanelAudit) -> dict[str, Any]:
    board = audit.leaderboard_
    references = [name for name in ("best_single", "plurality_vote", "mean") if f"gain_{name}" in board]
    more = [key for key in ("log_loss", "brier") if key in board]
    spread = 1.96 * board["se"]
    best = float(board["score"].max())
    # one rule that fails badly would squeeze all others into the right edge
    least = max(-1.0, best - 1.5) if audit.task_ == "numbers" else None
    scale = make_scale([*(board["score"] - spread), *(board["score"] + spread)], least=least)
    rows = []
    for rule, row in board.iterrows():
        gains = []
        for name in references:
            gain, low, high = (row[f"gain_{name}{end}"] for end in ("", "_low", "_high"))
            verdict = "better" if low > 0 else "worse" if high < 0 else "level"
            gains.append(None if rule == name else (f"{gain:+.3f}", f"{low:+.3f} to {high:+.3f}", verdict))
        score, half = float(row["score"]), 1.96 * float(row["se"])
        rows.append(
            {
                "rule": rule,
                "words": rule_words(str(rule)),
                "score": f"{score:.3f}",
                "interval": f"{score - half:.3f} to {score + half:.3f}",
                "more": [f"{row[key]:.3f}" for key in more],
                "gains": gains,
                "dot": scale.at(score),
                "whisker": scale.span(score - half, score + half),
            }
        )
    single = scale.at(float(board.loc["best_single", "score"])) if "best_single" in board.index else None
    return {"references": references, "more": more, "rows": rows, "ticks": scale.ticks, "single": single}


def _liars(audit: PanelAudit) -> dict[str, Any] | None:
    if not len(audit.robustness_):
        return None
    table = audit.robustness_
    counts = sorted(set(table["n_byzantine"]))
    worst = table.loc[table.groupby(["rule", "n_byzantine"])["worst"].idxmin()].set_index(
        ["rule", "n_byzantine"]
    )
    pivot = worst["worst"].unstack()
    order = pivot[counts[-1]].fillna(-np.inf).sort_values(ascending=False, kind="stable").index
    rows = []
    for rule in order:
        cells = []
        for f in counts:
            if (rule, f) not in worst.index:
                cells.append(None)
                continue
            row = worst.loc[(rule, f)]
            cells.append((f"{row['worst']:.3f}", "" if f == 0 else f"{_plain(row['lie'])}: {row['liars']}"))
        rows.append({"rule": rule, "cells": cells})
    lies = [(_plain(lie), lie_words(lie)) for lie in dict.fromkeys(table["lie"]) if lie_words(lie)]
    return {"counts": counts, "rows": rows, "lies": lies}


def _drift(audit: PanelAudit) -> dict[str, Any] | None:
    drift = audit.drift_
    if drift is None:
        return None
    blocks = [f"{a:,} to {b - 1:,}" for a, b in zip(drift.start, drift.stop, strict=True)]
    changed = set(drift.changed())
    rows = [(name, cells, p, name in changed) for name, cells, p in drift_rows(audit)]
    return {"blocks": blocks, "rows": rows}


def _bound(name: str, bound: Any) -> dict[str, str]:
    low = "" if bound.lower is None else f"{bound.lower:.3f}"
    empty = is_empty(bound)
    return {
        "name": name,
        "low": "" if empty else low,
        "high": "says nothing here" if empty else f"{bound.value:.3f}",
        "method": str(bound.method),
        "assume": str(bound.assume),
    }


def _plain(name: str) -> str:
    return str(name).replace("_", " ")
