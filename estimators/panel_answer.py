"""What a panel answered within its time, and which guarantee is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.panel_clock import Board
from estimators.replies import CHARGED, LATE, OK, QUARANTINED, Reply
from theory import SettledBudget, settle_budget

if TYPE_CHECKING:
    from xarray import Dataset


@dataclass(frozen=True, eq=False)
class PanelAnswer:
    """The panel of one request with NaN for those who are not in it, and why they are not.

    Attributes
    ----------
    panel : ndarray of float64, shape (specialist, output) or (sample, specialist, output)
        Admitted answers.
    status : ndarray of str, shape (specialist,) or (sample, specialist)
        ``ok``, ``abstained``, ``unasked``, ``late`` (no answer by the end), ``busy`` (earlier calls
        still running); and the faults ``raised``, ``died`` (its process), ``nonfinite``, ``shape``,
        ``type``, ``labels``, ``range``, ``quarantined`` (by a circuit breaker).
    latency : ndarray of float64, shape (specialist,)
        Seconds; NaN without an answer.
    errors : dict of str to str
        What was wrong, by name; up to 500 characters.
    names : tuple of str
        Of the specialists.
    outputs : tuple
        Classes, or empty.
    n_admitted, n_charged : ndarray of int, shape () or (sample,)
        Answers in the panel, and proved faults.
    n_byzantine : int
        How many of all specialists may be wrong.
    n_byzantine_used : ndarray of int, shape () or (sample,)
        Budget for the rule that fuses the panel; -1 where nobody can be heard.
    guaranteed : ndarray of bool, shape () or (sample,)
        Whether at most so many of the admitted can be wrong.
    elapsed : float
        Seconds.
    request : str
        A name for the records.
    """

    panel: NDArray[np.float64]
    status: NDArray[np.str_]
    latency: NDArray[np.float64]
    errors: dict[str, str]
    names: tuple[str, ...]
    outputs: tuple[Any, ...]
    n_admitted: NDArray[np.int64]
    n_charged: NDArray[np.int64]
    n_byzantine: int
    n_byzantine_used: NDArray[np.int64]
    guaranteed: NDArray[np.bool_]
    elapsed: float
    request: str

    def who(self, *statuses: str) -> list[str]:
        """Name the specialists with one of some statuses, in any sample.

        Parameters
        ----------
        *statuses : str
            As in ``status``.

        Returns
        -------
        list of str
        """
        rows = np.isin(self.status, statuses).reshape(-1, len(self.names)).any(axis=0)
        return [name for name, there in zip(self.names, rows, strict=True) if there]

    def to_xarray(self) -> Dataset:
        """Give the answer as a Dataset over sample (of a batch), specialist and output."""
        from xarray import Dataset

        batch = ("sample",) * (self.panel.ndim - 2)
        coords: dict[str, Any] = {"specialist": list(self.names)}
        if self.outputs:
            coords["output"] = list(self.outputs)
        return Dataset(
            {
                "panel": ((*batch, "specialist", "output"), self.panel),
                "status": ((*batch, "specialist"), self.status),
                "latency": (("specialist",), self.latency),
                "n_admitted": (batch, self.n_admitted),
                "n_charged": (batch, self.n_charged),
                "n_byzantine_used": (batch, self.n_byzantine_used),
                "guaranteed": (batch, self.guaranteed),
            },
            coords=coords,
            attrs={"n_byzantine": self.n_byzantine, "elapsed": self.elapsed, "request": self.request},
        )


@dataclass(frozen=True)
class Close:
    """What turns a board into an answer: names, and how budgets are settled."""

    names: tuple[str, ...]
    outputs: tuple[Any, ...]
    n_byzantine: int
    minimum: Callable[[int], int]
    spend: str
    shape: tuple[int, ...] | None
    proved: frozenset[int] = frozenset()
    preset: Mapping[int, Reply] = field(default_factory=dict)

    def answer(self, board: Board, *, elapsed: float, request: str) -> PanelAnswer:
        """Close a board.

        Parameters
        ----------
        board : Board
            Those still pending are late.
        elapsed : float
            Seconds.
        request : str
            Name of the request.

        Returns
        -------
        PanelAnswer
        """
        n = len(self.names)
        shape = board.shape or self.shape or (len(self.outputs) or 1,)
        batch, width = shape[:-1], shape[-1]
        panel = np.full((*batch, n, width), np.nan)
        status = np.full((*batch, n), LATE, dtype="<U11")
        errors: dict[str, str] = {}
        for i, name in enumerate(self.names):
            told = self.preset.get(i) or board.replies[i]
            if told is None:
                continue
            if told.values is not None and told.values.shape != shape:
                told = Reply("shape", text=f"shape {told.values.shape} instead of {shape}")
            status[..., i] = told.status if told.rows is None else told.rows
            if told.values is not None:
                panel[..., i, :] = told.values
            if told.text:
                errors[name] = told.text
        admitted = (status == OK).sum(axis=-1)
        charged = np.isin(status, list(CHARGED)).sum(axis=-1)
        held = [i for i in self.proved if self.preset[i].status == QUARANTINED]
        charged = charged + len(held)
        settled = self._settle(admitted, charged)
        return PanelAnswer(
            panel=panel,
            status=status,
            latency=board.latency,
            errors=errors,
            names=self.names,
            outputs=self.outputs,
            n_admitted=np.asarray(admitted),
            n_charged=np.asarray(charged),
            n_byzantine=self.n_byzantine,
            n_byzantine_used=np.array([one.n_byzantine for one in settled]).reshape(batch),
            guaranteed=np.array([one.guaranteed for one in settled]).reshape(batch),
            elapsed=elapsed,
            request=request,
        )

    def _settle(self, admitted: Any, charged: Any) -> list[SettledBudget]:
        known: dict[tuple[int, int], SettledBudget] = {}
        pairs = list(zip(np.ravel(admitted).tolist(), np.ravel(charged).tolist(), strict=True))
        for heard, left in set(pairs):
            found = settle_budget(
                self.n_byzantine, admitted=heard, charged=left, minimum=self.minimum, spend=self.spend
            )
            # A rule may accept nobody at all for a budget of 0; a panel of nobody promises nothing.
            known[heard, left] = found if heard else SettledBudget(-1, False)
        return [known[pair] for pair in pairs]
