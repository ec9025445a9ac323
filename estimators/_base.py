"""What the fusing classifier and regressor share: team, out-of-fold pass, panel at predict."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MetaEstimatorMixin, is_classifier, is_regressor
from sklearn.utils import Bunch, get_tags
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from estimators._compat import (
    BaseComposition,
    HasMethods,
    Interval,
    StrOptions,
    VisualBlock,
    check_sample_weight,
    validate_data,
)
from estimators.calibration import TemperatureScaling
from estimators.columns import take_rows
from estimators.evidence import weigh_evidence
from estimators.fusions import PanelFuser, fusion_name
from estimators.panel import Answers, answer_one, calibrate, fit_one, make_splits, out_of_fold
from estimators.specialists import Specialist, as_specialist
from theory import FaultWarning, PanelError


class BaseRobustFusion(MetaEstimatorMixin, BaseComposition, metaclass=ABCMeta):
    """One out-of-fold pass feeds everything learned; predict asks, checks and fuses."""

    _parameter_constraints: dict = {  # noqa: RUF012
        "estimators": [list],
        "fusion": [str, callable, HasMethods("fuse")],
        "cv": [Interval(Integral, 2, None, closed="left"), StrOptions({"prefit", "none"}), "cv_object"],
        "short": [StrOptions({"raise", "relax", "prior"})],
        "keep_oof": ["boolean"],
        "n_jobs": [None, Integral],
        "predict_n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    @property
    def named_estimators(self) -> Bunch:
        """Members of the team by name."""
        return Bunch(**dict(self.estimators))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters, those of the specialists included.

        Parameters
        ----------
        deep : bool
            Whether to include the parameters of specialists and of the fusion operator.

        Returns
        -------
        dict
            Parameter names to values.
        """
        return self._get_params("estimators", deep=deep)

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
        self._set_params("estimators", **params)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
        X = self._check_input(X, reset=True)
        team = self._check_team()
        classifier = is_classifier(self)
        check_consistent_length(X, y, groups)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        splits, reason = make_splits(
            self.cv, X, y, classifier=classifier, groups=groups, random_state=self.random_state
        )
        self.fallback_ = reason
        self._names = [name for name, _ in team]
        specialists = [specialist for _, specialist in team]
        loud = 10 if self.verbose else 0
        fitted = Parallel(n_jobs=self.n_jobs, verbose=loud)(
            delayed(fit_one)(s, X, y, sample_weight) for s in specialists
        )
        self.failures_ = {n: m for n, m in zip(self._names, fitted, strict=True) if isinstance(m, str)}
        for name, text in self.failures_.items():
            warnings.warn(
                f"specialist {name!r} failed in fit and abstains: {text}", FaultWarning, stacklevel=3
            )
        if len(self.failures_) == len(fitted):
            raise PanelError(f"every specialist failed in fit: {self.failures_}.")
        self._members = fitted
        bare = [not isinstance(member, Specialist) for _, member in self._listed()]
        self.estimators_ = [
            m.model_ if b and not isinstance(m, str) else m for b, m in zip(bare, fitted, strict=True)
        ]
        self.named_estimators_ = Bunch(**dict(self.estimators))
        self.named_estimators_.update(zip(self._names, self.estimators_, strict=True))
        self.methods_ = {
            n: "none" if isinstance(m, str) else m.answer_method_
            for n, m in zip(self._names, fitted, strict=True)
        }
        self._fuser = PanelFuser(self.fusion, task=self._task, short=self.short)
        self._start(y, sample_weight)
        folds = out_of_fold(
            specialists, fitted, X, y, splits, sample_weight=sample_weight, n_jobs=self.n_jobs, verbose=loud
        )
        self.calibrators_, folds = self._calibrate(folds, y, sample_weight)
        panel, covered, absent = self._collect(folds, len(y))
        self._learn(panel, covered, absent, y, sample_weight, X)

    def _learn(
        self,
        panel: NDArray[np.float64],
        covered: NDArray[np.bool_],
        absent: NDArray[np.bool_],
        y: Any,
        sample_weight: Any,
        X: Any = None,
    ) -> None:
        """Fit the fusion and weigh the evidence on the out-of-fold panel."""
        target = self._target(y)
        self.oof_coverage_ = float(covered.mean()) if len(covered) else 0.0
        self.oof_panel_ = self._labelled(panel) if self.keep_oof and covered.any() else None
        rows = np.flatnonzero(covered)
        seen, truth = panel[rows], target[rows]
        weight = None if sample_weight is None else sample_weight[rows]
        faulty = self._faulty(seen)
        self._tell_faults(faulty & ~absent[rows])
        seen = np.where(faulty[:, :, None], np.nan, seen)
        if self._fuser.is_learned:
            if len(rows) == 0 and self.cv == "none":
                raise ValueError(
                    f"fusion={fusion_name(self.fusion)!r} learns from out-of-fold predictions; cv='none' gives none. "
                    "Set cv=5."
                )
            if len(rows) == 0:
                warnings.warn(
                    f"no out-of-fold panel: {self.fallback_}. {fusion_name(self.fusion)} falls back to equal weights.",
                    FaultWarning,
                    stacklevel=4,
                )
                self._fuser = PanelFuser("mean", task=self._task, short=self.short)
            else:
                place = take_rows(X, rows) if self._fuser.needs_input and X is not None else None
                self._fuser.fit(seen, truth, sample_weight=weight, X=place)
        self.fusion_ = self._fuser.fusion
        equal = np.full(panel.shape[1], 1.0 / panel.shape[1])
        self.weights_ = getattr(self.fusion_, "weights_", None) if self._fuser.is_learned else equal
        errors = self._errors(seen, truth)
        evidence = weigh_evidence(errors, names=self._names, v0=self._v0, sample_weight=weight)
        self.missing_rate_ = evidence.missing_rate
        self.error_covariance_ = evidence.covariance
        self.error_correlation_ = evidence.correlation
        self.effective_number_ = evidence.effective_number
        self.prices_ = evidence.prices
        self.solo_scores_ = dict(zip(self._names, self._solo(seen, truth, weight), strict=True))

    def _tell_faults(self, faults: NDArray[np.bool_]) -> None:
        told = {n: int(c) for n, c in zip(self._names, faults.sum(axis=0), strict=True) if c}
        if told:
            warnings.warn(
                f"invalid out-of-fold answers, left out of everything learned: "
                f"{', '.join(f'{name!r} {count} of {len(faults)}' for name, count in told.items())}.",
                FaultWarning,
                stacklevel=5,
            )

    def _heard(self, X: Any) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Ask everybody: the aligned and calibrated panel, and who is absent as declared."""
        said = Parallel(n_jobs=self.predict_n_jobs)(delayed(answer_one)(m, X) for m in self._members)
        panel = np.empty((len(said[0].values), len(said), self._n_outputs))
        absent = np.empty(panel.shape[:2], dtype=bool)
        for i, (answers, calibrator) in enumerate(zip(said, self.calibrators_.values(), strict=True)):
            panel[:, i, :] = self._aligned(i, self._calibrated(answers, calibrator))
            absent[:, i] = answers.absent
        return panel, absent

    def _fused(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        X = self._check_input(X, reset=False)
        panel, absent = self._heard(X)
        faults = self._faulty(panel) & ~absent
        if faults.any():
            panel[faults] = np.nan
        fused = self._fuser.fuse(panel, faults=faults, names=self._names, X=X)
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

    def _listed(self) -> list[tuple[str, Any]]:
        return [item for item in self.estimators if not (isinstance(item[1], str) and item[1] == "drop")]

    def _check_team(self) -> list[tuple[str, Specialist]]:
        if not self.estimators or not all(
            isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], str)
            for item in self.estimators
        ):
            raise ValueError(
                "Invalid 'estimators' attribute, 'estimators' should be a non-empty list of (string, estimator) "
                "tuples."
            )
        self._validate_names([name for name, _ in self.estimators])
        team = self._listed()
        if not team:
            raise ValueError("All estimators are dropped. At least one is required to be an estimator.")
        fits = is_classifier if is_classifier(self) else is_regressor
        for name, member in team:
            if not fits(member):
                raise ValueError(
                    f"The estimator {type(member).__name__} should be a {fits.__name__[3:]}; specialist {name!r} is not."
                )
        specialists = [(name, as_specialist(name, member)) for name, member in team]
        if self.cv == "prefit":
            unfrozen = [name for name, specialist in specialists if not specialist.freeze]
            if unfrozen:
                raise PanelError(
                    f"cv='prefit' needs freeze=True of every specialist; {unfrozen} are not frozen."
                )
        return specialists

    def _check_input(self, X: Any, *, reset: bool) -> Any:
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        elif hasattr(X, "tocsr"):
            X = X.tocsr()  # other sparse layouts cannot be cut into folds
        if len(X.shape) != 2:
            raise ValueError(
                f"Expected 2D array, got {len(X.shape)}D array instead. Reshape your data with "
                "array.reshape(-1, 1) (one feature) or array.reshape(1, -1) (one sample)."
            )
        validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _calibrate(self, folds: list[Any], y: Any, sample_weight: Any) -> tuple[dict[str, Any], list[Any]]:
        """Fit calibrators on out-of-fold answers; cross-fit those that the panel gets."""
        calibrators: dict[str, Any] = {}
        for i, (name, member) in enumerate(zip(self._names, self._members, strict=True)):
            kind = None if isinstance(member, str) else member.calibration
            if self.methods_[name] == "decision_function" and kind is None:
                kind = "sigmoid"
            calibrators[name] = None
            if kind is None or self._task == "regression":
                continue
            if folds[i]:
                calibrators[name], folds[i] = calibrate(folds[i], kind, y, member.classes_, sample_weight)
                continue
            if self.methods_[name] == "decision_function":
                calibrators[name] = TemperatureScaling(from_logits=True).at(1.0)
            if member.calibration is not None:
                warnings.warn(
                    f"no out-of-fold panel: {self.fallback_}. Specialist {name!r} stays uncalibrated.",
                    FaultWarning,
                    stacklevel=4,
                )
        return calibrators, folds

    def _calibrated(self, answers: Answers, calibrator: Any) -> Answers:
        if calibrator is None:
            return answers
        values = answers.values.copy()
        here = np.isfinite(values).all(axis=1)
        if here.any():
            values[here] = calibrator.transform(values[here])
        return Answers(values, answers.classes, answers.absent, answers.failure)

    def _collect(
        self, folds: list[Any], n_samples: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Put folds into one panel; repeated rows are averaged, rows never asked stay NaN."""
        panel = np.zeros((n_samples, len(folds), self._n_outputs))
        absent = np.zeros(panel.shape[:2], dtype=bool)
        counts = np.zeros(n_samples, dtype=int)
        for i, own in enumerate(folds):
            for rows, answers in own:
                panel[rows, i, :] += self._aligned(i, answers)
                absent[rows, i] |= answers.absent
                if i == 0:
                    counts[rows] += 1
        panel[counts == 0] = np.nan
        panel /= np.maximum(counts, 1)[:, None, None]
        return panel, counts > 0, absent

    def _labelled(self, panel: NDArray[np.float64]) -> Any:
        from xarray import DataArray

        coords: dict[str, Any] = {"specialist": self._names}
        if self._task == "classification":
            coords["output"] = self._outputs
        return DataArray(panel, dims=("sample", "specialist", "output"), coords=coords)

    @property
    def _task(self) -> str:
        return "classification" if is_classifier(self) else "regression"

    @abstractmethod
    def _start(self, y: Any, sample_weight: Any) -> None: ...

    @abstractmethod
    def _target(self, y: Any) -> NDArray[Any]: ...

    @abstractmethod
    def _aligned(self, i: int, answers: Answers) -> NDArray[np.float64]: ...

    @abstractmethod
    def _faulty(self, panel: NDArray[np.float64]) -> NDArray[np.bool_]: ...

    @abstractmethod
    def _errors(self, panel: NDArray[np.float64], target: NDArray[Any]) -> NDArray[np.float64]: ...

    @abstractmethod
    def _solo(self, panel: NDArray[np.float64], target: NDArray[Any], weight: Any) -> NDArray[np.float64]: ...

    def _sk_visual_block_(self) -> Any:
        names, members = zip(*self.estimators, strict=True)
        return VisualBlock("parallel", members, names=names)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        try:
            inner = [get_tags(member) for _, member in self._listed()]
        except Exception:  # estimators may be anything before fit validates them
            return tags
        tags.input_tags.allow_nan = all(t.input_tags.allow_nan for t in inner)
        tags.input_tags.sparse = all(t.input_tags.sparse for t in inner)
        return tags
