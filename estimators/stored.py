"""Ensembles of specialists that were asked before: only their answers are there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Bunch

from estimators._compat import check_sample_weight
from estimators.choice import own_folds
from estimators.fusions import PanelFuser
from estimators.learning import StoredPanel
from theory import PanelError


class StoredAnswers:
    """Stands for a specialist whose answers come as a column of a panel.

    Parameters
    ----------
    name : str
        The specialist's name.
    cost : float
        What an answer cost.
    """

    def __init__(self, name: str, cost: float = 1.0):
        self.name = name
        self.cost = cost

    def __repr__(self) -> str:
        return f"StoredAnswers({self.name!r})"


def read_stored(panel: Any, task: str) -> tuple[NDArray[np.float64], list[Any] | None, list[Any] | None]:
    """Read a panel of stored answers.

    Parameters
    ----------
    panel : array-like, DataFrame or DataArray of shape (sample, specialist, output)
        Of numbers with one output (sample, specialist) will do.
    task : {"classification", "regression"}
        What the answers are.

    Returns
    -------
    values : ndarray of float64, shape (sample, specialist, output)
    names, outputs : list or None
        Coordinates of a DataArray, or columns of a DataFrame.

    Raises
    ------
    PanelError
        If it is no panel.
    """
    names = outputs = None
    if hasattr(panel, "dims") and hasattr(panel, "coords"):
        order = [dim for dim in ("sample", "specialist", "output") if dim in panel.dims]
        if len(order) == panel.ndim:
            panel = panel.transpose(*order)
            names = panel.specialist.values.tolist() if "specialist" in panel.coords else None
            outputs = panel.output.values.tolist() if "output" in panel.coords else None
    elif hasattr(panel, "columns"):
        names = list(panel.columns)
    values = np.asarray(panel, dtype=np.float64)
    if task == "regression" and values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise PanelError(f"panel must be (sample, specialist, output); got shape {values.shape}.")
    return values, names, outputs


def fit_stored(
    kind: Any,
    panel: Any,
    y: Any,
    *,
    classes: Any = None,
    costs: Any = None,
    sample_weight: Any = None,
    groups: Any = None,
    **params: Any,
) -> Any:
    """Fit an ensemble on stored answers; see ``from_predictions`` of the ensembles.

    Parameters
    ----------
    kind : type
        :class:`RobustFusionClassifier` or :class:`RobustFusionRegressor`.
    panel, y, classes, costs, sample_weight, groups, **params : object
        As there.

    Returns
    -------
    object
        The fitted ensemble.
    """
    task = "classification" if issubclass(kind, ClassifierMixin) else "regression"
    values, names, outputs = read_stored(panel, task)
    listed = [str(name) for name in (range(values.shape[1]) if names is None else names)]
    if len(y) != len(values):
        raise PanelError(
            f"panel must be (sample, specialist, output); got shape {values.shape} for {len(y)} targets. Transpose it "
            "or pass a DataArray."
        )
    price = np.ones(len(listed)) if costs is None else np.asarray(costs, dtype=np.float64)
    if price.shape != (len(listed),) or not (price > 0).all():
        raise PanelError(f"costs must be {len(listed)} positive numbers; got {costs!r}.")
    members = [StoredAnswers(name, float(cost)) for name, cost in zip(listed, price, strict=True)]
    self = kind(list(zip(listed, members, strict=True)), **({"cv": "prefit"} | params))
    self._validate_params()
    self._validate_names(listed)
    if sample_weight is not None:
        sample_weight = check_sample_weight(sample_weight, values[:, 0])
    self._from_panel, self.fallback_, self.failures_, self.calibrators_ = True, "", {}, {}
    self._names, self._members, self.estimators_ = listed, members, members
    self.named_estimators_ = Bunch(**dict(self.estimators))
    self.methods_ = dict.fromkeys(listed, "stored")
    if task == "classification":
        self.classes_ = _labels(classes if outputs is None or classes is not None else outputs, values, y)
        order = np.argsort(self.classes_)
        self.classes_, values = self.classes_[order], values[:, :, order]
    self._fuser = PanelFuser(self.fusion, task=task, short=self.short)
    self._begin(np.asarray(y), sample_weight)
    self._check_rows()
    faulty = self._faulty(values)
    self._tell_faults(faulty & ~np.isnan(values).all(axis=2))
    values = np.where(faulty[:, :, None], np.nan, values)
    groups = None if groups is None else np.asarray(groups)
    folds = own_folds(len(values), 5, groups)
    self._learn(StoredPanel(values, self._target(y), folds, sample_weight, groups))
    return self


def _labels(given: Any, values: NDArray[np.float64], y: Any) -> NDArray[Any]:
    classes = np.arange(values.shape[2]) if given is None else np.asarray(given)
    if classes.shape != (values.shape[2],) or len(np.unique(classes)) < len(classes):
        raise PanelError(
            f"classes must name each of the {values.shape[2]} outputs once; got {classes.tolist()}."
        )
    unknown = sorted(set(np.asarray(y).tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise PanelError(f"truths {unknown} are no output of the panel, {classes.tolist()}.")
    return classes
