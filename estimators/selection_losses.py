"""Losses of an average that one more specialist joins, for all candidates at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory import PanelError

_FLOOR = float(np.finfo(np.float64).eps)
_BLOCK = 16  # factors of 2.2e-16 or more: their product stays above the smallest double
_CELLS = 40_000  # doubles that stay in the second cache


def selection_loss(
    values: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64] | None,
    *,
    loss: str,
    task: str,
) -> Any:
    """Set up the loss of a growing average.

    Parameters
    ----------
    values : ndarray of shape (sample, specialist, output)
        Answers; NaN where a specialist is absent.
    target : ndarray of shape (sample, output)
        One-hot rows, or numbers.
    weight : ndarray of shape (sample,), or None
        Weights of the samples.
    loss : {"auto", "log_loss", "brier", "error", "mse"}
        As in :class:`GreedySelection`.
    task : {"classification", "regression"}
        What the target is.

    Returns
    -------
    object
        With ``candidates()``, the loss with each specialist added, ``heard``, who answered a sample of
        positive weight, ``add(j)`` and ``name``.

    Raises
    ------
    PanelError
        If the loss is unknown or does not fit the task, or nobody answered anything.
    """
    fits = ("log_loss", "brier", "error") if task == "classification" else ("mse",)
    if loss not in ("auto", *fits):
        raise PanelError(f"loss must be 'auto' or one of {', '.join(fits)} for {task}; got {loss!r}.")
    gaps = np.isnan(values)
    mass = np.ones(len(values)) if weight is None else weight
    if not gaps.any():
        here = np.ones(values.shape[:2], dtype=bool)
    else:
        here = ~(gaps.all(axis=2) if task == "classification" else gaps.any(axis=2))
        values = np.where(here[:, :, None], np.where(gaps, 0.0, values), target[:, None, :])
        heard = here.any(axis=1)
        if not heard.any():
            raise PanelError("no specialist answered any sample; there is nobody to choose.")
        if not heard.all():  # nobody's choice changes a sample that nobody answered
            values, here, target, mass = values[heard], here[heard], target[heard], mass[heard]
    if mass.sum() <= 0:
        raise PanelError("no specialist answered a sample of positive weight; there is nobody to choose.")
    if loss == "auto":
        loss = "mse" if task == "regression" else ("brier" if _votes(values, here) else "log_loss")
    kind = {"log_loss": _LogLoss, "error": _ErrorRate}.get(loss, _SquaredError)
    return kind(values, here, target, mass / mass.sum(), loss)


class _Average:
    """A sum of answers minus truth, its number of answers, and what stands in where it has none."""

    def __init__(
        self,
        values: NDArray[np.float64],
        here: NDArray[np.bool_],
        target: NDArray[np.float64],
        share: NDArray[np.float64],
        name: str,
    ):
        self.name, self.share, self.target = name, share, target
        self.full = bool(here.all())
        self.heard = here[share > 0].any(axis=0)
        self.here = (
            np.broadcast_to(1.0, here.T.shape)
            if self.full
            else np.ascontiguousarray(here.T).astype(np.float64)
        )
        self.count = np.zeros(len(values))
        self._start(values)

    def _start(self, values: NDArray[np.float64]) -> None:
        # absent specialists hold the truth: their errors are 0
        self.errors = np.ascontiguousarray((values - self.target[:, None, :]).transpose(1, 0, 2))
        self.total = np.zeros_like(self.errors[0])
        everybody = self.errors.sum(axis=0) / self.here.sum(axis=0)[:, None]
        self.fallback = self._loss(everybody, self.target)

    def candidates(self) -> NDArray[np.float64]:
        """Give the loss of the average with each specialist added, shape (specialist,)."""
        losses = np.empty(len(self.errors))
        for j, own in enumerate(self.errors):
            count = self.count + self.here[j]
            mean = (self.total + own) / np.maximum(count, 1.0)[:, None]
            losses[j] = self.share @ np.where(count > 0, self._loss(mean, self.target), self.fallback)
        return losses

    def add(self, j: int) -> None:
        """Let a specialist join."""
        self.total += self.errors[j]
        self.count += self.here[j]

    def _loss(self, mean: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((mean**2).sum(axis=1))


class _SquaredError(_Average):
    """Squared length of the mean error; of full panels its second moment says it all."""

    def _start(self, values: NDArray[np.float64]) -> None:
        if not self.full:
            super()._start(values)
            return
        flat = (values - self.target[:, None, :]).transpose(1, 0, 2).reshape(values.shape[1], -1)
        self.moments = (flat * np.repeat(self.share, values.shape[2])) @ flat.T
        self.steps, self.row_sums, self.value = 0, np.zeros(len(flat)), 0.0

    def candidates(self) -> NDArray[np.float64]:
        if not self.full:
            return super().candidates()
        return np.asarray(
            (self.value + 2.0 * self.row_sums + self.moments.diagonal()) / (self.steps + 1.0) ** 2
        )

    def add(self, j: int) -> None:
        if not self.full:
            super().add(j)
            return
        self.value += 2.0 * self.row_sums[j] + self.moments[j, j]
        self.row_sums += self.moments[j]
        self.steps += 1


class _ErrorRate(_Average):
    """Share of samples whose highest mean is not the truth's; ties go to the lowest output."""

    def _loss(self, mean: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
        # sums of whole votes are exact, means of them are not: ties must stay ties
        said = np.round(mean + target, 12).argmax(axis=1)
        return 1.0 - target[np.arange(len(said)), said]


class _LogLoss(_Average):
    """Minus log of the mean probability of the truth, which is all that it needs of the panel."""

    def _start(self, values: NDArray[np.float64]) -> None:
        truth = self.target.argmax(axis=1)
        own = values[np.arange(len(truth)), :, truth]
        if not self.full:
            own = np.where(self.here.T > 0, own, 0.0)
            self.stand_in = own.sum(axis=1) / self.here.sum(axis=0)
        self.errors = np.ascontiguousarray(own.T)
        self.total = np.zeros(len(truth))
        self.even = bool((self.share == self.share[0]).all())
        self.lowest = min(
            float(own.min()), 0.0
        )  # what calibration or a user takes for a probability may be below 0

    def candidates(self) -> NDArray[np.float64]:
        if self.full and self.even:
            return self._even_candidates()
        joined = self.total + self.errors
        if self.full:
            mean = joined / (self.count[0] + 1.0)
        else:
            count = self.count + self.here
            mean = np.where(count > 0, joined / np.maximum(count, 1.0), self.stand_in)
        return np.asarray(-np.log(np.maximum(mean, _FLOOR)) @ self.share)

    def _even_candidates(self) -> NDArray[np.float64]:
        """Take one logarithm per 16 factors, of sums instead of means, a few specialists at a time.

        For 100 specialists on 5,000 samples 0.2 instead of 9 ms; the blocks stay in the cache.
        """
        size, n = self.count[0] + 1.0, len(self.total)
        whole = n // _BLOCK * _BLOCK
        least = _FLOOR * size if self.total.min() + self.lowest < _FLOOR * size else 0.0
        # in the order of the products below: certainty then costs exactly nothing
        scale = math.prod([size] * _BLOCK)
        logs = np.empty(len(self.errors))
        step = max(_CELLS // n, 1)
        for begin in range(0, len(logs), step):
            joined = self.total + self.errors[begin : begin + step]
            if least:
                np.maximum(joined, least, out=joined)
            blocks = joined[:, :whole].reshape(len(joined), _BLOCK, -1).prod(axis=1) / scale
            logs[begin : begin + step] = np.log(blocks).sum(axis=1) + np.log(joined[:, whole:] / size).sum(
                axis=1
            )
        return np.asarray(0.0 - self.share[0] * logs)


def _votes(values: NDArray[np.float64], here: NDArray[np.bool_]) -> bool:
    """Tell one-hot answers from probabilities."""
    answers = values[here]
    return bool(((answers == 0.0) | (answers == 1.0)).all() and (answers.sum(axis=1) <= 1.0).all())
