"""Expectation maximisation of truths and error rates from labels: Dawid-Skene and its one-coin case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from estimators.label_table import LabelTable

Floats = NDArray[np.float64]

_FLOOR = 1e-10  # of a count and of a probability, as in crowd-kit
# answers x classes x steps above which loading numba and the cached core (0.3 s) pays
_WORTH_COMPILING = 5_000_000
_BLOCK = 8192  # samples


@dataclass
class Estimate:
    """What one run of the algorithm found.

    Attributes
    ----------
    q : ndarray of shape (sample, class)
        Probabilities of the truth.
    rates : ndarray of shape (specialist, true, said)
        Error rates.
    prior : ndarray of shape (class,)
        Of the truth.
    path : ndarray
        Objective after each E step.
    converged : bool
        Whether the last step gained less than the tolerance per answer.
    """

    q: Floats
    rates: Floats
    prior: Floats
    path: Floats
    converged: bool


@dataclass
class Start:
    """What an E step needs, besides the labels.

    Attributes
    ----------
    fixed : ndarray of int64, shape (sample,)
        Code of a known truth, else -1.
    mass : ndarray of shape (sample,)
        Weights of the samples.
    exponents : ndarray of shape (specialist,)
        How far each specialist's likelihood counts.
    options : ndarray of int64, shape (sample,), or None
        Number of options of each sample; codes then carry no meaning across samples.
    """

    fixed: NDArray[np.int64]
    mass: Floats
    exponents: Floats
    options: NDArray[np.int64] | None = None


_Step = Callable[[LabelTable, Floats, Floats, Start], tuple[Floats, Floats, float]]


def maximise(
    table: LabelTable, q: Floats, start: Start, *, coin: bool, smoothing: float, n_iter: int, tol: float
) -> Estimate:
    """Alternate M and E steps from given probabilities of the truth.

    Parameters
    ----------
    table : LabelTable
        The answers.
    q : ndarray of shape (sample, class)
        Where to start.
    start : Start
        Known truths, weights and exponents.
    coin : bool
        One accuracy per specialist instead of a table of error rates.
    smoothing : float
        Added to each count.
    n_iter : int
        Most E steps.
    tol : float
        Least gain of the objective per answer; answers to a sample of weight 2 count twice.

    Returns
    -------
    Estimate
    """
    n_answers = float((start.mass * np.diff(table.start)).sum())
    step = _stepper(table, table.n_classes * len(table.who) * n_iter, coin)
    counts = count_answers(table, q, start.mass)
    path: list[float] = []
    converged = False
    rates, prior = _rates(counts, smoothing, coin), _prior(q, start)
    for _ in range(n_iter):
        q, counts, value = step(table, rates, prior, start)
        penalty = smoothing * float(start.exponents @ _log_penalty(rates, coin))
        path.append(value + penalty)
        rates, prior = _rates(counts, smoothing, coin), _prior(q, start)
        if len(path) > 1 and path[-1] - path[-2] < tol * n_answers:
            converged = True
            break
    return Estimate(
        np.ascontiguousarray(q), rates, prior, np.array(path), converged or bool((start.fixed >= 0).all())
    )


def expect(table: LabelTable, rates: Floats, prior: Floats, start: Start, *, coin: bool) -> Floats:
    """Run one E step.

    Parameters
    ----------
    table : LabelTable
        The answers.
    rates : ndarray of shape (specialist, true, said)
        Error rates.
    prior : ndarray of shape (class,)
        Of the truth.
    start : Start
        Known truths, weights and exponents.
    coin : bool
        Whether the rates have one accuracy per specialist.

    Returns
    -------
    ndarray of shape (sample, class)
    """
    step = _stepper(table, table.n_classes * len(table.who), coin)
    return np.ascontiguousarray(step(table, rates, prior, start)[0])


def count_answers(table: LabelTable, q: Floats, mass: Floats) -> Floats:
    """Count what each specialist said, by probability of the truth, shape (specialist, said, true)."""
    counts = np.zeros((table.n_specialists * table.n_classes, table.n_classes))
    cell = table.who * table.n_classes + table.said
    weighed = (q * mass[:, None])[table.sample_of_answer]
    for j in range(table.n_classes):
        counts[:, j] = np.bincount(cell, weights=weighed[:, j], minlength=len(counts))
    return counts.reshape(table.n_specialists, table.n_classes, table.n_classes)


def confusion_step(
    table: LabelTable, rates: Floats, prior: Floats, start: Start
) -> tuple[Floats, Floats, float]:
    """Run an E step of Dawid and Skene's model, and count what the next M step needs."""
    log_rates = (np.log(rates) * start.exponents[:, None, None]).transpose(0, 2, 1)
    logs = np.repeat(_log_prior(prior)[None], table.n_samples, axis=0)
    answered = np.flatnonzero(np.diff(table.start))
    if len(answered):
        logs[answered] += np.add.reduceat(log_rates[table.who, table.said], table.start[answered])
    return _finish(table, logs, np.zeros(table.n_samples), start)


def coin_step(table: LabelTable, rates: Floats, prior: Floats, start: Start) -> tuple[Floats, Floats, float]:
    """Run an E step of the one-coin model, where samples may have options of their own.

    An answer of a specialist with accuracy s is worth ln(s / (1 - s)) + ln(C_t - 1) for its option.
    """
    skill = np.clip(rates[:, 0, 0], _FLOOR, 1.0 - _FLOOR)
    options = np.full(table.n_samples, table.n_classes) if start.options is None else start.options
    spread = np.log(np.maximum(options - 1.0, 1.0))[table.sample_of_answer]
    power = start.exponents[table.who]
    votes = power * (np.log(skill / (1.0 - skill))[table.who] + spread)
    cell = table.sample_of_answer * table.n_classes + table.said
    logs = np.bincount(cell, weights=votes, minlength=table.n_samples * table.n_classes)
    logs = logs.reshape(table.n_samples, table.n_classes)
    wrong = power * (np.log1p(-skill)[table.who] - spread)
    base = np.bincount(table.sample_of_answer, weights=wrong, minlength=table.n_samples)
    if start.options is None:
        logs = logs + _log_prior(prior)
    else:
        logs = np.where(np.arange(table.n_classes) < options[:, None], logs, -np.inf)
        base = base - np.log(options)
    return _finish(table, logs, base, start)


def _finish(table: LabelTable, logs: Floats, base: Floats, start: Start) -> tuple[Floats, Floats, float]:
    most = logs.max(axis=1, keepdims=True)
    shares = np.exp(logs - most)
    norm = shares.sum(axis=1, keepdims=True)
    q = shares / norm
    value = most[:, 0] + np.log(norm[:, 0])
    known = np.flatnonzero(start.fixed >= 0)
    q[known] = 0.0
    q[known, start.fixed[known]] = 1.0
    value[known] = logs[known, start.fixed[known]]
    return q, count_answers(table, q, start.mass), _weigh(start.mass, value + base)


def _weigh(mass: Floats, value: Floats) -> float:
    # A sample of weight 0 may have a known truth that no other makes possible. A sum, and no dot product: of 20,000
    # numbers that took 8 ms instead of 7 us where the threads of BLAS waited for a busy core.
    return float((mass * np.where(mass > 0, value, 0.0)).sum())


def _stepper(table: LabelTable, work: int, coin: bool) -> _Step:
    if coin:
        return coin_step
    return _CompiledStep(table) if work >= _WORTH_COMPILING else confusion_step


class _CompiledStep:
    """The same for many answers: what is gathered and counted is compiled, exponentials are NumPy's.

    It works on blocks of samples that stay in the cache, and in the same memory at each call. On 1e5 answers of 4
    classes a step took 1.3 ms where one core did all of it, and 0.7 ms so: the exponentials alone were 0.6.
    """

    def __init__(self, table: LabelTable):
        from estimators._kernels import LANES

        n_classes = table.n_classes
        width = -(-n_classes // LANES) * LANES
        self.cell = (table.who * n_classes + table.said).astype(np.uint32)
        self.log_rates = np.zeros((table.n_specialists * n_classes, width))
        self.log_prior = np.full(width, -np.inf)
        self.q = np.empty((table.n_samples, width))
        self.most, self.norm = np.empty(table.n_samples), np.empty(table.n_samples)

    def __call__(
        self, table: LabelTable, rates: Floats, prior: Floats, start: Start
    ) -> tuple[Floats, Floats, float]:
        from estimators._kernels import log_posteriors, normalise_and_count

        n_classes = table.n_classes
        powered = np.log(rates) * start.exponents[:, None, None]
        self.log_rates[:, :n_classes] = powered.transpose(0, 2, 1).reshape(-1, n_classes)
        self.log_prior[:n_classes] = _log_prior(prior)
        counts = np.zeros_like(self.log_rates)
        for begin in range(0, table.n_samples, _BLOCK):
            rows = slice(begin, begin + _BLOCK)
            answers, q = table.start[begin : begin + _BLOCK + 1], self.q[rows]
            log_posteriors(
                answers, self.cell, self.log_rates, self.log_prior, start.fixed[rows], q, self.most[rows]
            )
            np.exp(q, out=q)
            normalise_and_count(answers, self.cell, start.mass[rows], q, self.norm[rows], counts)
        value = _weigh(start.mass, self.most + np.log(self.norm))
        return self.q[:, :n_classes], counts[:, :n_classes].reshape(powered.shape), value


def _rates(counts: Floats, smoothing: float, coin: bool) -> Floats:
    """Turn counts (specialist, said, true) into rates (specialist, true, said) that sum to 1 over said."""
    n_classes = counts.shape[1]
    if coin:
        right = np.trace(counts, axis1=1, axis2=2) + smoothing
        skill = right / np.maximum(counts.sum(axis=(1, 2)) + 2.0 * smoothing, _FLOOR)
        skill = np.clip(skill, _FLOOR, 1.0 - _FLOOR)
        rates = np.repeat(((1.0 - skill) / max(n_classes - 1, 1))[:, None], n_classes**2, axis=1)
        rates = rates.reshape(-1, n_classes, n_classes)
        rates[:, np.arange(n_classes), np.arange(n_classes)] = skill[:, None]
        return rates
    said = counts.sum(axis=2) > 0
    kept = np.where(said[:, :, None], np.maximum(counts + smoothing, _FLOOR), smoothing)
    rates = kept / np.maximum(kept.sum(axis=1, keepdims=True), _FLOOR)
    return np.asarray(np.where(rates > 0, rates, _FLOOR).transpose(0, 2, 1))


def _prior(q: Floats, start: Start) -> Floats:
    return np.asarray(start.mass @ q / start.mass.sum())


def _log_penalty(rates: Floats, coin: bool) -> Floats:
    if coin:
        skill = np.clip(rates[:, 0, 0], _FLOOR, 1.0 - _FLOOR)
        return np.asarray(np.log(skill) + np.log1p(-skill))
    return np.asarray(np.log(rates).sum(axis=(1, 2)))


def _log_prior(prior: Floats) -> Floats:
    """Floor what is rare; a label that nobody ever gave stays impossible."""
    return np.where(prior > 0, np.log(np.maximum(prior, _FLOOR)), -np.inf)
