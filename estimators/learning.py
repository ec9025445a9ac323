"""What a fusing ensemble learns from answers to unseen samples, at fit and later."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from estimators.calibration import TemperatureScaling
from estimators.choice import cross_fit, own_folds
from estimators.conformal import class_scores, conformal_quantile, fit_residual_scale
from estimators.evidence import weigh_evidence
from estimators.fusions import PanelFuser, fusion_name
from estimators.online import TrackRecord
from theory import FaultWarning, PanelError


@dataclass(frozen=True, eq=False)
class StoredPanel:
    """Answers to unseen samples with their truth: all that fusions learn from.

    Attributes
    ----------
    panel : ndarray of shape (sample, specialist, output)
        Checked answers; NaN where a specialist was absent or at fault.
    target : ndarray
        Codes (sample,), or numbers (sample, output).
    fold : ndarray of int, shape (sample,)
        Folds to cross-fit over; -1 for samples that nobody was asked about.
    weight, groups : ndarray of shape (sample,), or None
        Counts of the samples, and who belongs together.
    """

    panel: NDArray[np.float64]
    target: NDArray[Any]
    fold: NDArray[np.int64]
    weight: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None

    def known(self) -> StoredPanel:
        """Leave out the samples that nobody was asked about."""
        rows = self.fold >= 0
        if rows.all():
            return self
        cut = {
            name: None if getattr(self, name) is None else getattr(self, name)[rows]
            for name in ("weight", "groups")
        }
        return StoredPanel(self.panel[rows], self.target[rows], self.fold[rows], **cut)

    def joined(self, panel: NDArray[np.float64], target: NDArray[Any], fade: float) -> StoredPanel:
        """Append later samples; earlier ones fade by ``fade`` for each."""
        n = len(panel)
        weight = self.weight
        if weight is not None or fade < 1.0:
            old = np.ones(len(self.panel)) if weight is None else weight
            weight = np.concatenate([old * fade**n, fade ** np.arange(n - 1, -1, -1, dtype=np.float64)])
        folds = max(int(self.fold.max(initial=0)) + 1, 2)
        return StoredPanel(
            np.concatenate([self.panel, panel]),
            np.concatenate([self.target, target]),
            np.concatenate([self.fold, np.arange(n) % folds]),
            weight,
        )


def folds_of(splits: list[Any], n_samples: int, groups: Any) -> NDArray[np.int64]:
    """Give the number of the fold that each sample was held out in; deal new ones where there was one only."""
    fold = np.full(n_samples, -1, dtype=np.int64)
    for j, (_, test) in enumerate(splits):
        rows = np.asarray(test)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        fold[rows[fold[rows] < 0]] = j
    if fold.max(initial=-1) == 0:
        fold = np.where(fold == 0, own_folds(n_samples, 5, groups), -1)
    return fold


class PanelLearning:
    """The part of the ensembles that learns from a stored panel."""

    def with_fusion(self, fusion: Any) -> Any:
        """Give a fitted copy that fuses by another rule, learned from the same out-of-fold panel.

        Parameters
        ----------
        fusion : str, fusion.Operator, learned fusion or callable
            As in the constructor.

        Returns
        -------
        object
            A copy that shares the fitted specialists; no specialist is fitted again.

        Raises
        ------
        PanelError
            If a learned fusion needs what was not kept: the panel, or the input.
        """
        check_is_fitted(self)
        new = copy.copy(self)
        new.fusion = fusion
        fuser = PanelFuser(fusion, task=self._task, short=self.short)
        if self._stored is None:
            if fuser.is_learned:
                raise PanelError(
                    f"{fusion_name(fusion)} learns from the out-of-fold panel, and there is none"
                    f"{': ' + self.fallback_ if self.fallback_ else ''}. Fit with keep_oof=True and folds."
                )
            new._fuser = fuser
            new._check_rows()
            new._take_fusion()
            return new
        if fuser.needs_input:
            raise PanelError(
                f"{fusion_name(fusion)} looks at the input, which is not kept. Fit with it instead."
            )
        new._fuser = fuser
        new._check_rows()
        known = self._stored.known()
        new._learn_fusion(known, None, None if isinstance(self.fusion_, TrackRecord) else self.track_record_)
        new._learn_promises(known, None)
        return new

    def update(self, panel: Any, y: Any) -> Any:
        """Learn from answers whose truth has come in; the specialists stay as they are.

        Parameters
        ----------
        panel : array-like or DataArray of shape (sample, specialist, output)
            What the specialists said, oldest first; NaN rows where one did not answer. Numbers may come
            as (sample, specialist).
        y : array-like
            Truths, as in ``fit``.

        Returns
        -------
        self : object

        Raises
        ------
        PanelError
            If the panel does not fit the team, or a truth is of no known class.

        Notes
        -----
        A :class:`TrackRecord` as fusion takes the labels in one by one and keeps no samples. Any other fusion is
        learned again from the stored panel with the new samples appended, as are prices, correlation and
        thresholds; with ``track_record=TrackRecord(halflife=...)`` older samples fade at that rate.
        """
        check_is_fitted(self)
        values, target = self._read_panel(panel, y)
        if target.dtype.kind == "f" and not np.isfinite(target).all():
            raise PanelError("truths must be finite numbers. Leave out the samples whose truth is not known.")
        if self._stored is not None and self._stored.groups is not None:
            raise PanelError("samples with groups cannot be joined by others without. Fit again.")
        faulty = self._faulty(values)
        self._tell_faults(faulty & ~np.isnan(values).all(axis=2), "invalid answers")
        values = np.where(faulty[:, :, None], np.nan, values)
        fade, record = 1.0, None
        if self.track_record_ is not None and hasattr(self.track_record_, "task_"):
            record = copy.deepcopy(self.track_record_)
            record.update(values, target)
            self.track_record_ = record
            fade = record.moments_.decay
        if isinstance(self._fuser.fusion, TrackRecord) and hasattr(self._fuser.fusion, "task_"):
            self._fuser = copy.copy(self._fuser)
            self._fuser.fusion = self.track_record_
            self._take_fusion()
            return self
        if self._stored is None and not self.keep_oof:
            raise PanelError(
                "update learns from the stored panel. Fit with keep_oof=True, or fusion=TrackRecord()."
            )
        if self._stored is None:
            stored = StoredPanel(values, target, own_folds(len(values), 5))
        else:
            stored = self._stored.joined(values, target, fade)
        self._fuser = PanelFuser(self.fusion, task=self._task, short=self.short)
        self._learn(stored, record=record)
        return self

    def _learn(self, stored: StoredPanel, X: Any = None, *, record: Any = None) -> None:
        """Learn the fusion, its promises and what the specialists are worth."""
        known = stored.known()
        empty = len(known.panel) == 0
        self.oof_coverage_ = float((stored.fold >= 0).mean()) if len(stored.fold) else 0.0
        self._stored = stored if self.keep_oof and not empty else None
        self.oof_panel_ = None if self._stored is None else self._labelled(stored.panel)
        self._learn_fusion(known, X, record)
        errors = self._errors(known.panel, known.target)
        evidence = weigh_evidence(errors, names=self._names, v0=self._v0, sample_weight=known.weight)
        del errors  # as large as the panel
        self.missing_rate_ = evidence.missing_rate
        self.error_covariance_ = evidence.covariance
        self.error_correlation_ = evidence.correlation
        self.effective_number_ = evidence.effective_number
        self.prices_ = evidence.prices
        solo = self._solo(known.panel, known.target, known.weight)
        self.solo_scores_ = dict(zip(self._names, solo, strict=True))
        self._learn_promises(known, X)

    def _learn_fusion(self, known: StoredPanel, X: Any, record: Any = None) -> None:
        fuser, name = self._fuser, fusion_name(self.fusion)
        if fuser.is_learned and len(known.panel) == 0:
            if name != "auto":
                if self.cv == "none":
                    raise ValueError(
                        f"fusion={name!r} learns from out-of-fold predictions; cv='none' gives none. Set cv=5."
                    )
                warnings.warn(
                    f"no out-of-fold panel: {self.fallback_}. {name} falls back to equal weights.",
                    FaultWarning,
                    stacklevel=5,
                )
            self.fallback_ = f"{self.fallback_}; {name} falls back to the mean"
            self._fuser = PanelFuser("mean", task=self._task, short=self.short)
        elif fuser.is_learned:
            fuser.fit(
                known.panel, known.target, sample_weight=known.weight, X=X, folds=known.fold,
                groups=known.groups, costs=self._costs(),
            )  # fmt: skip
        self._take_fusion()
        if isinstance(self.fusion_, TrackRecord):
            self.track_record_ = self.fusion_
        elif record is not None or self.track_record is None or len(known.panel) == 0:
            self.track_record_ = record
        else:
            counts = known.weight is None or len(np.unique(known.weight)) == 1
            record = clone(self.track_record)
            self.track_record_ = record.fit(
                known.panel, known.target, task=self._task, sample_weight=None if counts else known.weight
            )

    def _take_fusion(self) -> None:
        self.fusion_ = self._fuser.fusion
        equal = np.full(len(self._names), 1.0 / len(self._names))
        self.weights_ = getattr(self.fusion_, "weights_", None) if self._fuser.is_learned else equal

    def _costs(self) -> NDArray[np.float64]:
        return np.array([getattr(member, "cost", 1.0) for member in self._members], dtype=np.float64)

    def _learn_promises(self, known: StoredPanel, X: Any) -> None:
        """Calibrate the fused answer, and learn when to defer and how wide to answer."""
        self.calibrator_ = self.scale_ = self._scores = self.defer_threshold_ = None
        if self.defer is not None:
            self.defer.check(numbers=self._task == "regression")
        wanted = self.defer is not None or self.calibration is not None
        if not self.keep_oof and not wanted:
            return
        try:
            fused = self._cross_fitted(known, X)
        except ValueError as error:
            if wanted:
                raise PanelError(f"defer= and calibration= need an out-of-fold panel: {error}") from error
            return
        here = ~np.isnan(fused).all(axis=1)
        weight = None if known.weight is None else known.weight[here]
        truth, panel = known.target[here], known.panel[here]
        answer = self._finished(fused[here])
        if self.calibration is not None:
            self.calibrator_ = TemperatureScaling().fit(answer, truth, weight)
            answer = _calibrated_across(answer, truth, weight, known.fold[here])
        result = self._described(panel, answer)
        if self._task == "classification":
            self._scores = (class_scores(answer, truth), weight)
            wrong = answer.argmax(axis=1) != truth
        else:
            spread = self._spread(panel, answer)
            self.scale_ = fit_residual_scale(answer - truth, spread, sample_weight=weight)
            wrong = np.zeros(len(truth), dtype=bool)
        if self.defer is not None:
            doubt = np.full(len(fused), np.inf)
            doubt[here] = self.defer.doubt(result)
            every = np.ones(len(fused), dtype=bool)
            every[here] = wrong
            self.defer_threshold_ = self.defer.threshold(doubt, every, sample_weight=known.weight)

    def _cross_fitted(self, known: StoredPanel, X: Any, asked: Any = None) -> NDArray[np.float64]:
        if len(known.panel) == 0:
            raise PanelError(self.fallback_ or "no sample was held out")
        rule = (
            getattr(self.fusion_, "fusion_", self.fusion_)
            if fusion_name(self.fusion_) == "auto"
            else self.fusion_
        )
        return cross_fit(
            rule, known.panel, known.target, task=self._task, folds=known.fold, sample_weight=known.weight, X=X,
            asked=asked,
        )  # fmt: skip

    def _quantile(self, alpha: float) -> float:
        if self._scores is None:
            raise PanelError(
                "prediction sets need an out-of-fold panel"
                f"{', and there is none: ' + self.fallback_ if self.fallback_ else ''}. Fit with keep_oof=True and folds."
            )
        scores, weight = self._scores
        return conformal_quantile(scores, alpha, sample_weight=weight)

    def _partial_fit(self, X: Any, y: Any, classes: Any) -> None:
        """Predict, then learn: the answers to this batch join the record before it is trained on."""
        from estimators.views import select_view

        learned = None
        if hasattr(self, "_fuser"):
            learned = copy.copy(self)
            learned.fallback_ = ""
            learned.update(self._asked(X)[0], y)  # refuses before anybody is trained
        else:
            team = self._check_team()
            self._names, self._members = [name for name, _ in team], [member for _, member in team]
            self._from_panel, self.failures_, self.calibrators_ = False, {}, {}
        # a specialist whose fit failed is the text of its error, and stays away
        parts = [
            None if isinstance(member, str) or member.freeze else select_view(X, member.view)
            for member in self._members
        ]
        for name, part in zip(self._names, parts, strict=True):
            if part is not None and part[1] is not None:
                raise PanelError(f"partial_fit needs the view of specialist {name!r} in every sample.")
        for member, seen in zip(self._members, parts, strict=True):
            if seen is None:
                if not isinstance(member, str) and not hasattr(member, "model_"):
                    member.fit(X, y)
                continue
            if not hasattr(member, "model_"):
                member.model_ = clone(member.model)
            more = {"classes": classes} if self._task == "classification" and classes is not None else {}
            member.model_.partial_fit(seen[0], y, **more)
        if learned is None:
            self.estimators_ = [member.model_ for member in self._members]
            self.methods_ = {n: m.answer_method_ for n, m in zip(self._names, self._members, strict=True)}
            self._begin(y, None)
            self.fallback_ = "nothing was answered before it was learned"
            self._fuser = PanelFuser("mean", task=self._task, short=self.short)
            empty = np.zeros((0, len(self._names), self._n_outputs))
            none = StoredPanel(empty, self._target(y)[:0], np.zeros(0, dtype=np.int64))
            self.track_record_ = None
            self._learn(none)
        else:
            vars(self).update(vars(learned))


def _calibrated_across(
    answer: NDArray[np.float64], truth: NDArray[Any], weight: Any, fold: NDArray[Any]
) -> NDArray[np.float64]:
    """Calibrate each fold by the others."""
    calibrated = answer.copy()
    parts = np.unique(fold)
    for part in parts if len(parts) > 1 else ():
        test, train = fold == part, fold != part
        scaling = TemperatureScaling().fit(
            answer[train], truth[train], None if weight is None else weight[train]
        )
        calibrated[test] = scaling.transform(answer[test])
    return calibrated
