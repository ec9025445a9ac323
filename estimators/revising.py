"""A revision that has to earn its place in front of the judge."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.hearing import Hearing
from fusion.deliberative.critics import proposed_options, skill_weights
from fusion.deliberative.listening import Revision, skill_influence
from fusion.deliberative.odds import from_log_odds
from fusion.deliberative.topologies import topology
from theory import PanelError


def earn_revision(owner: Any, memory: Any, hearing: Hearing) -> tuple[Hearing, dict[str, Any]]:
    """Compare a judge that sees revised opinions with one that does not.

    Parameters
    ----------
    owner : DeliberativeClassifier
        Whose revision it is.
    memory : object
        Sealed training proposals.
    hearing : Hearing
        Fitted without revision.

    Returns
    -------
    hearing : Hearing
        The better one; without revision unless its log loss is lower by two paired standard errors.
    told : dict
        For ``report_``; of a revision in use also its weights and kappa.
    """
    revision = owner.revision
    if not isinstance(revision, Revision):
        raise PanelError(f"revision must be a fusion.deliberative.Revision or None; got {revision!r}.")
    revision.check()
    m = memory.panel.shape[1]
    if m < 2:
        return hearing, {"used": False, "reason": "one specialist has no peers"}
    told: dict[str, Any] = {"used": False}
    wrong = (proposed_options(memory.panel, valid=memory.valid) != memory.y[:, None]).astype(np.float64)
    r = _correlation(wrong, memory.weight)
    told["kappa"] = float(np.clip(m / r.sum(), 1.0 / m, 1.0))
    if isinstance(owner.topology, str) and owner.topology == "broadcast":
        skill = skill_weights(memory.accuracy, memory.panel.shape[2])
        told["weights"] = skill_influence(r, skill, max_weight=max(revision.max_weight, 1.0 / (m - 1)))
    elif isinstance(owner.topology, str):
        told["weights"] = topology(owner.topology, m)
    else:
        # The caller counts specialists in the order of the list, the hearing in that of their names.
        w = np.asarray(owner.topology, dtype=np.float64)
        told["weights"] = w[np.ix_(owner._order, owner._order)]
    right = (
        hearing.right_.mean(axis=0) if len(hearing.critics_) else np.tile(memory.accuracy, (len(memory.y), 1))
    )
    extra = _columns(
        revision, told, hearing, memory.panel, memory.valid, right, _support(hearing.critic_scores_)
    )
    other = Hearing(hearing.critics, hearing.adjudicator, seed=hearing.seed).fit(
        memory.panel,
        memory.y,
        valid=memory.valid,
        views=memory.views,
        splits=memory.splits,
        sample_weight=memory.weight,
        extra=extra,
    )
    rows = np.arange(len(memory.y))
    saved = np.log(np.maximum(other.verdict_[rows, memory.y], 1e-6))
    saved -= np.log(np.maximum(hearing.verdict_[rows, memory.y], 1e-6))
    share = np.ones(len(saved)) if memory.weight is None else memory.weight
    share = share / share.sum()
    gain = float(share @ saved)
    error = float(np.sqrt((share**2 * (saved - gain) ** 2).sum()))
    told |= {"log_loss_gain": gain, "standard_error": error}
    if gain > 2.0 * error:
        return other, told | {
            "used": True,
            "reason": "it lowers the log loss by more than two standard errors",
        }
    return hearing, told | {"reason": "switched off: it does not lower the log loss by two standard errors"}


def revised_columns(
    revision: Revision, told: dict[str, Any], hearing: Hearing, panel: Any, valid: Any, views: list[Any]
) -> NDArray[np.float64]:
    """Give the judge's further column: the mean of the revised log-odds.

    Parameters
    ----------
    revision : Revision
        In use.
    told : dict
        As `earn_revision` gave it.
    hearing : Hearing
        Fitted with the column.
    panel, valid, views : object
        As in ``Hearing.verdict``.

    Returns
    -------
    ndarray of shape (sample, output, 1)
    """
    if hearing.critics_:
        right = np.mean(
            [c.right(panel, valid=valid, view=v) for c, v in zip(hearing.critics_, views, strict=True)],
            axis=0,
        )
    else:
        right = np.tile(hearing.sealed_.accuracy, (len(panel), 1))
    scores = hearing.critique(panel, valid=valid, views=views)
    return _columns(revision, told, hearing, panel, valid, right, _support(scores))


def _columns(
    revision: Revision,
    told: dict[str, Any],
    hearing: Hearing,
    panel: Any,
    valid: Any,
    right: Any,
    support: Any,
) -> NDArray[np.float64]:
    odds = hearing.sealed_.odds(panel, valid)
    spoke = ~np.isnan(panel).any(axis=2) & (told["weights"].sum(axis=1) > 0.0)
    # Who hears nobody keeps its opinion; who abstains stays at the prior: nothing is made of silence.
    revised = revision(
        odds,
        right=np.where(spoke, right, 1.0),
        weights=told["weights"],
        kappa=told["kappa"],
        support=support,
        valid=valid,
    )
    return np.asarray(np.where(valid, revised.mean(axis=1), 0.0)[:, :, None])


def _support(scores: NDArray[np.float64]) -> NDArray[np.float64] | None:
    if not scores.shape[2]:
        return None
    return np.asarray(from_log_odds(scores.mean(axis=2)[:, None, :])[:, 0])


def _correlation(wrong: NDArray[np.float64], weight: Any) -> NDArray[np.float64]:
    share = np.ones(len(wrong)) if weight is None else weight
    centred = wrong - np.average(wrong, axis=0, weights=share)
    cov = (centred * share[:, None]).T @ centred
    sd = np.sqrt(np.maximum(cov.diagonal(), 1e-12))
    r = cov / sd[:, None] / sd[None, :]
    np.fill_diagonal(r, 1.0)
    return np.asarray(r)
