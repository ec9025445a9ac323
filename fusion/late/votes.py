"""Votes: each specialist's first choice, counted or weighed; from shares to labels."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion._arguments import Floats, check_choice, read_weights
from fusion._faults import Rule, Unclean
from fusion._operator import Operator
from fusion._run import run
from theory._exceptions import BudgetError, PanelError
from theory.labels import as_labels

_FEW = 16  # outputs
_MANY = 64  # samples: below, more columns are begun than values compared


def plurality_vote(panel: Any, *, weights: Any = None, missing: str = "fault", excess: str = "raise") -> Any:
    """Give each output the share of specialists that score it highest.

    Parameters
    ----------
    panel : array-like, shape (..., specialist, output)
        Scores or probabilities; each specialist votes for its largest output, the first one on ties.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Weight of each vote; `vote_weights` makes them from accuracies.
    missing : {"fault", "abstain", "raise"}, default "fault"
        A non-finite answer is an error of the budget (BudgetError), an abstention (all NaN), or an error.
    excess : {"raise", "nan"}, default "raise"
        Too many faults raise, or give NaN and one FaultWarning.

    Returns
    -------
    array of shape (..., output)
        Shares that sum to 1. `decide` turns them into labels.

    Raises
    ------
    BudgetError
        If an answer is not finite (use missing="abstain"), or nobody voted.
    PanelError
        If the panel or the weights cannot be read, or a row is partly NaN with missing="abstain".

    Notes
    -----
    NaN never wins a vote. The weights that `PluralityVote().weights` gives weigh the ballots, not the scores.

    References
    ----------
    Nitzan and Paroush (1982), Optimal decision rules in uncertain dichotomous choice situations.

    Examples
    --------
    >>> plurality_vote([[0.9, 0.1], [0.6, 0.4], [0.0, 1.0]]).round(3)
    array([0.667, 0.333])
    """
    return run(panel, _vote_rule(), "fused", weights=weights, missing=missing, excess=excess)


@dataclass(eq=False)
class PluralityVote(Operator):
    """Plurality or weighted vote; see `plurality_vote`.

    Examples
    --------
    >>> PluralityVote()([[0.9, 0.1], [0.6, 0.4]])
    array([1., 0.])
    """

    name: ClassVar[str] = "plurality_vote"

    def _rule(self) -> Rule:
        return _vote_rule()


def _vote_rule() -> Rule:
    return Rule(name="plurality_vote", fuse=_vote_core, weigh=_vote_weights, gradient="none")


def _vote_core(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
    unclean = ~np.isfinite(rows).all(axis=(1, 2))
    few = rows.shape[2] <= _FEW and rows.shape[0] >= _MANY
    shares = _share_columns(rows, alpha) if few else _count_votes(_first_choices(rows), rows.shape[2], alpha)
    return shares.astype(rows.dtype, copy=False), unclean


def _share_columns(rows: NDArray[Any], alpha: Floats | None) -> Floats:
    """Give the shares of the first choices, sample by sample along whole columns; in rows with NaN anything.

    The weights are added in the order of the specialists, as a loop would: the bits are those of `_count_votes`.
    """
    columns = np.ascontiguousarray(rows.transpose(2, 1, 0))
    best = columns[0]
    for column in columns[1:]:
        best = np.maximum(best, column)
    free = np.ones(best.shape, dtype=bool)
    table = np.empty((len(rows), rows.shape[2]))
    for k, column in enumerate(columns):
        chosen = free & (column == best)
        free &= ~chosen
        table[:, k] = np.add.reduce(chosen if alpha is None else chosen * alpha.T, axis=0, dtype=np.float64)
    total = table.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(table, total, out=np.full_like(table, np.nan), where=total > 0.0)
    return shares


def _first_choices(rows: NDArray[Any]) -> NDArray[np.intp]:
    """Find the largest output of every answer, the first one on ties; in rows with NaN any of them."""
    if rows.shape[2] > _FEW:
        return np.asarray(np.argmax(rows, axis=2), dtype=np.intp)
    # Along a short axis argmax takes ten times as long as comparing columns.
    best, found = rows[:, :, 0], np.zeros(rows.shape[:2], dtype=np.intp)
    for k in range(1, rows.shape[2]):
        found[rows[:, :, k] > best] = k
        best = np.maximum(best, rows[:, :, k])
    return found


def _vote_weights(rows: NDArray[Any], f: int, alpha: Floats | None) -> tuple[NDArray[Any], Unclean]:
    n_samples, n = rows.shape[:2]
    weights = np.full((1, n), 1.0 / n) if alpha is None else alpha
    return np.broadcast_to(weights, (n_samples, n)).copy(), ~np.isfinite(rows).all(axis=(1, 2))


def _count_votes(votes: NDArray[np.intp], n_outputs: int, alpha: Floats | None) -> Floats:
    """Add up the weights of the votes for each output.

    Parameters
    ----------
    votes : ndarray of int, shape (sample, specialist)
        The output each specialist votes for; -1 abstains.
    n_outputs : int
        Number of outputs.
    alpha : ndarray of float64, shape (1 or sample, specialist), or None
        Weights of the votes; None counts heads.

    Returns
    -------
    ndarray of float64, shape (sample, output)
        Shares that sum to 1; NaN where nobody voted.
    """
    n_samples = votes.shape[0]
    cells = votes + 1 + (n_outputs + 1) * np.arange(n_samples)[:, None]
    heads = None if alpha is None else np.broadcast_to(alpha, votes.shape).ravel()
    counts = np.bincount(cells.ravel(), weights=heads, minlength=n_samples * (n_outputs + 1))
    table = counts.reshape(n_samples, n_outputs + 1)[:, 1:].astype(np.float64)
    total = table.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(table, total, out=np.full_like(table, np.nan), where=total > 0.0)
    return shares


def vote_shares(
    labels: Any, *, n_outputs: int | None = None, weights: Any = None, excess: str = "raise"
) -> Floats:
    """Count votes that are given as labels.

    Parameters
    ----------
    labels : array-like of int, shape (..., specialist)
        The output each specialist votes for; -1 abstains.
    n_outputs : int, optional
        Number of outputs; the largest label + 1 unless given.
    weights : array-like of shape (specialist,) or (..., specialist), optional
        Weight of each vote.
    excess : {"raise", "nan"}, default "raise"
        What a sample does in which nobody votes.

    Returns
    -------
    ndarray of float64, shape (..., output)
        Shares of the votes cast, summing to 1.

    Raises
    ------
    BudgetError
        If nobody with a positive weight votes in a sample, unless ``excess="nan"``.
    PanelError
        If a label is out of range.

    Notes
    -----
    Abstentions are left out of the count; the other weights are made to sum to 1.

    References
    ----------
    Nitzan and Paroush (1982), Optimal decision rules in uncertain dichotomous choice situations.

    Examples
    --------
    >>> vote_shares([[0, 0, 1], [1, -1, -1]], n_outputs=2).round(3).tolist()
    [[0.667, 0.333], [0.0, 1.0]]
    """
    check_choice("excess", excess, ("raise", "nan"))
    values, names = as_labels(labels)
    batch = values.shape[:-1]
    votes = values.reshape(-1, values.shape[-1])
    top = int(votes.max(initial=-1))
    if n_outputs is not None and (isinstance(n_outputs, bool) or not isinstance(n_outputs, int | np.integer)):
        raise PanelError(f"n_outputs must be a whole number; got {n_outputs!r}. Use the number of options.")
    n_outputs = max(top + 1, 1) if n_outputs is None else int(n_outputs)
    if top >= n_outputs or (votes < -1).any():
        bad = top if top >= n_outputs else int(votes.min())
        raise PanelError(
            f"labels must lie in 0..{n_outputs - 1}, or be -1 for an abstention; got {bad}. Raise n_outputs."
        )
    shares = _count_votes(votes, n_outputs, read_weights(weights, batch, names))
    lost = np.isnan(shares).any(axis=1)
    if lost.any() and excess == "raise":
        raise BudgetError(
            f"nobody voted in sample {int(np.flatnonzero(lost)[0])}. Drop it, or use excess='nan'."
        )
    return shares.reshape(*batch, n_outputs)


def vote_weights(accuracy: Any, *, n_outputs: int, allow_negative: bool = False) -> Floats:
    """Turn accuracies into weights for a vote.

    Parameters
    ----------
    accuracy : array-like of shape (specialist,)
        Probability of each specialist to be right, clipped to [1e-3, 1 - 1e-3].
    n_outputs : int
        Number of outputs K.
    allow_negative : bool, default False
        Whether a specialist worse than chance votes against its choice; it gets weight 0 otherwise.

    Returns
    -------
    ndarray of float64, shape (specialist,)
        log((K-1) p / (1-p)), not normalised. All zero if nobody beats chance.

    Raises
    ------
    PanelError
        If an accuracy is not in [0, 1] or there are fewer than two outputs.

    Notes
    -----
    NaN is refused. Optimal for specialists that err independently and evenly over the wrong outputs.

    References
    ----------
    Nitzan and Paroush (1982), Optimal decision rules in uncertain dichotomous choice situations, theorem 1.

    Examples
    --------
    >>> vote_weights([0.9, 0.6, 0.4], n_outputs=2).round(3)
    array([2.197, 0.405, 0.   ])
    """
    values = np.asarray(accuracy, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0.0) & (values <= 1.0)).all():
        raise PanelError(
            f"accuracy must be one number in [0, 1] per specialist; got {values!r}. Give shares, not percent."
        )
    if isinstance(n_outputs, bool) or n_outputs < 2:
        raise PanelError(
            f"n_outputs must be at least 2; got {n_outputs!r}. With one output there is no vote."
        )
    p = np.clip(values, 1e-3, 1.0 - 1e-3)
    weights: Floats = np.log((n_outputs - 1) * p / (1.0 - p))
    return weights if allow_negative else np.maximum(weights, 0.0)


def decide(
    shares: Any, *, ties: str = "lowest", prior: Any = None, rng: np.random.Generator | None = None
) -> Any:
    """Choose the output with the largest share.

    Parameters
    ----------
    shares : array-like, shape (..., output)
        Fused answers: vote shares, probabilities or scores.
    ties : {"lowest", "prior", "abstain", "random"}, default "lowest"
        Among equal largest shares: the first output, the one with the largest prior (the first of those),
        the label -1, or one drawn by `rng`.
    prior : array-like of shape (output,), optional
        For ``ties="prior"``.
    rng : numpy.random.Generator, optional
        For ``ties="random"``.

    Returns
    -------
    ndarray, tensor or DataArray of int64, shape (...)
        Labels; -1 where tied (``ties="abstain"``) or where a share is NaN.

    Raises
    ------
    PanelError
        If an option, the prior or the generator is missing or cannot be read.

    Notes
    -----
    Ties are exact equality: shares of counted votes tie exactly.

    References
    ----------
    scikit-learn issue 26398 asks for exactly this choice.

    Examples
    --------
    >>> decide([[0.5, 0.5], [0.2, 0.8]], ties="abstain")
    array([-1,  1])
    """
    check_choice("ties", ties, ("lowest", "prior", "abstain", "random"))
    values, back = _last_axis(shares, keep=False)
    with np.errstate(invalid="ignore"):
        top = values == values.max(axis=-1, keepdims=True)
    if ties == "prior":
        if prior is None or np.shape(prior) != values.shape[-1:]:
            raise PanelError(
                f"ties='prior' needs a prior of shape {values.shape[-1:]}; got "
                f"{None if prior is None else np.shape(prior)}. Pass prior=class frequencies."
            )
        trust = _floats(np.asarray(prior))
        if not np.isfinite(trust).all():
            raise PanelError(
                f"the prior holds non-finite values: {trust!r}. Give one finite number per output."
            )
        labels = np.argmax(np.where(top, trust, -np.inf), axis=-1)
    elif ties == "random":
        if not isinstance(rng, np.random.Generator):
            raise PanelError(
                f"ties='random' needs a Generator; got {rng!r}. Pass rng=numpy.random.default_rng(seed)."
            )
        labels = np.argmax(np.where(top, rng.random(values.shape), -1.0), axis=-1)
    else:
        labels = np.argmax(top, axis=-1)
    labels = np.asarray(labels, dtype=np.int64)
    if ties == "abstain":
        labels = np.where(top.sum(axis=-1) > 1, -1, labels)
    return back(np.where(np.isnan(values).any(axis=-1), -1, labels))


def project_to_simplex(fused: Any) -> Any:
    """Move answers to the nearest point of the probability simplex.

    Parameters
    ----------
    fused : array-like, shape (..., output)
        Answers of a rule that may leave the simplex, such as a coordinate-wise one.

    Returns
    -------
    array of shape (..., output)
        Non-negative, sums to 1 over the last axis. In the kind and dtype of `fused`.

    Raises
    ------
    PanelError
        If there is no output axis or a value is not finite.

    Notes
    -----
    NaN and infinity are refused. The projection is non-expansive, so a certificate survives it; the largest
    output stays the largest; a row of equal numbers becomes uniform. Dividing by the sum does none of this.

    References
    ----------
    Duchi, Shalev-Shwartz, Singer, Chandra (2008), Efficient projections onto the l1-ball, figure 1.

    Examples
    --------
    >>> project_to_simplex([0.75, 0.5, -1.0])
    array([0.625, 0.375, 0.   ])
    """
    from fusion._run import is_differentiable

    if is_differentiable(fused):
        from fusion._torch.gradients import simplex_with_gradient

        return simplex_with_gradient(fused)
    values, back = _last_axis(fused, keep=True)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise PanelError(f"project_to_simplex got {count} non-finite values. Drop those samples first.")
    wide = values.astype(np.result_type(values.dtype, np.float64))
    # The largest first, so that adding a constant to a row cannot swallow the 1.
    wide = wide - wide.max(axis=-1, keepdims=True)
    ordered = np.sort(wide, axis=-1)[..., ::-1]
    level = (1.0 - np.cumsum(ordered, axis=-1)) / np.arange(1, values.shape[-1] + 1)
    last = values.shape[-1] - 1 - np.argmax((ordered + level > 0.0)[..., ::-1], axis=-1)
    lift = np.take_along_axis(level, last[..., None], axis=-1)
    return back(np.maximum(wide + lift, 0.0).astype(values.dtype, copy=False))


def _last_axis(shares: Any, *, keep: bool) -> tuple[NDArray[Any], Any]:
    """Read (..., output) of any kind, and say how to give back a result with or without that axis."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(shares, torch.Tensor):
        tensor = shares.detach()
        values = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()
        dtype = shares.dtype if keep and shares.is_floating_point() else None

        def to_torch(result: NDArray[Any]) -> Any:
            return torch.as_tensor(np.ascontiguousarray(result)).to(device=shares.device, dtype=dtype)

        return _floats(values), to_torch
    if hasattr(shares, "dims") and hasattr(shares, "coords"):
        if "output" not in shares.dims:
            raise PanelError(f"the shares need a dim 'output'; got {shares.dims}. Rename the last one.")
        moved = shares.transpose(..., "output")

        def to_xarray(result: NDArray[Any]) -> Any:
            return (moved if keep else moved.isel(output=0, drop=True)).copy(data=result)

        return _floats(np.asarray(moved.values)), to_xarray
    return _floats(np.asarray(shares)), lambda result: result


def _floats(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind not in "iubf" or values.ndim == 0 or values.shape[-1] == 0:
        raise PanelError(
            f"fused answers have shape (..., output) and hold numbers; got {values.dtype}, shape {values.shape}."
        )
    return values if values.dtype.kind == "f" else values.astype(np.float64)
