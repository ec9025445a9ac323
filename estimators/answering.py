"""How a fusing ensemble answers: ask the specialists, check what they say, fuse it, hand on what is doubtful."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from estimators.columns import take_rows
from estimators.fusions import PanelFuser, fusion_name
from estimators.panel import Answers, answer_one
from estimators.result import (
    ABSENT,
    ANSWERED,
    FAILED,
    FAULT,
    NOT_ASKED,
    FusionResult,
    class_uncertainty,
    number_spread,
    present_weights,
)
from estimators.stacking import Arbiter
from fusion import Operator
from theory import FaultWarning, PanelError


class PanelAnswering:
    """The part of the ensembles that answers; it writes nothing to the estimator."""

    def fuse(self, X: Any) -> FusionResult:
        """Fuse, and say who spoke, how far they agree and how uncertain the answer is.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input; after ``from_predictions`` a panel.

        Returns
        -------
        FusionResult
            Its label and probabilities, or value, are those of ``predict`` and ``predict_proba``.
        """
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        panel, status, failures, whole = self._asked(X)
        left = np.zeros(len(panel), dtype=np.int64)
        fused = self._fused_panel(panel, status, X, whole=whole, left=left)
        return self._described(
            panel, self._calibrated_answer(fused), status=status, left=left, failures=failures
        )

    def predict_or_defer(self, X: Any, *, expensive: Any = None) -> np.ma.MaskedArray[Any, Any]:
        """Answer where ``defer`` allows it; ask expensive specialists only about what is left.

        Parameters
        ----------
        X : array-like, sparse matrix, DataFrame or Views of shape (sample, feature)
            Input.
        expensive : list of str, or list of lists of str, optional
            Specialists that are first left out. They are asked, one list after the other, about the
            samples that are still doubtful. The doubt that each stage may answer is found by ``defer`` on
            the out-of-fold panel of those asked until then; a ``risk`` is that of all answers of all
            stages together, a ``coverage`` that of each stage's doubt alone. The stages divide ``delta``
            evenly: with K of them each is tested at ``delta`` / K, and so answers a little less. (At
            ``delta`` each, three stages broke a promise of .1 in .12 of 1,500 simulated draws; so in .045.)
            With several stages this is no proof: later thresholds are tested on samples that chose the earlier ones.

        Returns
        -------
        masked array of shape (sample,) or (sample, output)
            As ``predict`` gives; masked where someone else should be asked.

        Raises
        ------
        PanelError
            Without ``defer``, without an out-of-fold panel, or on unknown names.
        """
        check_is_fitted(self)
        if self.defer is None or self.defer_threshold_ is None:
            raise PanelError(
                "predict_or_defer needs a rule. Fit with defer=Defer(coverage=...) or Defer(risk=...)."
            )
        X = self._check_input(X, reset=False)
        stages = self._stages(expensive)
        n_samples = len(X) if self._from_panel else X.shape[0]
        open_rows = np.arange(n_samples)
        panel = np.full((n_samples, len(self._names), self._n_outputs), np.nan)
        status = np.full(panel.shape[:2], NOT_ASKED, dtype=np.int8)
        answers, mask = None, np.ones(n_samples, dtype=bool)
        asked = np.zeros(len(self._names), dtype=bool)
        settled: Any = None  # out-of-fold samples that earlier stages answer, and whether wrongly
        for stage in stages:
            asked[stage] = True
            part = X if len(open_rows) == n_samples else take_rows(X, open_rows)
            said, how, _, _ = self._asked(part, only=stage)
            panel[np.ix_(open_rows, stage)] = said[:, stage]
            status[np.ix_(open_rows, stage)] = how[:, stage]
            answer, doubt = self._doubted(panel[open_rows], status[open_rows], part, last=bool(asked.all()))
            if answers is None:
                answers = np.zeros((n_samples, *answer.shape[1:]), dtype=answer.dtype)
            answers[open_rows] = answer
            threshold = self.defer_threshold_
            if len(stages) > 1:
                threshold, settled = self._stage_threshold(asked, settled, len(stages))
            sure = doubt <= threshold
            mask[open_rows[sure]] = False
            open_rows = open_rows[~sure]
            if not len(open_rows):
                break
        mask = (
            mask
            if answers is None or answers.ndim == 1
            else np.repeat(mask[:, None], answers.shape[1], axis=1)
        )
        return np.ma.MaskedArray(answers, mask=mask)

    def _stages(self, expensive: Any) -> list[NDArray[np.int64]]:
        lists = [] if expensive is None else list(expensive)
        if any(isinstance(one, str) for one in lists):
            lists = [lists]
        later = [name for names in lists for name in names]
        unknown = [name for name in later if name not in self._names]
        if unknown or len(set(later)) < len(later):
            raise PanelError(
                f"expensive must name each specialist once; got {later}, there are {self._names}."
            )
        first = [name for name in self._names if name not in later]
        if not first:
            raise PanelError("expensive names every specialist; leave at least one to ask first.")
        return [np.array([self._names.index(n) for n in names]) for names in (first, *lists) if len(names)]

    def _stage_threshold(self, asked: NDArray[np.bool_], settled: Any, n_stages: int) -> tuple[float, Any]:
        if self._stored is None:
            raise PanelError(
                "stages are judged on the out-of-fold panel, which was not kept. Fit with keep_oof=True."
            )
        known = self._stored.known()
        if self._fuser.needs_input:
            raise PanelError(
                f"stages cannot be judged for {fusion_name(self.fusion_)}: the input is not kept."
            )
        fused = self._cross_fitted(known, None, asked=asked)
        here = ~np.isnan(fused).all(axis=1)
        panel = np.where(asked[:, None], known.panel, np.nan)
        answer = self._calibrated_answer(self._finished(fused[here]))
        doubt, wrong = np.full(len(fused), np.inf), np.ones(len(fused), dtype=bool)
        doubt[here] = self.defer.doubt(self._described(panel[here], answer))
        if self._task == "classification":
            wrong[here] = answer.argmax(axis=1) != known.target[here]
        if settled is None or getattr(self.defer, "risk", None) is None:
            settled = np.zeros(len(doubt), dtype=bool), np.zeros(len(doubt), dtype=bool)
        answered, erred = settled
        # the easy samples are answered already: they must not make up for errors in those left
        doubt, wrong = np.where(answered, -np.inf, doubt), np.where(answered, erred, wrong)
        threshold = float(self.defer.threshold(doubt, wrong, sample_weight=known.weight, stages=n_stages))
        return threshold, (answered | (doubt <= threshold), wrong)

    def _doubted(
        self, panel: NDArray[np.float64], status: NDArray[np.int8], X: Any, *, last: bool
    ) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Answer and doubt; whoever too few of those asked can answer is infinitely doubtful."""
        fuser = self._fuser
        if not last:
            # fewer were asked than the fusion needs for its promise: not an error yet
            fuser = PanelFuser.__new__(PanelFuser)
            fuser.fusion, fuser.task, fuser.short = self._fuser.fusion, self._task, "prior"
        with warnings.catch_warnings():
            if not last:
                warnings.simplefilter("ignore", FaultWarning)
            fused = fuser.fuse(panel, faults=status == FAULT, names=self._names, X=X)
        lost = np.isnan(fused).all(axis=1)
        answer = self._calibrated_answer(self._finished(fused))
        result = self._described(panel, answer, status=status)
        doubt = np.where(lost, np.inf, self.defer.doubt(result))
        return (result.value if result.label is None else result.label), doubt

    def _heard(
        self, X: Any, only: Any = None
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, str]]:
        """Ask the specialists: aligned and calibrated panel, who is absent as declared, failures."""
        chosen = list(range(len(self._members))) if only is None else [int(i) for i in only]
        failures = dict(self.failures_)
        if self._from_panel:
            panel = self._read_panel(X)[0]
            if only is not None:
                gone = np.setdiff1d(np.arange(panel.shape[1]), chosen)
                panel = panel.copy()
                panel[:, gone] = np.nan
            absent = np.isnan(panel).all(axis=2)
        else:
            members = [self._members[i] for i in chosen]
            if effective_n_jobs(self.predict_n_jobs) == 1:
                said = (answer_one(m, X) for m in members)  # one at a time: its memory serves the next
            else:
                said = iter(Parallel(n_jobs=self.predict_n_jobs)(delayed(answer_one)(m, X) for m in members))
            for k, (i, answers) in enumerate(zip(chosen, said, strict=True)):
                if k == 0:
                    panel = np.empty((len(answers.values), len(self._members), self._n_outputs))
                    absent = np.zeros(panel.shape[:2], dtype=bool)
                    if len(chosen) < len(self._members):
                        panel[:] = np.nan
                        absent[:] = True
                name = self._names[i]
                panel[:, i, :] = self._aligned(i, self._calibrated(answers, self.calibrators_.get(name)))
                absent[:, i] = answers.absent
                if answers.failure:
                    failures[name] = answers.failure
        return panel, absent, failures

    def _hear(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Ask everybody: the aligned and calibrated panel, and who is absent as declared."""
        check_is_fitted(self)
        panel, absent, _ = self._heard(self._check_input(X, reset=False))
        return panel, absent

    def _asked(
        self, X: Any, only: Any = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int8], dict[str, str], bool]:
        """Ask and check: panel with NaN for the unusable, status, failures, and whether all is sound."""
        panel, absent, failures = self._heard(X, only)
        status = np.zeros(panel.shape[:2], dtype=np.int8)
        if not absent.any() and self._sound(panel):
            return panel, status, failures, True
        faulty = self._faulty(panel)
        status[absent] = ABSENT
        for name in failures:
            column = self._names.index(name)
            status[absent[:, column], column] = FAILED
        status[faulty & ~absent] = FAULT
        if only is not None:
            status[:, [i for i in range(panel.shape[1]) if i not in set(only)]] = NOT_ASKED
        if (status == FAULT).any():
            if self._from_panel:
                panel = panel.copy()  # the caller's own
            panel[status == FAULT] = np.nan
        return panel, status, failures, False

    def _fused(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        panel, status, _, whole = self._asked(X)
        return self._calibrated_answer(self._fused_panel(panel, status, X, whole=whole))

    def _fused_panel(
        self, panel: NDArray[np.float64], status: NDArray[np.int8], X: Any, *, whole: bool, left: Any = None
    ) -> NDArray[np.float64]:
        if whole:
            return self._finished(self._fuser.fuse(panel, X=X, whole=True, left=left))
        fused = self._fuser.fuse(panel, faults=status == FAULT, names=self._names, X=X, left=left)
        nobody = np.isnan(fused).all(axis=1)
        if nobody.any():
            warnings.warn(
                f"{int(nobody.sum())} of {len(fused)} samples have no answer to fuse (first: sample "
                f"{int(nobody.argmax())}); they get the prior of the training set.",
                FaultWarning,
                stacklevel=4,
            )
        return self._finished(fused)

    def _calibrated_answer(self, answer: NDArray[np.float64]) -> NDArray[np.float64]:
        return answer if self.calibrator_ is None else self.calibrator_.transform(answer)

    def _described(
        self,
        panel: NDArray[np.float64],
        answer: NDArray[np.float64],
        *,
        status: Any = None,
        left: Any = None,
        failures: Any = None,
    ) -> FusionResult:
        present = ~np.isnan(panel).all(axis=2)
        if status is None:
            status = np.where(present, ANSWERED, ABSENT).astype(np.int8)
        weights = self._row_weights(panel, present)
        shares = self._shares(present, weights)
        labels = self._task == "classification"
        if labels:
            disagreement, total, epistemic = class_uncertainty(panel, shares)
            label, value = self.classes_[answer.argmax(axis=1)], None
        else:
            apart = number_spread(panel, answer, shares)
            disagreement = apart.sum(axis=1)
            total = epistemic = np.full(len(panel), np.nan)
            if self.scale_ is not None:
                total = self.scale_.variance(apart).sum(axis=1)
                epistemic = apart @ self.scale_.b
            label, value = None, answer[:, 0] if self._flat else answer
        return FusionResult(
            label=label,
            value=value,
            proba=answer if labels else None,
            n_present=present.sum(axis=1),
            weights=weights,
            disagreement=disagreement,
            total=total,
            epistemic=epistemic,
            status=status,
            n_byzantine=np.zeros(len(panel), dtype=np.int64) if left is None else left,
            names=tuple(self._names),
            outputs=tuple(np.asarray(self._outputs).tolist()),
            failures={} if failures is None else failures,
        )

    def _shares(self, present: NDArray[np.bool_], weights: Any) -> NDArray[np.float64]:
        """Weigh opinions for what they say about doubt: one alone cannot disagree, so then all count alike."""
        if weights is None:
            return present_weights(None, present)
        lone = weights.max(axis=1) > 1.0 - 1e-9
        return np.where(lone[:, None], present_weights(None, present), weights) if lone.any() else weights

    def _spread(self, panel: NDArray[np.float64], answer: NDArray[np.float64]) -> NDArray[np.float64]:
        present = ~np.isnan(panel).all(axis=2)
        weights = self._row_weights(panel, present)
        return number_spread(panel, answer, self._shares(present, weights))

    def _row_weights(
        self, panel: NDArray[np.float64], present: NDArray[np.bool_]
    ) -> NDArray[np.float64] | None:
        """Say what each specialist weighed in each sample; None where the fusion has no such weights."""
        rule = self.fusion_
        if fusion_name(rule) == "auto":
            rule = rule.fusion_
        if isinstance(rule, Operator):
            if rule.row.name in ("mean", "linear_pool", "log_pool"):
                return present_weights(None, present)
            enough = present.sum(axis=1) >= max(self._fewest(rule, panel.shape[1]), 1)
            weights = present_weights(None, present)
            if enough.any():
                said = panel[enough]
                some = np.isnan(said) & present[enough][:, :, None]
                weights[enough] = rule.support(np.where(some, 0.0, said), missing="abstain")
            return weights
        own = None if isinstance(rule, Arbiter) else getattr(rule, "weights_", None)
        if own is None or np.shape(own) != (panel.shape[1],) or (np.asarray(own) < 0).any():
            return None
        return present_weights(np.asarray(own, dtype=np.float64), present)

    def _fewest(self, rule: Any, n_specialists: int) -> int:
        return int(rule.minimum(self._fuser.budget(n_specialists) if rule.row.takes_budget else 0))

    def _calibrated(self, answers: Answers, calibrator: Any) -> Answers:
        if calibrator is None:
            return answers
        values = answers.values.copy()
        here = np.isfinite(values).all(axis=1)
        if here.any():
            values[here] = calibrator.transform(values[here])
        return Answers(values, answers.classes, answers.absent, answers.failure)
