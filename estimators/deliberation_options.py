"""What a run needs of a classifier: who goes on, what is sealed, who is watched, what the judge says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.deliberation_memory import find_strangers, read_options
from estimators.hearing import seal
from estimators.panel import make_splits
from estimators.revising import revised_columns
from fusion.deliberative.odds import from_log_odds, log_odds
from theory import FaultWarning


class OptionRun:
    """The part of a deliberating classifier that a course asks; it reads what ``fit`` left."""

    def _goes_on(self, s: int, panel: Any, verdict: Any, valid: Any) -> NDArray[np.bool_]:
        several = valid.sum(axis=1) > 1
        if self.hearings_[s] is None:
            return np.asarray(several)  # nothing was learned: everybody is asked
        own = panel[:, self._places(self._stages[s])]
        return np.asarray(self._doors[s].goes_on(own, verdict) & several)

    def _blank(self, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        shape = (n, len(self.classes_))
        return np.zeros(shape), np.zeros((*shape, len(self._critic_names())))

    def _critic_names(self) -> list[str]:
        return [] if self.hearings_[-1] is None else self.hearings_[-1].critic_names_

    def _views(self, X: Any) -> list[Any]:
        return [critic.look(X, reset=False) for critic in self._lookers]

    def _sealed(self, panel: Any, valid: Any) -> NDArray[np.float64]:
        return seal(panel, valid)

    def _watch(self, panel: Any, valid: Any) -> tuple[int, ...]:
        """Say which specialists of stage 0 (in the order of names) no longer agree with the others as in fit."""
        if not self.quarantine or self._peers is None or self.hearings_[0] is None:
            return ()
        members = self._places(self._stages[0])
        return find_strangers(self._memory, self._peers, members, panel, valid, self._names_sorted)

    def _hear(self, s: int, tripped: tuple[int, ...], panel: Any, valid: Any, views: Any) -> tuple[Any, Any]:
        """Give the verdict of a stage and the scores of its critics."""
        hearing = self.hearings_[s]
        if hearing is None:
            odds = log_odds(panel, valid=valid, missing="abstain").mean(axis=1)
            return from_log_odds(odds[:, None, :], valid=valid)[:, 0], np.zeros((*valid.shape, 0))
        if tripped:
            if (s, tripped) not in self._refits:
                self._refits[s, tripped] = self._hearing(self._stages[s], tripped)
            hearing = self._refits[s, tripped]
        extra = None
        if self._revised and hearing is self.hearings_[-1]:
            extra = revised_columns(self.revision, self._revised, hearing, panel, valid, views)
        columns = hearing.critique(panel, valid=valid, views=views)
        return hearing.verdict(panel, valid=valid, views=views, critiques=columns, extra=extra), columns

    def _silence(self, valid: Any) -> NDArray[np.float64]:
        prior = np.where(valid, np.maximum(self._prior, 1e-6), 0.0)
        return np.asarray(prior / prior.sum(axis=1, keepdims=True))

    def _valid(self, X: Any, n: int) -> NDArray[np.bool_]:
        return read_options(self.n_options, X, n, len(self.classes_))

    def _splits(self, n: int, y: Any, groups: Any) -> list[Any]:
        if n < 4 or len(np.unique(y)) < 2:
            return []
        splits, reason = make_splits(
            self.critic_cv, np.zeros((n, 1)), y, classifier=True, groups=groups, random_state=self._seed
        )
        if not splits:
            warnings.warn(
                f"critics and judge cannot be cross-fitted ({reason}): verdicts are log pools of the proposals.",
                FaultWarning,
                stacklevel=7,
            )
        return splits

    def _header(self) -> dict[str, Any]:
        plan = self._bench.plan
        return {"protocol": plan.name, "specialists": list(self._names), "seed": self._seed}
