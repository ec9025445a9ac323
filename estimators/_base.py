"""What the fusing classifier and regressor share: team, out-of-fold pass, panel at predict."""

from __future__ import annotations

import warnings
from abc import ABCMeta, abstractmethod
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MetaEstimatorMixin, is_classifier, is_regressor
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import Bunch, get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_consistent_length

from estimators._compat import (
    BaseComposition,
    HasMethods,
    Interval,
    StrOptions,
    VisualBlock,
    check_sample_weight,
    validate_data,
)
from estimators.answering import PanelAnswering
from estimators.calibration import TemperatureScaling
from estimators.columns import take_rows
from estimators.fusions import PanelFuser
from estimators.learning import PanelLearning, StoredPanel, folds_of
from estimators.panel import Answers, calibrate, fit_one, make_splits, out_of_fold
from estimators.progress import FitProgress
from estimators.routing import fit_router, refuse_unrouted, route_fit
from estimators.specialists import Specialist, as_specialist
from estimators.stored import fit_stored, read_stored
from theory import FaultWarning, PanelError


def _all_learn_in_parts(self: BaseRobustFusion) -> bool:
    for _, member in self._listed():
        if not getattr(member, "freeze", False):
            getattr(getattr(member, "model", member), "partial_fit")  # noqa: B009 - its error is the answer
    return True


class BaseRobustFusion(
    PanelAnswering,
    PanelLearning,
    CallbackSupportMixin,
    MetaEstimatorMixin,
    BaseComposition,
    metaclass=ABCMeta,
):
    """One out-of-fold pass feeds everything learned; predict asks, checks and fuses."""

    _parameter_constraints: dict = {  # noqa: RUF012
        "estimators": [list],
        "fusion": [str, callable, HasMethods("fuse")],
        "cv": [Interval(Integral, 2, None, closed="left"), StrOptions({"prefit", "none"}), "cv_object"],
        "short": [StrOptions({"raise", "relax", "prior"})],
        "defer": [HasMethods("threshold"), None],
        "track_record": [HasMethods("update"), None],
        "keep_oof": ["boolean"],
        "n_jobs": [None, Integral],
        "predict_n_jobs": [None, Integral],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    calibration: str | None = None  # numbers have none

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

    @available_if(_all_learn_in_parts)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        """Answer a batch, then train on it: its answers are out of fold, its truth goes to :meth:`update`.

        Parameters
        ----------
        X : array-like, DataFrame or Views of shape (sample, feature)
            A batch.
        y : array-like
            Its truth.
        classes : array-like, optional
            All classes there will be; needed by the first call of a classifier.

        Returns
        -------
        self : object

        Raises
        ------
        PanelError
            If the first call of a classifier is given no classes.

        Notes
        -----
        There is only where every specialist that is not frozen has ``partial_fit``. Until the second batch
        everybody weighs alike. With ``fusion=TrackRecord(...)`` and ``keep_oof=False`` no samples are kept.
        """
        y = np.asarray(y)
        self._check_input(X, reset=not hasattr(self, "_fuser"))
        if is_classifier(self):
            if not hasattr(self, "_fuser") and classes is None:
                raise PanelError("the first call of partial_fit needs classes=, all that there will be.")
            self.classes_ = self.classes_ if hasattr(self, "classes_") else np.unique(classes)
            classes = self.classes_
        self._partial_fit(X, y, classes)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, params: dict[str, Any]) -> None:
        refuse_unrouted(self, params)
        X = self._check_input(X, reset=True)
        team = self._check_team()
        classifier = is_classifier(self)
        check_consistent_length(X, y, groups)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        groups, metadata = route_fit(self, team, sample_weight=sample_weight, groups=groups, params=params)
        splits, reason = make_splits(
            self.cv, X, y, classifier=classifier, groups=groups, random_state=self.random_state
        )
        self.fallback_ = reason
        self._names = [name for name, _ in team]
        specialists = [specialist for _, specialist in team]
        watch = FitProgress(self, self._names, len(splits), X=X, y=y, verbose=bool(self.verbose))
        fitted = []
        for member in Parallel(n_jobs=self.n_jobs, return_as="generator")(
            delayed(fit_one)(s, X, y, sample_weight, None, metadata.get(name)) for name, s in team
        ):
            watch.done(len(fitted))
            fitted.append(member)
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
        self._from_panel = False
        self._begin(y, sample_weight)
        self._check_rows()
        folds = out_of_fold(
            specialists,
            fitted,
            X,
            y,
            splits,
            sample_weight=sample_weight,
            metadata=metadata,
            n_jobs=self.n_jobs,
            done=watch.done,
        )
        watch.end()
        self._tell_failed_folds(folds)
        self.calibrators_, folds = self._calibrate(folds, y, sample_weight)
        panel, covered, absent = self._collect(folds, len(y))
        fold = np.where(covered, folds_of(splits, len(y), groups), -1)
        faulty = self._faulty(panel)
        self._tell_faults((faulty & ~absent)[covered])
        panel[faulty] = np.nan
        groups = None if groups is None else np.asarray(groups)
        stored = StoredPanel(panel, self._target(y), fold, sample_weight, groups)
        place = None
        if self._fuser.needs_input:
            place = X if covered.all() else take_rows(X, np.flatnonzero(covered))
        self._learn(stored, place)

    def get_metadata_routing(self) -> Any:
        """Say which metadata ``fit`` hands on: to specialists what they ask for, groups to the splitter.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
        """
        return fit_router(self, self._listed())

    def _tell_failed_folds(self, folds: list[Any]) -> None:
        """Say who failed in the fits of folds alone; failures of the whole fit, and to answer, were told."""
        for name, member, own in zip(self._names, self._members, folds, strict=True):
            failed = [answers.failure for _, answers in own if answers.failure and answers.absent.all()]
            if failed and not isinstance(member, str) and not member.freeze:
                warnings.warn(
                    f"specialist {name!r} failed in {len(failed)} of {len(own)} folds and abstains there (first: "
                    f"{failed[0]}).",
                    FaultWarning,
                    stacklevel=4,
                )

    def _tell_faults(self, faults: NDArray[np.bool_], what: str = "invalid out-of-fold answers") -> None:
        told = {n: int(c) for n, c in zip(self._names, faults.sum(axis=0), strict=True) if c}
        if told:
            warnings.warn(
                f"{what}, left out of everything learned: "
                f"{', '.join(f'{name!r} {count} of {len(faults)}' for name, count in told.items())}.",
                FaultWarning,
                stacklevel=5,
            )

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
        if not reset and self._from_panel:
            return X
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

    def _read_panel(self, panel: Any, y: Any = None) -> tuple[NDArray[np.float64], Any]:
        """Put a panel in the team's order, and its truth in codes or numbers."""
        values, names, outputs = read_stored(panel, self._task)
        if names is not None and names != self._names:
            if sorted(names) != sorted(self._names):
                raise PanelError(f"specialists must be {self._names}; the panel has {names}.")
            values = values[:, [names.index(name) for name in self._names]]
        if outputs is not None and self._task == "classification" and outputs != self._outputs.tolist():
            if sorted(map(str, outputs)) != sorted(map(str, self._outputs.tolist())):
                raise PanelError(f"outputs must be {self._outputs.tolist()}; the panel has {outputs}.")
            values = values[:, :, [outputs.index(label) for label in self._outputs.tolist()]]
        if values.shape[1:] != (len(self._names), self._n_outputs):
            raise PanelError(
                f"panel needs {(len(self._names), self._n_outputs)} (specialist, output) as in fit; got shape "
                f"{values.shape}."
            )
        if y is None:
            return values, None
        if len(y) != len(values):
            raise PanelError(
                f"panel must be (sample, specialist, output); got shape {values.shape} for {len(y)} targets. Transpose "
                "it or pass a DataArray."
            )
        if self._task == "classification":
            unknown = sorted(set(np.asarray(y).tolist()) - set(self._outputs.tolist()), key=str)
            if unknown:
                raise PanelError(f"truths {unknown} are no class of the ensemble, {self._outputs.tolist()}.")
        return values, self._target(y)

    def _check_rows(self) -> None:
        """Refuse a fusion that answers a sample differently in other company, or that the team cannot serve."""
        if self._fuser.is_operator and self._fuser.fusion.scope == "batch":
            raise PanelError(
                f"{self._fuser.fusion.name} over a batch makes predictions depend on other rows. Set scope='sample', or "
                "call the fusion function instead."
            )
        if (
            self._fuser.is_operator and self.short == "raise"
        ):  # a team too small is told at fit, not at predict
            self._fuser.fuse(np.full((1, len(self._names), self._n_outputs), 1.0 / self._n_outputs))

    def _sound(self, panel: NDArray[np.float64]) -> bool:
        """Whether every answer is plainly usable; False only sends the panel to a closer look."""
        return False

    @classmethod
    def from_predictions(cls, panel: Any, y: Any, **params: Any) -> Any:
        """Fit on answers that specialists gave earlier, to samples that they were not fitted on.

        Parameters
        ----------
        panel : array-like or DataArray of shape (sample, specialist, output)
            Probabilities or one-hot votes, or numbers; NaN rows where a specialist did not answer. A
            DataArray brings the names of specialists and the labels of outputs.
        y : array-like
            Truths: labels of the outputs, or numbers.
        **params : object
            Parameters of the constructor, except the team; ``sample_weight`` and ``groups`` as in ``fit``;
            ``classes``, the labels of the outputs (0, 1, ... by default); ``costs``, what an answer of
            each specialist costs.

        Returns
        -------
        object
            A fitted ensemble whose ``predict``, ``fuse`` and other methods take a panel where
            others take X. Fusions are cross-fitted over five folds, in which groups stay together.

        Raises
        ------
        PanelError
            If the panel and its truths do not fit.
        """
        return fit_stored(cls, panel, y, **params)

    @abstractmethod
    def _finished(self, fused: NDArray[np.float64]) -> NDArray[np.float64]: ...

    @abstractmethod
    def _begin(self, y: Any, sample_weight: Any) -> None: ...

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
