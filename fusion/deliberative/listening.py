"""A revision as one object: who listens to whom, how far, how it is bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fusion._operator import Parameters
from fusion.deliberative._reading import Floats
from fusion.deliberative.revision import cap_revision, complete_graph, evidence_pool, friedkin_johnsen
from theory._exceptions import PanelError


def skill_influence(correlation: Any, skill: Any, *, max_weight: float = 1.0) -> Floats:
    """Weigh peers by what they know that others do not.

    Parameters
    ----------
    correlation : array-like of shape (specialist, specialist_)
        Error correlation R.
    skill : array-like of shape (specialist,)
        Skill of each, such as log(p (K - 1)/(1 - p)).
    max_weight : float, default 1.0
        Largest weight of one peer, in (0, 1]; what is cut off goes to the others.

    Returns
    -------
    ndarray of float64, shape (specialist, specialist_)
        Rows are max(R^+ skill, 0) without the own entry, made to sum to 1; uniform where nothing is left.

    Raises
    ------
    PanelError
        If shapes differ, values are not finite, or the cap leaves too little for m - 1 peers.

    Notes
    -----
    With the pseudo-inverse, exact clones share the weight of one. NaN is refused.

    Examples
    --------
    >>> skill_influence([[1, 0, 0], [0, 1, 1], [0, 1, 1]], [1.0, 1.0, 1.0])[0].round(2).tolist()
    [0.0, 0.5, 0.5]
    """
    r, s = np.asarray(correlation, dtype=np.float64), np.asarray(skill, dtype=np.float64)
    m = len(s)
    if r.shape != (m, m) or s.ndim != 1 or not (np.isfinite(r).all() and np.isfinite(s).all()):
        raise PanelError(f"correlation and skill must be finite and fit; got {r.shape} and {s.shape}.")
    if not 0.0 < max_weight <= 1.0 or max_weight * (m - 1) < 1.0:
        raise PanelError(f"max_weight={max_weight} cannot give {m - 1} peers a sum of 1. Raise it.")
    worth = np.maximum(np.linalg.pinv(r, hermitian=True) @ s, 0.0)
    worth[worth < 1e-12 * max(float(worth.max()), 1e-300)] = 0.0
    w = np.tile(worth, (m, 1))
    np.fill_diagonal(w, 0.0)
    total = w.sum(axis=1, keepdims=True)
    w = np.where(total > 0.0, w / np.where(total > 0.0, total, 1.0), complete_graph(m))
    for _ in range(m):
        over = w > max_weight * (1.0 + 1e-12)
        if not over.any():
            break
        full = w >= max_weight
        free = np.where(full, 0.0, w)
        left = 1.0 - max_weight * full.sum(axis=1, keepdims=True)
        mass = free.sum(axis=1, keepdims=True)
        peers = ~full & ~np.eye(m, dtype=bool)
        even = peers / np.maximum(peers.sum(axis=1, keepdims=True), 1)
        rest = np.where(mass > 0.0, free / np.where(mass > 0.0, mass, 1.0), even)
        w = np.where(full, max_weight, rest * left)
    return w


@dataclass(eq=False)
class Revision(Parameters):
    """How specialists may revise after they have seen critiques; see `friedkin_johnsen` and `evidence_pool`.

    Parameters
    ----------
    mode : {"average", "evidence"}, default "average"
        Averaging to a fixed point, or one addition of the peers' evidence.
    max_susceptibility : float, default 0.9
        s_i = max_susceptibility (1 - q_i), q_i the critic's probability that i is right.
    rounds : int, optional
        Rounds of averaging; the fixed point by default. Evidence is added once.
    robust : {"median", "trimmed_mean"}, optional
        In the place of weighted averages.
    tv_cap, flip_margin : float, optional
        As in `cap_revision`; support are the critics' probabilities.
    max_weight : float, default 1.0
        Largest weight of one peer.

    Examples
    --------
    >>> Revision(tv_cap=0.2).get_params()["mode"]
    'average'
    >>> Revision(tv_cap=1.0)([[1.0, -1.0], [0.0, 0.0]], right=[0.5, 1.0]).round(2)
    array([[ 0.55, -0.55],
           [ 0.  ,  0.  ]])
    """

    name: ClassVar[str] = "revision"
    mode: str = "average"
    max_susceptibility: float = 0.9
    rounds: int | None = None
    robust: str | None = None
    tv_cap: float | None = None
    flip_margin: float | None = None
    max_weight: float = 1.0

    def check(self) -> None:
        """Refuse parameters that give no revision.

        Raises
        ------
        PanelError
            If the mode is unknown, s reaches 1, or evidence is to be counted in several rounds.
        """
        if self.mode not in ("average", "evidence"):
            raise PanelError(f"mode must be 'average' or 'evidence'; got {self.mode!r}.")
        if not 0.0 <= self.max_susceptibility <= 0.9:
            raise PanelError(
                f"max_susceptibility={self.max_susceptibility!r} lies in [0, 0.9]: near 1 there is no fixed point."
            )
        if self.mode == "evidence" and self.rounds not in (None, 1):
            raise PanelError(
                f"rounds={self.rounds} in evidence mode counts evidence twice; use mode='average', or one round."
            )

    def __call__(
        self,
        odds: Any,
        *,
        right: Any,
        weights: Any = None,
        kappa: float = 1.0,
        support: Any = None,
        valid: Any = None,
    ) -> Any:
        """Revise log-odds.

        Parameters
        ----------
        odds : array-like, shape (..., specialist, output)
            Sealed log-odds.
        right : array-like of shape (..., specialist)
            The critic's probability that each is right.
        weights : array-like, optional
            As in `friedkin_johnsen`.
        kappa : float, default 1.0
            As in `evidence_pool`.
        support : array-like of shape (..., output), optional
            What speaks for each option.
        valid : array-like, optional
            Which options exist.

        Returns
        -------
        array, shape (..., specialist, output)
        """
        self.check()
        s = self.max_susceptibility * (1.0 - np.asarray(right, dtype=np.float64))
        if self.mode == "evidence":
            moved = evidence_pool(odds, weights=weights, susceptibility=s, kappa=kappa)
        else:
            moved = friedkin_johnsen(
                odds,
                weights=None if self.robust else weights,
                susceptibility=s,
                robust=self.robust,
                rounds=self.rounds,
            )
        if self.tv_cap is None and (self.flip_margin is None or support is None):
            return moved
        margin = None if support is None else self.flip_margin
        return cap_revision(odds, moved, tv_cap=self.tv_cap, support=support, flip_margin=margin, valid=valid)
