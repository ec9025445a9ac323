"""The answer to "where should I fuse?": one table with paired intervals, in words and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.stages.arms import ARMS, DEFAULT_ARMS
from estimators.stages.experiment import equal_budget_experiment
from theory import PanelError

_STAGES = ("early", "mid", "late", "deliberative")


@dataclass(frozen=True, eq=False)
class StageComparison:
    """What `compare_stages` found.

    Attributes
    ----------
    dataset : xarray.Dataset
        As :func:`equal_budget_experiment` gives it.
    reference : str
        The arm that all others are compared with.
    n_bootstrap : int
        Resamples behind the intervals.

    Examples
    --------
    >>> from estimators import compare_stages, load_view_task
    >>> task = load_view_task("wine")
    >>> found = compare_stages(task.X, task.y, budget=1000, seeds=2, n_draws=1, arms=["mid_mean", "late_mean"],
    ...                        conditions=["clean", "wrong_1"], max_iter=10)
    >>> list(found.table().columns)[:4]
    ['stage', 'arm', 'condition', 'accuracy']
    """

    dataset: Any
    reference: str = "monolith"
    n_bootstrap: int = 1000

    @cached_property
    def _means(self) -> NDArray[np.float64]:
        """Bootstrap means of accuracy over seeds and rows: (resample, arm, condition); rows of a seed go together."""
        right = self.dataset["right"].values.astype(np.float64)
        n_seeds, n_rows = right.shape[2:]
        rng = np.random.default_rng(0)
        means = np.empty((self.n_bootstrap, *right.shape[:2]))
        for b in range(self.n_bootstrap):
            seeds = rng.integers(n_seeds, size=n_seeds)
            weight = np.zeros((n_seeds, n_rows))
            for s in seeds:
                weight[s] += rng.multinomial(n_rows, np.full(n_rows, 1.0 / n_rows))
            means[b] = np.einsum("acsr,sr->ac", right, weight) / weight.sum()
        return means

    def difference(self, arm: str, other: str, condition: str = "clean") -> tuple[float, float, float]:
        """Give the paired difference in accuracy of two arms.

        Parameters
        ----------
        arm, other : str
            Names of arms.
        condition : str, default "clean"
            Under which.

        Returns
        -------
        difference, low, high : float
            ``arm - other`` with a 95 % bootstrap interval over splits and rows.

        Raises
        ------
        PanelError
            If an arm or the condition is not in the comparison.
        """
        a, o, c = self._place("arm", arm), self._place("arm", other), self._place("condition", condition)
        drawn = self._means[:, a, c] - self._means[:, o, c]
        accuracy = self.dataset["accuracy"].values.mean(axis=2)
        low, high = np.quantile(drawn, [0.025, 0.975])
        return float(accuracy[a, c] - accuracy[o, c]), float(low), float(high)

    def table(self) -> Any:
        """Give one row per arm and condition.

        Returns
        -------
        pandas.DataFrame
            Stage, arm, condition, accuracy, its standard error over splits, log loss, ECE, worst class, the paired
            difference to the reference with its 95 % interval, a p-value corrected over the arms (Holm), parameters.
        """
        import pandas as pd

        data = self.dataset
        n_seeds = data.sizes["seed"]
        rows = []
        for condition in data.condition.values.tolist():
            p = {
                arm: self._p_value(arm, condition)
                for arm in data.arm.values.tolist()
                if arm != self.reference
            }
            corrected = _holm(p)
            for arm in data.arm.values.tolist():
                part = data.sel(arm=arm, condition=condition)
                gain, low, high = self.difference(arm, self.reference, condition)
                rows.append(
                    {
                        "stage": str(part.stage.values),
                        "arm": arm,
                        "condition": condition,
                        "accuracy": float(part.accuracy.mean()),
                        "se": float(part.accuracy.std(ddof=1) / np.sqrt(n_seeds)),
                        "nll": float(part.nll.mean()),
                        "ece": float(part.ece.mean()),
                        "worst_class": float(part.worst_class.mean()),
                        f"minus_{self.reference}": gain,
                        "low": low,
                        "high": high,
                        "p_holm": corrected.get(arm, float("nan")),
                        "n_parameters": float(part.n_parameters.mean()),
                    }
                )
        return pd.DataFrame(rows)

    def best(self, stage: str) -> str:
        """Name the arm of a stage that a user would choose: the best by validation loss, never by the test.

        Parameters
        ----------
        stage : {"early", "mid", "late", "deliberative", "single"}
            Which.

        Returns
        -------
        str

        Raises
        ------
        PanelError
            If no arm of that stage was run.
        """
        data = self.dataset
        mine = [arm for arm in data.arm.values.tolist() if str(data.stage.sel(arm=arm).values) == stage]
        if not mine:
            raise PanelError(
                f"no arm of stage {stage!r} was run; there are {sorted(set(data.stage.values.tolist()))}."
            )
        return min(mine, key=lambda arm: float(data.validation_loss.sel(arm=arm).mean()))

    def summary(self) -> str:
        """Say in words where to fuse.

        Returns
        -------
        str
            One line per condition and stage, with what speaks against.
        """
        data = self.dataset
        rho = data.attrs["rho"]
        lines = [
            f"{data.attrs['n_views']} views, {data.sizes['seed']} splits of {data.attrs['n_test']} test rows, at most "
            f"{data.attrs['param_budget']} parameters; error correlation of the single views {rho:.2f}."
        ]
        for condition in data.condition.values.tolist():
            index = self._place("condition", condition)
            accuracy = {
                arm: float(data.accuracy.values[a, index].mean())
                for a, arm in enumerate(data.arm.values.tolist())
            }
            top = max(accuracy, key=lambda arm: accuracy[arm])
            gain, low, high = self.difference(top, self.reference, condition)
            verdict = "no different from" if low <= 0 <= high else ("ahead of" if gain > 0 else "behind")
            lines.append(
                f"{condition}: best {top} ({data.stage.sel(arm=top).values}) {accuracy[top]:.3f}, {verdict} the "
                f"{self.reference} ({accuracy[self.reference]:.3f}; difference {gain:+.3f}, "
                f"95 % {low:+.3f} to {high:+.3f}); "
                f"best single view {accuracy['best_view']:.3f}."
            )
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draw accuracy by arm and condition, with intervals.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to.

        Returns
        -------
        matplotlib Axes
        """
        import matplotlib.pyplot as plt

        data = self.dataset
        order = sorted(
            range(data.sizes["arm"]), key=lambda a: ((*_STAGES, "single").index(str(data.stage.values[a])), a)
        )
        if ax is None:
            _, ax = plt.subplots(figsize=(8, 0.9 + 0.32 * len(order)), layout="constrained")
        conditions = data.condition.values.tolist()
        colours = plt.get_cmap("viridis")(np.linspace(0.0, 0.85, len(conditions)))
        low, high = np.quantile(self._means, [0.025, 0.975], axis=0)
        accuracy = data["accuracy"].values.mean(axis=2)
        step = 0.7 / max(len(conditions), 1)
        for c, condition in enumerate(conditions):
            y = np.arange(len(order)) + (c - (len(conditions) - 1) / 2) * step
            mid = accuracy[order, c]
            spread = np.abs(np.stack([mid - low[order, c], high[order, c] - mid]))
            ax.errorbar(mid, y, xerr=spread, fmt="o", ms=3.5, lw=1.2, color=colours[c], label=condition)
        ax.set_yticks(np.arange(len(order)))
        ax.set_yticklabels([f"{data.arm.values[a]}  ({data.stage.values[a]})" for a in order], fontsize=8)
        ax.invert_yaxis()
        ax.set_xlabel("accuracy (95 % interval over splits and rows)")
        ax.grid(axis="x", alpha=0.3)
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.4, -0.12), ncols=len(conditions), frameon=False, fontsize=8
        )
        ax.set_title(f"Where to fuse: {data.attrs['param_budget']} parameters each", fontsize=10)
        return ax

    def _p_value(self, arm: str, condition: str) -> float:
        a, r, c = (
            self._place("arm", arm),
            self._place("arm", self.reference),
            self._place("condition", condition),
        )
        drawn = self._means[:, a, c] - self._means[:, r, c]
        tail = min((drawn <= 0).mean(), (drawn >= 0).mean())
        return float(min(1.0, 2.0 * max(tail, 1.0 / (len(drawn) + 1))))

    def _place(self, dim: str, name: str) -> int:
        names = self.dataset[dim].values.tolist()
        if name not in names:
            raise PanelError(f"{dim} {name!r} is not in the comparison; there are {', '.join(names)}.")
        return int(names.index(name))


def compare_stages(
    X: Any,
    y: Any,
    *,
    budget: int = 20_000,
    arms: Sequence[str] = DEFAULT_ARMS,
    seeds: int | Sequence[int] = 5,
    n_draws: int = 2,
    reference: str = "monolith",
    conditions: Sequence[str] | None = None,
    n_bootstrap: int = 1000,
    **settings: Any,
) -> StageComparison:
    """Measure where to fuse: raw input, embeddings, answers or deliberation.

    Parameters
    ----------
    X : Views of shape (sample, feature)
        At least two views.
    y : array-like of shape (sample,)
        Class labels.
    budget : int, default 20000
        Most parameters of each arm.
    arms : sequence of str
        Which arms; the structured and unstructured monoliths, all four stages and the best single view by default.
        No arm is left out because it loses.
    seeds : int or sequence of int, default 5
        Splits.
    n_draws : int, default 2
        Settings that each arm tries.
    reference : str, default "monolith"
        The arm that the others are compared with.
    conditions : sequence of str, optional
        What goes wrong at test time: ``clean``, ``absent``, ``wrong_f``, ``noise``; all unless given.
    n_bootstrap : int, default 1000
        Resamples behind the intervals.
    **settings : object
        Of :func:`equal_budget_experiment`: ``labels_per_class``, ``max_iter``, ``n_jobs``, ...

    Returns
    -------
    StageComparison
        ``table()``, ``summary()``, ``difference(arm, other)``, ``plot()``.

    Raises
    ------
    PanelError
        If views, arms or conditions do not fit.

    References
    ----------
    .. [1] Shukor et al., Scaling laws for native multimodal models, 2025.

    Examples
    --------
    >>> from estimators import load_view_task
    >>> task = load_view_task("wine")
    >>> found = compare_stages(task.X, task.y, budget=1000, seeds=2, n_draws=1, arms=["late_mean"],
    ...                        conditions=["clean"], max_iter=10)
    >>> found.difference("late_mean", "late_mean")
    (0.0, 0.0, 0.0)
    """
    if reference not in ARMS:
        raise PanelError(f"there is no arm {reference!r}; there are {', '.join(ARMS)}.")
    dataset = equal_budget_experiment(
        X,
        y,
        param_budget=budget,
        arms=(*arms, reference),
        seeds=seeds,
        n_draws=n_draws,
        conditions=conditions,
        **settings,
    )
    return StageComparison(dataset, reference, n_bootstrap)


def _holm(p: dict[str, float]) -> dict[str, float]:
    """Correct p-values for their number, step by step."""
    out, running = {}, 0.0
    for k, name in enumerate(sorted(p, key=lambda key: p[key])):
        running = max(running, min(1.0, (len(p) - k) * p[name]))
        out[name] = running
    return out
