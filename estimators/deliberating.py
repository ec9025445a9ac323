"""What the deliberating classifier and regressor share: stages, budgets, courses and decisions."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from estimators.deliberation_run import Course, check_first_stage, check_limits, open_record, run_course
from fusion.deliberative.decision import Decision


class Deliberating:
    """A team under the name ``specialists``, asked in stages and judged."""

    fusion = "mean"  # what carries the evidence of the base class; the judge decides
    short = "raise"
    defer = track_record = None

    @property
    def estimators(self) -> Any:
        """The team under the name that the base class uses."""
        return self.specialists

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters, those of the specialists included.

        Parameters
        ----------
        deep : bool
            Whether to include the parameters of specialists, judge and escalation.

        Returns
        -------
        dict
            Parameter names to values.
        """
        return self._get_params("specialists", deep=deep)

    def set_params(self, **params: Any) -> Any:
        """Set parameters: own ones, ``name__param`` of a specialist, or ``name="drop"``.

        Parameters
        ----------
        **params : object
            New values.

        Returns
        -------
        self : object
        """
        self._set_params("specialists", **params)
        return self

    def decide(self, X: Any, *, error: float = 1.0, defer: float = np.inf) -> Decision:
        """Accept, escalate or defer each sample: the least expected cost.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        error, defer : float
            Cost of a wrong answer (of a squared error of 1), and of handing a sample over.

        Returns
        -------
        fusion.deliberative.Decision
            Samples in which everybody abstained are deferred, whatever it costs. "escalate" is what a budget
            left undone.
        """
        return self._decision(self._course(X), error, defer)

    def _decision(self, course: Course, error: float, defer: float) -> Decision:
        made = self._cheapest(course, error, defer)
        action, cost = made.action.astype("<U8"), made.cost.copy()
        action[course.cut_short] = "escalate"
        action[course.silent] = "defer"
        cost[course.silent] = defer
        stage = course.stage + (action == "escalate")
        return Decision(action, made.proba, cost, stage, course.records)

    def _course(self, X: Any) -> Course:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        return run_course(self, X, self._valid(X, X.shape[0]))

    def _recorded(self, X: Any, path: Any, nonces: Any) -> tuple[Course, Any]:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        valid = self._valid(X, X.shape[0])
        check_first_stage(self, X.shape[0])  # a file is begun by a run only, so that its path stays free
        log = open_record(self, X.shape[0], path, nonces)
        with contextlib.closing(log):
            return run_course(self, X, valid, log), log

    def _check_limits(self) -> None:
        """Refuse limits and stages that do not hold, before anybody is fitted."""
        check_limits(self.budget)
        if self.escalation is not None:
            self.escalation.check([name for name, _ in self._listed()])
            self.escalation.prices()

    def _convene(self) -> None:
        """Draw the seed, order the specialists by name, read the stages."""
        self._seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        # Columns in the order of names: the order of the list of specialists changes nothing.
        self._order = np.argsort(np.array(self._names, dtype=object))
        self._names_sorted = [self._names[i] for i in self._order]
        self._stages = [list(range(len(self._names)))]
        if self.escalation is not None:
            self._stages = self.escalation.check(self._names)

    def _places(self, stage: list[int]) -> NDArray[np.intp]:
        """Give the columns of a stage's specialists, where columns are in the order of names."""
        return np.flatnonzero(np.isin(self._order, stage))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "report_")
