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
_WIDTH = 5.6  # inches; drawn at about this size on a page, and still readable on a phone


def audit_plots(audit: PanelAudit) -> dict[str, str]:
    """Draw a fitted audit.

    Parameters
    ----------
    audit : PanelAudit
        Fitted.

    Returns
    -------
    dict of str to str
        ``correlation``, ``variance``, ``deferral`` and, where they were asked for, ``robustness`` and
        ``drift``: each an ``<svg>`` element without external references.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    plots: dict[str, Callable[[PanelAudit, Any], None]] = {
        "correlation": _correlation,
        "variance": _variance,
    }
    if len(audit.robustness_):
        plots["robustness"] = _robustness
    plots["deferral"] = _deferral
    if audit.drift_ is not None:
        plots["drift"] = _drift
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
    return np.asarray(
        leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))
    )


def _draw(name: str, plot: Callable[[PanelAudit, Any], None], audit: PanelAudit) -> str:
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "the HTML report needs matplotlib and jinja2: pip install 'consilience[report]'"
        ) from error
    style = {
        "svg.hashsalt": name,  # ids must differ between the plots of one page, and not between runs
        "svg.fonttype": "path",  # letters as shapes: a reader's other fonts would overlap and be cut off
        "font.family": "DejaVu Sans",  # comes with matplotlib, so the page is the same everywhere
        "font.size": 9.5,
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
    from matplotlib import colormaps

    matrix = np.array(audit.error_correlation_.value, dtype=np.float64)
    n = len(matrix)
    order = cluster_order(matrix) if n > 2 else np.arange(n)
    matrix = matrix[np.ix_(order, order)]
    np.fill_diagonal(matrix, np.nan)  # always 1; leaving it out lets the colours tell the others apart
    names = [_short(audit.names_[i], 34 if n <= 20 else 26) for i in order]
    known = np.abs(matrix[np.isfinite(matrix)])
    most = max(0.1, float(np.ceil(known.max() * 10.0 - 1e-9)) / 10.0) if len(known) else 1.0
    cell, letters = (0.5, 9.5) if n <= 12 else (0.25, 9.0) if n <= 30 else (0.18, 7.5)
    room = letters / 72.0 * 0.6 * max(map(len, names))
    side = max(cell * n, 1.6)
    figure.set_size_inches(max(side + room + 1.1, _WIDTH), side + room + 0.3)
    axes = figure.add_subplot()
    colours = colormaps["RdBu_r"].with_extremes(bad="#e9edf0")
    image = axes.imshow(matrix, cmap=colours, vmin=-most, vmax=most, interpolation="nearest")
    axes.set_xticks(range(n), names, rotation=90, fontsize=letters)
    axes.set_yticks(range(n), names, fontsize=letters)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if n <= 12:
        for (i, j), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                colour = "white" if abs(value) > 0.65 * most else _INK
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.03, label="error correlation")


def _variance(audit: PanelAudit, figure: Any) -> None:
    figure.set_size_inches(_WIDTH, 3.6)
    axes = figure.add_subplot()
    report, n = audit.variance_, len(audit.names_)
    rho = max(report.rho_pooled, 0.0)
    sizes = np.unique(np.round(np.geomspace(1, max(4 * n, 20), 60)).astype(int))
    mean = report.mean_variance
    axes.plot(
        sizes,
        variance_curve(mean, rho, sizes),
        color=_BLUE,
        lw=2,
        label=f"correlated as here, rho = {rho:.2f}",
    )
    axes.plot(
        sizes,
        variance_curve(mean, 0.0, sizes),
        color=_GREY,
        lw=1.5,
        ls="--",
        label="if errors were independent",
    )
    axes.axhline(mean * rho, color=_ORANGE, lw=1.3, ls=":", label="limit of more of the same")
    worth = f"this panel: {n}, worth {audit.effective_number_.value:.1f} independent"
    axes.plot([n], [report.value], "o", color=_ORANGE, ms=8, zorder=3, label=worth)
    axes.set_xscale("log")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if t <= sizes[-1]]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.minorticks_off()
    axes.set_ylim(0, None)
    axes.set_xlabel("number of specialists")
    axes.set_ylabel("variance of the mean error")
    axes.legend(frameon=False, loc="upper right")


def _robustness(audit: PanelAudit, figure: Any) -> None:
    figure.set_size_inches(_WIDTH, 4.2)
    axes = figure.add_subplot()
    table = audit.robustness_.groupby(["rule", "n_byzantine"])["worst"].min().unstack()
    last = table.columns[-1]
    table = table.loc[table[last].fillna(-np.inf).sort_values(ascending=False, kind="stable").index]
    chosen, hardiest = audit.recommended_name_, table.index[0]
    styles: dict[str, dict[str, Any]] = {}
    for rule, colour, words in (
        (chosen, _ORANGE, "recommended"),
        (hardiest, _BLUE, "holds best"),
        ("best_single", "#7e57a0", ""),
        ("plurality_vote", "#5b8c5a", ""),
        ("mean", "#b0506b", ""),
    ):
        if rule in table.index and rule not in styles:
            styles[rule] = {"color": colour, "lw": 2, "label": f"{rule} ({words})" if words else rule}
    for rule, row in table.iterrows():
        known = row.dropna()
        style = styles.get(str(rule), {"color": "#ccd2d8", "lw": 1, "zorder": 1})
        axes.plot(known.index, known.values, marker="o", ms=4, **style)
    low, high = float(np.nanmin(table.values)), float(np.nanmax(table.values))
    # one shifted answer takes a mean to any depth below zero; the table has the figure
    least = min(-1.0, float(table.loc[hardiest].min()) - 0.2) if audit.task_ == "numbers" else 0.0
    floor = max(low, least)
    margin = 0.05 * (high - floor)
    axes.set_ylim(floor - margin, high + margin)
    if low < floor:
        axes.set_xlabel("lines that leave below fall further: see the table", fontsize=8.5)
    axes.set_xticks(
        list(table.columns), [f"{f} liar{'' if f == 1 else 's'}" if f else "honest" for f in table.columns]
    )
    axes.set_ylabel("worst " + ("R2" if audit.task_ == "numbers" else "accuracy"))
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda k: list(styles).index(labels[k].partition(" (")[0]))
    if len(styles) < len(table):
        from matplotlib.lines import Line2D

        handles.append(Line2D([], [], color="#ccd2d8", lw=1, marker="o", ms=4))
        labels.append("other rules")
        order.append(len(labels) - 1)
    figure.legend([handles[k] for k in order], [labels[k] for k in order], frameon=False, ncols=2,
                  loc="outside lower center")  # fmt: skip


def _deferral(audit: PanelAudit, figure: Any) -> None:
    figure.set_size_inches(_WIDTH, 3.5)
    axes = figure.add_subplot()
    curve, numbers = audit.deferral_, audit.task_ == "numbers"
    scale = 1.0 if numbers else 100.0
    shown = curve.coverage >= min(
        0.02, float(curve.coverage[1])
    )  # of the surest few the share is mostly luck
    shown[0] = False
    points = np.unique(np.linspace(0, shown.sum() - 1, 400).round().astype(int))
    coverage, risk = 100.0 * curve.coverage[shown][points], scale * curve.risk[shown][points]
    axes.axhline(scale * curve.risk[-1], color=_GREY, ls="--", lw=1.5, label="handed on at random")
    marker = "o" if len(points) < 12 else ""
    axes.plot(
        coverage, risk, color=_ORANGE, lw=2, marker=marker, ms=5, label="the most doubtful handed on first"
    )
    axes.set_xlim(0.0, 102.0)
    axes.set_ylim(0.0, 1.12 * max(float(risk.max()), scale * float(curve.risk[-1]), 1e-9))
    axes.set_xlabel("samples answered, in per cent")
    axes.set_ylabel("squared error left" if numbers else "wrong among them, in per cent")
    figure.legend(frameon=False, ncols=2, loc="outside lower center")


def _drift(audit: PanelAudit, figure: Any) -> None:
    from estimators.drift import FUSED

    figure.set_size_inches(_WIDTH, 3.8)
    axes = figure.add_subplot()
    drift = audit.drift_
    assert drift is not None
    blocks = np.arange(1, len(drift.start) + 1)
    changed = [name for name in drift.changed() if name in audit.names_]
    colours = iter(("#2f6db5", "#b0506b", "#5b8c5a", "#7e57a0"))
    for i, name in enumerate(audit.names_):
        colour = next(colours, None) if name in changed else None
        style: dict[str, Any] = {"color": "#ccd2d8", "lw": 1, "zorder": 1}
        if colour is not None:
            style = {"color": colour, "lw": 2, "label": f"{_short(name, 26)} (changed)"}
        axes.plot(blocks, drift.score[:, i], marker="o", ms=3.5, **style)
    axes.plot(blocks, drift.fused, color=_ORANGE, lw=2.5, marker="o", ms=5, label=FUSED)
    if len(changed) < len(audit.names_):
        axes.plot([], [], color="#ccd2d8", lw=1, marker="o", ms=3.5, label="other specialists")
    known = np.append(drift.score[np.isfinite(drift.score)], drift.fused)
    low, high = float(known.min()), float(known.max())
    low = max(low, -1.0)
    margin = 0.05 * (high - low) or 0.05
    axes.set_ylim(low - margin, high + margin)
    axes.set_xticks(blocks)
    axes.set_xlabel("block of samples, in order of time")
    axes.set_ylabel("R2" if audit.task_ == "numbers" else "accuracy")
    figure.legend(frameon=False, ncols=2, loc="outside lower center")


def _short(name: str, limit: int) -> str:
    """Cut the middle out of a long name: names of one family differ at their ends."""
    half = (limit - 1) // 2
    return name if len(name) <= limit else name[: limit - 1 - half] + "\u2026" + name[-half:]
