"""Critics and the judge: what each learns from sealed proposals, and what it looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OrdinalEncoder
from sklearn.utils.validation import has_fit_parameter

from estimators.views import Views, select_view
from fusion.deliberative.critics import option_features, specialist_features
from theory import PanelError

_FLOOR = 1e-6


class Critic(BaseEstimator):
    """A critic with a view of its own: it judges options, or the specialists who propose them.

    Parameters
    ----------
    estimator : classifier, optional
        What learns. Default: gradient boosting with 120 iterations, rate .07 and 15 leaves.
    view : None, str, list, slice, tuple or callable
        What it sees beside the proposals, as in :class:`Specialist`; ``slice(None)`` is everything, all views
        included, and None the votes only, which gains nothing over stacking.
    about : {"option", "specialist"}
        Whether it says how probable each option is, or each specialist's being right.
    allow_same_view : bool
        Whether it may have the estimator class and the view of a specialist that it criticises.

    Attributes
    ----------
    estimator_ : classifier
        Fitted, or None where every row had the same target.
    accuracy_ : ndarray of shape (specialist,)
        Accuracy of the specialists on the rows of ``fit``.

    Notes
    -----
    Texts and categories in the view become codes; categories not seen in ``fit`` become -1. A critic is fitted
    by the estimator that it is handed to, on samples whose proposals the specialists were not fitted on.

    References
    ----------
    .. [1] Nitzan & Paroush, Optimal decision rules in uncertain dichotomous choice situations, 1982.

    Examples
    --------
    >>> Critic(view=["subject"]).about
    'option'
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        view: Any = None,
        about: str = "option",
        allow_same_view: bool = False,
    ):
        self.estimator = estimator
        self.view = view
        self.about = about
        self.allow_same_view = allow_same_view

    def check(self, name: str, team: list[tuple[str, Any]]) -> None:
        """Refuse unknown options, and a critic that can know nothing its target does not.

        Parameters
        ----------
        name : str
            The critic's name.
        team : list of (str, Specialist)
            Whom it criticises.

        Raises
        ------
        PanelError
            If ``about`` is unknown, or estimator class and view are those of a specialist.
        """
        if self.about not in ("option", "specialist"):
            raise PanelError(f"critic {name!r}: about must be 'option' or 'specialist'; got {self.about!r}.")
        if self.allow_same_view or self.estimator is None or self.view is None:
            return
        for target, member in team:
            model, view = getattr(member, "model", member), getattr(member, "view", None)
            everything = slice(None) if view is None else view  # to a critic, no view is the votes alone
            if type(model) is type(self.estimator) and repr(everything) == repr(self.view):
                raise PanelError(
                    f"critic {name!r} has the estimator class and the view of specialist {target!r}: it would repeat "
                    "its errors. Give it another view, or set allow_same_view=True."
                )

    def look(self, X: Any, *, reset: bool) -> NDArray[np.float64] | None:
        """Give the critic's view of some samples as numbers.

        Parameters
        ----------
        X : array-like, DataFrame or Views
            Samples.
        reset : bool
            Whether to learn the categories.

        Returns
        -------
        ndarray of shape (sample, feature), or None
            None without a view; NaN where the view is missing.

        Raises
        ------
        PanelError
            If the view holds what is no number and no category.
        """
        if self.view is None:
            return None
        if isinstance(X, Views) and isinstance(self.view, slice) and self.view == slice(None):
            if reset:
                self._lookers = {name: Critic(view=name) for name in X}
            return np.column_stack([own.look(X, reset=reset) for own in self._lookers.values()])
        part, present = select_view(X, self.view)
        part = part.toarray() if hasattr(part, "toarray") else part
        columns = (
            [part.iloc[:, j].to_numpy() for j in range(part.shape[1])] if hasattr(part, "iloc") else None
        )
        if columns is None:
            table = np.asarray(part)
            columns = list((table[:, None] if table.ndim == 1 else table).T)
        worded = [j for j, column in enumerate(columns) if np.asarray(column).dtype.kind not in "iubf"]
        out = np.full((len(columns[0]), len(columns)), np.nan)
        for j in set(range(len(columns))) - set(worded):
            out[:, j] = columns[j]
        if worded:
            words = np.column_stack([np.asarray(columns[j], dtype=object) for j in worded])
            if reset:
                self._encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(
                    words
                )
            out[:, worded] = self._encoder.transform(words)
        if present is not None:
            out[~np.asarray(present)] = np.nan
        return out

    def fit(
        self,
        panel: NDArray[np.float64],
        y: NDArray[Any],
        *,
        accuracy: NDArray[np.float64],
        valid: Any = None,
        view: Any = None,
        sample_weight: Any = None,
        seed: int = 0,
    ) -> Critic:
        """Learn from sealed proposals.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Proposals, NaN rows for abstentions.
        y : ndarray of int, shape (sample,)
            Codes of the right options.
        accuracy : ndarray of shape (specialist,)
            Accuracy of each specialist on these rows.
        valid : ndarray of bool, shape (sample, output), optional
            Which options exist.
        view : ndarray of shape (sample, feature), optional
            As `look` gave it.
        sample_weight : ndarray of shape (sample,), optional
            Weights of the samples.
        seed : int
            For an estimator whose ``random_state`` is None.

        Returns
        -------
        self : Critic
        """
        self.accuracy_ = accuracy
        rows, sample, which = self._rows(panel, valid, view)
        named = which if self.about == "option" else panel[sample, which].argmax(axis=1)
        hit = y[sample] == named
        self.estimator_ = None
        if len(np.unique(hit)) == 2:
            default = HistGradientBoostingClassifier(
                max_iter=120, learning_rate=0.07, max_leaf_nodes=15, early_stopping=False
            )
            weight = None if sample_weight is None else sample_weight[sample]
            self.estimator_ = fit_weighted(self.estimator, default, rows, hit, weight, seed)
        return self

    def scores(
        self, panel: NDArray[np.float64], *, valid: Any = None, view: Any = None
    ) -> NDArray[np.float64]:
        """Score options.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Proposals.
        valid : ndarray of bool, shape (sample, output), optional
            Which options exist.
        view : ndarray of shape (sample, feature), optional
            As `look` gave it.

        Returns
        -------
        ndarray of shape (sample, output)
            Log-odds of each option to be right. Of a critic about specialists: the sum of log(q (K - 1)/(1 - q))
            of those who propose it, q being their probability of being right.
        """
        n, _, k = panel.shape
        out = np.zeros((n, k))
        rows, sample, which = self._rows(panel, valid, view)
        if self.estimator_ is None or not len(rows):
            return out
        logit = log_ratio(self.estimator_.predict_proba(rows)[:, 1])
        if self.about == "option":
            out[sample, which] = logit
            return out
        others = (np.full(n, k) if valid is None else valid.sum(axis=1)) - 1
        logit = logit + np.log(np.maximum(others[sample], 1))
        np.add.at(out, (sample, panel[sample, which].argmax(axis=1)), logit)
        return out

    def right(
        self, panel: NDArray[np.float64], *, valid: Any = None, view: Any = None
    ) -> NDArray[np.float64]:
        """Give the probability that each specialist is right.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Proposals.
        valid : ndarray of bool, shape (sample, output), optional
            Which options exist.
        view : ndarray of shape (sample, feature), optional
            As `look` gave it.

        Returns
        -------
        ndarray of shape (sample, specialist)
            0 for those who abstain.
        """
        out = np.zeros(panel.shape[:2])
        rows, sample, which = self._rows(panel, valid, view)
        if self.estimator_ is None:
            return out
        q = self.estimator_.predict_proba(rows)[:, 1]
        if self.about == "specialist":
            out[sample, which] = q
            return out
        table = np.zeros((len(panel), panel.shape[2]))
        table[sample, which] = q
        table /= np.maximum(table.sum(axis=1, keepdims=True), _FLOOR)
        spoke = ~np.isnan(panel).any(axis=2)
        first = np.nan_to_num(panel).argmax(axis=2)
        return np.where(spoke, np.take_along_axis(table, first, axis=1), 0.0)

    def _rows(self, panel: Any, valid: Any, view: Any) -> tuple[Any, Any, Any]:
        build = option_features if self.about == "option" else specialist_features
        return build(panel, accuracy=self.accuracy_, valid=valid, view=view)


class Adjudicator(BaseEstimator):
    """The judge: it never proposes, reads sealed proposals and critics, and scores every option that exists.

    Parameters
    ----------
    estimator : classifier, optional
        Learns from a row per sample and option. Default: logistic regression with C = .3.
    calibration : {"temperature", None}
        Whether the scores are scaled by a temperature, fitted on rows that the judge was not fitted on.
    max_weight : float, optional
        Caps the weights of a linear judge on specialists at this multiple of their median (1.5 is robust to
        one liar and costs some accuracy); they are then not negative.

    Notes
    -----
    The columns are each specialist's centred log-odds, whether nobody leans to the option, and each critic's
    log-odds.

    Examples
    --------
    >>> Adjudicator().calibration
    'temperature'
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        calibration: str | None = "temperature",
        max_weight: float | None = None,
    ):
        self.estimator = estimator
        self.calibration = calibration
        self.max_weight = max_weight

    def check(self) -> None:
        """Refuse unknown options.

        Raises
        ------
        PanelError
            If a parameter is out of range.
        """
        if self.calibration not in ("temperature", None):
            raise PanelError(f"calibration must be 'temperature' or None; got {self.calibration!r}.")
        if self.max_weight is not None and not self.max_weight >= 1.0:
            raise PanelError(f"max_weight is a multiple >= 1 of the median weight; got {self.max_weight!r}.")

    def fit(
        self,
        odds: NDArray[np.float64],
        columns: NDArray[np.float64],
        y: NDArray[Any],
        *,
        valid: NDArray[np.bool_],
        sample_weight: Any = None,
        seed: int = 0,
    ) -> Adjudicator:
        """Learn which options are right.

        Parameters
        ----------
        odds : ndarray of shape (sample, specialist, output)
            Centred log-odds of the sealed proposals, 0 where a specialist abstains.
        columns : ndarray of shape (sample, output, critic)
            Critics' scores of samples that they were not fitted on.
        y : ndarray of int, shape (sample,)
            Codes of the right options.
        valid : ndarray of bool, shape (sample, output)
            Which options exist.
        sample_weight : ndarray of shape (sample,), optional
            Weights of the samples.
        seed : int
            For an estimator whose ``random_state`` is None.

        Returns
        -------
        self : Adjudicator

        Raises
        ------
        PanelError
            If ``max_weight`` is given to a judge that is not linear.
        """
        sample, option = np.nonzero(valid)
        weight = None if sample_weight is None else sample_weight[sample]
        default = LogisticRegression(C=0.3, max_iter=1000)
        table = _judge_rows(odds, columns, sample, option)
        self.estimator_ = fit_weighted(self.estimator, default, table, y[sample] == option, weight, seed)
        self.n_specialists_ = odds.shape[1]
        self.weights_ = None
        coefficients = getattr(self.estimator_, "coef_", None)
        if coefficients is not None and np.size(coefficients) == table.shape[1]:
            if self.max_weight is not None:
                own = np.maximum(np.ravel(coefficients)[: self.n_specialists_], 0.0)
                cap = self.max_weight * float(np.median(own))
                self.estimator_.coef_[0, : self.n_specialists_] = np.minimum(own, cap)
            self.weights_ = np.ravel(self.estimator_.coef_)[: self.n_specialists_].copy()
        elif self.max_weight is not None:
            raise PanelError("max_weight caps the weights of a linear judge; this estimator has no coef_.")
        return self

    def scores(
        self, odds: NDArray[np.float64], columns: NDArray[np.float64], *, valid: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Score options.

        Parameters
        ----------
        odds : ndarray of shape (sample, specialist, output)
            As in ``fit``.
        columns : ndarray of shape (sample, output, critic)
            As in ``fit``.
        valid : ndarray of bool, shape (sample, output)
            Which options exist.

        Returns
        -------
        ndarray of shape (sample, output)
            Log-odds; 0 at options that do not exist.
        """
        sample, option = np.nonzero(valid)
        out = np.zeros(valid.shape)
        if not len(sample):
            return out
        table = _judge_rows(odds, columns, sample, option)
        if hasattr(self.estimator_, "decision_function"):
            out[sample, option] = self.estimator_.decision_function(table)
        else:
            out[sample, option] = log_ratio(self.estimator_.predict_proba(table)[:, 1])
        return out


def log_ratio(probability: NDArray[Any]) -> NDArray[np.float64]:
    """Give log(p / (1 - p)) of probabilities floored at 1e-6.

    Parameters
    ----------
    probability : ndarray
        Probabilities.

    Returns
    -------
    ndarray
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), _FLOOR, 1.0 - _FLOOR)
    return np.asarray(np.log(p / (1.0 - p)))


def fit_weighted(model: Any, default: Any, table: Any, target: Any, weight: Any, seed: int) -> Any:
    """Fit a clone of a model, seeded where it has no seed, with weights where it takes them.

    Parameters
    ----------
    model : estimator or None
        None takes the default.
    default : estimator
        Stands in for None.
    table, target : ndarray
        Rows and what they are.
    weight : ndarray or None
        Weights of the rows.
    seed : int
        For a ``random_state`` that is None.

    Returns
    -------
    estimator
        Fitted.

    Raises
    ------
    PanelError
        If weights are given that the model cannot take.
    """
    fresh = clone(default if model is None else model)
    if fresh.get_params().get("random_state", 0) is None:
        fresh.set_params(random_state=seed)
    if weight is None:
        return fresh.fit(table, target)
    if not has_fit_parameter(fresh, "sample_weight"):
        raise PanelError(
            f"{type(fresh).__name__} takes no sample_weight. Use another estimator, or no weights."
        )
    return fresh.fit(table, target, sample_weight=weight)


def _judge_rows(odds: Any, columns: Any, sample: Any, option: Any) -> NDArray[np.float64]:
    own = odds[sample, :, option]
    lonely = ~(own > 0.0).any(axis=1)
    return np.column_stack([own, lonely, columns[sample, option]])
