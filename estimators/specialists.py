"""A specialist: a model, the view it sees, how it answers, what it costs, what its failure means."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils import ClassifierTags, InputTags, RegressorTags, Tags, TargetTags, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_consistent_length, check_is_fitted, has_fit_parameter

from estimators._compat import check_method_params, routing_enabled
from estimators.columns import take_rows
from estimators.views import select_view
from theory import PanelError

_METHODS = ("auto", "predict_proba", "decision_function", "predict")


def _model_has(method: str) -> Any:
    def check(self: Specialist) -> bool:
        getattr(self.model_ if hasattr(self, "model_") else self.model, method)
        return True

    return check


class Specialist(MetaEstimatorMixin, BaseEstimator):
    """A model with the view it sees, its calibration, its cost and what its failure means.

    It is a scikit-learn estimator of the model's own kind, so it can be used alone, in a Pipeline,
    or as a member of :class:`RobustFusionClassifier` and :class:`RobustFusionRegressor`.

    Parameters
    ----------
    model : estimator
        Any scikit-learn classifier or regressor.
    view : None, str, list, slice, tuple or callable
        What it sees: everything; a view of ``Views``; a column, columns or ``"prefix:"``;
        ``(view, columns)``; or a callable, such as scikit-learn's column selectors.
    method : {"auto", "predict_proba", "decision_function", "predict"}
        How a classifier answers. ``"auto"`` takes the first that the model has.
    calibration : None, "temperature", "sigmoid", "isotonic" or transformer
        Fitted on out-of-fold answers only, by the ensemble.
    cost : float
        Cost of one answer, in any unit.
    owner : str, optional
        Who stands behind the model: specialists of one owner may fail or lie together.
    on_error : {"raise", "abstain"}
        Whether an exception stops the ensemble or makes the specialist abstain, with a
        :class:`theory.FaultWarning`. With ``"abstain"`` an answer that is not finite is an abstention
        too; with ``"raise"`` it is a fault, which robust rules withstand within their budget.
    freeze : bool
        The model is fitted already and never refitted; clones share it.
    use_weights : bool
        Whether ``fit`` hands ``sample_weight`` on to the model.
    name : str, optional
        Name under which :func:`make_fusion` lists it.

    Attributes
    ----------
    model_ : estimator
        The fitted model.
    classes_ : ndarray
        Classes of a fitted classifier.

    Notes
    -----
    Callbacks of an ensemble are told of every specialist and fold, and do not reach inside: the model may be
    fitted in another process.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> X, y = np.array([[0.0, 9.0], [1.0, 9.0], [2.0, 9.0], [3.0, 9.0]]), [0, 0, 1, 1]
    >>> Specialist(LogisticRegression(), view=[0]).fit(X, y).predict(X).tolist()
    [0, 0, 1, 1]
    """

    def __init__(
        self,
        model: Any,
        *,
        view: Any = None,
        method: str = "auto",
        calibration: Any = None,
        cost: float = 1.0,
        owner: str | None = None,
        on_error: str = "raise",
        freeze: bool = False,
        use_weights: bool = True,
        name: str | None = None,
    ):
        self.model = model
        self.view = view
        self.method = method
        self.calibration = calibration
        self.cost = cost
        self.owner = owner
        self.on_error = on_error
        self.freeze = freeze
        self.use_weights = use_weights
        self.name = name

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **metadata: Any) -> Specialist:
        """Fit the model on the samples that have the view.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists; the view is cut out here.
        y : array-like of shape (sample,) or (sample, output)
            Truth.
        sample_weight : array-like of shape (sample,), optional
            Handed on where ``use_weights``.
        **metadata : object
            Handed on to the model's ``fit``; what has an entry per sample is cut like X.

        Returns
        -------
        self : Specialist

        Raises
        ------
        PanelError
            If a parameter is out of range, the view does not exist or is absent everywhere, or the
            model cannot answer by ``method``.
        ValueError
            If X, y and weights have different numbers of samples.
        TypeError
            If there are weights that the model cannot take.
        sklearn.exceptions.NotFittedError
            If the model is frozen and not fitted.
        """
        self._check_params()
        if self.freeze:
            self.model_ = self._frozen_model()
            return self
        part, present = select_view(X, self.view)
        check_consistent_length(part, y, sample_weight)  # rows that have the view are picked out of all three
        target = np.asarray(y)
        if present is not None:
            if not present.any():
                raise PanelError(f"view {self.view!r} is absent from every sample; nothing to fit on.")
            rows = np.flatnonzero(present)
            part, target = take_rows(part, rows), target[rows]
            sample_weight = None if sample_weight is None else np.asarray(sample_weight)[rows]
            metadata = check_method_params(X, metadata, indices=rows)
        model = clone(self.model)
        if sample_weight is None or not self.use_weights:
            model.fit(part, target, **metadata)
        else:
            argument = _weight_argument(model)
            if argument is None:
                raise TypeError(
                    f"specialist {self._label()} ({type(model).__name__}) does not accept sample_weight. "
                    "Set use_weights=False."
                )
            model.fit(part, target, **{argument: sample_weight}, **metadata)
        self._check_method(model)
        self.model_ = model
        return self

    def answer(self, X: Any) -> NDArray[np.float64]:
        """Give one row of numbers per sample: what the panel holds before alignment.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.

        Returns
        -------
        ndarray of float64, shape (sample, output)
            Probabilities (or decision values, see ``answer_method_``) in the order of ``classes_``,
            or the numbers of a regressor. A sample without the view has a NaN row: an abstention.
        """
        return self.tell(X)[0]

    def tell(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_], str]:
        """Answer, and say where the specialist abstains as declared.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.

        Returns
        -------
        answers : ndarray of float64, shape (sample, output)
            As :meth:`answer` gives them.
        absent : ndarray of bool, shape (sample,)
            Samples without the view, or left out by the specialist itself.
        note : str
            What went wrong with single samples, or empty.
        """
        check_is_fitted(self, "model_")
        part, present = select_view(X, self.view)
        if present is None:
            return self._heard(part)
        rows = np.flatnonzero(present)
        absent = ~present
        if not len(rows):
            width = len(self.classes_) if is_classifier(self) else 1
            return np.full((len(present), width), np.nan), absent, ""
        said, silent, note = self._heard(take_rows(part, rows))
        answers = np.full((len(present), said.shape[1]), np.nan)
        answers[rows] = said
        absent[rows] = silent
        return answers, absent, note

    def _heard(self, part: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_], str]:
        said = self._raw(part)
        return said, np.zeros(len(said), dtype=bool), ""

    @property
    def kind(self) -> str:
        """What answers, in a word: the class of the model."""
        return type(self.model).__name__

    @property
    def answer_method_(self) -> str:
        """The model's method behind ``answer``."""
        check_is_fitted(self, "model_")
        if not is_classifier(self):
            return "predict"
        if self.method != "auto":
            return self.method
        return next((m for m in _METHODS[1:] if hasattr(self.model_, m)), "predict")

    @property
    def classes_(self) -> NDArray[Any]:
        """Classes of a fitted classifier, in the order of its answers."""
        if not hasattr(self, "model_"):
            raise AttributeError("this Specialist is not fitted yet, so it has no classes_.")
        return np.asarray(self.model_.classes_)

    @property
    def n_features_in_(self) -> int:
        """Number of features that the model saw."""
        if not hasattr(self, "model_"):
            raise AttributeError("this Specialist is not fitted yet, so it has no n_features_in_.")
        return int(self.model_.n_features_in_)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict with the model.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.

        Returns
        -------
        ndarray of shape (sample,) or (sample, output)
            Labels or numbers.
        """
        return np.asarray(self._whole(X, "predict"))

    @available_if(_model_has("predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give the model's probabilities.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.

        Returns
        -------
        ndarray of shape (sample, output)
            In the order of ``classes_``.
        """
        return np.asarray(self._whole(X, "predict_proba"))

    @available_if(_model_has("decision_function"))
    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Give the model's decision values.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.

        Returns
        -------
        ndarray of shape (sample,) or (sample, output)
            As the model gives them.
        """
        return np.asarray(self._whole(X, "decision_function"))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Give the accuracy of a classifier, or R2 of a regressor.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            Input of all specialists.
        y : array-like of shape (sample,) or (sample, output)
            Truth.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        float
        """
        rate = accuracy_score if is_classifier(self) else r2_score
        return float(rate(y, self.predict(X), sample_weight=sample_weight))

    def _whole(self, X: Any, method: str) -> Any:
        check_is_fitted(self, "model_")
        part, present = select_view(X, self.view)
        if present is not None:
            raise PanelError(
                f"view {self.view!r} is absent from {int((~present).sum())} samples; only an ensemble can answer those."
            )
        return getattr(self.model_, method)(part)

    def _raw(self, part: Any) -> NDArray[np.float64]:
        method = self.answer_method_
        said = np.asarray(getattr(self.model_, method)(part))
        n_samples = part.shape[0] if hasattr(part, "shape") else len(part)
        if said.ndim == 0 or len(said) != n_samples:
            raise PanelError(
                f"specialist {self._label()} gave {said.shape} from {method} for {n_samples} samples; needed is one "
                "row per sample."
            )
        if not is_classifier(self):
            return said.reshape(len(said), -1).astype(np.float64)
        if method == "predict":
            return (said.reshape(-1, 1) == self.classes_[None, :]).astype(np.float64)
        said = said.astype(np.float64, copy=False)
        if said.ndim == 1:
            said = np.stack([-said, said], axis=1)
        if said.shape[1:] != self.classes_.shape:
            raise PanelError(
                f"specialist {self._label()} gave {said.shape} from {method}; needed is a column for each of its "
                f"{len(self.classes_)} classes."
            )
        return said

    def _check_params(self) -> None:
        if self.method not in _METHODS:
            raise PanelError(f"method must be one of {_METHODS}; got {self.method!r}.")
        self._check_common()

    def _check_common(self) -> None:
        if self.on_error not in ("raise", "abstain"):
            raise PanelError(f"on_error must be 'raise' or 'abstain'; got {self.on_error!r}.")
        number = isinstance(self.cost, Real) and not isinstance(self.cost, bool | np.bool_)
        if not (number and np.isfinite(self.cost) and self.cost > 0):
            raise PanelError(f"cost must be a positive number; got {self.cost!r}.")

    def _check_method(self, model: Any) -> None:
        if is_classifier(self) and self.method != "auto" and not hasattr(model, self.method):
            raise PanelError(
                f"specialist {self._label()} ({type(model).__name__}) has no {self.method}. Set method='auto'."
            )

    def _frozen_model(self) -> Any:
        try:
            check_is_fitted(self.model)
        except NotFittedError as error:
            raise NotFittedError(
                f"specialist {self._label()} has freeze=True but is not fitted. Fit it or set freeze=False."
            ) from error
        self._check_method(self.model)
        return self.model

    def _label(self) -> str:
        return repr(self.name or self.kind)

    def get_metadata_routing(self) -> Any:
        """Say which metadata ``fit`` takes: what was set here, else what the model asks for.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest or MetadataRouter
        """
        if hasattr(self, "_metadata_request") or not hasattr(self.model, "get_metadata_routing"):
            return super().get_metadata_routing()
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(model=self.model, method_mapping=mapping)

    def _inner_tags(self) -> Any:
        return get_tags(self.model)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_clone__(self) -> Specialist:
        params = {
            k: v if k == "model" and self.freeze else _cloned(v)
            for k, v in self.get_params(deep=False).items()
        }
        return type(self)(**params)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = self._inner_tags()
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        tags.target_tags = inner.target_tags
        tags.input_tags.allow_nan = inner.input_tags.allow_nan
        tags.input_tags.sparse = inner.input_tags.sparse
        return tags


def as_specialist(name: str, member: Any) -> Specialist:
    """Give every member of a team the interface of a Specialist.

    Parameters
    ----------
    name : str
        The member's name in the team, used in messages.
    member : estimator or Specialist
        What the user listed.

    Returns
    -------
    Specialist
        A fresh, unfitted one.
    """
    if isinstance(member, Specialist):
        return clone(member).set_params(name=name)
    return Specialist(clone(member), name=name)


def answerer_tags(*, classifier: bool, multi_output: bool = False, sparse: bool = False) -> Tags:
    """Give the tags of something that answers and is no scikit-learn estimator.

    Parameters
    ----------
    classifier : bool
        Whether it answers with classes; else with numbers.
    multi_output : bool
        Whether it gives several numbers.
    sparse : bool
        Whether it takes sparse input.

    Returns
    -------
    sklearn.utils.Tags
    """
    return Tags(
        estimator_type="classifier" if classifier else "regressor",
        target_tags=TargetTags(required=False, multi_output=multi_output and not classifier),
        classifier_tags=ClassifierTags() if classifier else None,
        regressor_tags=None if classifier else RegressorTags(),
        input_tags=InputTags(allow_nan=True, sparse=sparse),
    )


def _cloned(value: Any) -> Any:
    return clone(value, safe=False)


def _weight_argument(model: Any) -> str | None:
    """Name the argument of ``fit`` that takes weights; a Pipeline hands them to its last step."""
    if routing_enabled() and hasattr(model, "steps"):
        return "sample_weight"  # its steps said what they ask for
    if has_fit_parameter(model, "sample_weight"):
        return "sample_weight"
    if not hasattr(model, "steps"):
        return None
    name, last = model.steps[-1]
    inner = _weight_argument(last)
    return None if inner is None else f"{name}__{inner}"
