"""The out-of-fold panel: what the specialists say about samples that they were not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold, StratifiedKFold, check_cv
from sklearn.utils.parallel import Parallel, delayed

from estimators._compat import check_method_params
from estimators.asking import ask
from estimators.calibration import make_calibrator
from estimators.specialists import Specialist
from estimators.views import Views
from theory import FaultWarning, PanelError


@dataclass(frozen=True)
class Answers:
    """What one specialist said: its own outputs, and where it abstained as declared.

    Attributes
    ----------
    values : ndarray of shape (sample, output)
        In the order of the specialist's classes; NaN rows where it was absent.
    classes : ndarray or None
        Labels of the outputs of a classifier.
    absent : ndarray of bool, shape (sample,)
        Declared absence: no view, or ``on_error="abstain"``. Not-finite rows elsewhere are faults.
    failure : str
        Text of the exception behind the absence, or empty.
    """

    values: NDArray[np.float64]
    classes: NDArray[Any] | None
    absent: NDArray[np.bool_]
    failure: str = ""


def fit_one(
    specialist: Specialist,
    X: Any,
    y: Any,
    sample_weight: Any,
    rows: Any = None,
    metadata: dict[str, Any] | None = None,
) -> Specialist | str:
    """Fit a clone of one specialist on some rows.

    Parameters
    ----------
    specialist : Specialist
        Unfitted; it is cloned.
    X, y, sample_weight : array-like
        All samples.
    rows : array-like of int, optional
        Positions to fit on; all of them by default.
    metadata : dict, optional
        What else its model asked for in ``fit``; what has an entry per sample is cut like X.

    Returns
    -------
    Specialist or str
        The fitted clone; or, where ``on_error="abstain"``, the text of the exception.
    """
    member = clone(specialist)
    metadata = {} if metadata is None else metadata
    if rows is not None and not member.freeze:
        metadata = check_method_params(X, metadata, indices=rows)
        X, y = take_rows(X, rows), np.asarray(y)[rows]
        sample_weight = None if sample_weight is None else sample_weight[rows]
    try:
        return member.fit(X, y, sample_weight=sample_weight, **metadata)
    except Exception as error:
        if member.on_error == "abstain":
            return f"{type(error).__name__}: {error}"[:500]
        error.add_note(
            f"raised by specialist {member.name!r} in fit. Set on_error='abstain' to go on without it."
        )
        raise


def answer_one(member: Specialist | str, X: Any) -> Answers:
    """Ask one fitted specialist about some samples.

    Parameters
    ----------
    member : Specialist or str
        As :func:`fit_one` gave it.
    X : array-like or Views
        Samples.

    Returns
    -------
    Answers
    """
    n_samples = n_rows(X)
    if isinstance(member, str):
        return Answers(np.full((n_samples, 1), np.nan), None, np.ones(n_samples, dtype=bool), member)
    classes = getattr(member, "classes_", None)
    values, absent, failure = ask(member, X, 1 if classes is None else len(classes))
    return Answers(values, classes, absent, failure)


def out_of_fold(
    specialists: list[Specialist],
    fitted: list[Specialist | str],
    X: Any,
    y: Any,
    splits: list[tuple[NDArray[Any], NDArray[Any]]],
    *,
    sample_weight: Any = None,
    metadata: dict[str, dict[str, Any]] | None = None,
    n_jobs: int | None = None,
    done: Callable[[int, int], None] | None = None,
) -> list[list[tuple[NDArray[Any], Answers]]]:
    """Collect every specialist's answers to every fold it was not fitted on.

    Parameters
    ----------
    specialists : list of Specialist
        Unfitted.
    fitted : list of Specialist or str
        Fitted on all rows; the frozen ones are asked once and serve all folds.
    X, y, sample_weight : array-like
        All samples.
    splits : list of (train, test)
        Row positions.
    metadata : dict, optional
        By name of the specialist, what else its model asked for in ``fit``.
    n_jobs : int, optional
        Parallel jobs over (specialist, fold).
    done : callable, optional
        Called with the positions of specialist and fold after each.

    Returns
    -------
    list (specialist) of list (fold) of (test rows, Answers)
    """

    def one(specialist: Specialist, whole: Specialist | str, train: Any, test: Any) -> Answers:
        more = (metadata or {}).get(specialist.name)
        member = whole if specialist.freeze else fit_one(specialist, X, y, sample_weight, train, more)
        return answer_one(member, X if np.array_equal(test, every) else take_rows(X, test))

    every = np.arange(n_rows(X))  # with cv="prefit" all are one fold: no copy of the input
    tasks = [(s, f, train, test) for s, f in zip(specialists, fitted, strict=True) for train, test in splits]
    k, said = len(splits), []
    for answers in Parallel(n_jobs=n_jobs, return_as="generator")(delayed(one)(*task) for task in tasks):
        if done is not None:
            done(*divmod(len(said), k))
        said.append(answers)
    return [
        [(splits[j][1], answers) for j, answers in enumerate(said[i * k : (i + 1) * k])]
        for i in range(len(specialists))
    ]


def make_splits(
    cv: Any, X: Any, y: NDArray[Any], *, classifier: bool, groups: Any, random_state: Any
) -> tuple[list[tuple[NDArray[Any], NDArray[Any]]], str]:
    """Decide the folds; say why there are none.

    Parameters
    ----------
    cv : int, splitter, iterable of splits, "prefit" or "none"
        As in the ensemble.
    X, y, groups : array-like
        All samples.
    classifier : bool
        Whether folds are stratified by class.
    random_state : int, RandomState or None
        Shuffles integer folds if given.

    Returns
    -------
    splits : list of (train, test)
        Empty if there is no out-of-fold panel.
    reason : str
        Why it is empty.
    """
    n_samples = len(y)
    if cv == "none":
        return [], "cv='none'"
    if cv == "prefit":
        rows = np.arange(n_samples)
        return [(rows[:0], rows)], ""
    if isinstance(cv, int | np.integer) and groups is None:
        if classifier:
            classes, counts = np.unique(y, return_counts=True)
            folds = min(int(cv), int(counts.min()))
            if len(classes) < 2 or folds < 2:
                rare = classes.tolist()[counts.argmin()]
                return [], (
                    "y has one class" if len(classes) < 2 else f"class {rare!r} has {counts.min()} sample"
                )
        else:
            folds = min(int(cv), n_samples)
            if folds < 2:
                return [], f"there is {n_samples} sample"
        shuffle = random_state is not None
        splitter = (StratifiedKFold if classifier else KFold)(
            folds, shuffle=shuffle, random_state=random_state if shuffle else None
        )
    else:
        splitter = check_cv(cv, y, classifier=classifier)
        if isinstance(cv, int | np.integer):
            from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

            splitter = (StratifiedGroupKFold if classifier else GroupKFold)(int(cv))
    rows = np.zeros((n_samples, 1))
    return [(np.asarray(a), np.asarray(b)) for a, b in splitter.split(rows, y, groups)], ""


def align(
    answers: Answers, classes: NDArray[Any], *, name: str, absent_class: str, extra_class: str
) -> NDArray[np.float64]:
    """Put a classifier's answers in the order of the ensemble's classes, by label.

    Parameters
    ----------
    answers : Answers
        With its own classes.
    classes : ndarray
        The ensemble's classes.
    name : str
        The specialist's name.
    absent_class : {"missing", "zero"}
        What stands for a class that it cannot name: NaN or 0.
    extra_class : {"raise", "drop", "keep"}
        What to do with classes that the ensemble does not have.

    Returns
    -------
    ndarray of shape (sample, output)

    Raises
    ------
    PanelError
        If it names classes that are not in y.
    """
    if answers.classes is None:
        return np.full((len(answers.values), len(classes)), np.nan)
    own, values = answers.classes, answers.values
    broken = np.zeros(len(values), dtype=bool)
    if not np.isfinite(
        values.sum()
    ):  # row by row only where something is wrong: that takes ten times as long
        broken = ~np.isfinite(values).all(axis=1)
        values = np.where(broken[:, None], np.nan, values)  # one such cell spoils the row
    if len(own) == len(classes) and bool(np.all(own == classes)):
        return values
    position = {label: k for k, label in enumerate(classes.tolist())}
    extra = [label for label in own.tolist() if label not in position]
    if extra and extra_class == "raise":
        raise PanelError(
            f"specialist {name!r} predicts classes {extra} that are not in y. Set extra_class='keep' or 'drop'."
        )
    aligned = np.full((len(values), len(classes)), np.nan if absent_class == "missing" else 0.0)
    kept = [k for k, label in enumerate(own.tolist()) if label in position]
    aligned[:, [position[own.tolist()[k]] for k in kept]] = values[:, kept]
    if extra:
        mass = values[:, kept].sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            aligned = np.where(mass > 0, aligned / mass, np.nan)
    aligned[answers.absent | broken] = np.nan
    return aligned


def calibrate(
    folds: list[tuple[NDArray[Any], Answers]],
    kind: Any,
    y: NDArray[Any],
    classes: NDArray[Any],
    sample_weight: Any,
) -> tuple[Any, list[tuple[NDArray[Any], Answers]]]:
    """Fit a calibrator on all out-of-fold rows, and cross-fit it over the same folds.

    Parameters
    ----------
    folds : list of (test rows, Answers)
        One specialist's, uncalibrated.
    kind : str or transformer
        See :func:`estimators.calibration.make_calibrator`.
    y : ndarray
        Labels of all samples.
    classes : ndarray
        The specialist's classes; folds that miss some are left out of the fit.
    sample_weight : ndarray or None
        Weights of all samples.

    Returns
    -------
    calibrator : object
        Fitted on every fold.
    folds : list of (test rows, Answers)
        Each calibrated by the folds beside it; a single one by itself. A fold whose training rows
        lacked some of the classes cannot be calibrated: its answers are left out, with a warning.

    Raises
    ------
    PanelError
        If no row is left to calibrate on.
    """
    code = {label: k for k, label in enumerate(classes.tolist())}
    usable, spoke, lost = [], [], 0
    for rows, answers in folds:
        same = answers.classes is not None and list(answers.classes) == list(classes)
        known = np.array([label in code for label in y[rows].tolist()], dtype=bool)
        here = ~answers.absent & np.isfinite(answers.values).all(axis=1)
        lost += 0 if same else int(here.sum())
        spoke.append(here & same)
        usable.append(here & same & known)
    if lost:
        warnings.warn(
            f"{lost} out-of-fold answers come from folds that lacked some of the classes {list(classes)}; they "
            "cannot be calibrated and are left out.",
            FaultWarning,
            stacklevel=4,
        )

    def fitted(without: int | None) -> Any:
        scores, codes, weights = [], [], []
        for j, (rows, answers) in enumerate(folds):
            if j != without and usable[j].any():
                scores.append(answers.values[usable[j]])
                codes.append([code[label] for label in y[rows][usable[j]].tolist()])
                weights.append(None if sample_weight is None else sample_weight[rows][usable[j]])
        if not scores:
            raise PanelError("no out-of-fold row to calibrate on. Set calibration=None.")
        weight = [] if sample_weight is None else [np.concatenate(weights)]
        return make_calibrator(kind).fit(np.concatenate(scores), np.concatenate(codes), *weight)

    calibrated = []
    for j, (rows, answers) in enumerate(folds):
        values = np.full_like(answers.values, np.nan)
        if spoke[j].any():
            calibrator = fitted(j if len(folds) > 1 else None)
            values[spoke[j]] = calibrator.transform(answers.values[spoke[j]])
        absent = answers.absent | (np.isfinite(answers.values).all(axis=1) & ~spoke[j])
        calibrated.append((rows, Answers(values, answers.classes, absent, answers.failure)))
    return fitted(None), calibrated


def take_rows(X: Any, rows: Any) -> Any:
    """Take samples by position from an array, sparse matrix, DataFrame or Views."""
    if isinstance(X, Views):
        return X.take(rows)
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def n_rows(X: Any) -> int:
    """Count the samples."""
    return int(X.shape[0])
