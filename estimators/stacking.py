"""An arbiter: a model that learns on the panel whom to believe."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold
from sklearn.utils.validation import check_is_fitted

from estimators.calibration import TemperatureScaling
from estimators.training import first_choices, read_training
from theory import PanelError

_FLOOR = 1e-6
_BLOCK = 60_000  # answers read at a time by a linear arbiter
_NEVER = -1e9  # score of an option that does not exist: no temperature brings it back


class Arbiter(BaseEstimator):
    """Stack the panel: learn from unseen rows how far to believe each specialist.

    Parameters
    ----------
    final_estimator : estimator, optional
        Classifier (with ``predict_proba`` or ``decision_function``) or regressor fitted on the
        panel. Defaults: logistic regression with C = 0.3, or ridge regression with its strength
        chosen by leave-one-out.
    features : {"auto", "log_odds", "proba", "vote"}
        What it sees of an answer: centred log-odds clipped at 1e-6, the probabilities, or which
        output came first. ``"auto"``: votes if every answer is one-hot, else log-odds.
    per : {"auto", "option", "class"}
        ``"option"``: one row per sample and option, target "is it right", one weight per specialist
        shared by all options; right where codes carry no meaning across samples, and where samples
        are few. ``"class"``: one row per sample, all outputs of all specialists as columns.
        ``"auto"`` takes options.
    cv : int
        Folds for the inverse temperature that turns option scores into probabilities.

    Attributes
    ----------
    final_estimator_ : estimator
        Fitted.
    weights_ : ndarray of shape (specialist,), or None
        Weight per specialist, where options share a linear model.
    inverse_temperature_ : float
        Of the softmax over options.

    Notes
    -----
    An output that a specialist cannot name (NaN beside answers) leaves its column at zero. Without
    folds (``cv=1``, or two samples) the inverse temperature stays 1.

    References
    ----------
    .. [1] Wolpert, Stacked generalization, 1992.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=300)
    >>> said = np.where(rng.random((300, 2)) < [0.9, 0.4], y[:, None], rng.integers(3, size=(300, 2)))
    >>> arbiter = Arbiter().fit(np.eye(3)[said], y)
    >>> bool(arbiter.weights_[0] > arbiter.weights_[1])
    True
    """

    def __init__(
        self, final_estimator: Any = None, *, features: str = "auto", per: str = "auto", cv: int = 3
    ):
        self.final_estimator = final_estimator
        self.features = features
        self.per = per
        self.cv = cv

    def fit(
        self,
        panel: Any,
        y: Any,
        *,
        task: str = "classification",
        n_options: Any = None,
        sample_weight: Any = None,
    ) -> Arbiter:
        """Fit the final estimator on the panel.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            Answers to samples that the specialists were not fitted on: probabilities, one-hot votes
            or numbers; NaN where a specialist was absent.
        y : array-like
            Codes of the right outputs, or numbers.
        task : {"classification", "regression"}
            What ``y`` is.
        n_options : int or array-like of int, shape (sample,), optional
            How many outputs each sample really has; the others cannot be right.
        sample_weight : array-like of shape (sample,), optional
            Weights of the samples.

        Returns
        -------
        self : Arbiter

        Raises
        ------
        PanelError
            On unknown parameters, a panel and truths that do not fit, or nothing to choose between.
        TypeError
            If there are weights, and the final estimator takes none.
        """
        values, target, sample_weight = read_training(panel, y, task, sample_weight)
        if self.features not in ("auto", "log_odds", "proba", "vote"):
            raise PanelError(
                f"features must be 'auto', 'log_odds', 'proba' or 'vote'; got {self.features!r}."
            )
        if self.per not in ("auto", "option", "class"):
            raise PanelError(f"per must be 'auto', 'option' or 'class'; got {self.per!r}.")
        self.task_ = task
        self.n_specialists_, self.n_outputs_ = values.shape[1:]
        self.weights_ = None
        if task == "regression":
            self._fit_numbers(values, target, sample_weight)
            return self
        self.features_ = self.features
        if self.features == "auto":
            self.features_ = "vote" if _one_hot(values) else "log_odds"
        self.per_ = "option" if self.per == "auto" else self.per
        codes, valid = np.asarray(y), _valid(n_options, values)
        if not valid[np.arange(len(codes)), codes].all():
            raise PanelError(
                "y holds codes at or above n_options. Count a 'none of these' option where the truth may lie "
                "outside the options."
            )
        cells = self._cells(values, valid)
        if len(np.unique(codes)) < 2 if self.per_ == "class" else valid.sum() < len(codes) + 1:
            raise PanelError(
                "an arbiter needs at least two options to choose between; the truth is always one."
            )
        if self.per_ == "class":
            table, self._fill = _filled(cells.reshape(len(values), -1), None, sample_weight)
            model = clone(self._default(LogisticRegression(max_iter=1000)))
            self.final_estimator_ = _fit(model, table, codes, sample_weight)
            self.inverse_temperature_ = 1.0
            return self
        model = self._default(LogisticRegression(C=0.3, max_iter=1000))
        scores = np.full(valid.shape, -np.inf)
        folds = min(self.cv, len(values))
        if folds > 1:
            for train, test in KFold(folds, shuffle=True, random_state=0).split(values):
                fitted = self._fit_options(model, cells, valid, codes, train, sample_weight)
                scores[test] = self._scores(fitted, cells[test], valid[test])
        self.final_estimator_ = self._fit_options(
            model, cells, valid, codes, np.arange(len(values)), sample_weight
        )
        self.inverse_temperature_ = 1.0
        if folds > 1:
            scaling = TemperatureScaling(from_logits=True).fit(
                np.where(valid, scores, _NEVER), codes, sample_weight
            )
            self.inverse_temperature_ = scaling.inverse_temperature_
        coefficients = getattr(self.final_estimator_, "coef_", None)
        if coefficients is not None and np.size(coefficients) == values.shape[1] + 1:
            self.weights_ = np.ravel(coefficients)[: values.shape[1]]
        return self

    def fuse(self, panel: Any, *, n_options: Any = None) -> NDArray[np.float64]:
        """Fuse a panel.

        Parameters
        ----------
        panel : array-like of shape (sample, specialist, output)
            NaN where a specialist is absent.
        n_options : int or array-like of int, shape (sample,), optional
            As in ``fit``.

        Returns
        -------
        ndarray of shape (sample, output)
            Probabilities, or numbers.

        Raises
        ------
        PanelError
            If specialists or outputs are not those of ``fit``, or an answer is infinite.
        """
        check_is_fitted(self, "task_")
        values = np.asarray(panel, dtype=np.float64)
        fixed = self.task_ == "regression" or self.per_ == "class"  # options may be more or fewer than in fit
        known = (self.n_specialists_, self.n_outputs_)
        if values.ndim != 3 or values.shape[1] != known[0] or (fixed and values.shape[2] != known[1]):
            raise PanelError(f"panel needs {known} (specialist, output) as in fit; got shape {values.shape}.")
        if np.isinf(values).any():
            raise PanelError("the panel holds infinite answers; only NaN can stand for an abstention.")
        if self.task_ == "regression":
            table, _ = _filled(values.reshape(len(values), -1), self._fill)
            return np.asarray(self.final_estimator_.predict(table), dtype=np.float64).reshape(len(values), -1)
        valid = _valid(n_options, values)
        fused = np.empty(valid.shape)
        # a block's temporaries stay in the cache, and there is no second panel in memory
        step = max(1, _BLOCK // max(values[:1].size, 1))
        if not hasattr(self.final_estimator_, "coef_"):
            step = max(1, len(values))  # a forest would start its workers for every block
        for rows in (slice(start, start + step) for start in range(0, len(values), step)):
            fused[rows] = self._proba(values[rows], valid[rows])
        return fused

    def _proba(self, values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        cells = self._cells(values, valid)
        if self.per_ == "class":
            table, _ = _filled(cells.reshape(len(values), -1), self._fill)
            proba = np.zeros(valid.shape)
            proba[:, self.final_estimator_.classes_] = self.final_estimator_.predict_proba(table)
            proba[~valid] = 0.0
            mass = proba.sum(axis=1, keepdims=True)
            even = valid / valid.sum(axis=1, keepdims=True)
            return np.where(mass > 0, proba / np.where(mass > 0, mass, 1.0), even)
        scores = self._scores(self.final_estimator_, cells, valid) * self.inverse_temperature_
        scaled = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(scaled / scaled.sum(axis=1, keepdims=True))

    def _default(self, model: Any) -> Any:
        return model if self.final_estimator is None else self.final_estimator

    def _fit_numbers(
        self, values: NDArray[np.float64], target: NDArray[np.float64], sample_weight: Any
    ) -> None:
        table, self._fill = _filled(values.reshape(len(values), -1), None, sample_weight)
        model = clone(self._default(RidgeCV(alphas=np.logspace(-3, 3, 13) * max(float(table.var()), 1e-12))))
        self.final_estimator_ = _fit(
            model, table, target[:, 0] if target.shape[1] == 1 else target, sample_weight
        )
        coefficients = np.ravel(getattr(self.final_estimator_, "coef_", ()))
        if values.shape[2] == 1 and len(coefficients) >= values.shape[1]:
            self.weights_ = coefficients[: values.shape[1]]

    def _cells(self, values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Per (sample, specialist, output) what the model sees; NaN where a specialist is absent."""
        if self.features_ == "log_odds" and valid.all() and not np.isnan(values.sum()):
            logs = np.clip(values, _FLOOR, 1.0)
            np.log(logs, out=logs)
            logs -= (logs @ np.full(logs.shape[2], 1.0 / logs.shape[2]))[:, :, None]
            return logs
        gaps = np.isnan(values)
        gone = gaps.all(axis=2)
        if self.features_ == "vote":
            cells = (first_choices(values)[:, :, None] == np.arange(values.shape[2])).astype(np.float64)
        elif self.features_ == "proba":
            cells = np.where(gaps, 0.0, values)
        else:
            named = ~gaps & valid[:, None, :]
            logs = np.where(named, np.log(np.clip(values, _FLOOR, 1.0)), 0.0)
            centre = logs.sum(axis=2) / np.maximum(named.sum(axis=2), 1)
            cells = np.where(named, logs - centre[:, :, None], 0.0)
        cells[gone] = np.nan
        return cells

    def _fit_options(
        self,
        model: Any,
        cells: NDArray[np.float64],
        valid: NDArray[np.bool_],
        codes: NDArray[Any],
        rows: NDArray[Any],
        sample_weight: Any,
    ) -> Any:
        sample, option = np.nonzero(valid[rows])
        table = _option_rows(cells[rows], sample, option)
        hit = codes[rows][sample] == option
        weight = None if sample_weight is None else np.asarray(sample_weight)[rows][sample]
        return _fit(clone(model), table, hit, weight)

    def _scores(
        self, model: Any, cells: NDArray[np.float64], valid: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        coefficients = np.ravel(getattr(model, "coef_", ()))
        if len(coefficients) == cells.shape[1] + 1 and hasattr(model, "intercept_") and valid.all():
            # the same sums without a row per option: several times as fast
            known = np.nan_to_num(cells) if np.isnan(cells.sum()) else cells
            told = known[:, 0] > 0
            for i in range(1, known.shape[1]):  # a maximum along a short axis takes three times as long
                told |= known[:, i] > 0
            linear = np.matmul(coefficients[:-1], known)
            linear += np.ravel(model.intercept_)[0]
            linear += coefficients[-1] * ~told
            return np.asarray(linear)
        sample, option = np.nonzero(valid)
        table = _option_rows(cells, sample, option)
        scores = np.full(valid.shape, -np.inf)
        if hasattr(model, "decision_function"):
            scores[sample, option] = model.decision_function(table)
        else:
            right = np.clip(model.predict_proba(table)[:, 1], _FLOOR, 1.0 - _FLOOR)
            scores[sample, option] = np.log(right / (1.0 - right))
        return scores


def _option_rows(
    cells: NDArray[np.float64], sample: NDArray[Any], option: NDArray[Any]
) -> NDArray[np.float64]:
    picked = cells[sample, :, option]
    lonely = ~(picked > 0).any(axis=1)  # nobody leans to this option
    return np.column_stack([np.nan_to_num(picked), lonely])


def _one_hot(values: NDArray[np.float64]) -> bool:
    """Tell votes from probabilities."""
    known = np.where(np.isnan(values), 0.0, values)
    first = known.max(axis=2)[~np.isnan(values).all(axis=2)]
    return bool((known >= 0).all() and (first == 1.0).all() and np.isin(known.sum(axis=2), (0.0, 1.0)).all())


def _valid(n_options: Any, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    shape = (len(values), values.shape[2])
    if n_options is None:
        return np.ones(shape, dtype=bool)
    counts = np.asarray(n_options)
    fits = counts.dtype.kind in "iu" and counts.shape in ((), (len(values),))
    if not fits or counts.min(initial=1) < 1 or counts.max(initial=1) > values.shape[2]:
        raise PanelError(
            f"n_options must be whole numbers between 1 and the panel's {values.shape[2]} outputs, one for all "
            f"samples or one for each; got {counts.dtype} of shape {counts.shape}."
        )
    counts = np.broadcast_to(counts, (len(values),))
    return np.asarray(np.arange(values.shape[2]) < counts[:, None])


def _filled(
    table: NDArray[np.float64], fill: Any, sample_weight: Any = None
) -> tuple[NDArray[np.float64], Any]:
    """Put column means where a specialist was absent, and say so in columns of their own."""
    gone = np.isnan(table)
    if fill is None:
        mass = np.ones(len(table)) if sample_weight is None else sample_weight
        heard = mass @ ~gone
        means = mass @ np.where(gone, 0.0, table) / np.where(heard > 0, heard, 1.0)
        fill = (means, gone[mass > 0].any(axis=0))
    means, flagged = fill
    return np.column_stack([np.where(gone, means, table), gone[:, flagged]]), fill


def _fit(model: Any, table: NDArray[np.float64], target: NDArray[Any], sample_weight: Any) -> Any:
    if sample_weight is None:
        return model.fit(table, target)
    taken = signature(model.fit).parameters.values()
    if not any(one.name == "sample_weight" or one.kind is Parameter.VAR_KEYWORD for one in taken):
        raise TypeError(
            f"final_estimator {type(model).__name__} does not accept sample_weight. Fit without it, or use another model."
        )
    return model.fit(table, target, sample_weight=sample_weight)
