"""What the pictures share: axes, colours, heat maps of pairs, intervals in rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = NDArray[np.float64]
BLUE, ORANGE, GREY, INK = "#2f6db5", "#d9822b", "#9aa4af", "#26323d"
_LETTERS = 26


def axes_for(ax: Axes | None, width: float = 5.6, height: float = 3.6) -> Axes:
    """Return the axes to draw into, new ones if none were given."""
    if ax is not None:
        return ax
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plots need matplotlib: pip install 'consilience[report]'") from error
    _, new = plt.subplots(figsize=(width, height), layout="constrained")
    new.spines[["top", "right"]].set_visible(False)
    return new


def short(name: str, limit: int = _LETTERS) -> str:
    """Cut the middle out of a long name: names of one family differ at their ends."""
    half = (limit - 1) // 2
    return name if len(name) <= limit else name[: limit - 1 - half] + "\u2026" + name[-half:]


def together(matrix: Floats) -> NDArray[np.int64]:
    """Order specialists so that those who err alike stand together (average linkage on 1 - correlation)."""
    n = len(matrix)
    if n < 3:
        return np.arange(n)
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    known = np.nan_to_num(matrix)
    distance = np.clip(1.0 - (known + known.T) / 2.0, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    order = leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))
    return np.asarray(order, dtype=np.int64)


def heat_map(
    matrix: Floats, names: Sequence[str], label: str, ax: Axes | None, marks: NDArray[np.bool_] | None = None
) -> Axes:
    """Draw a symmetric matrix without its diagonal; `marks` puts a dot on entries."""
    n = len(matrix)
    order = together(matrix)
    shown = np.array(matrix, dtype=np.float64)[np.ix_(order, order)]
    # The diagonal is always 1: left out, the colours tell the others apart.
    np.fill_diagonal(shown, np.nan)
    known = np.abs(shown[np.isfinite(shown)])
    most = max(0.1, float(np.ceil(known.max() * 10.0 - 1e-9)) / 10.0) if len(known) else 1.0
    cell, size = (0.5, 9.0) if n <= 12 else (0.25, 8.0) if n <= 30 else (0.16, 6.0)
    words = [short(names[i]) for i in order]
    room = size / 72.0 * 0.62 * max(map(len, words))
    side = max(cell * n, 1.6)
    ax = axes_for(ax, side + room + 1.2, side + room + 0.4)
    from matplotlib import colormaps

    colours = colormaps["RdBu_r"].with_extremes(bad="#e9edf0")
    image = ax.imshow(shown, cmap=colours, vmin=-most, vmax=most, interpolation="nearest")
    ax.set_xticks(range(n), words, rotation=90, fontsize=size)
    ax.set_yticks(range(n), words, fontsize=size)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    if n <= 12:
        for (i, j), value in np.ndenumerate(shown):
            if np.isfinite(value):
                colour = "white" if abs(value) > 0.65 * most else INK
                ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    if marks is not None:
        i, j = np.nonzero(marks[np.ix_(order, order)])
        at = j + (0.36 if n <= 12 else 0.0)
        ax.plot(at, i - (0.36 if n <= 12 else 0.0), ".", color=INK, ms=4 if n <= 30 else 2)
    bar: Any = ax.figure.colorbar(image, ax=ax, shrink=0.7, pad=0.03, label=label)
    bar.outline.set_visible(False)
    return ax


def rows(
    value: Floats,
    names: Sequence[str],
    label: str,
    ax: Axes | None,
    *,
    ci: Floats | None = None,
    ordered: bool = True,
    reference: float | None = 0.0,
) -> Axes:
    """Draw one number per specialist with its interval, largest on top."""
    m = len(value)
    order = np.argsort(value, kind="stable") if ordered else np.arange(m)[::-1]
    letters = 9.0 if m <= 30 else 6.5
    ax = axes_for(ax, 5.6, max(1.6, (0.24 if m <= 30 else 0.16) * m + 0.9))
    at = np.arange(m)
    colours = [BLUE if reference is None or value[i] >= reference else ORANGE for i in order]
    if ci is not None:
        ax.hlines(at, ci[0, order], ci[1, order], colors=colours, lw=1.4, alpha=0.6)
    ax.scatter(value[order], at, c=colours, s=22 if m <= 30 else 12, zorder=3)
    if reference is not None:
        ax.axvline(reference, color=GREY, lw=1.0, ls="--", zorder=0)
    ax.set_yticks(at, [short(names[i]) for i in order], fontsize=letters)
    ax.set_xlabel(label)
    ax.margins(y=0.5 / max(m, 2))
    return ax
