"""Any fusion as the last step of a pipeline: panels in, labels or numbers out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted

from estimators._compat import HasMethods, StrOptions, check_sample_weight, fit_context, validate_data
from estimators.answers import check_probabilities
from estimators.fusions import PanelFuser, fusion_name
from fusion import project_to_simplex
from theory import FaultWarning, PanelError


class _PanelFusion(BaseEstimator):
    """Read panels by name, find faults, learn and fuse."""

    _parameter_constraints: dict = {  # noqa: RUF012
        "fusion": [str, callable, HasMethods("fuse")],
        "short": [StrOptions({"raise", "relax", "prior"})],
    }
    _task: str

    def __init__(self, fusion: Any = "mean", *, short: str = "raise"):
        self.fusion = fusion
        self.short = short

    def _learn(self, panel: NDArray[np.float64], target: NDArray[Any], sample_weight: Any) -> None:
        self._fuser = PanelFuser(self.fusion, task=self._task, short=self.short)
        faults = self._faulty(panel)
        panel = np.where(faults[:, :, None], np.nan, panel)
        heard = ~np.isnan(panel).all(axis=(1, 2))
        if self._fuser.is_learned:
            if not heard.any():
                raise PanelError(
                    f"{fusion_name(self.fusion)} has no answers to learn from: all of them are NaN or faults."
                )
            weight = None if sample_weight is None else sample_weight[heard]
            self._fuser.fit(panel[heard], target[heard], sample_weight=weight)
        self.fusion_ = self._fuser.fusion
        self.weights_ = getattr(self.fusion_, "weights_", None)

    def _fuse(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "fusion_")
        panel = self._read(X, reset=False)
        faults = self._faulty(panel)
        panel = np.where(faults[:, :, None], np.nan, panel)
        fused = self._fuser.fuse(panel, faults=faults, names=self._names)
        nobody = np.isnan(fused).all(axis=1)
        if nobody.any():
            warnings.warn(
                f"{int(nobody.sum())} of {len(fused)} samples have no answer to fuse (first: sample "
                f"{int(nobody.argmax())}); they get the prior of the training set.",
                FaultWarning,
                stacklevel=3,
            )
            fused[nobody] = self._prior
        return fused

    def _read(self, X: Any, *, reset: bool) -> NDArray[np.float64]:
        """Give (sample, specialist, output); of a DataArray by name, in the order of fit."""
        names: list[Any] | None = None
        outputs: list[Any] | None = None
        if hasattr(X, "dims"):
            needed = {"sample", "specialist", "output"}
            if set(X.dims) != needed:
                raise PanelError(
                    f"panel needs the dims (sample, specialist, output); got {X.dims}. Rename them."
                )
            X = X.transpose("sample", "specialist", "output")
            names = X["specialist"].values.tolist() if "specialist" in X.coords else None
            outputs = X["output"].values.tolist() if "output" in X.coords else None
            values = np.asarray(X.values, dtype=np.float64)
        else:
            values = self._as_cube(X)
        if reset:
            for word, own in (("specialist", names), ("output", outputs)):
                twice = [one for one in own or () if own.count(one) > 1]
                if twice:
                    raise PanelError(
                        f"the {word} {twice[0]!r} occurs {len(twice)} times. Give each its own name."
                    )
            self._named, self._outputs = names, outputs
            self._names = tuple(map(str, range(values.shape[1]) if names is None else names))
            self.n_features_in_ = values.shape[1]
            return values
        for axis, seen, own, word in (
            (1, self._named, names, "specialist"),
            (2, self._outputs, outputs, "output"),
        ):
            if own is None or seen is None or list(seen) == own:
                continue
            if len(own) != len(seen) or set(own) != set(seen):
                raise PanelError(f"the panel has the {word}s {own}; fitted were {list(seen)}. Select those.")
            values = np.take(values, [own.index(one) for one in seen], axis=axis)
        if values.shape[1:] != (len(self._names), self._n_outputs):
            raise PanelError(
                f"panel must be (sample, {len(self._names)} specialists, {self._n_outputs} outputs) as in fit; got shape "
                f"{values.shape}."
            )
        return values

    def _as_cube(self, X: Any) -> NDArray[np.float64]:
        values = np.asarray(X, dtype=np.float64)
        if values.ndim != 3:
            raise PanelError(
                f"panel must be (sample, specialist, output); got shape {values.shape}. Transpose it or pass a DataArray."
            )
        return values

    def _faulty(self, panel: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say who gave what nobody may give; a row of nothing but NaN is an absence."""
        return ~np.isfinite(panel).all(axis=2) & ~np.isnan(panel).all(axis=2)


def _check_lengths(values: NDArray[Any], y: Any) -> None:
    if len(values) != len(y):
        raise PanelError(
            f"panel must be (sample, specialist, output); got shape {values.shape} for {len(y)} targets. Transpose it or "
            "pass a DataArray."
        )


class PanelFusionClassifier(ClassifierMixin, _PanelFusion):
    """Fuse panels of probabilities, as the last step behind a :class:`PanelTransformer` or alone.

    Parameters
    ----------
    fusion : str, fusion.Operator, learned fusion or callable
        As in :class:`RobustFusionClassifier`; learned fusions learn from the panel given to ``fit``.
    short : {"raise", "relax", "prior"}
        What to do with samples that have fewer specialists than the operator needs.

    Attributes
    ----------
    classes_ : ndarray of shape (output,)
        Labels, in the order of the panel's outputs.
    fusion_ : object
        The fusion in use.
    weights_ : ndarray of shape (specialist,), or None
        What a learned fusion weighs each specialist.

    Notes
    -----
    A row of NaN is an absence. Infinite or negative numbers, and sums that are off 1 by more than 1e-3, are
    faults: they are left out and spent from the budget of the rule. Outputs that a specialist cannot
    name may be NaN.

    References
    ----------
    .. [1] Wolpert, Stacked generalization, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> panel = np.array([[[0.9, 0.1], [0.8, 0.2], [0.0, 1.0]]])
    >>> PanelFusionClassifier("median").fit(np.repeat(panel, 2, axis=0), ["a", "b"]).predict(panel).tolist()
    ['a']
    """

    _task = "classification"

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PanelFusionClassifier:
        """Learn what the fusion learns from a panel of unseen samples and their truth.

        Parameters
        ----------
        X : DataArray or array-like of shape (sample, specialist, output)
            The panel.
        y : array-like of shape (sample,)
            Class labels. Of an array without named outputs, sorted labels are its outputs.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : PanelFusionClassifier

        Raises
        ------
        PanelError
            If shapes or labels do not fit.
        """
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        panel = self._read(X, reset=True)
        _check_lengths(panel, y)
        present = np.unique(y)
        self.classes_ = present if self._outputs is None else np.asarray(self._outputs)
        if len(self.classes_) != panel.shape[2]:
            raise PanelError(
                f"the panel has {panel.shape[2]} outputs and y {len(present)} classes {present.tolist()[:10]}. Pass a "
                "DataArray whose coordinate 'output' holds the labels."
            )
        place = {label: k for k, label in enumerate(self.classes_.tolist())}
        stray = [label for label in present.tolist() if label not in place]
        if stray:
            raise PanelError(
                f"y holds {stray}, which no output of the panel is named; there are {list(place)}."
            )
        self._n_outputs = panel.shape[2]
        codes = np.array([place[label] for label in y.tolist()], dtype=np.intp)
        weight = (
            None
            if sample_weight is None
            else check_sample_weight(sample_weight, panel.reshape(len(panel), -1))
        )
        mass = np.bincount(codes, weights=weight, minlength=self._n_outputs).astype(np.float64)
        self._prior = mass / mass.sum()
        self._learn(panel, codes, weight)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Give fused probabilities.

        Parameters
        ----------
        X : DataArray or array-like of shape (sample, specialist, output)
            The panel; of a DataArray, specialists and outputs are found by name.

        Returns
        -------
        ndarray of shape (sample, output)
            In the order of ``classes_``; rows sum to 1.
        """
        fused = np.nan_to_num(self._fuse(X))
        if not self._fuser.convex:
            fused = np.asarray(project_to_simplex(fused))
        mass = fused.sum(axis=1, keepdims=True)
        return np.where(mass > 0, fused / np.where(mass > 0, mass, 1.0), self._prior)

    def predict(self, X: Any) -> NDArray[Any]:
        """Give the class of the highest fused probability.

        Parameters
        ----------
        X : DataArray or array-like of shape (sample, specialist, output)
            The panel.

        Returns
        -------
        ndarray of shape (sample,)
            Labels of ``classes_``; ties go to the first.
        """
        check_is_fitted(self, "fusion_")
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _faulty(self, panel: NDArray[np.float64]) -> NDArray[np.bool_]:
        infinite = np.isinf(panel).any(axis=2)
        known = np.where(np.isfinite(panel), panel, 0.0)
        return (infinite | ~check_probabilities(known)) & ~np.isnan(panel).all(axis=2)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.input_tags.allow_nan = True
        return tags


class PanelFusionRegressor(RegressorMixin, _PanelFusion):
    """Fuse panels of numbers, as the last step behind a :class:`PanelTransformer` or alone.

    Parameters
    ----------
    fusion : str, fusion.Operator, learned fusion or callable
        As in :class:`RobustFusionRegressor`; learned fusions learn from the panel given to ``fit``.
    short : {"raise", "relax", "prior"}
        What to do with samples that have fewer specialists than the operator needs.

    Attributes
    ----------
    fusion_ : object
        The fusion in use.
    weights_ : ndarray of shape (specialist,), or None
        What a learned fusion weighs each specialist.

    Notes
    -----
    A row of NaN is an absence; other rows that are not finite are faults, spent from the budget of the rule.

    References
    ----------
    .. [1] Bates & Granger, The combination of forecasts, 1969.

    Examples
    --------
    >>> import numpy as np
    >>> said = np.array([[1.0, 1.2, 50.0], [2.0, 1.8, -9.0]])
    >>> PanelFusionRegressor("median").fit(said, [1.0, 2.0]).predict(said).tolist()
    [1.2, 1.8]
    """

    _task = "regression"

    @fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> PanelFusionRegressor:
        """Learn what the fusion learns from a panel of unseen samples and their truth.

        Parameters
        ----------
        X : DataArray or array-like of shape (sample, specialist, output) or (sample, specialist)
            The panel; two axes are one number for each specialist.
        y : array-like of shape (sample,) or (sample, output)
            Numbers.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : PanelFusionRegressor

        Raises
        ------
        ValueError
            If ``y`` is missing or not finite.
        PanelError
            If shapes do not fit.
        """
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None."
            )
        panel = self._read(self._checked(X, reset=True), reset=True)
        y = check_array(y, ensure_2d=False, dtype="numeric", input_name="y")
        if y.ndim == 2 and (y.shape[1] == 1 or panel.shape[2] == 1):
            y = column_or_1d(y, warn=True)
        _check_lengths(panel, y)
        self._flat = y.ndim == 1
        target = y.reshape(len(y), -1).astype(np.float64)
        if target.shape[1] != panel.shape[2]:
            raise PanelError(f"the panel has {panel.shape[2]} outputs, y has {target.shape[1]}.")
        self._n_outputs = panel.shape[2]
        weight = (
            None
            if sample_weight is None
            else check_sample_weight(sample_weight, panel.reshape(len(panel), -1))
        )
        self._prior = np.average(target, axis=0, weights=weight)
        self._learn(panel, target, weight)
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Give fused numbers.

        Parameters
        ----------
        X : DataArray or array-like of shape (sample, specialist, output) or (sample, specialist)
            The panel; of a DataArray, specialists and outputs are found by name.

        Returns
        -------
        ndarray of shape (sample,) or (sample, output)
            As ``y`` was.
        """
        check_is_fitted(self, "fusion_")
        fused = self._fuse(self._checked(X, reset=False))
        return fused[:, 0] if self._flat else fused

    def _checked(self, X: Any, *, reset: bool) -> Any:
        if hasattr(X, "dims") or getattr(X, "ndim", 2) == 3:
            return X
        table = validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite=False)
        return table[:, :, None]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        tags.regressor_tags.poor_score = True  # the mean of columns that are no specialists predicts nothing
        return tags
