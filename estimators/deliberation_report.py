"""What a deliberation gained, over stacking the sealed proposals and over the best single specialist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.critic import Adjudicator
from estimators.hearing import Hearing
from fusion.deliberative.critics import proposed_options
from fusion.deliberative.decision import Decision
from theory.collective import (
    Score,
    calibration,
    conflict_resolution,
    group_accuracy,
    hypothesis_diversity,
    oracle_gap,
)


@dataclass(frozen=True, eq=False)
class Deliberated:
    """One deliberation about a batch of samples.

    Attributes
    ----------
    proba : ndarray of shape (sample, output)
        The verdict.
    decision : fusion.deliberative.Decision
        Accept, escalate or defer.
    transcript : fusion.deliberative.Transcript
        A record per round and agent, with digests of the arrays.
    ledger : dict
        Calls (answers of one specialist to one sample) in all and by specialist, seconds, ``stopped_by``.
    dataset : xarray.Dataset
        Proposals, critiques and verdict over sample, round, specialist, critic and output.
    report : dict
        Escalation rate, quarantined specialists, cost; under ``"fit"`` the gains measured in ``fit``.
    """

    proba: NDArray[np.float64]
    decision: Decision
    transcript: Any
    ledger: dict[str, Any]
    dataset: Any
    report: dict[str, Any]


@dataclass(frozen=True, eq=False)
class DeliberatedNumbers:
    """One deliberation about a batch of samples whose answers are numbers.

    Attributes
    ----------
    value, sd : ndarray of shape (sample,)
        The verdict and the predicted standard deviation of its error.
    interval : ndarray of shape (sample, 2)
        Conformal lower and upper ends.
    decision : fusion.deliberative.Decision
        Accept, escalate or defer, by expected squared error.
    transcript : fusion.deliberative.Transcript
        A record per round and agent, with digests of the arrays.
    ledger : dict
        Calls (answers of one specialist to one sample) in all and by specialist, seconds, ``stopped_by``.
    dataset : xarray.Dataset
        Proposals, critiques (predicted errors), verdict and interval over sample, round, specialist and output.
    report : dict
        Escalation rate, cost; under ``"fit"`` the gains measured in ``fit``.
    """

    value: NDArray[np.float64]
    sd: NDArray[np.float64]
    interval: NDArray[np.float64]
    decision: Decision
    transcript: Any
    ledger: dict[str, Any]
    dataset: Any
    report: dict[str, Any]


def option_dataset(course: Any, names: list[str], classes: Any) -> Any:
    """Give a course about options as an xarray Dataset.

    Parameters
    ----------
    course : Course
        Of a classifier.
    names : list of str
        Specialists in the order of their list.
    classes : ndarray
        Labels of the options.

    Returns
    -------
    xarray.Dataset
    """
    from xarray import Dataset

    return Dataset(
        {
            "proposal": (("sample", "round", "specialist", "output"), course.panel[:, None]),
            "critique": (("sample", "output", "critic"), course.critiques),
            "verdict": (("sample", "output"), course.verdict),
            "asked": (("sample", "specialist"), course.asked),
            "stage": (("sample",), course.stage),
        },
        coords={"round": [0], "specialist": names, "output": classes, "critic": course.critics},
    )


def number_dataset(course: Any, names: list[str], columns: list[str], interval: Any) -> Any:
    """Give a course about numbers as an xarray Dataset.

    Parameters
    ----------
    course : Course
        Of a regressor.
    names, columns : list of str
        Specialists in the order of their list, and in that of the critics.
    interval : ndarray of shape (sample, 2)
        Ends.

    Returns
    -------
    xarray.Dataset
    """
    from xarray import Dataset

    predicted = course.critiques[:, [columns.index(name) for name in names]]
    return Dataset(
        {
            "proposal": (("sample", "round", "specialist", "output"), course.panel[:, None]),
            "critique": (("sample", "round", "specialist"), predicted[:, None]),
            "verdict": (("sample", "output"), course.verdict[:, :1]),
            "sd": (("sample",), course.verdict[:, 1]),
            "interval": (("sample", "end"), interval),
            "asked": (("sample", "specialist"), course.asked),
            "stage": (("sample",), course.stage),
        },
        coords={"round": [0], "specialist": names, "output": [0], "end": ["low", "high"]},
    )


def judge_report(
    memory: Any, hearing: Any, names: list[str], critics: Any, adjudicator: Adjudicator, seed: int
) -> tuple[dict[str, Any], Any]:
    """Compare cross-fitted verdicts with stacking, plurality and the best single specialist.

    Parameters
    ----------
    memory : object
        Sealed training proposals.
    hearing : Hearing or Meeting
        Fitted.
    names : list of str
        Specialists in the order of the columns.
    critics : list of (str, Critic)
        The critics.
    adjudicator : Adjudicator
        The judge's parameters, with which the stack is fitted too.
    seed : int
        Of estimators without a seed.

    Returns
    -------
    report : dict
        Each gain a dict of value and standard_error (paired).
    correlation : DataArray, dims (critic, specialist), or None
        Of errors.
    """
    y, panel, valid, weight = memory.y, memory.panel, memory.valid, memory.weight
    words = proposed_options(panel, valid=valid)
    judged = hearing.verdict_.argmax(axis=1)
    judged_by_critics = isinstance(hearing, Hearing) and bool(critics)
    stack = hearing
    if judged_by_critics or not isinstance(hearing, Hearing) or hearing.revised_:
        stack = Hearing([], adjudicator, seed=seed).fit(
            panel, y, valid=valid, views=[], splits=memory.splits, sample_weight=weight
        )
    stacked = stack.verdict_.argmax(axis=1)
    single, single_name = _best_single(words, y, memory.splits, names, weight)
    rng = np.random.default_rng(seed)
    crowd = _plurality(words, valid, rng)
    quality = calibration(hearing.verdict_, y, sample_weight=weight)

    def gain(other: NDArray[Any]) -> dict[str, float]:
        return _told(group_accuracy(judged, y, against=other, sample_weight=weight))

    conflict = conflict_resolution(words, judged, y, plurality=crowd, sample_weight=weight)
    report: dict[str, Any] = {
        "n": len(y),
        "accuracy": _told(group_accuracy(judged, y, sample_weight=weight)),
        "log_loss": _told(quality),
        "calibration": quality.details,
        "stack_accuracy": _told(group_accuracy(stacked, y, sample_weight=weight)),
        "stack_log_loss": _told(calibration(stack.verdict_, y, sample_weight=weight, n_draws=1)),
        "plurality_accuracy": _told(group_accuracy(crowd, y, sample_weight=weight)),
        "best_single": single_name,
        "best_single_accuracy": _told(group_accuracy(single, y, sample_weight=weight)),
        "gain_over_stack": gain(stacked),
        "gain_over_best_single": gain(single),
        "hypothesis_diversity": _told(hypothesis_diversity(panel, sample_weight=weight)),
        "conflict_resolution": _told(conflict) | conflict.details,
        "oracle_gap": _told(oracle_gap(words, judged, y, sample_weight=weight)),
        "inverse_temperature": hearing.inverse_temperature_,
    }
    report["critic_gain"] = report["gain_over_stack"] if judged_by_critics else None
    return report | hearing.told_, _critic_correlation(hearing, words, y, names, hearing.critic_names_)


def _told(score: Score) -> dict[str, float]:
    return {"value": score.value, "standard_error": score.standard_error}


def _best_single(words: Any, y: Any, splits: Any, names: list[str], weight: Any) -> tuple[NDArray[Any], str]:
    """Choose on the training rows of each fold and answer on its test rows: no luck of the best of many."""
    share = np.ones(len(y)) if weight is None else weight
    right = (words == y[:, None]) * share[:, None]
    said = np.full(len(y), -1)
    for train, test in splits:
        said[test] = words[test, int(right[train].sum(axis=0).argmax())]
    return said, names[int(right.sum(axis=0).argmax())]


def _plurality(words: Any, valid: Any, rng: np.random.Generator) -> NDArray[Any]:
    heads = (words[:, :, None] == np.arange(valid.shape[1])).sum(axis=1) * 1.0
    heads = np.where(valid, heads + rng.random(heads.shape) * 0.5, -1.0)  # ties are drawn
    return np.asarray(heads.argmax(axis=1))


def _critic_correlation(hearing: Any, words: Any, y: Any, names: list[str], critics: list[str]) -> Any:
    if not critics:
        return None
    from xarray import DataArray

    wrong = (words != y[:, None]).astype(np.float64)
    own = (hearing.critic_scores_.argmax(axis=1) != y[:, None]).astype(np.float64)
    a, b = own - own.mean(axis=0), wrong - wrong.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0)[:, None] * (b**2).sum(axis=0)[None, :])
    table = np.divide(a.T @ b, scale, out=np.zeros_like(scale), where=scale > 0.0)
    return DataArray(table, dims=("critic", "specialist"), coords={"critic": critics, "specialist": names})
