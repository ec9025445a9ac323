"""The report's plots, as inline SVG; matplotlib is imported here only."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from theory import variance_curve

if TYPE_CHECKING:
    from estimators.audit import PanelAudit

_BLUE, _ORANGE, _GREY, _INK = "#2f6db5", "#d9822b", "#9aa4af", "#26323d"
_MOST = 30  # specialists or rules that a plot names; the tables name all


def audit_plots(audit: PanelAudit) -> dict[str, str]:
    """Draw a fitted audit.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.

    Returns
    -------
    dict of str to str
        ``correlation``, ``variance``, ``prices``, ``rules`` and, where liars were tried,
        ``robustness``: each an ``<svg>`` element without external references.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    plots: dict[str, Callable[[PanelAudit, Any], None]] = {
        "correlation": _correlation,
        "variance": _variance,
        "prices": _prices,
        "rules": _rules,
    }
    if len(audit.robustness_):
        plots["robustness"] = _robustness
    return {name: _draw(name, plot, audit) for name, plot in plots.items()}


def cluster_order(correlation: Any) -> np.ndarray:
    """Order specialists so that those who err alike stand together.

    Parameters
    ----------
    correlation : ndarray of shape (specialist, specialist)
        Error correlations; NaN counts as 0.

    Returns
    -------
    ndarray of int
        Positions, by average linkage on 1 - correlation.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = np.nan_to_num(np.asarray(correlation, dtype=np.float64))
    distance = np.clip(1.0 - (known + known.T) / 2.0, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    return np.asarray(leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True)))


def _draw(name: str, plot: Callable[[PanelAudit, Any], None], audit: PanelAudit) -> str:
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("the HTML report needs matplotlib and jinja2: pip install 'consilience[report]'") from error
    style = {
        "svg.hashsalt": name,  # ids must differ between the plots of one page, and not between runs
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": _GREY,
        "axes.labelcolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "text.color": _INK,
    }
    with matplotlib.rc_context(style):
        figure = Figure(layout="constrained")
        FigureCanvasSVG(figure)
        plot(audit, figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    # without the namespace, HTML reads plain href; ids get the plot's name so that no two plots share one
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{name}-", svg)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{name}" ', 1)


def _correlation(audit: PanelAudit, figure: Any) -> None:
    matrix = audit.error_correlation_.value
    order = cluster_order(matrix) if len(matrix) > 2 else np.arange(len(matrix))
    names = [_short(audit.names_[i]) for i in order]
    side = min(9.0, 2.6 + 0.2 * len(names))
    figure.set_size_inches(side + 1.2, side)
    axes = figure.add_subplot()
    image = axes.imshow(matrix[np.ix_(order, order)], cmap="RdBu_r", vmin=-1.0, vmax=1.0)
    size = 9 if len(names) <= 20 else 6
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if len(names) <= 12:
        for i, row in enumerate(matrix[np.ix_(order, order)]):
            for j, value in enumerate(row):
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8,
                          color="white" if abs(value) > 0.6 else _INK)  # fmt: skip
    figure.colorbar(image, ax=axes, shrink=0.7, label="error correlation")


def _variance(audit: PanelAudit, figure: Any) -> None:
    figure.set_size_inches(7.2, 3.8)
    axes = figure.add_subplot()
    report, n = audit.variance_, len(audit.names_)
    rho = max(report.rho_pooled, 0.0)
    sizes = np.unique(np.round(np.geomspace(1, max(4 * n, 20), 60)).astype(int))
    vbar = report.mean_variance
    axes.plot(sizes, variance_curve(vbar, rho, sizes), color=_BLUE, lw=2, label=f"correlated as here, rho = {rho:.2f}")
    axes.plot(sizes, variance_curve(vbar, 0.0, sizes), color=_GREY, lw=1.5, ls="--", label="if errors were independent")
    axes.axhline(vbar * rho, color=_ORANGE, lw=1, ls=":")
    axes.text(sizes[-1], vbar * rho, "no more of the same gets below this", ha="right", va="bottom", color=_ORANGE)
    axes.plot([n], [report.value], "o", color=_ORANGE, ms=8, zorder=3)
    axes.annotate(f"this panel: {n} specialists,\nworth {audit.effective_number_.value:.1f} independent ones",
                  (n, report.value), (8, 18), textcoords="offset points")  # fmt: skip
    axes.set_xscale("log")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200) if t <= sizes[-1]]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, None)
    axes.set_xlabel("number of specialists")
    axes.set_ylabel("variance of the mean error")
    axes.legend(frameon=False, loc="upper right")


def _prices(audit: PanelAudit, figure: Any) -> None:
    prices = audit.prices_
    order = np.argsort(prices.value, kind="stable")[-_MOST:]
    figure.set_size_inches(7.2, 1.2 + 0.26 * len(order))
    axes = figure.add_subplot()
    spread = np.zeros(len(order)) if prices.se is None else 1.96 * prices.se[order]
    rows = np.arange(len(order))
    axes.axvline(0, color=_GREY, lw=1)
    colours = [_BLUE if value >= 0 else _ORANGE for value in prices.value[order]]
    axes.barh(rows, prices.value[order], color=colours, height=0.62)
    axes.errorbar(prices.value[order], rows, xerr=spread, fmt="none", ecolor=_INK, elinewidth=1, capsize=2)
    axes.set_yticks(rows, [_short(prices.names[i]) for i in order], fontsize=9)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.set_xlabel(f"price: loss that the specialist removes ({prices.rule} value, {prices.game} game), 95 % intervals")


def _rules(audit: PanelAudit, figure: Any) -> None:
    board = audit.leaderboard_[::-1][-_MOST:]
    figure.set_size_inches(7.2, 1.2 + 0.3 * len(board))
    axes = figure.add_subplot()
    rows = np.arange(len(board))
    colours = [
        _ORANGE if rule == audit.recommended_name_ else _GREY if rule == "best_single" else _BLUE for rule in board.index
    ]
    if "best_single" in board.index:
        axes.axvline(board.loc["best_single", "score"], color=_GREY, lw=1, ls="--")
    for row, (score, se, colour) in enumerate(zip(board["score"], board["se"], colours, strict=True)):
        axes.errorbar(score, row, xerr=1.96 * se, fmt="o", color=colour, ms=7, elinewidth=2)
    axes.set_yticks(rows, [_short(str(rule)) for rule in board.index])
    axes.set_ylim(-0.6, len(board) - 0.4)
    unit = "R2" if audit.task_ == "numbers" else "accuracy"
    axes.set_xlabel(f"{unit} out of fold, 95 % intervals; dashed: best single specialist; orange: recommended")


def _robustness(audit: PanelAudit, figure: Any) -> None:
    figure.set_size_inches(7.2, 4.2)
    axes = figure.add_subplot()
    table = audit.robustness_.groupby(["rule", "n_byzantine"])["worst"].min().unstack()
    last = table.columns[-1]
    table = table.loc[table[last].fillna(-np.inf).sort_values(ascending=False).index]
    named = {audit.recommended_name_, "plurality_vote", "mean", "best_single", table.index[0]}
    others = [c for c in ("#5b8c5a", "#7e57a0", _GREY, "#b0506b", "#3d8f99") if c not in (_ORANGE, _BLUE)]
    for rule, row in table.iterrows():
        known = row.dropna()
        if rule == audit.recommended_name_:
            style: dict[str, Any] = {"color": _ORANGE, "lw": 2.5, "zorder": 4, "label": f"{rule} (recommended)"}
        elif rule in named:
            colour = _BLUE if rule == table.index[0] else others.pop(0)
            style = {"color": colour, "lw": 2, "zorder": 3, "label": str(rule)}
        else:
            style = {"color": "#ccd2d8", "lw": 1, "zorder": 1}
        axes.plot(known.index, known.values, marker="o", ms=4, **style)
    low = float(np.nanmin(table.values))
    axes.set_ylim(max(low - 0.05, -1.0) if audit.task_ == "numbers" else max(0.0, low - 0.05), None)
    axes.set_xticks(list(table.columns))
    axes.set_xlabel("number of lying specialists")
    axes.set_ylabel("worst " + ("R2" if audit.task_ == "numbers" else "accuracy"))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _short(name: str, limit: int = 28) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "\u2026"
