"""What came of a deliberation in text, and what it gained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.chat.gains import text_gains
from fusion.deliberative import Ledger, Transcript
from theory import PanelError


@dataclass(frozen=True, eq=False)
class TextRun:
    """What came of a deliberation in text.

    Attributes
    ----------
    proba : ndarray of float64, shape (item, option)
        Verdicts; 0 at options that a question does not have, NaN rows where nobody answered.
    reasons : list of str or None
        Why the protocol's own end abstained, by item; ``proba`` is then the plurality of what was said.
    agents : tuple of str
        Who proposed, in the order of the axis "specialist".
    proposals : ndarray of float64, shape (item, specialist, option)
        Sealed proposals; NaN rows for abstentions.
    last : ndarray of float64, shape (item, specialist, option)
        The same after the last round.
    abstentions : list of list of (str or None)
        Reasons by item and agent of round 0.
    confidence : ndarray of float64, shape (item, specialist)
        As stated, of the sealed proposals: a feature for critics.
    position_bias : ndarray of float64, shape (item,)
        Of the judge, as in :func:`estimators.chat.judging.average_orders`; NaN without one.
    rounds : ndarray of int, shape (item,)
        Rounds of exchange held.
    stopped_by : list of str
        Which stop rule ended each item, as in :class:`fusion.deliberative.Protocol`; "silence" where nobody had
        answered, and nobody was to argue.
    n_options : ndarray of int, shape (item,)
        Options of each item.
    truth : ndarray of int, shape (item,), or None
        As given.
    ledger : Ledger
        What was used; ``ledger.stopped_by`` says which limit refused something, if one did.
    transcript : Transcript
        Record of all that was said.
    """

    proba: NDArray[np.float64]
    reasons: list[str | None]
    agents: tuple[str, ...]
    proposals: NDArray[np.float64]
    last: NDArray[np.float64]
    abstentions: list[list[str | None]]
    confidence: NDArray[np.float64]
    position_bias: NDArray[np.float64]
    rounds: NDArray[np.int64]
    stopped_by: list[str]
    n_options: NDArray[np.int64]
    truth: NDArray[np.int64] | None
    ledger: Ledger
    transcript: Transcript

    def gains(self, truth: Any = None, *, seed: int = 0) -> dict[str, Any]:
        """Compare the verdict with what the sealed proposals give without any exchange.

        Parameters
        ----------
        truth : array-like of int, shape (item,), optional
            Right options; those given to :func:`deliberate_text` by default.
        seed : int
            Of the folds of the stack.

        Returns
        -------
        dict
            accuracy; for the rivals stacking (cross-fitted linear stack of the sealed proposals), plurality and
            best_single (chosen with the truth: a high bar) their accuracy, gain_over_ them and its paired
            standard error, all None where there is no such rival; stacking_reason, which then says why;
            best_single_agent; coverage, position_bias, and calls per right answer. An abstention is not right,
            ties are shared evenly.

        Raises
        ------
        PanelError
            If truth is not one option number for each item.
        """
        given = self.truth if truth is None else truth
        right = read_truth("gains", given, self.n_options.tolist())
        told = text_gains(self.proba, self.proposals, right, self.n_options, seed=seed)
        best = told["best_single_agent"]
        bias = self.position_bias[~np.isnan(self.position_bias)]
        n_right = told["accuracy"] * len(right)
        return {
            **told,
            "best_single_agent": None if best is None else self.agents[best],
            "coverage": float(1.0 - np.isnan(self.proba[:, 0]).mean()),
            "position_bias": float(bias.mean()) if len(bias) else None,
            "calls_per_right": self.ledger.totals().calls / n_right if n_right else None,
        }


def read_truth(what: str, truth: Any, n_options: Sequence[int]) -> NDArray[np.int64]:
    """Read the numbers of right options.

    Parameters
    ----------
    what : str
        Who asks, for the message.
    truth : array-like of int, shape (item,)
        Numbers.
    n_options : sequence of int
        Options of each item.

    Returns
    -------
    ndarray of int, shape (item,)

    Raises
    ------
    PanelError
        If there is not one for each item, or an item does not have that option.
    """
    right = np.asarray(-1 if truth is None else truth)
    if right.shape != (len(n_options),) or right.dtype.kind not in "iu":
        raise PanelError(f"{what} needs truth, {len(n_options)} option numbers; got shape {right.shape}.")
    wrong = np.flatnonzero((right < 0) | (right >= np.asarray(n_options)))
    if len(wrong):
        place = int(wrong[0])
        raise PanelError(
            f"truth of item {place} is {right[place]}; its options are 0 to {n_options[place] - 1}."
        )
    return right.astype(np.int64)
