"""Specialists as a transformer: the panel as a step of a pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import TransformerMixin, is_regressor
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from estimators import RobustFusionClassifier, RobustFusionRegressor
from estimators._compat import (
    BaseComposition,
    VisualBlock,
    check_feature_names_in,
    fit_context,
)
from estimators.specialists import Specialist
from theory import PanelError


def _is_flat(transformer: PanelTransformer) -> bool:
    if not transformer.flatten:
        raise AttributeError("only flatten=True gives columns; else the panel is a DataArray.")
    return True


class PanelTransformer(TransformerMixin, BaseComposition):
    """Turn samples into the panel of what the specialists say about them.

    Parameters
    ----------
    estimators : list of (str, estimator) tuples
        The team, of classifiers or of regressors: estimators, :class:`Specialist` objects, or ``"drop"``.
    cv : int, splitter, iterable or "prefit"
        How ``fit_transform`` makes the out-of-fold panel. ``"prefit"``: all specialists are frozen.
    flatten : bool
        Whether the panel is laid out as columns ``{specialist}__{output}``, with feature names and
        ``set_output``.
    absent_class : {"missing", "zero"}
        What stands for a class that a specialist cannot name: NaN, or probability zero.
    extra_class : {"raise", "drop", "keep"}
        What to do when a specialist names classes that are not in ``y``.
    n_jobs, predict_n_jobs : int, optional
        Parallel jobs of fit and of transform.
    random_state : int, RandomState or None
        Shuffles integer folds if given.

    Attributes
    ----------
    classes_ : ndarray of shape (output,)
        Labels of the outputs, of classifiers.
    named_estimators_ : Bunch
        The fitted members by name.
    oof_coverage_ : float
        Share of the samples that ``fit_transform`` has answers for; the others are NaN rows.

    Notes
    -----
    ``fit_transform(X, y)`` gives what specialists say about samples that they were not fitted on,
    ``transform(X)`` what those fitted on everything say: the step after it learns from honest answers, and
    the two differ on the same samples. The DataArray has the dims (sample, specialist, output) and
    passes through Pipeline and GridSearchCV, which cut along its first axis.

    References
    ----------
    .. [1] Wolpert, Stacked generalization, 1992.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> team = [("bayes", GaussianNB()), ("tree", DecisionTreeClassifier(random_state=0))]
    >>> panel = PanelTransformer(team).fit_transform(X, y)
    >>> panel.dims, panel.shape
    (('sample', 'specialist', 'output'), (150, 2, 3))
    """

    _parameter_constraints: dict = {  # noqa: RUF012
        **{
            key: value
            for key, value in RobustFusionClassifier._parameter_constraints.items()
            if key
            in ("estimators", "cv", "absent_class", "extra_class", "n_jobs", "predict_n_jobs", "random_state")
        },
        "flatten": ["boolean"],
    }

    def __init__(
        self,
        estimators: Any,
        *,
        cv: Any = 5,
        flatten: bool = False,
        absent_class: str = "missing",
        extra_class: str = "raise",
        n_jobs: int | None = None,
        predict_n_jobs: int | None = None,
        random_state: Any = None,
    ):
        self.estimators = estimators
        self.cv = cv
        self.flatten = flatten
        self.absent_class = absent_class
        self.extra_class = extra_class
        self.n_jobs = n_jobs
        self.predict_n_jobs = predict_n_jobs
        self.random_state = random_state

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters, those of the specialists included.

        Parameters
        ----------
        deep : bool
            Whether to include the parameters of specialists.

        Returns
        -------
        dict
            Parameter names to values.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> PanelTransformer:
        """Set parameters: own ones, ``name__param`` of a specialist, or ``name="drop"``.

        Parameters
        ----------
        **params : object
            New values.

        Returns
        -------
        self : PanelTransformer
        """
        self._set_params("estimators", **params)
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> PanelTransformer:
        """Fit the specialists on all samples.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input; each specialist sees its view of it.
        y : array-like of shape (sample,) or (sample, output)
            Truth.
        sample_weight : array-like of shape (sample,), optional
            Handed to the specialists.
        groups : array-like of shape (sample,), optional
            Handed to the splitter.

        Returns
        -------
        self : PanelTransformer

        Raises
        ------
        ValueError
            If ``y`` is missing, or a parameter does not fit.
        PanelError
            If every specialist failed, or classes do not fit.
        """
        self._fit_team(X, y, sample_weight, groups)
        self._team.oof_panel_ = None  # only fit_transform hands it out
        return self

    @fit_context(prefer_skip_nested_validation=False)
    def fit_transform(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Any:
        """Fit the specialists, and give their answers to samples that they were not fitted on.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input; each specialist sees its view of it.
        y : array-like of shape (sample,) or (sample, output)
            Truth.
        sample_weight : array-like of shape (sample,), optional
            Handed to the specialists.
        groups : array-like of shape (sample,), optional
            Handed to the splitter.

        Returns
        -------
        DataArray, dims (sample, specialist, output), or ndarray of shape (sample, column)
            Columns if ``flatten``. Samples that no fold leaves out are NaN.

        Raises
        ------
        ValueError
            If ``y`` is missing, or a parameter does not fit.
        PanelError
            If there is no out-of-fold panel, because a class is too rare or there are too few samples.
        """
        self._fit_team(X, y, sample_weight, groups)
        panel, self._team.oof_panel_ = self._team.oof_panel_, None
        if panel is None:
            raise PanelError(
                f"no out-of-fold panel: {self._team.fallback_}. Give more samples; fit(X, y).transform(X) gives answers "
                "to samples that the specialists have seen."
            )
        return self._laid_out(panel)

    def transform(self, X: Any) -> Any:
        """Give the answers of the specialists fitted on all samples.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.

        Returns
        -------
        DataArray, dims (sample, specialist, output), or ndarray of shape (sample, column)
            Columns if ``flatten``. NaN where a specialist is absent.
        """
        check_is_fitted(self, "_team")
        panel = self._team._heard(self._team._check_input(X, reset=False))[0]
        return self._laid_out(self._team._labelled(panel))

    @available_if(_is_flat)
    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Name the columns of the flat panel.

        Parameters
        ----------
        input_features : array-like of str, optional
            Checked against the names seen in fit.

        Returns
        -------
        ndarray of str objects
            ``{specialist}__{output}``.
        """
        check_is_fitted(self, "_team")
        check_feature_names_in(self, input_features, generate_names=False)
        return np.array(
            [f"{name}__{label}" for name in self._team._names for label in self._team._outputs], dtype=object
        )

    def _fit_team(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        params: dict[str, Any] = {
            key: getattr(self, key) for key in ("cv", "n_jobs", "predict_n_jobs", "random_state")
        }
        kind: Any = RobustFusionRegressor
        if not self._is_numeric():
            kind = RobustFusionClassifier
            params |= {"absent_class": self.absent_class, "extra_class": self.extra_class}
        team = kind(self.estimators, fusion="mean", **params).fit(
            X, y, sample_weight=sample_weight, groups=groups
        )
        self._team = team
        listed = [(name, dict(self.estimators)[name]) for name in team._names]
        self._told = {
            "cost": [float(m.cost) if isinstance(m, Specialist) else 1.0 for _, m in listed],
            "owner": [(m.owner if isinstance(m, Specialist) else None) or name for name, m in listed],
        }
        self.named_estimators_ = team.named_estimators_
        self.oof_coverage_ = team.oof_coverage_
        for key in ("classes_", "n_features_in_", "feature_names_in_"):
            if hasattr(team, key):
                setattr(self, key, getattr(team, key))
            elif hasattr(self, key):
                delattr(self, key)

    def _is_numeric(self) -> bool:
        members = [item[1] for item in self.estimators if not isinstance(item[1], str)]
        return bool(members) and is_regressor(members[0])

    def _laid_out(self, panel: Any) -> Any:
        if self.flatten:
            return panel.values.reshape(len(panel), -1)
        return panel.assign_coords({key: ("specialist", told) for key, told in self._told.items()})

    def _sk_visual_block_(self) -> Any:
        names, members = zip(*self.estimators, strict=True)
        return VisualBlock("parallel", members, names=names)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        try:
            inner = [get_tags(m) for _, m in self.estimators if not isinstance(m, str)]
        except Exception:  # estimators may be anything before fit validates them
            return tags
        tags.input_tags.allow_nan = all(t.input_tags.allow_nan for t in inner)
        tags.input_tags.sparse = all(t.input_tags.sparse for t in inner)
        return tags
