"""Run every arm on the same splits, with the same budget and the same tuning, clean and corrupted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from estimators.stages.arms import ARMS, DEFAULT_ARMS, Arm, Fitted, IndependentPanel, Protocol, fit_arm
from estimators.stages.corruption import condition_names, corrupt
from estimators.views import Views
from fusion.early import Ragged
from theory import PanelError, error_correlation

_DRAWS = (
    {"lr": 2e-3, "weight_decay": 0.01, "dropout": 0.1},
    {"lr": 8e-3, "weight_decay": 0.1, "dropout": 0.5},
)


def equal_budget_experiment(
    X: Views,
    y: Any,
    *,
    param_budget: int = 20_000,
    arms: Sequence[str] = DEFAULT_ARMS,
    seeds: int | Sequence[int] = 5,
    n_draws: int = 2,
    labels_per_class: int | None = None,
    conditions: Sequence[str] | None = None,
    max_iter: int = 80,
    patience: int = 20,
    view_dropout: float = 0.2,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Any:
    """Compare places to fuse at the same number of parameters and the same tuning.

    Parameters
    ----------
    X : Views of shape (sample, feature)
        At least two views.
    y : array-like of shape (sample,)
        Class labels.
    param_budget : int, default 20000
        Most parameters of an arm; the independent networks share it.
    arms : sequence of str
        Names of :data:`estimators.stages.arms.ARMS`; the monolith and the best view are always among them.
    seeds : int or sequence of int, default 5
        Splits; at least two.
    n_draws : int, default 2
        Settings of learning rate, weight decay and dropout that every arm tries, chosen by validation log loss.
    labels_per_class : int, optional
        Training rows of each class, a third of them for validation; half of all rows, a fifth of them for validation,
        unless given. The other rows test.
    conditions : sequence of str, optional
        Of :func:`estimators.stages.corruption.condition_names`; all unless given.
    max_iter, patience : int
        Epochs of every network.
    view_dropout : float, default 0.2
        Of every network of several views, the monolith included.
    n_jobs : int, optional
        Seeds at a time.
    verbose : bool, default False
        Whether joblib reports progress.

    Returns
    -------
    xarray.Dataset
        Dims arm, condition, seed, row: ``right`` (bool), and over arm, condition, seed ``accuracy``, ``nll``, ``ece``
        (10 bins), ``worst_class``; over arm and seed ``n_parameters``, ``validation_loss``, ``flops`` (of one row, networks
        only), ``cpu_seconds``. Coordinate ``stage`` of each arm. attrs: ``rho`` with interval, ``n_views``, ``n_test``,
        ``protocol``.

    Raises
    ------
    PanelError
        If there are fewer than two views or seeds, or an arm or condition is unknown.

    Notes
    -----
    All arms of a seed see the same training, validation and test rows and the same corruptions. At equal parameters
    block-diagonal arms have more hidden features than the monolith: credit views with ``mid - grouped`` and
    ``grouped - shuffled_groups``, not with ``mid - monolith``.

    References
    ----------
    .. [1] Shukor et al., Scaling laws for native multimodal models, 2025.

    Examples
    --------
    >>> from estimators import load_view_task
    >>> task = load_view_task("wine")
    >>> found = equal_budget_experiment(task.X, task.y, param_budget=1000, arms=["mid_mean"], seeds=2, n_draws=1,
    ...                                 conditions=["clean"], max_iter=10)
    >>> found["accuracy"].dims, found.arm.values.tolist()
    (('arm', 'condition', 'seed'), ['monolith', 'mid_mean', 'best_view'])
    """
    import xarray as xr

    if not isinstance(X, Views) or len(X.names) < 2:
        raise PanelError("where to fuse is a question about at least two views. Pass Views(a=..., b=...).")
    y = np.asarray(y)
    seed_list = list(range(seeds)) if isinstance(seeds, int) else [int(s) for s in seeds]
    if len(seed_list) < 2:
        raise PanelError(f"one split says nothing about the spread; got seeds={seeds}. Use at least 2.")
    unknown = [name for name in arms if name not in ARMS]
    if unknown:
        raise PanelError(f"there is no arm {unknown[0]!r}; there are {', '.join(ARMS)}.")
    if y.dtype.kind == "f":
        raise PanelError("the comparison scores classes; y holds floats. Cut it into classes.")
    chosen = [arm for arm in ARMS.values() if arm.name in {*arms, "monolith", "best_view"}]
    names = list(condition_names(len(X.names)) if conditions is None else conditions)
    draws = _draws(n_draws)
    jobs = [
        delayed(_one_seed)(
            X, y, seed, chosen, names, draws, param_budget, labels_per_class, max_iter, patience, view_dropout
        )
        for seed in seed_list
    ]
    # On matrices this small the threads of BLAS wait for each other: the linear arms took ten times as long.
    with threadpool_limits(1, user_api="blas"):
        results = Parallel(n_jobs=n_jobs, verbose=10 if verbose else 0)(jobs)
    dims = ("arm", "condition", "seed")
    stack = {
        key: np.stack([r[key] for r in results], axis=2) for key in ("accuracy", "nll", "ece", "worst_class")
    }
    data: dict[str, Any] = {key: (dims, value) for key, value in stack.items()}
    data["right"] = ((*dims, "row"), np.stack([r["right"] for r in results], axis=2))
    for key in ("n_parameters", "validation_loss", "flops", "cpu_seconds"):
        data[key] = (("arm", "seed"), np.stack([r[key] for r in results], axis=1))
    rho = [r["rho"] for r in results if r["rho"] is not None]
    return xr.Dataset(
        data,
        coords={
            "arm": [arm.name for arm in chosen],
            "condition": names,
            "seed": seed_list,
            "stage": ("arm", [arm.stage for arm in chosen]),
        },
        attrs={
            "rho": float(np.mean(rho)) if rho else float("nan"),
            "rho_low": float(np.quantile(rho, 0.025)) if rho else float("nan"),
            "rho_high": float(np.quantile(rho, 0.975)) if rho else float("nan"),
            "n_views": len(X.names),
            "n_test": int(results[0]["right"].shape[-1]),
            "param_budget": param_budget,
            "protocol": f"{len(draws)} settings per arm, chosen by validation log loss; view dropout {view_dropout}; "
            f"{max_iter} epochs, patience {patience}; "
            + (
                "half of the rows train"
                if labels_per_class is None
                else f"{labels_per_class} rows per class train"
            ),
        },
    )


def _draws(n_draws: int) -> tuple[dict[str, float], ...]:
    """Two settings known to work, then log-uniform ones; the same for every arm and seed."""
    if n_draws < 1:
        raise PanelError(f"n_draws is at least 1; got {n_draws}.")
    rng = np.random.default_rng(6)
    drawn = list(_DRAWS[:n_draws])
    while len(drawn) < n_draws:
        drawn.append(
            {
                "lr": float(np.exp(rng.uniform(np.log(5e-4), np.log(2e-2)))),
                "weight_decay": float(np.exp(rng.uniform(np.log(1e-3), np.log(0.3)))),
                "dropout": float(rng.uniform(0.0, 0.5)),
            }
        )
    return tuple(drawn)


def _one_seed(
    X: Views,
    y: NDArray[Any],
    seed: int,
    arms: list[Arm],
    conditions: list[str],
    draws: tuple[dict[str, float], ...],
    budget: int,
    labels_per_class: int | None,
    max_iter: int,
    patience: int,
    view_dropout: float,
) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 10])
    train, test = _split(y, labels_per_class, rng)
    protocol = Protocol(
        budget, draws, 1 / 5 if labels_per_class is None else 1 / 3, max_iter, patience, view_dropout, seed
    )
    scale = {name: _spread(X[name], X.mask[name], train) for name in X}
    tests = [
        corrupt(X.take(test), y[test], condition, scale=scale, rng=np.random.default_rng([seed, 11, i]))
        for i, condition in enumerate(conditions)
    ]
    classes = np.unique(y[train])
    truth = np.searchsorted(classes, y[test])
    shuffled = _Shuffle(X, np.random.default_rng([seed, 12]))
    panel, panel_seconds = None, 0.0
    if any(arm.stage in ("late", "deliberative", "single") for arm in arms):
        start = time.process_time()
        panel = IndependentPanel(X.take(train), y[train], protocol)
        panel_seconds = time.process_time() - start
    out: dict[str, Any] = {
        key: np.full((len(arms), len(conditions)), np.nan)
        for key in ("accuracy", "nll", "ece", "worst_class")
    }
    out["right"] = np.zeros((len(arms), len(conditions), len(test)), dtype=bool)
    for key in ("n_parameters", "validation_loss", "flops", "cpu_seconds"):
        out[key] = np.full(len(arms), np.nan)
    for a, arm in enumerate(arms):
        start = time.process_time()
        deal = shuffled if arm.shuffled else _same
        fitted = fit_arm(arm, deal(X.take(train)), y[train], protocol, panel)
        seconds = time.process_time() - start
        out["cpu_seconds"][a] = seconds + (
            panel_seconds if arm.stage in ("late", "deliberative", "single") else 0.0
        )
        out["n_parameters"][a], out["validation_loss"][a] = fitted.n_parameters, fitted.validation_loss
        out["flops"][a] = _flops(fitted, deal(X.take(test[:1])))
        for c, views in enumerate(tests):
            proba = fitted.model.predict_proba(deal(views))
            for key, value in _scores(proba, truth).items():
                out[key][a, c] = value
    out["rho"] = None
    if panel is not None and "clean" in conditions:
        wrong = panel.panel(tests[conditions.index("clean")]).argmax(axis=2) != truth[:, None]
        varying = wrong.any(axis=0) & ~wrong.all(axis=0)
        if varying.sum() >= 2:
            out["rho"] = float(error_correlation(wrong[:, varying].astype(float)).rho_mean)
    return out


def _scores(proba: NDArray[np.float64], truth: NDArray[np.intp]) -> dict[str, Any]:
    right = proba.argmax(axis=1) == truth
    sure = proba.max(axis=1)
    bins = np.minimum((sure * 10).astype(int), 9)
    gaps = [
        abs(right[bins == b].mean() - sure[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    ]
    own = np.clip(proba[np.arange(len(truth)), truth], 1e-12, 1.0)
    return {
        "right": right,
        "accuracy": right.mean(),
        "nll": -np.log(own).mean(),
        "ece": float(np.sum(gaps)),
        "worst_class": min(right[truth == c].mean() for c in np.unique(truth)),
    }


def _split(
    y: NDArray[Any], labels_per_class: int | None, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    train = np.zeros(len(y), dtype=bool)
    for c in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == c))
        count = len(rows) // 2 if labels_per_class is None else labels_per_class
        if not 2 <= count < len(rows):
            raise PanelError(
                f"class {c!r} has {len(rows)} rows; {count} to train on leave too few or none to test."
            )
        train[rows[:count]] = True
    return np.flatnonzero(train), np.flatnonzero(~train)


def _spread(view: Any, present: NDArray[np.bool_], train: NDArray[np.intp]) -> NDArray[np.float64]:
    rows = train[present[train]]
    values = view[rows].values if isinstance(view, Ragged) else np.asarray(view, dtype=np.float64)[rows]
    return np.asarray(values.reshape(-1, values.shape[-1]).std(axis=0))


def _same(X: Views) -> Views:
    return X


class _Shuffle:
    """Deal all features at random into groups of the views' sizes."""

    def __init__(self, X: Views, rng: np.random.Generator):
        ragged = [name for name in X if isinstance(X[name], Ragged)]
        if ragged:
            raise PanelError(
                f"view {ragged[0]!r} is ragged: its features cannot be dealt. Leave out 'shuffled_groups'."
            )
        widths = [np.asarray(X[name]).shape[1] for name in X]
        self.order = rng.permutation(sum(widths))
        self.cuts = np.cumsum(widths)[:-1]

    def __call__(self, X: Views) -> Views:
        # A feature of an absent view is NaN in whichever group it fell; there it must not void the others: 0 is the
        # mean after scaling only for standardised input, so the column's own mean stands in.
        table = np.concatenate([_with_gaps(X, name) for name in X], axis=1)
        gone = np.isnan(table)
        if gone.any():
            table = np.where(gone, np.nanmean(np.where(gone.all(axis=0), 0.0, table), axis=0), table)
        parts = np.split(table[:, self.order], self.cuts, axis=1)
        return Views(dict(zip(X.names, parts, strict=True)))


def _with_gaps(X: Views, name: str) -> NDArray[np.float64]:
    return np.where(X.mask[name][:, None], np.asarray(X[name], dtype=np.float64), np.nan)


def _flops(fitted: Fitted, row: Views) -> float:
    """Count multiply-adds of one row through one network; NaN for what is no single network."""
    model = fitted.model
    if not hasattr(model, "module_"):
        return float("nan")
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model.predict_proba(row)
    return float(counter.get_total_flops())
