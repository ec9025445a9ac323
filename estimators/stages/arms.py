"""The arms of the comparison: what is built, at which parameters, and what each one isolates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from estimators.early import EarlyFusionClassifier
from estimators.mid.classifier import MidFusionClassifier
from estimators.views import Views
from fusion import get_operator
from theory import PanelError

_FLOOR = 1e-6


@dataclass(frozen=True)
class Arm:
    """One way to fuse.

    Attributes
    ----------
    name : str
        Of the arm.
    stage : str
        ``"early"``, ``"mid"``, ``"late"``, ``"deliberative"`` or ``"single"``.
    isolates : str
        What it is there to tell.
    fusion : str
        Mid operator, or late rule on the panel of independent networks.
    params : mapping
        Of the mid estimator, or of the rule.
    shuffled : bool
        Whether features are dealt at random into groups of the views' sizes.
    """

    name: str
    stage: str
    isolates: str
    fusion: str = ""
    params: Mapping[str, Any] | None = None
    shuffled: bool = False


_GROUPED = {"head": "mlp", "aux_heads": None, "aux_weight": 0.0}
_TRAINED_MEAN = {"fusion_params": {"train_rule": "mean"}}
_TRANSFORMER = {"fusion_params": {"n_heads": 4}}
ARMS = {
    arm.name: arm
    for arm in (
        Arm("monolith", "early", "one large model", "monolith"),
        Arm("logistic", "early", "the simplest model of everything"),
        Arm("shuffled_groups", "early", "structure without views", "concat", _GROUPED, shuffled=True),
        Arm("grouped", "early", "separate encoders, one loss", "concat", _GROUPED),
        Arm("mid_concat", "mid", "heads of their own", "concat"),
        Arm("mid_mean", "mid", "the default", "mean"),
        Arm("mid_median", "mid", "robust, trained as such", "median"),
        Arm(
            "mid_median_trained_mean",
            "mid",
            "robust at test time only",
            "median",
            {"fusion_params": {"train_rule": "mean"}},
        ),
        Arm("mid_geometric_median", "mid", "robust in all coordinates together", "geometric_median"),
        Arm("mid_gated", "mid", "weights from the embeddings", "gated"),
        Arm("mid_product_of_experts", "mid", "weights from claimed precision", "product_of_experts"),
        Arm("mid_low_rank", "mid", "products of views", "low_rank"),
        Arm("mid_view_transformer", "mid", "attention between views", "view_transformer", _TRANSFORMER),
        Arm("mid_bottleneck", "mid", "exchange through few tokens", "bottleneck", _TRANSFORMER),
        Arm("mid_experts", "mid", "a sparse monolith", "mixture_of_experts"),
        Arm("late_mean", "late", "independent networks", "mean"),
        Arm("late_log_pool", "late", "the same, geometric mean", "log_pool", {"floor": _FLOOR}),
        Arm("late_median", "late", "the same, robust", "median"),
        Arm("late_stack", "late", "the same, with a learned arbiter"),
        Arm("deliberative", "deliberative", "the arbiter also hears who disagrees with whom"),
        Arm("best_view", "single", "the best network of one view, by validation"),
    )
}
DEFAULT_ARMS = (
    "monolith",
    "logistic",
    "shuffled_groups",
    "grouped",
    "mid_mean",
    "mid_median",
    "late_mean",
    "late_log_pool",
    "late_median",
    "late_stack",
    "deliberative",
    "best_view",
)


@dataclass(frozen=True)
class Protocol:
    """What all arms of a seed share.

    Attributes
    ----------
    param_budget : int
        Most parameters.
    draws : tuple of dict
        Settings that every network arm tries: lr, weight_decay, dropout.
    validation_fraction : float
        Of the training rows.
    max_iter, patience : int
        Epochs.
    view_dropout : float
        In every network of several views.
    seed : int
        Of the split and the weights.
    """

    param_budget: int
    draws: tuple[dict[str, float], ...]
    validation_fraction: float
    max_iter: int
    patience: int
    view_dropout: float
    seed: int


@dataclass(frozen=True)
class Fitted:
    """A trained arm.

    Attributes
    ----------
    model : object
        With ``predict_proba``.
    n_parameters : int
        Of all networks in it.
    validation_loss : float
        Log loss on the validation rows, by which its settings were chosen.
    """

    model: Any
    n_parameters: int
    validation_loss: float


def network(
    X: Any, y: NDArray[Any], fusion: str, protocol: Protocol, params: Mapping[str, Any], budget: int
) -> Fitted:
    """Train a network with each setting and keep the one with the best validation loss.

    Parameters
    ----------
    X : Views
        Training rows.
    y : ndarray of shape (sample,)
        Class labels.
    fusion : str
        Mid operator.
    protocol : Protocol
        Shared settings.
    params : mapping
        Further parameters of the estimator.
    budget : int
        Most parameters.

    Returns
    -------
    Fitted
    """
    best: Fitted | None = None
    for draw in protocol.draws:
        params = dict(params)
        settings = dict(draw)
        if fusion == "monolith":  # no encoders: its dropout is the operator's
            params["fusion_params"] = {"dropout": settings.pop("dropout", 0.0)}
        model = MidFusionClassifier(
            fusion,
            param_budget=budget,
            view_dropout=protocol.view_dropout if len(X.names) > 1 else 0.0,
            max_iter=protocol.max_iter,
            patience=protocol.patience,
            validation_fraction=protocol.validation_fraction,
            random_state=protocol.seed,
            **settings,
            **params,
        ).fit(X, y)
        loss = min(model.validation_curve_)
        if best is None or loss < best.validation_loss:
            best = Fitted(model, model.n_parameters_, loss)
    assert best is not None
    return best


class IndependentPanel:
    """Networks of one view each, trained apart, with the budget shared equally.

    Parameters
    ----------
    X : Views
        Training rows.
    y : ndarray of shape (sample,)
        Class labels.
    protocol : Protocol
        Shared settings.
    """

    def __init__(self, X: Views, y: NDArray[Any], protocol: Protocol):
        from estimators.mid.splitting import validation_split

        share = protocol.param_budget // len(X.names)
        self.names = X.names
        self.members = {
            name: network(_one(X, name), y, "mean", protocol, {"aux_heads": None}, share) for name in X.names
        }
        _, held = validation_split(
            y, len(y), groups=None, fraction=protocol.validation_fraction, seed=protocol.seed
        )
        self.classes = np.unique(y)
        self.truth = np.searchsorted(self.classes, y[held])
        self.validation = self.panel(X.take(held))
        self.n_parameters = sum(member.n_parameters for member in self.members.values())

    def panel(self, X: Views) -> NDArray[np.float64]:
        """Give (sample, specialist, output); NaN where the view is absent."""
        said = []
        for name, member in self.members.items():
            proba = member.model.predict_proba(_one(X, name))
            said.append(np.where(X.mask[name][:, None], proba, np.nan))
        return np.stack(said, axis=1)

    def evidence(self, panel: NDArray[np.float64], *, disagreement: bool) -> NDArray[np.float64]:
        """Give log-odds per specialist and class, and on request how far each is from the others."""
        here = ~np.isnan(panel).any(axis=2)
        filled = np.where(here[:, :, None], panel, 1.0 / panel.shape[2])
        logs = np.log(np.maximum(filled, _FLOOR))
        logs -= logs.mean(axis=2, keepdims=True)
        parts = [logs.reshape(len(panel), -1), here.astype(float)]
        if disagreement:
            count = np.maximum(here.sum(axis=1, keepdims=True) - 1, 1)[:, :, None]
            mass = filled * here[:, :, None]
            others = (mass.sum(axis=1, keepdims=True) - mass) / count
            gap = 0.5 * np.abs(filled - others).sum(axis=2) * here
            parts += [gap, (logs * (1.0 - gap)[:, :, None]).reshape(len(panel), -1)]
        return np.concatenate(parts, axis=1)


def fit_arm(
    arm: Arm, X: Views, y: NDArray[Any], protocol: Protocol, panel: IndependentPanel | None
) -> Fitted:
    """Train one arm.

    Parameters
    ----------
    arm : Arm
        Which.
    X : Views
        Training rows.
    y : ndarray of shape (sample,)
        Class labels.
    protocol : Protocol
        Shared settings.
    panel : IndependentPanel or None
        The networks that the late arms share.

    Returns
    -------
    Fitted

    Raises
    ------
    PanelError
        If a late arm comes without its networks.
    """
    if arm.name == "logistic":
        return _logistic(X, y, protocol)
    if arm.stage in ("early", "mid"):
        return network(X, y, arm.fusion, protocol, arm.params or {}, protocol.param_budget)
    if panel is None:
        raise PanelError(f"arm {arm.name!r} needs the independent networks.")
    if arm.stage == "single":
        name = min(panel.members, key=lambda key: panel.members[key].validation_loss)
        member = panel.members[name]
        return Fitted(_OneView(member.model, name), member.n_parameters, member.validation_loss)
    if arm.fusion:
        model: Any = _LateRule(panel, arm.fusion, dict(arm.params or {}))
        loss = float(log_loss(panel.truth, model.of(panel.validation), labels=np.arange(len(panel.classes))))
        return Fitted(model, panel.n_parameters, loss)
    return _arbiter(panel, protocol, disagreement=arm.stage == "deliberative")


@dataclass(frozen=True)
class _OneView:
    model: Any
    name: str

    def predict_proba(self, X: Views) -> NDArray[np.float64]:
        return np.asarray(self.model.predict_proba(_one(X, self.name)))


@dataclass(frozen=True)
class _LateRule:
    panel: IndependentPanel
    rule: str
    params: dict[str, Any]

    def predict_proba(self, X: Views) -> NDArray[np.float64]:
        return self.of(self.panel.panel(X))

    def of(self, panel: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fuse answers; samples without any view get equal shares."""
        nobody = np.isnan(panel).all(axis=(1, 2), keepdims=True)
        panel = np.where(nobody, 1.0 / panel.shape[2], panel)
        fused = np.asarray(get_operator(self.rule, **self.params)(panel, missing="abstain"))
        return fused / fused.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class _Arbiter:
    panel: IndependentPanel
    model: Any
    disagreement: bool

    def predict_proba(self, X: Views) -> NDArray[np.float64]:
        features = self.panel.evidence(self.panel.panel(X), disagreement=self.disagreement)
        said = self.model.predict_proba(features)
        wide = np.zeros((len(said), len(self.panel.classes)))
        wide[:, self.model.classes_] = said
        return wide


def _arbiter(panel: IndependentPanel, protocol: Protocol, *, disagreement: bool) -> Fitted:
    """Fit a logistic arbiter on the validation rows, which no network learned from; C by inner cross-validation."""
    features = panel.evidence(panel.validation, disagreement=disagreement)
    counts = np.bincount(panel.truth)
    folds = int(min(3, counts[counts > 0].min()))
    splitter = StratifiedKFold(max(folds, 2), shuffle=True, random_state=protocol.seed)
    grid = np.geomspace(1e-3, 1.0, len(protocol.draws) + 1)
    if folds < 2:
        model: Any = LogisticRegression(C=0.1, max_iter=1000).fit(features, panel.truth)
    else:
        model = LogisticRegressionCV(
            Cs=grid,
            cv=splitter,
            scoring="neg_log_loss",
            max_iter=1000,
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        ).fit(features, panel.truth)
    size = int(model.coef_.size + model.intercept_.size)
    if folds < 2:
        said = model.predict_proba(features)
    else:  # not on the rows it learned from, or an arbiter would always look best
        again = LogisticRegression(C=float(np.mean(model.C_)), max_iter=1000)
        said = cross_val_predict(again, features, panel.truth, cv=splitter, method="predict_proba")
    loss = float(log_loss(panel.truth, said, labels=model.classes_))
    return Fitted(_Arbiter(panel, model, disagreement), panel.n_parameters + size, loss)


def _logistic(X: Views, y: NDArray[Any], protocol: Protocol) -> Fitted:
    from estimators.mid.splitting import validation_split

    fitted, held = validation_split(
        y, len(y), groups=None, fraction=protocol.validation_fraction, seed=protocol.seed
    )
    best: Fitted | None = None
    for c in np.geomspace(0.01, 1.0, max(len(protocol.draws), 2)):
        model = EarlyFusionClassifier(LogisticRegression(C=float(c), max_iter=1000)).fit(
            X.take(fitted), y[fitted]
        )
        loss = float(log_loss(y[held], model.predict_proba(X.take(held)), labels=model.classes_))
        size = int(model.estimator_.coef_.size + model.estimator_.intercept_.size)
        if best is None or loss < best.validation_loss:
            best = Fitted(model, size, loss)
    assert best is not None
    return best


def _one(X: Views, name: str) -> Views:
    return Views({name: X[name]}, mask={name: X.mask[name]})
