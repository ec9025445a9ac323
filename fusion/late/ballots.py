"""Approval votes and Borda counts, and how many replaced ballots a winner is certain to survive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice, read_weights
from fusion._faults import Rule, Unclean
from fusion._operator import Operator
from fusion._run import ordered_sum, run
from fusion.late.votes import _vote_weights
from theory._exceptions import BudgetError, PanelError
from theory.panel import as_panel


def approval_vote(
    panel: Any,
    *,
    threshold: float = 0.5,
    top: int | None = None,
    weights: Any = None,
    missing: str = "fault",
    excess: str = "raise",
) -> Any:
    """Give each output the share of specialists that approve of it.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Scores or probabilities.
    threshold : float, default 0.5
        A specialist approves of the outputs that it scores at least so high.
    top : int, optional
        A specialist approves of its `top` highest scores instead, the first outputs on ties.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Weight of each ballot; `vote_weights` makes them from accuracies.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is an error of the budget (BudgetError), an abstention (all NaN), or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        Shares in [0, 1] that need not sum to 1. `decide` turns them into labels.

    Raises
    ------
    BudgetError
        If an answer is not finite (use missing="abstain"), or nobody voted.
    PanelError
        If the panel, the weights or an option cannot be read, or a row is partly NaN with missing="abstain".

    Notes
    -----
    NaN is never approved of. The weights that `ApprovalVote().weights` gives weigh the ballots, not the scores.

    References
    ----------
    Brams and Fishburn (1978), Approval voting.

    Examples
    --------
    >>> approval_vote([[0.5, 0.5, 0.0], [0.0, 0.6, 0.4]])
    array([0.5, 1. , 0. ])
    """
    rule = _approval_rule(threshold, top)
    return run(panel, rule, "fused", weights=weights, missing=missing, excess=excess)


def borda_count(panel: Any, *, weights: Any = None, missing: str = "fault", excess: str = "raise") -> Any:
    """Give each output the share of all comparisons with other outputs that it wins.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Scores or probabilities; only their order counts.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Weight of each ballot.
    missing : {"fault", "abstain", "raise"}, default "fault"
        As in `approval_vote`.
    excess : {"raise", "nan"}, default "raise"
        As in `approval_vote`.

    Returns
    -------
    array of shape (..., output)
        Shares that sum to 1; with one output, 1.

    Raises
    ------
    BudgetError
        If an answer is not finite (use missing="abstain"), or nobody voted.
    PanelError
        If the panel or the weights cannot be read, or a row is partly NaN with missing="abstain".

    Notes
    -----
    NaN wins no comparison. A ballot gives each output the number of outputs that it scores lower, and half a
    point for each equal score; the K(K-1)/2 points of a ballot are shared.

    References
    ----------
    Borda (1781), Memoire sur les elections au scrutin.

    Examples
    --------
    >>> borda_count([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]).round(3)
    array([0.333, 0.5  , 0.167])
    """
    return run(panel, _borda_rule(), "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class ApprovalVote(Operator):
    """Approval vote; see `approval_vote`.

    Parameters
    ----------
    threshold : float, default 0.5
        A specialist approves of the outputs that it scores at least so high.
    top : int, optional
        A specialist approves of its `top` highest scores instead.

    Examples
    --------
    >>> ApprovalVote(top=2)([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]])
    array([0.5, 1. , 0.5])
    """

    name: ClassVar[str] = "approval_vote"
    threshold: float = 0.5
    top: int | None = None

    def _rule(self) -> Rule:
        return _approval_rule(self.threshold, self.top)


@dataclass(eq=False)
class BordaCount(Operator):
    """Borda count; see `borda_count`.

    Examples
    --------
    >>> BordaCount()([[0.5, 0.3, 0.2]]).round(3)
    array([0.667, 0.333, 0.   ])
    """

    name: ClassVar[str] = "borda_count"

    def _rule(self) -> Rule:
        return _borda_rule()


def certified_faults(
    panel: Any, *, rule: str | Operator = "plurality_vote", weights: Any = None, missing: str = "fault"
) -> NDArray[np.int64]:
    """Count the ballots that may be replaced by any others without changing the winner.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Scores; probabilities for the linear pool.
    rule : str or Operator, default "plurality_vote"
        How ballots are counted: ``"plurality_vote"``, ``"approval_vote"``, ``"borda_count"`` or
        ``"linear_pool"``, or such an operator with its parameters.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Weight of each ballot.
    missing : {"fault", "abstain"}, default "fault"
        A non-finite answer is an error, or an abstention (all NaN): a ballot that was not cast and is not
        replaced.

    Returns
    -------
    ndarray of int64, shape (...)
        The largest number f such that the winner stays the only winner, whichever f ballots are replaced by
        whatever; -1 where there is no single winner.

    Raises
    ------
    BudgetError
        If an answer is not finite.
    PanelError
        If the panel, the weights or the rule cannot be read, or the linear pool is given no probabilities.

    Notes
    -----
    Exact: winner a withstands f ballots if and only if for every other output c the lead
    sum_i alpha_i (s_ia - s_ic) exceeds the f largest alpha_i (R + s_ia - s_ic), s the points of a ballot and
    R the most that one ballot can give one output over another. Weighted sums and pools must exceed it by
    1e-12 of all weight.

    References
    ----------
    Levine and Feizi (2021), Deep partition aggregation, theorem 1, is the case of equal plurality votes.

    Examples
    --------
    >>> certified_faults([[0.9, 0.1]] * 5 + [[0.2, 0.8]] * 2)
    array(1)
    """
    from fusion._registry import get_operator

    check_choice("missing", missing, ("fault", "abstain"))
    operator = get_operator(rule)
    if operator.name not in ("plurality_vote", "approval_vote", "borda_count", "linear_pool"):
        raise PanelError(
            f"certified_faults counts ballots of plurality_vote, approval_vote, borda_count or linear_pool; "
            f"got {operator.name!r}."
        )
    values, wrap = as_panel(panel)
    *batch, n, k = values.shape
    rows = values.reshape(-1, n, k).astype(np.float64)
    alpha = read_weights(weights, tuple(batch), wrap.names)
    absent = np.zeros(rows.shape[:2], dtype=np.bool_)
    if missing == "abstain":
        absent |= np.isnan(rows).all(axis=2)
    if alpha is not None:
        absent |= alpha == 0.0
    broken = ~np.isfinite(rows).all(axis=2) & ~absent
    if broken.any():
        sample, i = np.argwhere(broken)[0]
        raise BudgetError(
            f"specialist {wrap.names[i]!r} gave a non-finite answer in sample {int(sample)}; a ballot must be whole. "
            "Clean the panel, or make the row all NaN with missing='abstain'."
        )
    if operator.name == "linear_pool":
        _check_probabilities(rows, absent, wrap.names)
    present = np.where(absent[:, :, None], 0.0, rows)
    points = np.where(absent[:, :, None], 0.0, _points(operator, present))
    mass = np.where(absent, 0.0, 1.0 if alpha is None else alpha)
    exact = alpha is None and operator.name != "linear_pool"
    most = float(k - 1) if operator.name == "borda_count" else 1.0
    result = np.empty(len(rows), dtype=np.int64)
    step = max(1, 500_000 // max(n * k, 1))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        result[part] = _survived(points[part], mass[part], most, 0.0 if exact else 1e-12)
    return result.reshape(batch)


def _survived(points: Floats, mass: Floats, most: float, margin: float) -> NDArray[np.int64]:
    n_samples, _, k = points.shape
    total = ordered_sum(mass[:, :, None] * points, 1)
    winner = np.argmax(total, axis=1)
    ahead = np.take_along_axis(points, winner[:, None, None], axis=2) - points
    lead = ordered_sum(mass[:, :, None] * ahead, 1)
    # An abstainer casts no ballot that could be replaced; its weight is 0.
    swing = -np.sort(-mass[:, :, None] * (most + ahead), axis=1)
    lost = np.concatenate([np.zeros((n_samples, 1, k)), np.cumsum(swing, axis=1)], axis=1)
    holds = lead[:, None] > lost + margin * most * ordered_sum(mass, 1)[:, None, None]
    holds |= (np.arange(k) == winner[:, None])[:, None]
    # Losses only grow with every ballot, so the first failure ends the count.
    found: NDArray[np.int64] = np.logical_and.accumulate(holds.all(axis=2), axis=1).sum(axis=1) - 1
    cast = (mass > 0.0).sum(axis=1)
    return np.asarray(np.minimum(found, cast), dtype=np.int64)


def _check_probabilities(rows: Floats, absent: NDArray[np.bool_], names: tuple[str, ...]) -> None:
    total = rows.sum(axis=2)
    bad = ~absent & ((np.abs(total - 1.0) > 1e-4) | (rows < 0.0).any(axis=2))
    if bad.any():
        sample, i = np.argwhere(bad)[0]
        raise PanelError(
            f"certified_faults needs probabilities for the linear pool; the row of specialist {names[i]!r} "
            f"(sample {int(sample)}) sums to {float(total[sample, i]):.6g}. Normalise it."
        )


def _points(operator: Operator, rows: Floats) -> Floats:
    """Points that each ballot gives each output."""
    if operator.name == "linear_pool":
        return rows
    if operator.name == "borda_count":
        return _borda_points(rows)
    if operator.name == "approval_vote":
        params = operator.get_params()
        _approval_rule(**params)
        return _approvals(rows, params["threshold"], params["top"])
    first = np.argmax(rows, axis=2)[:, :, None]
    return np.asarray(np.arange(rows.shape[2]) == first, dtype=np.float64)


def _approvals(rows: NDArray[Any], threshold: float, top: int | None) -> Floats:
    if top is None:
        return np.asarray(rows >= threshold, dtype=np.float64)
    order = np.argsort(-rows, axis=2, kind="stable")[:, :, : int(top)]
    ballots = np.zeros(rows.shape)
    np.put_along_axis(ballots, order, 1.0, axis=2)
    return ballots


def _borda_points(rows: NDArray[Any]) -> Floats:
    points = np.zeros(rows.shape)
    for other in range(rows.shape[2]):
        column = rows[:, :, other, None]
        points += (rows > column) + 0.5 * (rows == column)
    return points - 0.5


def _ballot_rule(name: str, tally: Any) -> Rule:
    def fuse(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
        n_samples, n, k = rows.shape
        out = np.empty((n_samples, k), dtype=rows.dtype)
        step = max(1, 200_000 // max(n * k, 1))
        for start in range(0, n_samples, step):
            part = slice(start, start + step)
            ballots = tally(rows[part])
            if alpha is None:
                out[part] = ordered_sum(ballots, 1) / n
            else:
                mass = alpha if len(alpha) == 1 else alpha[part]
                out[part] = ordered_sum(mass[:, :, None] * ballots, 1)
        return out, ~np.isfinite(rows).all(axis=(1, 2))

    return Rule(name=name, fuse=fuse, weigh=_vote_weights, gradient="none")


def _approval_rule(threshold: float, top: int | None) -> Rule:
    if top is not None and (isinstance(top, bool) or not isinstance(top, int | np.integer) or top < 1):
        raise PanelError(f"top must be a whole number >= 1, or None; got {top!r}. Use None for a threshold.")
    if isinstance(threshold, bool) or not np.isfinite(threshold):
        raise PanelError(f"threshold must be a finite number; got {threshold!r}. Use 0.5 for probabilities.")
    return _ballot_rule("approval_vote", lambda rows: _approvals(rows, threshold, top))


def _borda_rule() -> Rule:
    def tally(rows: NDArray[Any]) -> Floats:
        k = rows.shape[2]
        return _borda_points(rows) / (k * (k - 1) / 2) if k > 1 else np.ones(rows.shape)

    return _ballot_rule("borda_count", tally)
