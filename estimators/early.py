"""Early fusion behind fit and predict: views on one scale, side by side, then any model."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    MetaEstimatorMixin,
    RegressorMixin,
    clone,
    is_classifier,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, has_fit_parameter

from estimators._compat import (
    HasMethods,
    Interval,
    StrOptions,
    check_sample_weight,
    fit_context,
    validate_data,
)
from estimators.mid.reading import read_raw, refuse_mapping, view_selectors
from estimators.views import Views
from fusion.early import Ragged, ScaledConcat, pool_ragged
from theory import PanelError


class _EarlyFusion(MetaEstimatorMixin, BaseEstimator):
    """Views side by side, then one model; see the classifier."""

    _parameter_constraints: dict = {  # noqa: RUF012
        "estimator": [
            HasMethods(["fit", "predict"]),
            HasMethods(["forward"]),
            StrOptions({"stream_attention"}),
            None,
        ],
        "views": [dict, list, tuple, None],
        "add_mask": ["boolean", StrOptions({"auto"})],
        "block_scale": [StrOptions({"equal", "mfa"}), None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "missing": [StrOptions({"abstain", "raise"})],
        "empty": [StrOptions({"prior", "raise"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        views: Any = None,
        add_mask: Any = "auto",
        block_scale: str | None = None,
        clip: float | None = None,
        missing: str = "abstain",
        empty: str = "prior",
        random_state: Any = None,
    ):
        self.estimator = estimator
        self.views = views
        self.add_mask = add_mask
        self.block_scale = block_scale
        self.clip = clip
        self.missing = missing
        self.empty = empty
        self.random_state = random_state

    def _fit(self, X: Any, y: Any, sample_weight: Any) -> None:
        X = self._check_input(X, reset=True)
        check_consistent_length(X, y)
        weight = (
            None if sample_weight is None else check_sample_weight(sample_weight, X, ensure_non_negative=True)
        )
        if self._is_stream():
            self.estimator_ = self._mid("stream_attention", self.views).fit(X, y, sample_weight=weight)
            self.view_names_ = self.estimator_.view_names_
            return
        self._selectors = view_selectors(X, self.views)
        self.view_names_ = tuple(self._selectors)
        arrays, mask = self._read(X)
        kept = self._heard(mask)
        if not kept.any():
            raise PanelError("no training row has a view. There is nothing to learn from.")
        rows = np.flatnonzero(kept)
        if weight is not None:
            rows = rows[weight[rows] > 0]
        everybody = len(rows) == len(kept)
        cut = arrays if everybody else {name: values[rows] for name, values in arrays.items()}
        here = mask if everybody else {name: part[rows] for name, part in mask.items()}
        mass = None if weight is None else weight[rows]
        self.scaling_ = ScaledConcat(self.block_scale, self.add_mask, self.clip)
        self.scaling_.fit(cut, here, sample_weight=mass)
        joined, target = self.scaling_.transform(cut, here), y[rows]
        if hasattr(self.estimator, "forward"):
            self.estimator_ = self._mid("mean", None, encoders={"x": self.estimator})
        else:
            self.estimator_ = clone(self._default() if self.estimator is None else self.estimator)
        if mass is None:
            self.estimator_.fit(joined, target)
        elif has_fit_parameter(self.estimator_, "sample_weight"):
            self.estimator_.fit(joined, target, sample_weight=mass)
        else:
            raise TypeError(
                f"{type(self.estimator_).__name__} does not accept sample_weight. Fit without it, or use another model."
            )

    def _ask(self, X: Any, method: str, nobody: Any) -> NDArray[Any]:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        if self._is_stream():
            return np.asarray(getattr(self.estimator_, method)(X))
        arrays, mask = self._read(X)
        kept = self._heard(mask)
        joined = self.scaling_.transform(arrays, mask)
        if not len(joined):  # scikit-learn's models refuse to answer nobody
            return np.asarray(getattr(self.estimator_, method)(np.zeros((1, joined.shape[1]))))[:0]
        said = np.asarray(getattr(self.estimator_, method)(joined))
        if kept.all():
            return said
        said = said.copy()
        said[~kept] = nobody
        return said

    def predict_views(self, X: Any) -> Any:
        """Refuse: early fusion has no answers of single views.

        Parameters
        ----------
        X : object
            Input.

        Returns
        -------
        never

        Raises
        ------
        AttributeError
            Always; it names what has them.
        """
        raise AttributeError(
            "early fusion joins views before any of them answers. Use MidFusionClassifier or MidFusionRegressor for "
            "predict_views."
        )

    def _heard(self, mask: dict[str, NDArray[np.bool_]]) -> NDArray[np.bool_]:
        present = np.stack(list(mask.values()), axis=1)
        nobody = ~present.any(axis=1)
        if self.missing == "raise" and not present.all():
            name = self.view_names_[int((~present).any(axis=0).argmax())]
            raise PanelError(
                f"view {name!r} is absent in {int((~mask[name]).sum())} rows. Set missing='abstain'."
            )
        if nobody.any() and self.empty == "raise":
            raise PanelError(
                f"{int(nobody.sum())} samples have no view (first {int(nobody.argmax())}). Drop them or set "
                "empty='prior'."
            )
        return ~nobody

    def _read(self, X: Any) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.bool_]]]:
        if isinstance(X, Views):
            unknown = [] if self.views is not None else [name for name in X if name not in self._selectors]
            if unknown:
                raise PanelError(f"unknown view {unknown[0]!r}; fitted: {', '.join(self._selectors)}.")
        arrays, mask = {}, {}
        for name, selector in self._selectors.items():
            if isinstance(X, Views) and isinstance(selector, str) and selector not in X:
                width = len(self.scaling_.blocks_[name].centre)
                arrays[name], mask[name] = np.zeros((len(X), width)), np.zeros(len(X), dtype=bool)
                continue
            raw, present = read_raw(X, name, selector, None)
            if isinstance(raw, Ragged):
                raw = pool_ragged(raw)
            elif raw.ndim == 3:
                raw = raw.reshape(len(raw), raw.shape[1] * raw.shape[2])
            arrays[name], mask[name] = raw if present.all() else np.where(present[:, None], raw, 0.0), present
        return arrays, mask

    def _check_input(self, X: Any, *, reset: bool) -> Any:
        if isinstance(X, Views):
            if reset:
                self.n_features_in_ = X.shape[1]
            return X
        if self.views is None and not self._is_stream():
            return validate_data(self, X, reset=reset, accept_sparse="csr", dtype=np.float64)
        refuse_mapping(X)
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        return X

    def _has_method(self, name: str) -> bool:
        if self._is_stream() or hasattr(self.estimator, "forward"):
            return True
        return hasattr(self._default() if self.estimator is None else self.estimator, name)

    def _is_stream(self) -> bool:
        return isinstance(self.estimator, str) and self.estimator == "stream_attention"

    def _mid(self, fusion: str, views: Any, **params: Any) -> Any:
        from estimators.mid.classifier import MidFusionClassifier
        from estimators.mid.regressor import MidFusionRegressor

        kind = MidFusionClassifier if is_classifier(self) else MidFusionRegressor
        return kind(
            fusion,
            views=views,
            aux_heads=None,
            view_dropout=0.0 if fusion == "mean" else 0.2,
            missing=self.missing,
            empty=self.empty,
            random_state=self.random_state,
            **params,
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class EarlyFusionClassifier(ClassifierMixin, _EarlyFusion):
    """Classify from several views put side by side on one scale.

    Parameters
    ----------
    estimator : estimator, torch.nn.Module, "stream_attention" or None
        The model of everything: any classifier (logistic regression with ``C=0.1`` unless given); a module with
        ``out_features``, trained as in :class:`MidFusionClassifier` with one head behind it; or attention over all
        raw tokens of the views.
    views : None, list of str, or dict of str to selector
        Which views; all of a :class:`Views`, or all of X as one view.
    add_mask : bool or "auto"
        Columns that say which views are there; auto: of the views ever absent in fit.
    block_scale : {None, "equal", "mfa"}
        Weights of the blocks; measured to matter little, where standardising matters a lot.
    clip : float, optional
        Bound on standardised values.
    missing : {"abstain", "raise"}
        Whether views may be absent; an absent block is its mean.
    empty : {"prior", "raise"}
        What samples without any view get.
    random_state : int, RandomState or None
        Of a network.

    Attributes
    ----------
    estimator_ : object
        The fitted model.
    scaling_ : fusion.early.ScaledConcat
        Centre and spread of each view, from the training rows that have it.
    classes_ : ndarray of shape (output,)
        Class labels.
    view_names_ : tuple of str
        The views.
    n_features_in_ : int
        Columns of all views.

    Raises
    ------
    PanelError
        If views do not fit, or a present row is partly NaN.

    Notes
    -----
    Ragged views are pooled by :func:`fusion.early.pool_ragged`. Nothing protects against a lying view; early fusion
    wins where the views are parts of one measurement with strongly correlated errors.

    References
    ----------
    .. [1] Escofier & Pages, Multiple factor analysis, 1994.

    Examples
    --------
    >>> from estimators import Views, load_mfeat
    >>> digits = load_mfeat()
    >>> X = Views({name: digits.views[name] for name in ("kar", "mor")})
    >>> EarlyFusionClassifier().fit(X[::2], digits.y[::2]).score(X[1::2], digits.y[1::2]) > 0.95
    True
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> EarlyFusionClassifier:
        """Scale the views and fit the model.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.
        y : array-like of shape (sample,)
            Class labels of any kind.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : EarlyFusionClassifier

        Raises
        ------
        ValueError
            If ``y`` is missing or no classes.
        """
        refuse_mapping(X)
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        if np.asarray(y).dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        self.classes_ = np.unique(y)
        self._fit(X, y, sample_weight)
        mass = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        prior = np.bincount(np.searchsorted(self.classes_, y), weights=mass)
        self._prior = prior / prior.sum()
        return self

    @available_if(lambda self: self._has_method("predict_proba"))
    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give probabilities.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample, output)
            In the order of ``classes_``.
        """
        check_is_fitted(self)
        said = self._ask(X, "predict_proba", np.nan)
        if len(self.estimator_.classes_) < len(
            self.classes_
        ):  # rows without any view had classes of their own
            wide = np.zeros((len(said), len(self.classes_)))
            wide[:, np.searchsorted(self.classes_, self.estimator_.classes_)] = said
            said = np.where(np.isnan(said).any(axis=1, keepdims=True), np.nan, wide)
        return np.where(np.isnan(said).any(axis=1, keepdims=True), self._prior, said)

    def predict(self, X: Any) -> NDArray[Any]:
        """Give the class.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample,)
            Labels of ``classes_``.
        """
        check_is_fitted(self)
        return self._ask(
            X, "predict", self.classes_[self._prior.argmax()] if hasattr(self, "_prior") else None
        )

    def _default(self) -> Any:
        return LogisticRegression(C=0.1, max_iter=1000)


class EarlyFusionRegressor(RegressorMixin, _EarlyFusion):
    """Predict numbers from several views put side by side on one scale.

    Parameters
    ----------
    estimator : estimator, torch.nn.Module, "stream_attention" or None
        The model of everything, as in :class:`EarlyFusionClassifier`; ridge regression unless given.
    views : None, list of str, or dict of str to selector
        Which views; all of a :class:`Views`, or all of X as one view.
    add_mask : bool or "auto"
        Columns that say which views are there.
    block_scale : {None, "equal", "mfa"}
        Weights of the blocks.
    clip : float, optional
        Bound on standardised values.
    missing : {"abstain", "raise"}
        Whether views may be absent.
    empty : {"prior", "raise"}
        What samples without any view get: the mean of the training targets, or an error.
    random_state : int, RandomState or None
        Of a network.

    Attributes
    ----------
    estimator_, scaling_, view_names_, n_features_in_ : object
        As in the classifier.

    Raises
    ------
    PanelError
        If views do not fit, or a present row is partly NaN.

    References
    ----------
    .. [1] Escofier & Pages, Multiple factor analysis, 1994.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from estimators import Views
    >>> X, y = load_diabetes(return_X_y=True)
    >>> EarlyFusionRegressor().fit(Views(body=X[:, :4], blood=X[:, 4:]), y).n_features_in_
    10
    """

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> EarlyFusionRegressor:
        """Scale the views and fit the model.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.
        y : array-like of shape (sample,) or (sample, output)
            Numbers.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : EarlyFusionRegressor

        Raises
        ------
        ValueError
            If ``y`` is missing or not finite.
        """
        refuse_mapping(X)
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        self._fit(X, y, sample_weight)
        mass = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        self._centre = np.average(y, axis=0, weights=mass)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Give numbers.

        Parameters
        ----------
        X : Views, array-like or DataFrame of shape (sample, feature)
            Input.

        Returns
        -------
        ndarray of shape (sample,) or (sample, output)
        """
        check_is_fitted(self)
        return self._ask(X, "predict", self._centre)

    def _default(self) -> Any:
        return Ridge(1.0)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
