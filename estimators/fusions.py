"""One way to apply any fusion to a panel: an operator, a learned fusion or a callable."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from estimators.columns import take_rows
from estimators.dynamic import DynamicSelection
from estimators.gating import Gate
from estimators.online import TrackRecord
from estimators.selection import DecorrelatedSelection, GreedySelection
from estimators.stacking import Arbiter
from estimators.truth import TruthInference
from estimators.weights import CovarianceWeights, SkillWeights, TopSpecialists
from fusion import Operator, get_operator, operator_names
from theory import BudgetError, FaultWarning, PanelError

_POOLS = ("mean", "linear_pool", "log_pool")

_LEARNED = {
    "covariance": lambda: CovarianceWeights(),
    "inverse_mse": lambda: SkillWeights("inverse_mse"),
    "accuracy": lambda: SkillWeights("accuracy"),
    "log_odds": lambda: SkillWeights("log_odds"),
    "nitzan_paroush": lambda: SkillWeights("nitzan_paroush"),
    "arbiter": lambda: Arbiter(),
    "best_single": lambda: TopSpecialists(1),
    "greedy": lambda: GreedySelection(),
    "decorrelated": lambda: DecorrelatedSelection(),
    "dawid_skene": lambda: TruthInference(),
    "dynamic": lambda: DynamicSelection(),
    "gate": lambda: Gate(),
    "track_record": lambda: TrackRecord(),
    "auto": lambda: _auto(),
}


def _auto() -> Any:
    from estimators.choice import AutoFusion  # it compares fusions, so it stands above this file

    return AutoFusion()


def learned_fusion_names() -> tuple[str, ...]:
    """Name the fusions that learn from a panel and its truth.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "arbiter" in learned_fusion_names()
    True
    """
    return tuple(_LEARNED)


def resolve_fusion(fusion: Any) -> Any:
    """Turn a name into a fusion; clone whatever else is given.

    Parameters
    ----------
    fusion : str, fusion.Operator, learned fusion or callable
        A learned fusion has ``fit(panel, y, task=...)`` and ``fuse(panel)``; a callable takes a
        panel (sample, specialist, output) and returns (sample, output).

    Returns
    -------
    object
        An operator, a fresh learned fusion, or the callable.

    Raises
    ------
    PanelError
        If the name is unknown or the object is none of these.

    Examples
    --------
    >>> resolve_fusion("median").name
    'median'
    """
    if isinstance(fusion, str):
        if fusion in _LEARNED:
            return _LEARNED[fusion]()
        if fusion not in operator_names():
            raise PanelError(
                f"there is no fusion {fusion!r}; there are {', '.join((*operator_names(), *_LEARNED))}."
            )
        return get_operator(fusion)
    if isinstance(fusion, Operator):
        return copy.copy(fusion)
    if hasattr(fusion, "fuse") and hasattr(fusion, "fit"):
        return clone(fusion)
    if callable(fusion):
        return fusion
    raise PanelError(f"fusion must be a name, an operator, a learned fusion or a callable; got {fusion!r}.")


def fusion_name(fusion: Any) -> str:
    """Name a fusion for tables and messages.

    Parameters
    ----------
    fusion : str, fusion.Operator, learned fusion or callable
        Any fusion.

    Returns
    -------
    str

    Examples
    --------
    >>> from fusion import TrimmedMean
    >>> fusion_name(TrimmedMean(n_byzantine=2))
    'trimmed_mean(2)'
    """
    if isinstance(fusion, str):
        return fusion
    if isinstance(fusion, Operator):
        budget = getattr(fusion, "n_byzantine", None)
        return fusion.name if budget is None else f"{fusion.name}({budget})"
    if isinstance(fusion, SkillWeights):
        return fusion.kind
    if isinstance(fusion, CovarianceWeights):
        return "covariance"
    if isinstance(fusion, Arbiter):
        return "arbiter"
    if isinstance(fusion, Gate):
        return "gate"
    if isinstance(fusion, DynamicSelection):
        return f"dynamic_{fusion.rule}"
    if isinstance(fusion, TruthInference):
        return fusion.model + "_discount" * (fusion.correlation == "discount")
    if isinstance(fusion, GreedySelection):
        return "greedy"
    if isinstance(fusion, DecorrelatedSelection):
        return "decorrelated"
    if isinstance(fusion, TopSpecialists):
        return "best_single" if fusion.k == 1 else f"top_{fusion.k}"
    if isinstance(fusion, TrackRecord):
        return "track_record"
    own = "auto" if hasattr(fusion, "candidates") else type(fusion).__name__
    return str(getattr(fusion, "__name__", own))


class PanelFuser:
    """Apply one fusion to panels with absences and faults.

    Parameters
    ----------
    fusion : str, fusion.Operator, learned fusion or callable
        What to apply.
    task : {"classification", "regression"}
        What the outputs are.
    short : {"raise", "relax", "prior"}
        What to do with samples that have fewer specialists than the operator needs.

    Raises
    ------
    PanelError
        If the operator does not fit the task.
    """

    def __init__(self, fusion: Any, *, task: str, short: str = "raise"):
        self.fusion = resolve_fusion(fusion)
        self.task = task
        self.short = short
        if task == "regression" and self.is_operator and self.fusion.row.domain != "real":
            raise PanelError(
                f"{self.fusion.name} fuses {self.fusion.row.domain}, not numbers. Use mean, median or trimmed_mean."
            )

    @property
    def is_operator(self) -> bool:
        """Whether the fusion is one of the registry."""
        return isinstance(self.fusion, Operator)

    @property
    def is_learned(self) -> bool:
        """Whether the fusion must be fitted on a panel and its truth."""
        return not self.is_operator and hasattr(self.fusion, "fuse")

    @property
    def convex(self) -> bool:
        """Whether probabilities stay probabilities when everybody is present."""
        return not self.is_operator or not self.fusion.row.coordinatewise or self.fusion.name in _POOLS

    @property
    def needs_full_rows(self) -> bool:
        """Whether a specialist must name every output to take part."""
        return self.is_operator and not self.fusion.row.coordinatewise and self.fusion.name not in _POOLS

    @property
    def needs_input(self) -> bool:
        """Whether a learned fusion looks at the input too."""
        return self.is_learned and bool(getattr(self.fusion, "needs_input", False))

    def fit(
        self,
        panel: NDArray[np.float64],
        y: Any,
        *,
        n_options: Any = None,
        sample_weight: Any = None,
        X: Any = None,
        folds: Any = None,
        groups: Any = None,
        costs: Any = None,
    ) -> None:
        """Fit a learned fusion; do nothing for the others.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            Answers to unseen samples.
        y : array-like
            Codes, or numbers.
        n_options : array-like of int, optional
            Number of options of each sample, for an :class:`Arbiter`.
        sample_weight : array-like, optional
            Weights of the samples.
        X : array-like or Views, optional
            Input of the samples, for fusions that look at it.
        folds, groups : array-like of shape (sample,), optional
            Folds that a choice among fusions is cross-fitted over, and samples that belong together.
        costs : array-like of shape (specialist,), optional
            What each specialist costs, for a selection, or a choice among some, that was given no costs of its own.
        """
        if not self.is_learned:
            return
        more: dict[str, Any] = {"n_options": n_options} if isinstance(self.fusion, Arbiter) else {}
        if self.needs_input:
            more["X"] = X
        if fusion_name(self.fusion) == "auto":
            more |= {"folds": folds, "groups": groups, "costs": costs}
        if costs is not None and getattr(self.fusion, "costs", costs) is None and self._is_priced():
            self.fusion.set_params(costs=np.asarray(costs, dtype=np.float64))
        self.fusion.fit(panel, y, task=self.task, sample_weight=sample_weight, **more)

    def _is_priced(self) -> bool:
        return getattr(self.fusion, "max_cost", None) is not None or getattr(self.fusion, "by_cost", False)

    def budget(self, n_specialists: int) -> int:
        """Count the faults that the fusion withstands among so many specialists.

        Parameters
        ----------
        n_specialists : int
            Size of the panel.

        Returns
        -------
        int
        """
        if not self.is_operator:
            return 0
        if self.fusion.row.takes_budget:
            share = self.fusion.n_byzantine
            return int(np.floor(share * n_specialists + 1e-9)) if isinstance(share, float) else int(share)
        return (n_specialists - 1) // 2 if self.fusion.row.breakdown == "1/2" else 0

    def fuse(
        self,
        panel: NDArray[np.float64],
        *,
        faults: NDArray[np.bool_] | None = None,
        names: Any = (),
        n_options: Any = None,
        X: Any = None,
        whole: bool = False,
        left: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float64]:
        """Fuse a panel.

        Parameters
        ----------
        panel : ndarray of shape (sample, specialist, output)
            NaN rows where a specialist was absent or at fault.
        faults : ndarray of bool, shape (sample, specialist), optional
            Which of the NaN rows are faults, and so count against the budget.
        names : sequence of str
            Names of the specialists, for messages.
        n_options : array-like of int, optional
            Number of options of each sample, for an :class:`Arbiter`.
        X : array-like or Views, optional
            Input of the samples, for fusions that look at it.
        whole : bool
            Whether the caller knows that every answer is finite; it is not looked at again then.
        left : ndarray of int64, shape (sample,), optional
            Filled with the wrong answers that the fusion still withstood in each sample.

        Returns
        -------
        ndarray of shape (sample, output)
            NaN where nobody answered (or too few did, with ``short="prior"``).

        Raises
        ------
        BudgetError
            If more specialists are at fault than the fusion withstands, or too few are present.
        PanelError
            If a callable gives another shape than (sample, output).

        Notes
        -----
        A class that nobody present can name gets probability 0. A callable sees the panel with NaN rows
        for the absent.
        """
        if left is not None:
            left[:] = self.budget(panel.shape[1])
        if whole:
            if self.is_operator:
                return np.asarray(self.fusion(panel, missing="raise"))
            return self._call(panel, np.ones(len(panel), dtype=bool), n_options, X)
        gaps = np.isnan(panel)
        present = ~gaps.all(axis=2)
        if faults is not None and faults.any():
            self._check_faults(faults, names)
        else:
            faults = None
        if self.task == "classification":
            panel = _unnamed_as_zero(panel, gaps, present)
        if not self.is_operator:
            return self._call(panel, present.any(axis=1), n_options, X)
        if present.all() and not np.isnan(panel).any():
            return np.asarray(self.fusion(panel, missing="raise"))
        return self._fuse_gaps(panel, present, faults, left)

    def _call(
        self, panel: NDArray[np.float64], somebody: NDArray[np.bool_], n_options: Any, X: Any = None
    ) -> NDArray[np.float64]:
        fused = np.full((len(panel), panel.shape[2]), np.nan)
        rows = panel if somebody.all() else panel[somebody]
        if not len(rows):
            return fused
        more: dict[str, Any] = {}
        if self.needs_input:
            more["X"] = X if X is None or somebody.all() else take_rows(X, np.flatnonzero(somebody))
        if isinstance(self.fusion, Arbiter) and n_options is not None:
            counts = np.broadcast_to(np.asarray(n_options), (len(panel),))
            more = {"n_options": counts[somebody]}
        call = self.fusion.fuse if self.is_learned else self.fusion
        answer = np.asarray(call(rows, **more), dtype=np.float64)
        if answer.shape == (len(rows),) and panel.shape[2] == 1:
            answer = answer[:, None]
        if answer.shape != (len(rows), panel.shape[2]):
            raise PanelError(
                f"{fusion_name(self.fusion)} gave shape {answer.shape} for a panel of shape {rows.shape}; (sample, "
                f"output) = {(len(rows), panel.shape[2])} was needed."
            )
        fused[somebody] = answer
        return fused

    def _fuse_gaps(
        self,
        panel: NDArray[np.float64],
        present: NDArray[np.bool_],
        faults: NDArray[np.bool_] | None,
        left: NDArray[np.int64] | None,
    ) -> NDArray[np.float64]:
        counts = present.sum(axis=1)
        spent = np.zeros(len(panel), dtype=int) if faults is None else faults.sum(axis=1)
        fused = np.full((len(panel), panel.shape[2]), np.nan)
        total = self.budget(panel.shape[1])
        short = np.zeros(len(panel), dtype=bool)
        for used in np.unique(spent):
            spare = max(total - int(used), 0)
            rule = self._with_budget(spare)
            if left is not None:
                left[spent == used] = spare
            needed = rule.minimum() if self.fusion.row.takes_budget else 1
            enough = (spent == used) & (counts >= max(needed, 1))
            if enough.any():
                fused[enough] = rule(panel[enough], missing="abstain")
            short |= (spent == used) & (counts > 0) & ~enough
        if short.any():
            self._fuse_short(panel, counts, short, fused, left)
        if left is not None and not self.fusion.row.takes_budget:
            left[:] = np.minimum(left, np.maximum(counts - 1, 0) // 2)  # breakdown 1/2 of those present
        return fused

    def _with_budget(self, n_byzantine: int) -> Any:
        if not self.fusion.row.takes_budget:
            return self.fusion
        return copy.copy(self.fusion).set_params(n_byzantine=n_byzantine)

    def _fuse_short(
        self,
        panel: NDArray[np.float64],
        counts: NDArray[Any],
        short: NDArray[np.bool_],
        fused: NDArray[np.float64],
        left: NDArray[np.int64] | None,
    ) -> None:
        rows = np.flatnonzero(short)
        text = (
            f"{len(rows)} of {len(panel)} samples have fewer specialists than {fusion_name(self.fusion)} needs "
            f"({self.fusion.minimum()}); first {rows[:3].tolist()}."
        )
        if self.short == "raise":
            raise BudgetError(f"{text} Set short='relax' or 'prior', or lower n_byzantine.")
        warnings.warn(f"{text} short={self.short!r} weakens the promise there.", FaultWarning, stacklevel=4)
        if self.short == "prior":
            return
        for count in np.unique(counts[rows]):
            spare = self.budget(panel.shape[1])
            while spare > 0 and self.fusion.minimum(spare) > count:
                spare -= 1
            chosen = rows[counts[rows] == count]
            if left is not None:
                left[chosen] = spare
            rule = self._with_budget(spare) if self.fusion.minimum(spare) <= count else get_operator("median")
            fused[chosen] = rule(panel[chosen], missing="abstain")

    def _check_faults(self, faults: NDArray[np.bool_], names: Any) -> None:
        allowed = self.budget(faults.shape[1])
        over = faults.sum(axis=1) > allowed
        if not over.any():
            return
        row = int(over.argmax())
        who = [str(names[i]) if len(names) else str(i) for i in np.flatnonzero(faults[row])]
        raise BudgetError(
            f"sample {row}: {len(who)} specialist{'s' * (len(who) > 1)} gave invalid values "
            f"({', '.join(map(repr, who[:5]))}), but {fusion_name(self.fusion)} withstands {allowed}. Use a robust "
            "fusion such as 'median', raise n_byzantine, or set calibration= or on_error='abstain'."
        )


def _unnamed_as_zero(
    panel: NDArray[np.float64], gaps: NDArray[np.bool_], present: NDArray[np.bool_]
) -> NDArray[np.float64]:
    if np.count_nonzero(gaps) == (present.size - np.count_nonzero(present)) * panel.shape[2]:
        return panel  # whole rows only: everybody present names every class
    unnamed = gaps.all(axis=1) & present.any(axis=1)[:, None]
    return np.where(unnamed[:, None, :] & present[:, :, None], 0.0, panel)
