"""How alike specialists err on labels: together, on the same samples, with the same wrong answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._agreement_statistics import (
    Counts,
    binary_statistics,
    capa_statistics,
    cohen_kappa,
    same_wrong_statistics,
    strata_statistics,
)
from theory._backends import refuse_other_samples
from theory._checks import check_choice, check_level, read_groups, read_options, read_strata, read_truth
from theory._exceptions import PanelError
from theory._results import add_warnings, labelled
from theory.labels import as_labels
from theory.panel import as_panel

if TYPE_CHECKING:
    import xarray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Agreement:
    """Agreement of errors, every statistic a (specialist, specialist) matrix.

    Attributes
    ----------
    phi, phi_ratio : ndarray
        Correlation of being wrong, and its share of the largest value two such error rates allow.
    q, y : ndarray
        Yule's Q = tanh(ln OR / 2) and Y = tanh(ln OR / 4), 1/2 added to every cell.
    disagreement : ndarray
        Share of samples on which exactly one is right.
    double_fault : ndarray
        Share of all samples on which both are wrong (joint, not conditional).
    kappa : ndarray
        Error consistency: agreement in being right or wrong beyond what the error rates explain.
    cohen : ndarray
        Cohen's kappa of the labels; it needs codes that mean the same on every sample.
    capa : ndarray
        Chance-adjusted probabilistic agreement, in answers, beyond what accuracies explain.
    same_wrong, same_wrong_chance : ndarray
        Share of the samples both answered wrongly on which they gave the same answer, and what
        uniform guessing among the wrong options would give.
    odds_ratio_strata, q_strata : ndarray or None
        With strata: the Mantel-Haenszel odds ratio of erring together, and Yule's Q of it. What ``q`` has
        beyond ``q_strata`` is difficulty that the strata explain.
    n_joint_wrong, n_pair : ndarray
        Samples both answered wrongly; samples both answered.
    accuracy, abstention : ndarray of shape (n_specialists,)
        Share right of all samples (``abstain="wrong"``) or of those answered; share not answered.
    mean : mapping of str to float
        Means over pairs, without those that are NaN; ``same_wrong_pooled`` counts joint errors of all pairs
        alike.
    se, ci : mapping of str to ndarray
        Standard errors, and intervals (lower, upper) along the first axis, of ``phi``, ``q``, ``y``,
        ``disagreement``, ``double_fault``, ``kappa``, ``capa``, ``same_wrong``, ``q_strata``, and the pooled
        number.
    names : tuple of str
        Names of the specialists.
    n : int
        Samples.
    warnings : tuple of str
        What a reader should know before using the numbers.
    """

    phi: Floats
    phi_ratio: Floats
    q: Floats
    y: Floats
    disagreement: Floats
    double_fault: Floats
    kappa: Floats
    cohen: Floats
    capa: Floats
    same_wrong: Floats
    same_wrong_chance: Floats
    n_joint_wrong: Floats
    n_pair: Floats
    accuracy: Floats
    abstention: Floats
    mean: Mapping[str, float]
    se: Mapping[str, Floats]
    ci: Mapping[str, Floats]
    names: tuple[str, ...]
    n: int
    warnings: tuple[str, ...] = ()
    odds_ratio_strata: Floats | None = None
    q_strata: Floats | None = None

    def to_xarray(self) -> xarray.Dataset:
        """Return a Dataset with the dims specialist and specialist_."""
        variables: dict[str, Any] = {key: getattr(self, key) for key in (*_PAIRS, "accuracy", "abstention")}
        variables |= {f"{key}_se": value for key, value in self.se.items() if value.ndim == 2}
        variables |= {f"{key}_ci": value for key, value in self.ci.items() if value.ndim == 3}
        return labelled(variables, self.names, {f"mean_{key}": value for key, value in self.mean.items()})

    def summary(self) -> str:
        """Return the means over pairs as text."""
        mean = self.mean
        lines = [
            f"errors of {len(self.names)} specialists on {self.n} samples, means over pairs",
            f"shared difficulty: phi {mean['phi']:.3f} ({mean['phi_ratio']:.3f} of its maximum), error "
            f"consistency {mean['kappa']:.3f}, both wrong {mean['double_fault']:.3f}",
            f"shared mistakes: same wrong answer {mean['same_wrong_pooled']:.3f} (chance "
            f"{mean['same_wrong_chance']:.3f}), CAPA {mean['capa']:.3f}",
        ]
        if self.q_strata is not None:
            lines.append(f"Yule's Q {mean['q']:.3f}, within strata {mean['q_strata']:.3f}")
        return add_warnings(lines, self.warnings)


_PAIRS = (
    "phi", "phi_ratio", "q", "y", "disagreement", "double_fault", "kappa", "cohen", "capa",
    "same_wrong", "same_wrong_chance", "n_joint_wrong", "n_pair", "odds_ratio_strata", "q_strata",
)  # fmt: skip


def error_agreement(
    answers: Any,
    y: ArrayLike,
    *,
    n_options: ArrayLike | None = None,
    ci: float = 0.95,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    abstain: Literal["wrong", "pairwise"] = "wrong",
) -> Agreement:
    """Measure how alike the errors of all pairs of specialists are.

    Parameters
    ----------
    answers : array-like, DataFrame or DataArray
        Label codes (sample, specialist), -1 = abstained; or probabilities (sample, specialist, output),
        a row of NaN = abstained. From probabilities the label is the largest, the first on ties.
    y : array-like of int, shape (sample,)
        Right codes. A code no specialist gave is allowed (nobody was right).
    n_options : int or array-like of shape (sample,), optional
        Options of every sample, at least 2; they set the chance level of CAPA and of the same wrong
        answer. Default: as many as there are codes (labels) or outputs (probabilities). For open answers
        give the number of distinct answers seen, at least 2.
    ci : float
        Level of the intervals.
    groups : array-like of shape (sample,), optional
        Labels of samples that belong together.
    strata : array-like of shape (sample,), optional
        Labels of samples of like difficulty or kind (subject, length, source). Not made from these answers: among
        samples on which a given number errs, even independent specialists seem to avoid each other.
    abstain : {"wrong", "pairwise"}
        Whether an abstention counts as wrong, or leaves the sample out for its pairs. ``cohen``, ``capa`` and
        ``same_wrong`` always use the samples both answered: two abstentions never agree.

    Returns
    -------
    Agreement
        All pairs at once, float64.

    Raises
    ------
    PanelError
        If codes are outside the options, probabilities do not sum to 1, or shapes or the labels of samples do
        not fit.

    Notes
    -----
    Difficulty that all specialists share alone makes ``phi`` positive; shared mistakes show in
    ``same_wrong`` against its chance level. Where a specialist is always right or always wrong, phi
    and kappa are NaN; where a pair never errs together, ``same_wrong`` is NaN and ``n_joint_wrong`` says so.
    Intervals: influence functions for phi, kappa and CAPA; the log odds ratio for Q and Y; Wilson for
    shares; Robins, Breslow and Greenland's variance within strata, which takes samples as independent even
    where ``groups`` are given.

    References
    ----------
    Yule, 1912; Mantel and Haenszel, 1959; Robins, Breslow and Greenland, 1986; Geirhos et al., *Beyond
    accuracy: quantifying trial-by-trial behaviour*, 2020 (error consistency); Goel et al., arXiv 2502.04313
    (CAPA); Kim et al., arXiv 2506.07962 (same wrong answer).

    Examples
    --------
    >>> result = error_agreement([[0, 0], [1, 1], [1, 2], [2, 2]], [0, 0, 0, 2], n_options=3)
    >>> float(result.phi[0, 1]), float(result.same_wrong[0, 1]), float(result.same_wrong_chance[0, 1])
    (1.0, 0.5, 0.5)
    """
    check_choice("abstain", abstain, ("wrong", "pairwise"))
    refuse_other_samples(answers, y)
    quantile = check_level(ci)
    probabilities: Floats | None = None
    if np.ndim(answers) == 3:
        codes, names, probabilities = _from_probabilities(answers)
    else:
        codes, names = as_labels(answers)
    if codes.ndim != 2 or len(codes) < 2:
        raise PanelError(
            f"answers need the axes (sample, specialist), 2 or more samples; got shape {codes.shape}."
        )
    n = len(codes)
    truth = read_truth(y, n)
    outputs = 0 if probabilities is None else probabilities.shape[2]
    options = read_options(n_options, n, max(int(max(codes.max(), truth.max())) + 1, outputs))
    outside = codes >= options[:, None]
    if outside.any():
        i, j = np.argwhere(outside)[0]
        raise PanelError(
            f"specialist {names[j]!r} gave code {codes[i, j]} on sample {i}, which has {options[i]} options. "
            "Codes run from 0 to n_options - 1; -1 abstains."
        )
    group = read_groups(groups, n)
    counts = Counts(codes, truth, options, abstain, group)

    values: dict[str, Floats] = {}
    se: dict[str, Floats] = {}
    interval: dict[str, Floats] = {}
    found = [
        binary_statistics(counts, quantile),
        same_wrong_statistics(counts, quantile),
        capa_statistics(counts, probabilities, truth, quantile),
    ]
    if strata is not None:
        found.append(strata_statistics(counts, read_strata(strata, n), quantile))
    for statistics in found:
        values |= statistics.values
        se |= statistics.se
        interval |= statistics.ci
    values["cohen"] = cohen_kappa(counts)
    pooled = values.pop("same_wrong_pooled")

    mean, notes = _means(values, names)
    mean["same_wrong_pooled"] = float(pooled)
    silent = float((codes < 0).mean())
    if silent:
        how = "count as wrong" if abstain == "wrong" else "leave their sample out for their pairs"
        notes.append(
            f"{silent:.1%} of the answers are abstentions and {how}; they never agree with each other"
        )
    base = n if abstain == "wrong" else np.maximum(counts.answered.sum(axis=0), 1)
    return Agreement(
        **values,
        accuracy=counts.correct.sum(axis=0) / base,
        abstention=1.0 - counts.answered.mean(axis=0),
        mean=mean,
        se=se,
        ci=interval,
        names=names,
        n=n,
        warnings=tuple(notes),
    )


def _from_probabilities(answers: Any) -> tuple[NDArray[np.int64], tuple[str, ...], Floats]:
    panel, wrap = as_panel(answers)
    values = panel.astype(np.float64)
    gone = np.isnan(values).all(axis=2)
    partly = np.isnan(values).any(axis=2) & ~gone
    if partly.any():
        i, j = np.argwhere(partly)[0]
        raise PanelError(
            f"specialist {wrap.names[j]!r} left out some outputs of sample {i}. Give 0 where it sees no chance, or "
            "a row of NaN to abstain."
        )
    values[gone] = 0.0
    if not np.isfinite(values).all() or (values < 0).any():
        raise PanelError("probabilities must be finite and >= 0; a row of NaN abstains.")
    sums = values.sum(axis=2)
    off = ~gone & (np.abs(sums - 1.0) > 1e-3)
    if off.any():
        i, j = np.argwhere(off)[0]
        raise PanelError(
            f"probabilities must sum to 1; sample {i}, specialist {wrap.names[j]!r} sums to {sums[i, j]:.4g}. "
            "Normalise them first."
        )
    return np.where(gone, -1, values.argmax(axis=2)), wrap.names, values


def _means(values: Mapping[str, Floats], names: tuple[str, ...]) -> tuple[dict[str, float], list[str]]:
    pairs = np.triu_indices(len(names), 1)
    notes, mean = [], {}
    for key, matrix in values.items():
        off = matrix[pairs]
        known = ~np.isnan(off)
        mean[key] = float(off[known].mean()) if known.any() else float("nan")
        if not known.all() and key in ("phi", "same_wrong"):
            why = "a specialist never varies" if key == "phi" else "two never err together"
            notes.append(
                f"{key} is NaN for {int((~known).sum())} of {len(off)} pairs ({why}); means leave them out"
            )
    return mean, notes
