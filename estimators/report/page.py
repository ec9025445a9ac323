"""The audit as one self-contained HTML page."""

from __future__ import annotations

from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from estimators.report.plots import audit_plots
from estimators.report.text import headline

if TYPE_CHECKING:
    from estimators.audit import PanelAudit


def render(audit: PanelAudit, *, title: str) -> str:
    """Write a fitted audit as HTML.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.
    title : str
        Title of the page; escaped, as every name is.

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
        raise ImportError("the HTML report needs matplotlib and jinja2: pip install 'consilience[report]'") from error
    folder = files("estimators.report")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        folder.joinpath("page.html").read_text(encoding="utf-8")
    )
    return template.render(
        title=title,
        style=folder.joinpath("page.css").read_text(encoding="utf-8"),
        version=version("consilience"),
        audit=audit,
        unit="R2" if audit.task_ == "numbers" else "accuracy",
        headline=headline(audit),
        plots=audit_plots(audit),
        specialists=_specialists(audit),
        rules=_rules(audit),
        liars=_liars(audit),
        bounds=audit.bounds_,
    )


def _specialists(audit: PanelAudit) -> list[dict[str, Any]]:
    prices, scores = audit.prices_, audit.scores_
    rows = []
    for i in np.argsort(-prices.value, kind="stable"):
        name = prices.names[i]
        row = {
            "name": name,
            "score": f"{scores.loc[name, 'score']:.3f}",
            "answered": f"{scores.loc[name, 'answered']:.1%}",
            "price": f"{prices.value[i]:+.5f}",
            "se": "" if prices.se is None else f"{prices.se[i]:.5f}",
        }
        if audit.costs_ is not None:
            row["per_cost"] = f"{prices.value[i] / audit.costs_[i]:+.5f}"
        rows.append(row)
    return rows


def _rules(audit: PanelAudit) -> dict[str, Any]:
    board = audit.leaderboard_
    references = [name for name in ("best_single", "plurality_vote", "mean") if f"gain_{name}" in board]
    more = [key for key in ("log_loss", "brier") if key in board]
    rows = []
    for rule, row in board.iterrows():
        gains = []
        for name in references:
            gain, low, high = (row[f"gain_{name}{end}"] for end in ("", "_low", "_high"))
            verdict = "better" if low > 0 else "worse" if high < 0 else "level"
            gains.append(None if rule == name else (f"{gain:+.3f}", f"{low:+.3f} to {high:+.3f}", verdict))
        rows.append(
            {
                "rule": rule,
                "score": f"{row['score']:.3f}",
                "se": f"{row['se']:.3f}",
                "more": [f"{row[key]:.3f}" for key in more],
                "gains": gains,
            }
        )
    return {"references": references, "more": more, "rows": rows}


def _liars(audit: PanelAudit) -> dict[str, Any] | None:
    if not len(audit.robustness_):
        return None
    table = audit.robustness_
    counts = sorted(set(table["n_byzantine"]))
    worst = table.loc[table.groupby(["rule", "n_byzantine"])["worst"].idxmin()].set_index(["rule", "n_byzantine"])
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
            cells.append((f"{row['worst']:.3f}", "" if f == 0 else f"{row['lie']}: {row['liars']}"))
        rows.append({"rule": rule, "cells": cells})
    return {"counts": counts, "rows": rows}
