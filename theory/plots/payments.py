"""Pictures of attacks on payment rules, and of payments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from theory.plots._axes import BLUE, GREY, INK, ORANGE, axes_for, rows, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from theory.pricing.attacks import AttackTable, EscapeCurve
    from theory.pricing.markets import KellyPool
    from theory.pricing.settlement import Settlement

# More lines than this cannot be told apart by a legend.
_LEGEND = 8


def attack_table(result: AttackTable, *, ax: Axes | None = None) -> Axes:
    """Draw what an attacker is paid under every rule, coloured by its gain over honest pay.

    Parameters
    ----------
    result : AttackTable
        From `replication_test`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Rules by attacks; red pays more than honesty, blue less.

    Examples
    --------
    >>> import numpy as np
    >>> from theory import plots, replication_test
    >>> ax = plots.attack_table(replication_test(0.3 + 0.7 * np.eye(5), v0=1.5))
    >>> ax.get_title()
    'total pay of the attacker (colour: against honesty)'
    """
    n_rules, n_attacks = result.value.shape
    words = [short(rule, 34) for rule in result.rules]
    ax = axes_for(ax, 0.72 * n_attacks + 0.075 * max(map(len, words)) + 0.4, 0.34 * n_rules + 1.3)
    against = np.repeat(result.value[:, :1], n_attacks, axis=1)
    if {"before", "colluders"} <= set(result.attacks):
        # Two identities collude: their pay compares with what the two had before.
        before = result.attacks.index("before")
        for name in ("before", "colluders"):
            against[:, result.attacks.index(name)] = result.value[:, before]
    change = result.value - against
    most = max(float(np.abs(change).max()), 1e-12)
    ax.imshow(change, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto", alpha=0.85)
    for (i, j), value in np.ndenumerate(result.value):
        colour = "white" if abs(change[i, j]) > 0.7 * most else INK
        ax.text(j, i, f"{value:.3f}", ha="center", va="center", fontsize=8, color=colour)
    ax.set_xticks(range(n_attacks), result.attacks, rotation=35, ha="right", fontsize=8)
    ax.set_yticks(range(n_rules), words, fontsize=8)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title("total pay of the attacker (colour: against honesty)", fontsize=10)
    return ax


def escape(result: EscapeCurve, *, ax: Axes | None = None) -> Axes:
    """Draw what noisy copies earn against the threshold above which look-alikes are joined.

    Parameters
    ----------
    result : EscapeCurve
        From `escape_curve`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Best pay by threshold, the honest pay, and how many honest specialists each threshold joins.

    Examples
    --------
    >>> import numpy as np
    >>> from theory import escape_curve, plots
    >>> plots.escape(escape_curve(0.3 + 0.7 * np.eye(5), v0=1.5)).get_ylabel()
    'pay of the attacker'
    """
    ax = axes_for(ax)
    order = np.argsort(result.threshold)
    at = result.threshold[order]
    ax.plot(at, result.value[order], "o-", color=ORANGE, label=f"{result.n_copies} noisy copies")
    ax.axhline(result.honest, color=BLUE, ls="--", label="no copies")
    for x, y, count in zip(at, result.value[order], result.merged[order], strict=True):
        if count:
            ax.annotate(f"{count} honest joined", (x, y), textcoords="offset points", xytext=(0, 8), fontsize=8,
                        ha="center", color=GREY)  # fmt: skip
    ax.set_ylim(min(0.0, float(result.value.min())), max(float(result.value.max()), result.honest) * 1.2)
    ax.set_xlabel("error correlation above which specialists are joined")
    ax.set_ylabel("pay of the attacker")
    ax.legend(frameon=False, loc="lower right")
    return ax


def settlement(result: Settlement, *, ax: Axes | None = None) -> Axes:
    """Draw the units paid to every specialist; debtors are orange.

    Parameters
    ----------
    result : Settlement
        From `settle`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        One row per specialist, what it owes in words.

    Examples
    --------
    >>> from theory import plots, settle
    >>> plots.settlement(settle([0.5, 0.25, -0.1, 0.25], budget=100)).get_xlabel()
    'units paid'
    """
    # A hair below 0 sets debtors apart, in order and colour, from those who merely earned nothing.
    shown = np.where(result.debt > 0, -1e-9, result.value.astype(np.float64))
    ax = rows(shown, result.names, "units paid", ax, reference=0.0)
    order = np.argsort(shown, kind="stable")
    for y, i in enumerate(order):
        if result.debt[i] > 0:
            ax.text(0.0, y, f"   owes {result.debt[i]:.3g}", va="center", fontsize=8, color=INK)
    ax.set_title(f"{int(result.value.sum())} units, {result.rate:.4g} per unit of loss", fontsize=10)
    return ax


def wealth(result: KellyPool, *, ax: Axes | None = None) -> Axes:
    """Draw how wealth flows between specialists.

    Parameters
    ----------
    result : KellyPool
        From `kelly_pool`.
    ax : matplotlib Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        One line per specialist, shares of all wealth.

    Examples
    --------
    >>> from theory import kelly_pool, plots
    >>> plots.wealth(kelly_pool([[[0.9, 0.1], [0.5, 0.5]]] * 5, [0] * 5)).get_ylabel()
    'share of wealth'
    """
    ax = axes_for(ax)
    share = result.wealth / result.wealth.sum(axis=1, keepdims=True)
    lines = ax.plot(np.arange(len(share)), share, lw=1.4)
    if share.shape[1] <= _LEGEND:
        ax.legend(lines, [f"specialist {i}" for i in range(share.shape[1])], frameon=False)
    ax.set_ylim(0.0, 1.0)
    ax.set_xlabel("samples")
    ax.set_ylabel("share of wealth")
    ax.set_title(f"log loss of the pool {result.log_loss:.4g}, regret {result.regret:.3g}", fontsize=10)
    return ax
